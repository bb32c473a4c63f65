/**
 * A walk that asks the stream's leader for one message after the other. It is slow, and leaves the stream as it is: in one
 * that keeps messages only for those who have yet to consume them, a consumer would be one of those.
 */
import type { StreamInfo } from "@nats-io/jetstream";
import { WindshiftError } from "../errors.ts";
import type { JetStreamApi } from "./api.ts";
import { type Reader, type StoredMessage, storedAtOf } from "./get.ts";
import { type Walk, type WalkHandler, type WalkSource, isPassing, isSame, replaced } from "./walk.ts";

const DEADLINE_MS = 10_000;
/** So often it looks whether there is more … */
const LOOK_MS = 500;
/** … and whether NATS is back. */
const RETRY_MS = 200;

/** What this walk works on. */
export interface GetWalkContext {
  readonly api: JetStreamApi;
  readonly reader: Reader;
}

/** One walk. */
export class GetWalk implements Walk {
  readonly #context: GetWalkContext;
  readonly #source: WalkSource;
  #seen: StreamInfo;
  readonly #matches: (subject: string) => boolean;
  readonly #handler: WalkHandler;
  #from: number;
  /** The last sequence that the stream is known to have had. */
  #last: number;
  #isPaused = false;
  #isClosed = false;
  #isWalking = false;
  #timer: NodeJS.Timeout | undefined;

  /** Begins at once. `matches`: whether one of several filters does. */
  constructor(
    context: GetWalkContext,
    source: WalkSource,
    matches: (subject: string) => boolean,
    handler: WalkHandler,
  ) {
    this.#context = context;
    this.#source = source;
    this.#matches = matches;
    this.#handler = handler;
    this.#from = source.from;
    this.#seen = source.info;
    this.#last = source.info.state.last_seq;
    this.#goOn(0);
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    this.#goOn(0);
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  #goOn(afterMs: number): void {
    if (this.#isWalking || this.#mustStop()) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#walk(), afterMs);
  }

  async #walk(): Promise<void> {
    this.#isWalking = true;
    let afterMs = LOOK_MS;
    try {
      await this.#toTheEnd();
    } catch (error) {
      if (!(error instanceof WindshiftError) || !isPassing(error)) {
        if (!this.#isClosed) this.#handler.onEnded(error as WindshiftError);
        return;
      }
      afterMs = RETRY_MS;
    } finally {
      this.#isWalking = false;
    }
    this.#goOn(afterMs);
  }

  async #toTheEnd(): Promise<void> {
    const { info, filters } = this.#source;
    const now = await this.#context.api.streamInfo(info.config.name);
    if (!isSame(this.#seen, now, this.#last)) throw replaced(info.config.name);
    this.#seen = now;
    this.#last = now.state.last_seq;
    const filter = filters.length === 1 ? filters[0]! : ">";
    while (!this.#mustStop()) {
      const { reader } = this.#context;
      const deadlineMs = Date.now() + DEADLINE_MS;
      const met = await reader.firstAfter(info.config.name, filter, BigInt(this.#from - 1), deadlineMs);
      if (this.#isClosed) return;
      if (met === undefined) {
        this.#handler.onIdle();
        return;
      }
      this.#from = Number(met.sequence) + 1;
      if (filters.length < 2 || this.#matches(met.subject)) this.#tell(met);
    }
  }

  #tell({ sequence, time, subject, headers, payload }: StoredMessage): void {
    const size = subject.length + (headers?.length ?? 0) + payload.length;
    this.#handler.onMessage(Number(sequence), storedAtOf(time), { subject, headers, payload, size });
  }

  #mustStop(): boolean {
    return this.#isPaused || this.#isClosed;
  }
}

/** Dead letters from outside: in pages, published again, deleted. What that means is in `events/dead-letters.ts`. */
import { WindshiftError, fieldError, quote } from "../errors.ts";
import type { DeadLetter } from "../events/dead-letter.ts";
import type { DeadLetters, LetterChoice } from "../events/dead-letters.ts";
import { checkName } from "../names.ts";
import type { JetStreamApi } from "../nats/api.ts";
import type { AdminCall, AdminLogger } from "./call.ts";
import { type Page, type PageRequest, decodeToken, encodeToken, pageSize } from "./paging.ts";

/** How to publish letters again. */
export interface ReplayWork {
  /** So many a second at most; 0 or undefined: one after the other. */
  readonly ratePerSecond: number | undefined;
  /** Ends it after the letter at hand. */
  readonly signal: AbortSignal;
  onReplayed(id: bigint, newId: bigint): Promise<void>;
  onFailed(id: bigint, error: WindshiftError): Promise<void>;
}

/** What {@link AdminDeadLetters} works on. */
export interface AdminDeadLettersDependencies {
  readonly api: JetStreamApi;
  readonly deadLetters: DeadLetters;
  readonly logger: AdminLogger;
}

const MAX_IDS = 1_000;
/** One call deletes no more … */
const MAX_DELETED = 10_000;
/** … and leaves so much of its time for the answer. */
const MARGIN_MS = 2_000;
const DEFAULT_TIME_MS = 30_000;
/** Ids that a line of the log names; of more there are several lines. */
const MAX_LOGGED_IDS = 100;

/** Administration of dead letters. */
export class AdminDeadLetters {
  readonly #dependencies: AdminDeadLettersDependencies;

  constructor(dependencies: AdminDeadLettersDependencies) {
    this.#dependencies = dependencies;
  }

  /** A page of the letters of a consumer, oldest first. Rejects where there is neither a letter nor the consumer. */
  async list(stream: string, consumer: string, page: PageRequest, call: AdminCall): Promise<Page<DeadLetter>> {
    checkNames(stream, consumer);
    const { api, deadLetters } = this.#dependencies;
    const list = `dead-letters ${stream} ${consumer}`;
    const token = decodeToken(list, page);
    const after = token === "" ? undefined : BigInt(token);
    return api.inTurn(call, async () => {
      const { letters, next } = await deadLetters.list(stream, consumer, { size: pageSize(page), after }, call);
      if (letters.length === 0 && after === undefined) await api.consumerInfo(stream, consumer, call);
      return { entries: letters, nextToken: next === undefined ? "" : encodeToken(list, String(next)) };
    });
  }

  /** Removes letters, as many as there is time for; returns the ids of their events. */
  async delete(
    stream: string,
    consumer: string,
    choice: LetterChoice,
    call: AdminCall,
  ): Promise<{ readonly ids: readonly bigint[]; readonly isComplete: boolean }> {
    checkNames(stream, consumer);
    checkIds(choice);
    const { api, deadLetters, logger } = this.#dependencies;
    const ids: bigint[] = [];
    const unlogged: number[] = [];
    const log = (): void => {
      const named = unlogged.splice(0);
      const line = { stream, consumer, deleted: named.length, ids: named, by: call.by };
      if (named.length > 0) logger.info(line, "dead letters were deleted");
    };
    const stop = new AbortController();
    const { deadlineMs = Date.now() + DEFAULT_TIME_MS } = call;
    const timer = setTimeout(() => stop.abort(), Math.max(0, deadlineMs - Date.now() - MARGIN_MS));
    const onDone = (id: bigint): void => {
      ids.push(id);
      unlogged.push(Number(id));
      if (unlogged.length >= MAX_LOGGED_IDS) log();
      if (ids.length >= MAX_DELETED) stop.abort();
    };
    try {
      const work = { signal: stop.signal, onDone };
      await api.inTurn({ ...call, write: true }, async () => deadLetters.delete(stream, consumer, choice, work, call));
      if (ids.length === 0) await api.consumerInfo(stream, consumer, call);
    } finally {
      clearTimeout(timer);
      log();
    }
    return { ids, isComplete: !stop.signal.aborted };
  }

  /** Publishes letters again, each told as it is done. It may take long: it is no operation that others wait for. */
  async replay(
    stream: string,
    consumer: string,
    choice: LetterChoice,
    work: ReplayWork,
    call: AdminCall,
  ): Promise<{ readonly replayed: bigint; readonly failed: bigint }> {
    checkNames(stream, consumer);
    checkIds(choice);
    const { deadLetters, logger } = this.#dependencies;
    let replayed = 0;
    let failed = 0;
    const onFailed = async (id: bigint, error: WindshiftError): Promise<void> => {
      failed += 1;
      await work.onFailed(id, error);
    };
    try {
      const { missing } = await deadLetters.replay(
        stream,
        consumer,
        choice,
        {
          ratePerSecond: work.ratePerSecond,
          signal: work.signal,
          onDone: async (id, newId) => {
            replayed += 1;
            await work.onReplayed(id, newId!);
          },
          onFailed,
        },
        call,
      );
      for (const id of missing) await onFailed(id, notFound(stream, consumer, id));
    } finally {
      logger.info(
        { stream, consumer, replayed, failed, isComplete: !work.signal.aborted, by: call.by },
        "dead letters were published again",
      );
    }
    return { replayed: BigInt(replayed), failed: BigInt(failed) };
  }
}

function checkNames(stream: string, consumer: string): void {
  checkName("stream", stream);
  checkName("consumer", consumer);
}

function checkIds(choice: LetterChoice): void {
  if (choice === "all") return;
  if (choice.length === 0) throw fieldError("MISSING_FIELD", "ids.ids", "must name at least one event");
  if (choice.length > MAX_IDS) {
    throw fieldError("INVALID_VALUE", "ids.ids", `has ${choice.length} entries, at most ${MAX_IDS} may be`);
  }
  const zero = choice.indexOf(0n);
  if (zero >= 0) throw fieldError("INVALID_VALUE", `ids.ids[${zero}]`, "0 is no id");
}

function notFound(stream: string, consumer: string, id: bigint): WindshiftError {
  const text = `ids.ids: consumer ${quote(consumer)} of stream ${quote(stream)} has no dead letter of event ${id}`;
  return new WindshiftError("EVENT_NOT_FOUND", text, { metadata: { stream, consumer, id: String(id) } });
}

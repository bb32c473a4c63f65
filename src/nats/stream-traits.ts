/** What streams are like, as far as calls on them have to know: remembered for a while, for as many as are in use. */
import type { StreamInfo } from "@nats-io/jetstream";
import type { Advisories } from "./advisories.ts";
import type { JetStreamApi } from "./api.ts";

/** What is remembered of a stream. */
export interface Traits {
  /** A direct get cannot be old: there is one replica, and it answers direct gets. */
  readonly isDirectCurrent: boolean;
  /** It takes messages that wait for their time. */
  readonly hasSchedules: boolean;
  /** Its messages stay until a limit removes them, whatever consumers do. */
  readonly isKept: boolean;
}

/** What is known of a stream is asked again after this time, and at once when JetStream tells of a change. */
const TRAITS_FOR_MS = 5_000;
/** Beyond this many streams the oldest are asked again. */
const MAX_KNOWN = 10_000;

interface Known {
  readonly traits: Promise<Traits>;
  ready: Traits | undefined;
  readonly until: number;
  readonly unwatch: () => void;
}

/** Remembers what streams are like. */
export class StreamTraits {
  readonly #api: JetStreamApi;
  readonly #advisories: Advisories;
  readonly #known = new Map<string, Known>();

  constructor(api: JetStreamApi, advisories: Advisories) {
    this.#api = api;
    this.#advisories = advisories;
    api.connection.listen({
      onConnected: () => undefined,
      onDisconnected: () => {
        for (const stream of [...this.#known.keys()]) this.#forget(stream);
      },
    });
  }

  /**
   * What is known of the stream, or a promise of it; rejects with STREAM_NOT_FOUND. Calls that wait share one question, so
   * it has no caller's deadline, but the limit of every request to NATS.
   */
  of(stream: string): Traits | Promise<Traits> {
    const known = this.#known.get(stream);
    if (known !== undefined && known.until > performance.now()) return known.ready ?? known.traits;
    this.#forget(stream);
    const traits = this.#ask(stream);
    const entry: Known = {
      traits,
      ready: undefined,
      until: performance.now() + TRAITS_FOR_MS,
      unwatch: this.#advisories.watch(stream, undefined, () => this.#forget(stream)),
    };
    if (this.#known.size >= MAX_KNOWN) this.#forget(this.#known.keys().next().value!);
    this.#known.set(stream, entry);
    traits.then(
      (ready) => {
        entry.ready = ready;
      },
      () => {
        if (this.#known.get(stream) === entry) this.#forget(stream);
      },
    );
    return traits;
  }

  async #ask(stream: string): Promise<Traits> {
    const info = await this.#api.streamInfo(stream, { deadlineMs: Infinity });
    // The client library does not know all of it yet.
    const config: StreamInfo["config"] & { readonly allow_msg_schedules?: boolean } = info.config;
    return {
      isDirectCurrent: config.num_replicas === 1 && config.allow_direct,
      hasSchedules: config.allow_msg_schedules === true,
      isKept: config.retention === "limits",
    };
  }

  #forget(stream: string): void {
    this.#known.get(stream)?.unwatch();
    this.#known.delete(stream);
  }
}

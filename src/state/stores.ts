/**
 * Stores are JetStream key-value buckets: a stream `KV_<store>` that keeps the last message of each `$KV.<store>.<key>`
 * (ADR-8 of nats-architecture-and-design). Buckets made by other tools work as they are.
 */
import type { StreamConfig, StreamInfo } from "@nats-io/jetstream";
import { WindshiftError, quote } from "../errors.ts";
import { checkStoreName } from "../names.ts";
import type { Advisories } from "../nats/advisories.ts";
import type { ApiCall, JetStreamApi } from "../nats/api.ts";
import { JetStreamCode, jetStreamCode, writing } from "../nats/errors.ts";

/** What reading needs to know of a store. */
export interface StoreTraits {
  /** A direct get cannot be old: there is one replica, and it answers direct gets. */
  readonly isDirectCurrent: boolean;
}

const DUPLICATE_WINDOW_NS = 120_000_000_000;
/** What is known of a store is asked again after this time, and at once when JetStream tells of a change. */
const TRAITS_FOR_MS = 5_000;
/** Beyond this many stores the oldest are asked again. */
const MAX_KNOWN = 10_000;

interface Known {
  readonly traits: Promise<StoreTraits>;
  ready: StoreTraits | undefined;
  readonly until: number;
  readonly unwatch: () => void;
}

/** Makes stores and remembers what they are like. */
export class Stores {
  readonly #api: JetStreamApi;
  readonly #advisories: Advisories;
  readonly #defaultReplicas: number;
  readonly #known = new Map<string, Known>();

  constructor(api: JetStreamApi, advisories: Advisories, options: { readonly defaultReplicas: number }) {
    this.#api = api;
    this.#advisories = advisories;
    this.#defaultReplicas = options.defaultReplicas;
    api.connection.listen({
      onConnected: () => undefined,
      onDisconnected: () => {
        for (const store of [...this.#known.keys()]) this.#forget(store);
      },
    });
  }

  /** Makes the store if there is none; one that exists is taken as it is. */
  async ensure(store: string, call: ApiCall): Promise<void> {
    checkStoreName("store", store);
    await writing(this.#api.inTurn({ ...call, write: true }, async () => this.#ensure(store, call)));
  }

  async #ensure(store: string, call: ApiCall): Promise<void> {
    const names = { store };
    try {
      await this.#api.streamInfo(streamOf(store), { ...call, names });
      return;
    } catch (error) {
      if (!(error instanceof WindshiftError) || error.reason !== "STREAM_NOT_FOUND") throw error;
    }
    const config = {
      name: streamOf(store),
      subjects: [`$KV.${store}.>`],
      retention: "limits",
      max_consumers: -1,
      max_msgs: -1,
      max_bytes: -1,
      max_age: 0,
      max_msgs_per_subject: 1,
      max_msg_size: -1,
      discard: "new",
      storage: "file",
      num_replicas: this.#defaultReplicas,
      duplicate_window: DUPLICATE_WINDOW_NS,
      allow_direct: true,
      deny_delete: true,
      allow_rollup_hdrs: true,
    } as unknown as StreamConfig;
    try {
      await this.#api.createStream(config, { ...call, names });
    } catch (error) {
      if (jetStreamCode(error) !== JetStreamCode.streamNameInUse) throw error;
    }
  }

  /**
   * What is known of the store, or a promise of it; rejects with STORE_NOT_FOUND. Calls that wait share one question, so
   * it has no caller's deadline, but the limit of every request to NATS.
   */
  traits(store: string): StoreTraits | Promise<StoreTraits> {
    const known = this.#known.get(store);
    if (known !== undefined && known.until > performance.now()) return known.ready ?? known.traits;
    this.#forget(store);
    const traits = this.#ask(store);
    const entry: Known = {
      traits,
      ready: undefined,
      until: performance.now() + TRAITS_FOR_MS,
      unwatch: this.#advisories.watch(streamOf(store), undefined, () => this.#forget(store)),
    };
    if (this.#known.size >= MAX_KNOWN) this.#forget(this.#known.keys().next().value!);
    this.#known.set(store, entry);
    traits.then(
      (ready) => {
        entry.ready = ready;
      },
      () => {
        if (this.#known.get(store) === entry) this.#forget(store);
      },
    );
    return traits;
  }

  async #ask(store: string): Promise<StoreTraits> {
    let info: StreamInfo;
    try {
      info = await this.#api.streamInfo(streamOf(store), { deadlineMs: Infinity, names: { store } });
    } catch (error) {
      throw storeNotFound(error, store);
    }
    const { num_replicas, allow_direct } = info.config;
    return { isDirectCurrent: num_replicas === 1 && allow_direct };
  }

  #forget(store: string): void {
    this.#known.get(store)?.unwatch();
    this.#known.delete(store);
  }
}

/** The stream of a store. */
export function streamOf(store: string): string {
  return `KV_${store}`;
}

/** Says STORE_NOT_FOUND where JetStream misses the stream or the subject of a store; other errors pass. */
export function storeNotFound(error: unknown, store: string): unknown {
  if (!(error instanceof WindshiftError)) return error;
  if (error.reason !== "STREAM_NOT_FOUND" && error.reason !== "SUBJECT_NOT_BOUND") return error;
  return new WindshiftError("STORE_NOT_FOUND", `store: there is no store ${quote(store)}`, {
    field: "store",
    metadata: { store },
    ...(error.outcome === undefined ? {} : { outcome: error.outcome }),
    cause: error,
  });
}

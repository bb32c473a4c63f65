/**
 * Stores are JetStream key-value buckets: a stream `KV_<store>` that keeps the last message of each `$KV.<store>.<key>`
 * (ADR-8 of nats-architecture-and-design). Buckets made by other tools work as they are.
 */
import type { StreamConfig } from "@nats-io/jetstream";
import { WindshiftError, quote } from "../errors.ts";
import { checkStoreName } from "../names.ts";
import type { ApiCall, JetStreamApi } from "../nats/api.ts";
import { JetStreamCode, jetStreamCode, writing } from "../nats/errors.ts";

const DUPLICATE_WINDOW_NS = 120_000_000_000;
/** Makes stores. */
export class Stores {
  readonly #api: JetStreamApi;
  readonly #defaultReplicas: number;

  constructor(api: JetStreamApi, options: { readonly defaultReplicas: number }) {
    this.#api = api;
    this.#defaultReplicas = options.defaultReplicas;
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
}

/** Hot path: many calls in a row are of the same store. One text for all has its hash computed once. */
let lastStore = "";
let lastStream = "KV_";

/** The stream of a store. */
export function streamOf(store: string): string {
  if (store !== lastStore) {
    lastStore = store;
    lastStream = `KV_${store}`;
  }
  return lastStream;
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

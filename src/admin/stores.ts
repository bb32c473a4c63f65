/** Looking into stores and deleting them. A store is the stream `KV_<store>` (see `state/stores.ts`). */
import type { StreamConfig, StreamInfo } from "@nats-io/jetstream";
import type { Timestamp } from "../events/timestamp.ts";
import { WindshiftError } from "../errors.ts";
import { checkStoreName } from "../names.ts";
import type { ApiCall, JetStreamApi } from "../nats/api.ts";
import { writing } from "../nats/errors.ts";
import { deleteStream, namesAfter } from "../nats/management.ts";
import { milliseconds } from "../nats/units.ts";
import { storeNotFound, streamOf } from "../state/stores.ts";
import type { AdminCall, AdminLogger, Listed } from "./call.ts";
import { listed } from "./call.ts";
import { type Page, type PageRequest, listPage } from "./paging.ts";
import { type Replication, limitOf, replicationOf, subjectsOf, timeOf } from "./replication.ts";

/** A store as it is. */
export interface StoreDescription {
  readonly name: string;
  readonly created: Timestamp | undefined;
  readonly entries: bigint;
  readonly keys: bigint;
  readonly bytes: bigint;
  readonly lastRevision: bigint;
  readonly history: number;
  readonly maxAgeMs: number | undefined;
  readonly maxBytes: bigint | undefined;
  readonly maxValueBytes: number | undefined;
  readonly allowsTimeToLive: boolean;
  readonly storage: "file" | "memory";
  readonly replicas: number;
  readonly replication: Replication | undefined;
}

const PREFIX = "KV_";

/** Administration of stores. */
export class AdminStores {
  readonly #api: JetStreamApi;
  readonly #logger: AdminLogger;

  constructor(api: JetStreamApi, logger: AdminLogger) {
    this.#api = api;
    this.#logger = logger;
  }

  /** A page of all stores. */
  async list(page: PageRequest, call: AdminCall): Promise<Page<Listed<StoreDescription>>> {
    const look = async (store: string, within: ApiCall): Promise<StoreDescription | undefined> => {
      const info = await this.#api.streamInfo(streamOf(store), within);
      return storeOf(info.config) === undefined ? undefined : describeStore(store, info);
    };
    return this.#api.inTurn(call, async () =>
      listPage(
        "stores",
        page,
        async (after, count) => this.#storesAfter(after, count, call),
        async (store) => listed(this.#api, store, call, async (within) => look(store, within)),
      ),
    );
  }

  /** Removes the store and all its values; returns what it was. */
  async delete(store: string, call: AdminCall): Promise<StoreDescription> {
    checkStoreName("store", store);
    const remove = async (): Promise<StoreDescription> => {
      try {
        const names = { store };
        const info = await this.#api.streamInfo(streamOf(store), { ...call, names });
        if (storeOf(info.config) === undefined) throw notAStore(store);
        await deleteStream(this.#api, streamOf(store), { ...call, names });
        return describeStore(store, info);
      } catch (error) {
        throw storeNotFound(error, store);
      }
    };
    const deleted = await writing(this.#api.inTurn({ ...call, write: true }, remove));
    const { entries, keys, bytes, lastRevision } = deleted;
    this.#logger.info(
      {
        store,
        entries: Number(entries),
        keys: Number(keys),
        bytes: Number(bytes),
        lastRevision: Number(lastRevision),
        by: call.by,
      },
      "a store was deleted",
    );
    return deleted;
  }

  async #storesAfter(after: string, count: number, call: AdminCall): Promise<string[]> {
    const names = await namesAfter(this.#api, "STREAM.NAMES", streamOf(after), count, call);
    return names.filter((name) => name.startsWith(PREFIX)).map((name) => name.slice(PREFIX.length));
  }
}

/** The store that a stream keeps; undefined for any other stream, whatever its name. */
export function storeOf(config: StreamConfig): string | undefined {
  const { name, mirror } = config;
  if (!name.startsWith(PREFIX)) return undefined;
  const store = name.slice(PREFIX.length);
  const isStore =
    subjectsOf(config).some((subject) => subject.startsWith(`$KV.${store}.`)) || mirror?.name.startsWith(PREFIX);
  return isStore === true ? store : undefined;
}

function describeStore(name: string, { config, created, state, cluster }: StreamInfo): StoreDescription {
  return {
    name,
    created: timeOf(created),
    entries: BigInt(state.messages),
    keys: BigInt(state.num_subjects ?? 0),
    bytes: BigInt(state.bytes),
    lastRevision: BigInt(state.last_seq),
    history: config.max_msgs_per_subject,
    maxAgeMs: config.max_age > 0 ? milliseconds(config.max_age) : undefined,
    maxBytes: limitOf(config.max_bytes),
    maxValueBytes: config.max_msg_size > 0 ? config.max_msg_size : undefined,
    allowsTimeToLive: config.allow_msg_ttl ?? false,
    storage: config.storage,
    replicas: config.num_replicas,
    replication: replicationOf(cluster),
  };
}

/** A stream of that name which keeps no store counts as missing. */
function notAStore(store: string): WindshiftError {
  return new WindshiftError("STREAM_NOT_FOUND", `the stream ${streamOf(store)} keeps no store`, {
    metadata: { store },
  });
}

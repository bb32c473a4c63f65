/** Looking into streams, deleting and emptying them. Streams behind stores are for `stores.ts`. */
import type { StreamInfo } from "@nats-io/jetstream";
import { WindshiftError, fieldError, quote } from "../errors.ts";
import { checkFilter, checkName } from "../names.ts";
import { interruptedResets } from "../events/kept-settings.ts";
import type { ApiCall, JetStreamApi } from "../nats/api.ts";
import { writing } from "../nats/errors.ts";
import { type Purge, deleteStream, namesAfter, purgeStream } from "../nats/management.ts";
import type { AdminCall, AdminLogger, Listed } from "./call.ts";
import { listed } from "./call.ts";
import { type StreamDescription, describeStream } from "./describe-stream.ts";
import { type Page, type PageRequest, listPage } from "./paging.ts";
import { storeOf } from "./stores.ts";

/** Which events of a stream to remove. */
export interface PurgeSpec {
  readonly stream: string;
  /** Only of this subject, wildcards allowed; undefined or empty: of all. */
  readonly subject: string | undefined;
  readonly events:
    | { readonly kind: "all" }
    | { readonly kind: "before"; readonly id: bigint }
    | { readonly kind: "keep"; readonly count: bigint };
}

/** What there is to know of a stream. */
export interface StreamReport {
  readonly stream: StreamDescription;
  /** Consumers that `reset.ts` has deleted and not made again. */
  readonly interruptedResets: readonly string[];
}

/** A stream that was deleted. */
export interface DeletedStream {
  readonly stream: StreamDescription;
  /** Names of the consumers that went with it, of many the first. */
  readonly consumers: readonly string[];
}

const MAX_NAMED_CONSUMERS = 1000;

/** Administration of streams. */
export class AdminStreams {
  readonly #api: JetStreamApi;
  readonly #logger: AdminLogger;

  constructor(api: JetStreamApi, logger: AdminLogger) {
    this.#api = api;
    this.#logger = logger;
  }

  /** A page of all streams but those of stores. */
  async list(page: PageRequest, call: AdminCall): Promise<Page<Listed<StreamDescription>>> {
    const look = async (name: string, within: ApiCall): Promise<StreamDescription | undefined> => {
      const info = await this.#api.streamInfo(name, within);
      return storeOf(info.config) === undefined ? describeStream(info) : undefined;
    };
    return this.#api.inTurn(call, async () =>
      listPage(
        "streams",
        page,
        async (after, count) => namesAfter(this.#api, "STREAM.NAMES", after, count, call),
        async (name) => listed(this.#api, name, call, async (within) => look(name, within)),
      ),
    );
  }

  /** Rejects with STREAM_NOT_FOUND where there is none. */
  async get(stream: string, call: AdminCall): Promise<StreamReport> {
    checkName("stream", stream);
    return this.#api.inTurn(call, async () => {
      const info = await this.#find(stream, call);
      return { stream: describeStream(info), interruptedResets: await interruptedResets(this.#api, info, call) };
    });
  }

  /** Removes the stream, its events and its consumers. */
  async delete(stream: string, call: AdminCall): Promise<DeletedStream> {
    checkName("stream", stream);
    const remove = async (): Promise<DeletedStream> => {
      const found = describeStream(await this.#find(stream, call));
      const list = `CONSUMER.NAMES.${stream}` as const;
      const consumers = await namesAfter(this.#api, list, "", MAX_NAMED_CONSUMERS, { ...call, names: { stream } });
      await deleteStream(this.#api, stream, call);
      return { stream: found, consumers };
    };
    const deleted = await writing(this.#api.inTurn({ ...call, write: true }, remove));
    const { events, bytes, firstId, lastId } = deleted.stream.state;
    this.#logger.info(
      {
        stream,
        events: Number(events),
        bytes: Number(bytes),
        firstId: Number(firstId),
        lastId: Number(lastId),
        consumers: deleted.consumers,
        by: call.by,
      },
      "a stream was deleted",
    );
    return deleted;
  }

  /** Removes events; returns how many. */
  async purge(spec: PurgeSpec, call: AdminCall): Promise<bigint> {
    const { stream, subject = "" } = spec;
    checkPurge(spec);
    const remove = async (): Promise<number> => {
      const { state } = await this.#find(stream, call);
      const purge = purgeOf(spec, state.last_seq);
      return purge === undefined ? 0 : purgeStream(this.#api, stream, purge, call);
    };
    const purged = await writing(this.#api.inTurn({ ...call, write: true }, remove));
    const which =
      spec.events.kind === "before"
        ? { beforeId: Number(spec.events.id) }
        : spec.events.kind === "keep"
          ? { keep: Number(spec.events.count) }
          : {};
    this.#logger.info(
      { stream, ...(subject === "" ? {} : { subject }), ...which, purged, by: call.by },
      "events of a stream were purged",
    );
    return BigInt(purged);
  }

  async #find(stream: string, call: AdminCall): Promise<StreamInfo> {
    const info = await this.#api.streamInfo(stream, call);
    const store = storeOf(info.config);
    if (store === undefined) return info;
    const text = `stream: ${quote(stream)} keeps the store ${quote(store)}: see ListStores and DeleteStore`;
    throw new WindshiftError("CONFIGURATION_REFUSED", text, { field: "stream", metadata: { stream, store } });
  }
}

function checkPurge({ stream, subject = "", events }: PurgeSpec): void {
  checkName("stream", stream);
  if (subject !== "") checkFilter("subject", subject);
  if (events.kind === "before" && events.id === 0n) throw fieldError("INVALID_VALUE", "before_id", "0 is no id");
  if (events.kind === "keep" && events.count === 0n) {
    throw fieldError("INVALID_VALUE", "keep", "0 would keep nothing: say all");
  }
}

/** Undefined where nothing is to be removed. */
function purgeOf({ subject = "", events }: PurgeSpec, lastSequence: number): Purge | undefined {
  const filter = subject === "" ? {} : { filter: subject };
  switch (events.kind) {
    case "all":
      return filter;
    case "keep":
      return { ...filter, keep: Number(events.count < MAX_KEEP ? events.count : MAX_KEEP) };
    case "before": {
      // Beyond the end nats-server would go on counting from there; and 1 it takes for "all".
      const seq = events.id > BigInt(lastSequence) ? lastSequence + 1 : Number(events.id);
      return seq <= 1 ? undefined : { ...filter, seq };
    }
  }
}

const MAX_KEEP = BigInt(Number.MAX_SAFE_INTEGER);

/** Looking into consumers, and having them wait. */
import type { ConsumerInfo } from "@nats-io/jetstream";
import { fieldError } from "../errors.ts";
import { filtersOf } from "../events/consumers.ts";
import type { OpenSubscriptions, SubscriptionReport } from "../events/open-subscriptions.ts";
import { type Timestamp, formatTimestamp, isValidTimestamp, parseTimestamp } from "../events/timestamp.ts";
import { checkName } from "../names.ts";
import type { ApiCall, JetStreamApi } from "../nats/api.ts";
import { writing } from "../nats/errors.ts";
import type { Reader } from "../nats/get.ts";
import { namesAfter, pauseConsumer, wakeConsumer } from "../nats/management.ts";
import { requireNats } from "../nats/version.ts";
import { type AdminCall, type AdminLogger, type Listed, listed } from "./call.ts";
import { type ConsumerDescription, describeConsumer } from "./describe-consumer.ts";
import { type Page, type PageRequest, inParallel, listPage } from "./paging.ts";

/** What there is to know of a consumer. */
export interface ConsumerReport extends SubscriptionReport {
  readonly consumer: ConsumerDescription;
  /** Of the event after the settled ones; undefined where there is none, or it would take too many questions. */
  readonly oldestUnsettledAgeMs: number | undefined;
}

/** What {@link AdminConsumers} works on. */
export interface AdminConsumersDependencies {
  readonly api: JetStreamApi;
  readonly reader: Reader;
  readonly open: OpenSubscriptions;
  readonly logger: AdminLogger;
}

/** Each filter of a consumer is a question for its oldest event. */
const MAX_FILTERS_ASKED = 100;
const DEFAULT_DEADLINE_MS = 30_000;

/** Administration of consumers. */
export class AdminConsumers {
  readonly #dependencies: AdminConsumersDependencies;

  constructor(dependencies: AdminConsumersDependencies) {
    this.#dependencies = dependencies;
  }

  /** A page of the consumers of a stream. Rejects with STREAM_NOT_FOUND where there is none. */
  async list(stream: string, page: PageRequest, call: AdminCall): Promise<Page<Listed<ConsumerDescription>>> {
    checkName("stream", stream);
    const { api } = this.#dependencies;
    const look = async (id: string, within: ApiCall): Promise<ConsumerDescription> =>
      describeConsumer(await api.consumerInfo(stream, id, within));
    return api.inTurn(call, async () =>
      listPage(
        `consumers ${stream}`,
        page,
        async (after, count) =>
          namesAfter(api, `CONSUMER.NAMES.${stream}`, after, count, { ...call, names: { stream } }),
        async (id) => listed(api, id, call, async (within) => look(id, within)),
      ),
    );
  }

  /** Rejects with CONSUMER_NOT_FOUND or STREAM_NOT_FOUND where there is none. */
  async get(stream: string, id: string, call: AdminCall): Promise<ConsumerReport> {
    checkNames(stream, id);
    const { api, open } = this.#dependencies;
    return api.inTurn(call, async () => {
      const info = await api.consumerInfo(stream, id, call);
      const [oldestUnsettledAgeMs, report] = await Promise.all([
        this.#oldestUnsettledAge(info, call),
        open.report(stream, id),
      ]);
      return { consumer: describeConsumer(info), oldestUnsettledAgeMs, ...report };
    });
  }

  /** Delivers nothing until a time. Returns the time that NATS has. */
  async pause(stream: string, id: string, until: Timestamp, call: AdminCall): Promise<Timestamp> {
    checkNames(stream, id);
    checkFuture(until);
    requireNats(this.#dependencies.api.connection, "pausing", "PauseConsumer");
    const paused = await this.#pause(stream, id, formatTimestamp(until), call);
    const pausedUntil = parseTimestamp(paused) ?? until;
    const { logger } = this.#dependencies;
    logger.info({ stream, consumer: id, until: formatTimestamp(pausedUntil), by: call.by }, "a consumer was paused");
    return pausedUntil;
  }

  /** Delivers again. */
  async resume(stream: string, id: string, call: AdminCall): Promise<void> {
    checkNames(stream, id);
    requireNats(this.#dependencies.api.connection, "pausing", "ResumeConsumer");
    await this.#pause(stream, id, undefined, call);
    wakeConsumer(this.#dependencies.api, stream, id);
    this.#dependencies.logger.info({ stream, consumer: id, by: call.by }, "a consumer was resumed");
  }

  async #pause(stream: string, id: string, until: string | undefined, call: AdminCall): Promise<string> {
    const { api, open } = this.#dependencies;
    const pause = async (): Promise<string> => {
      // A reset that deletes the consumer would make it again as it was.
      open.refuseDuringReset(stream, id);
      return pauseConsumer(api, stream, id, until, call);
    };
    return writing(api.inTurn({ ...call, write: true }, pause));
  }

  /** By the clock of NATS, which also stamps events. */
  async #oldestUnsettledAge(info: ConsumerInfo, call: AdminCall): Promise<number | undefined> {
    const { reader } = this.#dependencies;
    const filters = filtersOf(info.config);
    if (info.num_pending + info.num_ack_pending === 0 || filters.length > MAX_FILTERS_ASKED) return undefined;
    const settled = BigInt(info.ack_floor.stream_seq);
    const { deadlineMs = Date.now() + DEFAULT_DEADLINE_MS } = call;
    const found = await inParallel(filters.length === 0 ? [">"] : filters, async (filter) =>
      reader.firstAfter(info.stream_name, filter, settled, deadlineMs),
    );
    const [oldest] = found
      .filter((message) => message !== undefined)
      .toSorted((a, b) => (a.sequence < b.sequence ? -1 : 1));
    if (oldest === undefined) return undefined;
    return Math.max(0, Date.parse(info.ts ?? new Date().toISOString()) - Date.parse(oldest.time));
  }
}

/** Throws where a consumer cannot have these names. */
export function checkNames(stream: string, id: string): void {
  checkName("stream", stream);
  checkName("id", id);
}

function checkFuture(until: Timestamp): void {
  const { seconds, nanos } = until;
  if (!isValidTimestamp(until)) {
    throw fieldError("INVALID_VALUE", "until", `${seconds} s and ${nanos} ns is not a time in the years 1 to 9999`);
  }
  if (seconds * 1000 + nanos / 1_000_000 > Date.now()) return;
  throw fieldError("INVALID_VALUE", "until", `${formatTimestamp(until)} is not in the future`);
}

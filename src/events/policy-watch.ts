/**
 * Keeps the delivery policies of consumers that have subscriptions on this server, and tells of other filters. Nothing tells of an update of a consumer,
 * so each consumer is asked for every few seconds, once for all its subscriptions, and by one timer for all consumers.
 *
 * A policy that was known and is gone, without a word that there shall be none, was wiped by an update of somebody else: it is
 * put back. Only when it is missed a second time: a leader that has just been elected may tell what was before.
 */
import { performance } from "node:perf_hooks";
import type { ConsumerInfo } from "@nats-io/jetstream";
import type { JetStreamApi } from "../nats/api.ts";
import { hasLeader } from "../nats/pull.ts";
import type { Logger } from "../telemetry/logger.ts";
import { filtersOf } from "./consumers.ts";
import {
  type DeliveryPolicy,
  POLICY_KEY,
  type StoredPolicy,
  decodePolicy,
  encodePolicy,
  withoutOwnLimit,
} from "./delivery-policy.ts";

/** The policy of a consumer, which changes. */
export interface WatchedPolicy extends Disposable {
  /** Undefined: it has none. */
  readonly current: DeliveryPolicy | undefined;
  /** When it was set, in milliseconds since the epoch; 0 where nobody knows. */
  readonly sinceMs: number;
}

/** Hears of what a consumer delivers: none is everything. */
type FiltersListener = (filters: readonly string[]) => void;

/** Together with the time to look and to ask, a change is known within 5 s. */
const ASK_EVERY_MS = 3_000;
const ASK_AGAIN_MS = 1_000;
const LOOK_MS = 250;
/** So many consumers are asked for at each look, 500 a second: with more than 1,500 it takes longer. */
const MAX_QUESTIONS = 125;

/** Watches the policies of consumers. */
export class PolicyWatch implements Disposable {
  readonly #api: JetStreamApi;
  readonly #logger: Logger;
  readonly #consumers = new Map<string, WatchedConsumer>();
  #timer: NodeJS.Timeout | undefined;

  constructor(api: JetStreamApi, logger: Logger) {
    this.#api = api;
    this.#logger = logger;
  }

  /**
   * The policy of a consumer from now on, until it is disposed. `info` is what JetStream has just said; `onFilters` hears
   * of it when the consumer delivers something else than before.
   */
  watch(info: ConsumerInfo, onFilters: FiltersListener): WatchedPolicy {
    const { stream_name: stream, name } = info;
    const key = `${stream} ${name}`;
    let consumer = this.#consumers.get(key);
    if (consumer === undefined) {
      consumer = new WatchedConsumer(this.#api, this.#logger, stream, name);
      this.#consumers.set(key, consumer);
    }
    consumer.learn(info);
    // Two subscriptions may have the same function.
    const watcher = { onFilters };
    consumer.watchers.add(watcher);
    this.#timer ??= setInterval(() => this.#look(), LOOK_MS).unref();
    return new Watch(consumer, () => {
      consumer.watchers.delete(watcher);
      if (consumer.watchers.size > 0) return;
      this.#consumers.delete(key);
      if (this.#consumers.size === 0) this[Symbol.dispose]();
    });
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #look(): void {
    if (!this.#api.connection.connected) return;
    const now = performance.now();
    let questions = 0;
    for (const [key, consumer] of this.#consumers) {
      if (!consumer.isDue(now)) continue;
      // Behind the others, so that all have their turn.
      this.#consumers.delete(key);
      this.#consumers.set(key, consumer);
      void consumer.ask();
      questions += 1;
      if (questions === MAX_QUESTIONS) return;
    }
  }
}

class Watch implements WatchedPolicy {
  readonly #consumer: WatchedConsumer;
  readonly #stop: () => void;
  #isStopped = false;

  constructor(consumer: WatchedConsumer, stop: () => void) {
    this.#consumer = consumer;
    this.#stop = stop;
  }

  get current(): DeliveryPolicy | undefined {
    return this.#consumer.policy;
  }

  get sinceMs(): number {
    return this.#consumer.sinceMs;
  }

  [Symbol.dispose](): void {
    if (this.#isStopped) return;
    this.#isStopped = true;
    this.#stop();
  }
}

class WatchedConsumer {
  /** Subscriptions on this server. */
  readonly watchers = new Set<{ readonly onFilters: FiltersListener }>();
  policy: DeliveryPolicy | undefined;
  readonly #api: JetStreamApi;
  readonly #logger: Logger;
  readonly #stream: string;
  readonly #name: string;
  /** The newest that was ever seen. */
  #known: StoredPolicy | undefined;
  #created: string | undefined;
  #filters: string | undefined;
  #isUnreadable = false;
  #isMissed = false;
  /** What is learned in between does not put it off: subscriptions may open all the time. */
  #askAt = performance.now() + ASK_EVERY_MS;
  #isAsking = false;

  constructor(api: JetStreamApi, logger: Logger, stream: string, name: string) {
    this.#api = api;
    this.#logger = logger;
    this.#stream = stream;
    this.#name = name;
  }

  /** A version is the time of the change. */
  get sinceMs(): number {
    return this.#known?.version ?? 0;
  }

  isDue(now: number): boolean {
    return !this.#isAsking && now >= this.#askAt;
  }

  /** Takes over what JetStream says; false where a policy that was known is not there any more, or a limit defeats it. */
  learn(info: ConsumerInfo): boolean {
    // Of the same name, and another: what was known is of no use.
    if (hasLeader(info)) {
      if (this.#created !== undefined && this.#created !== info.created) this.#known = undefined;
      this.#created = info.created;
    }
    this.#learnFilters(filtersOf(info.config));
    const stored = decodePolicy(info.config.metadata);
    if (stored === "unreadable") {
      this.#warnUnreadable();
      this.policy = undefined;
      return true;
    }
    this.#isUnreadable = false;
    const isBehind = this.#known !== undefined && (stored?.version ?? -1) < this.#known.version;
    // Nothing said, and nothing to be said: as it should be.
    if (isBehind) return stored === undefined && this.#known?.policy === undefined;
    this.#known = stored;
    this.policy = stored?.policy;
    return withoutOwnLimit(info.config).max_deliver === undefined;
  }

  #learnFilters(filters: readonly string[]): void {
    const text = filters.join(" ");
    if (text === this.#filters) return;
    this.#filters = text;
    for (const { onFilters } of [...this.watchers]) onFilters(filters);
  }

  async ask(): Promise<void> {
    this.#isAsking = true;
    this.#askAt = performance.now() + ASK_EVERY_MS;
    try {
      const info = await this.#api.consumerInfo(this.#stream, this.#name);
      const isThere = this.learn(info);
      if (isThere) {
        this.#isMissed = false;
      } else if (this.#isMissed) {
        this.#isMissed = false;
        await this.#putBack(info);
      } else {
        this.#isMissed = true;
        this.#askAt = performance.now() + ASK_AGAIN_MS;
      }
    } catch {
      // NATS is away, or the consumer gone: subscriptions hear of either by themselves.
    } finally {
      this.#isAsking = false;
    }
  }

  async #putBack({ config }: ConsumerInfo): Promise<void> {
    const metadata = { ...config.metadata, [POLICY_KEY]: encodePolicy(this.#known!) };
    const restored = { ...config, name: this.#name, metadata };
    await this.#api.putConsumer(this.#stream, { ...restored, ...withoutOwnLimit(restored) }, "update", {});
    const about = { stream: this.#stream, consumer: this.#name };
    this.#logger.warn(about, "the delivery policy of a consumer was wiped by an update of others, and put back");
  }

  #warnUnreadable(): void {
    if (this.#isUnreadable) return;
    this.#isUnreadable = true;
    const about = { stream: this.#stream, consumer: this.#name, key: POLICY_KEY };
    this.#logger.warn(about, "the delivery policy of a consumer cannot be read: it counts as none");
  }
}

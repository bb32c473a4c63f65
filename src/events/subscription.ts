/**
 * Hot path: one subscription to a consumer. It holds events for its client in a ledger, and asks JetStream for exactly
 * as many as the client may still hold: held events and granted credit always add up to the window, in events and, where
 * the client limits them, in bytes.
 *
 * A settlement (ack, reject, ping) is a request to JetStream: it counts as done when JetStream answered (`settlement-lane.ts`),
 * and the event stays held until then. Measured by `npm run bench -- consume`.
 *
 * Open → `close` (the client left, the server drains): what was held is handed back for immediate redelivery elsewhere.
 * Or → `onEnded` (the consumer is gone, or begins anew): then nothing that came is settled or handed back any more, as
 * JetStream would take it for what it delivers now. It looks after its consumer until the last settlement has its answer.
 */
import { Buffer } from "node:buffer";
import { performance } from "node:perf_hooks";
import { setTimeout as delay } from "node:timers/promises";
import type { ConsumerInfo } from "@nats-io/jetstream";
import { WindshiftError, quote } from "../errors.ts";
import { checkName } from "../names.ts";
import type { Advisories } from "../nats/advisories.ts";
import type { ApiCall, JetStreamApi } from "../nats/api.ts";
import type { NatsConnection, ReplyHandler } from "../nats/connection.ts";
import { resetMark } from "../nats/consumer-reset.ts";
import { type NatsMessage, statusCode } from "../nats/message.ts";
import { Pull, type PullMonitor, groupOf, hasLeader } from "../nats/pull.ts";
import { SettlementLane } from "../nats/settlement-lane.ts";
import { milliseconds, nanoseconds } from "../nats/units.ts";
import type { ConsumerMetrics } from "../telemetry/handles.ts";
import { EPHEMERAL, type Metrics } from "../telemetry/metrics.ts";
import { checkUsable, filtersOf } from "./consumers.ts";
import { type DeliveryPolicy, backoffNanoseconds, isLastAttempt } from "./delivery-policy.ts";
import { type DeliveredEvent, readEvent, storedMs, waitingBehind } from "./event.ts";
import type { FailedEvent } from "./failure-log.ts";
import { Failures, type FailuresContext, type GivingUp } from "./failures.ts";
import { isHiddenSubject } from "./hidden.ts";
import { type HeldEvent, Ledger, holdTimeMs } from "./ledger.ts";
import type { PolicyWatch, WatchedPolicy } from "./policy-watch.ts";
import type { OpenSubscription, OpenSubscriptions } from "./open-subscriptions.ts";
import { StatusReporter, type SubscriptionStatus } from "./status.ts";

/** What became of an event, as the client says. */
export type SettlementKind = "ack" | "reject" | "terminate" | "ping";

/** How events are rejected. */
export interface Rejection {
  /** Undefined: as the consumer's delivery policy says, else none. */
  readonly delayMs?: number | undefined;
  /** What the client says about it. */
  readonly reason?: string | undefined;
}

/** What became of the ids of one settlement, each under exactly one. */
export interface SettlementResult {
  readonly ids: readonly EventId[];
  /** Not held here: never delivered, settled already, or out of time. */
  readonly invalidIds: readonly EventId[];
  /** JetStream did not confirm; they are still held, to be tried again. */
  readonly temporaryFailedIds: readonly EventId[];
}

/** An id as it came: a number where it is exact, else (beyond 2^53, so never one of ours) a bigint. */
export type EventId = number | bigint;

/** Told about the life of a subscription. On the hot path: must not throw. */
export interface SubscriptionListener {
  /** The result is kept with the event and returns in `onReleased`. */
  onEvent(event: DeliveredEvent): unknown;
  /** An event with this tag is not held any more, for `result`. */
  onReleased(tag: unknown, result: ReleaseResult): void;
  /** The consumer delivers something else than before: none is everything. */
  onFilters(filters: readonly string[]): void;
  /** For those who asked: how it fares. */
  onStatus(status: SubscriptionStatus): void;
  /** Nothing more comes: the consumer is gone. */
  onEnded(error: WindshiftError): void;
}

/** Why an event is not held any more. */
export type ReleaseResult = SettlementKind | "expired" | "handed_back";

/** Who subscribes to what. */
export interface SubscriptionSpec {
  readonly stream: string;
  readonly consumer: string;
  /** Events held at most; 0 or undefined is 50. */
  readonly maxProcessingEvents?: bigint | undefined;
  /** Bytes held at most, as NATS counts a message; a single larger event is held alone. 0 or undefined: no limit. */
  readonly maxProcessingBytes?: bigint | undefined;
  /** Address of the client, for those who ask who is subscribed. */
  readonly client: string;
  /** Whether `onStatus` shall hear how it fares. */
  readonly statusUpdates?: boolean | undefined;
}

/** What all subscriptions share. */
export interface SubscriptionContext extends FailuresContext {
  readonly api: JetStreamApi;
  readonly advisories: Advisories;
  readonly monitor: PullMonitor;
  /** Those of this server, this one among them while it is open. */
  readonly open: OpenSubscriptions;
  /** Largest window; more asked for gets this. */
  readonly maxProcessingEvents: number;
  readonly metrics: Metrics;
  readonly policies: PolicyWatch;
}

const DEFAULT_WINDOW = 50n;
/** What one pull may bring at once, unless NATS takes larger messages: a client that does not read costs this, twice. */
const PULL_BYTES = 1024 * 1024;
const MESSAGE_OVERHEAD_BYTES = 8 * 1024;
/** Those who asked hear of a silent NATS within 10 s: two of these, a margin, and the time to notice. */
const STATUS_HEARTBEAT_MS = 3_000;
/**
 * In a cluster the route to the consumer's leader can be gone for a moment; the leader then forgets what we asked for, and
 * nothing but the missing heartbeats tells. A subscription shall go on within 2 s all the same.
 */
const CLUSTER_HEARTBEAT_MS = 500;
/** Pings of one event under way at once; more have to be tried again. */
const MAX_PINGS = 8;
/** An event whose letter could not be stored is tried again after this, then after twice as long, … */
const LETTER_RETRY_MS = 1_000;
/** … and at least so often. */
const MAX_LETTER_RETRY_MS = 60_000;
/** Where the processing timeout is very short, an event whose letter is being stored is not pinged more often. */
const MIN_PING_MS = 20;
/** How often an event that is being settled is looked at by what has to wait for that. */
const SETTLING_LOOK_MS = 20;
const NO_REJECTION: Rejection = {};
const ACK = Buffer.from("+ACK");
const NAK = Buffer.from("-NAK");
/** nats-server replicates a reject only with a delay; without, a new leader forgets it. */
const REPLICATED_NAK = Buffer.from('-NAK {"delay":1}');
const TERM = Buffer.from("+TERM");
const PING = Buffer.from("+WPI");

/** A running subscription. */
export class Subscription implements OpenSubscription {
  readonly stream: string;
  readonly consumer: string;
  readonly client: string;
  readonly openedMs: number = Date.now();
  /** The consumer's own: what a client has for an event, a little less being counted. */
  readonly processingTimeoutMs: number;
  /** What the consumer delivers: none is everything. */
  readonly filters: readonly string[];
  /** Events held at most. */
  readonly window: number;
  readonly #connection: NatsConnection;
  readonly #open: OpenSubscriptions;
  readonly #pull: Pull;
  readonly #lane: SettlementLane;
  readonly #ledger: Ledger;
  readonly #listener: SubscriptionListener;
  readonly #metrics: ConsumerMetrics;
  readonly #reporter: StatusReporter | undefined;
  /** Events that were never delivered, when it was opened. */
  readonly #waiting: number;
  readonly #unwatch: (() => void)[];
  readonly #backoffMs: readonly number[];
  readonly #nak: Buffer;
  readonly #policy: WatchedPolicy;
  readonly #failures: Failures;
  /** As `WS-Replay-Consumer` names it. */
  readonly #name: string;
  /** Events that are given up without being shown to the client; each takes its place in the window until it is settled. */
  readonly #unseen = new Map<number, Promise<void>>();
  /** Another number when all that came was let go of. */
  #generation = 0;
  #settling = 0;
  #settled: PromiseWithResolvers<void> | undefined;
  #onEmpty: (() => void) | undefined;
  #stopped: Promise<void> | undefined;
  #closing: Promise<void> | undefined;

  /** Rejects where the consumer does not exist or cannot be subscribed to. Nothing is delivered before `start`. */
  static async open(
    context: SubscriptionContext,
    spec: SubscriptionSpec,
    listener: SubscriptionListener,
    call: ApiCall,
  ): Promise<Subscription> {
    checkName("subscribe.stream", spec.stream);
    checkName("subscribe.consumer", spec.consumer);
    const info = await context.api.consumerInfo(spec.stream, spec.consumer, call);
    checkUsable(info, "subscribe.consumer");
    if (info.config.priority_policy !== undefined && info.config.priority_policy !== "none") {
      const text = `subscribe.consumer: ${quote(spec.consumer)} has a priority policy, which this server does not speak`;
      throw new WindshiftError("CONFIGURATION_REFUSED", text, { field: "subscribe.consumer" });
    }
    return new Subscription(context, spec, info, listener);
  }

  private constructor(
    context: SubscriptionContext,
    spec: SubscriptionSpec,
    info: ConsumerInfo,
    listener: SubscriptionListener,
  ) {
    const { stream, consumer } = spec;
    const { config } = info;
    this.stream = stream;
    this.consumer = consumer;
    this.client = spec.client;
    const asked = spec.maxProcessingEvents || DEFAULT_WINDOW;
    this.window = asked < context.maxProcessingEvents ? Number(asked) : context.maxProcessingEvents;
    this.processingTimeoutMs = milliseconds(config.ack_wait ?? 0);
    this.filters = filtersOf(config);
    this.#backoffMs = (config.backoff ?? []).map(milliseconds);
    this.#connection = context.api.connection;
    this.#lane = new SettlementLane(this.#connection, info.cluster !== undefined);
    this.#listener = listener;
    this.#metrics = context.metrics.consumer(stream, config.durable_name === undefined ? EPHEMERAL : consumer);
    this.#metrics.subscriptions.add(1);
    this.#waiting = info.num_pending;
    if (spec.statusUpdates === true) {
      this.#reporter = new StatusReporter(
        async () => context.api.consumerInfo(stream, consumer),
        (status) => listener.onStatus(status),
      );
    }
    this.#nak = (info.cluster?.replicas?.length ?? 0) > 0 ? REPLICATED_NAK : NAK;
    this.#policy = context.policies.watch(info, (filters) => listener.onFilters(filters));
    this.#failures = new Failures(context, stream, consumer, this.#metrics);
    this.#name = `${stream}/${consumer}`;
    this.#ledger = new Ledger((event) => {
      this.#failures.timedOut(event);
      this.#released(event, "expired");
      this.#pull.grant(1, event.bytes);
    });
    const maxBytes = Math.max(PULL_BYTES, this.#connection.maxPayload + MESSAGE_OVERHEAD_BYTES);
    this.#pull = new Pull(
      context.api,
      context.monitor,
      {
        stream,
        consumer,
        created: hasLeader(info) ? info.created : undefined,
        isEphemeral: config.durable_name === undefined,
        seenAt: info.ts,
        resetMark: resetMark(config),
        group: groupOf(info.cluster),
        maxBytes: Math.min(maxBytes, config.max_bytes || Infinity),
        window: Number(spec.maxProcessingBytes || Infinity),
        maxBatch: config.max_batch || undefined,
        maxExpiresMs: milliseconds(config.max_expires ?? 0) || undefined,
        heartbeatMs: heartbeatMs(info, spec),
      },
      {
        onMessage: (message, now) => this.#onMessage(message, now),
        onSurplus: (ackSubject) => this.#handBack(ackSubject),
        onReachable: (isReachable) => this.#reporter?.reachable(isReachable),
        onDoubt: () => this.#letGo(),
        onGone: (error) => this.#onGone(error),
      },
    );
    this.#open = context.open;
    this.#open.add(this);
    this.#unwatch = [
      context.advisories.watch(stream, consumer, (advisory) => {
        if (advisory === "leader_elected") this.#pull.leaderChanged();
        else this.#pull.deleted();
      }),
      context.advisories.watch(stream, undefined, (advisory) => {
        if (advisory === "deleted") this.#pull.deleted();
      }),
    ];
  }

  /** That of its pull. */
  get epoch(): number {
    return this.#pull.epoch;
  }

  /** Events held right now. */
  get held(): number {
    return this.#ledger.size;
  }

  get isOpen(): boolean {
    return this.#closing === undefined;
  }

  settling(id: number): HeldEvent | undefined {
    return this.#ledger.settling(id);
  }

  /** Lets events come. */
  start(): void {
    this.#reporter?.start(this.#waiting);
    this.#pull.grant(this.window, 0);
  }

  /** The client does not read: nothing further is asked for. */
  pause(): void {
    this.#pull.pause();
  }

  resume(): void {
    this.#pull.resume();
  }

  /** Settles events; `done` hears of all of them at once. */
  settle(
    kind: SettlementKind,
    ids: readonly EventId[],
    rejection: Rejection = NO_REJECTION,
    done: (result: SettlementResult) => void,
  ): void {
    const payload = this.#payload(kind, rejection.delayMs);
    const effect = EFFECTS[kind];
    const policy = kind === "reject" || kind === "terminate" ? this.#policy.current : undefined;
    const batch = new SettlementBatch(this, kind, rejection.reason, done);
    const now = performance.now();
    // A ping leaves the event where it is: named twice in one message it would be pinged twice.
    const pinged = kind === "ping" && ids.length > 1 ? new Set<EventId>() : undefined;
    for (const id of ids) {
      const event = typeof id === "number" && pinged?.has(id) !== true ? this.#ledger.find(id, now) : undefined;
      pinged?.add(id);
      if (event === undefined) {
        batch.invalidIds = withId(batch.invalidIds, id);
      } else if (!this.#pull.isVerified || (kind === "ping" && event.pings >= MAX_PINGS)) {
        batch.temporaryFailedIds = withId(batch.temporaryFailedIds, id);
      } else {
        if (kind === "ping") event.pings += 1;
        else event.isSettling = true;
        if (policy === undefined) batch.send(this.#lane, event, payload, effect, now);
        else this.#refuse(batch, event, policy, rejection, payload);
      }
    }
    if (batch.invalidIds.length > 0) this.#metrics.settlements(kind, "invalid").add(batch.invalidIds.length);
    this.#settling += 1;
    batch.sealed();
  }

  /** Rejects an event as the policy of the consumer wants it: for good, when it was for the last time. */
  #refuse(batch: SettlementBatch, event: HeldEvent, policy: DeliveryPolicy, rejection: Rejection, nak: Buffer): void {
    const now = performance.now();
    if (batch.kind === "reject" && !isLastAttempt(policy, event.attempt)) {
      const backoff = rejection.delayMs === undefined ? backoffNanoseconds(policy, event.attempt) : 0;
      batch.send(this.#lane, event, backoff === 0 ? nak : nakAfter(backoff), "again", now);
    } else if (policy.deadLetterStream === undefined) {
      batch.send(this.#lane, event, TERM, "dropped", now);
    } else {
      batch.begin();
      void this.#storeHeld(batch, event, policy);
    }
  }

  /** The letter first, then the end of the event. */
  async #storeHeld(batch: SettlementBatch, event: HeldEvent, policy: DeliveryPolicy): Promise<void> {
    const cause = batch.kind === "terminate" ? "rejected" : "attempts";
    const how = { policy, cause, attempts: event.attempt, reason: batch.reason } as const;
    const generation = this.#generation;
    const hold = (expiresAt: number): void => void this.#ledger.prolong(event, expiresAt);
    const isStored = await this.#storeLetter(event, event, how, hold);
    if (isStored && this.#isOurs(generation)) batch.send(this.#lane, event, TERM, "given_up", performance.now());
    else this.failed(batch, event);
    batch.sealed();
  }

  /**
   * Stores the letter of an event. Its time begins anew again and again, so that it does not go to somebody else meanwhile;
   * `hold` hears until when JetStream leaves it here.
   */
  async #storeLetter(
    failed: FailedEvent,
    { ackSubject, attempt }: Pick<DeliveredEvent, "ackSubject" | "attempt">,
    how: GivingUp,
    hold: (expiresAt: number) => void,
  ): Promise<boolean> {
    const holdTime = this.#holdTimeMs(attempt);
    const generation = this.#generation;
    const ping = (): void => {
      if (!this.#isOurs(generation)) return;
      const expiresAt = performance.now() + holdTime;
      this.#connection.request(ackSubject, "", PING, this.#connection.options.requestTimeoutMs, {
        onReply: (reply) => {
          if (statusCode(reply) === 0) hold(expiresAt);
        },
        onNoReply: () => undefined,
      });
    };
    ping();
    const timer = setInterval(ping, Math.max(holdTime / 2, MIN_PING_MS));
    const isStored = await this.#failures.store(failed, how);
    clearInterval(timer);
    return isStored;
  }

  /** Nothing more is delivered, and what is on its way is handed back. What is held can still be settled. */
  stop(): void {
    this.#reporter?.[Symbol.dispose]();
    this.#stopped ??= this.#pull.stop();
  }

  abort(error: WindshiftError): void {
    this.#onGone(error);
  }

  /** Resolves when no settlement is under way. */
  async settled(): Promise<void> {
    if (this.#settling === 0) return;
    this.#settled ??= Promise.withResolvers<void>();
    await this.#settled.promise;
  }

  /** Resolves when nothing is held any more, or after `limitMs`. */
  async empty(limitMs: number): Promise<void> {
    if (this.#ledger.size === 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#onEmpty = resolve;
    const timer = setTimeout(resolve, limitMs);
    await promise;
    clearTimeout(timer);
  }

  /** Ends it: hands back what is held and what is on its way. Resolves when all that has left. */
  async close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#metrics.subscriptions.add(-1);
    this.#policy[Symbol.dispose]();
    // Its unsubscribe goes out first: what is handed back must not come here again.
    this.stop();
    if (this.#pull.lingering !== undefined) await this.#pull.lingering;
    for (const event of this.#ledger.release()) {
      this.#handBack(event.ackSubject);
      this.#released(event, "handed_back");
    }
    await Promise.all([this.#stopped, this.settled()]);
    this.#ledger[Symbol.dispose]();
    // Nobody waits for those that no client sees.
    void Promise.all(this.#unseen.values()).then(() => this.#end());
  }

  #end(): void {
    this.#pull.close();
    for (const unwatch of this.#unwatch) unwatch();
    this.#open.delete(this);
  }

  /** @internal */
  confirmed(batch: SettlementBatch, event: HeldEvent, effect: Effect, sentAt: number): void {
    const { kind } = batch;
    if (effect === "kept") {
      this.#pinged(batch, event, sentAt);
      return;
    }
    this.#metrics.settlements(kind, "confirmed").add(1);
    batch.ids = withId(batch.ids, event.id);
    if (effect === "again") this.#failures.rejected(event, batch.reason, this.#policy.current !== undefined);
    else if (effect === "dropped") {
      this.#failures.dropped(event, kind === "terminate" ? "rejected" : "attempts", batch.reason);
    } else if (effect === "done" && event.attempt > 1) this.#failures.forget(event);
    const released = this.#ledger.settled(event, effect !== "again");
    if (released === undefined) return;
    this.#released(released, kind);
    this.#pull.grant(1, released.bytes);
  }

  #pinged(batch: SettlementBatch, event: HeldEvent, sentAt: number): void {
    event.pings -= 1;
    const isHeld = this.#ledger.prolong(event, sentAt + this.#holdTimeMs(event.attempt));
    this.#metrics.settlements("ping", isHeld ? "confirmed" : "invalid").add(1);
    if (isHeld) batch.ids = withId(batch.ids, event.id);
    else batch.invalidIds = withId(batch.invalidIds, event.id);
  }

  /** @internal */
  failed(batch: SettlementBatch, event: HeldEvent): void {
    const { kind } = batch;
    this.#metrics.settlements(kind, "failed").add(1);
    batch.temporaryFailedIds = withId(batch.temporaryFailedIds, event.id);
    if (kind === "ping") event.pings -= 1;
    else event.isSettling = false;
    if (this.#closing === undefined) {
      this.#ledger.keep(event);
    } else if (kind !== "ping" && this.#ledger.settled(event, false) !== undefined) {
      if (event.expiresAt > performance.now()) this.#handBack(event.ackSubject);
      this.#released(event, "handed_back");
    }
  }

  /** @internal */
  unanswered(): void {
    this.#pull.verify();
  }

  /** @internal */
  batchDone(): void {
    this.#settling -= 1;
    if (this.#settling > 0) return;
    this.#settled?.resolve();
    this.#settled = undefined;
  }

  #onMessage(message: NatsMessage, now: number): void {
    if (isHiddenSubject(message.subject)) {
      this.#skip(message);
      return;
    }
    const event = readEvent(message);
    const { replayConsumer } = event.headers;
    if (replayConsumer !== undefined && replayConsumer !== this.#name) {
      this.#skip(message);
      return;
    }
    const policy = this.#policy.current;
    // Its attempts ran out with the delivery before.
    if (policy !== undefined && policy.maxAttempts > 0 && event.attempt > policy.maxAttempts) {
      this.#reporter?.delivered(waitingBehind(event.ackSubject));
      this.#giveUpUnseen(event, policy, message.headers);
      return;
    }
    this.#metrics.deliveries.add(1);
    if (event.attempt > 1) this.#metrics.redeliveries.add(1);
    const previous = this.#ledger.add({
      id: event.id,
      ackSubject: event.ackSubject,
      attempt: event.attempt,
      epoch: this.#pull.epoch,
      subject: event.subject,
      traceParent: event.headers.traceParent,
      bytes: event.bytes,
      expiresAt: now + this.#holdTimeMs(event.attempt),
      isSettling: false,
      pings: 0,
      tag: this.#listener.onEvent(event),
    });
    this.#metrics.unsettled.add(1);
    this.#reporter?.delivered(waitingBehind(event.ackSubject));
    if (previous === undefined) return;
    if (!previous.isSettling) this.#failures.timedOut(previous);
    this.#released(previous, "expired");
    this.#pull.grant(1, previous.bytes);
  }

  /**
   * An event whose attempts have run out is settled without its client. Until then it takes its place in the window, which
   * bounds how many there are. One whose letter cannot be stored goes back to JetStream for a while and makes room.
   */
  #giveUpUnseen(event: DeliveredEvent, policy: DeliveryPolicy, headers: Buffer | undefined): void {
    const { id, bytes } = event;
    // That one settles this one too: JetStream knows them by their id.
    if (this.#unseen.has(id)) {
      this.#pull.grant(1, bytes);
      return;
    }
    const done = this.#settleUnseen(event, policy, headers).then(() => {
      if (this.#unseen.get(id) === done) this.#unseen.delete(id);
      this.#pull.grant(1, bytes);
    });
    this.#unseen.set(id, done);
  }

  async #settleUnseen(event: DeliveredEvent, policy: DeliveryPolicy, headers: Buffer | undefined): Promise<void> {
    const { id, subject, payload, ackSubject } = event;
    const generation = this.#generation;
    if ((await this.#isSettledBefore(id)) || generation !== this.#generation) return;
    const attempts = this.#seenAttempts(event, policy);
    const failed = { id, subject, attempt: attempts, ackSubject, traceParent: event.headers.traceParent };
    const isDropped = policy.deadLetterStream === undefined;
    const content = { headers, payload };
    const how = { policy, cause: "attempts", attempts, content } as const;
    const isSettled = isDropped || (await this.#storeLetter(failed, event, how, () => undefined));
    if (!isSettled) this.#failures.retried(failed);
    if (!this.#isOurs(generation)) return;
    if (!isSettled) this.#connection.publish(ackSubject, "", nakAfter(letterRetryNs(event.attempt - attempts)));
    else if ((await this.#terminate(ackSubject)) && isDropped) this.#failures.dropped(failed, "attempts", undefined);
  }

  /**
   * What a client of this server has said of the delivery before may be on its way yet, and decides. True when that has
   * settled it.
   */
  async #isSettledBefore(id: number): Promise<boolean> {
    const settling = (): HeldEvent | undefined => this.#open.settling(this.stream, this.consumer, id);
    const held = settling();
    if (held === undefined) return false;
    while (settling() === held) await delay(SETTLING_LOOK_MS);
    return held.isSettling;
  }

  /**
   * Deliveries of an event whose attempts have run out that clients saw. Where the policy is as old as the event, those after
   * the last one that was allowed were tries to give it up; else clients may have seen more than it allows now.
   */
  #seenAttempts(event: DeliveredEvent, { maxAttempts }: DeliveryPolicy): number {
    const before = event.attempt - 1;
    if (storedMs(event.ackSubject) >= this.#policy.sinceMs) return Math.min(before, maxAttempts);
    return Math.min(before, this.#failures.seenAttempts(event) ?? before);
  }

  /** Resolves true when JetStream has settled the delivery for good. */
  async #terminate(ackSubject: string): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    this.#connection.request(ackSubject, "", TERM, this.#connection.options.requestTimeoutMs, {
      onReply: (reply) => resolve(statusCode(reply) === 0),
      onNoReply: () => resolve(false),
    });
    return promise;
  }

  /** Nobody sees an event that waits for its time, the mark of a replay, nor a replay for another consumer. If NATS does not hear of it, it comes again, and goes again. */
  #skip(message: NatsMessage): void {
    this.#connection.publish(message.reply, "", ACK);
    this.#reporter?.delivered(waitingBehind(message.reply));
    this.#pull.grant(1, message.size);
  }

  /** Nothing that is held is settled any more, nor handed back: JetStream would take it for another delivery. */
  #letGo(): void {
    this.#generation += 1;
    this.#unseen.clear();
    for (const event of this.#ledger.abandon()) {
      this.#released(event, "expired");
      this.#pull.grant(1, event.bytes);
    }
  }

  /** Whether what came in that generation may still be settled: it was not let go of, and its consumer is the same. */
  #isOurs(generation: number): boolean {
    return generation === this.#generation && this.#pull.isVerified;
  }

  #onGone(error: WindshiftError): void {
    this.#pull.close();
    this.#letGo();
    if (this.#closing === undefined) this.#listener.onEnded(error);
  }

  #released(event: HeldEvent, result: ReleaseResult): void {
    this.#metrics.unsettled.add(-1);
    this.#listener.onReleased(event.tag, result);
    if (this.#ledger.size === 0) this.#onEmpty?.();
  }

  #handBack(ackSubject: string): void {
    if (!this.#pull.isVerified) return;
    this.#connection.publish(ackSubject, "", this.#nak);
  }

  #holdTimeMs(attempt: number): number {
    const { length } = this.#backoffMs;
    const timeout = length === 0 ? this.processingTimeoutMs : this.#backoffMs[Math.min(attempt, length) - 1]!;
    return holdTimeMs(timeout, this.#connection.roundTripMs);
  }

  #payload(kind: SettlementKind, delayMs: number | undefined): Buffer {
    switch (kind) {
      case "ack":
        return ACK;
      case "terminate":
        return TERM;
      case "ping":
        return PING;
      case "reject":
        return delayMs === undefined ? this.#nak : nakAfter(nanoseconds(delayMs));
    }
  }
}

const NO_IDS: EventId[] = [];

/** The list with one id more. Most are of one, and what is added to an empty array makes room for seventeen. */
function withId(ids: EventId[], id: EventId): EventId[] {
  if (ids.length === 0) return [id];
  ids.push(id);
  return ids;
}

/** The settlements of one request of the client; done when the last has its answer. */
class SettlementBatch implements SettlementResult {
  ids: EventId[] = NO_IDS;
  invalidIds: EventId[] = NO_IDS;
  temporaryFailedIds: EventId[] = NO_IDS;
  readonly subscription: Subscription;
  readonly kind: SettlementKind;
  /** What the client says about rejected events. */
  readonly reason: string | undefined;
  readonly #done: (result: SettlementResult) => void;
  /** One more than there are, until all are sent. */
  #pending = 1;

  constructor(
    subscription: Subscription,
    kind: SettlementKind,
    reason: string | undefined,
    done: (result: SettlementResult) => void,
  ) {
    this.subscription = subscription;
    this.kind = kind;
    this.reason = reason;
    this.#done = done;
  }

  send(lane: SettlementLane, event: HeldEvent, payload: Buffer, effect: Effect, now: number): void {
    this.#pending += 1;
    const isRecent = event.epoch === this.subscription.epoch;
    lane.send(event.ackSubject, payload, isRecent, new Settlement(this, event, effect, now));
  }

  /** Something has to be done before it can be sent; `sealed` says that it is. */
  begin(): void {
    this.#pending += 1;
  }

  sealed(): void {
    this.#pending -= 1;
    if (this.#pending > 0) return;
    this.subscription.batchDone();
    this.#done(this);
  }
}

/** One settlement on its way. */
class Settlement implements ReplyHandler {
  readonly #batch: SettlementBatch;
  readonly #event: HeldEvent;
  readonly #effect: Effect;
  readonly #sentAt: number;

  constructor(batch: SettlementBatch, event: HeldEvent, effect: Effect, sentAt: number) {
    this.#batch = batch;
    this.#event = event;
    this.#effect = effect;
    this.#sentAt = sentAt;
  }

  onReply(reply: NatsMessage): void {
    const batch = this.#batch;
    if (statusCode(reply) !== 0) {
      // Nobody listens for it: the consumer is gone, or without a leader.
      batch.subscription.unanswered();
      this.onNoReply();
      return;
    }
    batch.subscription.confirmed(batch, this.#event, this.#effect, this.#sentAt);
    batch.sealed();
  }

  onNoReply(): void {
    this.#batch.subscription.failed(this.#batch, this.#event);
    this.#batch.sealed();
  }
}

/** What becomes of an event that JetStream has settled: its client keeps it, it is delivered again, or it is over. */
type Effect = "kept" | "again" | "done" | "given_up" | "dropped";

/** Where no delivery policy says otherwise. */
const EFFECTS = { ack: "done", ping: "kept", reject: "again", terminate: "dropped" } as const satisfies Record<
  SettlementKind,
  Effect
>;

function nakAfter(ns: number): Buffer {
  return Buffer.from(`-NAK {"delay":${Math.max(1, ns)}}`);
}

/** How long an event waits after so many failures to store its letter. */
function letterRetryNs(failures: number): number {
  return nanoseconds(Math.min(MAX_LETTER_RETRY_MS, LETTER_RETRY_MS * 2 ** Math.min(failures - 1, 10)));
}

function heartbeatMs({ cluster }: ConsumerInfo, { statusUpdates }: SubscriptionSpec): number | undefined {
  if (cluster !== undefined) return CLUSTER_HEARTBEAT_MS;
  return statusUpdates === true ? STATUS_HEARTBEAT_MS : undefined;
}

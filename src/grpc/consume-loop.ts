/**
 * One `Events` call: what the client sends goes to the subscription, what the subscription delivers goes to the client.
 *
 *     waiting ──subscribe──▶ opening ──▶ running ──half-close, drain──▶ ending ──▶ over
 *
 * A cancelled call, an error, or the end of the consumer lead from anywhere to over. Whatever way it ends, the events
 * that were held are handed back.
 *
 * Nothing here grows without a bound: events are bounded by the window, confirmations by what is read from the client,
 * and while the client does not read, neither requests are read nor further events asked for.
 */
import { WindshiftError, fieldError, quote } from "../errors.ts";
import type { DeliveredEvent } from "../events/event.ts";
import type { Events } from "../events/events.ts";
import type { SubscriptionStatus } from "../events/status.ts";
import type {
  Rejection,
  ReleaseResult,
  SettlementKind,
  SettlementResult,
  Subscription,
  SubscriptionListener,
} from "../events/subscription.ts";
import { SubscriptionStatus_State as State } from "../gen/windshift/events/v1alpha1/events_pb.ts";
import type { ActiveSpan, Tracing } from "../telemetry/tracing.ts";
import { within } from "../within.ts";
import type { ConfirmationMessage, EventsRequest, EventsResponse } from "./codecs/events.ts";
import { durationMs, toDuration } from "./convert.ts";
import { EventBatch } from "./event-batch.ts";
import { draining } from "./errors.ts";
import { toEventMessage } from "./event-message.ts";
import type { BidiCall } from "./server.ts";

/** A NATS that does not answer holds up a drain no longer than this. */
const HAND_BACK_MS = 2_000;
const MAX_REASON_LENGTH = 1_024;

type Settle = Extract<EventsRequest, { kind: "ack" | "reject" | "ping" }>;

/** Runs one call. */
export class ConsumeLoop implements SubscriptionListener {
  readonly #call: BidiCall<EventsRequest, EventsResponse>;
  readonly #events: Events;
  readonly #tracing: Tracing;
  readonly #onOver: (loop: ConsumeLoop) => void;
  /** Requests that came while the subscription was being opened; reading is paused, so there are few. */
  readonly #early: EventsRequest[] = [];
  #state: "waiting" | "opening" | "running" | "ending" | "over" = "waiting";
  #subscription: Subscription | undefined;
  #isHalfClosed = false;
  #finishing: Promise<void> | undefined;
  #statusUpdates = false;
  /** Where the client takes several events in one message. */
  #batch: EventBatch | undefined;
  #stream = "";
  #consumer = "";

  constructor(
    call: BidiCall<EventsRequest, EventsResponse>,
    events: Events,
    tracing: Tracing,
    onOver: (loop: ConsumeLoop) => void,
  ) {
    this.#call = call;
    this.#events = events;
    this.#tracing = tracing;
    this.#onOver = onOver;
    call.onMessage = (request) => this.#receive(request);
    call.onHalfClose = () => this.#halfClosed();
    call.onCancel = () => this.#stop();
    call.onDrain = () => {
      call.resume();
      this.#subscription?.resume();
    };
  }

  /** Brings nothing more, gives the client `graceMs` to settle what it holds, then ends the call. */
  async drain(graceMs: number): Promise<void> {
    const subscription = this.#subscription;
    if (this.#state === "running") {
      if (this.#statusUpdates) this.#send({ kind: "status", state: State.DRAINING });
      subscription!.stop();
      await subscription!.empty(graceMs);
    } else if (this.#state === "ending") {
      await within(graceMs, this.#finishing!);
    }
    this.#fail(draining());
    if (subscription !== undefined) await within(HAND_BACK_MS, subscription.close());
  }

  onEvent(event: DeliveredEvent): unknown {
    const span = this.#tracing.enabled ? this.#startSpan(event) : undefined;
    const message = toEventMessage(event, event.attempt, span?.traceParent);
    if (this.#batch === undefined) this.#send(message);
    else this.#batch.add(message, event.bytes);
    return span;
  }

  onReleased(span: unknown, result: ReleaseResult): void {
    if (span === undefined) return;
    if (result === "expired") (span as ActiveSpan).fail("EXPIRED", "the processing timeout ran out");
    else (span as ActiveSpan).end();
  }

  onFilters(filters: readonly string[]): void {
    this.#mayConsume(filters);
  }

  onStatus(status: SubscriptionStatus): void {
    this.#send({ kind: "status", state: STATES[status] });
  }

  onEnded(error: WindshiftError): void {
    this.#fail(error);
  }

  #startSpan(event: DeliveredEvent): ActiveSpan | undefined {
    const { subject, headers } = event;
    const about = { stream: this.#stream, consumer: this.#consumer, subject };
    return this.#tracing.startDelivery({ ...about, id: BigInt(event.id), attempt: BigInt(event.attempt) }, headers);
  }

  #receive(request: EventsRequest): void {
    switch (this.#state) {
      case "waiting":
        this.#subscribe(request);
        return;
      case "opening":
        this.#early.push(request);
        return;
      case "running":
        this.#settle(request);
        return;
      case "ending":
      case "over":
    }
  }

  #subscribe(request: EventsRequest): void {
    if (request.kind !== "subscribe") {
      throw new WindshiftError("UNEXPECTED_MESSAGE", "subscribe: has to be the first message of the call", {
        field: "subscribe",
      });
    }
    const { stream, consumer, maxProcessingEvents, maxProcessingBytes, maxBatch = 0, statusUpdates = false } = request;
    this.#state = "opening";
    this.#stream = stream;
    this.#consumer = consumer;
    this.#statusUpdates = statusUpdates;
    if (maxBatch > 1) this.#batch = new EventBatch(maxBatch, (events) => this.#write({ kind: "events", events }));
    this.#call.pause();
    const spec = {
      stream,
      consumer,
      maxProcessingEvents: BigInt(maxProcessingEvents ?? 0),
      maxProcessingBytes: BigInt(maxProcessingBytes ?? 0),
      statusUpdates,
      client: this.#call.engineCall.peer,
    };
    const isLeft = (): boolean => this.#state === "over";
    this.#events.subscribe(spec, this, { deadlineMs: finite(this.#call.deadlineMs), isLeft }).then(
      (subscription) => this.#opened(subscription),
      (error: unknown) => this.#fail(error),
    );
  }

  #opened(subscription: Subscription): void {
    this.#subscription = subscription;
    if (this.#state !== "opening") {
      void subscription.close();
      return;
    }
    if (!this.#mayConsume(subscription.filters)) return;
    this.#state = "running";
    this.#send({ kind: "subscribed", processingTimeout: toDuration(subscription.processingTimeoutMs) });
    subscription.start();
    try {
      for (const request of this.#early.splice(0)) this.#settle(request);
    } catch (error) {
      this.#fail(error);
      return;
    }
    this.#call.resume();
    if (this.#isHalfClosed) this.#halfClosed();
  }

  /** False: the call has ended, as its caller may not see what the consumer delivers. */
  #mayConsume(filters: readonly string[]): boolean {
    try {
      const [stream, consumer] = [this.#stream, this.#consumer];
      this.#call.authorize({ verb: "consume", stream, consumer, filters, isLearned: true });
      return true;
    } catch (error) {
      this.#fail(error);
      return false;
    }
  }

  #settle(request: EventsRequest): void {
    if (request.kind === "none") return;
    if (request.kind === "subscribe") {
      throw new WindshiftError("UNEXPECTED_MESSAGE", "subscribe: was sent already", { field: "subscribe" });
    }
    const rejection = rejectionOf(request);
    const kind = settlementOf(request);
    const span = this.#tracing.enabled ? this.#startSettlement(kind, request.ids.length) : undefined;
    this.#subscription!.settle(kind, request.ids, rejection, (result: SettlementResult) => {
      if (result.temporaryFailedIds.length > 0) span?.fail("NATS_UNAVAILABLE", "JetStream did not confirm all");
      else span?.end();
      this.#send(confirmation(request.kind, result));
    });
  }

  #startSettlement(kind: SettlementKind, count: number): ActiveSpan | undefined {
    const about = { stream: this.#stream, consumer: this.#consumer, count };
    return this.#tracing.startSettlement(kind, about, this.#call);
  }

  #send(response: EventsResponse): void {
    this.#batch?.flush();
    this.#write(response);
  }

  #write(response: EventsResponse): void {
    if (this.#call.send(response)) return;
    this.#call.pause();
    this.#subscription?.pause();
  }

  #halfClosed(): void {
    this.#isHalfClosed = true;
    if (this.#state === "waiting") {
      this.#fail(
        new WindshiftError("UNEXPECTED_MESSAGE", "subscribe: is missing, the client closed its side", {
          field: "subscribe",
        }),
      );
    }
    if (this.#state !== "running") return;
    this.#state = "ending";
    this.#finishing = this.#finish();
  }

  async #finish(): Promise<void> {
    this.#subscription!.stop();
    await this.#subscription!.settled();
    await this.#subscription!.close();
    if (this.#state !== "ending") return;
    this.#state = "over";
    this.#batch?.flush();
    this.#call.end();
    this.#onOver(this);
  }

  #fail(error: unknown): void {
    if (this.#state === "over") return;
    this.#batch?.flush();
    this.#call.fail(error);
    this.#stop();
  }

  #stop(): void {
    if (this.#state === "over") return;
    this.#state = "over";
    void this.#subscription?.close();
    this.#onOver(this);
  }
}

function settlementOf(request: Settle): SettlementKind {
  if (request.kind !== "reject") return request.kind;
  return request.permanently === true ? "terminate" : "reject";
}

function rejectionOf(request: Settle): Rejection | undefined {
  if (request.kind !== "reject") return undefined;
  const reason = request.reason === "" ? undefined : request.reason;
  // Counted as people do, and only where it may be too long.
  if (reason !== undefined && reason.length > MAX_REASON_LENGTH && Array.from(reason).length > MAX_REASON_LENGTH) {
    throw fieldError(
      "INVALID_VALUE",
      "reject.reason",
      `${quote(reason)} is longer than ${MAX_REASON_LENGTH} characters`,
    );
  }
  return { delayMs: delayOf(request), reason };
}

function delayOf({ delay, permanently }: Extract<Settle, { kind: "reject" }>): number | undefined {
  if (delay === undefined) return undefined;
  if (permanently === true) {
    throw fieldError("CONFLICTING_FIELDS", "reject.delay", "cannot be combined with permanently");
  }
  const delayMs = durationMs("reject.delay", delay)!;
  if (delayMs === 0) throw fieldError("INVALID_VALUE", "reject.delay", "0 s is not longer than zero");
  return delayMs;
}

const STATES = {
  active: State.ACTIVE,
  disconnected: State.DISCONNECTED,
  caught_up: State.CAUGHT_UP,
} as const satisfies Record<SubscriptionStatus, State>;

const CONFIRMATIONS = {
  ack: "ack_confirmation",
  reject: "reject_confirmation",
  ping: "ping_confirmation",
} as const satisfies Record<Settle["kind"], ConfirmationMessage["kind"]>;

function confirmation(
  kind: Settle["kind"],
  { ids, invalidIds, temporaryFailedIds }: SettlementResult,
): ConfirmationMessage {
  return { kind: CONFIRMATIONS[kind], ids, invalidIds, temporaryFailedIds };
}

/** A deadline, where there is one. */
export function finite(deadlineMs: number): number | undefined {
  return deadlineMs === Infinity ? undefined : deadlineMs;
}

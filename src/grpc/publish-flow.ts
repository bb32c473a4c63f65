/**
 * Hot path: many events of one call, each on its way by itself and in the order of its subject. Nobody is refused because
 * others publish much: the call takes in no further events, and by gRPC's flow control its client sends no more.
 * Measured by `npm run bench -- publish-stream`.
 */
import { WindshiftError } from "../errors.ts";
import type { EventSequence } from "../events/publisher.ts";
import type { Uint64 } from "../protobuf/wire.ts";
import type { ActiveSpan } from "../telemetry/tracing.ts";
import type { PublishEventRequest, PublishOutcome } from "./codecs/events.ts";
import { toNewEvent } from "./convert.ts";
import { asWindshiftError, toStatus } from "./errors.ts";
import { PublishAnswer, type ServiceTelemetry } from "./publish-answer.ts";
import type { ServerCall } from "./server.ts";

/** Events of one call on their way, so that no call takes all the room from others; and their size, unless it is one event. */
const MAX_UNANSWERED = 1024;
const MAX_UNANSWERED_BYTES = 4 * 1024 * 1024;

/** Events of one call. `onAnswer` hears what became of each, under the key that it came with. */
export class PublishFlow {
  readonly #events: EventSequence;
  readonly #telemetry: ServiceTelemetry;
  readonly #call: ServerCall;
  readonly #onAnswer: (key: Uint64, outcome: PublishOutcome) => void;
  #unanswered = 0;
  #bytes = 0;

  constructor(
    events: EventSequence,
    telemetry: ServiceTelemetry,
    call: ServerCall,
    onAnswer: (key: Uint64, outcome: PublishOutcome) => void,
  ) {
    this.#events = events;
    this.#telemetry = telemetry;
    this.#call = call;
    this.#onAnswer = onAnswer;
  }

  /** Events without an answer. */
  get unanswered(): number {
    return this.#unanswered;
  }

  /** Whether the call should take in no more for now. One event is always under way, so that an answer comes to look again. */
  get isFull(): boolean {
    if (this.#unanswered === 0) return false;
    return this.#unanswered >= MAX_UNANSWERED || this.#bytes >= MAX_UNANSWERED_BYTES || this.#events.isCrowded;
  }

  /** Whether it should take in more again: not for each single answer, as stopping and going on has its cost. */
  get hasRoomAgain(): boolean {
    if (this.#unanswered === 0) return true;
    return this.#unanswered <= MAX_UNANSWERED / 2 && this.#bytes <= MAX_UNANSWERED_BYTES / 2 && !this.#events.isCrowded;
  }

  /** Takes in an event; its answer comes later, or before this returns. */
  publish(key: Uint64, request: PublishEventRequest | undefined, deadlineMs: number): void {
    const bytes = request?.data?.value.length ?? 0;
    this.#unanswered += 1;
    this.#bytes += bytes;
    const { metrics, tracing } = this.#telemetry;
    const span = tracing.enabled ? tracing.startPublish(request?.subject ?? "", this.#call) : undefined;
    const answer = new FlowAnswer(this, key, bytes, { metrics, span });
    try {
      if (request === undefined) throw new WindshiftError("MISSING_FIELD", "event: is required", { field: "event" });
      this.#call.authorize({ verb: "publish", subject: request.subject });
      this.#events.publish(toNewEvent(request, span ?? this.#call), deadlineMs, answer);
    } catch (error) {
      answer.onFailed(asWindshiftError(error));
    }
  }

  /** @internal */
  answered(key: Uint64, bytes: number, outcome: PublishOutcome): void {
    this.#unanswered -= 1;
    this.#bytes -= bytes;
    this.#onAnswer(key, outcome);
  }
}

class FlowAnswer extends PublishAnswer {
  readonly #flow: PublishFlow;
  readonly #key: Uint64;
  readonly #bytes: number;

  constructor(
    flow: PublishFlow,
    key: Uint64,
    bytes: number,
    { metrics, span }: { readonly metrics: ServiceTelemetry["metrics"]; readonly span: ActiveSpan | undefined },
  ) {
    super(metrics, span);
    this.#flow = flow;
    this.#key = key;
    this.#bytes = bytes;
  }

  protected stored(id: bigint): void {
    this.#flow.answered(this.#key, this.#bytes, id);
  }

  protected failed(error: WindshiftError): void {
    this.#flow.answered(this.#key, this.#bytes, toStatus(error).details!);
  }
}

/**
 * What one subscription does about events that fail: it tells of them, in the log and in numbers, and gives them up, which
 * may mean that a letter is stored before anything else happens.
 */
import { readDelivery } from "../nats/delivery.ts";
import type { ConsumerMetrics } from "../telemetry/handles.ts";
import type { DeadLetterCause } from "./dead-letter.ts";
import type { DeadLetterWriter, EventContent } from "./dead-letter-writer.ts";
import type { DeliveryPolicy } from "./delivery-policy.ts";
import type { EventFailureLog, FailedEvent, FailureKind } from "./failure-log.ts";
import type { LastReasons } from "./last-reasons.ts";
import type { SeenAttempts } from "./seen-attempts.ts";

/** What all subscriptions share for it. */
export interface FailuresContext {
  readonly failureLog: EventFailureLog;
  readonly lastReasons: LastReasons;
  readonly seenAttempts: SeenAttempts;
  readonly letters: DeadLetterWriter;
}

/** How an event is given up. */
export interface GivingUp {
  readonly policy: DeliveryPolicy;
  readonly cause: DeadLetterCause;
  /** Deliveries that clients saw. */
  readonly attempts: number;
  /** What the client says now; else what was said last counts. */
  readonly reason?: string | undefined;
  /** Undefined: it has to be read from its stream. */
  readonly content?: EventContent | undefined;
}

/** What tells an event from all others. */
type EventDelivery = Pick<FailedEvent, "id" | "ackSubject">;

/** Events of one subscription that fail. */
export class Failures {
  readonly #context: FailuresContext;
  readonly #stream: string;
  readonly #consumer: string;
  readonly #metrics: ConsumerMetrics;

  constructor(context: FailuresContext, stream: string, consumer: string, metrics: ConsumerMetrics) {
    this.#context = context;
    this.#stream = stream;
    this.#consumer = consumer;
    this.#metrics = metrics;
  }

  /** A client has rejected the event, and JetStream knows; it is delivered again. `isLimited`: not without end. */
  rejected(event: FailedEvent, reason: string | undefined, isLimited: boolean): void {
    this.#metrics.failures("rejected").add(1);
    this.#write("rejected", event, { cause: "rejected", reason });
    if (reason !== undefined && isLimited) this.#context.lastReasons.set(this.#key(event), reason);
  }

  /** A client has held the event for too long. */
  timedOut(event: FailedEvent): void {
    this.#metrics.failures("timed_out").add(1);
    this.#write("timed_out", event, { cause: "timed_out" });
  }

  /** The event was given up, there are no dead letters, and JetStream has it as settled. */
  dropped(event: FailedEvent, cause: DeadLetterCause, reason: string | undefined): void {
    this.#metrics.givenUp(cause, "dropped").add(1);
    this.#write("dropped", event, { cause, reason: reason ?? this.#takeReason(event) });
  }

  /** Resolves true when the event may be settled for good: its letter is stored. Never rejects. */
  async store(event: FailedEvent, { policy, cause, attempts, content, ...rest }: GivingUp): Promise<boolean> {
    const reason = rest.reason ?? this.#context.lastReasons.get(this.#key(event));
    const origin = {
      stream: this.#stream,
      consumer: this.#consumer,
      id: BigInt(event.id),
      subject: event.subject,
      attempts,
      cause,
      reason,
      time: new Date().toISOString(),
    };
    const about = { cause, reason, deadLetters: policy.deadLetterStream };
    try {
      const { storedAt } = readDelivery(event.ackSubject);
      const written = await this.#context.letters.write(policy.deadLetterStream!, origin, storedAt, content);
      this.forget(event);
      this.#metrics.givenUp(cause, written).add(1);
      const known = written === "known" ? { known: true } : {};
      this.#write(written === "lost" ? "dead_letter_lost" : "dead_lettered", event, { ...about, ...known });
      return true;
    } catch (error) {
      this.#metrics.givenUp(cause, "failed").add(1);
      this.#write("dead_letter_failed", event, { ...about, err: error });
      return false;
    }
  }

  /** Deliveries of an event that clients saw, as this server knows from an earlier try to give it up. */
  seenAttempts(event: EventDelivery): number | undefined {
    return this.#context.seenAttempts.get(this.#key(event));
  }

  /** An event that no client sees any more could not be given up: it comes again. */
  retried(event: FailedEvent): void {
    this.#context.seenAttempts.set(this.#key(event), event.attempt);
  }

  /** The event is done: nothing that was kept of it counts any more. */
  forget(event: EventDelivery): void {
    this.#takeReason(event);
    this.#context.seenAttempts.delete(this.#key(event));
  }

  #takeReason(event: EventDelivery): string | undefined {
    return this.#context.lastReasons.take(this.#key(event));
  }

  /** A stream that is made anew counts its ids from 1: an event is its id and the time when it was stored. */
  #key({ id, ackSubject }: EventDelivery): string {
    return `${this.#stream} ${this.#consumer} ${id} ${readDelivery(ackSubject).storedAt}`;
  }

  #write(kind: FailureKind, event: FailedEvent, fields: object): void {
    this.#context.failureLog.write(kind, this.#stream, this.#consumer, event, fields);
  }
}

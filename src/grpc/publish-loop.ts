/**
 * One `PublishStream` call: events come in under tags, and their answers go out as JetStream gives them.
 *
 * The client's half-close ends the call when everything is answered. A draining server reads nothing more, answers what it
 * has read, and ends the call then. When the client leaves, what was read is stored all the same.
 */
import type { EventPublisher } from "../events/publisher.ts";
import type { PublishOutcome, PublishStreamRequest, PublishStreamResponse } from "./codecs/events.ts";
import { draining } from "./errors.ts";
import type { ServiceTelemetry } from "./publish-answer.ts";
import { PublishFlow } from "./publish-flow.ts";
import type { BidiCall } from "./server.ts";

/** Runs one call. */
export class PublishLoop {
  readonly #call: BidiCall<PublishStreamRequest, PublishStreamResponse>;
  readonly #flow: PublishFlow;
  readonly #eventTimeoutMs: number;
  readonly #over = Promise.withResolvers<void>();
  #isUnread = false;
  #isPaused = false;
  #isHalfClosed = false;
  #isDraining = false;
  #isOver = false;

  /** `eventTimeoutMs`: how long an event may take, where the call has no earlier deadline. */
  constructor(
    call: BidiCall<PublishStreamRequest, PublishStreamResponse>,
    publisher: EventPublisher,
    telemetry: ServiceTelemetry,
    eventTimeoutMs: number,
  ) {
    this.#call = call;
    this.#eventTimeoutMs = eventTimeoutMs;
    this.#flow = new PublishFlow(publisher.sequence(), telemetry, call, (tag, outcome) => this.#answer(tag, outcome));
    call.onMessage = ({ tag, event }) => {
      this.#flow.publish(tag, event, Math.min(call.deadlineMs, Date.now() + this.#eventTimeoutMs));
      this.#regulate();
    };
    call.onHalfClose = () => {
      this.#isHalfClosed = true;
      this.#endWhenDone();
    };
    call.onCancel = () => this.#end();
    call.onDrain = () => {
      this.#isUnread = false;
      this.#regulate();
    };
  }

  /** Resolves when the call is over. */
  get over(): Promise<void> {
    return this.#over.promise;
  }

  /** Reads nothing more, and ends the call when what was read is answered. */
  async drain(): Promise<void> {
    this.#isDraining = true;
    this.#regulate();
    this.#endWhenDone();
    return this.over;
  }

  #answer(tag: PublishStreamResponse["tag"], outcome: PublishOutcome): void {
    if (this.#isOver) return;
    if (!this.#call.send({ tag, outcome })) this.#isUnread = true;
    if (this.#isPaused || this.#isUnread) this.#regulate();
    if (this.#isHalfClosed || this.#isDraining) this.#endWhenDone();
  }

  /** Reads on, or not. */
  #regulate(): void {
    const isBusy = this.#isPaused ? !this.#flow.hasRoomAgain : this.#flow.isFull;
    const isPaused = this.#isDraining || this.#isUnread || isBusy;
    if (isPaused === this.#isPaused || this.#isOver) return;
    this.#isPaused = isPaused;
    if (isPaused) this.#call.pause();
    else this.#call.resume();
  }

  #endWhenDone(): void {
    if (this.#isOver || this.#flow.unanswered > 0) return;
    if (this.#isHalfClosed) this.#call.end();
    else if (this.#isDraining) this.#call.fail(draining());
    else return;
    this.#end();
  }

  #end(): void {
    this.#isOver = true;
    this.#over.resolve();
  }
}

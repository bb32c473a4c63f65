/** One `PublishEvents` call without `atomic`: its events go the way of a `PublishStream`, and have one answer together. */
import { fieldError } from "../errors.ts";
import type { EventPublisher } from "../events/publisher.ts";
import type { PublishEventRequest, PublishEventsRequest, PublishOutcome } from "./codecs/events.ts";
import type { ServiceTelemetry } from "./publish-answer.ts";
import { PublishFlow } from "./publish-flow.ts";
import type { UnaryCall } from "./server.ts";

const MAX_EVENTS = 10_000;

/** Publishes the events of one call, and answers it. */
export class PublishBatch {
  readonly #call: UnaryCall<PublishEventsRequest, readonly PublishOutcome[]>;
  readonly #events: readonly PublishEventRequest[];
  readonly #flow: PublishFlow;
  readonly #outcomes: PublishOutcome[] = [];
  #next = 0;
  #isRunning = false;

  constructor(
    call: UnaryCall<PublishEventsRequest, readonly PublishOutcome[]>,
    publisher: EventPublisher,
    telemetry: ServiceTelemetry,
  ) {
    this.#call = call;
    this.#events = call.request.events;
    checkCount(this.#events.length, MAX_EVENTS);
    this.#flow = new PublishFlow(publisher.sequence(), telemetry, call, (index, outcome) => {
      this.#outcomes[Number(index)] = outcome;
      this.run();
    });
  }

  /** Publishes as much as there is room for, and answers when nothing is left. */
  run(): void {
    // An event that is refused at once has its answer while the next one waits for its turn in the loop.
    if (this.#isRunning || this.#call.engineCall.cancelled) return;
    this.#isRunning = true;
    while (this.#next < this.#events.length && !this.#flow.isFull) {
      const index = this.#next++;
      this.#flow.publish(index, this.#events[index], this.#call.deadlineMs);
    }
    this.#isRunning = false;
    if (this.#next === this.#events.length && this.#flow.unanswered === 0) this.#call.respond(this.#outcomes);
  }
}

/** Throws unless there are events, and not too many. */
export function checkCount(count: number, max: number): void {
  if (count === 0) throw fieldError("MISSING_FIELD", "events", "must have at least one event");
  if (count > max) throw fieldError("INVALID_VALUE", "events", `has ${count} events, at most ${max} may be`);
}

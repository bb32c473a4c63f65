/** One `PublishEvents` call with `atomic`: all of its events, or none. */
import { WindshiftError } from "../errors.ts";
import type { NewEvent } from "../events/new-event.ts";
import { errorOfEvent } from "../events/atomic-batch.ts";
import type { EventPublisher } from "../events/publisher.ts";
import type { ActiveSpan } from "../telemetry/tracing.ts";
import type { PublishEventRequest, PublishEventsRequest, PublishOutcome } from "./codecs/events.ts";
import { toNewEvent } from "./convert.ts";
import { asWindshiftError } from "./errors.ts";
import { PublishAnswer, type ServiceTelemetry } from "./publish-answer.ts";
import { checkCount } from "./publish-batch.ts";
import type { UnaryCall } from "./server.ts";

/** As NATS has it. */
const MAX_EVENTS = 1_000;

type Call = UnaryCall<PublishEventsRequest, readonly PublishOutcome[]>;

/** Publishes the events of one call together, and answers it. Never rejects. */
export async function publishTogether(
  call: Call,
  publisher: EventPublisher,
  { metrics, tracing }: ServiceTelemetry,
): Promise<void> {
  const { request, deadlineMs } = call;
  const counted: Counted[] = [];
  try {
    checkCount(request.events.length, MAX_EVENTS);
    const events = request.events.map((event, index) => {
      const span = tracing.enabled ? tracing.startPublish(event.subject, call) : undefined;
      counted.push(new Counted(metrics, span));
      return allowed(call, event, index, span);
    });
    const { stream, ids } = await publisher.publishTogether(events, deadlineMs);
    for (const [index, each] of counted.entries()) each.onPublished(ids[index]!, stream, false);
    call.respond(ids);
  } catch (error) {
    const failure = asWindshiftError(error);
    for (const each of counted) each.onFailed(failure);
    call.fail(failure);
  }
}

function allowed(call: Call, request: PublishEventRequest, index: number, span: ActiveSpan | undefined): NewEvent {
  try {
    call.authorize({ verb: "publish", subject: request.subject });
    return toNewEvent(request, span ?? call);
  } catch (error) {
    throw error instanceof WindshiftError ? errorOfEvent(index, error) : error;
  }
}

/** Every event is counted and traced; the answer is that of the call. */
class Counted extends PublishAnswer {
  protected stored(): void {}
  protected failed(): void {}
}

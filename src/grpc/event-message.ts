/** Hot path: an event of the domain as the message that clients get. */
import type { StoredEvent } from "../events/event.ts";
import { typeUrlOf } from "../events/headers.ts";
import type { EventMessage } from "./codecs/events.ts";

/** The message of an event. `deliveryAttempt` is 0 where no consumer delivered it. */
export function toEventMessage(
  { id, subject, headers, publishedAt, payload }: StoredEvent,
  deliveryAttempt: number,
  traceParent: string | undefined = headers.traceParent,
): EventMessage {
  return {
    kind: "event",
    id,
    subject,
    timestamp: publishedAt,
    idempotencyKey: headers.idempotencyKey,
    traceParent,
    traceState: headers.traceState,
    attributes: headers.attributes,
    typeUrl: typeUrlOf(headers.dataType),
    value: payload,
    deliveryAttempt,
  };
}

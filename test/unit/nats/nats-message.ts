/** A message from NATS as tests make it up. */
import type { NatsMessage } from "../../../src/nats/message.ts";

/** What is not given is empty. */
export function natsMessage({
  subject = "",
  reply = "",
  headers,
  payload = Buffer.alloc(0),
}: Partial<Pick<NatsMessage, "subject" | "reply" | "headers" | "payload">>): NatsMessage {
  return {
    subject,
    reply,
    headers,
    readHeaders: (read) => (headers === undefined ? undefined : read(headers, 0, headers.length)),
    payload,
    size: payload.length,
  };
}

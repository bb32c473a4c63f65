/** Hot path: an event as it is delivered, read from the message that JetStream sent. */
import type { NatsMessage } from "../nats/message.ts";
import { type EventHeaders, decodeHeaders } from "./headers.ts";
import type { Timestamp } from "./timestamp.ts";

/** One delivery of one event. */
export interface DeliveredEvent {
  /** Stream sequence: the id that publishing it returned. */
  readonly id: number;
  readonly subject: string;
  readonly headers: EventHeaders;
  /** When it was published, or where that is not stored, when JetStream stored it. */
  readonly publishedAt: Timestamp;
  readonly payload: Buffer;
  /** 1 for the first delivery. */
  readonly attempt: number;
  /** Where JetStream hears what became of this delivery. */
  readonly ackSubject: string;
}

const ACK_TOKENS = 9;
const PENDING_TOKEN = 8;

/**
 * Reads a delivered message. The reply subject says where it comes from:
 * `$JS.ACK.<stream>.<consumer>.<attempt>.<stream sequence>.<consumer sequence>.<time>.<pending>`, or since NATS 2.11 by
 * choice with `<domain>.<account hash>` after `ACK` and a random token at the end (ADR-15 of nats-architecture-and-design).
 */
export function readEvent(message: NatsMessage): DeliveredEvent {
  const tokens = message.reply.split(".");
  const shift = tokens.length > ACK_TOKENS ? 2 : 0;
  const headers = decodeHeaders(message);
  const time = tokens[shift + 7]!;
  return {
    id: Number(tokens[shift + 5]),
    subject: message.subject,
    headers,
    publishedAt: headers.publishedAt ?? { seconds: Number(time.slice(0, -9)), nanos: Number(time.slice(-9)) },
    payload: message.payload,
    attempt: Number(tokens[shift + 4]),
    ackSubject: message.reply,
  };
}

/** How many events the consumer had not delivered yet when it delivered this one; `ackSubject` is that of `readEvent`. */
export function waitingBehind(ackSubject: string): number {
  const tokens = ackSubject.split(".");
  return Number(tokens[tokens.length > ACK_TOKENS ? PENDING_TOKEN + 2 : PENDING_TOKEN]);
}

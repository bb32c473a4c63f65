/** Hot path: an event as it is delivered or read, from the message that JetStream sent. */
import type { StoredMessage } from "../nats/get.ts";
import { type NatsMessage, digitsBetween } from "../nats/message.ts";
import { type EventHeaders, decodeHeaders } from "./headers.ts";
import { EPOCH, type Timestamp, parseTimestamp } from "./timestamp.ts";

/** An event as a stream holds it. */
export interface StoredEvent {
  /** Stream sequence: the id that publishing it returned. */
  readonly id: number;
  readonly subject: string;
  readonly headers: EventHeaders;
  /** When it was published, or where that is not stored, when JetStream stored it. */
  readonly publishedAt: Timestamp;
  readonly payload: Buffer;
}

/** One delivery of one event. */
export interface DeliveredEvent extends StoredEvent {
  /** 1 for the first delivery. */
  readonly attempt: number;
  /** Where JetStream hears what became of this delivery. */
  readonly ackSubject: string;
  /** Size as NATS counts it. */
  readonly bytes: number;
}

/** Tokens before the attempt, and those of what has a domain. */
const PLAIN_TOKENS = 4;
const DOMAIN_TOKENS = 6;
const MAX_PLAIN_DOTS = 8;
/** Where the dots of the subject at hand are. */
const dots: number[] = [];

/**
 * Reads a delivered message. The reply subject says where it comes from:
 * `$JS.ACK.<stream>.<consumer>.<attempt>.<stream sequence>.<consumer sequence>.<time>.<pending>`, or since NATS 2.11 by
 * choice with `<domain>.<account hash>` after `ACK` and a random token at the end (ADR-15 of nats-architecture-and-design).
 */
export function readEvent(message: NatsMessage): DeliveredEvent {
  const ackSubject = message.reply;
  const first = findDots(ackSubject);
  const headers = decodeHeaders(message);
  return {
    id: digitsBetween(ackSubject, dots[first]! + 1, dots[first + 1]!),
    subject: message.subject,
    headers,
    publishedAt: headers.publishedAt ?? storedAt(ackSubject.slice(dots[first + 2]! + 1, dots[first + 3])),
    payload: message.payload,
    attempt: digitsBetween(ackSubject, dots[first - 1]! + 1, dots[first]!),
    ackSubject,
    bytes: message.size,
  };
}

/** Reads a message as a get finds it. */
export function readStoredEvent(message: StoredMessage): StoredEvent {
  const headers = decodeHeaders(message);
  return {
    id: Number(message.sequence),
    subject: message.subject,
    headers,
    publishedAt: headers.publishedAt ?? parseTimestamp(message.time) ?? EPOCH,
    payload: message.payload,
  };
}

/** How many events the consumer had not delivered yet when it delivered this one; `ackSubject` is that of `readEvent`. */
export function waitingBehind(ackSubject: string): number {
  const first = findDots(ackSubject);
  return digitsBetween(ackSubject, dots[first + 3]! + 1, dots[first + 4] ?? ackSubject.length);
}

/** Fills `dots`; returns which of them comes after the attempt. */
function findDots(text: string): number {
  dots.length = 0;
  for (let at = text.indexOf("."); at >= 0; at = text.indexOf(".", at + 1)) dots.push(at);
  return dots.length > MAX_PLAIN_DOTS ? DOMAIN_TOKENS : PLAIN_TOKENS;
}

/** Nanoseconds since the epoch. */
function storedAt(time: string): Timestamp {
  return { seconds: Number(time.slice(0, -9)), nanos: Number(time.slice(-9)) };
}

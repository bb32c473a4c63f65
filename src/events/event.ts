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
/** Deliveries of a consumer differ in nothing before the attempt: how the last subject began, and the dots after that. */
let lastBegin = "";
let lastDots = 0;
/** Where the attempt ends, and each of the four numbers after it. */
const ends = [0, 0, 0, 0, 0];

/**
 * Reads a delivered message. The reply subject says where it comes from:
 * `$JS.ACK.<stream>.<consumer>.<attempt>.<stream sequence>.<consumer sequence>.<time>.<pending>`, or since NATS 2.11 by
 * choice with `<domain>.<account hash>` after `ACK` and a random token at the end (ADR-15 of nats-architecture-and-design).
 */
export function readEvent(message: NatsMessage): DeliveredEvent {
  const ackSubject = message.reply;
  const attempt = findNumbers(ackSubject);
  const headers = decodeHeaders(message);
  return {
    id: digitsBetween(ackSubject, ends[0]! + 1, ends[1]!),
    subject: message.subject,
    headers,
    publishedAt: headers.publishedAt ?? storedAt(ackSubject.slice(ends[2]! + 1, ends[3])),
    payload: message.payload,
    attempt: digitsBetween(ackSubject, attempt, ends[0]!),
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
  findNumbers(ackSubject);
  return digitsBetween(ackSubject, ends[3]! + 1, ends[4]!);
}

/** Fills `ends`; returns where the attempt begins. */
function findNumbers(text: string): number {
  if (lastBegin !== "" && text.startsWith(lastBegin) && findDots(text, lastBegin.length) === lastDots) {
    return lastBegin.length;
  }
  let tokens = findDots(text, 0) > MAX_PLAIN_DOTS ? DOMAIN_TOKENS : PLAIN_TOKENS;
  let begin = 0;
  for (; tokens > 0 && begin < text.length; begin++) if (text.charCodeAt(begin) === DOT) tokens -= 1;
  lastBegin = text.slice(0, begin);
  lastDots = findDots(text, begin);
  return begin;
}

/** Fills `ends` with the first dots from `from` on; returns how many there are. */
function findDots(text: string, from: number): number {
  let found = 0;
  for (let at = from; at < text.length; at++) {
    if (text.charCodeAt(at) !== DOT) continue;
    if (found < ends.length) ends[found] = at;
    found += 1;
  }
  for (let n = found; n < ends.length; n++) ends[n] = text.length;
  return found;
}

const DOT = 46;

/** Nanoseconds since the epoch. */
function storedAt(time: string): Timestamp {
  return { seconds: Number(time.slice(0, -9)), nanos: Number(time.slice(-9)) };
}

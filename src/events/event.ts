/** Hot path: an event as it is delivered or read, from the message that JetStream sent. */
import { readDelivery } from "../nats/delivery.ts";
import type { StoredMessage } from "../nats/get.ts";
import type { NatsMessage } from "../nats/message.ts";
import type { WalkedMessage } from "../nats/walk.ts";
import { type EventHeaders, decodeHeaders, readHeaders } from "./headers.ts";
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
  /** Size as NATS counts it: subjects and headers included. */
  readonly bytes: number;
}

/** One delivery of one event. */
export interface DeliveredEvent extends StoredEvent {
  /** 1 for the first delivery. */
  readonly attempt: number;
  /** Where JetStream hears what became of this delivery. */
  readonly ackSubject: string;
}

/** Reads a delivered message. */
export function readEvent(message: NatsMessage): DeliveredEvent {
  const ackSubject = message.reply;
  const delivery = readDelivery(ackSubject);
  const headers = readHeaders(message);
  return {
    id: delivery.sequence,
    subject: message.subject,
    headers,
    publishedAt: headers.publishedAt ?? storedAt(delivery.storedAt),
    payload: message.payload,
    attempt: delivery.attempt,
    ackSubject,
    bytes: message.size,
  };
}

/** Reads a message that was met on a walk. */
export function readWalkedEvent(id: number, time: string, message: WalkedMessage): StoredEvent {
  const headers = decodeHeaders(message);
  return {
    id,
    subject: message.subject,
    headers,
    publishedAt: headers.publishedAt ?? storedAt(time),
    payload: message.payload,
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
    bytes: message.subject.length + (message.headers?.length ?? 0) + message.payload.length,
  };
}

/** How many events the consumer had not delivered yet when it delivered this one; `ackSubject` is that of `readEvent`. */
export function waitingBehind(ackSubject: string): number {
  return readDelivery(ackSubject).pending;
}

/** When JetStream stored the event, in milliseconds since the epoch; `ackSubject` is that of `readEvent`. */
export function storedMs(ackSubject: string): number {
  return Number(readDelivery(ackSubject).storedAt.slice(0, -6));
}

/** From nanoseconds since the epoch, in digits. */
export function storedAt(time: string): Timestamp {
  return { seconds: Number(time.slice(0, -9)), nanos: Number(time.slice(-9)) };
}

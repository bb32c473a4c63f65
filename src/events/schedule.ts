/**
 * Events that wait for their time. Each waits under a subject of its own, `ws-schedules.<stream>.<token>`, which the
 * stream collects besides those it was asked for. Only NATS reads what is there: nobody publishes to it, no consumer
 * gets it. Pure functions.
 */
import { createHash, randomUUID } from "node:crypto";
import type { StreamConfig } from "@nats-io/jetstream";
import { type StoredMessage, storedHeader } from "../nats/get.ts";
import type { OutgoingMessage } from "../nats/publish.ts";
import { milliseconds } from "../nats/units.ts";
import { type Timestamp, parseTimestamp } from "./timestamp.ts";

const PREFIX = "ws-schedules.";
const CANCELLED = "WS-Schedule-Cancelled";
const MARK_MARGIN_SECONDS = 60;
const NO_PAYLOAD = new Uint8Array(0);
const AT = "@at ";

/** Whether a subject is one of those under which events wait. */
export function isScheduleSubject(subject: string): boolean {
  return subject.startsWith(PREFIX);
}

/** The subjects under which events of a stream wait. */
export function scheduleSubjects(stream: string): string {
  return `${PREFIX}${stream}.*`;
}

/** Where an event waits: with a key always at the same place. */
export function scheduleSubject(stream: string, key: string | undefined): string {
  return `${PREFIX}${stream}.${key === undefined ? randomUUID() : tokenOf(key)}`;
}

function tokenOf(key: string): string {
  return createHash("sha256").update(key).digest("base64url");
}

/** The mark that is left in place of what has this id; it outlives what NATS knows of keys. */
export function cancellation(
  place: string,
  id: bigint,
  stream: Pick<StreamConfig, "duplicate_window">,
  key?: string,
): Pick<OutgoingMessage, "subject" | "headers" | "payload"> {
  const seconds = Math.ceil(milliseconds(stream.duplicate_window) / 1000) + MARK_MARGIN_SECONDS;
  const headers =
    `NATS/1.0\r\n${CANCELLED}: true\r\nNats-Rollup: sub\r\nNats-TTL: ${seconds}s\r\n` +
    `Nats-Expected-Last-Subject-Sequence: ${id}\r\n${key === undefined ? "" : `Nats-Msg-Id: ${key}\r\n`}\r\n`;
  return { subject: place, headers, payload: NO_PAYLOAD };
}

/** Whether this is such a mark. */
export function isCancellation(message: StoredMessage): boolean {
  return storedHeader(message, CANCELLED) !== undefined;
}

/** What JetStream knows an event by whose key was freed with the mark of this id: the same for each repeat of it. */
export function messageIdAfter(mark: bigint, key: string): string {
  return `ws-again.${mark}.${tokenOf(key)}`;
}

/** The header that tells NATS when. */
export function formatSchedule(at: string): string {
  return AT + at;
}

/** The time that such a header tells; undefined for another kind of schedule, or none. */
export function parseSchedule(text: string | undefined): Timestamp | undefined {
  return text?.startsWith(AT) === true ? parseTimestamp(text.slice(AT.length)) : undefined;
}

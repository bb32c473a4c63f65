/**
 * Events that wait for their time. Each waits under a subject of its own, `ws-schedules.<stream>.<token>`, which the
 * stream collects besides those it was asked for. Only NATS reads what is there: nobody publishes to it, no consumer
 * gets it. Pure functions.
 */
import { createHash, randomUUID } from "node:crypto";
import { type Timestamp, parseTimestamp } from "./timestamp.ts";

const PREFIX = "ws-schedules.";
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
  const token = key === undefined ? randomUUID() : createHash("sha256").update(key).digest("base64url");
  return `${PREFIX}${stream}.${token}`;
}

/** The header that tells NATS when. */
export function formatSchedule(at: string): string {
  return AT + at;
}

/** The time that such a header tells; undefined for another kind of schedule, or none. */
export function parseSchedule(text: string | undefined): Timestamp | undefined {
  return text?.startsWith(AT) === true ? parseTimestamp(text.slice(AT.length)) : undefined;
}

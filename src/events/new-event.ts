/** Hot path: an event that a client publishes, checked and in its stored format. */
import { WindshiftError, fieldError, quote } from "../errors.ts";
import { checkSubject } from "../names.ts";
import type { NatsConnection } from "../nats/connection.ts";
import { requireNats } from "../nats/version.ts";
import type { TraceContext } from "../telemetry/trace-context.ts";
import { checkAttributes } from "./attributes.ts";
import { type PublishHeaders, dataTypeOf, encodeHeaders, storedKey } from "./headers.ts";
import { isScheduleSubject } from "./schedule.ts";
import { type Timestamp, formatTimestamp, isValidTimestamp, now } from "./timestamp.ts";

/** An event to publish. */
export interface NewEvent extends TraceContext {
  readonly subject: string;
  readonly typeUrl: string;
  readonly value: Uint8Array;
  /** Undefined: now. */
  readonly publishedAt?: Timestamp | undefined;
  /** Empty is none. */
  readonly idempotencyKey?: string | undefined;
  /** Id of the last event of the same subject; 0n: there is none. */
  readonly expectedLastId?: bigint | undefined;
  /** What the expected id is compared with; undefined: the last event of the subject. */
  readonly expectedLastIdScope?: ExpectedLastIdScope | undefined;
  readonly attributes?: ReadonlyMap<string, string> | undefined;
  /** The event is removed after so long. */
  readonly timeToLiveMs?: number | undefined;
  /** The event appears then. */
  readonly deliverAt?: Timestamp | undefined;
}

/** Which last event has to have the expected id: that of the same subject, or of the whole stream. */
export type ExpectedLastIdScope = "subject" | "stream";

/** An event that can be stored. */
export interface PreparedEvent {
  readonly subject: string;
  /** Its whole header block. */
  readonly headers: string;
  readonly payload: Uint8Array;
  /** As it is stored. */
  readonly key: string | undefined;
  readonly expectedLastId: bigint | undefined;
  readonly scope: ExpectedLastIdScope;
  readonly isScheduled: boolean;
}

/** nats-server takes 64 KiB of headers in all; keys of this length leave room for the others. */
const MAX_KEY_LENGTH = 8192;
/** In UTF-8, of one that is a single unit of UTF-16. */
const MAX_BYTES_OF_CHARACTER = 3;
const MIN_TIME_TO_LIVE_MS = 1000;
/** nats-server counts nanoseconds in 64 bits: 292 years. */
const MAX_TIME_TO_LIVE_SECONDS = 9_223_372_036;
/** 2262-01-01: a little before those 64 bits end, counted from 1970. */
const MAX_DELIVER_AT_SECONDS = 9_214_646_400;
const EPOCH: Timestamp = { seconds: 0, nanos: 0 };

/** What is known of NATS. */
type Nats = Pick<NatsConnection, "maxPayload" | "server">;

/** Throws what is wrong with the event. */
export function prepareEvent(event: NewEvent, nats: Nats): PreparedEvent {
  checkSubject("subject", event.subject);
  if (isScheduleSubject(event.subject)) {
    throw fieldError("INVALID_SUBJECT", "subject", `${quote(event.subject)} is where scheduled events wait`);
  }
  const publishedAt = event.publishedAt ?? now();
  if (!isValidTimestamp(publishedAt)) throw noTime("timestamp", publishedAt);
  if (event.attributes !== undefined) checkAttributes(event.attributes);
  const key = checkedKey(event.idempotencyKey ?? "");
  const headers = encodeHeaders({
    dataType: dataTypeOf(event.typeUrl),
    publishedAt,
    idempotencyKey: key,
    expectedLastSequence: event.expectedLastId,
    isExpectedOfStream: event.expectedLastIdScope === "stream",
    traceParent: event.traceParent,
    traceState: event.traceState,
    attributes: event.attributes,
    timeToLiveSeconds: event.timeToLiveMs === undefined ? undefined : wholeSeconds(event.timeToLiveMs, nats),
    schedule: event.deliverAt === undefined ? undefined : schedule(event.subject, event.deliverAt, nats),
  });
  checkSize({ subject: event.subject, payload: event.value, headers }, nats.maxPayload);
  return {
    subject: event.subject,
    headers,
    payload: event.value,
    key,
    expectedLastId: event.expectedLastId,
    scope: event.expectedLastIdScope ?? "subject",
    isScheduled: event.deliverAt !== undefined,
  };
}

/** The key as it is stored; undefined where it is none. */
export function checkedKey(key: string): string | undefined {
  if (key === "") return undefined;
  if (key.length > MAX_KEY_LENGTH) {
    throw fieldError("INVALID_VALUE", "idempotency_key", `${quote(key)} is longer than ${MAX_KEY_LENGTH} characters`);
  }
  return storedKey(key) || undefined;
}

/** Throws where NATS would not take it: it would close the connection, which all calls share. */
export function checkSize(
  { subject, payload, headers }: Pick<PreparedEvent, "subject" | "payload" | "headers">,
  limit: number,
): void {
  // Most are so small that it need not be counted what the headers take as bytes.
  if (payload.length + MAX_BYTES_OF_CHARACTER * headers.length <= limit) return;
  const size = Buffer.byteLength(headers) + payload.length;
  if (size > limit) throw tooLarge(subject, size, limit);
}

/** NATS knows whole seconds alone: an event stays for the time it was given, or a little longer. */
function wholeSeconds(ms: number, nats: Nats): number {
  if (ms < MIN_TIME_TO_LIVE_MS) throw fieldError("INVALID_VALUE", "time_to_live", `${ms} ms is less than 1 s`);
  requireNats(nats, "timeToLive", "time_to_live");
  return Math.min(Math.ceil(ms / 1000), MAX_TIME_TO_LIVE_SECONDS);
}

function schedule(target: string, deliverAt: Timestamp, nats: Nats): PublishHeaders["schedule"] {
  if (!isValidTimestamp(deliverAt)) throw noTime("deliver_at", deliverAt);
  const { seconds, nanos } = deliverAt;
  if (seconds > MAX_DELIVER_AT_SECONDS || (seconds === MAX_DELIVER_AT_SECONDS && nanos > 0)) {
    throw fieldError("INVALID_VALUE", "deliver_at", `${formatTimestamp(deliverAt)} is later than 2262-01-01`);
  }
  requireNats(nats, "scheduling", "deliver_at");
  // nats-server's clock begins in 1678. Whether a time is past is for it to say: ours may be another.
  return { target, at: formatTimestamp(seconds < 0 ? EPOCH : deliverAt) };
}

function noTime(field: string, { seconds, nanos }: Timestamp): WindshiftError {
  const problem = `${seconds} s and ${nanos} ns is not a time in the years 1 to 9999`;
  return fieldError("INVALID_VALUE", field, problem);
}

function tooLarge(subject: string, size: number, limit: number): WindshiftError {
  const text = `data: with its headers the event has ${size} bytes, NATS accepts ${limit} (subject ${quote(subject)})`;
  return new WindshiftError("EVENT_TOO_LARGE", text, { field: "data", metadata: { subject }, outcome: "not_stored" });
}

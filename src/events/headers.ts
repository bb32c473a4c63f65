/**
 * Hot path: the stored format of an event's headers. Streams are shared with services that write to NATS directly, so
 * names and formats are fixed; `test/interop` compares them with what the original server stored.
 *
 * The block is built as one string and read line by line from the bytes.
 */
import { LastText } from "../last-text.ts";
import { HeaderLines, type NatsMessage } from "../nats/message.ts";
import type { TraceContext } from "../telemetry/trace-context.ts";
import { AttributeReader, type Attributes } from "./attributes.ts";
import { formatSchedule } from "./schedule.ts";
import { type Timestamp, formatTimestamp, readTimestamp } from "./timestamp.ts";

/** What is stored of an event beside its payload. */
export interface EventHeaders extends TraceContext {
  /** Full name of the message type; empty for an empty type URL, undefined where nobody stored one. */
  readonly dataType: string | undefined;
  readonly publishedAt: Timestamp | undefined;
  readonly idempotencyKey: string | undefined;
  /** `<stream>/<consumer>`, of an event that was published again for that consumer alone. */
  readonly replayConsumer: string | undefined;
  /** Undefined where there is none. */
  readonly attributes: Attributes | undefined;
}

const TYPE_PREFIX = "type.googleapis.com/";
const LINE_BREAK = /[\r\n]/g;

const MESSAGE_NAME = /^[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*$/;

/** Most events are of the same type as the one before. */
let lastTypeUrl = "";
let lastDataType = "";

/** The stored type of a type URL: the message name after its last slash, or nothing where that is no such name. */
export function dataTypeOf(typeUrl: string): string {
  if (typeUrl === lastTypeUrl) return lastDataType;
  const name = typeUrl.slice(typeUrl.lastIndexOf("/") + 1);
  lastTypeUrl = typeUrl;
  lastDataType = MESSAGE_NAME.test(name) ? name : "";
  return lastDataType;
}

/** The same for those that are read. */
let lastStoredType = "";
let lastStoredUrl = TYPE_PREFIX;

/** The type URL of a stored type; empty where none was stored. */
export function typeUrlOf(dataType: string | undefined): string {
  if (dataType === undefined) return "";
  if (dataType !== lastStoredType) {
    lastStoredType = dataType;
    lastStoredUrl = TYPE_PREFIX + dataType;
  }
  return lastStoredUrl;
}

/**
 * An idempotency key as it is stored: line breaks would make headers of their own, so each becomes a blank; blanks at the
 * ends go. Just as the Go library writes it, since both have to know each other's keys.
 */
export function storedKey(key: string): string {
  const text = key.replace(LINE_BREAK, " ");
  // By hand, as a pattern for blanks at the end takes quadratic time over blanks in the middle.
  let [start, end] = [0, text.length];
  while (start < end && isBlank(text, start)) start += 1;
  while (end > start && isBlank(text, end - 1)) end -= 1;
  return text.slice(start, end);
}

function isBlank(text: string, index: number): boolean {
  const code = text.charCodeAt(index);
  return code === BLANK || code === TAB;
}

const BLANK = 32;
const TAB = 9;
const CR = 13;
/** Longer ones are not remembered. */
const MAX_REST_BYTES = 512;

/** What to write into the header block of a publish. */
export interface PublishHeaders extends TraceContext {
  readonly dataType: string;
  readonly publishedAt: Timestamp;
  /** As {@link storedKey} made it. */
  readonly idempotencyKey?: string | undefined;
  /** Of the last event of the subject, or of the stream. */
  readonly expectedLastSequence?: bigint | undefined;
  readonly isExpectedOfStream?: boolean;
  /** Checked; they can be headers as they are. */
  readonly attributes?: Iterable<readonly [name: string, value: string]> | undefined;
  /** After so long the event is removed. */
  readonly timeToLiveSeconds?: number | undefined;
  /** When (RFC 3339) and on which subject the event appears. */
  readonly schedule?: { readonly at: string; readonly target: string } | undefined;
}

/** The header block of an event to be stored. */
export function encodeHeaders(headers: PublishHeaders): string {
  let block = `NATS/1.0\r\nWS-Published-Time: ${formatTimestamp(headers.publishedAt)}\r\nWS-Data-Type: ${headers.dataType}\r\n`;
  if (headers.idempotencyKey !== undefined) block += `Nats-Msg-Id: ${headers.idempotencyKey}\r\n`;
  if (headers.expectedLastSequence !== undefined) block += expectedLines(headers);
  if (headers.traceParent !== undefined) block += `WS-Trace-Parent: ${headers.traceParent}\r\n`;
  if (headers.traceState !== undefined) block += `WS-Trace-State: ${headers.traceState}\r\n`;
  if (headers.schedule !== undefined) block += scheduleLines(headers, headers.schedule);
  else if (headers.timeToLiveSeconds !== undefined) block += `Nats-TTL: ${headers.timeToLiveSeconds}s\r\n`;
  if (headers.attributes !== undefined) {
    for (const [name, value] of headers.attributes) block += `${name}: ${value}\r\n`;
  }
  return `${block}\r\n`;
}

/** The same block under another message id; readers see the key all the same. */
export function withMessageId(block: string, key: string, id: string): string {
  const own = `WS-Idempotency-Key: ${key}\r\n`;
  const lines = `Nats-Msg-Id: ${id}\r\n${block.includes(`\r\n${own}`) ? "" : own}`;
  return block.replace(`Nats-Msg-Id: ${key}\r\n`, () => lines);
}

function expectedLines({ expectedLastSequence, isExpectedOfStream, schedule }: PublishHeaders): string {
  if (isExpectedOfStream === true) return `Nats-Expected-Last-Sequence: ${expectedLastSequence}\r\n`;
  const line = `Nats-Expected-Last-Subject-Sequence: ${expectedLastSequence}\r\n`;
  // It waits under another subject than the one that is meant.
  return schedule === undefined ? line : `${line}Nats-Expected-Last-Subject-Sequence-Subject: ${schedule.target}\r\n`;
}

function scheduleLines(
  { idempotencyKey, timeToLiveSeconds }: PublishHeaders,
  { at, target }: NonNullable<PublishHeaders["schedule"]>,
): string {
  let lines = `Nats-Schedule: ${formatSchedule(at)}\r\nNats-Schedule-Target: ${target}\r\n`;
  // However short the stream keeps events, this one waits for its time.
  lines += "Nats-TTL: never\r\n";
  if (timeToLiveSeconds !== undefined) lines += `Nats-Schedule-TTL: ${timeToLiveSeconds}s\r\n`;
  if (idempotencyKey !== undefined) lines += `WS-Idempotency-Key: ${idempotencyKey}\r\n`;
  return lines;
}

const NO_HEADERS: EventHeaders = {
  dataType: undefined,
  publishedAt: undefined,
  idempotencyKey: undefined,
  traceParent: undefined,
  traceState: undefined,
  replayConsumer: undefined,
  attributes: undefined,
};

const dataTypes = new LastText();
const traceStates = new LastText();

function readDataType(bytes: Buffer, start: number, end: number): string {
  return dataTypes.decode(bytes, start, end);
}

function readTraceState(bytes: Buffer, start: number, end: number): string {
  return traceStates.decode(bytes, start, end);
}

/** What a stored message says of itself; names are compared without case, of a repeated one the first counts. */
export function decodeHeaders({ headers }: Pick<NatsMessage, "headers">): EventHeaders {
  return headers === undefined ? NO_HEADERS : decodeBlock(headers, 0, headers.length);
}

/** The same of a message as it is delivered. */
export function readHeaders(message: NatsMessage): EventHeaders {
  return message.readHeaders(decodeBlock) ?? NO_HEADERS;
}

/** How a block of ours begins: the time follows. */
const BEGIN = Buffer.from("NATS/1.0\r\nWS-Published-Time: ");
/** Most events differ from the one before in their time alone: what followed the last one's, and what it said. */
const lastRest = Buffer.alloc(MAX_REST_BYTES);
let lastRestLength = 0;
let last: EventHeaders = NO_HEADERS;

function decodeBlock(bytes: Buffer, start: number, end: number): EventHeaders {
  const isOurs = beginsWith(bytes, start, end, BEGIN, BEGIN.length);
  const timeStart = start + BEGIN.length;
  let timeEnd = timeStart;
  if (isOurs) while (timeEnd < end && bytes[timeEnd] !== CR) timeEnd += 1;
  const restLength = end - timeEnd;
  if (isOurs && restLength === lastRestLength && beginsWith(bytes, timeEnd, end, lastRest, restLength)) {
    const publishedAt = readTimestamp(bytes, timeStart, timeEnd);
    if (publishedAt !== undefined) return withTime(last, publishedAt);
  }
  const found = decodeLines(bytes, start, end);
  // What every event has another one of will not come again.
  if (isOurs && restLength <= MAX_REST_BYTES && found.traceParent === undefined && found.idempotencyKey === undefined) {
    bytes.copy(lastRest, 0, timeEnd, end);
    lastRestLength = restLength;
    last = found;
  }
  return found;
}

/** Whether there are the first `length` bytes of `wanted`. */
function beginsWith(bytes: Buffer, start: number, end: number, wanted: Buffer, length: number): boolean {
  if (end - start < length) return false;
  for (let n = 0; n < length; n++) if (bytes[start + n] !== wanted[n]) return false;
  return true;
}

/** Field by field, as V8 copies an object more slowly than it makes one. */
function withTime(
  { dataType, idempotencyKey, traceParent, traceState, replayConsumer, attributes }: EventHeaders,
  publishedAt: Timestamp,
): EventHeaders {
  return { dataType, publishedAt, idempotencyKey, traceParent, traceState, replayConsumer, attributes };
}

function decodeLines(bytes: Buffer, start: number, end: number): EventHeaders {
  let dataType: string | undefined;
  let publishedAt: Timestamp | undefined;
  let idempotencyKey: string | undefined;
  let ownKey: string | undefined;
  let traceParent: string | undefined;
  let traceState: string | undefined;
  let replayConsumer: string | undefined;
  let others: AttributeReader | undefined;
  const lines = new HeaderLines(bytes, start, end);
  while (lines.next()) {
    if (lines.is("ws-data-type")) dataType ??= lines.read(readDataType);
    else if (lines.is("ws-published-time")) publishedAt ??= lines.read(readTimestamp);
    else if (lines.is("nats-msg-id")) idempotencyKey ??= lines.value;
    else if (lines.is("ws-trace-parent")) traceParent ??= lines.value;
    else if (lines.is("ws-trace-state")) traceState ??= lines.read(readTraceState);
    else if (lines.is("ws-replay-consumer")) replayConsumer ??= lines.value;
    // NATS strips the other one from an event that was scheduled, and that of a replay is its own.
    else if (lines.is("ws-idempotency-key")) ownKey ??= lines.value;
    else if (!lines.begins("nats-") && !lines.begins("ws-")) {
      others ??= new AttributeReader();
      others.add(lines.name, lines);
    }
  }
  if (ownKey !== undefined || replayConsumer !== undefined) idempotencyKey = ownKey;
  const attributes = others !== undefined && others.attributes.length > 0 ? others.attributes : undefined;
  return { dataType, publishedAt, idempotencyKey, traceParent, traceState, replayConsumer, attributes };
}

/**
 * Hot path: the messages of publishing and consuming, coded by hand. Field numbers are those of
 * `proto/windshift/events/v1alpha1/events.proto`; a tag is number × 8 + wire type.
 */
import { Buffer } from "node:buffer";
import { fieldError } from "../../errors.ts";
import { LastBytes, LastText } from "../../last-text.ts";
import {
  type AnyMessage,
  type SecondsAndNanos,
  readAny,
  readTime,
  timeSize,
  writeTime,
} from "../../protobuf/well-known.ts";
import { type Uint64, WireReader, WireWriter, fieldSize, varintSize } from "../../protobuf/wire.ts";

/** `PublishEventRequest`. */
export interface PublishEventRequest {
  subject: string;
  data: AnyMessage | undefined;
  timestamp: SecondsAndNanos | undefined;
  idempotencyKey: string | undefined;
  expectedLastId: Uint64 | undefined;
  attributes: Map<string, string> | undefined;
  timeToLive: SecondsAndNanos | undefined;
  deliverAt: SecondsAndNanos | undefined;
  /** Number of `ExpectedLastIdScope`. */
  expectedLastIdScope: number | undefined;
}

/** `PublishEventRequest` ← bytes. */
export function decodePublishEventRequest(bytes: Uint8Array): PublishEventRequest {
  const message = emptyPublishEventRequest();
  readPublishEventRequest(new WireReader(bytes), message);
  return message;
}

function emptyPublishEventRequest(): PublishEventRequest {
  return {
    subject: "",
    data: undefined,
    timestamp: undefined,
    idempotencyKey: undefined,
    expectedLastId: undefined,
    attributes: undefined,
    timeToLive: undefined,
    deliverAt: undefined,
    expectedLastIdScope: undefined,
  };
}

const lastSubject = new LastText();

function readPublishEventRequest(reader: WireReader, message: PublishEventRequest): void {
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === 10) message.subject = reader.string(lastSubject);
    else if (tag === 18) message.data = readAny(reader, message.data);
    else if (tag === 26) message.timestamp = readTime(reader, message.timestamp);
    else if (tag === 34) message.idempotencyKey = reader.string();
    else if (tag === 40) message.expectedLastId = reader.uint64();
    else if (tag === 802) message.attributes = readAttribute(reader, message.attributes);
    else if (tag === 810) message.timeToLive = readTime(reader, message.timeToLive);
    else if (tag === 818) message.deliverAt = readTime(reader, message.deliverAt);
    else if (tag === 824) message.expectedLastIdScope = reader.int32();
    else reader.skip(tag);
  }
}

/** Reads one entry of a map; a later one of the same name counts. */
function readAttribute(reader: WireReader, into: Map<string, string> | undefined): Map<string, string> {
  let name = "";
  let value = "";
  reader.message((r) => {
    for (let tag = r.tag(); tag !== 0; tag = r.tag()) {
      if (tag === 10) name = r.string();
      else if (tag === 18) value = r.string();
      else r.skip(tag);
    }
  });
  return (into ?? new Map<string, string>()).set(name, value);
}

/** `PublishStreamRequest`. */
export interface PublishStreamRequest {
  tag: Uint64;
  event: PublishEventRequest | undefined;
}

/** `PublishStreamRequest` ← bytes. */
export function decodePublishStreamRequest(bytes: Uint8Array): PublishStreamRequest {
  const reader = new WireReader(bytes);
  const message: PublishStreamRequest = { tag: 0, event: undefined };
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === 8) message.tag = reader.uint64();
    else if (tag === 18) {
      const event = (message.event ??= emptyPublishEventRequest());
      reader.message((r) => readPublishEventRequest(r, event));
    } else reader.skip(tag);
  }
  return message;
}

/** `PublishEventsRequest`. */
export interface PublishEventsRequest {
  readonly events: PublishEventRequest[];
  atomic: boolean | undefined;
}

/** `PublishEventsRequest` ← bytes. */
export function decodePublishEventsRequest(bytes: Uint8Array): PublishEventsRequest {
  const reader = new WireReader(bytes);
  const message: PublishEventsRequest = { events: [], atomic: undefined };
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === 10) {
      const event = emptyPublishEventRequest();
      reader.message((r) => readPublishEventRequest(r, event));
      message.events.push(event);
    } else if (tag === 16) message.atomic = reader.bool();
    else reader.skip(tag);
  }
  return message;
}

/** What became of one event: `id`, or the bytes of a `google.rpc.Status`. */
export type PublishOutcome = Uint64 | Uint8Array;

/** `PublishStreamResponse`. */
export interface PublishStreamResponse {
  readonly tag: Uint64;
  readonly outcome: PublishOutcome;
}

/** `PublishStreamResponse` → bytes. */
export function encodePublishStreamResponse({ tag, outcome }: PublishStreamResponse): Uint8Array {
  const tagSize = tag === 0 || tag === 0n ? 0 : 1 + varintSize(tag);
  const writer = new WireWriter(tagSize + outcomeSize(outcome));
  if (tagSize > 0) {
    writer.varint(8);
    writer.uint64(tag);
  }
  writeOutcome(writer, 2, outcome);
  return writer.bytes;
}

/** `PublishEventsResponse` → bytes. */
export function encodePublishEventsResponse(outcomes: readonly PublishOutcome[]): Uint8Array {
  let size = 0;
  for (const outcome of outcomes) size += fieldSize(outcomeSize(outcome));
  const writer = new WireWriter(size);
  for (const outcome of outcomes) {
    writer.header(10, outcomeSize(outcome));
    writeOutcome(writer, 1, outcome);
  }
  return writer.bytes;
}

function outcomeSize(outcome: PublishOutcome): number {
  return outcome instanceof Uint8Array ? fieldSize(outcome.length) : 1 + varintSize(outcome);
}

/** The id has the field number `first`, an error the next one. A member of a choice is written also where it is 0. */
function writeOutcome(writer: WireWriter, first: number, outcome: PublishOutcome): void {
  if (outcome instanceof Uint8Array) {
    writer.raw((first + 1) * 8 + 2, outcome);
  } else {
    writer.varint(first * 8);
    writer.uint64(outcome);
  }
}

/** A message whose only field is a `uint64` with number 1: `PublishEventResponse`, `SetResponse`. */
export function encodeOneUint64(value: Uint64): Uint8Array {
  if (value === 0 || value === 0n) return EMPTY;
  const writer = new WireWriter(1 + varintSize(value));
  writer.varint(8);
  writer.uint64(value);
  return writer.bytes;
}

/** A message without fields. */
export function encodeNothing(): Uint8Array {
  return EMPTY;
}

const EMPTY = Buffer.alloc(0);

/** `EventsRequest`: the one thing it asks for; `none` for an empty request. */
export type EventsRequest =
  | { kind: "none" }
  | SubscribeMessage
  | { kind: "ack"; ids: Uint64[] }
  | {
      kind: "reject";
      ids: Uint64[];
      permanently: boolean | undefined;
      delay: SecondsAndNanos | undefined;
      reason: string | undefined;
    }
  | { kind: "ping"; ids: Uint64[] };

/** `EventsRequest.subscribe`. */
export interface SubscribeMessage {
  readonly kind: "subscribe";
  stream: string;
  consumer: string;
  maxProcessingEvents: Uint64 | undefined;
  maxProcessingBytes: Uint64 | undefined;
  maxBatch: number | undefined;
  statusUpdates: boolean | undefined;
}

/** Ids that one message may settle: more than any sensible window, and few enough to hold up nobody else. */
const MAX_IDS = 65_536;

/** `EventsRequest` ← bytes. */
export function decodeEventsRequest(bytes: Uint8Array): EventsRequest {
  return decodeOneId(bytes) ?? decodeAnyEventsRequest(bytes);
}

/** Most requests: an ack or a ping of one id, as everybody writes it. Undefined for all others. */
function decodeOneId(bytes: Uint8Array): EventsRequest | undefined {
  const { length } = bytes;
  if (bytes[1] !== length - 2) return undefined;
  let at = 3;
  if (bytes[2] === 10 && bytes[3] === length - 4) at = 4;
  else if (bytes[2] !== 8) return undefined;
  if (at >= length || at + MAX_EXACT_BYTES < length) return undefined;
  let id = 0;
  let scale = 1;
  for (; at < length - 1; at++, scale *= 0x80) {
    if (bytes[at]! < 0x80) return undefined;
    id += (bytes[at]! & 0x7f) * scale;
  }
  if (bytes[at]! >= 0x80) return undefined;
  id += bytes[at]! * scale;
  if (bytes[0] === 18) return { kind: "ack", ids: [id] };
  return bytes[0] === 34 ? { kind: "ping", ids: [id] } : undefined;
}

/** A number of so many bytes is exact. */
const MAX_EXACT_BYTES = 7;

function decodeAnyEventsRequest(bytes: Uint8Array): EventsRequest {
  const reader = new WireReader(bytes);
  let message: EventsRequest = { kind: "none" };
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === 10) {
      message = readSubscribe(reader, message);
    } else if (tag === 18 || tag === 34) {
      const kind = tag === 18 ? "ack" : "ping";
      const settle: { kind: "ack" | "ping"; ids: Uint64[] } = message.kind === kind ? message : { kind, ids: [] };
      reader.message((r) => {
        for (let inner = r.tag(); inner !== 0; inner = r.tag()) {
          if (inner === 8 || inner === 10) readIds(r, inner, settle);
          else r.skip(inner);
        }
      });
      message = settle;
    } else if (tag === 26) {
      message = readReject(reader, message);
    } else {
      reader.skip(tag);
    }
  }
  return message;
}

function readIds(
  reader: WireReader,
  tag: number,
  { kind, ids }: { readonly kind: string; readonly ids: Uint64[] },
): void {
  if (reader.uint64s(tag, ids, MAX_IDS)) return;
  throw fieldError("INVALID_VALUE", `${kind}.ids`, `has more than ${MAX_IDS} ids; settle them in several messages`);
}

function readSubscribe(reader: WireReader, into: EventsRequest): EventsRequest {
  const message: SubscribeMessage =
    into.kind === "subscribe"
      ? into
      : {
          kind: "subscribe",
          stream: "",
          consumer: "",
          maxProcessingEvents: undefined,
          maxProcessingBytes: undefined,
          maxBatch: undefined,
          statusUpdates: undefined,
        };
  reader.message((r) => {
    for (let tag = r.tag(); tag !== 0; tag = r.tag()) {
      if (tag === 10) message.stream = r.string();
      else if (tag === 18) message.consumer = r.string();
      else if (tag === 32) message.maxProcessingEvents = r.uint64();
      else if (tag === 800) message.maxProcessingBytes = r.uint64();
      else if (tag === 808) message.maxBatch = r.uint32();
      else if (tag === 816) message.statusUpdates = r.bool();
      else r.skip(tag);
    }
  });
  return message;
}

function readReject(reader: WireReader, into: EventsRequest): EventsRequest {
  const message: Extract<EventsRequest, { kind: "reject" }> =
    into.kind === "reject"
      ? into
      : { kind: "reject", ids: [], permanently: undefined, delay: undefined, reason: undefined };
  reader.message((r) => {
    for (let tag = r.tag(); tag !== 0; tag = r.tag()) {
      if (tag === 8 || tag === 10) readIds(r, tag, message);
      else if (tag === 16) message.permanently = r.bool();
      else if (tag === 26) message.delay = readTime(r, message.delay);
      else if (tag === 802) message.reason = r.string();
      else r.skip(tag);
    }
  });
  return message;
}

/** `EventsResponse`. */
export type EventsResponse =
  | { kind: "subscribed"; processingTimeout: SecondsAndNanos }
  | StatusMessage
  | EventMessage
  | { kind: "events"; events: readonly EventMessage[] }
  | ConfirmationMessage;

/** `EventsResponse.event`. */
export interface EventMessage {
  readonly kind: "event";
  readonly id: Uint64;
  readonly subject: string;
  readonly timestamp: SecondsAndNanos;
  readonly idempotencyKey: string | undefined;
  readonly traceParent: string | undefined;
  readonly traceState: string | undefined;
  /** Names and values. */
  readonly attributes: readonly (readonly [name: string, value: string])[] | undefined;
  readonly typeUrl: string;
  readonly value: Uint8Array;
  /** 0 for an event that was read without a consumer. */
  readonly deliveryAttempt: number;
}

/** `EventsResponse.ack_confirmation` and its like. */
export interface ConfirmationMessage {
  readonly kind: "ack_confirmation" | "reject_confirmation" | "ping_confirmation";
  readonly ids: readonly Uint64[];
  readonly invalidIds: readonly Uint64[];
  readonly temporaryFailedIds: readonly Uint64[];
}

/** `EventsResponse.status`. */
export interface StatusMessage {
  readonly kind: "status";
  /** Number of `SubscriptionStatus.State`, below 128. */
  readonly state: number;
}

/** `EventsResponse` → bytes. */
export function encodeEventsResponse(message: EventsResponse): Uint8Array {
  switch (message.kind) {
    case "event":
      return encodeEvent(message);
    case "events":
      return encodeEvents(message.events);
    case "subscribed":
      return encodeSubscribed(message.processingTimeout);
    case "ack_confirmation":
      return encodeConfirmation(26, message);
    case "reject_confirmation":
      return encodeConfirmation(34, message);
    case "ping_confirmation":
      return encodeConfirmation(42, message);
    case "status":
      return encodeStatus(message);
  }
}

/** `ReadEventsResponse`. */
export type ReadEventsResponse = EventMessage | { kind: "caught_up"; lastId: number };

/** `ReadEventsResponse` → bytes. */
export function encodeReadEventsResponse(message: ReadEventsResponse): Uint8Array {
  if (message.kind === "event") return encodeEvent(message);
  const { lastId } = message;
  const size = lastId === 0 ? 0 : 1 + varintSize(lastId);
  const writer = new WireWriter(fieldSize(size));
  writer.header(18, size);
  if (lastId > 0) {
    writer.varint(8);
    writer.uint64(lastId);
  }
  return writer.bytes;
}

function encodeSubscribed(timeout: SecondsAndNanos): Uint8Array {
  const size = timeSize(timeout);
  const inner = fieldSize(size);
  const writer = new WireWriter(fieldSize(inner));
  writer.header(18, inner);
  writeTime(writer, 10, timeout, size);
  return writer.bytes;
}

function encodeStatus({ state }: StatusMessage): Uint8Array {
  const writer = new WireWriter(STATUS_BYTES);
  writer.header(810, 2);
  writer.varint(8);
  writer.varint(state);
  return writer.bytes;
}

/** Two bytes of tag, one of length, and two of the one field. */
const STATUS_BYTES = 5;

function idsSize(ids: readonly Uint64[]): number {
  let size = 0;
  for (const id of ids) size += varintSize(id);
  return size;
}

function encodeConfirmation(tag: number, message: ConfirmationMessage): Uint8Array {
  const { ids, invalidIds, temporaryFailedIds } = message;
  const confirmed = idsSize(ids);
  const invalid = idsSize(invalidIds);
  const failed = idsSize(temporaryFailedIds);
  const size =
    (confirmed === 0 ? 0 : fieldSize(confirmed)) +
    (invalid === 0 ? 0 : fieldSize(invalid)) +
    (failed === 0 ? 0 : fieldSize(failed));
  const writer = new WireWriter(fieldSize(size));
  writer.header(tag, size);
  writeIds(writer, 10, ids, confirmed);
  writeIds(writer, 18, invalidIds, invalid);
  writeIds(writer, 26, temporaryFailedIds, failed);
  return writer.bytes;
}

function writeIds(writer: WireWriter, tag: number, ids: readonly Uint64[], size: number): void {
  if (size === 0) return;
  writer.header(tag, size);
  for (const id of ids) writer.uint64(id);
}

function textSize(text: string | undefined): number {
  return text === undefined ? -1 : Buffer.byteLength(text);
}

/** An event in the list of `Events` has the same field number as one in `EventsResponse`: it is written in the same way. */
function encodeEvents(events: readonly EventMessage[]): Uint8Array {
  let size = 0;
  for (const event of events) size += measureEvent(event);
  const writer = new WireWriter(2 + varintSize(size) + size);
  writer.header(802, size);
  for (const event of events) {
    measureEvent(event);
    writeEvent(writer, event);
  }
  return writer.bytes;
}

function attributesSize(attributes: EventMessage["attributes"]): number {
  let size = 0;
  for (const [name, value] of attributes ?? NO_ATTRIBUTES) size += 1 + fieldSize(attributeSize(name, value));
  return size;
}

function attributeSize(name: string, value: string): number {
  return fieldSize(Buffer.byteLength(name)) + fieldSize(Buffer.byteLength(value));
}

const subjects = new LastBytes();
const typeUrls = new LastBytes();

/** An event as field 1 of what holds it: `EventsResponse`, `EventsResponse.Events`, `ReadEventsResponse`, `GetEventResponse`. */
export function encodeEvent(event: EventMessage): Uint8Array {
  const writer = new WireWriter(measureEvent(event));
  writeEvent(writer, event);
  return writer.bytes;
}

/** Of the event that was measured last: the bytes of its parts, -1 for a text that is not there. */
const measured = { stamp: 0, key: 0, parent: 0, state: 0, headers: 0, any: 0, size: 0 };

/** Bytes of the event with its tag. */
function measureEvent(event: EventMessage): number {
  const subject = subjects.encode(event.subject);
  const stamp = timeSize(event.timestamp);
  const key = textSize(event.idempotencyKey);
  const parent = textSize(event.traceParent);
  const state = textSize(event.traceState);
  const typeUrl = typeUrls.encode(event.typeUrl);
  const { value } = event;
  const headers =
    fieldSize(stamp) +
    (key < 0 ? 0 : fieldSize(key)) +
    (parent < 0 ? 0 : fieldSize(parent)) +
    (state < 0 ? 0 : fieldSize(state)) +
    (event.attributes === undefined ? 0 : attributesSize(event.attributes));
  const any =
    (typeUrl.length === 0 ? 0 : fieldSize(typeUrl.length)) + (value.length === 0 ? 0 : fieldSize(value.length));
  const size =
    1 +
    varintSize(event.id) +
    fieldSize(subject.length) +
    fieldSize(headers) +
    fieldSize(any) +
    (event.deliveryAttempt === 0 ? 0 : 1 + varintSize(event.deliveryAttempt));
  measured.stamp = stamp;
  measured.key = key;
  measured.parent = parent;
  measured.state = state;
  measured.headers = headers;
  measured.any = any;
  measured.size = size;
  return fieldSize(size);
}

/** Writes the event that was measured last. */
function writeEvent(writer: WireWriter, event: EventMessage): void {
  const { stamp, key, parent, state, headers, any, size } = measured;
  const typeUrl = typeUrls.encode(event.typeUrl);
  const { value } = event;
  writer.header(10, size);
  writer.varint(8);
  writer.uint64(event.id);
  writer.raw(18, subjects.encode(event.subject));
  writer.header(26, headers);
  writeTime(writer, 10, event.timestamp, stamp);
  if (key >= 0) writer.string(18, event.idempotencyKey!, key);
  if (parent >= 0) writer.string(26, event.traceParent!, parent);
  if (state >= 0) writer.string(34, event.traceState!, state);
  for (const [name, text] of event.attributes ?? NO_ATTRIBUTES) {
    writer.header(802, attributeSize(name, text));
    writer.string(10, name, Buffer.byteLength(name));
    writer.string(18, text, Buffer.byteLength(text));
  }
  writer.header(34, any);
  if (typeUrl.length > 0) writer.raw(10, typeUrl);
  if (value.length > 0) writer.raw(18, value);
  if (event.deliveryAttempt > 0) {
    writer.varint(40);
    writer.varint(event.deliveryAttempt);
  }
}

const NO_ATTRIBUTES: NonNullable<EventMessage["attributes"]> = [];

/**
 * The shape of requests: generated messages in, domain objects out. Missing oneofs, unspecified and unknown enums,
 * durations to milliseconds. What a value may be is for the domain to say.
 */
import { WindshiftError, fieldError } from "../errors.ts";
import type { ConsumerSpec } from "../events/consumers.ts";
import type { EventQuery } from "../events/event-getter.ts";
import type { ReadSpec } from "../events/event-reader.ts";
import type { DeliveryPolicySpec } from "../events/delivery-policy.ts";
import type { ExpectedLastIdScope, NewEvent } from "../events/new-event.ts";
import type { StreamPointer } from "../events/stream-pointer.ts";
import type { SourceSpec, StreamSpec } from "../events/streams.ts";
import { isValidTimestamp } from "../events/timestamp.ts";
import {
  type DeliveryPolicy,
  type EnsureConsumerRequest,
  type EnsureStreamRequest,
  EnsureStreamRequest_DiscardPolicy as DiscardPolicy,
  EnsureStreamRequest_StorageType as StorageType,
  type EnsureStreamRequest_StreamSource as StreamSource,
  ExpectedLastIdScope as Scope,
  type GetEventRequest,
  type ReadEventsRequest,
  type StreamPointer as PointerMessage,
} from "../gen/windshift/events/v1alpha1/events_pb.ts";
import type { SecondsAndNanos } from "../protobuf/well-known.ts";
import type { TraceContext } from "../telemetry/trace-context.ts";
import type { PublishEventRequest } from "./codecs/events.ts";

/** Generated messages have bigint seconds, those coded by hand plain numbers. */
interface Moment {
  readonly seconds: bigint | number;
  readonly nanos: number;
}

const MAX_DURATION_SECONDS = 315_576_000_000;
/** JetStream counts nanoseconds in 64 bits: 292 years. */
const MAX_DURATION_MS = 9_223_372_036_854;
const NANOS_PER_MS = 1_000_000;
const MAX_OFFSET = BigInt(Number.MAX_SAFE_INTEGER);

/** Milliseconds, with fractions; throws on a negative or malformed duration. */
export function durationMs(field: string, duration: Moment | undefined): number | undefined {
  if (duration === undefined) return undefined;
  const seconds = Number(duration.seconds);
  const { nanos } = duration;
  const text = `${seconds} s and ${nanos} ns`;
  if (Math.abs(seconds) > MAX_DURATION_SECONDS || Math.abs(nanos) > 999_999_999 || seconds * nanos < 0) {
    throw fieldError("INVALID_VALUE", field, `${text} is not a valid duration`);
  }
  if (seconds < 0 || nanos < 0) throw fieldError("INVALID_VALUE", field, `${text} is negative`);
  const ms = seconds * 1000 + nanos / NANOS_PER_MS;
  if (ms > MAX_DURATION_MS) throw fieldError("INVALID_VALUE", field, `${text} is longer than 292 years`);
  return ms;
}

/** A `Duration` of so many milliseconds. */
export function toDuration(ms: number): SecondsAndNanos {
  const seconds = Math.floor(ms / 1000);
  return { seconds, nanos: Math.round((ms - seconds * 1000) * NANOS_PER_MS) };
}

/** A place in a stream; `unset` where the request names none. */
export function toPointer<Unset extends StreamPointer | undefined>(
  field: string,
  pointer: PointerMessage | undefined,
  unset: Unset,
): StreamPointer | Unset {
  const choice = pointer?.pointer;
  switch (choice?.case) {
    case undefined:
      return unset;
    case "start":
      return { kind: "start" };
    case "end":
      return { kind: "end" };
    case "time": {
      const time = { seconds: Number(choice.value.seconds), nanos: choice.value.nanos };
      if (!isValidTimestamp(time)) {
        const problem = `${time.seconds} s and ${time.nanos} ns is not a time in the years 1 to 9999`;
        throw fieldError("INVALID_VALUE", `${field}.time`, problem);
      }
      return { kind: "time", time };
    }
    case "offset":
      if (choice.value === 0n) return { kind: "end" };
      if (choice.value > MAX_OFFSET) {
        throw fieldError("INVALID_VALUE", `${field}.offset`, `${choice.value} is larger than any id`);
      }
      return { kind: "offset", offset: choice.value };
  }
}

/** `EnsureStreamRequest` as the domain wants it. */
export function toStreamSpec(request: EnsureStreamRequest): StreamSpec {
  const { retentionPolicy: retention, storage } = request;
  return {
    name: request.name,
    source: toSource(request),
    retention: {
      maxAgeMs: durationMs("retention_policy.max_age", retention?.maxAge),
      maxEvents: retention?.maxEvents,
      maxEventsPerSubject: retention?.maxEventsPerSubject,
      maxBytes: retention?.maxBytes,
      discard: toDiscard(retention?.discardPolicy),
      discardNewPerSubject: retention?.discardNewPerSubject,
    },
    storage: toStorage(storage?.type),
    replicas: storage?.replicas || undefined,
    deduplicationWindowMs: durationMs("deduplication_window", request.deduplicationWindow),
    maxEventBytes: request.maxEventSize,
    allowTimeToLive: request.allowTimeToLive,
    allowScheduling: request.allowScheduling,
    allowAtomic: request.allowAtomic,
  };
}

function toSource({ source }: EnsureStreamRequest): StreamSpec["source"] {
  switch (source.case) {
    case "subjects":
      return { kind: "subjects", subjects: source.value.subjects };
    case "mirror":
      return { kind: "mirror", source: toSourceSpec("mirror", source.value) };
    case "aggregate": {
      const sources = source.value.sources.map((each, i) => toSourceSpec(`aggregate.sources[${i}]`, each));
      return { kind: "aggregate", sources };
    }
    case undefined:
      throw fieldError("MISSING_FIELD", "source", "one of subjects, mirror and aggregate is required");
  }
}

function toSourceSpec(field: string, source: StreamSource): SourceSpec {
  return {
    stream: source.name,
    from: toPointer(`${field}.from`, source.from, { kind: "start" }),
    filters: source.filterSubjects,
  };
}

function toDiscard(policy: DiscardPolicy | undefined): "old" | "new" | undefined {
  switch (policy) {
    case undefined:
    case DiscardPolicy.UNSPECIFIED:
      return undefined;
    case DiscardPolicy.OLD:
      return "old";
    case DiscardPolicy.NEW:
      return "new";
    default:
      throw fieldError("INVALID_VALUE", "retention_policy.discard_policy", `${policy} is no discard policy`);
  }
}

function toStorage(type: StorageType | undefined): "file" | "memory" | undefined {
  switch (type) {
    case undefined:
    case StorageType.UNSPECIFIED:
      return undefined;
    case StorageType.FILE:
      return "file";
    case StorageType.MEMORY:
      return "memory";
    default:
      throw fieldError("INVALID_VALUE", "storage.type", `${type} is no storage type`);
  }
}

/** `EnsureConsumerRequest` as the domain wants it. */
export function toConsumerSpec(request: EnsureConsumerRequest): ConsumerSpec {
  return {
    stream: request.stream,
    name: request.name === "" ? undefined : request.name,
    subjects: request.subjects,
    from: toPointer("from", request.from, { kind: "end" }),
    processingTimeoutMs: durationMs("processing_timeout", request.processingTimeout),
    maxProcessingEvents: request.maxProcessingEvents,
    deliveryPolicy: request.deliveryPolicy === undefined ? undefined : toPolicySpec(request.deliveryPolicy),
    inactiveThresholdMs: durationMs("inactive_threshold", request.inactiveThreshold),
  };
}

function toPolicySpec({ maxAttempts, backoff, deadLetter }: DeliveryPolicy): DeliveryPolicySpec {
  return {
    maxAttempts,
    backoffMs: backoff.map((delay, index) => durationMs(`delivery_policy.backoff[${index}]`, delay)!),
    deadLetter,
  };
}

/** `ReadEventsRequest` as the domain wants it. */
export function toReadSpec(request: ReadEventsRequest): ReadSpec {
  return {
    stream: request.stream,
    subjects: request.subjects,
    from: toPointer("from", request.from, undefined),
    limit: request.limit ?? 0n,
    follow: request.follow ?? false,
    backward: request.backward ?? false,
  };
}

/** `GetEventRequest` as the domain wants it. */
export function toEventQuery({ event }: GetEventRequest): EventQuery {
  switch (event.case) {
    case "id":
      return { kind: "id", id: event.value };
    case "lastOfSubject":
      return { kind: "last_of_subject", subject: event.value };
    case undefined:
      throw fieldError("MISSING_FIELD", "event", "one of id and last_of_subject is required");
  }
}

/** `PublishEventRequest` as the domain wants it; `trace` is what its event shall carry. */
export function toNewEvent(request: PublishEventRequest, trace: TraceContext): NewEvent {
  const data = required("data", request.data);
  return {
    subject: request.subject,
    typeUrl: data.typeUrl,
    value: data.value,
    publishedAt: request.timestamp,
    idempotencyKey: request.idempotencyKey,
    expectedLastId: request.expectedLastId === undefined ? undefined : BigInt(request.expectedLastId),
    expectedLastIdScope: request.expectedLastIdScope === undefined ? undefined : toScope(request),
    attributes: request.attributes,
    timeToLiveMs: durationMs("time_to_live", request.timeToLive),
    deliverAt: request.deliverAt,
    traceParent: trace.traceParent,
    traceState: trace.traceState,
  };
}

function toScope({ expectedLastId, expectedLastIdScope: scope }: PublishEventRequest): ExpectedLastIdScope | undefined {
  const field = "expected_last_id_scope";
  if (scope === Scope.UNSPECIFIED) return undefined;
  if (scope !== Scope.SUBJECT && scope !== Scope.STREAM)
    throw fieldError("INVALID_VALUE", field, `${scope} is no scope`);
  if (expectedLastId === undefined) throw fieldError("CONFLICTING_FIELDS", field, "needs expected_last_id");
  return scope === Scope.STREAM ? "stream" : "subject";
}

/** Throws unless the request has a value. */
export function required<T>(field: string, value: T | undefined): T {
  if (value === undefined) throw new WindshiftError("MISSING_FIELD", `${field}: is required`, { field });
  return value;
}

/** What administration tells, as messages: the way back from `convert.ts`. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { fromBinary } from "@bufbuild/protobuf";
import { type Timestamp as TimestampMessage, timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { Listed } from "../admin/call.ts";
import type { ConsumerReport } from "../admin/consumers.ts";
import type { ConsumerDescription } from "../admin/describe-consumer.ts";
import type { StreamDescription } from "../admin/describe-stream.ts";
import type { Page, PageRequest } from "../admin/paging.ts";
import type { Replication } from "../admin/replication.ts";
import type { ResetResult, ResetSpec } from "../admin/reset.ts";
import type { StoreDescription } from "../admin/stores.ts";
import type { PurgeSpec } from "../admin/streams.ts";
import type { WindshiftError } from "../errors.ts";
import { fieldError } from "../errors.ts";
import type { DeadLetter, DeadLetterRound } from "../events/dead-letter.ts";
import type { LetterChoice } from "../events/dead-letters.ts";
import type { DeliveryPolicy } from "../events/delivery-policy.ts";
import { typeUrlOf } from "../events/headers.ts";
import type { StreamPointer } from "../events/stream-pointer.ts";
import type { SourceSpec, StreamSpec } from "../events/streams.ts";
import { type Timestamp, parseTimestamp } from "../events/timestamp.ts";
import { StatusSchema } from "../gen/google/rpc/status_pb.ts";
import {
  type ConsumerSchema,
  type DeadLetterSchema,
  DeadLetter_Cause,
  type DeleteDeadLettersRequest,
  type GetConsumerResponseSchema,
  type PurgeStreamRequest,
  type ReplicationSchema,
  type ResetConsumerRequest,
  type ResetConsumerResponseSchema,
  type StoreSchema,
  type StreamSchema,
  Stream_Retention as Retention,
} from "../gen/windshift/admin/v1alpha1/admin_pb.ts";
import {
  type DeliveryPolicySchema,
  type EnsureConsumerRequestSchema,
  type EnsureStreamRequestSchema,
  EnsureStreamRequest_DiscardPolicy as DiscardPolicy,
  EnsureStreamRequest_StorageType as StorageType,
  type EnsureStreamRequest_StreamSourceSchema,
  type StreamPointerSchema,
} from "../gen/windshift/events/v1alpha1/events_pb.ts";
import { required, toDuration, toPointer } from "./convert.ts";
import { toStatus } from "./errors.ts";

type Init<Schema extends Parameters<typeof fromBinary>[0]> = MessageInitShape<Schema>;

/** The page that a request asks for. */
export function toPage(request: {
  readonly pageSize?: number | undefined;
  readonly pageToken?: string | undefined;
}): PageRequest {
  return { size: request.pageSize, token: request.pageToken };
}

/** `PurgeStreamRequest` as the domain wants it. */
export function toPurgeSpec({ stream, subject, events }: PurgeStreamRequest): PurgeSpec {
  switch (events.case) {
    case "all":
      if (!events.value) throw fieldError("INVALID_VALUE", "all", "false says nothing: leave it out");
      return { stream, subject, events: { kind: "all" } };
    case "beforeId":
      return { stream, subject, events: { kind: "before", id: events.value } };
    case "keep":
      return { stream, subject, events: { kind: "keep", count: events.value } };
    case undefined:
      throw fieldError("MISSING_FIELD", "events", "one of all, before_id and keep is required");
  }
}

/** The entries of a page as messages; `named` is what one has that cannot be asked, besides its error. */
export function fromPage<Entry extends object, Message, Names extends object>(
  { entries, nextToken }: Page<Listed<Entry>>,
  convert: (entry: Entry) => Message,
  named: (name: string) => Names,
): { readonly entries: (Message | (Names & { error: Init<typeof StatusSchema> }))[]; readonly nextPageToken: string } {
  return {
    entries: entries.map((entry) =>
      "error" in entry ? { ...named(entry.name), error: fromError(entry.error) } : convert(entry),
    ),
    nextPageToken: nextToken,
  };
}

const RETENTIONS: Readonly<Record<StreamDescription["retention"], Retention>> = {
  limits: Retention.LIMITS,
  interest: Retention.INTEREST,
  workqueue: Retention.WORK_QUEUE,
};

/** A stream as the contract shows it. */
export function fromStream(stream: StreamDescription): Init<typeof StreamSchema> {
  const { state } = stream;
  return {
    name: stream.name,
    configuration: fromStreamSpec(stream.spec),
    ...optional("created", stream.created, fromTimestamp),
    state: {
      events: state.events,
      bytes: state.bytes,
      firstId: state.firstId,
      ...optional("firstTime", state.firstTime, fromTimestamp),
      lastId: state.lastId,
      ...optional("lastTime", state.lastTime, fromTimestamp),
      subjects: state.subjects,
      consumers: state.consumers,
    },
    retention: RETENTIONS[stream.retention] ?? Retention.UNSPECIFIED,
    isDeadLetters: stream.isDeadLetters,
    sources: stream.sources.map(({ name, lag, silenceMs, error, filters }) => ({
      name,
      lag,
      ...optional("silence", silenceMs, fromMs),
      ...(error === undefined ? {} : { error }),
      filterSubjects: [...filters],
    })),
    ...optional("replication", stream.replication, fromReplication),
  };
}

function fromStreamSpec(spec: StreamSpec): Init<typeof EnsureStreamRequestSchema> {
  const { retention } = spec;
  return {
    name: spec.name,
    retentionPolicy: {
      ...optional("maxAge", retention.maxAgeMs, fromMs),
      ...optional("maxEvents", retention.maxEvents, same),
      ...optional("maxEventsPerSubject", retention.maxEventsPerSubject, same),
      ...optional("maxBytes", retention.maxBytes, same),
      discardPolicy: retention.discard === "new" ? DiscardPolicy.NEW : DiscardPolicy.OLD,
      ...optional("discardNewPerSubject", retention.discardNewPerSubject, same),
    },
    source: fromSource(spec.source),
    storage: fromStorage(spec),
    ...optional("deduplicationWindow", spec.deduplicationWindowMs, fromMs),
    ...optional("maxEventSize", spec.maxEventBytes, same),
    ...optional("allowTimeToLive", spec.allowTimeToLive, same),
    ...optional("allowScheduling", spec.allowScheduling, same),
    ...optional("allowAtomic", spec.allowAtomic, same),
  };
}

function fromStorage({ storage, replicas }: Pick<StreamSpec, "storage" | "replicas">) {
  return {
    type: storage === "memory" ? StorageType.MEMORY : StorageType.FILE,
    ...optional("replicas", replicas, same),
  };
}

function fromSource(source: StreamSpec["source"]): NonNullable<Init<typeof EnsureStreamRequestSchema>["source"]> {
  switch (source.kind) {
    case "subjects":
      return { case: "subjects", value: { subjects: [...source.subjects] } };
    case "mirror":
      return { case: "mirror", value: fromSourceSpec(source.source) };
    case "aggregate":
      return { case: "aggregate", value: { sources: source.sources.map(fromSourceSpec) } };
  }
}

function fromSourceSpec({ stream, from, filters }: SourceSpec): Init<typeof EnsureStreamRequest_StreamSourceSchema> {
  return { name: stream, from: fromPointer(from), filterSubjects: [...filters] };
}

/** A place in a stream. */
function fromPointer(pointer: StreamPointer): Init<typeof StreamPointerSchema> {
  switch (pointer.kind) {
    case "start":
      return { pointer: { case: "start", value: true } };
    case "end":
      return { pointer: { case: "end", value: true } };
    case "time":
      return { pointer: { case: "time", value: fromTimestamp(pointer.time) } };
    case "offset":
      return { pointer: { case: "offset", value: pointer.offset } };
  }
}

/** A store as the contract shows it. */
export function fromStore(store: StoreDescription): Init<typeof StoreSchema> {
  return {
    name: store.name,
    ...optional("created", store.created, fromTimestamp),
    entries: store.entries,
    keys: store.keys,
    bytes: store.bytes,
    lastRevision: store.lastRevision,
    history: store.history,
    ...optional("maxAge", store.maxAgeMs, fromMs),
    ...optional("maxBytes", store.maxBytes, same),
    ...optional("maxValueSize", store.maxValueBytes, same),
    allowTimeToLive: store.allowsTimeToLive,
    storage: fromStorage(store),
    ...optional("replication", store.replication, fromReplication),
  };
}

/** A consumer as the contract shows it. */
export function fromConsumer(consumer: ConsumerDescription): Init<typeof ConsumerSchema> {
  const { state } = consumer;
  return {
    stream: consumer.stream,
    id: consumer.id,
    configuration: fromConsumerSpec(consumer),
    ...optional("created", consumer.created, fromTimestamp),
    state: {
      pending: state.pending,
      inFlight: state.inFlight,
      redelivered: state.redelivered,
      lastDeliveredId: state.lastDeliveredId,
      ...optional("lastDeliveredTime", state.lastDeliveredTime, fromTimestamp),
      settledId: state.settledId,
      ...optional("lastSettledTime", state.lastSettledTime, fromTimestamp),
    },
    isUsable: consumer.isUsable,
    ...optional("pausedUntil", consumer.pausedUntil, fromTimestamp),
    ...optional("replication", consumer.replication, fromReplication),
  };
}

function fromConsumerSpec(consumer: ConsumerDescription): Init<typeof EnsureConsumerRequestSchema> {
  return {
    stream: consumer.stream,
    ...(consumer.isDurable ? { name: consumer.id } : {}),
    subjects: [...consumer.subjects],
    ...optional("from", consumer.from, fromPointer),
    ...optional("processingTimeout", consumer.processingTimeoutMs, fromMs),
    ...optional("deliveryPolicy", consumer.deliveryPolicy, fromPolicy),
    ...optional("maxProcessingEvents", consumer.maxProcessingEvents, same),
    ...optional("inactiveThreshold", consumer.inactiveThresholdMs, fromMs),
  };
}

function fromPolicy({ maxAttempts, backoffMs, deadLetterStream }: DeliveryPolicy): Init<typeof DeliveryPolicySchema> {
  return {
    ...(maxAttempts === 0 ? {} : { maxAttempts }),
    backoff: backoffMs.map(fromMs),
    ...optional("deadLetter", deadLetterStream, (stream) => ({ stream })),
  };
}

/** What there is to know of a consumer. */
export function fromConsumerReport(report: ConsumerReport): Init<typeof GetConsumerResponseSchema> {
  return {
    consumer: fromConsumer(report.consumer),
    ...optional("oldestUnsettledAge", report.oldestUnsettledAgeMs, fromMs),
    subscriptions: report.subscriptions.map(({ server, client, openedMs, window, held }) => ({
      server,
      client,
      opened: timestampFromMs(openedMs),
      window: BigInt(window),
      held: BigInt(held),
    })),
    servers: report.servers,
  };
}

/** What a reset has done. */
export function fromReset(result: ResetResult): Init<typeof ResetConsumerResponseSchema> {
  const { consumer, forgotten, previousSettledId, endedSubscriptions, isRecreated } = result;
  return { consumer: fromConsumer(consumer), forgotten, previousSettledId, endedSubscriptions, recreated: isRecreated };
}

/** `ResetConsumerRequest` as the domain wants it. */
export function toResetSpec({ stream, id, to }: ResetConsumerRequest): ResetSpec {
  const { pointer } = required("to", to);
  if (pointer.case === undefined)
    throw fieldError("MISSING_FIELD", "to", "one of start, end, time and offset is required");
  if (pointer.case === "offset" && pointer.value === 0n) throw fieldError("INVALID_VALUE", "to.offset", "0 is no id");
  return { stream, id, to: toPointer("to", to, { kind: "end" }) };
}

const CAUSES: Readonly<Record<DeadLetterRound["cause"], DeadLetter_Cause>> = {
  rejected: DeadLetter_Cause.REJECTED,
  attempts: DeadLetter_Cause.ATTEMPTS,
};

/** A dead letter as the contract shows it. */
export function fromLetter(letter: DeadLetter, withData: boolean): Init<typeof DeadLetterSchema> {
  const { headers, publishedAt, payload } = letter.event;
  const { idempotencyKey } = letter;
  return {
    ...fromRound(letter),
    subject: letter.subject,
    headers: {
      timestamp: fromTimestamp(publishedAt),
      ...optional("idempotencyKey", idempotencyKey, same),
      ...optional("traceParent", headers.traceParent, same),
      ...optional("traceState", headers.traceState, same),
      attributes: Object.fromEntries(headers.attributes ?? []),
    },
    ...(withData ? { data: { typeUrl: typeUrlOf(headers.dataType), value: payload } } : {}),
    dataType: headers.dataType ?? "",
    dataSize: BigInt(payload.length),
    history: letter.history.map(fromRound),
  };
}

function fromRound({ id, cause, attempts, reason, time }: DeadLetterRound) {
  return {
    id,
    cause: CAUSES[cause],
    attempts: BigInt(attempts),
    ...optional("reason", reason, same),
    ...optional("time", parseTimestamp(time), fromTimestamp),
  };
}

/** Which dead letters a request means. */
export function toLetterChoice(events: DeleteDeadLettersRequest["events"]): LetterChoice {
  switch (events.case) {
    case "all":
      if (!events.value) throw fieldError("INVALID_VALUE", "all", "false says nothing: leave it out");
      return "all";
    case "ids":
      return events.value.ids;
    case undefined:
      throw fieldError("MISSING_FIELD", "events", "one of all and ids is required");
  }
}

/** A time that a request has to name. */
export function toTimestamp(field: string, time: TimestampMessage | undefined): Timestamp {
  const { seconds, nanos } = required(field, time);
  return { seconds: Number(seconds), nanos };
}

/** The NATS servers that keep something. */
function fromReplication({ cluster, leader, followers }: Replication): Init<typeof ReplicationSchema> {
  return {
    cluster,
    leader,
    followers: followers.map(({ server, isCurrent, isOffline, silenceMs, lag }) => ({
      server,
      isCurrent,
      isOffline,
      ...optional("silence", silenceMs, fromMs),
      lag,
    })),
  };
}

/** An error as a field of a message: what a call would have failed with. */
export function fromError(error: WindshiftError): Init<typeof StatusSchema> {
  return fromBinary(StatusSchema, toStatus(error).details!);
}

/** A time as the generated messages have it. */
export function fromTimestamp({ seconds, nanos }: Timestamp): { seconds: bigint; nanos: number } {
  return { seconds: BigInt(seconds), nanos };
}

/** A duration as the generated messages have it. */
function fromMs(ms: number): { seconds: bigint; nanos: number } {
  const { seconds, nanos } = toDuration(ms);
  return { seconds: BigInt(seconds), nanos };
}

/** A field that is there where its value is. */
function optional<Name extends string, Value, Result>(
  name: Name,
  value: Value | undefined,
  convert: (value: Value) => Result,
): { [K in Name]?: Result } {
  return (value === undefined ? {} : { [name]: convert(value) }) as { [K in Name]?: Result };
}

function same<Value>(value: Value): Value {
  return value;
}

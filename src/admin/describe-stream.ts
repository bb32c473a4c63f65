/** What JetStream says of a stream, in the words in which it would be asked for: the way back from `events/streams.ts`. */
import type { StreamConfig, StreamInfo, StreamSource, StreamSourceInfo } from "@nats-io/jetstream";
import { isScheduleSubject } from "../events/schedule.ts";
import type { StreamPointer } from "../events/stream-pointer.ts";
import type { SourceSpec, StreamSpec } from "../events/streams.ts";
import { type Timestamp, parseTimestamp } from "../events/timestamp.ts";
import { milliseconds } from "../nats/units.ts";
import { type Replication, limitOf, replicationOf, silenceMs, subjectsOf, timeOf } from "./replication.ts";

/** A stream as it is. */
export interface StreamDescription {
  readonly name: string;
  readonly spec: StreamSpec;
  readonly created: Timestamp | undefined;
  readonly state: StreamState;
  readonly retention: "limits" | "interest" | "workqueue";
  readonly isDeadLetters: boolean;
  readonly sources: readonly SourceState[];
  readonly replication: Replication | undefined;
}

/** How much there is in a stream. */
export interface StreamState {
  readonly events: bigint;
  readonly bytes: bigint;
  readonly firstId: bigint;
  readonly firstTime: Timestamp | undefined;
  readonly lastId: bigint;
  readonly lastTime: Timestamp | undefined;
  readonly subjects: bigint;
  readonly consumers: bigint;
}

/** How a copy of another stream is doing. */
export interface SourceState {
  readonly name: string;
  readonly lag: bigint;
  readonly silenceMs: number | undefined;
  readonly error: string | undefined;
  readonly filters: readonly string[];
}

const DEAD_LETTERS = "dead-letters.";

/** All that is told of a stream. */
export function describeStream({ config, created, state, cluster, mirror, sources }: StreamInfo): StreamDescription {
  const subjects = subjectsOf(config);
  return {
    name: config.name,
    spec: specOf(config),
    created: timeOf(created),
    state: {
      events: BigInt(state.messages),
      bytes: BigInt(state.bytes),
      firstId: BigInt(state.first_seq),
      firstTime: state.messages === 0 ? undefined : timeOf(state.first_ts),
      lastId: BigInt(state.last_seq),
      lastTime: timeOf(state.last_ts),
      subjects: BigInt(state.num_subjects ?? 0),
      consumers: BigInt(state.consumer_count),
    },
    retention: config.retention,
    isDeadLetters: subjects.length > 0 && subjects.every((subject) => subject.startsWith(DEAD_LETTERS)),
    sources: [...(mirror === undefined ? [] : [mirror]), ...(sources ?? [])].map(sourceState),
    replication: replicationOf(cluster),
  };
}

function specOf(config: StreamConfig): StreamSpec {
  return {
    name: config.name,
    source: sourceOf(config),
    retention: {
      maxAgeMs: config.max_age > 0 ? milliseconds(config.max_age) : undefined,
      maxEvents: limitOf(config.max_msgs),
      maxEventsPerSubject: limitOf(config.max_msgs_per_subject),
      maxBytes: limitOf(config.max_bytes),
      discard: config.discard,
      discardNewPerSubject: config.discard_new_per_subject || undefined,
    },
    storage: config.storage,
    replicas: config.num_replicas,
    deduplicationWindowMs: config.duplicate_window > 0 ? milliseconds(config.duplicate_window) : undefined,
    maxEventBytes: config.max_msg_size > 0 ? config.max_msg_size : undefined,
    allowTimeToLive: config.allow_msg_ttl ?? false,
    allowScheduling: config.allow_msg_schedules ?? false,
    allowAtomic: config.allow_atomic ?? false,
  };
}

function sourceOf(config: StreamConfig): StreamSpec["source"] {
  const { mirror, sources } = config;
  if (mirror !== undefined) return { kind: "mirror", source: sourceSpec(mirror) };
  const own = subjectsOf(config).filter((subject) => !isScheduleSubject(subject));
  if (own.length === 0 && sources !== undefined && sources.length > 0) {
    return { kind: "aggregate", sources: sources.map(sourceSpec) };
  }
  return { kind: "subjects", subjects: own };
}

function sourceSpec(source: StreamSource): SourceSpec {
  return { stream: source.name, from: startOf(source), filters: filtersOf(source) };
}

function startOf({ opt_start_seq, opt_start_time }: StreamSource): StreamPointer {
  if (opt_start_seq !== undefined && opt_start_seq > 0) return { kind: "offset", offset: BigInt(opt_start_seq) };
  const time = opt_start_time === undefined ? undefined : parseTimestamp(opt_start_time);
  return time === undefined ? { kind: "start" } : { kind: "time", time };
}

function filtersOf({
  filter_subject,
  subject_transforms,
}: Pick<StreamSource, "filter_subject" | "subject_transforms">): string[] {
  if (filter_subject !== undefined && filter_subject !== "") return [filter_subject];
  return (subject_transforms ?? []).map(({ src }) => src ?? ">");
}

function sourceState(source: StreamSourceInfo): SourceState {
  return {
    name: source.name,
    lag: BigInt(source.lag),
    silenceMs: silenceMs(source.active),
    error: source.error?.description,
    filters: filtersOf(source as Pick<StreamSource, "filter_subject" | "subject_transforms">),
  };
}

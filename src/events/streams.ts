/**
 * Streams: what a request asks for, checked, and turned into JetStream's configuration. Ensuring a stream creates it or
 * brings it to what is asked; settings that this server does not know (description, metadata, placement, …) stay as
 * whoever made them left them.
 */
import type { StreamConfig, StreamInfo, StreamSource } from "@nats-io/jetstream";
import { WindshiftError, fieldError, quote } from "../errors.ts";
import { checkName } from "../names.ts";
import type { ApiCall, JetStreamApi } from "../nats/api.ts";
import { JetStreamCode, jetStreamCode, writing } from "../nats/errors.ts";
import { limit, nanoseconds } from "../nats/units.ts";
import { checkCount, checkFilters } from "./filters.ts";
import { isScheduleSubject, scheduleSubjects } from "./schedule.ts";
import { type FeatureConfig, type StreamFeatures, checkFeatures, featureConfig } from "./stream-features.ts";
import { type StreamPointer, sourceStart } from "./stream-pointer.ts";
import { parseTimestamp } from "./timestamp.ts";

/** Where a mirror or aggregate takes events from. */
export interface SourceSpec {
  readonly stream: string;
  readonly from: StreamPointer;
  /** Subjects to take; none takes all. */
  readonly filters: readonly string[];
}

/** What a stream shall be. Undefined fields take the defaults that the contract names. */
export interface StreamSpec extends StreamFeatures {
  readonly name: string;
  readonly source:
    | { readonly kind: "subjects"; readonly subjects: readonly string[] }
    | { readonly kind: "mirror"; readonly source: SourceSpec }
    | { readonly kind: "aggregate"; readonly sources: readonly SourceSpec[] };
  readonly retention: {
    /** 0 or undefined: for ever. */
    readonly maxAgeMs?: number | undefined;
    readonly maxEvents?: bigint | undefined;
    readonly maxEventsPerSubject?: bigint | undefined;
    readonly maxBytes?: bigint | undefined;
    readonly discard?: "old" | "new" | undefined;
    readonly discardNewPerSubject?: boolean | undefined;
  };
  readonly storage?: "file" | "memory" | undefined;
  readonly replicas?: number | undefined;
  /** 0 or undefined: two minutes, or `maxAgeMs` where that is shorter. */
  readonly deduplicationWindowMs?: number | undefined;
  readonly maxEventBytes?: number | undefined;
}

const DEFAULT_DEDUPLICATION_MS = 120_000;
const MIN_DURATION_MS = 100;
const MAX_REPLICAS = 5;
/** What would collect `$JS.…` and `$SYS.…`: nats-server allows that only without acknowledgements. */
const RESERVED = /^(?:\*\.|>)/;
const MAX_INT32 = 2 ** 31 - 1;
/** Time of each source's end, by its name. */
type SourceEnds = ReadonlyMap<string, string>;

/** Creates and changes streams. */
export class Streams {
  readonly #api: JetStreamApi;
  readonly #defaultReplicas: number;

  constructor(api: JetStreamApi, options: { readonly defaultReplicas: number }) {
    this.#api = api;
    this.#defaultReplicas = options.defaultReplicas;
  }

  /** Creates the stream, or changes it to the given configuration. The same again changes nothing. */
  async ensure(spec: StreamSpec, call: ApiCall): Promise<void> {
    checkSpec(spec);
    checkFeatures(spec, this.#api.connection);
    await writing(this.#api.inTurn({ ...call, write: true }, async () => this.#ensure(spec, call)));
  }

  async #ensure(spec: StreamSpec, call: ApiCall): Promise<void> {
    const existing = await this.#find(spec.name, call);
    if (existing !== undefined) {
      await this.#update(existing, spec, call);
      return;
    }
    const ends = await this.#endsOfSources(spec, [], call);
    const config = { ...this.#config(spec, undefined, ends), num_replicas: spec.replicas ?? this.#defaultReplicas };
    try {
      await this.#api.createStream(config, { ...call, names: { stream: spec.name } });
    } catch (error) {
      // Somebody else was faster, with another configuration.
      if (jetStreamCode(error) !== JetStreamCode.streamNameInUse) throw error;
      const made = await this.#find(spec.name, call);
      if (made === undefined) throw error;
      await this.#update(made, spec, call);
    }
  }

  async #update(existing: StreamInfo, spec: StreamSpec, call: ApiCall): Promise<void> {
    const { config: current } = existing;
    checkUnchangeable(current, spec);
    const known = [current.mirror, ...(current.sources ?? [])].flatMap((source) => source?.name ?? []);
    const ends = await this.#endsOfSources(spec, known, call);
    const wanted = this.#config(spec, current, ends);
    const replicas = spec.replicas ?? current.num_replicas;
    checkReplicas(existing, replicas);
    const changed: Record<string, unknown> = { ...current, ...wanted, num_replicas: replicas };
    if (isSame(current, changed)) return;
    await this.#api.updateStream(changed as Partial<StreamConfig> & { name: string }, {
      ...call,
      names: { stream: spec.name },
    });
  }

  async #find(name: string, call: ApiCall): Promise<StreamInfo | undefined> {
    try {
      return await this.#api.streamInfo(name, { ...call, names: { stream: name } });
    } catch (error) {
      if (error instanceof WindshiftError && error.reason === "STREAM_NOT_FOUND") return undefined;
      throw error;
    }
  }

  /**
   * Where each new source ends now, by the clock of NATS that also stamps its events; ours may be another. Throws where
   * one does not exist: JetStream would accept it and then wait for it in silence.
   */
  async #endsOfSources(spec: StreamSpec, known: readonly string[], call: ApiCall): Promise<SourceEnds> {
    const ends = new Map<string, string>();
    for (const [field, { stream }] of sourcesOf(spec)) {
      if (known.includes(stream) || ends.has(stream)) continue;
      const found = await this.#find(stream, call);
      if (found === undefined) {
        const text = `${field}.name: there is no stream ${quote(stream)}`;
        throw new WindshiftError("STREAM_NOT_FOUND", text, { field: `${field}.name`, metadata: { stream } });
      }
      // NATS before 2.10 does not tell its time.
      ends.set(stream, found.ts ?? new Date().toISOString());
    }
    return ends;
  }

  /** The part of JetStream's configuration that a request decides. */
  #config(
    spec: StreamSpec,
    current: StreamConfig | undefined,
    ends: SourceEnds,
  ): Partial<StreamConfig> & { name: string } {
    const { retention } = spec;
    const maxAgeMs = retention.maxAgeMs ?? 0;
    const window = spec.deduplicationWindowMs ?? 0;
    const defaultWindow = maxAgeMs > 0 ? Math.min(maxAgeMs, DEFAULT_DEDUPLICATION_MS) : DEFAULT_DEDUPLICATION_MS;
    const features = featureConfig(spec, current);
    const { allow_msg_schedules: canSchedule } = { ...(current as FeatureConfig | undefined), ...features };
    return {
      name: spec.name,
      ...features,
      ...sourceConfig(spec, current, ends, canSchedule === true ? [scheduleSubjects(spec.name)] : []),
      max_age: nanoseconds(maxAgeMs),
      max_msgs: limit(retention.maxEvents),
      max_bytes: limit(retention.maxBytes),
      max_msgs_per_subject: limit(retention.maxEventsPerSubject),
      max_msg_size: spec.maxEventBytes === undefined || spec.maxEventBytes > MAX_INT32 ? -1 : spec.maxEventBytes || -1,
      discard: (retention.discard ?? "old") as StreamConfig["discard"],
      discard_new_per_subject: retention.discardNewPerSubject ?? false,
      storage: (spec.storage ?? "file") as StreamConfig["storage"],
      duplicate_window: nanoseconds(window > 0 ? window : defaultWindow),
      ...(current === undefined ? { retention: "limits" as StreamConfig["retention"] } : {}),
      allow_direct: true,
    };
  }
}

function sourcesOf(spec: StreamSpec): [field: string, source: SourceSpec][] {
  if (spec.source.kind === "mirror") return [["mirror", spec.source.source]];
  if (spec.source.kind === "subjects") return [];
  return spec.source.sources.map((source, index) => [`aggregate.sources[${index}]`, source]);
}

function checkSpec(spec: StreamSpec): void {
  checkName("name", spec.name);
  if (spec.source.kind === "subjects") {
    const field = "subjects.subjects";
    if (spec.source.subjects.length === 0) throw fieldError("MISSING_FIELD", field, "must name at least one subject");
    checkFilters(field, spec.source.subjects);
    for (const [index, subject] of spec.source.subjects.entries()) {
      const problem = RESERVED.test(subject)
        ? "takes in the subjects of NATS itself"
        : isScheduleSubject(subject) && "is where scheduled events wait";
      if (problem !== false) throw fieldError("INVALID_SUBJECT", `${field}[${index}]`, `${quote(subject)} ${problem}`);
    }
  }
  if (spec.source.kind === "aggregate" && spec.source.sources.length === 0) {
    throw fieldError("MISSING_FIELD", "aggregate.sources", "must name at least one stream");
  }
  const sources = sourcesOf(spec);
  checkCount("aggregate.sources", sources.length);
  if (spec.source.kind === "aggregate") {
    checkCount("aggregate.sources.filter_subjects", sources.flatMap(([, source]) => source.filters).length);
  }
  const seen = new Set<string>();
  for (const [field, source] of sources) {
    checkName(`${field}.name`, source.stream);
    if (source.stream === spec.name) {
      throw fieldError("INVALID_VALUE", `${field}.name`, `${quote(source.stream)} is the stream itself`);
    }
    checkFilters(`${field}.filter_subjects`, source.filters);
    const identity = JSON.stringify([source.stream, ...source.filters]);
    if (seen.has(identity)) {
      throw fieldError("CONFLICTING_FIELDS", field, `${quote(source.stream)} is there already with the same filters`);
    }
    seen.add(identity);
  }
  checkLimits(spec);
}

function checkLimits({ retention, replicas, deduplicationWindowMs = 0 }: StreamSpec): void {
  const { maxAgeMs = 0, discard, discardNewPerSubject, maxEventsPerSubject = 0n } = retention;
  checkDuration("retention_policy.max_age", maxAgeMs);
  checkDuration("deduplication_window", deduplicationWindowMs);
  if (maxAgeMs > 0 && deduplicationWindowMs > maxAgeMs) {
    const problem = `${deduplicationWindowMs} ms is longer than retention_policy.max_age, ${maxAgeMs} ms`;
    throw fieldError("CONFLICTING_FIELDS", "deduplication_window", problem);
  }
  if (discardNewPerSubject === true && discard !== "new") {
    const problem = "needs discard_policy to be DISCARD_POLICY_NEW";
    throw fieldError("CONFLICTING_FIELDS", "retention_policy.discard_new_per_subject", problem);
  }
  if (discardNewPerSubject === true && limit(maxEventsPerSubject) < 0) {
    const problem = "needs max_events_per_subject";
    throw fieldError("CONFLICTING_FIELDS", "retention_policy.discard_new_per_subject", problem);
  }
  if (replicas !== undefined && (replicas < 1 || replicas > MAX_REPLICAS)) {
    throw fieldError("INVALID_VALUE", "storage.replicas", `${replicas} is not between 1 and ${MAX_REPLICAS}`);
  }
}

function checkDuration(field: string, ms: number): void {
  if (ms !== 0 && ms < MIN_DURATION_MS) {
    throw fieldError("INVALID_VALUE", field, `${ms} ms is not at least ${MIN_DURATION_MS} ms, or 0 for the default`);
  }
}

function checkUnchangeable(current: StreamConfig, spec: StreamSpec): void {
  const storage = spec.storage ?? "file";
  if (current.storage !== storage) {
    throw unchangeable("storage.type", `the stream is stored in ${current.storage}, not in ${storage}`);
  }
  if (spec.source.kind !== "mirror") return;
  if (current.mirror === undefined) throw unchangeable("mirror", "the stream exists and is no mirror");
  if (current.mirror.name !== spec.source.source.stream) {
    throw unchangeable("mirror.name", `the stream mirrors ${quote(current.mirror.name)}`);
  }
  const wanted = oneSource(spec.source.source, current.mirror, new Map());
  if (!sameStart(wanted, current.mirror)) throw unchangeable("mirror.from", "a mirror's start cannot be changed");
  if (!sameFilters(wanted, current.mirror)) {
    throw unchangeable("mirror.filter_subjects", "a mirror's filter cannot be changed");
  }
}

/** A nats-server without a cluster takes more replicas at an update, and makes none. */
function checkReplicas({ config, cluster }: StreamInfo, replicas: number): void {
  if (replicas <= config.num_replicas || cluster?.name !== undefined) return;
  const problem = `${replicas} replicas need a NATS cluster`;
  throw fieldError("CONFIGURATION_REFUSED", "storage.replicas", problem);
}

function unchangeable(field: string, problem: string): WindshiftError {
  return fieldError("UNCHANGEABLE_SETTING", field, problem);
}

function sourceConfig(
  spec: StreamSpec,
  current: StreamConfig | undefined,
  ends: SourceEnds,
  moreSubjects: readonly string[],
): Partial<StreamConfig> {
  const none = { mirror: undefined, sources: undefined, subjects: undefined } as unknown as Partial<StreamConfig>;
  switch (spec.source.kind) {
    case "subjects":
      return { ...none, subjects: [...spec.source.subjects, ...moreSubjects] };
    case "mirror":
      return { ...none, mirror: { ...current?.mirror, ...oneSource(spec.source.source, current?.mirror, ends) } };
    case "aggregate": {
      const sources = spec.source.sources.map((source) => {
        const wanted = oneSource(source, undefined, ends);
        // One stream can be there several times, with other filters.
        const same = current?.sources?.find((each) => each.name === source.stream && sameFilters(each, wanted));
        return same === undefined ? wanted : oneSource(source, same, ends);
      });
      return { ...none, sources };
    }
  }
}

/** One source in JetStream's words. `end` means the end at the time of the first call: it stays where it was. */
function oneSource(source: SourceSpec, current: StreamSource | undefined, ends: SourceEnds): StreamSource {
  const start =
    source.from.kind === "end" && current?.opt_start_time !== undefined
      ? { opt_start_time: current.opt_start_time }
      : sourceStart(source.from, ends.get(source.stream));
  const [first, ...others] = source.filters;
  // A single filter has a field of its own; several go as transforms that change nothing.
  const filter =
    others.length > 0
      ? { subject_transforms: source.filters.map((src) => ({ src, dest: "" })) }
      : first === undefined
        ? {}
        : { filter_subject: first };
  return { name: source.stream, ...start, ...filter };
}

function sameStart(a: StreamSource, b: StreamSource): boolean {
  const time = (source: StreamSource) =>
    source.opt_start_time === undefined ? "" : JSON.stringify(parseTimestamp(source.opt_start_time));
  return (a.opt_start_seq ?? 0) === (b.opt_start_seq ?? 0) && time(a) === time(b);
}

function sameFilters(a: StreamSource, b: StreamSource): boolean {
  const filters = ({ filter_subject, subject_transforms }: StreamSource) =>
    JSON.stringify([filter_subject ?? "", (subject_transforms ?? []).map(({ src }) => src)]);
  return filters(a) === filters(b);
}

/** Compares configurations by their content: absent, false and empty are the same to JetStream. */
function isSame(a: unknown, b: unknown): boolean {
  return JSON.stringify(normal(a)) === JSON.stringify(normal(b));
}

function normal(value: unknown): unknown {
  if (Array.isArray(value)) return value.length === 0 ? undefined : value.map(normal);
  if (typeof value !== "object" || value === null) return value === false || value === "" ? undefined : value;
  const entries = Object.entries(value).map(([key, inner]) => [key, normal(inner)] as const);
  return Object.fromEntries(
    entries.filter(([, inner]) => inner !== undefined).toSorted(([a], [b]) => (a < b ? -1 : 1)),
  );
}

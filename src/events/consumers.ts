/**
 * Consumers: what remembers which events of a stream were processed. Ensuring one creates it or changes what can be
 * changed; settings that this server does not know stay.
 */
import { randomUUID } from "node:crypto";
import type { ConsumerConfig, ConsumerInfo } from "@nats-io/jetstream";
import { WindshiftError, fieldError, quote } from "../errors.ts";
import { checkName } from "../names.ts";
import type { ApiCall, JetStreamApi } from "../nats/api.ts";
import { JetStreamCode, jetStreamCode, writing } from "../nats/errors.ts";
import { limit, nanoseconds } from "../nats/units.ts";
import type { DeadLetterStreams } from "./dead-letter-streams.ts";
import {
  type DeliveryPolicySpec,
  POLICY_KEY,
  decodePolicy,
  encodePolicy,
  isSamePolicy,
  nextVersion,
  toPolicy,
  withoutOwnLimit,
} from "./delivery-policy.ts";
import { checkFilters } from "./filters.ts";
import { type NamedConfig, forgetSettings } from "./kept-settings.ts";
import type { OpenSubscriptions } from "./open-subscriptions.ts";
import { type StreamPointer, deliverPolicy } from "./stream-pointer.ts";

/** What a consumer shall be. */
export interface ConsumerSpec {
  readonly stream: string;
  /** Durable under this name; ephemeral without. */
  readonly name?: string | undefined;
  readonly subjects: readonly string[];
  readonly from: StreamPointer;
  /** 0 or undefined: 30 s. */
  readonly processingTimeoutMs?: number | undefined;
  /** Events that all its subscriptions may hold together; 0: no limit; undefined: as it is, and none for a new one. */
  readonly maxProcessingEvents?: bigint | undefined;
  /** Undefined: as it is, and none for a new one. An empty one: none. */
  readonly deliveryPolicy?: DeliveryPolicySpec | undefined;
  /** Without a subscriber it is removed then. Undefined: as it is, and 30 days or 1 h for a new one. */
  readonly inactiveThresholdMs?: number | undefined;
}

const DEFAULT_PROCESSING_TIMEOUT_MS = 30_000;
/** JetStream takes a nanosecond; below this nobody can answer in time. */
const MIN_PROCESSING_TIMEOUT_MS = 1;
const DURABLE_INACTIVE_MS = 30 * 24 * 3600 * 1000;
const EPHEMERAL_INACTIVE_MS = 3600 * 1000;
const MIN_INACTIVE_MS = 1000;
/** Open pulls of all subscriptions together, up to two each; nats-server cannot change it later. */
const MAX_WAITING = 32_768;

/** Creates, changes and deletes consumers. */
export class Consumers {
  readonly #api: JetStreamApi;
  readonly #open: OpenSubscriptions;
  readonly #deadLetterStreams: DeadLetterStreams;

  constructor(api: JetStreamApi, open: OpenSubscriptions, deadLetterStreams: DeadLetterStreams) {
    this.#api = api;
    this.#open = open;
    this.#deadLetterStreams = deadLetterStreams;
  }

  /** Creates the consumer, or changes what can be changed. Returns its id. */
  async ensure(spec: ConsumerSpec, call: ApiCall): Promise<string> {
    checkSpec(spec);
    const ensure = async (): Promise<string> => this.#ensure(spec.name ?? randomUUID(), spec, call);
    return writing(this.#api.inTurn({ ...call, write: true }, ensure));
  }

  async #ensure(name: string, spec: ConsumerSpec, call: ApiCall): Promise<string> {
    const names = { stream: spec.stream, consumer: name };
    const policy = spec.deliveryPolicy === undefined ? undefined : toPolicy(spec.stream, spec.deliveryPolicy);
    const find = async (): Promise<ConsumerInfo | undefined> =>
      spec.name === undefined ? undefined : this.#find(spec.stream, name, { ...call, names });
    let existing = await find();
    if (policy?.deadLetterStream !== undefined) {
      // A call that is refused leaves no stream behind.
      if (existing !== undefined) checkUsable(existing, "name");
      this.#open.refuseDuringReset(spec.stream, name);
      // Before the policy is there: an event can be given up from then on.
      const { deadLetterStream } = policy;
      const hasWaited = await this.#deadLetterStreams.ensure(deadLetterStream, spec.stream, name, call);
      if (hasWaited) existing = await find();
    }
    if (existing !== undefined) {
      await this.#update(existing, spec, { ...call, names });
      return name;
    }
    try {
      await this.#create(name, spec, { ...call, names });
    } catch (error) {
      if (jetStreamCode(error) !== JetStreamCode.consumerExists) throw error;
      const made = await this.#find(spec.stream, name, { ...call, names });
      if (made === undefined) throw error;
      await this.#update(made, spec, { ...call, names });
    }
    return name;
  }

  /** Rejects with CONSUMER_NOT_FOUND or STREAM_NOT_FOUND where there is none. */
  async delete(stream: string, consumer: string, call: ApiCall): Promise<void> {
    checkName("stream", stream);
    checkName("id", consumer);
    const remove = async (): Promise<void> => {
      this.#open.refuseDuringReset(stream, consumer);
      // What is kept of it since a reset was interrupted, too: nothing is to make it again.
      await forgetSettings(this.#api, stream, consumer, { ...call, names: { stream } });
      await this.#api.deleteConsumer(stream, consumer, { ...call, names: { stream, consumer } });
      // It is gone whatever comes of this; a subject too many does no harm.
      await this.#deadLetterStreams.release(stream, consumer, call).catch(() => undefined);
    };
    await writing(this.#api.inTurn({ ...call, write: true }, remove));
  }

  async #create(name: string, spec: ConsumerSpec, call: ApiCall): Promise<void> {
    const durable = spec.name !== undefined;
    // JetStream gives an ephemeral consumer one replica, whatever its stream has.
    const replicas = durable ? 0 : (await this.#api.streamInfo(spec.stream, call)).config.num_replicas;
    const config = {
      name,
      ...(durable ? { durable_name: name } : {}),
      ...deliverPolicy(spec.from),
      ack_policy: "explicit",
      ack_wait: nanoseconds(timeoutMs(spec)),
      max_deliver: -1,
      ...filters(spec.subjects),
      replay_policy: "instant",
      max_waiting: MAX_WAITING,
      max_ack_pending: limit(spec.maxProcessingEvents),
      inactive_threshold: nanoseconds(
        spec.inactiveThresholdMs ?? (durable ? DURABLE_INACTIVE_MS : EPHEMERAL_INACTIVE_MS),
      ),
      ...policyMetadata(spec, undefined),
      ...(replicas > 1 ? { num_replicas: replicas } : {}),
    } as NamedConfig;
    await this.#put(spec.stream, config, "create", call);
  }

  async #update(existing: ConsumerInfo, spec: ConsumerSpec, call: ApiCall): Promise<void> {
    checkUsable(existing, "name");
    if (existing.config.durable_name === undefined) checkNeedsNoName(spec);
    const { filter_subject: _one, filter_subjects: _several, ...kept } = existing.config;
    const metadata = policyMetadata(spec, existing.config);
    const config = {
      ...kept,
      ...filters(spec.subjects),
      ack_wait: nanoseconds(timeoutMs(spec)),
      ...(spec.maxProcessingEvents === undefined ? {} : { max_ack_pending: limit(spec.maxProcessingEvents) }),
      ...(spec.inactiveThresholdMs === undefined ? {} : { inactive_threshold: nanoseconds(spec.inactiveThresholdMs) }),
      ...metadata,
      ...withoutOwnLimit({ ...kept, ...metadata }),
    };
    if (
      existing.config.ack_wait === config.ack_wait &&
      existing.config.max_ack_pending === config.max_ack_pending &&
      existing.config.inactive_threshold === config.inactive_threshold &&
      existing.config.max_deliver === config.max_deliver &&
      existing.config.metadata?.[POLICY_KEY] === config.metadata?.[POLICY_KEY] &&
      JSON.stringify(filtersOf(existing.config)) === JSON.stringify(spec.subjects)
    ) {
      return;
    }
    await this.#put(spec.stream, config as NamedConfig, "update", call);
  }

  /** A reset would undo what is changed meanwhile. */
  async #put(stream: string, config: NamedConfig, action: "create" | "update", call: ApiCall): Promise<void> {
    this.#open.refuseDuringReset(stream, config.name);
    await this.#api.putConsumer(stream, config, action, call);
  }

  async #find(stream: string, consumer: string, call: ApiCall): Promise<ConsumerInfo | undefined> {
    try {
      return await this.#api.consumerInfo(stream, consumer, call);
    } catch (error) {
      if (error instanceof WindshiftError && error.reason === "CONSUMER_NOT_FOUND") return undefined;
      throw error;
    }
  }
}

/** Throws unless events can be pulled from the consumer, with their payload, and acknowledged one by one. */
export function checkUsable({ stream_name, name, config }: ConsumerInfo, field: string): void {
  const metadata = { stream: stream_name, consumer: name };
  if (config.deliver_subject !== undefined && config.deliver_subject !== "") {
    const text = `${field}: consumer ${quote(name)} pushes its events; only pull consumers can be used`;
    throw new WindshiftError("CONFIGURATION_REFUSED", text, { field, metadata });
  }
  if (config.ack_policy !== "explicit") {
    const text = `${field}: consumer ${quote(name)} has acknowledgement policy ${quote(config.ack_policy)}; it must be explicit`;
    throw new WindshiftError("CONFIGURATION_REFUSED", text, { field, metadata });
  }
  if (config.headers_only === true) {
    const text = `${field}: consumer ${quote(name)} delivers headers only; events would come without their data`;
    throw new WindshiftError("CONFIGURATION_REFUSED", text, { field, metadata });
  }
}

/** The metadata with the policy that is asked for; nothing where that is what is there. */
function policyMetadata(
  { stream, deliveryPolicy }: ConsumerSpec,
  current: ConsumerConfig | undefined,
): { metadata?: Record<string, string> } {
  if (deliveryPolicy === undefined) return {};
  const policy = toPolicy(stream, deliveryPolicy);
  const known = decodePolicy(current?.metadata);
  const stored = known === "unreadable" ? undefined : known;
  // Where nothing is stored, there may be servers that know what was wiped: they have to hear that there shall be none.
  const isSaid = known !== undefined || current === undefined;
  if (known !== "unreadable" && isSaid && isSamePolicy(stored?.policy, policy)) return {};
  const entry = encodePolicy({ policy, version: nextVersion(stored) });
  return { metadata: { ...current?.metadata, [POLICY_KEY]: entry } };
}

/** Dead letters belong to a name that is there again tomorrow. */
function checkNeedsNoName({ deliveryPolicy }: ConsumerSpec): void {
  if (deliveryPolicy?.deadLetter === undefined) return;
  const problem = "needs a consumer with a name of its own";
  throw fieldError("CONFLICTING_FIELDS", "delivery_policy.dead_letter", problem);
}

/** The subjects that a consumer wants; none: all. */
export function filtersOf(config: ConsumerConfig): string[] {
  return config.filter_subjects ?? (config.filter_subject === undefined ? [] : [config.filter_subject]);
}

function filters(subjects: readonly string[]): { filter_subject: string } | { filter_subjects: string[] } {
  return subjects.length === 1 ? { filter_subject: subjects[0]! } : { filter_subjects: [...subjects] };
}

function timeoutMs(spec: ConsumerSpec): number {
  return spec.processingTimeoutMs || DEFAULT_PROCESSING_TIMEOUT_MS;
}

function checkSpec(spec: ConsumerSpec): void {
  checkName("stream", spec.stream);
  if (spec.name !== undefined) checkName("name", spec.name);
  if (spec.subjects.length === 0) throw fieldError("MISSING_FIELD", "subjects", "must name at least one subject");
  checkFilters("subjects", spec.subjects);
  const timeout = spec.processingTimeoutMs ?? 0;
  if (timeout !== 0 && timeout < MIN_PROCESSING_TIMEOUT_MS) {
    const problem = `${timeout} ms is not at least ${MIN_PROCESSING_TIMEOUT_MS} ms`;
    throw fieldError("INVALID_VALUE", "processing_timeout", problem);
  }
  const { inactiveThresholdMs, deliveryPolicy } = spec;
  if (inactiveThresholdMs !== undefined && inactiveThresholdMs < MIN_INACTIVE_MS) {
    const problem = `${inactiveThresholdMs} ms is not at least ${MIN_INACTIVE_MS} ms`;
    throw fieldError("INVALID_VALUE", "inactive_threshold", problem);
  }
  if (spec.name === undefined) checkNeedsNoName(spec);
  if (deliveryPolicy !== undefined) toPolicy(spec.stream, deliveryPolicy);
}

/**
 * Setting a consumer to another place of its stream. NATS from 2.14 on can do that, unless the place is before the one that
 * the consumer was made to begin with; everything else needs the consumer to be deleted and made again under its name.
 *
 * Acknowledgements find their event by its sequence alone, so one of before the reset would settle what is delivered after
 * it. All subscriptions are therefore ended first, on all servers, and none begins until it is over
 * (`events/open-subscriptions.ts`). A server that did not hear of it, cut off from NATS at that time, sees the mark in the
 * consumer's metadata when it is back, before it settles or asks for anything (`nats/pull.ts`).
 *
 * What must not happen is that the consumer is gone and nobody knows what it was. Its settings are kept in the stream's
 * metadata before it is deleted, and forgotten when it is there again; a call for a consumer that is not there goes on from
 * what is kept. Once it is deleted, no deadline of a caller ends the work.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type { ConsumerConfig, ConsumerInfo } from "@nats-io/jetstream";
import { type Reason, WindshiftError, quote } from "../errors.ts";
import { checkUsable } from "../events/consumers.ts";
import { type NamedConfig, forgetSettings, keepSettings, keptSettings } from "../events/kept-settings.ts";
import type { OpenSubscriptions } from "../events/open-subscriptions.ts";
import type { StreamPointer } from "../events/stream-pointer.ts";
import type { ApiCall, JetStreamApi } from "../nats/api.ts";
import { RESET_KEY, newResetMark } from "../nats/consumer-reset.ts";
import { JetStreamCode, jetStreamCode, writing } from "../nats/errors.ts";
import type { Reader } from "../nats/get.ts";
import { resetConsumer } from "../nats/management.ts";
import { hasNats } from "../nats/version.ts";
import type { AdminCall, AdminLogger } from "./call.ts";
import { checkNames } from "./consumers.ts";
import { type ConsumerDescription, describeConsumer } from "./describe-consumer.ts";
import { type Place, placeOf } from "./place.ts";

/** Which consumer to set where. */
export interface ResetSpec {
  readonly stream: string;
  readonly id: string;
  readonly to: StreamPointer;
}

/** What a reset has done. */
export interface ResetResult {
  /** The consumer right after. */
  readonly consumer: ConsumerDescription;
  /** Events that were delivered and not settled. */
  readonly forgotten: bigint;
  readonly previousSettledId: bigint;
  readonly endedSubscriptions: number;
  /** It was deleted and made again. */
  readonly isRecreated: boolean;
}

interface Found {
  /** Undefined while it is not there. */
  readonly before: ConsumerInfo | undefined;
  readonly config: ConsumerConfig | NamedConfig;
  /** NATS can set it back. */
  readonly isSettable: boolean;
}

/** What {@link ConsumerReset} works on. */
export interface ConsumerResetDependencies {
  readonly api: JetStreamApi;
  readonly reader: Reader;
  readonly open: OpenSubscriptions;
  readonly logger: AdminLogger;
}

/** Once a consumer is deleted, making it again is tried for so long: no longer than others wait for it. */
const MAX_CREATING_MS = 15_000;
const RETRY_MS = 200;
const RETRY_AFTER_MS = 1_000;
const UNANSWERED = new Set<Reason>(["NATS_UNAVAILABLE", "NO_LEADER", "DEADLINE_EXCEEDED"]);
/** Only consumers that begin somewhere in what is stored can be set back by NATS. */
const RESETTABLE = new Set<string>(["all", "by_start_sequence", "by_start_time"]);

/** Resets consumers. */
export class ConsumerReset {
  readonly #dependencies: ConsumerResetDependencies;

  constructor(dependencies: ConsumerResetDependencies) {
    this.#dependencies = dependencies;
  }

  /** Rejects with CONSUMER_NOT_FOUND or STREAM_NOT_FOUND where there is none. */
  async run(spec: ResetSpec, call: AdminCall): Promise<ResetResult> {
    checkNames(spec.stream, spec.id);
    const { api, logger } = this.#dependencies;
    const result = await writing(api.inTurn({ ...call, write: true }, async () => this.#run(spec, call)));
    const { forgotten, previousSettledId, endedSubscriptions, isRecreated } = result;
    logger.info(
      {
        stream: spec.stream,
        consumer: spec.id,
        settledId: Number(result.consumer.state.settledId),
        previousSettledId: Number(previousSettledId),
        forgotten: Number(forgotten),
        endedSubscriptions,
        isRecreated,
        by: call.by,
      },
      "a consumer was reset",
    );
    return result;
  }

  async #run(spec: ResetSpec, call: AdminCall): Promise<ResetResult> {
    const { stream, id } = spec;
    const { open, reader, api } = this.#dependencies;
    const place = await placeOf(api, reader, stream, spec.to, call);
    // What is refused ends no subscription.
    await this.#find(spec, place, call);
    const endedSubscriptions = await open.beginReset(stream, id);
    try {
      // From here on nobody edits it.
      const { before, config, isSettable } = await this.#find(spec, place, call);
      const setBack = isSettable ? await this.#setBack(spec, before!, place, call) : undefined;
      const after = setBack ?? (await this.#recreate(spec, config, place, call));
      return {
        consumer: describeConsumer(after),
        forgotten: BigInt(before?.num_ack_pending ?? 0),
        previousSettledId: BigInt(before?.ack_floor.stream_seq ?? 0),
        endedSubscriptions,
        isRecreated: setBack === undefined,
      };
    } finally {
      await open.endReset(stream, id);
    }
  }

  /** The consumer, or the settings that an earlier reset has kept of it, and how it can be set to the place. */
  async #find({ stream, id }: ResetSpec, place: Place, call: AdminCall): Promise<Found> {
    const { api } = this.#dependencies;
    try {
      const before = await api.consumerInfo(stream, id, call);
      checkUsable(before, "id");
      const isSettable = this.#isSettable(before);
      if (!isSettable) checkAllowed(stream, id, place);
      return { before, config: before.config, isSettable };
    } catch (error) {
      if (!(error instanceof WindshiftError) || error.reason !== "CONSUMER_NOT_FOUND") throw error;
      const config = await keptSettings(api, stream, id, { ...call, names: { stream } });
      if (config === undefined) throw error;
      checkAllowed(stream, id, place);
      return { before: undefined, config, isSettable: false };
    }
  }

  #isSettable({ config }: ConsumerInfo): boolean {
    return hasNats(this.#dependencies.api.connection, "resetting") && RESETTABLE.has(config.deliver_policy);
  }

  /** Has NATS set it back; undefined where that is refused. The mark goes first: without the reset it does no harm. */
  async #setBack(
    { stream, id }: ResetSpec,
    { config, ts = new Date().toISOString() }: ConsumerInfo,
    { seq }: Place,
    call: AdminCall,
  ): Promise<ConsumerInfo | undefined> {
    const { api } = this.#dependencies;
    const names = { stream, consumer: id };
    const marked = { ...config, name: id, metadata: { ...config.metadata, [RESET_KEY]: newResetMark(ts) } };
    await api.putConsumer(stream, marked, "update", { ...call, names });
    try {
      return await resetConsumer(api, stream, id, seq, call);
    } catch (error) {
      if (jetStreamCode(error) === JetStreamCode.consumerResetRefused) return undefined;
      throw error;
    }
  }

  async #recreate({ stream, id }: ResetSpec, config: ConsumerConfig | NamedConfig, place: Place, call: AdminCall) {
    const { api, logger } = this.#dependencies;
    const names = { stream, consumer: id };
    const wanted = settingsAt(id, config, place);
    await keepSettings(api, stream, id, { ...config, name: id }, { ...call, names });
    logger.info({ stream, consumer: id, config: wanted, by: call.by }, "a consumer is deleted and made again");
    try {
      await this.#delete(stream, id, { names });
      const made = await this.#create(stream, wanted, { names });
      // What is kept too long does no harm: it is looked at only where the consumer is not there.
      await forgetSettings(api, stream, id, { names }).catch((error: unknown) =>
        logger.warn({ err: error, stream, consumer: id }, "settings of a consumer that is there again stay kept"),
      );
      return made;
    } catch (error) {
      logger.error({ err: error, stream, consumer: id, config: wanted }, "a consumer could not be made again");
      throw notMadeAgain(error, stream, id);
    }
  }

  async #delete(stream: string, id: string, call: ApiCall): Promise<void> {
    try {
      await this.#dependencies.api.deleteConsumer(stream, id, call);
    } catch (error) {
      if (!(error instanceof WindshiftError) || error.reason !== "CONSUMER_NOT_FOUND") throw error;
    }
  }

  /** Whoever makes one of that name meanwhile, as clients do that find none, made it at another place. */
  async #create(stream: string, config: NamedConfig, call: ApiCall): Promise<ConsumerInfo> {
    const { api } = this.#dependencies;
    for (const until = performance.now() + MAX_CREATING_MS; ;) {
      try {
        return await api.putConsumer(stream, config, "create", call);
      } catch (error) {
        if (!(error instanceof WindshiftError) || performance.now() > until) throw error;
        if (jetStreamCode(error) === JetStreamCode.consumerExists) await this.#delete(stream, config.name, call);
        else if (UNANSWERED.has(error.reason)) await delay(RETRY_MS);
        else throw error;
      }
    }
  }
}

/** The consumer's settings, at another place. */
function settingsAt(
  name: string,
  { opt_start_seq: _seq, opt_start_time: _time, metadata = {}, ...config }: ConsumerConfig | NamedConfig,
  { seq, isStart }: Place,
): NamedConfig {
  // What nats-server itself has written there is not for us to say.
  const own = Object.fromEntries(Object.entries(metadata).filter(([key]) => !key.startsWith("_nats.")));
  const start = isStart ? { deliver_policy: "all" } : { deliver_policy: "by_start_sequence", opt_start_seq: seq };
  return { ...config, ...start, name, metadata: { ...own, [RESET_KEY]: randomUUID() } } as NamedConfig;
}

/** A work queue has consumers from its start alone. */
function checkAllowed(stream: string, consumer: string, { isStart, isWorkQueue }: Place): void {
  if (isStart || !isWorkQueue) return;
  const text = `to: ${quote(stream)} is a work queue, whose consumers can be made again at its start only`;
  throw new WindshiftError("CONFIGURATION_REFUSED", text, { field: "to", metadata: { stream, consumer } });
}

function notMadeAgain(error: unknown, stream: string, consumer: string): WindshiftError {
  const reason = error instanceof WindshiftError ? error.reason : "INTERNAL";
  const text = `consumer ${quote(consumer)} may be deleted and not made again; its settings are kept: call ResetConsumer again`;
  return new WindshiftError(reason, `${text} (${(error as Error).message})`, {
    metadata: { stream, consumer },
    outcome: "unknown",
    retryAfterMs: RETRY_AFTER_MS,
    cause: error,
  });
}

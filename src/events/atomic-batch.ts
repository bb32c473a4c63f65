/**
 * Several events that are stored together in one stream, or not at all. JetStream says of a batch that it refuses why, and
 * seldom for which event: a second look at what is stored tells.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { WindshiftError, fieldError, quote } from "../errors.ts";
import type { JetStreamApi } from "../nats/api.ts";
import { BATCH_HEADER_BYTES, publishBatch } from "../nats/batch.ts";
import { JetStreamCode, jetStreamCode, refusingStream } from "../nats/errors.ts";
import type { Reader } from "../nats/get.ts";
import { isPassing, isWrongLastSequence, notStored } from "../nats/publish.ts";
import type { RefusedWrite } from "../nats/refused-write.ts";
import { requireNats } from "../nats/version.ts";
import { type NewEvent, type PreparedEvent, prepareEvent } from "./new-event.ts";
import { type PublishingContext, explained, mismatch, refusedEvent } from "./publishing.ts";
import { freedBy, hasKey, storedAfter, withFreedKey } from "./repeated-key.ts";

/** Events that are stored together. */
export interface StoredEvents {
  readonly stream: string;
  /** Of the events in their order. */
  readonly ids: readonly bigint[];
}

const RETRY_MS = 100;
/** So many events are looked at for the key that is stored already. */
const MAX_LOOKS = 100;

/** Stores events together. */
export class AtomicPublisher {
  readonly #api: JetStreamApi;
  readonly #context: PublishingContext;
  readonly #reader: Reader;

  constructor(api: JetStreamApi, context: PublishingContext) {
    this.#api = api;
    this.#context = context;
    this.#reader = context.reader;
  }

  /** Stores all events, or none; rejects with what is wrong, and `metadata.index` of the event where that is known. */
  async publish(events: readonly NewEvent[], deadlineMs: number): Promise<StoredEvents> {
    requireNats(this.#api.connection, "atomicBatches", "atomic");
    const prepared = this.#prepare(events);
    const refused: (RefusedWrite | undefined)[] = [];
    const freed = new Set<number>();
    for (;;) {
      const result = await publishBatch(this.#api, this.#context.publisher, prepared, { id: randomUUID(), deadlineMs });
      if (!("error" in result)) {
        const first = result.lastSequence - BigInt(prepared.length - 1);
        return { stream: result.stream, ids: prepared.map((_, index) => first + BigInt(index)) };
      }
      const { error, index } = result;
      if (error.outcome !== "not_stored") throw error;
      try {
        if (await this.#mayPass(prepared, { error, index, refused, freed, deadlineMs })) continue;
      } catch (cause) {
        throw notStored(cause);
      }
      throw at(index, explained(error, index === undefined ? undefined : prepared[index]!.subject));
    }
  }

  /** Throws what is wrong with the events, without asking NATS. */
  #prepare(events: readonly NewEvent[]): PreparedEvent[] {
    const { server, maxPayload } = this.#api.connection;
    const limits = { server, maxPayload: maxPayload - BATCH_HEADER_BYTES };
    const keys = new Map<string, number>();
    const subjects = new Set<string>();
    return events.map((event, index) => {
      try {
        if (event.deliverAt !== undefined) {
          throw fieldError("CONFLICTING_FIELDS", "deliver_at", "cannot be in an atomic batch");
        }
        const prepared = prepareEvent(event, limits);
        checkExpected(prepared, index, subjects);
        subjects.add(prepared.subject);
        if (prepared.key !== undefined) {
          const other = keys.get(prepared.key);
          if (other !== undefined) throw keyExists(prepared.key, `events[${other}] has the same key`);
          keys.set(prepared.key, index);
        }
        return prepared;
      } catch (error) {
        throw error instanceof WindshiftError ? at(index, error) : error;
      }
    });
  }

  /** Whether to try again; throws what the second look has found. */
  async #mayPass(events: PreparedEvent[], refusal: Refusal): Promise<boolean> {
    const { error, index, deadlineMs } = refusal;
    const code = jetStreamCode(error);
    if (isWrongLastSequence(code)) return this.#lookForOthers(events, refusal);
    if (code === JetStreamCode.batchHasDuplicate) {
      if (await this.#freeKeys(events, refusal)) return true;
      throw await this.#lookForKey(events, refusal);
    }
    if (code === JetStreamCode.batchIncomplete || code === JetStreamCode.batchesDisabled) {
      // The last one is answered for all; of another stream, it finds nothing there that it would be the end of.
      await this.#checkOneStream(events, index ?? events.length - 1, deadlineMs);
    }
    // A leader that was elected meanwhile has not kept what another one had.
    const passes = isPassing(code) || error.reason === "NO_LEADER" || code === JetStreamCode.batchIncomplete;
    if (!passes || Date.now() + RETRY_MS >= deadlineMs) return false;
    await delay(RETRY_MS);
    return true;
  }

  async #checkOneStream(events: readonly PreparedEvent[], index: number, deadlineMs: number): Promise<void> {
    const [first, other] = await Promise.all(
      [events[0]!, events[index]!].map(async ({ subject }) => this.#reader.streamOf(subject, deadlineMs)),
    );
    if (first === undefined || other === undefined || first === other) return;
    const problem = `belongs to stream ${quote(other)}, and the first event to ${quote(first)}`;
    throw at(index, fieldError("CONFLICTING_FIELDS", "subject", problem));
  }

  /** Looks at the subjects of expected ids; throws for the first whose last event is another one for good. */
  async #lookForOthers(events: readonly PreparedEvent[], { error, refused, deadlineMs }: Refusal): Promise<boolean> {
    for (const [index, event] of events.entries()) {
      if (event.expectedLastId === undefined) continue;
      const write = (refused[index] ??= await refusedEvent(this.#reader, event, deadlineMs, error));
      if ((await write.next(event.expectedLastId)) !== undefined) continue;
      const { key, subject } = event;
      const { stream } = write;
      if (key !== undefined) {
        const repeated = { stream, subject, key, deadlineMs };
        const ours = await storedAfter(this.#reader, repeated, event.expectedLastId);
        if (ours !== undefined) throw at(index, keyExists(key, "it is stored already", error));
      }
      throw at(index, mismatch(event, stream, error));
    }
    return true;
  }

  /** Keys of events that were taken back are known to JetStream, and free: gives their events other message ids. */
  async #freeKeys(events: PreparedEvent[], { error, freed, deadlineMs }: Refusal): Promise<boolean> {
    const stream = refusingStream(error);
    if (stream === undefined || !(await this.#context.traits.of(stream)).hasSchedules) return false;
    const keyed = [...events.entries()].filter(([index, { key }]) => key !== undefined && !freed.has(index));
    const before = freed.size;
    for (const [index, event] of keyed.slice(0, MAX_LOOKS)) {
      const mark = await freedBy(this.#api, this.#context, { stream, key: event.key!, deadlineMs });
      if (mark === undefined) continue;
      try {
        events[index] = withFreedKey(event, mark, this.#api.connection.maxPayload - BATCH_HEADER_BYTES);
      } catch (cause) {
        throw cause instanceof WindshiftError ? at(index, cause) : cause;
      }
      freed.add(index);
    }
    return freed.size > before;
  }

  /** The stored key: of the only event that has one, or of one that is still the last of its subject. */
  async #lookForKey(events: readonly PreparedEvent[], { error, deadlineMs }: Refusal): Promise<WindshiftError> {
    const keyed = [...events.entries()].filter(([, { key }]) => key !== undefined);
    const stream = refusingStream(error);
    for (const [index, { subject, key }] of keyed.slice(0, MAX_LOOKS)) {
      const isOnly = keyed.length === 1;
      const last = isOnly || stream === undefined ? undefined : await this.#reader.lastOf(stream, subject, deadlineMs);
      if (isOnly || (last !== undefined && hasKey(last, key!))) {
        return at(index, keyExists(key!, "it is stored already", error));
      }
    }
    const text = "events: the idempotency_key of one of them is stored already";
    return new WindshiftError("EVENT_EXISTS", text, { outcome: "not_stored", cause: error });
  }
}

interface Refusal {
  readonly error: WindshiftError;
  readonly index: number | undefined;
  /** By index, for the time of all attempts. */
  readonly refused: (RefusedWrite | undefined)[];
  /** Those whose keys were found to be free. */
  readonly freed: Set<number>;
  readonly deadlineMs: number;
}

/** JetStream compares all expected ids before it stores the first event of the batch. */
function checkExpected({ subject, expectedLastId, scope }: PreparedEvent, index: number, before: Set<string>): void {
  if (expectedLastId === undefined || index === 0) return;
  if (scope === "stream") {
    throw fieldError("CONFLICTING_FIELDS", "expected_last_id_scope", "can be of the stream for the first event alone");
  }
  if (before.has(subject)) {
    throw fieldError(
      "CONFLICTING_FIELDS",
      "expected_last_id",
      `an event before it has the same subject, ${quote(subject)}`,
    );
  }
}

function keyExists(key: string, problem: string, cause?: WindshiftError): WindshiftError {
  return new WindshiftError("EVENT_EXISTS", `idempotency_key: ${quote(key)}: ${problem}`, {
    field: "idempotency_key",
    outcome: "not_stored",
    cause,
  });
}

function at(index: number | undefined, error: WindshiftError): WindshiftError {
  return index === undefined ? error : errorOfEvent(index, error);
}

/** The same error, of the event of a batch with this index: nothing of the batch is stored. */
export function errorOfEvent(index: number, error: WindshiftError): WindshiftError {
  const { reason, message, field, metadata, outcome, retryAfterMs, cause } = error;
  const place = `events[${index}]`;
  const text = field !== undefined && message.startsWith(field) ? `${place}.${message}` : `${place}: ${message}`;
  return new WindshiftError(reason, text, {
    ...(field === undefined ? {} : { field: `${place}.${field}` }),
    metadata: { ...metadata, index: `${index}` },
    outcome: outcome ?? "not_stored",
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    cause,
  });
}

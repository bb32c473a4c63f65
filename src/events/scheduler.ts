/**
 * Schedules events, and takes them back. NATS keeps a scheduled event under a subject of its own, puts it on its target
 * when it is time, and removes it from where it waited.
 *
 * An event that is taken back leaves a mark in its place for as long as its key is known: NATS takes a repeat for a
 * duplicate, and only the mark tells that nothing waits there any more.
 */
import { setTimeout as delay } from "node:timers/promises";
import { WindshiftError, fieldError, quote } from "../errors.ts";
import { checkName } from "../names.ts";
import type { ApiCall, JetStreamApi } from "../nats/api.ts";
import { lookAfter } from "../nats/certain-read.ts";
import { jetStreamCode } from "../nats/errors.ts";
import { type LeaderReader, type StoredMessage, storedHeader } from "../nats/get.ts";
import { type OutgoingMessage, type PublishAck, isWrongLastSequence, notBound, notStored } from "../nats/publish.ts";
import type { PublishLane } from "../nats/publish-lane.ts";
import { RefusedWrite } from "../nats/refused-write.ts";
import { milliseconds } from "../nats/units.ts";
import { requireNats } from "../nats/version.ts";
import { type PreparedEvent, checkedKey } from "./new-event.ts";
import { type EventPublishListener, type PublishingContext, explained, mismatch, refusedEvent } from "./publishing.ts";
import { type KeyOwner, ownerOf, storedAfter, withFreedKey } from "./repeated-key.ts";
import { cancellation, parseSchedule, scheduleSubject } from "./schedule.ts";

/** For so long an answer which stream collects a subject is taken to hold. */
const STREAM_KNOWN_MS = 1_000;
const MAX_STREAMS_KNOWN = 1_000;
/** An event is left alone when its time comes so soon: NATS may have begun to put it on its target. */
const TOO_LATE_MS = 500;
/** NATS was late by more than any load explains: it will not do it any more. */
const OVERDUE_MS = 10_000;
/** After its time has come in the midst of taking it back: so long one looks whether it appears. */
const APPEARS_WITHIN_MS = 1_000;
const LOOK_MS = 100;
const SCHEDULED: KeyOwner = { kind: "scheduled", id: 0n };

/** Where an event waits. */
interface Place {
  readonly stream: string;
  readonly place: string;
}

interface KnownStream {
  readonly stream: Promise<string | undefined>;
  readonly until: number;
}

/** Schedules events of all streams. */
export class Scheduler {
  readonly #api: JetStreamApi;
  readonly #context: PublishingContext;
  readonly #streams = new Map<string, KnownStream>();

  constructor(api: JetStreamApi, context: PublishingContext) {
    this.#api = api;
    this.#context = context;
  }

  /** Stores the event where it waits; the listener hears of id 0n, or of that of an event with the key that did not wait. */
  async schedule(
    event: PreparedEvent,
    deadlineMs: number,
    listener: EventPublishListener,
    lane: PublishLane | undefined,
  ): Promise<void> {
    let stream: string;
    let known: KeyOwner | undefined;
    try {
      stream = await this.#streamOf(event.subject);
      const { hasSchedules, isKept } = await this.#context.traits.of(stream);
      if (hasSchedules && !isKept) throw notKept(stream, event.subject);
      known = await this.#schedule(stream, event, deadlineMs, lane);
    } catch (error) {
      const failure = error instanceof WindshiftError && error.outcome !== undefined ? error : notStored(error);
      listener.onFailed(explained(failure, event.subject));
      return;
    }
    listener.onPublished(known?.kind === "event" ? known.id : 0n, stream, known !== undefined);
  }

  /** True: the event was waiting, and will not appear. */
  async cancel(
    stream: string,
    idempotencyKey: string,
    call: ApiCall & { readonly deadlineMs: number },
  ): Promise<boolean> {
    checkName("stream", stream);
    const key = checkedKey(idempotencyKey);
    if (key === undefined) throw fieldError("MISSING_FIELD", "idempotency_key", "is required");
    requireNats(this.#api.connection, "scheduling", "CancelScheduledEvent");
    const place = scheduleSubject(stream, key);
    let refused: { readonly expected: bigint; readonly write: RefusedWrite } | undefined;
    // Until it is decided, or the call has no more time.
    for (;;) {
      const result = await this.#cancel(stream, place, call);
      if (typeof result === "boolean") return result;
      if (refused?.expected !== result) {
        const { deadlineMs } = call;
        const write = { stream, subject: place, expected: result, deadlineMs };
        refused = { expected: result, write: new RefusedWrite(this.#context.reader, write) };
      }
      await refused.write.next(result);
    }
  }

  /** Resolves with what has its key already. */
  async #schedule(
    stream: string,
    event: PreparedEvent,
    deadlineMs: number,
    lane: PublishLane | undefined,
  ): Promise<KeyOwner | undefined> {
    const { connection } = this.#context;
    // Of the events in a lane there is a bound.
    const reader = lane === undefined ? this.#context.reader : this.#context.reader.patient;
    const { payload, key } = event;
    const subject = scheduleSubject(stream, key);
    if (key !== undefined) {
      if (await this.#hasJustAppeared(reader, { stream, place: subject }, event, deadlineMs)) return SCHEDULED;
      const waiting = await reader.lastOf(stream, subject, deadlineMs);
      if (waiting !== undefined) checkTarget(waiting, event, stream);
    }
    let { headers } = event;
    let refused: RefusedWrite | undefined;
    for (;;) {
      try {
        const message = { subject, headers, payload, deadlineMs, repeatable: key !== undefined };
        const { duplicate, sequence } = await this.#publish(message, lane);
        if (!duplicate || key === undefined) return undefined;
        const owner = await ownerOf(reader, { stream, subject: event.subject, key, sequence, deadlineMs });
        if (owner.kind !== "cancelled") return owner;
        ({ headers } = withFreedKey(event, owner.mark, connection.maxPayload));
      } catch (error) {
        if (!(error instanceof WindshiftError)) throw error;
        if (error.reason === "SUBJECT_NOT_BOUND") throw notEnabled(stream, event.subject, error);
        const { expectedLastId } = event;
        if (expectedLastId === undefined || !isWrongLastSequence(jetStreamCode(error))) throw error;
        refused ??= await refusedEvent(reader, event, deadlineMs, error);
        if ((await refused.next(expectedLastId)) !== undefined) continue;
        const owner = await this.#keyOwner(reader, { stream, place: subject }, event, deadlineMs);
        if (owner !== undefined) return owner;
        throw mismatch(event, stream, error);
      }
    }
  }

  /**
   * NATS forgets the key of an event that has appeared when it starts again, and would take a repeat for a new one. Where
   * nothing came after the event on its subject, it is still there to tell.
   */
  async #hasJustAppeared(
    reader: LeaderReader,
    { stream, place }: Place,
    { subject, key }: PreparedEvent,
    deadlineMs: number,
  ): Promise<boolean> {
    const last = await reader.lastOf(stream, subject, deadlineMs);
    if (last === undefined || storedHeader(last, "Nats-Scheduler") !== place) return false;
    if (storedHeader(last, "WS-Idempotency-Key") !== key) return false;
    const { config } = await this.#api.streamInfo(stream, { deadlineMs });
    return Date.parse(last.time) + milliseconds(config.duplicate_window) > Date.now();
  }

  /**
   * What has the key of an event that is refused for its expected id: one that waits, or one that has come, as a repeat is
   * refused once the first one has appeared.
   */
  async #keyOwner(
    reader: LeaderReader,
    { stream, place }: Place,
    { subject, key, expectedLastId = 0n }: PreparedEvent,
    deadlineMs: number,
  ): Promise<KeyOwner | undefined> {
    if (key === undefined) return undefined;
    const look = async (): Promise<StoredMessage | undefined> => reader.lastOf(stream, place, deadlineMs);
    const waiting = await lookAfter(reader, stream, expectedLastId, deadlineMs, look);
    if (waiting !== undefined && timeOf(waiting) !== undefined) return SCHEDULED;
    const next = await storedAfter(reader, { stream, subject, key, deadlineMs }, expectedLastId);
    if (next === undefined) return undefined;
    return storedHeader(next, "Nats-Scheduler") === place ? SCHEDULED : { kind: "event", id: next.sequence };
  }

  /** An id: of what was there when JetStream refused the mark, because of what came or is still on its way. */
  async #cancel(
    stream: string,
    place: string,
    call: ApiCall & { readonly deadlineMs: number },
  ): Promise<boolean | bigint> {
    const { deadlineMs } = call;
    const { reader } = this.#context;
    const info = await this.#api.streamInfo(stream, call);
    if (info.config.allow_msg_schedules !== true) return false;
    const look = async (): Promise<StoredMessage | undefined> => reader.lastOf(stream, place, deadlineMs);
    const waiting = await lookAfter(reader, stream, 0n, deadlineMs, look);
    const time = waiting === undefined ? undefined : dueOf(waiting);
    if (waiting === undefined || time === undefined) return false;
    const left = time - clockOf(info.ts);
    if (left <= TOO_LATE_MS && left > -OVERDUE_MS) return false;
    let mark: PublishAck;
    try {
      const message = cancellation(place, waiting.sequence, info.config);
      mark = await this.#publish({ ...message, deadlineMs, repeatable: true }, undefined);
    } catch (error) {
      if (isWrongLastSequence(jetStreamCode(error))) return waiting.sequence;
      throw error;
    }
    const after = await this.#api.streamInfo(stream, call);
    if (time > clockOf(after.ts)) return true;
    return !(await this.#appears(
      stream,
      place,
      { target: storedHeader(waiting, "Nats-Schedule-Target")!, mark },
      deadlineMs,
    ));
  }

  /** Whether NATS had begun already to put an event on its target, and does so after it was taken back. */
  async #appears(
    stream: string,
    place: string,
    { target, mark }: { readonly target: string; readonly mark: PublishAck },
    deadlineMs: number,
  ): Promise<boolean> {
    const until = Math.min(deadlineMs, Date.now() + APPEARS_WITHIN_MS);
    for (let after = mark.sequence; ;) {
      const next = await this.#context.reader.firstAfter(stream, target, after, deadlineMs);
      if (next !== undefined && storedHeader(next, "Nats-Scheduler") === place) return true;
      if (next !== undefined) after = next.sequence;
      else if (Date.now() >= until) return false;
      else await delay(LOOK_MS);
    }
  }

  async #publish(message: OutgoingMessage, lane: PublishLane | undefined): Promise<PublishAck> {
    const { promise, resolve, reject } = Promise.withResolvers<PublishAck>();
    this.#context.publisher.publish(message, { onStored: resolve, onFailed: reject }, lane);
    return promise;
  }

  /**
   * Calls that wait share one question, so it has no caller's deadline, but the limit of every request to NATS: who has less
   * time hears of it when it publishes.
   */
  async #streamOf(subject: string): Promise<string> {
    const now = Date.now();
    let known = this.#streams.get(subject);
    if (known === undefined || known.until < now) {
      if (this.#streams.size >= MAX_STREAMS_KNOWN) this.#streams.clear();
      known = { stream: this.#context.reader.streamOf(subject, Infinity), until: now + STREAM_KNOWN_MS };
      this.#streams.set(subject, known);
      // Whoever asks next tries again.
      known.stream.catch(() => this.#streams.delete(subject));
    }
    const stream = await known.stream;
    if (stream === undefined) throw notBound(subject);
    return stream;
  }
}

/** When a waiting event appears, in milliseconds since the epoch; undefined where none waits. */
function timeOf(message: StoredMessage): number | undefined {
  const time = parseSchedule(storedHeader(message, "Nats-Schedule"));
  return time === undefined ? undefined : time.seconds * 1000 + time.nanos / 1_000_000;
}

/** When NATS may begin to put it on its target: not before it is stored. Undefined where none waits. */
function dueOf(message: StoredMessage): number | undefined {
  const time = timeOf(message);
  return time === undefined ? undefined : Math.max(time, Date.parse(message.time));
}

/** What waits under the key gives way to its own repeat, and to nothing else: whoever schedules may not know of it. */
function checkTarget(waiting: StoredMessage, { subject, key }: PreparedEvent, stream: string): void {
  const target = storedHeader(waiting, "Nats-Schedule-Target");
  if (target === undefined || target === subject) return;
  const text = `idempotency_key: ${quote(key)} is that of an event which waits for another subject`;
  throw new WindshiftError("EVENT_EXISTS", text, { field: "idempotency_key", metadata: { stream, subject } });
}

/** The clock of the stream's leader, which decides when it is time. */
function clockOf(time: string | undefined): number {
  return time === undefined ? Date.now() : Date.parse(time);
}

/** Others have made such a stream, or changed it. */
function notKept(stream: string, subject: string): WindshiftError {
  const text = `deliver_at: stream ${quote(stream)} has a retention that does not keep what waits`;
  return new WindshiftError("NOT_ENABLED", text, { metadata: { stream, subject }, outcome: "not_stored" });
}

function notEnabled(stream: string, subject: string, cause: WindshiftError): WindshiftError {
  const text = `deliver_at: stream ${JSON.stringify(stream)} does not allow it; ensure it with allow_scheduling`;
  return new WindshiftError("NOT_ENABLED", text, { metadata: { stream, subject }, outcome: "not_stored", cause });
}

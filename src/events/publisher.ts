/**
 * Hot path: publishing an event. Checks it, writes the stored format, and hears from JetStream that it is stored. What
 * the server knows of one publish is one object, which is its own listener. Measured by `npm run bench -- publish`.
 */
import { WindshiftError, fieldError, quote } from "../errors.ts";
import { checkSubject } from "../names.ts";
import type { NatsConnection } from "../nats/connection.ts";
import { JetStreamCode, jetStreamCode, refusingStream } from "../nats/errors.ts";
import { type Reader, storedHeader } from "../nats/get.ts";
import {
  type Publisher as JetStreamPublisher,
  type OutgoingMessage,
  type PublishAck,
  type PublishListener,
  isWrongLastSequence,
  notBound,
  notStored,
} from "../nats/publish.ts";
import { PublishLane } from "../nats/publish-lane.ts";
import { RefusedWrite } from "../nats/refused-write.ts";
import { requireNats } from "../nats/version.ts";
import type { TraceContext } from "../telemetry/trace-context.ts";
import { checkAttributes } from "./attributes.ts";
import { dataTypeOf, encodeHeaders, storedKey } from "./headers.ts";
import { isScheduleSubject } from "./schedule.ts";
import { type Timestamp, isValidTimestamp, now } from "./timestamp.ts";

/** An event to publish. */
export interface NewEvent extends TraceContext {
  readonly subject: string;
  readonly typeUrl: string;
  readonly value: Uint8Array;
  /** Undefined: now. */
  readonly publishedAt?: Timestamp | undefined;
  /** Empty is none. */
  readonly idempotencyKey?: string | undefined;
  /** Id of the last event of the same subject; 0n: there is none. */
  readonly expectedLastId?: bigint | undefined;
  readonly attributes?: ReadonlyMap<string, string> | undefined;
  /** The event is removed after so long. */
  readonly timeToLiveMs?: number | undefined;
}

/** Hears how publishing ended: exactly one of the two, once. */
export interface EventPublishListener {
  /** `stream` and id of the event; of the first one where the key was known already. */
  onPublished(id: bigint, stream: string, isDuplicate: boolean): void;
  onFailed(error: WindshiftError): void;
}

/** nats-server takes 64 KiB of headers in all; keys of this length leave room for the others. */
const MAX_KEY_LENGTH = 8192;
/** In UTF-8, of one that is a single unit of UTF-16. */
const MAX_BYTES_OF_CHARACTER = 3;
const MIN_TIME_TO_LIVE_MS = 1000;
/** nats-server counts nanoseconds in 64 bits: 292 years. */
const MAX_TIME_TO_LIVE_SECONDS = 9_223_372_036;

/** Publishes events. */
export class EventPublisher {
  readonly #publisher: JetStreamPublisher;
  readonly #reader: Reader;
  readonly #nats: Pick<NatsConnection, "maxPayload" | "server">;

  constructor(publisher: JetStreamPublisher, reader: Reader, nats: Pick<NatsConnection, "maxPayload" | "server">) {
    this.#publisher = publisher;
    this.#reader = reader;
    this.#nats = nats;
  }

  /** Whether an event by itself would be refused. */
  get isCrowded(): boolean {
    return this.#publisher.isCrowded;
  }

  /** Begins to publish events of one client, which shall keep their order. */
  sequence(): EventSequence {
    return new EventSequence(this);
  }

  /** Stores the event; throws what is wrong with it, and tells the listener everything else. */
  publish(event: NewEvent, deadlineMs: number, listener: EventPublishListener, lane?: PublishLane): void {
    checkSubject("subject", event.subject);
    if (isScheduleSubject(event.subject)) {
      throw fieldError("INVALID_SUBJECT", "subject", `${quote(event.subject)} is where scheduled events wait`);
    }
    const publishedAt = event.publishedAt ?? now();
    if (!isValidTimestamp(publishedAt)) {
      const text = `${publishedAt.seconds} s and ${publishedAt.nanos} ns is not a time in the years 1 to 9999`;
      throw fieldError("INVALID_VALUE", "timestamp", text);
    }
    const key = event.idempotencyKey ?? "";
    if (key.length > MAX_KEY_LENGTH) {
      throw fieldError("INVALID_VALUE", "idempotency_key", `${quote(key)} is longer than ${MAX_KEY_LENGTH} characters`);
    }
    if (event.attributes !== undefined) checkAttributes(event.attributes);
    const idempotencyKey = key === "" ? undefined : storedKey(key) || undefined;
    const headers = encodeHeaders({
      dataType: dataTypeOf(event.typeUrl),
      publishedAt,
      idempotencyKey,
      expectedLastSubjectSequence: event.expectedLastId,
      traceParent: event.traceParent,
      traceState: event.traceState,
      attributes: event.attributes,
      timeToLiveSeconds: event.timeToLiveMs === undefined ? undefined : this.#timeToLive(event.timeToLiveMs),
    });
    this.#checkSize(event, headers);
    const message: EventMessage = {
      subject: event.subject,
      headers,
      payload: event.value,
      deadlineMs,
      repeatable: idempotencyKey !== undefined,
      key: idempotencyKey,
      expectedLastId: event.expectedLastId,
    };
    new Publishing(this.#publisher, this.#reader, listener, message, lane).send();
  }

  #checkSize({ subject, value }: NewEvent, headers: string): void {
    const { maxPayload } = this.#nats;
    // Most are so small that it need not be counted what the headers take as bytes.
    if (value.length + MAX_BYTES_OF_CHARACTER * headers.length <= maxPayload) return;
    const size = Buffer.byteLength(headers) + value.length;
    if (size > maxPayload) throw tooLarge(subject, size, maxPayload);
  }

  /** NATS knows whole seconds alone: an event stays for the time it was given, or a little longer. */
  #timeToLive(ms: number): number {
    if (ms < MIN_TIME_TO_LIVE_MS) throw fieldError("INVALID_VALUE", "time_to_live", `${ms} ms is less than 1 s`);
    requireNats(this.#nats, "timeToLive", "time_to_live");
    return Math.min(Math.ceil(ms / 1000), MAX_TIME_TO_LIVE_SECONDS);
  }
}

/** Events of one client: those of each subject are stored in the order in which they were published here. */
export class EventSequence {
  readonly #publisher: EventPublisher;
  readonly #lane = new PublishLane();

  constructor(publisher: EventPublisher) {
    this.#publisher = publisher;
  }

  /** More than a few events should wait elsewhere until others have their answer. None is refused for that. */
  get isCrowded(): boolean {
    return this.#lane.isFull || this.#publisher.isCrowded;
  }

  /** As {@link EventPublisher.publish}. */
  publish(event: NewEvent, deadlineMs: number, listener: EventPublishListener): void {
    this.#publisher.publish(event, deadlineMs, listener, this.#lane);
  }
}

interface EventMessage extends OutgoingMessage {
  readonly key: string | undefined;
  readonly expectedLastId: bigint | undefined;
}

class Publishing implements PublishListener {
  readonly #publisher: JetStreamPublisher;
  readonly #reader: Reader;
  readonly #listener: EventPublishListener;
  readonly #message: EventMessage;
  readonly #lane: PublishLane | undefined;
  #refused: RefusedWrite | undefined;

  constructor(
    publisher: JetStreamPublisher,
    reader: Reader,
    listener: EventPublishListener,
    message: EventMessage,
    lane: PublishLane | undefined,
  ) {
    this.#publisher = publisher;
    this.#reader = reader;
    this.#listener = listener;
    this.#message = message;
    this.#lane = lane;
  }

  send(): void {
    this.#publisher.publish(this.#message, this, this.#lane);
  }

  onStored(ack: PublishAck): void {
    this.#listener.onPublished(ack.sequence, ack.stream, ack.duplicate);
  }

  onFailed(error: WindshiftError): void {
    const { expectedLastId } = this.#message;
    if (expectedLastId === undefined || !isWrongLastSequence(jetStreamCode(error))) {
      this.#listener.onFailed(this.#explained(error));
    } else {
      void this.#reconsider(expectedLastId, error);
    }
  }

  /**
   * nats-server compares the sequence before it looks at the key, so the repeat of a publish that worked is refused too.
   * If it did work, ours is the first event of the subject after the expected one.
   */
  async #reconsider(expected: bigint, refusal: WindshiftError): Promise<void> {
    try {
      const refused = (this.#refused ??= await this.#whatRefused(expected, refusal));
      if ((await refused.next(expected)) !== undefined) {
        this.send();
        return;
      }
      const ours = await this.#ours(refused.stream, expected);
      if (ours === undefined) this.#listener.onFailed(this.#mismatch(refusal));
      else this.#listener.onPublished(ours, refused.stream, true);
    } catch (error) {
      // Refused already: whatever fails now, this call stored nothing.
      this.#listener.onFailed(notStored(error));
    }
  }

  async #whatRefused(expected: bigint, refusal: WindshiftError): Promise<RefusedWrite> {
    const { subject, deadlineMs } = this.#message;
    const stream = refusingStream(refusal) ?? (await this.#reader.streamOf(subject, deadlineMs));
    if (stream === undefined) throw notBound(subject);
    return new RefusedWrite(this.#reader, { stream, subject, expected, deadlineMs });
  }

  /** The id of the event with our key, if it is the first after the expected one. */
  async #ours(stream: string, expected: bigint): Promise<bigint | undefined> {
    const { key, subject, deadlineMs } = this.#message;
    if (key === undefined) return undefined;
    const next = await this.#reader.firstAfter(stream, subject, expected, deadlineMs);
    return next !== undefined && storedHeader(next, "Nats-Msg-Id") === key ? next.sequence : undefined;
  }

  #mismatch(cause: WindshiftError): WindshiftError {
    const { subject, expectedLastId } = this.#message;
    const text = `expected_last_id: ${expectedLastId} is not the id of the last event of ${quote(subject)}`;
    return new WindshiftError("LAST_ID_MISMATCH", text, {
      field: "expected_last_id",
      metadata: { subject },
      outcome: "not_stored",
      cause,
    });
  }

  #explained(error: WindshiftError): WindshiftError {
    const { subject } = this.#message;
    const text = NEEDS[jetStreamCode(error) ?? 0] ?? EXPLANATIONS[error.reason];
    if (text === undefined) return error;
    return new WindshiftError(error.reason, `${text} (subject ${quote(subject)})`, {
      metadata: { ...error.metadata, subject },
      outcome: "not_stored",
      cause: error,
    });
  }
}

const EXPLANATIONS: Partial<Record<WindshiftError["reason"], string>> = {
  STREAM_FULL: "the stream is full and discards new events",
  EVENT_TOO_LARGE: "the event is larger than its stream accepts",
  ACCOUNT_LIMIT: "a limit of the NATS account is reached",
};

/** What a stream has to be ensured with, by what JetStream refused. */
const NEEDS: Readonly<Record<number, string>> = {
  [JetStreamCode.timeToLiveDisabled]: "time_to_live: the stream does not allow it; ensure it with allow_time_to_live",
};

function tooLarge(subject: string, size: number, limit: number): WindshiftError {
  const text = `data: with its headers the event has ${size} bytes, NATS accepts ${limit} (subject ${quote(subject)})`;
  return new WindshiftError("EVENT_TOO_LARGE", text, { field: "data", metadata: { subject }, outcome: "not_stored" });
}

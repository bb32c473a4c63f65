/**
 * Hot path: one event on its way into its stream. What the server knows of it is one object, which is its own listener.
 */
import { WindshiftError, quote } from "../errors.ts";
import { JetStreamCode, jetStreamCode, refusingStream } from "../nats/errors.ts";
import type { NatsConnection } from "../nats/connection.ts";
import type { LeaderReader, Reader } from "../nats/get.ts";
import {
  type Publisher as JetStreamPublisher,
  type OutgoingMessage,
  type PublishAck,
  type PublishListener,
  isWrongLastSequence,
  notBound,
  notStored,
} from "../nats/publish.ts";
import { type LaneWatch, type PublishLane, overtakenError } from "../nats/publish-lane.ts";
import { RefusedWrite } from "../nats/refused-write.ts";
import type { StreamTraits, Traits } from "../nats/stream-traits.ts";
import type { PreparedEvent } from "./new-event.ts";
import { ownerOf, storedAfter, withFreedKey } from "./repeated-key.ts";

/** Hears how publishing ended: exactly one of the two, once. */
export interface EventPublishListener {
  /** `stream` and id of the event; of the first one where the key was known already, 0n of one that waits for its time. */
  onPublished(id: bigint, stream: string, isDuplicate: boolean): void;
  onFailed(error: WindshiftError): void;
}

/** An event, and for how long and behind which others it is to be stored. */
export interface Publication {
  readonly event: PreparedEvent;
  readonly deadlineMs: number;
  readonly lane: PublishLane | undefined;
}

/** What storing events works on. */
export interface PublishingContext {
  readonly publisher: JetStreamPublisher;
  readonly reader: Reader;
  readonly traits: StreamTraits;
  readonly connection: Pick<NatsConnection, "maxPayload">;
}

/** Stores one event. */
export class Publishing implements PublishListener, OutgoingMessage {
  readonly subject: string;
  headers: string;
  readonly payload: Uint8Array;
  readonly deadlineMs: number;
  readonly repeatable: boolean;
  readonly #context: PublishingContext;
  readonly #listener: EventPublishListener;
  readonly #event: PreparedEvent;
  readonly #lane: PublishLane | undefined;
  #refused: RefusedWrite | undefined;

  constructor(context: PublishingContext, listener: EventPublishListener, { event, deadlineMs, lane }: Publication) {
    this.subject = event.subject;
    this.headers = event.headers;
    this.payload = event.payload;
    this.deadlineMs = deadlineMs;
    this.repeatable = event.key !== undefined;
    this.#context = context;
    this.#listener = listener;
    this.#event = event;
    this.#lane = lane;
  }

  send(): void {
    this.#context.publisher.publish(this, this, this.#lane);
  }

  onStored(ack: PublishAck, place: number): void {
    if (ack.duplicate) this.#recognise(ack, place);
    else this.#listener.onPublished(ack.sequence, ack.stream, false);
  }

  onFailed(error: WindshiftError): void {
    const { expectedLastId } = this.#event;
    if (expectedLastId === undefined || !isWrongLastSequence(jetStreamCode(error))) {
      this.#listener.onFailed(explained(error, this.subject));
    } else {
      void this.#reconsider(expectedLastId, error);
    }
  }

  /** Of the events in a lane there is a bound. */
  get #reader(): LeaderReader {
    const { reader } = this.#context;
    return this.#lane === undefined ? reader : reader.patient;
  }

  /** JetStream knows the key. Where events are scheduled that does not say that an event with it is stored. */
  #recognise(ack: PublishAck, place: number): void {
    const { key } = this.#event;
    const traits = this.#context.traits.of(ack.stream);
    if (key === undefined || (!(traits instanceof Promise) && !traits.hasSchedules)) {
      this.#listener.onPublished(ack.sequence, ack.stream, true);
    } else {
      void this.#findOwner(key, ack, traits, this.#lane?.watch(this.subject, place));
    }
  }

  /** If the key is free the event is stored now, unless that would be behind a later one of its lane and subject. */
  async #findOwner(
    key: string,
    { stream, sequence }: PublishAck,
    traits: Traits | Promise<Traits>,
    watch: LaneWatch | undefined,
  ): Promise<void> {
    using _ = watch;
    const { connection } = this.#context;
    const { subject, deadlineMs } = this;
    let id = sequence;
    try {
      if ((await traits).hasSchedules) {
        const owner = await ownerOf(this.#reader, { stream, subject, key, sequence, deadlineMs });
        if (owner.kind === "cancelled") {
          if (watch?.isOvertaken === true)
            throw overtakenError(subject, "its key is that of a schedule that was cancelled");
          this.headers = withFreedKey(this.#event, owner.mark, connection.maxPayload).headers;
          this.send();
          return;
        }
        id = owner.id;
      }
    } catch (error) {
      // Taken for a duplicate: whatever fails now, this call stored nothing.
      this.#listener.onFailed(notStored(error));
      return;
    }
    this.#listener.onPublished(id, stream, true);
  }

  /**
   * nats-server compares the sequence before it looks at the key, so the repeat of a publish that worked is refused too.
   * If it did work, ours is the first event of the subject after the expected one.
   */
  async #reconsider(expected: bigint, refusal: WindshiftError): Promise<void> {
    try {
      const { deadlineMs } = this;
      const refused = (this.#refused ??= await refusedEvent(this.#reader, this.#event, deadlineMs, refusal));
      if ((await refused.next(expected)) !== undefined) {
        this.send();
        return;
      }
      const { subject } = this;
      const { key } = this.#event;
      const { stream } = refused;
      const ours =
        key === undefined ? undefined : await storedAfter(this.#reader, { stream, subject, key, deadlineMs }, expected);
      if (ours === undefined) this.#listener.onFailed(mismatch(this.#event, stream, refusal));
      else this.#listener.onPublished(ours.sequence, stream, true);
    } catch (error) {
      // Refused already: whatever fails now, this call stored nothing.
      this.#listener.onFailed(notStored(error));
    }
  }
}

/** What to find out of an event that was refused for its expected id. */
export async function refusedEvent(
  reader: LeaderReader,
  { subject, expectedLastId, scope }: PreparedEvent,
  deadlineMs: number,
  refusal: WindshiftError,
): Promise<RefusedWrite> {
  const stream = refusingStream(refusal) ?? (await reader.streamOf(subject, deadlineMs));
  if (stream === undefined) throw notBound(subject);
  const write = {
    stream,
    subject: scope === "stream" ? undefined : subject,
    expected: expectedLastId ?? 0n,
    deadlineMs,
  };
  return new RefusedWrite(reader, write);
}

/** The expected id is another. */
export function mismatch(
  { subject, expectedLastId, scope }: PreparedEvent,
  stream: string,
  cause: WindshiftError,
): WindshiftError {
  const of = scope === "stream" ? `stream ${quote(stream)}` : quote(subject);
  const text = `expected_last_id: ${expectedLastId} is not the id of the last event of ${of}`;
  return new WindshiftError("LAST_ID_MISMATCH", text, {
    field: "expected_last_id",
    metadata: scope === "stream" ? { subject, stream } : { subject },
    outcome: "not_stored",
    cause,
  });
}

/** A refusal in words of the event; without a subject where it may be of another one. */
export function explained(error: WindshiftError, subject: string | undefined): WindshiftError {
  const text = NEEDS[jetStreamCode(error) ?? 0] ?? EXPLANATIONS[error.reason];
  if (text === undefined) return error;
  const place = subject === undefined ? "" : ` (subject ${quote(subject)})`;
  return new WindshiftError(error.reason, text + place, {
    metadata: subject === undefined ? error.metadata : { ...error.metadata, subject },
    outcome: "not_stored",
    cause: error,
  });
}

const EXPLANATIONS: Partial<Record<WindshiftError["reason"], string>> = {
  STREAM_FULL: "the stream is full and discards new events",
  EVENT_TOO_LARGE: "the event is larger than its stream accepts",
  ACCOUNT_LIMIT: "a limit of the NATS account is reached",
};

/** What a stream has to be ensured with, by what JetStream refused. */
const NEEDS: Readonly<Record<number, string>> = {
  [JetStreamCode.timeToLiveDisabled]: "time_to_live: the stream does not allow it; ensure it with allow_time_to_live",
  [JetStreamCode.batchesDisabled]: "atomic: the stream does not allow it; ensure it with allow_atomic",
  [JetStreamCode.schedulesDisabled]: "deliver_at: the stream does not allow it; ensure it with allow_scheduling",
};

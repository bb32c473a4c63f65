/**
 * Writes dead letters. A letter is stored, and JetStream has said so, before anybody settles its event.
 *
 * It is written on the condition that its subject has none yet, so whoever tries again after a crash, on this server or
 * another one, stores no second one: the refusal says that it is there. An id begins anew when a stream is made anew, so then
 * the stored letter is looked at; one of another event must not pass for this one's.
 */
import type { JetStreamApi } from "../nats/api.ts";
import { WindshiftError, quote } from "../errors.ts";
import { readStored } from "../nats/certain-read.ts";
import { jetStreamCode } from "../nats/errors.ts";
import { type Reader, type StoredMessage, storedAtOf } from "../nats/get.ts";
import { headerValue } from "../nats/message.ts";
import { type PublishAck, type Publisher, isWrongLastSequence } from "../nats/publish.ts";
import { RefusedWrite } from "../nats/refused-write.ts";
import { type DeadLetterStreams, letterSubject } from "./dead-letter-streams.ts";
import { type DeadLetterOrigin, encodeLetter } from "./dead-letter.ts";
import { LetterSlots } from "./letter-slots.ts";

/** What {@link DeadLetterWriter} works on. */
interface WriterDependencies {
  readonly api: JetStreamApi;
  readonly reader: Reader;
  readonly publisher: Publisher;
  readonly streams: DeadLetterStreams;
}

/** An event's stored headers and payload. */
export interface EventContent {
  readonly headers: Buffer | undefined;
  readonly payload: Buffer;
}

/** What came of a letter: it is stored now, was already, or cannot be, as its event has left the stream. */
export type WrittenLetter = "stored" | "known" | "lost";

/** For one letter, its turn included; an event whose letter takes longer is tried again. */
const PATIENCE_MS = 10_000;

/** Stores letters. */
export class DeadLetterWriter {
  readonly #dependencies: WriterDependencies;
  readonly #slots = new LetterSlots();

  constructor(dependencies: WriterDependencies) {
    this.#dependencies = dependencies;
  }

  /**
   * Stores a letter in `deadLetterStream`. Without `content` the event is read from its stream, where it is the one that was
   * stored at that time (as its delivery says it). Rejects when the letter is not stored, or nobody knows.
   */
  async write(
    deadLetterStream: string,
    origin: DeadLetterOrigin,
    storedAt: string,
    content: EventContent | undefined,
  ): Promise<WrittenLetter> {
    const deadlineMs = Date.now() + PATIENCE_MS;
    await this.#slots.enter(deadLetterStream, deadlineMs);
    try {
      const event = content ?? (await this.#read(origin, storedAt, deadlineMs));
      return event === undefined ? "lost" : await this.#write(deadLetterStream, origin, event, deadlineMs);
    } finally {
      this.#slots.leave(deadLetterStream);
    }
  }

  async #write(
    deadLetterStream: string,
    origin: DeadLetterOrigin,
    event: EventContent,
    deadlineMs: number,
  ): Promise<WrittenLetter> {
    const { reader, streams } = this.#dependencies;
    const subject = letterSubject(origin.stream, origin.consumer, origin.id);
    const refused = new RefusedWrite(reader, { stream: deadLetterStream, subject, expected: 0n, deadlineMs });
    let isEnsured = false;
    let { reason } = origin;
    for (;;) {
      try {
        await this.#publish(subject, { ...origin, reason }, event, deadlineMs);
        return "stored";
      } catch (error) {
        if (isTooLarge(error) && reason !== undefined) {
          // For NATS, JetStream or the stream. It is what a letter can do without.
          reason = undefined;
          continue;
        }
        if (isNotBound(error) && !isEnsured) {
          // The stream was deleted, or somebody's update took the subject out of it.
          await streams.ensure(deadLetterStream, origin.stream, origin.consumer, { deadlineMs });
          isEnsured = true;
          continue;
        }
        if (!isWrongLastSequence(jetStreamCode(error))) throw error;
      }
      // Another server's may be under way: neither stored nor lost.
      if ((await refused.next(0n)) !== undefined) continue;
      const stored = await reader.lastOf(deadLetterStream, subject, deadlineMs);
      if (stored === undefined) continue;
      if (isSameEvent(stored, origin, event)) return "known";
      throw occupied(deadLetterStream, subject, origin);
    }
  }

  async #read(
    { stream, id }: DeadLetterOrigin,
    storedAt: string,
    deadlineMs: number,
  ): Promise<StoredMessage | undefined> {
    const event = await readStored(this.#dependencies.reader, stream, id, deadlineMs);
    if (event !== undefined && storedAtOf(event.time) !== storedAt) throw madeAnew(stream, id);
    return event;
  }

  async #publish(
    subject: string,
    origin: DeadLetterOrigin,
    event: EventContent,
    deadlineMs: number,
  ): Promise<PublishAck> {
    const { promise, resolve, reject } = Promise.withResolvers<PublishAck>();
    const message = {
      subject,
      headers: this.#headers(origin, event),
      payload: event.payload,
      deadlineMs,
      repeatable: true,
      isPatient: true,
    };
    this.#dependencies.publisher.publish(message, { onStored: resolve, onFailed: reject });
    return promise;
  }

  /** NATS would close the connection for a message that is too large. */
  #headers(origin: DeadLetterOrigin, { headers, payload }: EventContent): string {
    const block = encodeLetter(headers, origin);
    if (Buffer.byteLength(block) + payload.length <= this.#dependencies.api.connection.maxPayload) return block;
    const text = `as a dead letter, event ${origin.id} of stream ${quote(origin.stream)} would be larger than NATS accepts`;
    throw new WindshiftError("EVENT_TOO_LARGE", text, { metadata: { stream: origin.stream } });
  }
}

function isTooLarge(error: unknown): boolean {
  return error instanceof WindshiftError && error.reason === "EVENT_TOO_LARGE";
}

function isNotBound(error: unknown): boolean {
  return error instanceof WindshiftError && error.reason === "SUBJECT_NOT_BOUND";
}

function madeAnew(stream: string, id: bigint): WindshiftError {
  const text = `stream ${quote(stream)} was made anew: its event ${id} is another one`;
  return new WindshiftError("STREAM_NOT_FOUND", text, { metadata: { stream, id: String(id) } });
}

function occupied(stream: string, subject: string, { id }: DeadLetterOrigin): WindshiftError {
  const text = `${quote(subject)} holds the letter of another event; replay or delete that first`;
  return new WindshiftError("CONFIGURATION_REFUSED", text, { metadata: { stream, id: String(id) } });
}

function isSameEvent(letter: StoredMessage, { subject }: DeadLetterOrigin, event: EventContent): boolean {
  const published = "WS-Published-Time";
  return (
    headerValue(letter, "WS-Dead-Letter-Subject") === subject &&
    headerValue(letter, published) === headerValue(event, published) &&
    letter.payload.equals(event.payload)
  );
}

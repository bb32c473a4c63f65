/**
 * Replaying a dead letter: its event is published again, on its own subject, for the letter's consumer alone.
 *
 * The event's stream and the one for dead letters cannot be written together, so a server may be killed between any two
 * steps, and the letter may be replayed again at any later time. What keeps one letter from becoming two events:
 *
 * 1. A mark is stored beside the letter, once (`dead-letters.<stream>.<consumer>.<id>-replay`): the sequence that the event's
 *    stream has come to before anything was published.
 * 2. The event is published with `WS-Replay-Id`, and with a message id made of the letter: two servers at once store it once.
 * 3. The old event is settled for the consumer, the letter removed, then the mark.
 *
 * Another replay may have been through since the letter was found, and its mark be gone with the letter. Whoever stores a mark
 * looks therefore whether the letter is still there.
 *
 * Whoever finds a mark in step 1 looks first whether the event was stored after that sequence; that takes a while on a busy
 * subject, and only after a failure. A mark that outlived its letter belongs to no other one: it names the letter's sequence.
 * A stream for letters that is full takes no mark; then every replay looks, from the event that it repeats on.
 *
 * What was stored is found while the stream still has it, or its deduplication window still knows its message id.
 */
import { WindshiftError, quote } from "../errors.ts";
import type { ApiCall, JetStreamApi } from "../nats/api.ts";
import { lookTwice, readStored } from "../nats/certain-read.ts";
import { jetStreamCode } from "../nats/errors.ts";
import { type Reader, type StoredMessage, storedHeader } from "../nats/get.ts";
import { type PublishAck, type Publisher, isWrongLastSequence } from "../nats/publish.ts";
import { markSubject } from "./dead-letter-streams.ts";
import { type DeadLetter, encodeReplay } from "./dead-letter.ts";
import { matches } from "./filters.ts";
import { type FoundLetter, LetterRemoval, deadlineOf, removeMessage } from "./letter-removal.ts";

/** What a replay works on. */
interface ReplayDependencies {
  readonly api: JetStreamApi;
  readonly reader: Reader;
  readonly publisher: Publisher;
}

/** What a replay leaves beside a letter: the letter's sequence, and that which the event's stream had come to. */
interface Mark {
  readonly letter: string;
  readonly after: string;
}

/** JetStream takes no more. */
const MAX_HEADER_BYTES = 65_535;

/** Replays letters of one consumer. */
export class Replay {
  readonly #dependencies: ReplayDependencies;
  readonly #stream: string;
  readonly #consumer: string;
  readonly #removal: LetterRemoval;
  #filters: readonly string[] = [];
  /** Bytes that a message may have, as far as NATS and the stream say. */
  #maxBytes = 0;
  /** In milliseconds since the epoch. */
  #streamCreated = 0;

  constructor(dependencies: ReplayDependencies, stream: string, consumer: string) {
    this.#dependencies = dependencies;
    this.#stream = stream;
    this.#consumer = consumer;
    this.#removal = new LetterRemoval(dependencies, stream, consumer);
  }

  /**
   * Rejects where nobody would see what is replayed: without the consumer, and on a mirror or an aggregate, where nothing can
   * be published: it would go to the stream that they copy, and to the consumers there.
   */
  async prepare(call: ApiCall): Promise<void> {
    const { api } = this.#dependencies;
    const { config, created } = await api.streamInfo(this.#stream, call);
    this.#streamCreated = Date.parse(created);
    const { maxPayload } = api.connection;
    this.#maxBytes = config.max_msg_size > 0 ? Math.min(maxPayload, config.max_msg_size) : maxPayload;
    if ((config.subjects ?? []).length === 0) {
      const what = config.mirror === undefined ? "collects no subjects of its own" : "is a mirror";
      const text = `stream: ${quote(this.#stream)} ${what}, so nothing can be published again`;
      throw new WindshiftError("CONFIGURATION_REFUSED", text, { field: "stream", metadata: { stream: this.#stream } });
    }
    const consumer = await api.consumerInfo(this.#stream, this.#consumer, call);
    const { filter_subject: one, filter_subjects: several } = consumer.config;
    this.#filters = several ?? (one === undefined || one === "" ? [">"] : [one]);
  }

  /** Replays one letter. Returns the id of the new event, or "gone" where somebody else has removed the letter since. */
  async run(found: FoundLetter, call: ApiCall): Promise<bigint | "gone"> {
    const { letters, letter } = found;
    this.#checkIsSeen(letter);
    const headers = this.#headers(found);
    const mark = await this.#mark(letters, letter, call);
    if (mark.isNew && !(await this.#isThere(letters, letter, call))) {
      await removeMessage(this.#dependencies, letters, mark.sequence!, call);
      return "gone";
    }
    const before = mark.isNew ? undefined : await this.#find(letter, mark.after, call);
    const id = before ?? (await this.#store(letter.subject, headers, found.message.payload, call)).sequence;
    await this.#removal.run(found, call);
    if (mark.sequence !== undefined) await removeMessage(this.#dependencies, letters, mark.sequence, call);
    return id;
  }

  /**
   * The mark of a letter: a new one, or the one of an earlier attempt. Where the stream of letters is full, there is none: an
   * earlier attempt that found it full as well may have stored the event, behind the one that it repeats.
   */
  async #mark(
    letters: string,
    letter: DeadLetter,
    call: ApiCall,
  ): Promise<{ readonly isNew: boolean; readonly after: bigint; readonly sequence: bigint | undefined }> {
    const { reader } = this.#dependencies;
    const subject = markSubject(this.#stream, this.#consumer, letter.id);
    for (;;) {
      const { lastSequence: after } = await reader.progress(this.#stream, deadlineOf(call));
      const mark: Mark = { letter: String(letter.sequence), after: String(after) };
      try {
        const payload = Buffer.from(JSON.stringify(mark));
        const headers = "NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: 0\r\n\r\n";
        const { sequence } = await this.#store(subject, headers, payload, call);
        return { isNew: true, after, sequence };
      } catch (error) {
        if (isFull(error)) return { isNew: false, after: this.#before(letter), sequence: undefined };
        if (!isWrongLastSequence(jetStreamCode(error))) throw error;
      }
      const stored = await reader.lastOf(letters, subject, deadlineOf(call));
      const earlier = stored === undefined ? undefined : readMark(stored);
      if (stored === undefined) continue;
      if (earlier?.letter === mark.letter)
        return { isNew: false, after: BigInt(earlier.after), sequence: stored.sequence };
      await removeMessage(this.#dependencies, letters, stored.sequence, call);
    }
  }

  /** The mark, which is later, proves it where the letter is not there. */
  async #isThere(letters: string, { sequence }: DeadLetter, call: ApiCall): Promise<boolean> {
    return (await readStored(this.#dependencies.reader, letters, sequence, deadlineOf(call))) !== undefined;
  }

  /** Any replay of a letter comes after this. A stream that was made anew counts its ids from 1. */
  #before({ id, time }: DeadLetter): bigint {
    return Date.parse(time) > this.#streamCreated ? id : 0n;
  }

  /** The id of the event that an earlier attempt has stored. That there is none has to be certain. */
  async #find(letter: DeadLetter, after: bigint, call: ApiCall): Promise<bigint | undefined> {
    const { reader } = this.#dependencies;
    const consumer = this.#replayConsumer();
    let seen = after;
    return lookTwice(reader, this.#stream, after, deadlineOf(call), async () => {
      for (;;) {
        const message = await reader.firstAfter(this.#stream, letter.subject, seen, deadlineOf(call));
        if (message === undefined) return undefined;
        const isOurs = storedHeader(message, "WS-Replay-Id") === String(letter.id);
        if (isOurs && storedHeader(message, "WS-Replay-Consumer") === consumer) return message.sequence;
        seen = message.sequence;
      }
    });
  }

  /**
   * NATS would close the connection for a message that is too large for it, and what JetStream refuses would leave a mark.
   * Reasons are what an event can do without.
   */
  #headers({ letter, message }: FoundLetter): string {
    const lines = [
      `WS-Replay-Consumer: ${this.#replayConsumer()}`,
      `WS-Replay-Id: ${letter.id}`,
      `Nats-Msg-Id: ws-replay.${this.#stream}.${this.#consumer}.${letter.id}.${letter.sequence}`,
      // Elsewhere the consumer would not see it.
      `Nats-Expected-Stream: ${this.#stream}`,
    ];
    for (const hasReasons of [true, false]) {
      const block = encodeReplay(message, lines, hasReasons);
      const bytes = Buffer.byteLength(block);
      if (bytes <= MAX_HEADER_BYTES && bytes + message.payload.length <= this.#maxBytes) return block;
    }
    const text = `replayed, event ${letter.id} of stream ${quote(this.#stream)} would be larger than it may be: ${this.#maxBytes} bytes, ${MAX_HEADER_BYTES} of them headers`;
    const metadata = { stream: this.#stream, id: String(letter.id) };
    throw new WindshiftError("EVENT_TOO_LARGE", text, { metadata });
  }

  async #store(subject: string, headers: string, payload: Uint8Array, call: ApiCall): Promise<PublishAck> {
    const { promise, resolve, reject } = Promise.withResolvers<PublishAck>();
    this.#dependencies.publisher.publish(
      { subject, headers, payload, deadlineMs: deadlineOf(call), repeatable: true, isPatient: true },
      { onStored: resolve, onFailed: reject },
    );
    return promise;
  }

  #checkIsSeen({ subject, id }: DeadLetter): void {
    if (this.#filters.some((filter) => matches(filter, subject))) return;
    const metadata = { stream: this.#stream, consumer: this.#consumer, id: String(id) };
    const text = `consumer: ${quote(this.#consumer)} does not want ${quote(subject)} any more, the subject of letter ${id}`;
    throw new WindshiftError("CONFIGURATION_REFUSED", text, { field: "consumer", metadata });
  }

  #replayConsumer(): string {
    return `${this.#stream}/${this.#consumer}`;
  }
}

function isFull(error: unknown): boolean {
  return error instanceof WindshiftError && error.reason === "STREAM_FULL";
}

/** Undefined for a message that is no mark of a replay. */
export function readMark({ payload }: StoredMessage): Mark | undefined {
  try {
    const { letter, after } = JSON.parse(payload.toString()) as Partial<Mark>;
    return /^\d+$/.test(letter ?? "") && /^\d+$/.test(after ?? "") ? { letter: letter!, after: after! } : undefined;
  } catch {
    return undefined;
  }
}

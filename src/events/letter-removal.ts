/**
 * Removing a dead letter, which is the end of its event: first the event is settled for the consumer, should it not be, then
 * the letter goes. The mark that a replay may have left beside it goes at last (`replay.ts`, `dead-letters.ts`).
 *
 * JetStream finds what an acknowledgement is for by the stream's sequence alone, so the event can be settled without any
 * delivery of it. What the consumer was never given it would not answer: that is not settled, and need not be.
 */
import { WindshiftError } from "../errors.ts";
import type { ApiCall, JetStreamApi } from "../nats/api.ts";
import { readStored } from "../nats/certain-read.ts";
import { noReply } from "../nats/errors.ts";
import type { Reader, StoredMessage } from "../nats/get.ts";
import { statusCode } from "../nats/message.ts";
import type { DeadLetter } from "./dead-letter.ts";

/** What removing works on. */
interface RemovalDependencies {
  readonly api: JetStreamApi;
  readonly reader: Reader;
}

/** A letter, as a message of the stream that keeps it. */
export interface FoundLetter {
  /** Name of that stream. */
  readonly letters: string;
  readonly letter: DeadLetter;
  readonly message: StoredMessage;
}

const TERM = Buffer.from("+TERM");
const DEFAULT_DEADLINE_MS = 30_000;

/** Removes letters of one consumer. */
export class LetterRemoval {
  readonly #dependencies: RemovalDependencies;
  readonly #stream: string;
  readonly #consumer: string;
  /** The last event that the consumer was given; undefined: there is no such consumer. */
  #delivered: bigint | undefined;

  constructor(dependencies: RemovalDependencies, stream: string, consumer: string) {
    this.#dependencies = dependencies;
    this.#stream = stream;
    this.#consumer = consumer;
  }

  /** Looks how far the consumer is. */
  async prepare(call: ApiCall): Promise<void> {
    try {
      const { delivered } = await this.#dependencies.api.consumerInfo(this.#stream, this.#consumer, call);
      this.#delivered = BigInt(delivered.stream_seq);
    } catch (error) {
      if (!isGone(error)) throw error;
      this.#delivered = undefined;
    }
  }

  /** Settles the letter's event and removes the letter from the stream `letters`. */
  async run(letters: string, letter: DeadLetter, call: ApiCall): Promise<void> {
    await this.#settle(letter.id, call);
    await removeMessage(this.#dependencies, letters, letter.sequence, call);
  }

  async #settle(id: bigint, call: ApiCall): Promise<void> {
    if (this.#delivered !== undefined && id > this.#delivered) await this.prepare(call);
    if (this.#delivered === undefined || id > this.#delivered) return;
    if (await this.#terminate(id, call)) return;
    // Nobody listens: the consumer is gone since, or without a leader.
    await this.prepare(call);
    if (this.#delivered !== undefined)
      throw noReply("timeout", "to settle an event", { write: false, repeatable: true });
  }

  /** False where nobody listens. */
  async #terminate(id: bigint, call: ApiCall): Promise<boolean> {
    const { connection } = this.#dependencies.api;
    const { promise, resolve, reject } = Promise.withResolvers<boolean>();
    const subject = `$JS.ACK.${this.#stream}.${this.#consumer}.1.${id}.1.0.0`;
    const timeoutMs = Math.min(connection.options.requestTimeoutMs, Math.max(1, deadlineOf(call) - Date.now()));
    connection.request(subject, "", TERM, timeoutMs, {
      onReply: (reply) => resolve(statusCode(reply) === 0),
      onNoReply: (why) => reject(noReply(why, "to settle an event", { write: false, repeatable: true })),
    });
    return promise;
  }
}

/** Removes one message of a stream; that it is gone already is fine. */
export async function removeMessage(
  { api, reader }: RemovalDependencies,
  stream: string,
  sequence: bigint,
  call: ApiCall,
): Promise<void> {
  try {
    await api.request(
      `STREAM.MSG.DELETE.${stream}`,
      { seq: Number(sequence), no_erase: true },
      { write: true, ...call },
    );
  } catch (error) {
    if ((await readStored(reader, stream, sequence, deadlineOf(call))) !== undefined) throw error;
  }
}

function isGone(error: unknown): boolean {
  return (
    error instanceof WindshiftError && (error.reason === "CONSUMER_NOT_FOUND" || error.reason === "STREAM_NOT_FOUND")
  );
}

/** When a single question gives up. */
export function deadlineOf({ deadlineMs }: ApiCall): number {
  return deadlineMs ?? Date.now() + DEFAULT_DEADLINE_MS;
}

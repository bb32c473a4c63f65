/**
 * Removing a dead letter, which is the end of its event: first the event is settled for the consumer, should it not be, then
 * the letter goes. The mark that a replay may have left beside it goes at last (`replay.ts`, `dead-letters.ts`).
 *
 * JetStream finds what an acknowledgement is for by the stream's sequence alone, so the event can be settled without any
 * delivery of it. What the consumer was never given it would not answer: that is not settled, and need not be. Nor is the
 * event of a letter that was written before the consumer was reset, or made again under its name: it may be in progress anew.
 * That can come about at any time, so it is looked at for each letter.
 */
import type { ConsumerInfo } from "@nats-io/jetstream";
import { WindshiftError, quote } from "../errors.ts";
import type { ApiCall, JetStreamApi } from "../nats/api.ts";
import { readStored } from "../nats/certain-read.ts";
import { beganAt } from "../nats/consumer-reset.ts";
import { noReply } from "../nats/errors.ts";
import type { Reader, StoredMessage } from "../nats/get.ts";
import { statusCode } from "../nats/message.ts";
import { hasLeader } from "../nats/pull.ts";
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
const RETRY_AFTER_MS = 500;

/** Removes letters of one consumer. */
export class LetterRemoval {
  readonly #dependencies: RemovalDependencies;
  readonly #stream: string;
  readonly #consumer: string;

  constructor(dependencies: RemovalDependencies, stream: string, consumer: string) {
    this.#dependencies = dependencies;
    this.#stream = stream;
    this.#consumer = consumer;
  }

  /** Settles the letter's event and removes the letter. */
  async run(found: FoundLetter, call: ApiCall): Promise<void> {
    await this.#settle(found, call);
    await removeMessage(this.#dependencies, found.letters, found.letter.sequence, call);
  }

  async #settle(found: FoundLetter, call: ApiCall): Promise<void> {
    const consumer = await this.#find(call);
    const { id } = found.letter;
    if (consumer === undefined || id > BigInt(consumer.delivered.stream_seq)) return;
    if (isOfBefore(found, beganAt(consumer))) return;
    if (await this.#terminate(id, call)) return;
    // Nobody listens: the consumer is gone since, or without a leader.
    if ((await this.#find(call)) !== undefined)
      throw noReply("timeout", "to settle an event", { write: false, repeatable: true });
  }

  /** The consumer as its leader has it; undefined where there is none. */
  async #find(call: ApiCall): Promise<ConsumerInfo | undefined> {
    try {
      const info = await this.#dependencies.api.consumerInfo(this.#stream, this.#consumer, call);
      if (!hasLeader(info)) throw leaderless(this.#stream, this.#consumer);
      return info;
    } catch (error) {
      if (!isGone(error)) throw error;
      return undefined;
    }
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

/** By its writer's clock or by that of JetStream: what was on its way at that time belongs to before, too. */
function isOfBefore({ letter, message }: FoundLetter, beganAtMs: number): boolean {
  return Date.parse(letter.time) <= beganAtMs || Date.parse(message.time) <= beganAtMs;
}

function leaderless(stream: string, consumer: string): WindshiftError {
  const text = `consumer ${quote(consumer)} of stream ${quote(stream)} has no leader, so nobody can say what it was given`;
  return new WindshiftError("NO_LEADER", text, { metadata: { stream, consumer }, retryAfterMs: RETRY_AFTER_MS });
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

/**
 * A write on a condition that JetStream refused, on its way to an answer that is true.
 *
 * The leader of a stream compares with what it has proposed, also with what the other replicas have not taken yet and
 * may never take: it refuses a write because of another one that nobody can read, and that is lost with the leader. So
 * the last message of the subject decides. A later one than expected proves the refusal, however old the answer is:
 * sequences only rise. While it is the expected one the write is tried again, with growing pauses, until the deadline.
 * An earlier one means that the expected sequence is none of this subject, or that the leader has fallen behind without
 * knowing it, paused or cut off from the others: its own word on both is taken only if they heard from it just now.
 */
import { WindshiftError } from "../errors.ts";
import type { LeaderReader, StoredMessage } from "./get.ts";

/** What was refused. */
export interface ConditionalWrite {
  readonly stream: string;
  /** Undefined: of the whole stream. */
  readonly subject: string | undefined;
  /** The sequence that the last message of the subject had to have; 0n: there had to be none. */
  readonly expected: bigint;
  readonly deadlineMs: number;
}

const MIN_PAUSE_MS = 1;
const MAX_PAUSE_MS = 50;
const RETRY_AFTER_MS = 500;

/** Belongs to one write, and is made when that is refused for the first time. */
export class RefusedWrite {
  readonly stream: string;
  readonly #reader: LeaderReader;
  readonly #write: ConditionalWrite;
  readonly #isNone: (last: StoredMessage) => boolean;
  #pauseMs = MIN_PAUSE_MS;

  /** `isNone` tells which last messages count as none, where none is expected. */
  constructor(reader: LeaderReader, write: ConditionalWrite, isNone: (last: StoredMessage) => boolean = () => false) {
    this.stream = write.stream;
    this.#reader = reader;
    this.#write = write;
    this.#isNone = isNone;
  }

  /**
   * Resolves when it is time to try again, with the sequence to expect then, or with undefined: the condition does not
   * hold. Rejects at the deadline, and when JetStream cannot be asked; nothing is stored by then. `refused` is the
   * sequence that was expected in vain.
   */
  async next(refused: bigint): Promise<bigint | undefined> {
    const { stream, subject, expected, deadlineMs } = this.#write;
    if (subject === undefined) return this.#nextOfStream();
    const last = await this.#reader.lastOf(stream, subject, deadlineMs);
    const sequence = last?.sequence ?? 0n;
    if (expected === 0n && last !== undefined && !this.#isNone(last)) return undefined;
    if (expected > 0n && sequence > expected) return undefined;
    if (expected > 0n && sequence < expected && (await this.#isCertain())) return undefined;
    const next = expected === 0n ? sequence : expected;
    // Nothing stands against the first try over what counts as none.
    if (next === refused || this.#pauseMs > MIN_PAUSE_MS) await this.#pause();
    else this.#pauseMs *= 2;
    return next;
  }

  /** Sequences of a stream go on also where its last messages are gone: the leader knows the last one. */
  async #nextOfStream(): Promise<bigint | undefined> {
    const { stream, expected, deadlineMs } = this.#write;
    const { lastSequence, isFollowed } = await this.#reader.progress(stream, deadlineMs);
    if (lastSequence > expected || (lastSequence < expected && isFollowed)) return undefined;
    await this.#pause();
    return expected;
  }

  /** Whether the leader has come as far as the expected sequence, or is still the leader. */
  async #isCertain(): Promise<boolean> {
    const { stream, expected, deadlineMs } = this.#write;
    const { lastSequence, isFollowed } = await this.#reader.progress(stream, deadlineMs);
    return lastSequence >= expected || isFollowed;
  }

  /** Not as long as others, so that they do not meet again. */
  async #pause(): Promise<void> {
    const pauseMs = this.#pauseMs * (0.5 + Math.random() / 2);
    this.#pauseMs = Math.min(this.#pauseMs * 2, MAX_PAUSE_MS);
    // The attempt after it takes its time, too.
    if (Date.now() + pauseMs + MAX_PAUSE_MS >= this.#write.deadlineMs) throw undecided(this.#write);
    // A test has to be able to turn the clock, which it cannot for `node:timers/promises`.
    await new Promise<void>((wake) => setTimeout(wake, pauseMs));
  }
}

function undecided({ stream }: ConditionalWrite): WindshiftError {
  const text = "JetStream refused the write because of another one that was neither stored nor lost until the deadline";
  return new WindshiftError("NO_LEADER", text, {
    metadata: { stream },
    outcome: "not_stored",
    retryAfterMs: RETRY_AFTER_MS,
  });
}

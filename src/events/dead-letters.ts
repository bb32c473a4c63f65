/**
 * Dead letters as an operator sees them: listed, replayed, deleted; each for one consumer, oldest first. What writes them is
 * `dead-letter-writer.ts`.
 *
 * A letter is removed only after its event is settled for the consumer. A server that was killed between writing the letter
 * and settling the event leaves both behind, and the event would come back, as a second letter or to a client, once the first
 * one is gone.
 */
import { setTimeout as delay } from "node:timers/promises";
import { type Reason, WindshiftError, fieldError } from "../errors.ts";
import { checkName } from "../names.ts";
import type { ApiCall, JetStreamApi } from "../nats/api.ts";
import { lookAfter, readStored } from "../nats/certain-read.ts";
import type { Reader, StoredMessage } from "../nats/get.ts";
import type { Publisher } from "../nats/publish.ts";
import { isMarkSubject, letterSubject, lettersOf, markSubject } from "./dead-letter-streams.ts";
import { type DeadLetter, readLetter } from "./dead-letter.ts";
import { type FoundLetter, LetterRemoval, deadlineOf, removeMessage } from "./letter-removal.ts";
import { Replay, readMark } from "./replay.ts";

/** Letters by the ids of their events, or all that are there when the call begins. */
export type LetterChoice = readonly bigint[] | "all";

/** How many letters a page shall have, and where it goes on. */
export interface LetterPage {
  readonly size: number;
  /** `DeadLetter.sequence` of the last letter of the page before; undefined for the first page. */
  readonly after?: bigint | undefined;
}

/** How to go through letters. */
export interface LetterWork {
  /** So many a second at most; 0 or undefined: as fast as it goes. */
  readonly ratePerSecond?: number | undefined;
  /** Ends the work after the letter at hand; what was done stays done. */
  readonly signal?: AbortSignal | undefined;
  /** Hears of each letter that is done; of a replay, with the id of the new event. */
  readonly onDone?: ((id: bigint, newId: bigint | undefined) => void | Promise<void>) | undefined;
  /** Hears of each letter that fails by itself, and stays; without it that ends the work. */
  readonly onFailed?: ((id: bigint, error: WindshiftError) => void | Promise<void>) | undefined;
}

/** What became of letters. */
export interface LetterResult {
  /** Letters that were replayed, or deleted. */
  readonly done: number;
  /** Of the ids that were asked for, those without a letter, as somebody else may have taken it by now. */
  readonly missing: readonly bigint[];
}

/** What {@link DeadLetters} works on. */
export interface DeadLettersDependencies {
  readonly api: JetStreamApi;
  readonly reader: Reader;
  readonly publisher: Publisher;
}

/** A page is cut off where it has so many bytes; a single larger letter is a page. Clients of gRPC take 4 MiB at once. */
const MAX_PAGE_BYTES = 1024 * 1024;
const MAX_PAGE_SIZE = 1_000;
const MAX_IDS = 10_000;
/** What no letter gets past. */
const OF_ALL = new Set<Reason>([
  "NATS_UNAVAILABLE",
  "NO_LEADER",
  "OVERLOADED",
  "DEADLINE_EXCEEDED",
  "STREAM_NOT_FOUND",
  "CONSUMER_NOT_FOUND",
]);

/** The dead letters of consumers. */
export class DeadLetters {
  readonly #dependencies: DeadLettersDependencies;

  constructor(dependencies: DeadLettersDependencies) {
    this.#dependencies = dependencies;
  }

  /**
   * Letters of a consumer, oldest first; `next` is the `after` of the next page, undefined on the last one. The consumer need
   * not exist any more.
   */
  async list(
    stream: string,
    consumer: string,
    page: LetterPage,
    call: ApiCall,
  ): Promise<{ readonly letters: readonly DeadLetter[]; readonly next: bigint | undefined }> {
    checkNames(stream, consumer);
    const size = Math.min(Math.max(1, page.size), MAX_PAGE_SIZE);
    const letters: DeadLetter[] = [];
    let bytes = 0;
    for await (const { letter, message } of this.#letters(stream, consumer, page.after ?? 0n, call)) {
      bytes += message.payload.length + (message.headers?.length ?? 0);
      const last = letters.at(-1);
      if (last !== undefined && (letters.length >= size || bytes > MAX_PAGE_BYTES)) {
        return { letters, next: last.sequence };
      }
      letters.push(letter);
    }
    return { letters, next: undefined };
  }

  /**
   * Publishes the events of letters again, for that consumer alone, oldest first, and removes the letters. A letter whose
   * event could not be stored stays, and ends the work with the error. Repeating it after any failure stores no event twice
   * while its stream still has the new one, or knows it by its deduplication window.
   */
  async replay(
    stream: string,
    consumer: string,
    choice: LetterChoice,
    work: LetterWork,
    call: ApiCall,
  ): Promise<LetterResult> {
    const replay = new Replay(this.#dependencies, stream, consumer);
    return this.#forEach(stream, consumer, choice, work, call, {
      prepare: async () => replay.prepare(call),
      run: async (found) => replay.run(found, call),
    });
  }

  /** Removes letters, and settles their events for the consumer should they not be. */
  async delete(
    stream: string,
    consumer: string,
    choice: LetterChoice,
    work: LetterWork,
    call: ApiCall,
  ): Promise<LetterResult> {
    const removal = new LetterRemoval(this.#dependencies, stream, consumer);
    return this.#forEach(stream, consumer, choice, work, call, {
      run: async (found) => {
        await removal.run(found, call);
        return undefined;
      },
    });
  }

  async #forEach(
    stream: string,
    consumer: string,
    choice: LetterChoice,
    work: LetterWork,
    call: ApiCall,
    task: {
      readonly prepare?: () => Promise<void>;
      readonly run: (found: FoundLetter) => Promise<bigint | "gone" | undefined>;
    },
  ): Promise<LetterResult> {
    checkNames(stream, consumer);
    if (choice !== "all" && choice.length > MAX_IDS) {
      throw fieldError("INVALID_VALUE", "ids", `has ${choice.length} entries, at most ${MAX_IDS} may be`);
    }
    await task.prepare?.();
    const missing: bigint[] = [];
    const chosen =
      choice === "all"
        ? this.#letters(stream, consumer, 0n, call, async (letters, mark) => this.#sweep(letters, mark, call))
        : this.#chosen(stream, consumer, new Set(choice), missing, call);
    const pace = new Pace(work);
    let done = 0;
    for await (const found of chosen) {
      if (!(await pace.next())) break;
      const { id } = found.letter;
      let newId: bigint | "gone" | undefined;
      try {
        newId = await task.run(found);
      } catch (error) {
        if (work.onFailed === undefined || !isOfOne(error)) throw error;
        await work.onFailed(id, error);
        continue;
      }
      if (newId === "gone") {
        if (choice !== "all") missing.push(id);
        continue;
      }
      done += 1;
      await work.onDone?.(id, newId);
    }
    return { done, missing };
  }

  /** Letters after a sequence, up to what the stream has now. */
  async *#letters(
    stream: string,
    consumer: string,
    after: bigint,
    call: ApiCall,
    onOther?: (letters: string, message: StoredMessage) => Promise<void>,
  ): AsyncGenerator<FoundLetter> {
    const { api, reader } = this.#dependencies;
    const filter = lettersOf(stream, consumer);
    const letters = await api.streamOfSubject(filter, call);
    if (letters === undefined) return;
    const { state } = await api.streamInfo(letters, call);
    const end = BigInt(state.last_seq);
    // That there is none has to be certain: what comes later would be left out.
    const next = async (sequence: bigint): Promise<StoredMessage | undefined> =>
      lookAfter(reader, letters, sequence, deadlineOf(call), async () =>
        reader.firstAfter(letters, filter, sequence, deadlineOf(call)),
      );
    let message = await next(after);
    while (message !== undefined && message.sequence <= end) {
      const letter = readLetter(message);
      if (letter === undefined) await onOther?.(letters, message);
      else yield { letters, letter, message };
      message = await next(message.sequence);
    }
  }

  /** Removes the mark of a replay that was killed after its letter was removed, and one that says nothing. */
  async #sweep(letters: string, message: StoredMessage, call: ApiCall): Promise<void> {
    if (!isMarkSubject(message.subject)) return;
    const sequence = BigInt(readMark(message)?.letter ?? 0);
    if (sequence > 0n && sequence < message.sequence) {
      // The mark itself is the later message that proves that the letter is gone.
      const letter = await readStored(this.#dependencies.reader, letters, sequence, deadlineOf(call));
      if (letter !== undefined) return;
    }
    await removeMessage(this.#dependencies, letters, message.sequence, call);
  }

  async *#chosen(
    stream: string,
    consumer: string,
    ids: ReadonlySet<bigint>,
    missing: bigint[],
    call: ApiCall,
  ): AsyncGenerator<FoundLetter> {
    const { api, reader } = this.#dependencies;
    const letters = await api.streamOfSubject(lettersOf(stream, consumer), call);
    const found: { readonly id: bigint; readonly sequence: bigint }[] = [];
    const find = async (id: bigint): Promise<StoredMessage | undefined> => {
      if (letters === undefined) return undefined;
      const subject = letterSubject(stream, consumer, id);
      return lookAfter(reader, letters, 0n, deadlineOf(call), async () =>
        reader.lastOf(letters, subject, deadlineOf(call)),
      );
    };
    const sweep = async (id: bigint): Promise<void> => {
      if (letters === undefined) return;
      const mark = await reader.lastOf(letters, markSubject(stream, consumer, id), deadlineOf(call));
      if (mark !== undefined) await this.#sweep(letters, mark, call);
    };
    for (const id of ids) {
      const message = await find(id);
      if (message !== undefined) {
        found.push({ id, sequence: message.sequence });
        continue;
      }
      missing.push(id);
      await sweep(id);
    }
    for (const { id } of found.toSorted((a, b) => (a.sequence < b.sequence ? -1 : 1))) {
      const message = await find(id);
      const letter = message === undefined ? undefined : readLetter(message);
      if (letters === undefined || message === undefined || letter === undefined) missing.push(id);
      else yield { letters, letter, message };
      await sweep(id);
    }
  }
}

/** What can be otherwise with the next letter. */
function isOfOne(error: unknown): error is WindshiftError {
  return error instanceof WindshiftError && !OF_ALL.has(error.reason);
}

/** When the next one may be done. */
class Pace {
  readonly #intervalMs: number;
  readonly #signal: AbortSignal | undefined;
  #nextAt: number = performance.now();

  constructor({ ratePerSecond = 0, signal }: LetterWork) {
    this.#intervalMs = ratePerSecond > 0 ? 1_000 / ratePerSecond : 0;
    this.#signal = signal;
  }

  /** Resolves when it is time; false where the work shall end. */
  async next(): Promise<boolean> {
    const wait = this.#nextAt - performance.now();
    if (wait > 0) await delay(wait, undefined, { signal: this.#signal }).catch(() => undefined);
    this.#nextAt = Math.max(this.#nextAt, performance.now() - this.#intervalMs) + this.#intervalMs;
    return this.#signal?.aborted !== true;
  }
}

function checkNames(stream: string, consumer: string): void {
  checkName("stream", stream);
  checkName("consumer", consumer);
}

/**
 * Hot path: reading a message as it is now. A direct get is the cheapest way, and current where the stream has one
 * replica; elsewhere its leader is asked. One object for each get is its own listener all the way; a promise appears only
 * where a stream is seen for the first time.
 */
import { WindshiftError } from "../errors.ts";
import type { GetListener, MessageQuery, Reader, StoredMessage } from "./get.ts";
import type { StreamTraits, Traits } from "./stream-traits.ts";

/** Node takes no longer time than this. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** Reads what is current. */
export class CurrentReader {
  readonly #reader: Reader;
  readonly #traits: StreamTraits;

  constructor(reader: Reader, traits: StreamTraits) {
    this.#reader = reader;
    this.#traits = traits;
  }

  /** What the query finds in the stream; fails with STREAM_NOT_FOUND where there is none. */
  get(stream: string, query: MessageQuery, deadlineMs: number, listener: GetListener): void {
    const get = new CurrentGet(this.#reader, stream, query, deadlineMs, listener);
    const traits = this.#traits.of(stream);
    if (traits instanceof Promise) get.startAfter(traits);
    else get.start(traits.isDirectCurrent);
  }
}

class CurrentGet implements GetListener {
  readonly #reader: Reader;
  readonly #stream: string;
  readonly #query: MessageQuery;
  readonly #deadlineMs: number;
  readonly #listener: GetListener;
  #isDirect = false;

  constructor(reader: Reader, stream: string, query: MessageQuery, deadlineMs: number, listener: GetListener) {
    this.#reader = reader;
    this.#stream = stream;
    this.#query = query;
    this.#deadlineMs = deadlineMs;
    this.#listener = listener;
  }

  /** Others may have asked for the traits, and wait longer than this caller does. */
  startAfter(traits: Promise<Traits>): void {
    const deadlineMs = Math.min(this.#deadlineMs, Date.now() + MAX_TIMER_MS);
    let isOver = false;
    const once = (end: () => void): void => {
      if (isOver) return;
      isOver = true;
      clearTimeout(timer);
      end();
    };
    const text = "the deadline passed while asking JetStream what the stream is like";
    const metadata = { stream: this.#stream };
    const late = new WindshiftError("DEADLINE_EXCEEDED", text, { metadata, retryAfterMs: 500 });
    const timer = setTimeout(() => once(() => this.onFailed(late)), deadlineMs - Date.now());
    traits.then(
      ({ isDirectCurrent }) => once(() => this.start(isDirectCurrent)),
      (error: WindshiftError) => once(() => this.#listener.onFailed(error)),
    );
  }

  start(isDirect: boolean): void {
    this.#isDirect = isDirect;
    if (isDirect) this.#reader.direct(this.#stream, this.#query, this.#deadlineMs, this);
    else this.#reader.fromLeader(this.#stream, this.#query, this.#deadlineMs, this);
  }

  onFound(message: StoredMessage | undefined): void {
    // Not there, or answered by a mirror that may not have it yet: the leader knows.
    if (message === undefined && this.#isDirect) this.start(false);
    else this.#listener.onFound(message);
  }

  onFailed(error: WindshiftError): void {
    if (this.#isDirect && error.reason === "NO_LEADER") this.start(false);
    else this.#listener.onFailed(error);
  }
}

/**
 * The streams that the server has ended before their clients did. What a client had sent by then, and before it heard of it,
 * is on its way and means no harm: as much DATA as its window allowed, and all the rest. That lasts as long as such bytes
 * may take, and then the streams are forgotten: who makes many of them is not to have them kept for as long as the
 * connection lasts.
 */

/** Each is known for so long, and for twice that at most. */
const KEPT_MS = 60_000;
type Windows = Map<number, number>;
const NONE: Windows = new Map();

/** Those of one connection. */
export class EndedStreams {
  readonly #limit: number;
  /** What their windows still allow, by their numbers: since the last turn, and between that and the one before. */
  #recent: Windows = new Map();
  #older = NONE;
  #turnedAt = 0;

  /** `limit`: so many are known at most. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Beyond the limit it takes the place of the one that was added first. */
  add(streamId: number, window: number): void {
    this.#recent.set(streamId, window);
    if (this.#recent.size + this.#older.size <= this.#limit) return;
    const from = this.#older.size > 0 ? this.#older : this.#recent;
    for (const first of from.keys()) {
      from.delete(first);
      break;
    }
  }

  has(streamId: number): boolean {
    return this.#recent.has(streamId) || this.#older.has(streamId);
  }

  /** Whether its window still allowed so much DATA; it does not any more. */
  take(streamId: number, bytes: number): boolean {
    const among = this.#recent.has(streamId) ? this.#recent : this.#older;
    const window = among.get(streamId);
    if (window === undefined || bytes > window) return false;
    among.set(streamId, window - bytes);
    return true;
  }

  /** To be called now and then, with the time on the monotonic clock. */
  sweep(now: number): void {
    if (now - this.#turnedAt < KEPT_MS) return;
    this.#turnedAt = now;
    this.#older = this.#recent.size === 0 ? NONE : this.#recent;
    if (this.#recent.size > 0) this.#recent = new Map();
  }
}

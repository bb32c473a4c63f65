/** What is known of each event of a long run, in one byte: ids are sequence numbers, so they are the index. */

const PUBLISHED = 1;
const DELIVERED = 2;
const ACKED = 4;
const CONFIRMED = 8;
const FIRST_SIZE = 1 << 20;
/** So many ids are named; the rest is counted. */
const MAX_NAMED = 10;

/** What a tally says in the end. */
export interface Verdict {
  readonly published: number;
  readonly confirmed: number;
  /** Deliveries of events that had been delivered before. */
  readonly redelivered: number;
  /** Published, and never delivered, or never acknowledged by anyone. */
  readonly missed: number;
  /** Delivered, and never published. */
  readonly invented: number;
  /** Delivered after its acknowledgement had been confirmed, to a subscription that was not leaving. */
  readonly duplicated: number;
  /** Some of the ids that were missed, invented or duplicated. */
  readonly examples: readonly number[];
}

/** Marks events by id. */
export class Tally {
  #marks = new Uint8Array(FIRST_SIZE);
  #lastId = 0;
  #redelivered = 0;
  #confirmed = 0;
  #duplicated = 0;
  readonly #duplicates: number[] = [];

  get confirmed(): number {
    return this.#confirmed;
  }

  published(id: number): void {
    this.#mark(id, PUBLISHED);
  }

  /**
   * True when it is the first time. What a subscription that is leaving still reads was sent to it before the server handed
   * it on, so that the one it went to may have acknowledged it already.
   */
  delivered(id: number, isLeaving = false): boolean {
    const before = this.#mark(id, DELIVERED);
    if ((before & CONFIRMED) !== 0 && !isLeaving) {
      this.#duplicated += 1;
      if (this.#duplicates.length < MAX_NAMED) this.#duplicates.push(id);
    }
    if ((before & DELIVERED) === 0) return true;
    this.#redelivered += 1;
    return false;
  }

  acked(id: number): void {
    this.#mark(id, ACKED);
  }

  confirmedAck(id: number): void {
    const before = this.#mark(id, CONFIRMED);
    if ((before & CONFIRMED) === 0) this.#confirmed += 1;
  }

  verdict(): Verdict {
    let published = 0;
    let missed = 0;
    let invented = 0;
    const examples = [...this.#duplicates];
    for (let id = 1; id <= this.#lastId; id++) {
      const mark = this.#marks[id]!;
      const isPublished = (mark & PUBLISHED) !== 0;
      if (isPublished) published += 1;
      const isMissed = isPublished && (mark & (DELIVERED | ACKED)) !== (DELIVERED | ACKED);
      const isInvented = !isPublished && (mark & DELIVERED) !== 0;
      if (isMissed) missed += 1;
      if (isInvented) invented += 1;
      if ((isMissed || isInvented) && examples.length < MAX_NAMED) examples.push(id);
    }
    return {
      published,
      confirmed: this.#confirmed,
      redelivered: this.#redelivered,
      missed,
      invented,
      duplicated: this.#duplicated,
      examples,
    };
  }

  /** Returns what was marked before. */
  #mark(id: number, mark: number): number {
    if (id >= this.#marks.length) {
      const larger = new Uint8Array(Math.max(2 * this.#marks.length, id + 1));
      larger.set(this.#marks);
      this.#marks = larger;
    }
    if (id > this.#lastId) this.#lastId = id;
    const before = this.#marks[id]!;
    this.#marks[id] = before | mark;
    return before;
  }
}

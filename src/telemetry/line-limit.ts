/** Keeps a flood of failures from becoming a flood of lines: so many of a kind each second, and how many were left out. */

const WINDOW_MS = 1_000;

/** Decides which lines are written. */
export class LineLimit {
  readonly #perSecond: number;
  readonly #now: () => number;
  /** Kinds are few: methods, and reasons of errors. */
  readonly #kinds = new Map<string, { since: number; count: number; leftOut: number }>();

  constructor(perSecond: number, now: () => number = () => performance.now()) {
    this.#perSecond = perSecond;
    this.#now = now;
  }

  /** Undefined: leave this line out. Else how many of the kind were left out before it. */
  admit(kind: string): number | undefined {
    const now = this.#now();
    let entry = this.#kinds.get(kind);
    if (entry === undefined) this.#kinds.set(kind, (entry = { since: now, count: 0, leftOut: 0 }));
    if (now - entry.since >= WINDOW_MS) {
      entry.since = now;
      entry.count = 0;
    }
    if (entry.count >= this.#perSecond) {
      entry.leftOut += 1;
      return undefined;
    }
    entry.count += 1;
    const { leftOut } = entry;
    entry.leftOut = 0;
    return leftOut;
  }
}

/**
 * Keeps a flood of failures from becoming a flood of lines: so many of a kind each second, and how many were left out. The
 * next line of the kind says so, or where the flood has ended, one timer for all kinds does.
 */
import { performance } from "node:perf_hooks";

const WINDOW_MS = 1_000;
/** More kinds than these share one count: what they are made of may come from clients. */
const MAX_KINDS = 1_000;
const FURTHER_KINDS = "";

/** What a {@link LineLimit} may be given. */
export interface LineLimitOptions {
  /** Hears how many lines of a kind were left out when none came after them. The kind of those beyond a thousand is empty. */
  readonly onQuiet: (kind: string, leftOut: number) => void;
  readonly now?: () => number;
}

interface Entry {
  since: number;
  count: number;
  leftOut: number;
}

/** Decides which lines are written. */
export class LineLimit {
  readonly #perSecond: number;
  readonly #onQuiet: (kind: string, leftOut: number) => void;
  readonly #now: () => number;
  readonly #kinds = new Map<string, Entry>();
  #timer: NodeJS.Timeout | undefined;

  constructor(perSecond: number, options: LineLimitOptions) {
    this.#perSecond = perSecond;
    this.#onQuiet = options.onQuiet;
    this.#now = options.now ?? (() => performance.now());
  }

  /** Undefined: leave this line out. Else how many of the kind were left out before it. */
  admit(kind: string): number | undefined {
    const now = this.#now();
    const entry = this.#entryOf(kind, now);
    if (now - entry.since >= WINDOW_MS) {
      entry.since = now;
      entry.count = 0;
    }
    this.#lookLater();
    if (entry.count >= this.#perSecond) {
      entry.leftOut += 1;
      return undefined;
    }
    entry.count += 1;
    const { leftOut } = entry;
    entry.leftOut = 0;
    return leftOut;
  }

  #entryOf(kind: string, now: number): Entry {
    const known = this.#kinds.get(kind);
    if (known !== undefined) return known;
    const name = this.#kinds.size < MAX_KINDS ? kind : FURTHER_KINDS;
    const entry = this.#kinds.get(name) ?? { since: now, count: 0, leftOut: 0 };
    this.#kinds.set(name, entry);
    return entry;
  }

  /** Tells of floods that are over, and forgets what was quiet for a second. */
  #look(): void {
    const now = this.#now();
    this.#timer = undefined;
    for (const [kind, entry] of this.#kinds) {
      if (now - entry.since < WINDOW_MS) continue;
      this.#kinds.delete(kind);
      if (entry.leftOut > 0) this.#onQuiet(kind, entry.leftOut);
    }
    if (this.#kinds.size > 0) this.#lookLater();
  }

  #lookLater(): void {
    if (this.#timer === undefined) this.#timer = setTimeout(() => this.#look(), WINDOW_MS).unref();
  }
}

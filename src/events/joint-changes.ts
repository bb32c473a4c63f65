/**
 * Changes of which each takes long, made together: what is asked for while one is under way waits for the next, which is made
 * for all that wait. Those that wait belong to calls, which bounds them.
 */

/** What waits for one change, or is part of the one under way. */
interface Round {
  readonly items: Set<string>;
  readonly done: Promise<void>;
}

/** Changes of things that have names, one after the other for each. */
export class JointChanges {
  readonly #change: (name: string, items: ReadonlySet<string>) => Promise<void>;
  readonly #isOfOne: (error: unknown) => boolean;
  /** The rounds that have not begun, one for each name. */
  readonly #waiting = new Map<string, Round>();
  /** When all rounds of a name are over. */
  readonly #over = new Map<string, Promise<void>>();

  /** `isOfOne`: a change failed for one of its items, and nothing says which. */
  constructor(
    change: (name: string, items: ReadonlySet<string>) => Promise<void>,
    isOfOne: (error: unknown) => boolean,
  ) {
    this.#change = change;
    this.#isOfOne = isOfOne;
  }

  /** Resolves when a change was made for the item; rejects as the change does. */
  async make(name: string, item: string): Promise<void> {
    let round = this.#waiting.get(name);
    if (round === undefined) {
      const items = new Set<string>();
      round = { items, done: this.#begin(name, items) };
      this.#waiting.set(name, round);
    }
    round.items.add(item);
    try {
      await round.done;
    } catch (error) {
      if (round.items.size === 1 || !this.#isOfOne(error)) throw error;
      await this.#begin(name, new Set([item]));
    }
  }

  #begin(name: string, items: ReadonlySet<string>): Promise<void> {
    const done = (this.#over.get(name) ?? Promise.resolve()).then(async () => {
      if (this.#waiting.get(name)?.items === items) this.#waiting.delete(name);
      await this.#change(name, items);
    });
    const end = (): void => {
      if (this.#over.get(name) === over) this.#over.delete(name);
    };
    const over = done.then(end, end);
    this.#over.set(name, over);
    return done;
  }
}

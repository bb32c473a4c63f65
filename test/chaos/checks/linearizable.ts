/**
 * Whether calls on one register can be put into an order that explains every answer, each call taking effect between its
 * begin and its end (Wing and Gong, with Lowe's memory of what was tried).
 */

/** A call with what it does to a state; `undefined` where the state cannot give this answer. */
export interface Operation<State> {
  readonly begin: number;
  /** Infinity where nobody knows whether it had an effect; such a call may also never have one. */
  readonly end: number;
  apply(state: State): State | undefined;
}

/** What was found; `unknown` where looking further would take too long. */
export type Verdict = "yes" | "no" | "unknown";

const MAX_STEPS = 500_000;

/** Looks for such an order. `hash` tells states apart. */
export function isLinearizable<State>(
  operations: readonly Operation<State>[],
  initial: State,
  hash: (state: State) => string,
): Verdict {
  const ordered = operations.toSorted((a, b) => a.begin - b.begin);
  const done = ordered.map(() => false);
  const seen = new Set<string>();
  let certain = ordered.filter(({ end }) => end !== Infinity).length;
  let steps = 0;

  const search = (state: State, from: number): boolean => {
    if (certain === 0) return true;
    if (++steps > MAX_STEPS) throw new TooLong();
    while (done[from] === true) from += 1;
    const name = `${hash(state)}|${from}|${suffix(from)}`;
    if (seen.has(name)) return false;
    seen.add(name);
    // Nothing may come before a call that has ended before it began.
    let limit = Infinity;
    for (let n = from; n < ordered.length && ordered[n]!.begin <= limit; n++) {
      if (done[n] === false) limit = Math.min(limit, ordered[n]!.end);
    }
    for (let n = from; n < ordered.length && ordered[n]!.begin <= limit; n++) {
      if (done[n] === true) continue;
      const operation = ordered[n]!;
      const next = operation.apply(state);
      if (next === undefined) continue;
      const isCertain = operation.end !== Infinity;
      done[n] = true;
      if (isCertain) certain -= 1;
      if (search(next, from)) return true;
      done[n] = false;
      if (isCertain) certain += 1;
    }
    return false;
  };
  const suffix = (from: number): string => {
    let text = "";
    for (let n = from; n < done.length; n++) if (done[n] === true) text += `${n},`;
    return text;
  };
  try {
    return search(initial, 0) ? "yes" : "no";
  } catch (error) {
    if (error instanceof TooLong) return "unknown";
    throw error;
  }
}

class TooLong extends Error {}

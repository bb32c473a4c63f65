/**
 * Whether NATS patterns cover a filter, exactly. A pattern is its tokens: text, `*` for one token, a last `>` for one or more.
 *
 * Tokens are drawn from far more texts than patterns can list, so whatever `*` stands for is settled by a token that no
 * pattern names: only `*` and `>` match it. Hence a filter without `>` lies within several patterns together just when it
 * lies within one of them. With `>` that must hold for every number of tokens that it can stand for, and one pattern may
 * take some of these and the next the others: `a.>` lies within `a.*` and `a.*.>`.
 */

/** A pattern or subject, split at its dots. */
export type Tokens = readonly string[];

/** True when each subject that `filter` matches is matched by one of `patterns` at least. */
export function covers(patterns: readonly Tokens[], filter: Tokens): boolean {
  if (patterns.some((pattern) => coversAlone(pattern, filter))) return true;
  const fixed = filter.length - 1;
  if (filter[fixed] !== ">" || patterns.length < 2) return false;
  const alike = patterns.filter(
    (pattern) => pattern.length > fixed && coversAlone(pattern.slice(0, fixed), filter.slice(0, fixed)),
  );
  return coverRest(alike, fixed);
}

/** The same for a single pattern. Every publish comes here for many patterns: nothing is made on the way. */
export function coversAlone(pattern: Tokens, filter: Tokens): boolean {
  for (let at = 0; at < filter.length; at++) {
    const token = pattern[at];
    if (token === ">") return true;
    if (token !== filter[at] && (token !== "*" || filter[at] === ">")) return false;
  }
  return pattern.length === filter.length;
}

/** True when the patterns, all alike up to `at`, match one unknown token after it, and two, and so on for ever. */
function coverRest(patterns: readonly Tokens[], at: number): boolean {
  if (patterns.some((pattern) => pattern[at] === ">")) return true;
  const alive = patterns.filter((pattern) => pattern[at] === "*");
  return alive.some((pattern) => pattern.length === at + 1) && coverRest(alive, at + 1);
}

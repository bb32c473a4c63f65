/**
 * All that is allowed of one verb, or all that is denied, for one principal. Each publish to a subject that was not asked about
 * lately comes here, so patterns lie by their first token: with a hundred rules a handful is looked at.
 */
import { filtersOverlap } from "../names.ts";
import type { Effect } from "./pattern.ts";
import { type Dimension, type Question, VERBS, type Verb } from "./policy-access.ts";
import { type Grant, unmatchedName } from "./policy-grants.ts";
import { type Tokens, covers, coversAlone } from "./subset.ts";

/** A pattern of subjects or keys with the entry that it is in. */
interface Pattern {
  readonly tokens: Tokens;
  readonly grant: Grant;
}

/** One side of a verb. */
export class Side {
  readonly #grants: readonly Grant[];
  readonly #patterns: readonly Pattern[];
  readonly #byFirst = new Map<string, Pattern[]>();
  readonly #wild: readonly Pattern[];

  constructor(grants: readonly Grant[], dimension: Dimension) {
    this.#grants = grants;
    this.#patterns = grants.flatMap((grant) =>
      (grant.tokens.get(dimension) ?? []).map((tokens) => ({ tokens, grant })),
    );
    this.#wild = this.#patterns.filter(({ tokens }) => isWild(tokens[0]));
    for (const pattern of this.#patterns) {
      const [first = ""] = pattern.tokens;
      const alike = this.#byFirst.get(first);
      if (alike === undefined) this.#byFirst.set(first, [pattern]);
      else alike.push(pattern);
    }
  }

  /** An entry that has something in common with what is asked for. */
  touching(question: Question, filters: readonly Tokens[]): Grant | undefined {
    if (filters.length === 0) return this.#named(question);
    for (const filter of filters) {
      const found = this.#near(filter).find(
        ({ tokens, grant }) => filtersOverlap(tokens, filter) && isAbout(grant, question),
      );
      if (found !== undefined) return found.grant;
    }
    return undefined;
  }

  /** The entries that together cover all that is asked for; undefined when a part is covered by none. */
  covering(question: Question, filters: readonly Tokens[]): readonly Grant[] | undefined {
    if (filters.length === 0) {
      const grant = this.#named(question);
      return grant === undefined ? undefined : [grant];
    }
    const used: Grant[] = [];
    for (const filter of filters) {
      const grants = this.#coveringOne(question, filter);
      if (grants.length === 0) return undefined;
      used.push(...grants);
    }
    return used;
  }

  /** The entry that covers the filter alone, or those that do it together; none when they do not. */
  #coveringOne(question: Question, filter: Tokens): readonly Grant[] {
    const near = this.#near(filter);
    const alone = near.find(({ tokens, grant }) => coversAlone(tokens, filter) && isAbout(grant, question));
    if (alone !== undefined) return [alone.grant];
    // Only what ends in > can be covered by several together.
    if (filter.at(-1) !== ">") return [];
    const parts = near.filter(({ tokens, grant }) => filtersOverlap(tokens, filter) && isAbout(grant, question));
    const patterns = parts.map(({ tokens }) => tokens);
    return covers(patterns, filter) ? parts.map(({ grant }) => grant) : [];
  }

  #named(question: Question): Grant | undefined {
    return this.#grants.find((grant) => isAbout(grant, question));
  }

  /** The patterns that may have something in common with the filter, by its first token. */
  #near([first]: Tokens): readonly Pattern[] {
    if (first === undefined || isWild(first)) return this.#patterns;
    const alike = this.#byFirst.get(first);
    if (alike === undefined) return this.#wild;
    return this.#wild.length === 0 ? alike : [...alike, ...this.#wild];
  }
}

function isWild(token: string | undefined): boolean {
  return token === "*" || token === ">";
}

function isAbout(grant: Grant, question: Question): boolean {
  return unmatchedName(grant, question) === undefined;
}

/** What is allowed, or denied, of each verb. */
export function sidesOf(grants: readonly Grant[], effect: Effect): ReadonlyMap<Verb, Side> {
  const chosen = grants.filter((grant) => grant.effect === effect);
  const verbs = new Set(chosen.flatMap((grant) => [...grant.verbs]));
  return new Map(
    [...verbs].map((verb) => {
      const dimensions: readonly Dimension[] = VERBS[verb];
      const about = chosen.filter((grant) => grant.verbs.has(verb));
      return [verb, new Side(about, dimensions.includes("keys") ? "keys" : "subjects")];
    }),
  );
}

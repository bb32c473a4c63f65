/** Rules for one principal: what its claims make of their patterns, and whether an entry is about a question. */
import { quote } from "../errors.ts";
import { type Effect, type Template, partsMatch, substitute } from "./pattern.ts";
import type { Dimension, Question, Verb } from "./policy-access.ts";
import { kindOf } from "./policy-entries.ts";
import { type Entry, type Rule, notFor } from "./policy-rule.ts";
import type { Principal } from "./principal.ts";
import type { Tokens } from "./subset.ts";

/** An entry of a rule with the principal's values in place. */
export interface Grant {
  readonly rule: string;
  readonly path: string;
  readonly effect: Effect;
  readonly verbs: ReadonlySet<Verb>;
  readonly names: ReadonlyMap<Dimension, readonly NamePattern[]>;
  readonly tokens: ReadonlyMap<Dimension, readonly Tokens[]>;
}

interface NamePattern {
  readonly pattern: string;
  /** Split at its `*`. */
  readonly parts: readonly string[];
  /** Streams that hold stores are reached only by patterns that begin like them, in the policy's own words. */
  readonly reachesStores: boolean;
}

/** A rule for one principal. */
export interface OwnRule {
  readonly name: string;
  /** Why it allows nothing at all, if that is so. */
  readonly problem: string | undefined;
  readonly grants: readonly Grant[];
}

const STORE_STREAM = /^(?:KV|OBJ)_/;

/** The patterns of a grant for the filters of a question. */
export function tokensOf(grant: Grant, { filterDimension }: Question): readonly Tokens[] {
  return grant.tokens.get(filterDimension) ?? [];
}

/** What kind of name keeps a grant from being about the question; undefined when all names match. */
export function unmatchedName({ names, effect }: Grant, question: Question): Dimension | undefined {
  for (const [dimension, name] of question.names) {
    const patterns = names.get(dimension);
    const isMatched = patterns?.some((pattern) => (effect === "deny" ? denies(pattern, name) : allows(pattern, name)));
    if (isMatched !== true) return dimension;
  }
  return undefined;
}

function denies({ parts }: NamePattern, name: string | undefined): boolean {
  return name === undefined || partsMatch(parts, name);
}

/** All names at once are allowed by nothing less than `*`. */
function allows({ parts, reachesStores }: NamePattern, name: string | undefined): boolean {
  if (name === undefined) return parts.length > 1 && parts.every((text) => text === "");
  return partsMatch(parts, name) && (reachesStores || !STORE_STREAM.test(name));
}

/**
 * The rule with the principal's values in it. Where a claim is missing it allows nothing; what it denies without that claim
 * stays denied.
 */
export function ownRule({ name, audience, allow, deny }: Rule, principal: Principal): OwnRule {
  const absent = notFor(audience, principal);
  if (absent !== undefined) return { name, problem: absent, grants: [] };
  const denied = deny.map((entry) => ownGrant(name, entry, principal, "deny"));
  const missing = allow
    .flatMap(templatesOf)
    .find((template) => substitute(template, principal, "name", "allow") === undefined);
  if (missing !== undefined)
    return { name, problem: `a claim that ${quote(missing.source)} needs is missing`, grants: denied };
  const allowed = allow.map((entry) => ownGrant(name, entry, principal, "allow"));
  return { name, problem: undefined, grants: [...denied, ...allowed] };
}

function templatesOf({ patterns }: Entry): readonly Template[] {
  return [...patterns.values()].flat();
}

function ownGrant(rule: string, { path, verbs, patterns }: Entry, principal: Principal, effect: Effect): Grant {
  const names = new Map<Dimension, readonly NamePattern[]>();
  const tokens = new Map<Dimension, readonly Tokens[]>();
  for (const [dimension, templates] of patterns) {
    const kind = kindOf(dimension);
    const own = (each: Template): readonly string[] => substitute(each, principal, kind, effect) ?? [];
    if (kind === "tokens")
      tokens.set(
        dimension,
        templates.flatMap(own).map((pattern) => pattern.split(".")),
      );
    else
      names.set(
        dimension,
        templates.flatMap((each) => namePatterns(own(each), each, dimension)),
      );
  }
  return { rule, path, effect, verbs, names, tokens };
}

function namePatterns(patterns: readonly string[], { texts }: Template, dimension: Dimension): readonly NamePattern[] {
  const reachesStores = dimension !== "streams" || STORE_STREAM.test(texts[0] ?? "");
  return patterns.map((pattern) => ({ pattern, parts: pattern.split("*"), reachesStores }));
}

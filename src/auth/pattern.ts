/**
 * Patterns of a policy: text with references to what is known of a principal, `tenants.{claim.tenant}.>`. Whatever a
 * principal brings along stands for a part of one token and never for more: no dot and no wildcard comes in that way.
 *
 * What cannot be used (a claim `*`, `a.b` or `1.5`, an object, too many values) narrows what is allowed and widens what is
 * denied: an allowed pattern vanishes with it, a denied one takes any token in its place.
 */
import { isFilter, isName } from "../names.ts";
import { claimOf } from "./claim.ts";
import type { Principal } from "./principal.ts";

/** A reference to the principal's name, or to one of its claims. */
type Reference = { readonly of: "name" } | { readonly of: "claim"; readonly claim: string };

/** A pattern as the policy has it: texts with references between them, one less than texts. */
export interface Template {
  readonly source: string;
  readonly texts: readonly string[];
  readonly references: readonly Reference[];
}

/** Whether patterns are of subjects and keys (tokens) or of names (`*` for any run of characters). */
export type PatternKind = "tokens" | "name";

/** How a pattern is meant; decides what becomes of a value that cannot be used. */
export type Effect = "allow" | "deny";

/** Most patterns that the values of one principal may turn a single one into. */
export const MAX_EXPANSIONS = 1000;
const MAX_PATTERN_LENGTH = 1024;
const BRACES = /\{([^{}]*)\}/;
const GLOB = /^[A-Za-z0-9_*-]+$/;

/** The template, or what is wrong with it as the end of a sentence. */
export function parseTemplate(source: string, kind: PatternKind): Template | string {
  if (source.length > MAX_PATTERN_LENGTH) return `is longer than ${MAX_PATTERN_LENGTH} characters`;
  const parts = source.split(BRACES);
  const texts = parts.filter((_, index) => index % 2 === 0);
  const references: Reference[] = [];
  for (const name of parts.filter((_, index) => index % 2 === 1)) {
    const reference = parseReference(name);
    if (reference === undefined) return `has an unknown reference {${name}}: there are {name}, {claim.…} and {var.…}`;
    references.push(reference);
  }
  if (texts.some((text) => /[{}]/.test(text))) return "has a brace without its counterpart";
  // Whatever a reference stands for later is like this letter.
  const sample = texts.join("x");
  if (kind === "tokens" && !isFilter(sample))
    return 'may hold only tokens of letters, digits, "_" and "-" joined by ".", "*" for one whole token and a last ">"';
  if (kind === "name" && !GLOB.test(sample)) return 'may hold only letters, digits, "_", "-" and "*"';
  return { source, texts, references };
}

function parseReference(name: string): Reference | undefined {
  if (name === "name") return { of: "name" };
  const claim = name.startsWith("claim.") ? name.slice("claim.".length) : "";
  return claim === "" ? undefined : { of: "claim", claim };
}

/** The pattern with the principal's values in it, one for each; undefined where a claim is missing. */
export function substitute(
  template: Template,
  principal: Principal,
  kind: PatternKind,
  effect: Effect,
): readonly string[] | undefined {
  let patterns: readonly string[] = [template.texts[0] ?? ""];
  for (const [index, reference] of template.references.entries()) {
    const values = usable(valuesOf(reference, principal), effect);
    if (values === undefined) return undefined;
    if (patterns.length * values.length > MAX_EXPANSIONS) return effect === "allow" ? [] : anywhere(template, kind);
    const text = template.texts[index + 1] ?? "";
    patterns = patterns.flatMap((before) => values.map((value) => before + value + text));
  }
  return kind === "tokens" ? patterns.map(wholeTokens) : patterns;
}

/** What may stand in a pattern; undefined for a missing claim. */
function usable(values: readonly unknown[] | undefined, effect: Effect): readonly string[] | undefined {
  if (values === undefined) return undefined;
  const tokens = values.map(tokenOf).filter((token) => token !== undefined);
  return effect === "deny" && tokens.length < values.length ? ["*"] : tokens;
}

function valuesOf(reference: Reference, principal: Principal): readonly unknown[] | undefined {
  return reference.of === "name" ? [principal.name] : claimValues(principal, reference.claim);
}

/** The values of a claim, of an array each; undefined where the principal has no such claim, or null. */
export function claimValues({ claims }: Principal, claim: string): readonly unknown[] | undefined {
  const value = claimOf(claims, claim);
  if (value === undefined || value === null) return undefined;
  return Array.isArray(value) ? value : [value];
}

/** Text, whole numbers and booleans that make a token; numbers too large to be exact may have been another one. */
function tokenOf(value: unknown): string | undefined {
  const isExact = typeof value === "boolean" || Number.isSafeInteger(value);
  const text = isExact ? String(value) : value;
  return typeof text === "string" && isName(text) ? text : undefined;
}

function anywhere({ texts }: Template, kind: PatternKind): readonly string[] {
  const pattern = texts.join("*");
  return [kind === "tokens" ? wholeTokens(pattern) : pattern];
}

/** In subjects `*` is a whole token: `a-*` becomes `*`. */
function wholeTokens(pattern: string): string {
  if (!pattern.includes("*")) return pattern;
  return pattern
    .split(".")
    .map((token) => (token.includes("*") ? "*" : token))
    .join(".");
}

/** True when `name` matches the pattern, in which each `*` stands for any run of characters. */
export function nameMatches(pattern: string, name: string): boolean {
  return partsMatch(pattern.split("*"), name);
}

/** The same for a pattern that was split at its `*` before. */
export function partsMatch(parts: readonly string[], name: string): boolean {
  const [first = ""] = parts;
  if (parts.length === 1) return name === first;
  const last = parts[parts.length - 1] ?? "";
  if (name.length < first.length + last.length || !name.startsWith(first) || !name.endsWith(last)) return false;
  // The first place for each text in between leaves most for the others.
  let at = first.length;
  for (let index = 1; index < parts.length - 1; index++) {
    const text = parts[index] ?? "";
    const found = name.indexOf(text, at);
    if (found < 0) return false;
    at = found + text.length;
  }
  return at <= name.length - last.length;
}

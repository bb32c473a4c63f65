/** The rules of a policy as parsed: whom each is for, what it allows and denies, which limits it sets. */
import { quote } from "../errors.ts";
import { type Template, claimValues } from "./pattern.ts";
import type { Dimension, Verb } from "./policy-access.ts";
import type { Principal, PrincipalKind } from "./principal.ts";

/** A value that a claim may be compared with; type and value must be equal. */
export type ClaimValue = string | number | boolean;

/** Whom a rule is for: all that is given must hold, and of each list one. */
export interface Audience {
  readonly kinds?: ReadonlySet<PrincipalKind>;
  readonly principals?: ReadonlySet<string>;
  readonly groups?: ReadonlySet<string>;
  readonly claims?: ReadonlyMap<string, ReadonlySet<ClaimValue>>;
}

/** One entry of `allow` or `deny`. */
export interface Entry {
  /** Where it stands: `rules[0].allow[1]`. */
  readonly path: string;
  readonly verbs: ReadonlySet<Verb>;
  readonly patterns: ReadonlyMap<Dimension, readonly Template[]>;
}

/** What a principal may use of the server, undefined for as much as it wants. */
export interface Limits {
  readonly callsPerSecond?: number;
  readonly bytesPerSecond?: number;
  /** Subscriptions that are open at the same time. */
  readonly openSubscriptions?: number;
  /** Streaming calls of any kind that are open at the same time. */
  readonly openStreams?: number;
}

/** One rule. */
export interface Rule {
  readonly name: string;
  readonly audience: Audience;
  readonly allow: readonly Entry[];
  readonly deny: readonly Entry[];
  readonly limits: Limits;
}

/** Why the rule is not for the principal; undefined when it is. */
export function notFor({ kinds, principals, groups, claims }: Audience, principal: Principal): string | undefined {
  if (kinds?.has(principal.kind) === false) return `it is not for principals of kind ${principal.kind}`;
  // Nobody proved to be what an anonymous caller is called.
  const isNamed = principal.kind !== "anonymous";
  if (principals !== undefined && !(isNamed && principals.has(principal.name)))
    return `it is not for the principal ${quote(principal.name)}`;
  if (groups !== undefined && !(isNamed && principal.groups.some((group) => groups.has(group))))
    return `it is for members of ${[...groups].map(quote).join(", ")}`;
  for (const [claim, values] of claims ?? []) {
    const found = isNamed ? claimValues(principal, claim) : undefined;
    if (found === undefined) return `the claim ${quote(claim)} is missing`;
    if (!found.some((value) => values.has(value as ClaimValue)))
      return `the claim ${quote(claim)} is not ${[...values].map(quote).join(" or ")}`;
  }
  return undefined;
}

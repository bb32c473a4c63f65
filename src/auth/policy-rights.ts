/**
 * The rules of a policy as they are for one principal: claims in their places, patterns split. Made once for each principal
 * and policy; what was decided lately about single subjects and keys is kept, within bounds.
 *
 * Denials win: one that has a subject in common with what is asked for refuses all of it. What is allowed may come from
 * several rules together. Without a rule nothing is allowed.
 */
import { quote } from "../errors.ts";
import { isFilter, isName, isSubject } from "../names.ts";
import { type Access, type Question, type Verb, questionsOf } from "./policy-access.ts";
import { type OwnRule, ownRule } from "./policy-grants.ts";
import type { Rule } from "./policy-rule.ts";
import { type Side, sidesOf } from "./policy-side.ts";
import type { Principal } from "./principal.ts";
import { RecentMap } from "./recent-map.ts";

/** What a policy says to an access. */
export interface Decision {
  readonly allowed: boolean;
  /** The rules that decided, joined by commas; undefined where none is about it. */
  readonly rule: string | undefined;
  /** A sentence for people who may know the rules, and what NATS holds. */
  readonly explanation: string;
  /** What whoever is refused may hear: the verb with what they named themselves. */
  readonly refusal?: string;
  /** A name or subject is none: nobody could be allowed to do that. */
  readonly isInvalid?: true;
}

/** Decisions kept for a principal are twice that at most. */
const MAX_RECENT = 256;
const MAX_RECENT_KEY = 256;
/** Most filters or keys that are looked at: a thousand for each source of a stream, and the server takes no more of these. */
const MAX_FILTERS = 10_000;

/** What one principal may do. */
export class Rights {
  readonly rules: readonly OwnRule[];
  readonly #who: string;
  readonly #allow: ReadonlyMap<Verb, Side>;
  readonly #deny: ReadonlyMap<Verb, Side>;
  readonly #publishes = new RecentMap<Decision>(MAX_RECENT);
  readonly #others = new RecentMap<Decision>(MAX_RECENT);

  constructor(rules: readonly Rule[], principal: Principal) {
    this.rules = rules.map((rule) => ownRule(rule, principal));
    this.#who = quote(principal.name);
    const grants = this.rules.flatMap((rule) => rule.grants);
    this.#allow = sidesOf(grants, "allow");
    this.#deny = sidesOf(grants, "deny");
  }

  /** Whether the principal may do that, and why. */
  decide(access: Access): Decision {
    if (access.verb === "publish") return this.#kept(this.#publishes, access.subject, access);
    const key = recentKey(access);
    return key === undefined ? this.#decide(access) : this.#kept(this.#others, key, access);
  }

  #kept(recent: RecentMap<Decision>, key: string, access: Access): Decision {
    const known = recent.get(key);
    if (known !== undefined) return known;
    const decision = this.#decide(access);
    if (key.length <= MAX_RECENT_KEY) recent.set(key, decision);
    return decision;
  }

  #decide(access: Access): Decision {
    const questions = questionsOf(access);
    let first: Decision | undefined;
    for (const question of questions) {
      const decision = this.#answer(question);
      if (!decision.allowed) return decision;
      first ??= decision;
    }
    return first as Decision;
  }

  #answer(question: Question): Decision {
    const { verb, text, named } = question;
    const refused = (rule: string | undefined, why: string): Decision => ({
      allowed: false,
      rule,
      explanation: `${this.#who} may not ${text}: ${why}`,
      refusal: `the policy does not allow to ${named}`,
    });
    const invalid = invalidPart(question);
    if (invalid !== undefined) return { ...refused(undefined, `${quote(invalid)} is not valid`), isInvalid: true };
    if (question.filters.length > MAX_FILTERS) return refused(undefined, `these are more than ${MAX_FILTERS}`);
    const filters = question.filters.map((filter) => filter.split("."));
    const denial = this.#deny.get(verb)?.touching(question, filters);
    if (denial !== undefined) return refused(denial.rule, `denied by rule ${denial.rule}`);
    const used = this.#allow.get(verb)?.covering(question, filters);
    if (used === undefined) return refused(undefined, "no rule allows it");
    const rule = [...new Set(used.map((grant) => grant.rule))].join(", ");
    return { allowed: true, rule, explanation: `${this.#who} may ${text}: allowed by rule ${rule}` };
  }
}

/** Single subjects and keys come again and again; the verb and names before them hold no blanks where they are valid. */
function recentKey(access: Access): string | undefined {
  switch (access.verb) {
    case "state-read":
    case "state-write":
      return access.keys.length === 1 ? `${access.verb} ${access.store} ${access.keys[0]}` : undefined;
    case "consume":
      return access.filters.length === 1
        ? `consume ${access.isLearned ?? false} ${access.stream} ${access.consumer} ${access.filters[0]}`
        : undefined;
    default:
      return undefined;
  }
}

/**
 * The first name or filter that NATS would not take: nothing is known of what it might be taken for. What NATS has already
 * it did take: it allows more characters than we do.
 */
function invalidPart({ verb, names, filters, isLearned }: Question): string | undefined {
  const isValid = verb === "publish" || verb === "state-write" ? isSubject : isFilter;
  const name = names.find(([, value]) => value !== undefined && !isName(value))?.[1];
  return name ?? (isLearned ? undefined : filters.find((filter) => !isValid(filter)));
}

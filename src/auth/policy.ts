/**
 * Authorization: a policy says who may do what, and what nobody allowed is refused. It knows names and subjects, no calls and no
 * transport. A `Policy` never changes; when its file does, there is a new one (`policy-file.ts`) and whoever holds something open
 * asks that again.
 */
import type { Access } from "./policy-access.ts";
import { type RuleNote, noteRules } from "./policy-explain.ts";
import { parsePolicy } from "./policy-parse.ts";
import { type Decision, Rights } from "./policy-rights.ts";
import { type Limits, type Rule, notFor } from "./policy-rule.ts";
import type { Principal } from "./principal.ts";

/** A decision with what each rule had to say. */
export interface Explanation extends Decision {
  readonly rules: readonly RuleNote[];
}

/** Who may do what. */
export class Policy {
  readonly #rules: readonly Rule[];
  readonly #rights = new WeakMap<Principal, Rights>();

  private constructor(rules: readonly Rule[]) {
    this.#rules = rules;
  }

  /** Reads a policy; throws a `PolicyError` with every fault. */
  static parse(text: string): Policy {
    return new Policy(parsePolicy(text));
  }

  /** How many rules there are. */
  get size(): number {
    return this.#rules.length;
  }

  /** Whether the principal may do that. Names and filters that NATS would not take are refused. */
  decide(principal: Principal, access: Access): Decision {
    return this.#rightsOf(principal).decide(access);
  }

  /** The decision, and why each rule made it or had nothing to do with it. */
  explain(principal: Principal, access: Access): Explanation {
    const rights = this.#rightsOf(principal);
    return { ...rights.decide(access), rules: noteRules(rights.rules, access) };
  }

  /** The limits of the principal, each from the first rule for it that sets that one. */
  limitsOf(principal: Principal): Limits {
    const applying = this.#rules.filter(({ audience }) => notFor(audience, principal) === undefined);
    return Object.assign({}, ...applying.map(({ limits }) => limits).toReversed()) as Limits;
  }

  #rightsOf(principal: Principal): Rights {
    let rights = this.#rights.get(principal);
    if (rights === undefined) {
      rights = new Rights(this.#rules, principal);
      this.#rights.set(principal, rights);
    }
    return rights;
  }
}

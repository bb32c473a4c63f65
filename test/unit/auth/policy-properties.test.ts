/**
 * What is decided, compared with what would be seen: every event of a small world is looked at one by one, by rules that
 * are written down here again in the plainest way.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { Policy } from "../../../src/auth/policy.ts";
import type { Principal } from "../../../src/auth/principal.ts";

interface Entry {
  readonly effect: "allow" | "deny";
  readonly name: string;
  readonly patterns: readonly string[];
}

/** Stands for the claim in patterns here. */
const CLAIM = "CLAIM";
const NAMES = ["s1", "s2", "x"];
/** Tokens of the world; no pattern and no claim can be "other". */
const TOKENS = ["a", "b", "other"];
const SUBJECTS = [1, 2, 3, 4].flatMap((length) => textsOf(length));

function textsOf(length: number): string[] {
  if (length === 1) return [...TOKENS];
  return textsOf(length - 1).flatMap((text) => TOKENS.map((token) => `${text}.${token}`));
}

const tokens = (...extra: string[]): fc.Arbitrary<string> =>
  fc
    .tuple(
      fc.array(fc.constantFrom("a", "b", "*", ...extra), { maxLength: 2 }),
      fc.constantFrom("a", "b", "*", ">", ...extra),
    )
    .map(([first, last]) => [...first, last].join("."));
const pattern = tokens(CLAIM);
const filters = fc.array(tokens(), { minLength: 1, maxLength: 3 });
const entries = fc.array(
  fc.record({
    effect: fc.constantFrom("allow" as const, "allow" as const, "allow" as const, "deny" as const),
    name: fc.constantFrom("s1", "s2", "s*", "*"),
    patterns: fc.array(pattern, { minLength: 1, maxLength: 3 }),
  }),
  { minLength: 1, maxLength: 5 },
);
/** Claims as issuers send them, good and bad, and what each may stand for; undefined for a missing one. */
const CLAIMS: readonly (readonly [unknown, readonly string[] | "nothing usable" | undefined])[] = [
  ["a", ["a"]],
  [
    ["a", "b"],
    ["a", "b"],
  ],
  [["a", "*"], "nothing usable"],
  ["*", "nothing usable"],
  [">", "nothing usable"],
  ["a.b", "nothing usable"],
  ["", "nothing usable"],
  [{ t: "a" }, "nothing usable"],
  [undefined, undefined],
  [null, undefined],
];

function matches(pattern: readonly string[], subject: readonly string[]): boolean {
  const [first, ...rest] = pattern;
  const [token, ...others] = subject;
  if (first === undefined || token === undefined) return first === token;
  if (first === ">") return true;
  return (first === "*" || first === token) && matches(rest, others);
}

/** Whether one event of a stream (or key of a store) may be seen. */
function isVisible(all: readonly Entry[], claim: (typeof CLAIMS)[number], name: string, subject: string): boolean {
  const [value, values] = claim;
  // What a bad claim of several values leaves for allowing: those that are tokens.
  const allowing = values === "nothing usable" ? [value].flat().filter((each) => each === "a") : values;
  // A claim that says nothing usable may have meant any token.
  const denying = values === "nothing usable" ? TOKENS : values;
  const applies = (entry: Entry): boolean => {
    if (!new RegExp(`^${entry.name.replace("*", ".*")}$`).test(name)) return false;
    const instead = (entry.effect === "allow" ? allowing : denying) ?? [];
    return entry.patterns.some((text) =>
      combinations(text.split("."), instead as readonly string[]).some((each) => matches(each, subject.split("."))),
    );
  };
  const rule = all.filter(({ effect }) => effect === "allow");
  const isWhole = values !== undefined || !rule.some(({ patterns }) => patterns.join().includes(CLAIM));
  return isWhole && rule.some(applies) && !all.some((entry) => entry.effect === "deny" && applies(entry));
}

/** The pattern with each mention of the claim replaced by each value. */
function combinations(pattern: readonly string[], values: readonly string[]): string[][] {
  return pattern.reduce<string[][]>(
    (starts, token) => starts.flatMap((start) => (token === CLAIM ? values : [token]).map((each) => [...start, each])),
    [[]],
  );
}

function policyOf(all: readonly Entry[], fields: (entry: Entry) => object, ...others: readonly object[]): Policy {
  const sides = (["allow", "deny"] as const).map((side) => [
    side,
    all.filter(({ effect }) => effect === side).map(fields),
  ]);
  const rule = { name: "r", for: "everyone", ...Object.fromEntries(sides.filter(([, list]) => list?.length !== 0)) };
  return Policy.parse(JSON.stringify({ version: 1, rules: [rule, ...others] }).replaceAll(CLAIM, "{claim.t}"));
}

function principalOf([value]: (typeof CLAIMS)[number]): Principal {
  return { name: "p", kind: "jwt", groups: [], claims: value === undefined ? {} : { t: value } };
}

const world = fc.tuple(entries, fc.constantFrom(...CLAIMS), fc.constantFrom(...NAMES), filters);

/** Exactly what shows nothing hidden is allowed: nothing else, and nothing less. */
function showsOnlyVisible(
  all: readonly Entry[],
  claim: (typeof CLAIMS)[number],
  name: string,
  asked: readonly string[],
): boolean {
  const shown = SUBJECTS.filter((subject) => asked.some((filter) => matches(filter.split("."), subject.split("."))));
  return shown.every((subject) => isVisible(all, claim, name, subject));
}

test("a read is allowed just when its filters show nothing that is hidden", () => {
  const property = fc.property(world, ([all, claim, stream, asked]) => {
    const policy = policyOf(all, ({ name, patterns }) => ({ verbs: ["read"], streams: [name], subjects: patterns }));
    const { allowed } = policy.decide(principalOf(claim), { verb: "read", stream, filters: asked });
    expect(allowed).toBe(showsOnlyVisible(all, claim, stream, asked));
  });
  fc.assert(property, { numRuns: 1500 });
});

test("a consumer is allowed, and may be consumed, just when its filters show nothing that is hidden", () => {
  const property = fc.property(world, ([all, claim, stream, asked]) => {
    const verbs = ["consume", "ensure-consumer"] as const;
    const policy = policyOf(all, ({ name, patterns }) => ({
      verbs,
      streams: [name],
      consumers: ["c*"],
      subjects: patterns,
    }));
    const expected = showsOnlyVisible(all, claim, stream, asked);
    for (const verb of verbs) {
      const { allowed } = policy.decide(principalOf(claim), { verb, stream, consumer: "c1", filters: asked });
      expect(allowed).toBe(expected);
    }
  });
  fc.assert(property, { numRuns: 500 });
});

test("keys of a store are shown just when none of them is hidden", () => {
  const property = fc.property(world, ([all, claim, store, asked]) => {
    const policy = policyOf(all, ({ name, patterns }) => ({ verbs: ["state-read"], stores: [name], keys: patterns }));
    const { allowed } = policy.decide(principalOf(claim), { verb: "state-read", store, keys: asked });
    expect(allowed).toBe(showsOnlyVisible(all, claim, store, asked));
  });
  fc.assert(property, { numRuns: 500 });
});

test("a mirror is allowed just when it takes nothing that is hidden", () => {
  const property = fc.property(world, ([all, claim, stream, asked]) => {
    const copies = { verbs: ["ensure-stream"], streams: ["copy"], subjects: [">"] };
    const other = { name: "copies", for: "everyone", allow: [copies] };
    const policy = policyOf(
      all,
      ({ name, patterns }) => ({ verbs: ["read"], streams: [name], subjects: patterns }),
      other,
    );
    const sources = [{ stream, filters: asked }];
    const { allowed } = policy.decide(principalOf(claim), {
      verb: "ensure-stream",
      stream: "copy",
      subjects: [],
      sources,
    });
    expect(allowed).toBe(showsOnlyVisible(all, claim, stream, asked));
  });
  fc.assert(property, { numRuns: 500 });
});

test("whatever is published to is something that one rule allows and none denies", () => {
  const property = fc.property(
    entries,
    fc.constantFrom(...CLAIMS),
    fc.constantFrom(...SUBJECTS),
    (all, claim, subject) => {
      const everywhere = all.map((entry) => ({ ...entry, name: "*" }));
      const policy = policyOf(everywhere, ({ patterns }) => ({ verbs: ["publish"], subjects: patterns }));
      const { allowed } = policy.decide(principalOf(claim), { verb: "publish", subject });
      expect(allowed).toBe(isVisible(everywhere, claim, "s1", subject));
    },
  );
  fc.assert(property, { numRuns: 1500 });
});

import { describe, expect, test } from "vitest";
import type { Access } from "../../../src/auth/policy-access.ts";
import { Policy } from "../../../src/auth/policy.ts";
import { ANONYMOUS, type Principal } from "../../../src/auth/principal.ts";

const principal = (parts: Partial<Principal> = {}): Principal => ({
  name: "p",
  kind: "token",
  groups: [],
  claims: {},
  ...parts,
});
const policyOf = (...rules: readonly object[]): Policy => Policy.parse(JSON.stringify({ version: 1, rules }));
const everything = (audience: unknown): Policy => policyOf({ name: "r", for: audience, allow: "everything" });
const allows = (policy: Policy, who: Principal): boolean =>
  policy.decide(who, { verb: "publish", subject: "a" }).allowed;

describe("whom a rule is for", () => {
  test.for<readonly [string, unknown, Partial<Principal>, boolean]>([
    ["everyone", "everyone", {}, true],
    ["everyone, also without a name", "everyone", ANONYMOUS, true],
    ["who is authenticated", "authenticated", {}, true],
    ["who is authenticated, by a certificate", "authenticated", { kind: "certificate" }, true],
    ["not who is not", "authenticated", ANONYMOUS, false],
    ["the anonymous alone", { kinds: ["anonymous"] }, ANONYMOUS, true],
    ["the anonymous alone, not others", { kinds: ["anonymous"] }, {}, false],
    ["a name", { principals: ["q", "p"] }, {}, true],
    ["another name", { principals: ["q"] }, {}, false],
    ["a name in other letters", { principals: ["P"] }, {}, false],
    ["a name with a letter of another alphabet", { principals: ["\u0440"] }, {}, false],
    ["a name with something unseen in it", { principals: ["p"] }, { name: "p\u200b" }, false],
    ["a name in decomposed letters", { principals: ["\u00e9"] }, { name: "e\u0301" }, false],
    ["a name with a blank", { principals: ["p"] }, { name: "p " }, false],
    ["a name that is a wildcard", { principals: ["p"] }, { name: "*" }, false],
    ["a wildcard, which is a name like others", { principals: ["*"] }, {}, false],
    ["the name of the anonymous", { principals: ["anonymous"] }, ANONYMOUS, false],
    ["the name of the anonymous, proved", { principals: ["anonymous"] }, { name: "anonymous" }, true],
    ["a name of another kind", { principals: ["p"], kinds: ["certificate"] }, {}, false],
    ["a group", { groups: ["a", "g"] }, { groups: ["f", "g"] }, true],
    ["a group in other letters", { groups: ["G"] }, { groups: ["g"] }, false],
    ["a group that the name is called", { groups: ["p"] }, {}, false],
    ["a group of somebody anonymous", { groups: ["g"] }, { ...ANONYMOUS, groups: ["g"] }, false],
    ["a name and a group, both", { principals: ["p"], groups: ["g"] }, { groups: ["g"] }, true],
    ["a name and a group, one of them", { principals: ["p"], groups: ["g"] }, {}, false],
    ["a claim", { claims: { role: "x" } }, { claims: { role: "x" } }, true],
    ["a claim with one of several values", { claims: { role: ["y", "x"] } }, { claims: { role: "x" } }, true],
    ["a claim that is a list", { claims: { role: "x" } }, { claims: { role: ["y", "x"] } }, true],
    ["a claim of another value", { claims: { role: "x" } }, { claims: { role: "X" } }, false],
    ["a claim of another type", { claims: { level: 1 } }, { claims: { level: "1" } }, false],
    ["a claim that is true", { claims: { admin: true } }, { claims: { admin: true } }, true],
    ["a claim that is nearly true", { claims: { admin: true } }, { claims: { admin: 1 } }, false],
    ["a claim that is an object", { claims: { role: "x" } }, { claims: { role: { x: true } } }, false],
    ["a missing claim", { claims: { role: "x" } }, {}, false],
    ["a claim that every object has", { claims: { constructor: "x" } }, {}, false],
    ["a claim of somebody anonymous", { claims: { role: "x" } }, { ...ANONYMOUS, claims: { role: "x" } }, false],
    ["two claims, one of them", { claims: { role: "x", level: 1 } }, { claims: { role: "x" } }, false],
  ])("%s", ([, audience, who, expected]) => {
    expect(allows(everything(audience), principal(who))).toBe(expected);
  });
});

describe("a rule whose claim is missing", () => {
  const policy = policyOf(
    { name: "all", for: "everyone", allow: [{ verbs: ["publish"], subjects: ["x.>"] }] },
    {
      name: "r",
      for: "everyone",
      allow: [
        { verbs: ["publish"], subjects: ["a", "t.{claim.t}"] },
        { verbs: ["ensure-store"], stores: ["s"] },
      ],
      deny: [{ verbs: ["publish"], subjects: ["x.secret", "x.{claim.t}"] }],
    },
  );
  const decide = (who: Principal, subject: string): boolean => policy.decide(who, { verb: "publish", subject }).allowed;

  test("allows nothing at all", () => {
    expect(decide(principal({ claims: { t: "1" } }), "a")).toBe(true);
    expect(decide(principal(), "a")).toBe(false);
    expect(policy.decide(principal(), { verb: "ensure-store", store: "s" }).allowed).toBe(false);
  });

  test("still denies what it denies without it", () => {
    expect(decide(principal(), "x.secret")).toBe(false);
    expect(decide(principal(), "x.1")).toBe(true);
    expect(decide(principal({ claims: { t: "1" } }), "x.1")).toBe(false);
  });
});

describe("streams that hold stores", () => {
  const read = (streams: readonly string[], stream: string): boolean =>
    policyOf({ name: "r", for: "everyone", allow: [{ verbs: ["read"], streams, subjects: [">"] }] }).decide(
      principal({ claims: { t: "KV_s" } }),
      { verb: "read", stream, filters: [] },
    ).allowed;

  test.for([
    [["*"], "KV_s", false],
    [["*"], "OBJ_s", false],
    [["*_s"], "KV_s", false],
    [["K*"], "KV_s", false],
    [["{claim.t}"], "KV_s", false],
    [["{claim.t}*"], "KV_s2", false],
    [["KV_*"], "KV_s", true],
    [["KV_s"], "KV_s", true],
    [["*"], "kv_s", true],
    [["*"], "KV", true],
  ] as const)("%j allows %s: %s", ([patterns, stream, expected]) => {
    expect(read(patterns, stream)).toBe(expected);
  });

  test("are denied by any pattern that matches them", () => {
    const policy = policyOf({
      name: "r",
      for: "everyone",
      allow: "everything",
      deny: [{ verbs: ["read"], streams: ["*"], subjects: [">"] }],
    });
    expect(policy.decide(principal(), { verb: "read", stream: "KV_s", filters: [] }).allowed).toBe(false);
  });
});

describe("filters allowed by several rules together", () => {
  const policy = policyOf(
    { name: "one", for: "everyone", allow: [{ verbs: ["read"], streams: ["s"], subjects: ["a.*", "b"] }] },
    { name: "two", for: "everyone", allow: [{ verbs: ["read"], streams: ["s"], subjects: ["a.*.>", "c"] }] },
  );
  test.for<readonly [readonly string[], string | undefined]>([
    [["a.>"], "one, two"],
    [["a.x"], "one"],
    [["a.x.y"], "two"],
    [["b", "c"], "one, two"],
    [["b", "d"], undefined],
  ])("%j: %s", ([filters, rule]) => {
    expect(policy.decide(principal(), { verb: "read", stream: "s", filters })).toMatchObject({
      allowed: rule !== undefined,
      rule,
    });
  });
});

test("what is not valid in NATS is refused even where everything is allowed", () => {
  const policy = everything("everyone");
  for (const subject of ["", "a.", "a b", "a.*", ">", "$SYS.a", "é", "a\n", "a".repeat(2000)])
    expect(policy.decide(principal(), { verb: "publish", subject })).toMatchObject({ allowed: false, rule: undefined });
  for (const stream of ["", "a.b", "*", "a b", "é", "a\n"])
    expect(policy.decide(principal(), { verb: "read", stream, filters: [] }).allowed).toBe(false);
  expect(policy.decide(principal(), { verb: "state-write", store: "s", keys: ["a.*"] }).allowed).toBe(false);
  expect(policy.decide(principal(), { verb: "state-read", store: "s", keys: ["a.*"] }).allowed).toBe(true);
});

describe("decisions that are kept", () => {
  const policy = policyOf({
    name: "r",
    for: "everyone",
    allow: [
      { verbs: ["publish"], subjects: ["{name}.*"] },
      { verbs: ["state-read"], stores: ["s"], keys: ["{name}.>"] },
    ],
  });

  test("are those of one principal", () => {
    const [ann, bob] = [principal({ name: "ann" }), principal({ name: "bob" })];
    for (let round = 0; round < 2; round++) {
      expect(policy.decide(ann, { verb: "publish", subject: "ann.x" }).allowed).toBe(true);
      expect(policy.decide(bob, { verb: "publish", subject: "ann.x" }).allowed).toBe(false);
      expect(policy.decide(ann, { verb: "state-read", store: "s", keys: ["ann.x"] }).allowed).toBe(true);
      expect(policy.decide(ann, { verb: "state-read", store: "S", keys: ["ann.x"] }).allowed).toBe(false);
    }
  });

  test("are the same object while they are kept, and forgotten when there are many others", () => {
    const who = principal({ name: "ann" });
    const decide = (n: number): unknown => policy.decide(who, { verb: "publish", subject: `ann.${n}` });
    const first = decide(0);
    expect(decide(0)).toBe(first);
    for (let n = 1; n < 5000; n++) decide(n);
    expect(decide(0)).not.toBe(first);
    expect(decide(0)).toEqual(first);
  });

  test("are not confused by names with blanks", () => {
    const who = principal({ name: "ann" });
    expect(policy.decide(who, { verb: "publish", subject: "state-read s ann.x" }).allowed).toBe(false);
    expect(policy.decide(who, { verb: "state-read", store: "s ann.x", keys: ["ann.x"] }).allowed).toBe(false);
    expect(policy.decide(who, { verb: "state-read", store: "s", keys: ["ann.x"] }).allowed).toBe(true);
  });
});

describe("limits", () => {
  const policy = policyOf(
    { name: "vip", for: { principals: ["vip"] }, limits: { "calls-per-second": 1000 } },
    {
      name: "tokens",
      for: { kinds: ["token"] },
      limits: { "calls-per-second": 10, "bytes-per-second": "2KiB", "open-subscriptions": 3 },
    },
    { name: "rest", for: "everyone", limits: { "bytes-per-second": 5, "open-streams": 7 } },
  );
  test.for<readonly [Principal, object]>([
    [principal({ name: "vip" }), { callsPerSecond: 1000, bytesPerSecond: 2048, openSubscriptions: 3, openStreams: 7 }],
    [principal(), { callsPerSecond: 10, bytesPerSecond: 2048, openSubscriptions: 3, openStreams: 7 }],
    [ANONYMOUS, { bytesPerSecond: 5, openStreams: 7 }],
  ])("come each from the first rule that sets it: %o", ([who, expected]) => {
    expect(policy.limitsOf(who)).toEqual(expected);
  });

  test("are none where no rule sets any", () => {
    expect(everything("everyone").limitsOf(principal())).toEqual({});
  });
});

test("an explanation says of each rule what it has to do with it", () => {
  const policy = policyOf(
    { name: "team", for: { groups: ["g"] }, allow: "everything" },
    { name: "kind", for: { kinds: ["jwt"] }, allow: "everything" },
    { name: "person", for: { principals: ["q"] }, allow: "everything" },
    { name: "role", for: { claims: { role: ["x", "y"] } }, allow: "everything" },
    { name: "none", for: { claims: { nothing: 1 } }, allow: "everything" },
    { name: "tenant", for: "everyone", allow: [{ verbs: ["read"], streams: ["s"], subjects: ["{claim.t}.>"] }] },
    { name: "writes", for: "everyone", allow: [{ verbs: ["publish"], subjects: ["a"] }] },
    { name: "other", for: "everyone", allow: [{ verbs: ["read"], streams: ["o", "p"], subjects: [">"] }] },
    { name: "part", for: "everyone", allow: [{ verbs: ["read"], streams: ["s"], subjects: ["a.b"] }] },
    { name: "apart", for: "everyone", allow: [{ verbs: ["read"], streams: ["s"], subjects: ["b", "c"] }] },
    { name: "whole", for: "everyone", allow: [{ verbs: ["read"], streams: ["s"], subjects: ["a.>"] }] },
    { name: "harmless", for: "everyone", deny: [{ verbs: ["read"], streams: ["s"], subjects: ["b"] }] },
    { name: "stop", for: "everyone", deny: [{ verbs: ["read"], streams: ["*"], subjects: ["*.secret"] }] },
  );
  const who = principal({ claims: { role: "z" } });
  const explanation = policy.explain(who, { verb: "read", stream: "s", filters: ["a.*"] });
  expect(explanation).toMatchObject({
    allowed: false,
    rule: "stop",
    explanation: '"p" may not read "s" "a.*": denied by rule stop',
  });
  expect(Object.fromEntries(explanation.rules.map(({ rule, notes }) => [rule, notes.join("; ")]))).toEqual({
    team: 'does not apply: it is for members of "g"',
    kind: "does not apply: it is not for principals of kind token",
    person: 'does not apply: it is not for the principal "p"',
    role: 'does not apply: the claim "role" is not "x" or "y"',
    none: 'does not apply: the claim "nothing" is missing',
    tenant: 'does not apply: a claim that "{claim.t}.>" needs is missing',
    writes: "says nothing of read",
    other: 'rules[7].allow[0] (allow read): its streams are others: "o", "p"',
    part: 'rules[8].allow[0] (allow read): allows a part, not all of "a.*": its subjects are "a.b"',
    apart: 'rules[9].allow[0] (allow read): does not allow all of "a.*": its subjects are "b", "c"',
    whole: "rules[10].allow[0] (allow read): allows it",
    harmless: 'rules[11].deny[0] (deny read): its subjects are others: "b"',
    stop: "rules[12].deny[0] (deny read): denies it",
  });
  expect(policy.size).toBe(13);
});

test("a refusal for who asks holds the verb and what they named, and nothing of the rules", () => {
  const policy = policyOf({ name: "stop", for: "everyone", deny: "everything" });
  const about = { stream: "s", filters: ["a.b"] };
  const refusal = (access: Access) => policy.decide(principal(), access).refusal;
  expect(refusal({ verb: "read", ...about })).toBe('the policy does not allow to read "s" "a.b"');
  expect(refusal({ verb: "read", ...about, isLearned: true })).toBe('the policy does not allow to read "s"');
  expect(refusal({ verb: "consume", consumer: "c", ...about, isLearned: true })).toBe(
    'the policy does not allow to consume "s" "c"',
  );
});

test("more filters than the server takes are refused before they are looked at", () => {
  const filters = Array.from({ length: 10_001 }, () => "a");
  const who = principal();
  expect(everything("everyone").decide(who, { verb: "read", stream: "s", filters })).toMatchObject({
    allowed: false,
    explanation: expect.stringMatching(/: these are more than 10000$/),
  });
  expect(everything("everyone").decide(who, { verb: "read", stream: "s", filters: filters.slice(1) }).allowed).toBe(
    true,
  );
});

test("a refusal of a long list of filters is a short sentence", () => {
  const filters = Array.from({ length: 1000 }, (_, n) => `${"x".repeat(500)}.${n}`);
  const { explanation } = policyOf({ name: "r", for: "everyone", deny: "everything" }).decide(
    principal({ name: "n".repeat(5000) }),
    {
      verb: "read",
      stream: "s",
      filters,
    },
  );
  expect(explanation.length).toBeLessThan(700);
});

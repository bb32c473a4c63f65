import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type Effect,
  MAX_EXPANSIONS,
  type PatternKind,
  nameMatches,
  parseTemplate,
  substitute,
} from "../../../src/auth/pattern.ts";
import type { Principal } from "../../../src/auth/principal.ts";

const principal = (claims: Readonly<Record<string, unknown>>, name = "p"): Principal => ({
  name,
  kind: "jwt",
  groups: [],
  claims,
});

function filled(
  source: string,
  who: Principal,
  effect: Effect,
  kind: PatternKind = "tokens",
): readonly string[] | undefined {
  const template = parseTemplate(source, kind);
  if (typeof template === "string") throw new Error(template);
  return substitute(template, who, kind, effect);
}

describe("a claim in a pattern", () => {
  test.for<readonly [string, unknown, readonly string[] | undefined, readonly string[] | undefined]>([
    // claim, value, allowed patterns of a.{claim.t}.>, denied ones
    ["a text", "x", ["a.x.>"], ["a.x.>"]],
    ["a text in capitals, kept", "X_-9", ["a.X_-9.>"], ["a.X_-9.>"]],
    ["a number", 7, ["a.7.>"], ["a.7.>"]],
    ["a negative number", -7, ["a.-7.>"], ["a.-7.>"]],
    ["true", true, ["a.true.>"], ["a.true.>"]],
    ["a list", ["x", "y"], ["a.x.>", "a.y.>"], ["a.x.>", "a.y.>"]],
    ["an empty list", [], [], []],
    ["missing", undefined, undefined, undefined],
    ["null", null, undefined, undefined],
    ["an empty text", "", [], ["a.*.>"]],
    ["a wildcard", "*", [], ["a.*.>"]],
    ["a wildcard for the rest", ">", [], ["a.*.>"]],
    ["a wildcard within", "x*", [], ["a.*.>"]],
    ["two tokens", "x.y", [], ["a.*.>"]],
    ["a reference", "{name}", [], ["a.*.>"]],
    ["a look-alike letter", "аb", [], ["a.*.>"]],
    ["a full-width dot", "x．y", [], ["a.*.>"]],
    ["a line break", "x\n", [], ["a.*.>"]],
    ["a blank", " ", [], ["a.*.>"]],
    ["a fraction", 1.5, [], ["a.*.>"]],
    ["a number that is not exact", 2 ** 53, [], ["a.*.>"]],
    ["an object", { x: "y" }, [], ["a.*.>"]],
    ["a list of lists", [["x"]], [], ["a.*.>"]],
    ["a list with a wildcard in it", ["x", "*"], ["a.x.>"], ["a.*.>"]],
    ["a list with null in it", ["x", null], ["a.x.>"], ["a.*.>"]],
  ])("%s", ([, value, allowed, denied]) => {
    const who = principal(value === undefined ? {} : { t: value });
    expect(filled("a.{claim.t}.>", who, "allow")).toEqual(allowed);
    expect(filled("a.{claim.t}.>", who, "deny")).toEqual(denied);
  });

  test.for<readonly [string, object, unknown]>([
    ["t", { t: "x" }, "x"],
    ["https://a.example/b.c", { "https://a.example/b.c": "x" }, "x"],
    ["org.tenant", { org: { tenant: "x" } }, "x"],
    ["org.tenant", { "org.tenant": "x", org: { tenant: "y" } }, "x"],
    ["kubernetes.io.namespace", { "kubernetes.io": { namespace: "x" } }, "x"],
    ["kubernetes.io.namespace", { kubernetes: { io: { namespace: "y" } }, "kubernetes.io": { namespace: "x" } }, "x"],
    ["kubernetes.io.namespace", { kubernetes: { io: { namespace: "x" } }, "kubernetes.io": { pod: "y" } }, "x"],
    ["org.tenant", { org: "x" }, undefined],
    ["org.tenant", { tenant: "x" }, undefined],
    ["org.tenant", { org: null }, undefined],
    ["constructor", {}, undefined],
    ["toString.name", {}, undefined],
    ["__proto__", {}, undefined],
    ["org.constructor.name", { org: {} }, undefined],
  ])("is found by its name or the way to it, and never on a prototype: %s in %o", ([name, claims, value]) => {
    const expected = value === undefined ? undefined : [value];
    expect(filled(`{claim.${name}}`, principal(claims as Principal["claims"]), "allow")).toEqual(expected);
  });

  test("may be a part of a token; where that cannot be, a denial takes the whole token", () => {
    expect(filled("a.t-{claim.t}-{name}", principal({ t: ["x", "y"] }), "allow")).toEqual(["a.t-x-p", "a.t-y-p"]);
    expect(filled("a.t-{claim.t}.b", principal({ t: "*" }), "deny")).toEqual(["a.*.b"]);
    expect(filled("t-{claim.t}-b", principal({ t: "*" }), "deny", "name")).toEqual(["t-*-b"]);
  });

  test("with too many values allows nothing, and denies with any", () => {
    const many = principal({ t: Array.from({ length: MAX_EXPANSIONS + 1 }, (_, n) => n) });
    expect(filled("a.{claim.t}", many, "allow")).toEqual([]);
    expect(filled("a.{claim.t}", many, "deny")).toEqual(["a.*"]);
    expect(filled("a-{claim.t}", many, "deny", "name")).toEqual(["a-*"]);
    const root = principal({ t: Array.from({ length: 40 }, (_, n) => n) });
    expect(filled("{claim.t}.{claim.t}", root, "allow")).toEqual([]);
    expect(filled("{claim.t}", root, "allow")).toHaveLength(40);
  });

  test("never widens what is allowed, whatever it is", () => {
    const value = fc.oneof(
      fc.anything(),
      fc.string({ unit: fc.constantFrom("a", ".", "*", ">", "{", "}", "é") }),
      fc.array(fc.string()),
    );
    fc.assert(
      fc.property(value, (any) => {
        for (const pattern of filled("a.{claim.t}.b.>", principal({ t: any }), "allow") ?? [])
          expect(pattern).toMatch(/^a\.[A-Za-z0-9_-]+\.b\.>$/);
      }),
    );
  });
});

describe("the principal's name in a pattern", () => {
  test.for([
    ["svc-1", ["a.svc-1"], ["a.svc-1"]],
    ["a@b.example", [], ["a.*"]],
    ["*", [], ["a.*"]],
    ["", [], ["a.*"]],
  ] as const)("%j", ([name, allowed, denied]) => {
    expect(filled("a.{name}", principal({}, name), "allow")).toEqual(allowed);
    expect(filled("a.{name}", principal({}, name), "deny")).toEqual(denied);
  });
});

describe("a pattern of names", () => {
  test.for([
    ["a", "a", true],
    ["a", "A", false],
    ["a", "ab", false],
    ["*", "anything", true],
    ["**", "a", true],
    ["a*", "a", true],
    ["a*", "abc", true],
    ["a*", "ba", false],
    ["*a", "ba", true],
    ["a*a", "a", false],
    ["a*a", "aa", true],
    ["a*b*c", "a-b-c", true],
    ["a*b*c", "a-c-b", false],
    ["ab*ba", "aba", false],
    ["*b*", "abc", true],
    ["a*bc*c", "abc", false],
    ["a*bc*c", "abcc", true],
  ] as const)("%s and %s: %s", ([pattern, name, expected]) => {
    expect(nameMatches(pattern, name)).toBe(expected);
  });

  test("matches as the regular expression does that it stands for", () => {
    const text = (...letters: string[]): fc.Arbitrary<string> =>
      fc.string({ unit: fc.constantFrom(...letters), maxLength: 8 });
    fc.assert(
      fc.property(text("a", "b", "*"), text("a", "b"), (pattern, name) => {
        expect(nameMatches(pattern, name)).toBe(new RegExp(`^${pattern.replaceAll("*", ".*")}$`).test(name));
      }),
    );
  });

  test("with many wildcards takes no time", () => {
    expect(nameMatches("a*".repeat(500), `${"a".repeat(255)}`)).toBe(false);
  });
});

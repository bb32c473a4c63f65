import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Tokens, covers } from "../../../src/auth/subset.ts";
import { filtersOverlap } from "../../../src/names.ts";

const split = (pattern: string): Tokens => pattern.split(".");
/** Patterns over two words and both wildcards, of one to four tokens. */
const pattern = fc
  .tuple(fc.array(fc.constantFrom("a", "b", "*"), { maxLength: 3 }), fc.constantFrom("a", "b", "*", ">"))
  .map(([tokens, last]): Tokens => [...tokens, last]);

/** Every subject of one to five tokens over the two words of the patterns and one that no pattern has. */
const SUBJECTS: readonly Tokens[] = [1, 2, 3, 4, 5].flatMap((length) => subjectsOf(length));

function subjectsOf(length: number): Tokens[] {
  if (length === 0) return [[]];
  return subjectsOf(length - 1).flatMap((tokens) => ["a", "b", "other"].map((token) => [...tokens, token]));
}

/** What the documentation of NATS says a pattern matches, token by token. */
function matches([first, ...rest]: Tokens, [token, ...others]: Tokens): boolean {
  if (first === undefined || token === undefined) return first === token;
  if (first === ">") return true;
  return (first === "*" || first === token) && matches(rest, others);
}

describe("against all subjects of a small world", () => {
  test("a filter is covered just when each subject of it is matched by a pattern", () => {
    const property = fc.property(fc.array(pattern, { maxLength: 5 }), pattern, (patterns, filter) => {
      const shown = SUBJECTS.filter((subject) => matches(filter, subject));
      const hidden = shown.filter((subject) => !patterns.some((each) => matches(each, subject)));
      expect(covers(patterns, filter)).toBe(hidden.length === 0);
    });
    fc.assert(property, { numRuns: 2000 });
  });

  test("patterns overlap just when some subject is matched by both", () => {
    const property = fc.property(pattern, pattern, (a, b) => {
      expect(filtersOverlap(a, b)).toBe(SUBJECTS.some((subject) => matches(a, subject) && matches(b, subject)));
    });
    fc.assert(property, { numRuns: 2000 });
  });
});

describe("a filter", () => {
  test.for([
    ["a.b", ["a.b"], true],
    ["a.b", ["a.*"], true],
    ["a.b", ["a.>"], true],
    ["a.b", [">"], true],
    ["a.*", ["a.>"], true],
    ["a.>", ["a.>"], true],
    ["*.a", ["*.*"], true],
    ["a.>", ["a.*", "a.*.>"], true],
    [">", ["*", "*.*", "*.*.>"], true],
    ["a.b", [], false],
    ["a", ["a.>"], false],
    ["a.b", ["a.B"], false],
    ["a.b.c", ["a.*"], false],
    ["a.*", ["a.b"], false],
    ["a.*", ["a.b", "a.c"], false],
    ["*", ["a"], false],
    [">", ["*.>", "a"], false],
    [">", ["*", "*.*.>"], false],
    ["a.>", ["a.*"], false],
    ["a.>", ["*.b"], false],
    ["a.*.c", ["a.b.*", "a.*.d"], false],
  ] as const)("%s within %j: %s", ([filter, patterns, expected]) => {
    expect(covers(patterns.map(split), split(filter))).toBe(expected);
  });

  test("of a thousand tokens is decided as well", () => {
    const long = Array.from({ length: 1000 }, () => "*");
    expect(covers([long], long)).toBe(true);
    expect(covers([[...long.slice(1), "a"]], long)).toBe(false);
    expect(covers([long], [...long.slice(1), ">"])).toBe(false);
    expect(
      covers(
        Array.from({ length: 500 }, (_, n) => long.slice(0, n + 1)),
        [">"],
      ),
    ).toBe(false);
  });
});

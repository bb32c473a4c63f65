import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { WindshiftError } from "../../src/errors.ts";
import {
  MAX_NAME_LENGTH,
  MAX_STORE_NAME_LENGTH,
  MAX_SUBJECT_LENGTH,
  checkFilter,
  checkKey,
  checkName,
  checkStoreName,
  checkSubject,
  isFilter,
  isName,
  isSubject,
} from "../../src/names.ts";

const TOKEN_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-".split("");
const token = fc.string({ unit: fc.constantFrom(...TOKEN_CHARACTERS), minLength: 1, maxLength: 12 });
const subject = fc.array(token, { minLength: 1, maxLength: 6 }).map((tokens) => tokens.join("."));
const filter = fc.oneof(
  fc.constant(">"),
  fc
    .tuple(fc.array(fc.oneof(token, fc.constant("*")), { minLength: 1, maxLength: 6 }), fc.boolean())
    .map(([tokens, open]) => [...tokens, ...(open ? [">"] : [])].join(".")),
);

/** What a check throws; undefined when it accepts. */
function refusal(check: () => void): WindshiftError | undefined {
  try {
    check();
    return undefined;
  } catch (error) {
    if (error instanceof WindshiftError) return error;
    throw error;
  }
}

describe("what is valid", () => {
  test("a name is any token", () => {
    fc.assert(fc.property(token, (name) => refusal(() => checkName("name", name)) === undefined && isName(name)));
  });

  test("a subject and a key are tokens joined by dots", () => {
    fc.assert(
      fc.property(subject, (text) => {
        checkSubject("subject", text);
        checkKey("key", text);
        return isSubject(text) && isFilter(text);
      }),
    );
  });

  test("a filter may hold * for a token and > at its end", () => {
    fc.assert(
      fc.property(filter, (text) => {
        checkFilter("subjects[0]", text);
        return isFilter(text);
      }),
    );
  });

  test("any text is accepted as a subject just when all its tokens are names", () => {
    const text = fc.string({ unit: fc.constantFrom(..."ab1_-.*> /é\n".split("")), maxLength: 12 });
    fc.assert(fc.property(text, (any) => isSubject(any) === any.split(".").every(isName)));
  });

  test("any text is accepted as a filter just when its tokens are names, or wildcards where these may stand", () => {
    const text = fc.string({ unit: fc.constantFrom(..."ab.*>".split("")), maxLength: 10 });
    fc.assert(
      fc.property(text, (any) => {
        const tokens = any.split(".");
        const valid = tokens.every(
          (each, i) => isName(each) || each === "*" || (each === ">" && i === tokens.length - 1),
        );
        return isFilter(any) === valid;
      }),
    );
  });
});

const CHECKS = {
  name: (value: string) => checkName("name", value),
  store: (value: string) => checkStoreName("store", value),
  subject: (value: string) => checkSubject("subject", value),
  key: (value: string) => checkKey("key", value),
  filter: (value: string) => checkFilter("filter", value),
};

describe("the longest that is accepted", () => {
  test.for([
    ["name", MAX_NAME_LENGTH],
    ["store", MAX_STORE_NAME_LENGTH],
    ["subject", MAX_SUBJECT_LENGTH],
    ["key", MAX_SUBJECT_LENGTH],
    ["filter", MAX_SUBJECT_LENGTH],
  ] as const)("%s: %i characters", ([kind, length]) => {
    const check = CHECKS[kind];
    expect(refusal(() => check("a".repeat(length)))).toBeUndefined();
    const error = refusal(() => check("a".repeat(length + 1)));
    expect(error?.field).toBe(kind);
    expect(error?.message).toContain(`is longer than ${length} characters`);
  });

  test("a name that was fine before is too long for a store", () => {
    const name = "a".repeat(MAX_NAME_LENGTH);
    expect(refusal(() => checkName("name", name))).toBeUndefined();
    expect(refusal(() => checkStoreName("store", name))?.field).toBe("store");
  });

  test("the stream of a store with the longest name still has a valid name", () => {
    expect(refusal(() => checkName("name", `KV_${"a".repeat(MAX_STORE_NAME_LENGTH)}`))).toBeUndefined();
  });
});

describe("what is refused", () => {
  test.for([
    ["name", "a b", "INVALID_NAME"],
    ["name", "a.b", "INVALID_NAME"],
    ["name", "a/b", "INVALID_NAME"],
    ["name", "é", "INVALID_NAME"],
    ["name", "*", "INVALID_NAME"],
    ["name", "a\n", "INVALID_NAME"],
    ["store", "KV bucket", "INVALID_NAME"],
    ["subject", ".", "INVALID_SUBJECT"],
    ["subject", "a..b", "INVALID_SUBJECT"],
    ["subject", ".a", "INVALID_SUBJECT"],
    ["subject", "a.", "INVALID_SUBJECT"],
    ["subject", "a.*", "INVALID_SUBJECT"],
    ["subject", "a.>", "INVALID_SUBJECT"],
    ["subject", "$JS.API", "INVALID_SUBJECT"],
    ["key", "a..b", "INVALID_KEY"],
    ["key", "a/b", "INVALID_KEY"],
    ["key", "a=b", "INVALID_KEY"],
    ["key", "a.*", "INVALID_KEY"],
    ["filter", "a*", "INVALID_SUBJECT"],
    ["filter", "a.*b", "INVALID_SUBJECT"],
    ["filter", ">.a", "INVALID_SUBJECT"],
    ["filter", "a..>", "INVALID_SUBJECT"],
  ] as const)("%s %j is %s, and the message says which", ([kind, value, reason]) => {
    const error = refusal(() => CHECKS[kind](value));
    expect(error).toMatchObject({ reason, field: kind });
    expect(error?.message).toContain(`${kind}: ${JSON.stringify(value)}`);
  });

  test.for(Object.keys(CHECKS))("an empty %s is a missing field", (kind) => {
    const error = refusal(() => CHECKS[kind as keyof typeof CHECKS](""));
    expect(error).toMatchObject({ reason: "MISSING_FIELD", field: kind, message: `${kind}: is required` });
  });

  test("a long value is cut in the message", () => {
    expect(refusal(() => checkName("name", "a ".repeat(5000)))?.message.length).toBeLessThan(300);
  });
});

import { describe, expect, test } from "vitest";
import { type Kind, expectation, parseValue } from "../../../src/config/kinds.ts";

const DURATION: Kind = { kind: "duration" };
const BYTES: Kind = { kind: "bytes", min: "1", max: "1GiB" };
const COUNT: Kind = { kind: "integer", min: 1, max: 5 };
const LEVEL: Kind = { kind: "enum", values: ["debug", "info"] };
const NAMES: Kind = { kind: "list", values: ["a", "b"] };
const PAIRS: Kind = { kind: "pairs" };
const URL: Kind = { kind: "url" };

describe("a valid text is read", () => {
  test.each<[Kind, string, unknown]>([
    [DURATION, "10s", 10_000],
    [DURATION, "500ms", 500],
    [DURATION, "5m", 300_000],
    [DURATION, "1h", 3_600_000],
    [DURATION, "1h30m", 5_400_000],
    [DURATION, "1.5s", 1500],
    [DURATION, "10", 10_000],
    [DURATION, "0.25", 250],
    [DURATION, "0", 0],
    [BYTES, "4MiB", 4_194_304],
    [BYTES, "64KiB", 65_536],
    [BYTES, "64 kib", 65_536],
    [BYTES, "4MB", 4_000_000],
    [BYTES, "512", 512],
    [COUNT, "1", 1],
    [COUNT, "5", 5],
    [{ kind: "number", min: 0, max: 1 }, "0.25", 0.25],
    [{ kind: "port" }, "0", 0],
    [{ kind: "port" }, "65535", 65_535],
    [{ kind: "boolean" }, "true", true],
    [{ kind: "boolean" }, "T", true],
    [{ kind: "boolean" }, "0", false],
    [LEVEL, "DEBUG", "debug"],
    [NAMES, "a, b", ["a", "b"]],
    [{ kind: "list" }, "x", ["x"]],
    [URL, "http://collector:4317", "http://collector:4317"],
    [PAIRS, "a=1, b=x%2Cy=z", { a: "1", b: "x,y=z" }],
    [{ kind: "string", pattern: "^a+$" }, "aa", "aa"],
  ])("%o %s", (kind, text, expected) => {
    expect(parseValue(kind, text)).toEqual(expected);
  });
});

describe("anything else is not valid", () => {
  test.each<[Kind, string]>([
    [DURATION, "-1s"],
    [DURATION, "5 s"],
    [DURATION, "10d"],
    [DURATION, "s"],
    [DURATION, "1e3"],
    // A longer timer of Node would fire at once.
    [DURATION, "597h"],
    [{ kind: "duration", min: "10ms" }, "9ms"],
    [{ kind: "duration", max: "1s" }, "1001ms"],
    [BYTES, "4 apples"],
    [BYTES, "-1"],
    [BYTES, "2GiB"],
    [COUNT, "0"],
    [COUNT, "6"],
    [COUNT, "1.5"],
    [COUNT, "0x1"],
    [COUNT, ""],
    [{ kind: "number", min: 0, max: 1 }, "1.1"],
    [{ kind: "number", min: 0, max: 1 }, "NaN"],
    [{ kind: "port" }, "65536"],
    [{ kind: "boolean" }, "maybe"],
    [LEVEL, "loud"],
    [NAMES, "a,,b"],
    [NAMES, "a,c"],
    [URL, "localhost:4317"],
    [URL, "ftp://host"],
    [URL, "http://"],
    [PAIRS, "a"],
    [PAIRS, "=1"],
    [PAIRS, "a=%E0%A4%A"],
    [{ kind: "string", pattern: "^a+$" }, "b"],
  ])("%o %s", (kind, text) => {
    expect(parseValue(kind, text)).toBeUndefined();
  });
});

test.each<[Kind, RegExp]>([
  [DURATION, /10s, 500ms or 5m .* from 0 to 596h/],
  [BYTES, /4MiB.* from 1 to 1GiB/],
  [COUNT, /from 1 to 5/],
  [LEVEL, /one of debug, info/],
  [NAMES, /list of a, b/],
  [{ kind: "list" }, /comma separated list$/],
  [{ kind: "number", min: 0, max: 1 }, /from 0 to 1/],
  [{ kind: "port" }, /65535/],
  [{ kind: "boolean" }, /true or false/],
  [{ kind: "file" }, /readable file/],
  [{ kind: "string" }, /text/],
  [{ kind: "string", expected: "a word" }, /^a word$/],
  [URL, /http:\/\/collector:4317/],
  [PAIRS, /key=value/],
])("the error for %o says what would be valid", (kind, pattern) => {
  expect(expectation(kind)).toMatch(pattern);
});

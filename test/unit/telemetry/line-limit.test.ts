import { expect, test } from "vitest";
import { LineLimit } from "../../../src/telemetry/line-limit.ts";

test("so many lines of a kind each second, and the next one says how many were left out", () => {
  let now = 0;
  const limit = new LineLimit(2, () => now);
  expect([1, 2, 3, 4].map(() => limit.admit("a"))).toEqual([0, 0, undefined, undefined]);
  expect(limit.admit("b")).toBe(0);
  now = 999;
  expect(limit.admit("a")).toBeUndefined();
  now = 1000;
  expect([limit.admit("a"), limit.admit("a"), limit.admit("a")]).toEqual([3, 0, undefined]);
});

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { LineLimit } from "../../../src/telemetry/line-limit.ts";

const quiet: [string, number][] = [];
const onQuiet = (kind: string, leftOut: number): void => void quiet.push([kind, leftOut]);
const now = (): number => Date.now();

beforeEach(() => {
  quiet.length = 0;
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

test("so many lines of a kind each second, and the next one says how many were left out", () => {
  const limit = new LineLimit(2, { onQuiet, now });
  expect([1, 2, 3, 4].map(() => limit.admit("a"))).toEqual([0, 0, undefined, undefined]);
  expect(limit.admit("b")).toBe(0);
  vi.setSystemTime(Date.now() + 999);
  expect(limit.admit("a")).toBeUndefined();
  vi.setSystemTime(Date.now() + 1);
  expect([limit.admit("a"), limit.admit("a"), limit.admit("a")]).toEqual([3, 0, undefined]);
});

test("the end of a flood is told, once", () => {
  const limit = new LineLimit(1, { onQuiet, now });
  for (let n = 0; n < 5; n++) limit.admit("a");
  limit.admit("b");
  vi.advanceTimersByTime(3_000);
  expect(quiet).toEqual([["a", 4]]);
  expect(limit.admit("a")).toBe(0);
});

test("what is quiet is forgotten, and runs no timer", () => {
  const limit = new LineLimit(1, { onQuiet, now });
  limit.admit("a");
  vi.advanceTimersByTime(3_000);
  expect(vi.getTimerCount()).toBe(0);
});

test("beyond a thousand kinds all further ones share a count", () => {
  const limit = new LineLimit(1, { onQuiet, now });
  for (let n = 0; n < 1_000; n++) expect(limit.admit(`kind ${n}`)).toBe(0);
  expect(limit.admit("one more")).toBe(0);
  expect(limit.admit("and another")).toBeUndefined();
  vi.advanceTimersByTime(3_000);
  expect(quiet).toEqual([["", 1]]);
  expect(limit.admit("and another")).toBe(0);
});

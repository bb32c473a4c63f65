import { expect, test } from "vitest";
import { EndedStreams } from "../../../../src/grpc/engine/native/ended-streams.ts";

const MINUTE = 60_000;

test("a stream is known for a minute at least, and for two at most", () => {
  const ended = new EndedStreams(10);
  ended.sweep(MINUTE);
  ended.add(1, 0);
  ended.sweep(2 * MINUTE - 1);
  ended.add(3, 0);
  ended.sweep(2 * MINUTE);
  ended.add(5, 0);
  expect([1, 3, 5].map((id) => ended.has(id))).toEqual([true, true, true]);
  ended.sweep(3 * MINUTE - 1);
  expect([1, 3, 5].map((id) => ended.has(id))).toEqual([true, true, true]);
  ended.sweep(3 * MINUTE);
  expect([1, 3, 5].map((id) => ended.has(id))).toEqual([false, false, true]);
  ended.sweep(4 * MINUTE);
  expect(ended.has(5)).toBe(false);
});

test("beyond the limit the first ones are let go, whatever their age", () => {
  const ended = new EndedStreams(4);
  const known = (): number[] => [1, 3, 5, 7, 9, 11, 13].filter((id) => ended.has(id));
  for (const id of [1, 3, 5]) ended.add(id, 0);
  ended.sweep(MINUTE);
  for (const id of [7, 9]) ended.add(id, 0);
  expect(known()).toEqual([3, 5, 7, 9]);
  for (const id of [11, 13]) ended.add(id, 0);
  expect(known()).toEqual([7, 9, 11, 13]);
  ended.sweep(2 * MINUTE);
  ended.sweep(3 * MINUTE);
  for (const id of [1, 3, 5, 7, 9]) ended.add(id, 0);
  expect(known()).toEqual([3, 5, 7, 9]);
});

test("as much DATA as its window allowed may still come, however old it is", () => {
  const ended = new EndedStreams(4);
  ended.add(1, 100);
  expect([60, 41, 30].map((bytes) => ended.take(1, bytes))).toEqual([true, false, true]);
  ended.sweep(MINUTE);
  expect([11, 10, 1].map((bytes) => ended.take(1, bytes))).toEqual([false, true, false]);
  expect(ended.take(3, 1)).toBe(false);
});

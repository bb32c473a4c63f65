import { describe, expect, test } from "vitest";
import {
  Count,
  type Definition,
  Family,
  Histogram,
  Level,
  MAX_SERIES,
  OVERFLOW,
  Observed,
} from "../../../src/telemetry/instruments.ts";

const DEFINITION: Definition = {
  name: "test",
  kind: "counter",
  unit: "{event}",
  description: "A test.",
  attributes: ["stream", "consumer"],
};

describe("a family", () => {
  test("has one handle for equal labels", () => {
    const family = new Family(DEFINITION, () => new Count());
    family.with({ stream: "a", consumer: "x" }).add(2);
    family.with({ consumer: "x", stream: "a" }).add(3);
    family.with({ stream: "a" }).add(1);
    expect(family.collect()).toEqual([
      { labels: { stream: "a", consumer: "x" }, value: 5 },
      { labels: { stream: "a" }, value: 1 },
    ]);
  });

  test("counts what is over the limit in one series", () => {
    const family = new Family(DEFINITION, () => new Count());
    for (let i = 0; i < MAX_SERIES; i++) family.with({ stream: `s${i}` }).add(1);
    family.with({ stream: "one more" }).add(1);
    family.with({ stream: "and another" }).add(1);
    family.with({ stream: "s0" }).add(1);
    const samples = family.collect();
    expect(samples).toHaveLength(MAX_SERIES + 1);
    expect(samples[0]).toEqual({ labels: { stream: "s0" }, value: 2 });
    expect(samples.at(-1)).toEqual({ labels: OVERFLOW, value: 2 });
  });

  test("leaves out levels that nobody has set", () => {
    const family = new Family(DEFINITION, () => new Level());
    const level = family.with({});
    expect(family.collect()).toEqual([]);
    level.set(2);
    level.add(-1);
    expect(family.collect()).toEqual([{ labels: {}, value: 1 }]);
  });
});

test("a level may begin with a value", () => {
  const level = new Level(0);
  expect(level.value).toBe(0);
  level.add(2);
  expect(level.value).toBe(2);
});

test("a histogram counts values by their inclusive upper bounds", () => {
  const family = new Family(DEFINITION, () => new Histogram([1, 5]), [1, 5]);
  const handle = family.with({});
  for (const value of [0.5, 1, 1.1, 5, 6, 100]) handle.record(value);
  expect(family.collect()).toEqual([
    { labels: {}, value: { counts: [2, 2, 2], count: 6, sum: 113.6, min: 0.5, max: 100 } },
  ]);
});

test("what was collected does not change any more", () => {
  const family = new Family(DEFINITION, () => new Histogram([1]), [1]);
  const handle = family.with({});
  const [before] = family.collect();
  handle.record(1);
  expect(before?.value).toMatchObject({ count: 0, counts: [0, 0] });
});

test("an observed instrument is read when it is collected", () => {
  let value = 1;
  const instrument = new Observed(DEFINITION, () => [{ labels: {}, value }]);
  value = 2;
  expect(instrument.collect()).toEqual([{ labels: {}, value: 2 }]);
});

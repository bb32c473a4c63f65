import { describe, expect, onTestFinished, test } from "vitest";
import { EventLoopDelay, processInstruments } from "../../../src/telemetry/runtime.ts";

describe("the delay of the event loop", () => {
  test("is measured from the first firing on, and zero is no delay", async () => {
    let now = 0;
    const delay = new EventLoopDelay(() => now);
    onTestFinished(() => delay.stop());
    const [p50, , max] = delay.instruments();
    expect(p50?.collect()).toEqual([]);
    await expect.poll(() => max?.collect().length).toBe(1);
    expect(p50?.collect()[0]?.value).toBeGreaterThanOrEqual(0);
    // After a minute the next window begins, once the last of the three has been read.
    now = 60_001;
    expect(max?.collect()).toHaveLength(1);
    expect(p50?.collect()).toEqual([]);
  });
});

test("memory and processor time are there", () => {
  const samples = new Map(processInstruments().map((instrument) => [instrument.definition.name, instrument.collect()]));
  expect(samples.get("process.memory.usage")?.[0]?.value).toBeGreaterThan(0);
  const spaces = samples.get("v8js.memory.heap.used")?.map(({ labels }) => labels["v8js.heap.space.name"]);
  expect(spaces).toContain("old_space");
  expect(samples.get("process.cpu.time")?.map(({ labels }) => labels["cpu.mode"])).toEqual(["user", "system"]);
});

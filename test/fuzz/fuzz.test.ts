/** A short run of the fuzzer with seeds that stay; `npm run fuzz` has longer ones. */
import { expect, test } from "vitest";
import { readRecordings, sentFrames } from "../recordings/recording.ts";
import { heldBytes } from "../support/memory.ts";
import { fuzz, mix, replay } from "./fuzz.ts";

const FRAMES = 40_000;
const MAX_GROWTH_BYTES = 32 * 1024 * 1024;
const recordings = readRecordings().map(sentFrames);

test.for([1, 2, 3])("random frames and changed recordings, seed %i", async (seed) => {
  const counts = await fuzz({ seed, frames: FRAMES, recordings });
  expect(counts.frames).toBeGreaterThanOrEqual(FRAMES);
  // Both kinds of clients were there: those that did nothing wrong, though some of them did not read, and those that did.
  const { open = 0, cut = 0 } = Object.fromEntries(counts.endings);
  expect(open + cut).toBeGreaterThan(counts.sessions / 4);
  expect(counts.endings.get("PROTOCOL_ERROR")).toBeGreaterThan(0);
});

test("a session that ends leaves nothing in memory", async () => {
  const before = await heldBytes();
  await fuzz({ seed: 4, frames: FRAMES, recordings });
  expect((await heldBytes()) - before).toBeLessThan(MAX_GROWTH_BYTES);
});

test("no session of a seed is one of another, and what is beyond the numbers there are is refused", () => {
  const seeds = [0, 1, 2, 501, 502, 65_535];
  const states = seeds.flatMap((seed) => Array.from({ length: 3000 }, (_, session) => mix(seed, session)));
  expect(new Set(states).size).toBe(states.length);
  for (const [seed, session] of [
    [65_536, 0],
    [0, 65_536],
    [-1, 0],
    [0, 0.5],
  ] as const) {
    expect(() => mix(seed, session)).toThrow(`seed ${seed}, session ${session}: both are whole numbers below 65536`);
  }
});

test("what was recorded is served to its end, unchanged", async () => {
  expect(recordings.length).toBeGreaterThan(0);
  for (const recording of recordings) expect(["open", "NO_ERROR"]).toContain(await replay(recording));
});

import { expect, test } from "vitest";
import { SequenceMap } from "../../src/sequence-map.ts";
import { Random } from "../chaos/random.ts";
import { heldBytes } from "../support/memory.ts";

const SEEDS = Array.from({ length: 20 }, (_, n) => n + 1);

test.for(SEEDS)("does what a Map does, for numbers that mostly grow (seed %i)", (seed) => {
  const random = new Random(seed);
  const step = random.pick([1, 2]);
  const open = random.pick([3, 20, 300]);
  const map = new SequenceMap<string>(step);
  const model = new Map<number, string>();
  // Some go beyond 2^31, or are beyond 2^32 from the beginning.
  let next = random.pick([1, 2 ** 31 - 9, 2 ** 40 + 1]);
  for (let n = 0; n < 4_000; n++) {
    const keys = [...model.keys()];
    if (model.size < open || random.chance(0.5)) {
      const key = keys.length > 0 && random.chance(0.05) ? random.pick(keys) : next;
      if (key === next) next += step * random.between(1, 3);
      map.set(key, `v${n}`);
      model.set(key, `v${n}`);
    } else {
      // One of the oldest, mostly: what is passed over stays for long.
      const key = random.chance(0.9) ? keys[random.between(0, Math.min(2, keys.length - 1))]! : next;
      expect(map.delete(key)).toBe(model.delete(key));
    }
    expect(map.size).toBe(model.size);
    if (random.chance(0.01)) map.compact();
    const asked = random.chance(0.5) ? next : random.pick([...model.keys(), next]);
    expect(map.get(asked)).toBe(model.get(asked));
  }
  const asked: string[] = [];
  expect(map.every((value) => asked.push(value) > 0)).toBe(true);
  expect(asked.toSorted()).toEqual([...model.values()].toSorted());
  expect(map.every((value) => value !== asked[1])).toBe(false);
  const expected = [...model].sort(([a], [b]) => a - b);
  expect(map.select(() => true)).toEqual(expected);
  expect(map.select((value) => value.endsWith("1"))).toEqual(expected.filter(([, value]) => value.endsWith("1")));
  expect(map.values()).toEqual(expected.map(([, value]) => value));
  map.clear();
  expect(map.size).toBe(0);
  expect(map.select(() => true)).toEqual([]);
  expect(map.get(expected[0]![0])).toBeUndefined();
});

test("keeps nothing of what was deleted", async () => {
  const { setFlagsFromString } = await import("node:v8");
  const { runInNewContext } = await import("node:vm");
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const map = new SequenceMap<object>();
  const gone: WeakRef<object>[] = [];
  for (let n = 0; n < 1_000; n++) {
    const value = { n };
    map.set(n, value);
    gone.push(new WeakRef(value));
    if (n >= 10) map.delete(n - 10);
  }
  // What a WeakRef was just made of lives until its turn of the event loop is over.
  await new Promise(setImmediate);
  collect();
  expect(gone.filter((ref) => ref.deref() !== undefined)).toHaveLength(10);
});

test("gives back the slots that many needed, and keeps what is left", async () => {
  const maps = Array.from({ length: 10 }, () => new SequenceMap<number>());
  const before = await heldBytes();
  for (const map of maps) {
    for (let n = 0; n < 10_000; n++) map.set(n, n);
    for (let n = 0; n < 9_990; n++) map.delete(n);
  }
  expect((await heldBytes()) - before).toBeGreaterThan(10 * 256 * 1024);
  for (const map of maps) map.compact();
  expect((await heldBytes()) - before).toBeLessThan(10 * 8 * 1024);
  for (const map of maps) expect(map.values()).toEqual(Array.from({ length: 10 }, (_, n) => 9_990 + n));
});

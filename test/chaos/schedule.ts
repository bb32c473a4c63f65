/** Which fault begins when and lasts how long; a seed repeats it. */
import { FAULTS, FAULT_GROUPS, FAULT_NAMES, type FaultName } from "./faults.ts";
import type { Random } from "./random.ts";

/** One fault of a schedule. */
export interface Planned {
  readonly name: FaultName;
  /** After the begin of the schedule. */
  readonly atMs: number;
  readonly forMs: number;
  /** Faults of one lane follow each other; then `atMs` is the pause before it. */
  readonly lane?: string;
}

/** Every fault once and short: what breaks the same in a lane of its own, one after the other. */
export function everyFault(random: Random): Planned[] {
  return Object.entries(FAULT_GROUPS).flatMap(([lane, names]) =>
    names.map((name) => {
      const forMs = Math.min(Math.max(FAULTS[name].lasts[0], 300), SHORT_MS);
      return { name, lane, forMs, atMs: random.between(100, 400) };
    }),
  );
}

const SHORT_MS = 1_000;

/** Random faults over `durationMs`, at times alone and at times several at once. */
export function randomSchedule(random: Random, durationMs: number): Planned[] {
  const planned: Planned[] = [];
  for (let atMs = 0; atMs < durationMs;) {
    const together = random.pick([1, 1, 1, 2, 2, 3]);
    let longest = 0;
    for (let n = 0; n < together; n++) {
      const name = random.pick(FAULT_NAMES);
      const forMs = Math.min(lasting(random, name), durationMs - atMs);
      planned.push({ name, atMs: atMs + random.between(0, 800), forMs });
      longest = Math.max(longest, forMs);
    }
    // At times the next ones come before these are over.
    atMs += random.chance(0.3) ? longest / 2 : longest + random.between(300, 2_000);
    atMs = Math.round(atMs) + 100;
  }
  return planned.toSorted((a, b) => a.atMs - b.atMs);
}

/** One fault, once. */
export function singleFault(random: Random, name: FaultName, forMs?: number): Planned[] {
  return [{ name, atMs: 0, forMs: forMs ?? lasting(random, name) }];
}

/** Short ones are as likely as long ones: as many between 1 and 4 s as between 4 and 16 s. */
function lasting(random: Random, name: FaultName): number {
  const [min, max] = FAULTS[name].lasts;
  return min === 0 ? random.between(min, max) : Math.round(min * (max / min) ** random.next());
}

/** Each fault once and short, all in one round; `npm run chaos` runs them longer and in combinations. */
import { rm } from "node:fs/promises";
import { expect, test } from "vitest";
import { Random } from "./random.ts";
import { printRound, writeRound } from "./report.ts";
import { runRound } from "./run.ts";
import { everyFault } from "./schedule.ts";

const LIMIT_MS = 240_000;

test(
  "no fault breaks a promise",
  async () => {
    const seed = Number(process.env["CHAOS_SEED"] ?? Date.now() % 1_000_000);
    const schedule = everyFault(new Random(seed));
    const outcome = await runRound({ seed, schedule });
    writeRound(outcome, schedule);
    if (outcome.violations.length > 0) printRound("every fault", outcome, schedule);
    expect(outcome.violations, `seed ${seed}, histories in ${outcome.folder}`).toEqual([]);
    expect(outcome.skipped, `seed ${seed}`).toEqual([]);
    await rm(outcome.folder, { recursive: true, force: true });
  },
  LIMIT_MS,
);

/**
 * Each fault once and short, all in one round, and a rolling restart of three servers in another; `npm run chaos` runs
 * them longer and in combinations. `CHAOS_SEED` repeats a round, `CHAOS_ENTRY` names another program than the sources.
 */
import { rm } from "node:fs/promises";
import { expect, test } from "vitest";
import { Random } from "./random.ts";
import { printRound, writeRound } from "./report.ts";
import { type Round, runRound } from "./run.ts";
import { everyFault } from "./schedule.ts";

/** What happens when is the same in every run; `npm run chaos` looks for what nobody has thought of. */
const SEED = 7;
/** They take less than a minute where nothing else runs. */
const LIMIT_MS = 300_000;
/** What the machine has to allow. */
const MAY_BE_SKIPPED = ["disk_full"];

const seed = Number(process.env["CHAOS_SEED"] ?? SEED);

test.each<[string, Omit<Round, "seed">]>([
  ["no fault breaks a promise", { schedule: everyFault(new Random(seed)) }],
  [
    "a rolling restart of three servers loses nothing, and fails no publish that is repeated with its key",
    { schedule: [{ name: "rolling_restart", atMs: 0, forMs: 0 }], servers: 3, nodes: 1, calmMs: 500 },
  ],
])(
  "%s",
  async (label, round) => {
    const outcome = await runRound({ seed, entry: process.env["CHAOS_ENTRY"], ...round });
    writeRound(outcome, round.schedule);
    if (outcome.violations.length > 0) printRound(label, outcome, round.schedule);
    expect(outcome.violations, `seed ${seed}, histories in ${outcome.folder}`).toEqual([]);
    expect(
      outcome.skipped.filter((name) => !MAY_BE_SKIPPED.includes(name)),
      `seed ${seed}`,
    ).toEqual([]);
    await rm(outcome.folder, { recursive: true, force: true });
  },
  LIMIT_MS,
);

/**
 * The fault suite: `npm run chaos -- --minutes 1`.
 *
 *   --minutes N     random rounds for so long (default 1)
 *   --rounds N      so many random rounds instead
 *   --seed S        the seed of the first round; the next ones follow it
 *   --fault NAME    only this fault, once (its length: --for MS)
 *   --every         each fault once and short, in one round
 *   --calm          no faults at all
 *   --mutant NAME   the server with a deliberate fault: has to be red
 *   --mutants       all of them, one after the other
 *   --entry FILE    the program of the servers, such as dist/main.js (default src/main.ts, which needs no build)
 *   --nodes N       nodes of NATS (default 3); --servers N: of ours (default 2, and 3 in every fourth round)
 *   --list          the faults and the mutants
 *   --server-command TEXT  a shell command for another server: it gets NATS_URL, GRPC_PORT and HEALTH_PORT
 *   --ids-by-text   that server numbers events by delivery: they are told by their text instead
 *   --keep          keeps the folders of good rounds too
 *   --confirm       a round with violations is run again, and counts if it has some again: for machines that others use
 *
 * GRPC_ENGINE chooses the engine of the servers.
 */
import { rm } from "node:fs/promises";
import { dirname } from "node:path";
import { parseArgs } from "node:util";
import { FAULTS, FAULT_NAMES, type FaultName } from "./faults.ts";
import { MUTANTS, type Mutant, type MutantName, plant } from "./mutants.ts";
import { Random } from "./random.ts";
import { print, printRound, writeRound } from "./report.ts";
import { type Outcome, type Round, runRound } from "./run.ts";
import { type Planned, everyFault, randomSchedule, singleFault } from "./schedule.ts";

/** One round in five is long enough for faults of a minute. */
const SCHEDULE_MS = [20_000, 20_000, 20_000, 20_000, 75_000];
/** Who leads and who connects where is chance; a mutant may need more than one round to show. */
const ATTEMPTS = 3;

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "1" },
    rounds: { type: "string" },
    seed: { type: "string" },
    fault: { type: "string" },
    for: { type: "string" },
    calm: { type: "boolean", default: false },
    every: { type: "boolean", default: false },
    mutant: { type: "string" },
    mutants: { type: "boolean", default: false },
    list: { type: "boolean", default: false },
    keep: { type: "boolean", default: false },
    confirm: { type: "boolean", default: false },
    nodes: { type: "string", default: "3" },
    servers: { type: "string" },
    entry: { type: "string" },
    "server-command": { type: "string" },
    "ids-by-text": { type: "boolean", default: false },
  },
});

process.exit(await main());

async function main(): Promise<number> {
  if (values.list) {
    for (const name of FAULT_NAMES) print(`${name.padEnd(24)} ${FAULTS[name].what}`);
    print("");
    for (const [name, { what }] of Object.entries(MUTANTS)) print(`${name.padEnd(24)} ${what}`);
    return 0;
  }
  if (values.mutants) return proveAll(Object.keys(MUTANTS) as MutantName[]);
  if (values.mutant !== undefined) {
    if (!(values.mutant in MUTANTS)) throw new Error(`there is no mutant ${values.mutant}; see --list`);
    return proveAll([values.mutant as MutantName]);
  }
  const firstSeed = values.seed === undefined ? Date.now() % 1_000_000 : Number(values.seed);
  const end = performance.now() + Number(values.minutes) * 60_000;
  let failed = 0;
  for (let n = 0; ; n++) {
    const seed = firstSeed + n;
    const schedule = scheduleOf(seed);
    const round = {
      seed,
      schedule,
      entry: values.entry,
      command: values["server-command"],
      idsByText: values["ids-by-text"],
      nodes: Number(values.nodes),
      servers: Number(values.servers ?? (n % 4 === 3 ? 3 : 2)),
    };
    if (!(await isGood(`round ${n + 1}`, round, schedule))) failed += 1;
    if (values.fault !== undefined || values.calm || values.every) break;
    if (values.rounds === undefined ? performance.now() >= end : n + 1 >= Number(values.rounds)) break;
  }
  print(failed === 0 ? "no violations" : `${failed} rounds with violations`);
  return failed === 0 ? 0 : 1;
}

async function isGood(label: string, round: Round, schedule: readonly Planned[]): Promise<boolean> {
  for (let left = values.confirm ? 1 : 0; ; left--) {
    const outcome = await attempt(round);
    if (outcome !== undefined && (await finish(label, outcome, schedule))) return true;
    if (left === 0) return false;
    print(`once more with seed ${round.seed}: only what happens twice counts`);
  }
}

/** A round that the machinery could not do counts as failed, and does not keep the next ones from being run. */
async function attempt(round: Round): Promise<Outcome | undefined> {
  try {
    return await runRound(round);
  } catch (error) {
    print(`round with seed ${round.seed} could not be done: ${String((error as Error).stack)}`);
    return undefined;
  }
}

/** Every mutant has to be found by one of the checks that are meant to. */
async function proveAll(names: readonly MutantName[]): Promise<number> {
  const missed: string[] = [];
  // All before the first one runs: a text that is not found shall not come as a surprise an hour later.
  const planted = await Promise.all(names.map(async (name) => [name, await plant(MUTANTS[name])] as const));
  for (const [name, entry] of planted) if (!(await prove(name, MUTANTS[name], entry))) missed.push(name);
  print(missed.length === 0 ? `all ${names.length} mutants found` : `not found: ${missed.join(", ")}`);
  return missed.length === 0 ? 0 : 1;
}

async function prove(name: string, mutant: Mutant, entry: string): Promise<boolean> {
  const first = Number(values.seed ?? 1);
  try {
    for (let n = 0; n < ATTEMPTS; n++) if (await findMutant(name, mutant, entry, first + n)) return true;
    return false;
  } finally {
    await rm(dirname(dirname(entry)), { recursive: true, force: true });
  }
}

async function findMutant(name: string, mutant: Mutant, entry: string, seed: number): Promise<boolean> {
  const schedule =
    mutant.fault === undefined ? [] : singleFault(new Random(seed).fork("schedule"), mutant.fault, mutant.forMs);
  const outcome = await attempt({ seed, schedule, entry, calmMs: 3_000 });
  if (outcome === undefined) return false;
  const { violations, folder } = outcome;
  const found = violations.filter(({ check }) => mutant.finds.includes(check));
  const others = new Set(violations.map(({ check }) => check));
  if (found.length > 0) print(`${name}: found, ${found.length} of ${violations.length}: ${found[0]!.text}`);
  else print(`${name}: NOT FOUND (${[...others].join(", ") || "no violations"}); ${folder}`);
  if (found.length > 0 && !values.keep) await rm(folder, { recursive: true, force: true });
  return found.length > 0;
}

function scheduleOf(seed: number): Planned[] {
  const random = new Random(seed).fork("schedule");
  if (values.calm) return [];
  if (values.every) return everyFault(random);
  if (values.fault === undefined) return randomSchedule(random, random.pick(SCHEDULE_MS));
  if (!(values.fault in FAULTS)) throw new Error(`there is no fault ${values.fault}; see --list`);
  return singleFault(random, values.fault as FaultName, values.for === undefined ? undefined : Number(values.for));
}

/** Reports a round; true when it was good. */
async function finish(label: string, outcome: Outcome, schedule: readonly Planned[]): Promise<boolean> {
  writeRound(outcome, schedule);
  printRound(label, outcome, schedule);
  const isGood = outcome.violations.length === 0;
  if (isGood && !values.keep) await rm(outcome.folder, { recursive: true, force: true });
  return isGood;
}

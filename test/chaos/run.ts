/** One round: start everything, break it by a schedule, heal it, let it come to rest, and judge what clients saw. */
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { check } from "./checker.ts";
import type { ConsumerEnd, Evidence, Violation } from "./checks/evidence.ts";
import { resumptions } from "./checks/resume.ts";
import { AUDIT_LIMIT, CONSUMERS, LETTERS, SCENE, Topology } from "./cluster/topology.ts";
import { FAULTS } from "./faults.ts";
import type { FaultRecord, Running } from "./faults/fault.ts";
import { clock, note, readHistories } from "./history.ts";
import { checkLeftovers, measure } from "./leftovers.ts";
import { withStoredIds } from "./original.ts";
import { Random } from "./random.ts";
import type { Planned } from "./schedule.ts";
import { CAST } from "./cast.ts";

/** What a round is made of. */
export interface Round {
  readonly seed: number;
  readonly schedule: readonly Planned[];
  /** The program of the servers; the sources unless given. */
  readonly entry?: string | undefined;
  /** A shell command that starts a server that is not ours, in place of it. */
  readonly command?: string | undefined;
  /** That server numbers events by delivery. */
  readonly idsByText?: boolean | undefined;
  readonly nodes?: number | undefined;
  readonly servers?: number | undefined;
  /** How long the workload runs before the first fault and after the last. */
  readonly calmMs?: number | undefined;
}

/** What came of it. */
export interface Outcome {
  readonly seed: number;
  readonly folder: string;
  readonly faults: readonly FaultRecord[];
  readonly skipped: readonly string[];
  readonly violations: readonly Violation[];
  /** How much of everything was seen. */
  readonly counts: Readonly<Record<string, number>>;
}

export const SOURCES = fileURLToPath(new URL("../../src/main.ts", import.meta.url));

/** An event whose letter could not be stored may wait for a minute. */
const REST_LIMIT_MS = 75_000;
const SCHEDULES_LIMIT_MS = 10_000;
const QUIET_LIMIT_MS = 12_000;

/** Runs a round. Rejects when the machinery itself fails, never for a broken promise. */
export async function runRound(round: Round): Promise<Outcome> {
  const folder = await mkdtemp(join(tmpdir(), "windshift-chaos-"));
  const size = { nodes: round.nodes ?? 3, servers: round.servers ?? 2, isTight: true };
  const random = new Random(round.seed);
  await using topology = await Topology.start(size, round.entry ?? SOURCES, folder, round.command);
  await topology.furnish();
  await noteConsumers(topology);
  const before = await measure(topology);
  for (const { name, actors } of CAST) await topology.addClient(name, random.between(0, 1e9), actors);
  const calmMs = round.calmMs ?? 1_500;
  await delay(calmMs);
  const { faults, skipped, violations } = await breakThings(topology, random, round.schedule);
  topology.heal();
  await topology.nats.ready();
  await Promise.all(CONSUMERS.map(async (consumer) => topology.admin.leader(SCENE.stream, consumer)));
  await noteConsumers(topology);
  const healedAt = clock();
  await delay(calmMs + 3_000);
  const quiet = await Promise.all(topology.clients.map(async (client) => client.quiet(QUIET_LIMIT_MS)));
  for (const [index, isQuiet] of quiet.entries()) {
    const { name } = topology.clients[index]!;
    if (!isQuiet)
      violations.push({ check: "stuck", text: `${name} did not get its calls done after everything was healed` });
  }
  await Promise.all(topology.pending);
  const { consumers, letters: lettersEnd } = await rest(topology);
  await Promise.all(topology.clients.map(async (client) => client.stop(5_000)));
  violations.push(...(await checkLeftovers(topology, before)));
  const stored = await topology.admin.contents(SCENE.stream);
  for (const [node, { log }] of topology.nats.nodes.entries()) {
    await writeFile(join(folder, `node-${node}.log`), log.join("\n"));
  }
  for (const crash of topology.crashes) violations.push({ check: "crash", text: crash });
  const mayBeCut = faults.some(({ effects }) => effects.includes("ends"));
  for (const one of topology.notes) judgeVictim(violations, one, mayBeCut);
  const seen = readHistories(join(folder, "history"));
  const entries = round.idsByText === true ? withStoredIds(seen, stored) : seen;
  const { leaderships, lags } = topology.eye;
  note(folder, "eye.json", { leaderships, lags, terminations: [...topology.eye.terminations] });
  let undecided = 0;
  const onUndecided = (): void => void (undecided += 1);
  const { terminations } = topology.eye;
  const letters =
    round.command === undefined
      ? { ...lettersEnd, written: await topology.admin.letters(SCENE.stream), terminations }
      : undefined;
  const evidence: Evidence = {
    entries,
    faults,
    stored,
    letters,
    consumers,
    nodes: size.nodes,
    leaderships,
    lags,
    onUndecided,
  };
  violations.push(...check(evidence));
  const resumed = resumptions(evidence).map(({ ms }) => ms);
  const counts: Record<string, number> = { stored: stored.length, resumed: resumed.length };
  counts["keys undecided"] = undecided;
  counts["slowest resume in ms"] = Math.round(Math.max(0, ...resumed));
  for (const { e } of entries) counts[e] = (counts[e] ?? 0) + 1;
  note(folder, "stored.json", { stored, letters, consumers, healedAt });
  return { seed: round.seed, folder, faults, skipped, violations, counts };
}

/** For whoever looks into a failed round: a consumer that was made anew has another time. */
async function noteConsumers({ admin, folder }: Topology): Promise<void> {
  for (const name of CONSUMERS) {
    const { created, cluster } = await admin.insist(async (jsm) => jsm.consumers.info(SCENE.stream, name));
    note(folder, "consumers.jsonl", { name, created, leader: cluster?.leader });
  }
}

interface Broken {
  readonly faults: FaultRecord[];
  readonly skipped: string[];
  readonly violations: Violation[];
}

async function breakThings(topology: Topology, random: Random, schedule: readonly Planned[]): Promise<Broken> {
  const broken: Broken = { faults: [], skipped: [], violations: [] };
  const claimed = new Map<unknown, string>();
  const begin = performance.now();
  const lanes = new Map<string, Promise<void>>();
  await Promise.all(
    schedule.map(async ({ name, atMs, forMs, lane }, index) => {
      const { promise: over, resolve } = Promise.withResolvers<void>();
      if (lane !== undefined) {
        const before = lanes.get(lane);
        lanes.set(lane, over);
        await before;
      }
      await delay(lane === undefined ? Math.max(0, atMs - (performance.now() - begin)) : atMs);
      const own = random.fork(`${index} ${name}`);
      const mine: unknown[] = [];
      const claim = <T>(kind: string, candidates: readonly T[]): T | undefined => {
        const free = candidates.filter((candidate) => !claimed.has(keyOf(kind, candidate)));
        if (free.length === 0) return undefined;
        const taken = own.pick(free);
        claimed.set(keyOf(kind, taken), name);
        mine.push(keyOf(kind, taken));
        return taken;
      };
      const { effects } = FAULTS[name];
      const start = clock();
      let running: Running | undefined;
      try {
        running = await FAULTS[name].start({ topology, random: own, forMs, claim });
        if (running === undefined) broken.skipped.push(name);
        else {
          note(topology.folder, "faults.jsonl", { name, detail: running.detail, phase: "start" });
          await delay(forMs);
          await running.end();
          note(topology.folder, "faults.jsonl", { name, detail: running.detail, phase: "end" });
        }
      } catch (error) {
        broken.violations.push({
          check: "fault",
          text: `${name} could not be done: ${String((error as Error).stack)}`,
        });
      }
      for (const key of mine) claimed.delete(key);
      resolve();
      const detail = running?.detail ?? "";
      if (running !== undefined) broken.faults.push({ name, detail, effects, start, end: clock() });
    }),
  );
  return broken;
}

/** Objects are claimed as they are, numbers and names together with their kind. */
function keyOf(kind: string, candidate: unknown): unknown {
  return typeof candidate === "object" ? candidate : `${kind} ${candidate as string | number}`;
}

/** Waits until every consumer has delivered and settled everything, or nothing more comes of waiting. */
async function rest({
  admin,
}: Topology): Promise<{ consumers: ConsumerEnd[]; letters: Omit<ConsumerEnd, "consumer"> }> {
  const end = performance.now() + REST_LIMIT_MS;
  for (;;) {
    const consumers = await Promise.all(
      CONSUMERS.map(async (consumer) => {
        const info = await admin.insist(async (jsm) => jsm.consumers.info(SCENE.stream, consumer));
        const limit = consumer === "audit" ? { limit: AUDIT_LIMIT } : {};
        return { consumer, pending: info.num_pending, unsettled: info.num_ack_pending, ...limit };
      }),
    );
    const { num_pending: pending, num_ack_pending: unsettled } = await admin.insist(async (jsm) =>
      jsm.consumers.info(SCENE.stream, LETTERS.consumer),
    );
    // What was due while the stream was full may wait for another leader.
    const scheduled =
      performance.now() > end - REST_LIMIT_MS + SCHEDULES_LIMIT_MS ? 0 : await admin.schedules(SCENE.stream);
    const letters = { pending, unsettled };
    const isDone = scheduled === 0 && [...consumers, letters].every((one) => one.pending === 0 && one.unsettled === 0);
    if (isDone || performance.now() > end) return { consumers, letters };
    await delay(200);
  }
}

/** Subscriptions of what was deleted have to end as not found. */
function judgeVictim(
  violations: Violation[],
  { what, detail, ends }: Topology["notes"][number],
  mayBeCut: boolean,
): void {
  if (what === "purged" && ends !== "OK" && !(mayBeCut && ends === "UNAVAILABLE")) {
    violations.push({ check: "purged", text: `${detail}: ${String(ends)}` });
  }
  if (what !== "victim") return;
  const allowed = mayBeCut ? ["NOT_FOUND", "UNAVAILABLE"] : ["NOT_FOUND"];
  if (typeof ends !== "string" && ends.every((end) => allowed.includes(end))) return;
  violations.push({ check: "deleted", text: `subscriptions of ${detail} ended as ${String(ends)}, not as NOT_FOUND` });
}

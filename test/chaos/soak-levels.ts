/** What the soak looks at: memory and handles of the server, the load, and who used the processors. */
import { readFile } from "node:fs/promises";
import { cpus } from "node:os";
import { setTimeout as delay } from "node:timers/promises";
import { processMicros } from "../bench/server-under-test.ts";
import type { Admin } from "./cluster/admin.ts";
import type { NatsNodes } from "./cluster/nats-nodes.ts";
import type { ServerProcess } from "./cluster/server-process.ts";
import type { LoadSample } from "./soak-load.ts";
import type { Load } from "./soak-load-process.ts";

/** Name of the server's connection to NATS. */
export const CONNECTION = "soak-server";
/** Files that the process may have opened for itself meanwhile. */
const MAX_FILE_GROWTH = 2;
const REST_LIMIT_MS = 10_000;
const MIB = 2 ** 20;
const HEAP = "v8js_memory_heap_used_bytes";

/** Everything that runs. */
export interface World {
  readonly nats: NatsNodes;
  readonly admin: Admin;
  readonly server: ServerProcess;
  readonly load: Load;
  /** When the load began. */
  start: number;
}

/** All that is looked at every few seconds. */
export interface Sample extends Levels {
  /** Seconds since the load began. */
  readonly at: number;
  readonly load: LoadSample;
  readonly serverMicros: number;
  readonly natsMicros: number;
  readonly loadMicros: number;
  readonly machineMicros: number;
}

/** What the server holds. */
export interface Levels {
  readonly rssMib: number;
  readonly heapMib: number;
  readonly files: number;
  readonly natsSubscriptions: number;
  readonly consumers: number;
  readonly subscriptions: number;
  readonly unsettled: number;
}

/** Levels without load. */
export interface Rest extends Levels {
  readonly liveMib: number;
}

export async function sample(world: World): Promise<Sample> {
  const { load, server, nats } = world;
  const [levels, own] = await Promise.all([levelsOf(world), load.ask<LoadSample>({ ask: "sample" })]);
  return {
    at: (performance.now() - world.start) / 1000,
    ...levels,
    load: own,
    serverMicros: processMicros(server.pid!),
    natsMicros: processMicros(nats.nodes[0]!.pid),
    loadMicros: processMicros(load.pid),
    machineMicros: machineMicros(),
  };
}

/** Processor time that the whole machine has spent working. */
function machineMicros(): number {
  return cpus().reduce((sum, { times }) => sum + (times.user + times.nice + times.sys + times.irq) * 1000, 0);
}

/** What the server holds now, no garbage being collected for it. */
async function levelsOf({ server, nats }: World): Promise<Levels> {
  type Connz = { connections: { name?: string; subscriptions: number }[] };
  const [metrics, status, files, connections, jetstream] = await Promise.all([
    metricsOf(server),
    readFile(`/proc/${server.pid}/status`, "utf8"),
    server.descriptors(),
    nats.monitor<Connz>(0, "/connz"),
    nats.monitor<{ consumers: number }>(0, "/jsz"),
  ]);
  return {
    rssMib: Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) / 1024,
    heapMib: (metrics[HEAP] ?? Number.NaN) / MIB,
    files,
    natsSubscriptions: connections?.connections.find(({ name }) => name === CONNECTION)?.subscriptions ?? Number.NaN,
    consumers: jetstream?.consumers ?? Number.NaN,
    subscriptions: metrics["windshift_subscriptions"] ?? Number.NaN,
    unsettled: metrics["windshift_unsettled"] ?? Number.NaN,
  };
}

/** Sums over all series, by name. */
async function metricsOf({ options }: ServerProcess): Promise<Record<string, number>> {
  const response = await fetch(`http://127.0.0.1:${options.healthPort}/metrics`);
  const sums: Record<string, number> = {};
  for (const line of (await response.text()).split("\n")) {
    const [, name, value] = /^([a-zA-Z_:][\w:]*)(?:\{.*\})? (\S+)/.exec(line) ?? [];
    if (name !== undefined) sums[name] = (sums[name] ?? 0) + Number(value);
  }
  return sums;
}

/** The levels once nothing is under way; with `like`, waits a little until they are as they were. */
export async function atRest(world: World, like?: Levels): Promise<Rest> {
  const end = performance.now() + REST_LIMIT_MS;
  for (;;) {
    await delay(500);
    const levels = await levelsOf(world);
    const isAsBefore = like === undefined ? levels.unsettled === 0 : judgeHandles(like, levels).length === 0;
    if (isAsBefore || performance.now() > end) return { ...levels, liveMib: await liveMib(world) };
  }
}

/** Heap in use after two collections: the first may come too late for the figure that goes with it. */
async function liveMib({ server }: World): Promise<number> {
  await server.usage();
  return ((await server.usage())?.metrics[HEAP] ?? Number.NaN) / MIB;
}

/** Without load everything has to be as it was before. */
export function judgeHandles(before: Levels, after: Levels): string[] {
  const found: string[] = [];
  if (after.files > before.files + MAX_FILE_GROWTH) found.push(`${before.files} files before, ${after.files} after`);
  for (const name of ["natsSubscriptions", "consumers", "subscriptions"] as const) {
    if (after[name] !== before[name]) found.push(`${name}: ${before[name]} before, ${after[name]} after`);
  }
  if (after.unsettled !== 0) found.push(`${after.unsettled} events are held and not settled`);
  return found;
}

/** What grows: the axes of `npm run bench -- growth`, with the load that each of their points puts on both servers. */
import { readFileSync } from "node:fs";
import { type Arena, byTurns, forBoth, restingBytes } from "./growth-arena.ts";
import { Backlog } from "./growth-backlog.ts";
import { Publishers, ensurePublished } from "./growth-publishers.ts";
import type { AxisLook, Row } from "./growth-report.ts";
import { Subscribers } from "./growth-subscribers.ts";

/** A point that could not be measured here, and why. */
export interface Skipped {
  readonly skipped: string;
}

/** One way to grow. */
export interface Axis extends AxisLook {
  readonly points: readonly number[];
  /** Measures one point after the other, on an arena of its own. */
  readonly measure: (arena: Arena, points: readonly number[], seconds: number) => AsyncGenerator<Row | Skipped>;
}

const KIB = 1024;
const MIB = 1024 * KIB;
const CONNECTIONS = 4;
const IN_FLIGHT = 64;
const SMALL_BYTES = 256;
/** Longer than it takes until the code that every call runs through has been compiled. */
const WARM_UP_SECONDS = 3;
/** Files that this process has open besides connections. */
const SPARE_FILES = 200;
/** All events of a point together, and how many there are at most. */
const BACKLOG_BYTES = 64 * MIB;
const BACKLOG_EVENTS = 10_000;
/** Events a second at which subscriptions are fed. */
const FEED_RATE = 500;
const CONSUMERS = 50;
/**
 * Each subscription hears from JetStream this often, all that were opened together at about the same time: what is measured
 * for less catches all of it or nothing.
 */
const UPKEEP_SECONDS = 10;

export const AXES: readonly Axis[] = [
  {
    name: "connections",
    title: "Connections",
    label: "connections",
    format: count,
    description:
      `Publishes of ${SMALL_BYTES} B, ${IN_FLIGHT} in flight over all connections, at least one on each. Memory is ` +
      "that at rest, after the load and a garbage collection, all connections still open.",
    panels: [
      { level: "cpuMicros", scale: "linear" },
      { level: "residentMib", scale: "linear" },
    ],
    points: [1, 4, 16, 64, 256, 1000],
    measure: growConnections,
  },
  {
    name: "streams",
    title: "Streams",
    label: "calls in flight",
    format: count,
    description:
      `Publishes of ${SMALL_BYTES} B over ${CONNECTIONS} connections, so many of them in flight at any time. 256 are with JetStream, ` +
      "the others wait in the server.",
    panels: [
      { level: "cpuMicros", scale: "linear" },
      { level: "perSecond", scale: "linear" },
    ],
    points: [1, 10, 100, 1000, 10_000],
    measure: growStreams,
  },
  {
    name: "size",
    title: "Size",
    label: "payload",
    format: bytes,
    description:
      `Publishes, ${IN_FLIGHT} in flight over ${CONNECTIONS} connections; and a backlog that one subscription works off, acknowledging ` +
      "each event by itself. nats-server takes messages of up to 2 MiB here.",
    panels: [
      { level: "cpuMicros", scale: "log" },
      { level: "perSecond", scale: "log" },
    ],
    points: [256, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB],
    measure: growSize,
  },
  {
    name: "subscriptions",
    title: "Subscriptions",
    label: "subscriptions",
    format: count,
    description:
      `Subscriptions over ${CONNECTIONS} connections, which share ${CONSUMERS} consumers. Memory for each is what the process has more ` +
      "than without any, idle and after a garbage collection. Then each consumer in turn gets an event, " +
      `${FEED_RATE} a second in all: an operation is an event that is delivered, acknowledged and confirmed; latency is from NATS to the ` +
      "client.",
    panels: [
      { level: "cpuMicros", scale: "linear" },
      { level: "eachKib", scale: "linear" },
    ],
    points: [1, 10, 100, 1000, 5000],
    measure: growSubscriptions,
  },
];

async function* growConnections(
  arena: Arena,
  points: readonly number[],
  seconds: number,
): AsyncGenerator<Row | Skipped> {
  await warmUp(arena);
  for (const at of points) {
    // Those to both servers. Each of these inherits the limit, and needs about half.
    const [needed, limit] = [2 * at + SPARE_FILES, maxOpenFiles()];
    if (needed > limit) {
      const reason = `they take ${count(needed)} open files, and the limit is ${count(limit)}`;
      yield { skipped: `${count(at)} connections were left out: ${reason}.` };
      continue;
    }
    using publishers = await Publishers.open(arena, at, SMALL_BYTES);
    const levels = await publishers.measure(Math.max(IN_FLIGHT, at), seconds);
    const resting = await restingBytes(arena);
    yield {
      at,
      engines: await forBoth(async (engine) => ({ ...levels[engine], residentMib: resting[engine] / MIB })),
    };
  }
}

async function* growStreams(arena: Arena, points: readonly number[], seconds: number): AsyncGenerator<Row> {
  await warmUp(arena);
  using publishers = await Publishers.open(arena, CONNECTIONS, SMALL_BYTES);
  for (const at of points) yield { at, engines: await publishers.measure(at, seconds) };
}

async function* growSize(arena: Arena, points: readonly number[], seconds: number): AsyncGenerator<Row> {
  await warmUp(arena);
  for (const at of points) {
    using publishers = await Publishers.open(arena, CONNECTIONS, at);
    yield { load: "publish", at, engines: await publishers.measure(IN_FLIGHT, seconds) };
  }
  const backlog = await Backlog.open(arena);
  const consume = async (forSeconds: number) => byTurns(forSeconds, async (engine) => backlog.workOff(engine));
  for (const [n, at] of points.entries()) {
    await backlog.fill(Math.min(BACKLOG_EVENTS, Math.floor(BACKLOG_BYTES / at)), at);
    if (n === 0) await consume(Math.min(WARM_UP_SECONDS, seconds));
    yield { load: "consume", at, engines: await consume(seconds) };
  }
}

async function* growSubscriptions(arena: Arena, points: readonly number[], seconds: number): AsyncGenerator<Row> {
  await using subscribers = await Subscribers.open(arena, {
    connections: CONNECTIONS,
    consumers: CONSUMERS,
    rate: FEED_RATE,
  });
  await subscribers.warmUp(Math.min(WARM_UP_SECONDS, seconds));
  const isShort = seconds < UPKEEP_SECONDS / 2;
  const period = isShort ? seconds : Math.ceil(seconds / UPKEEP_SECONDS) * UPKEEP_SECONDS;
  for (const at of points) {
    const idle = await subscribers.grow(at, period);
    const fed = await byTurns(period, async (engine, turn) => subscribers.feed(engine, turn), isShort ? undefined : 1);
    // Of memory only what is told idle counts: what traffic leaves behind is not what subscriptions take.
    yield { at, engines: await forBoth(async (engine) => ({ ...fed[engine], ...idle[engine] })) };
  }
}

/** Makes the stream to publish to, and publishes as most points do. */
async function warmUp(arena: Arena): Promise<void> {
  await ensurePublished(arena);
  using publishers = await Publishers.open(arena, CONNECTIONS, SMALL_BYTES);
  await publishers.measure(IN_FLIGHT, WARM_UP_SECONDS);
}

/** What this process may have open at a time. */
function maxOpenFiles(): number {
  const [, soft] = /^Max open files\s+(\S+)/m.exec(readFileSync("/proc/self/limits", "utf8")) ?? [];
  return soft === undefined || soft === "unlimited" ? Infinity : Number(soft);
}

function count(value: number): string {
  return value.toLocaleString("en");
}

function bytes(value: number): string {
  if (value < KIB) return `${value} B`;
  return value < MIB ? `${value / KIB} KiB` : `${value / MIB} MiB`;
}

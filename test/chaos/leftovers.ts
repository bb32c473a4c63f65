/**
 * What a run may not leave behind: subscriptions, NATS subscriptions, files, timers, memory. Compared with the time before
 * the load.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Violation } from "./checks/evidence.ts";
import type { Usage } from "./cluster/server-process.ts";
import type { Topology } from "./cluster/topology.ts";

/** The level of every server. */
export interface Level {
  readonly usages: readonly (Usage | undefined)[];
  /** Subscriptions in NATS by the name of the connection. */
  readonly natsSubscriptions: Readonly<Record<string, number>>;
}

const SETTLE_LIMIT_MS = 8_000;
/** Of the heap after a collection: what is really held. The allocator keeps far more than that for the next flood. */
const MAX_HEAP_GROWTH_BYTES = 24 * 1024 * 1024;
const MAX_RSS_GROWTH_BYTES = 256 * 1024 * 1024;
const HEAP = "v8js_memory_heap_used_bytes";
const MAX_DESCRIPTOR_GROWTH = 5;
/** Some run only after a first use, as those of keepalive and of queues. */
const MAX_TIMER_GROWTH = 10;
const HAS_TO_BE_ZERO = ["windshift_subscriptions", "windshift_unsettled", "windshift_publishes_in_flight"];

/** Measures now. */
export async function measure(topology: Topology): Promise<Level> {
  const usages = await Promise.all(topology.servers.map(async (server) => server.usage()));
  type Connz = { connections: { name?: string; subscriptions: number }[] };
  const views = await Promise.all(topology.nats.running.map((node) => topology.nats.monitor<Connz>(node, "/connz")));
  const natsSubscriptions: Record<string, number> = {};
  for (const { name, subscriptions } of views.flatMap((view) => view?.connections ?? [])) {
    if (name?.startsWith("server-") === true) natsSubscriptions[name] = (natsSubscriptions[name] ?? 0) + subscriptions;
  }
  return { usages, natsSubscriptions };
}

/** Waits a little until everything is as before; what is not then is left over. */
export async function checkLeftovers(topology: Topology, before: Level): Promise<Violation[]> {
  const end = performance.now() + SETTLE_LIMIT_MS;
  for (;;) {
    const violations = compare(topology, before, await measure(topology));
    if (violations.length === 0 || performance.now() > end) return violations;
    await delay(500);
  }
}

function compare(topology: Topology, before: Level, now: Level): Violation[] {
  const violations: Violation[] = [];
  const add = (text: string): void => void violations.push({ check: "leftovers", text });
  for (const [index, usage] of now.usages.entries()) {
    const { name } = topology.servers[index]!.options;
    if (usage === undefined) {
      add(`${name} does not answer /metrics`);
      continue;
    }
    for (const metric of HAS_TO_BE_ZERO) {
      const value = usage.metrics[metric] ?? 0;
      if (value !== 0) add(`${name} has ${metric} ${value}`);
    }
    const first = before.usages[index];
    if (first !== undefined) {
      const grown = usage.rssBytes - first.rssBytes;
      const heap = (usage.metrics[HEAP] ?? 0) - (first.metrics[HEAP] ?? 0);
      if (heap > MAX_HEAP_GROWTH_BYTES) add(`${name} holds ${Math.round(heap / 2 ** 20)} MiB of heap more than before`);
      if (grown > MAX_RSS_GROWTH_BYTES) add(`${name} holds ${Math.round(grown / 2 ** 20)} MiB more than before`);
      const files = usage.descriptors - first.descriptors;
      const timers = usage.timers - first.timers;
      if (timers > MAX_TIMER_GROWTH) add(`${name} runs ${timers} timers more than before`);
      if (files > MAX_DESCRIPTOR_GROWTH) add(`${name} holds ${files} files more than before`);
    }
    const subscriptions = now.natsSubscriptions[name] ?? 0;
    const firstSubscriptions = before.natsSubscriptions[name] ?? 0;
    if (subscriptions !== firstSubscriptions) {
      add(`${name} has ${subscriptions} NATS subscriptions, ${firstSubscriptions} before`);
    }
  }
  return violations;
}

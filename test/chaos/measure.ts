/**
 * How long subscriptions are without events: after NATS returned, after a kill of the stream's leader, and how soon events
 * held by a server that got SIGTERM come elsewhere. `node test/chaos/measure.ts [--times 20]`
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { Client, type EventsCall } from "../support/client.ts";
import { SCENE, Topology } from "./cluster/topology.ts";
import { print } from "./report.ts";
import { SOURCES } from "./run.ts";

const { values } = parseArgs({ options: { times: { type: "string", default: "20" }, entry: { type: "string" } } });
const PUBLISH_LIMIT_MS = 30_000;

const folder = await mkdtemp(join(tmpdir(), "windshift-measure-"));
try {
  await using topology = await Topology.start({ nodes: 3, servers: 2 }, values.entry ?? SOURCES, folder);
  await topology.furnish();
  const clients = topology.servers.map(({ options }) => new Client(`127.0.0.1:${options.grpcPort}`));
  const times = Number(values.times);
  await report("resume after NATS was away for 2 s", times, async () => afterOutage(topology, clients));
  await report("resume after kill -9 of the stream's leader", times, async () => afterKill(topology, clients));
  await report("redelivery elsewhere after SIGTERM and its grace", times, async () => afterTerm(topology, clients));
  for (const client of clients) client.close();
} finally {
  await rm(folder, { recursive: true, force: true });
}

async function report(what: string, times: number, once: () => Promise<number>): Promise<void> {
  const results: number[] = [];
  for (let n = 0; n < times; n++) results.push(await once());
  const sorted = results.toSorted((a, b) => a - b);
  const [median, worst] = [sorted[Math.floor(sorted.length / 2)]!, sorted.at(-1)!];
  print(`${what}: median ${Math.round(median)} ms, worst ${Math.round(worst)} ms of ${times}`);
}

/** From the moment NATS can be reached to the first event of a subscription that stayed open. */
async function afterOutage(topology: Topology, [client]: readonly Client[]): Promise<number> {
  const call = await client!.subscribe(SCENE.stream, "work", 10n);
  const links = topology.natsLinks[0]!;
  for (const link of links) link.refuse();
  await delay(2_000);
  await store(topology);
  const start = performance.now();
  for (const link of links) link.heal();
  const ms = await firstEvent(call, start);
  await leave(call);
  return ms;
}

/** From the moment the consumer has a leader again to the first event. */
async function afterKill(topology: Topology, [client]: readonly Client[]): Promise<number> {
  const { admin, nats } = topology;
  const call = await client!.subscribe(SCENE.stream, "work", 10n);
  const node = await admin.leader(SCENE.stream, "work");
  await nats.kill(node);
  let leader = node;
  while (leader === node) leader = await admin.leader(SCENE.stream, "work");
  const start = performance.now();
  await store(topology);
  const ms = await firstEvent(call, start);
  await leave(call);
  await nats.start(node);
  await nats.ready();
  return ms;
}

/** From the end of the subscription that held an event to its arrival at another server. */
async function afterTerm(topology: Topology, [, second]: readonly Client[]): Promise<number> {
  const [server] = topology.servers;
  // A connection of its own: one that saw the server go waits before it tries again.
  const first = new Client(`127.0.0.1:${server!.options.grpcPort}`);
  const holder = await first.subscribe(SCENE.stream, "work", 1n);
  await store(topology);
  await holder.event();
  const other = await second!.subscribe(SCENE.stream, "work", 10n);
  const over = holder.ended.then(() => performance.now());
  const stopped = server!.end("SIGTERM");
  const { id } = await other.event();
  const at = performance.now();
  const ms = Math.max(0, at - (await over));
  other.ack(id);
  await other.confirmation();
  await leave(other);
  await stopped;
  first.close();
  await server!.start();
  return ms;
}

async function store({ admin }: Topology): Promise<void> {
  await admin.publish(`${SCENE.stream}.measure`, PUBLISH_LIMIT_MS);
}

async function firstEvent(call: EventsCall, start: number): Promise<number> {
  const { id } = await call.event();
  const ms = performance.now() - start;
  call.ack(id);
  await call.confirmation();
  return ms;
}

async function leave(call: EventsCall): Promise<void> {
  await call.finish();
}

/**
 * How long subscriptions are without events: `node test/chaos/measure.ts [--times 20] [--away 2000] [--only outage]`.
 *
 *   --times N     samples of each kind (default 20)
 *   --away MS     how long NATS cannot be reached (default 2000)
 *   --only KIND   outage, kill or term alone
 *   --entry FILE  another program in place of `src/main.ts`
 *
 * Three nodes of NATS and two of our servers on this machine; streams and consumers have three replicas. Every sample has
 * a consumer of its own, which gets one subject from now on, and waits for a cluster at rest before it begins: nothing of
 * one sample can be seen in the next.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { cpuModel } from "../bench/report.ts";
import { Client, type EventsCall } from "../support/client.ts";
import { SCENE, Topology } from "./cluster/topology.ts";
import { print } from "./report.ts";
import { SOURCES } from "./run.ts";

const { values } = parseArgs({
  options: {
    times: { type: "string", default: "20" },
    away: { type: "string", default: "2000" },
    only: { type: "string" },
    entry: { type: "string" },
  },
});
const TIMES = Number(values.times);
const AWAY_MS = Number(values.away);
/** No sample may take longer: then the event did not come at all. */
const SAMPLE_LIMIT_MS = 30_000;
const STORE_LIMIT_MS = 20_000;
const POLL_MS = 10;
const { stream } = SCENE;

/** What one sample says: milliseconds by the name of what is counted. */
type Sample = Readonly<Record<string, number>>;

/** The place of a sample: a consumer of its own, its subject, and a connection to each server. */
interface Place {
  readonly topology: Topology;
  readonly consumer: string;
  readonly subject: string;
  readonly clients: readonly [Client, Client];
}

/** Of a node's monitoring. */
interface Jsz {
  readonly account_details?: readonly {
    readonly stream_detail?: readonly {
      readonly name: string;
      readonly consumer_detail?: readonly { readonly name: string; readonly cluster?: { readonly leader?: string } }[];
    }[];
  }[];
}

const KINDS: Readonly<Record<string, (place: Place) => Promise<Sample>>> = {
  outage: afterOutage,
  kill: afterKill,
  term: afterTerm,
};

let failed = 0;
const folder = await mkdtemp(join(tmpdir(), "windshift-measure-"));
try {
  await using topology = await Topology.start({ nodes: 3, servers: 2 }, values.entry ?? SOURCES, folder);
  await topology.furnish();
  const nats = await topology.nats.monitor<{ version: string }>(0, "/varz");
  print(cpuModel());
  print(`nats-server ${nats?.version}, 3 nodes, 2 servers, 3 replicas, ${TIMES} samples of each, ${AWAY_MS} ms away`);
  print("");
  print("| counted | median ms | worst ms |");
  print("| --- | --: | --: |");
  for (const [kind, once] of Object.entries(KINDS)) {
    if (values.only !== undefined && values.only !== kind) continue;
    const samples: Sample[] = [];
    for (let n = 0; n < TIMES; n++) {
      try {
        samples.push(await sample(topology, `${kind}-${n}`, once));
      } catch (error) {
        failed += 1;
        process.stderr.write(`${kind}-${n} failed: ${String((error as Error).stack)}\n`);
      }
    }
    report(samples);
  }
} finally {
  await rm(folder, { recursive: true, force: true });
}
process.exit(failed === 0 ? 0 : 1);

function report(samples: readonly Sample[]): void {
  for (const counted of Object.keys(samples[0] ?? {})) {
    const sorted = samples.map((one) => one[counted]!).toSorted((a, b) => a - b);
    const middle = sorted.length / 2;
    const median = (sorted[Math.ceil(middle) - 1]! + sorted[Math.floor(middle)]!) / 2;
    print(`| ${counted}, ${sorted.length} samples | ${Math.round(median)} | ${Math.round(sorted.at(-1)!)} |`);
  }
}

/** Makes the place, measures there, and leaves nothing behind. */
async function sample(topology: Topology, name: string, once: (place: Place) => Promise<Sample>): Promise<Sample> {
  const { admin, nats, servers } = topology;
  const consumer = `measure-${name}`;
  const subject = `${stream}.measure.${name}`;
  // New ones each time: a connection that saw its server go waits before it tries again.
  const [first, second] = servers.map(({ options }) => new Client(`127.0.0.1:${options.grpcPort}`)) as [Client, Client];
  await atRest(topology);
  await admin.insist(async () => first.ensureConsumer({ stream, name: consumer, subjects: [subject] }));
  await atRest(topology, consumer);
  const late = new AbortController();
  try {
    const tooLate = delay(SAMPLE_LIMIT_MS, undefined, { signal: late.signal }).then(async () => {
      throw new Error(`no event within ${SAMPLE_LIMIT_MS} ms\n${await stateOf(topology, consumer)}`);
    });
    tooLate.catch(() => undefined);
    return await Promise.race([once({ topology, consumer, subject, clients: [first, second] }), tooLate]);
  } finally {
    late.abort();
    first.close();
    second.close();
    topology.heal();
    for (const node of nats.nodes.keys()) if (!nats.running.includes(node)) await nats.start(node);
    for (const server of servers) if (server.pid === undefined) await server.start();
    await nats.ready();
    await admin.insist(async (jsm) => jsm.consumers.delete(stream, consumer));
  }
}

/** For whoever looks into a sample without an event: what JetStream and the servers say. */
async function stateOf({ admin, servers, folder: logs }: Topology, consumer: string): Promise<string> {
  const info = await admin.jsm.consumers.info(stream, consumer).catch(String);
  const lines = [`consumer: ${JSON.stringify(info)}`];
  for (const server of servers) {
    const { metrics = {} } = (await server.usage()) ?? {};
    const known = Object.entries(metrics).filter(([name]) => name.startsWith("windshift_"));
    lines.push(`${server.options.name}: ${known.map((pair) => pair.join(" ")).join(", ")}`);
    lines.push((await readFile(join(logs, `${server.options.name}.log`), "utf8")).split("\n").slice(-10).join("\n"));
  }
  return lines.join("\n");
}

/** Waits until the stream, and the consumer, have a leader that sees both replicas up to date. */
async function atRest({ admin, nats }: Topology, consumer?: string): Promise<void> {
  await nats.ready();
  await admin.insist(async (jsm) => {
    const infos = [await jsm.streams.info(stream)].map(({ cluster }) => cluster);
    if (consumer !== undefined) infos.push((await jsm.consumers.info(stream, consumer)).cluster);
    for (const cluster of infos) {
      const replicas = cluster?.replicas ?? [];
      const areGood = replicas.length === 2 && replicas.every(({ current, offline }) => current && offline !== true);
      if (!areGood || cluster?.leader === undefined)
        throw new Error(`${stream} ${consumer ?? ""} does not come to rest`);
    }
  });
}

async function afterOutage({ topology, consumer, subject, clients: [client] }: Place): Promise<Sample> {
  const call = await client.subscribe(stream, consumer, 10n);
  const links = topology.natsLinks[0]!;
  for (const link of links) link.refuse();
  await delay(AWAY_MS);
  await topology.admin.publish(subject, STORE_LIMIT_MS);
  const start = performance.now();
  for (const link of links) link.heal();
  const at = await settleOne(call);
  return { "NATS away: from when it can be reached again to the event": at - start };
}

async function afterKill({ topology, consumer, subject, clients: [client] }: Place): Promise<Sample> {
  const { admin, nats } = topology;
  const call = await client.subscribe(stream, consumer, 10n);
  const node = await admin.leader(stream, consumer);
  const start = performance.now();
  await nats.kill(node);
  const [leaderAt, storedAt, at] = await Promise.all([
    anotherLeader(topology, consumer, node),
    admin.publish(subject, STORE_LIMIT_MS).then(() => performance.now()),
    settleOne(call),
  ]);
  return {
    "kill -9 of the consumer's leader: from the kill to the event": at - start,
    "the same, until the consumer has another leader and the event is stored": Math.max(leaderAt, storedAt) - start,
    "the same, from then to the event": Math.max(0, at - Math.max(leaderAt, storedAt)),
  };
}

/** When a node that runs says that another one leads the consumer. Asked by HTTP: it answers also while nobody leads. */
async function anotherLeader({ nats }: Topology, consumer: string, last: number): Promise<number> {
  for (;;) {
    const views = await Promise.all(
      nats.running.map(async (node) => nats.monitor<Jsz>(node, "/jsz?accounts=true&streams=true&consumers=true")),
    );
    const leaders = views
      .flatMap((view) => view?.account_details ?? [])
      .flatMap(({ stream_detail = [] }) => stream_detail)
      .flatMap(({ consumer_detail = [] }) => consumer_detail)
      .filter(({ name }) => name === consumer)
      .map(({ cluster }) => cluster?.leader);
    if (leaders.some((leader) => (leader ?? "") !== "" && leader !== `node-${last}`)) return performance.now();
    await delay(POLL_MS);
  }
}

async function afterTerm({ topology, consumer, subject, clients: [first, second] }: Place): Promise<Sample> {
  const [server] = topology.servers;
  const holder = await first.subscribe(stream, consumer, 1n);
  await topology.admin.publish(subject, STORE_LIMIT_MS);
  await holder.event();
  const other = await second.subscribe(stream, consumer, 10n);
  const over = holder.ended.then(() => performance.now());
  const start = performance.now();
  const stopped = server!.end("SIGTERM");
  const [endedAt, at] = await Promise.all([over, settleOne(other)]);
  await stopped;
  return {
    "SIGTERM with a grace of 2 s, an event held: from the signal to the event at the other server": at - start,
    "the same, from the end of the subscription that held it": Math.max(0, at - endedAt),
  };
}

/** When the first event came; it is acknowledged, and the call left as a client leaves. */
async function settleOne(call: EventsCall): Promise<number> {
  const { id } = await call.event();
  const at = performance.now();
  await call.ackNow(id);
  await call.finish();
  return at;
}

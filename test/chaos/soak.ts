/**
 * The soak: `npm run soak -- --minutes 30`. Half of what the server can do, for a long time, with subscriptions coming
 * and going; afterwards memory and handles have to be where they were, and no event missed.
 *
 *   --minutes N    how long (default 30)
 *   --rate N       events a second, instead of half of the measured capacity
 *   --share S      another share of the capacity (default 0.5)
 *   --every S      seconds between two samples (default 5)
 *   --seed S       the seed of who comes and goes when
 *   --entry FILE   the program of the server (default src/main.ts)
 *   --plot FILE    where the drawing goes (default docs/benchmarks/soak.svg)
 *
 * One nats-server, the server and the load are processes of their own. Exits with 1 when a limit is broken.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { cpuModel } from "../bench/report.ts";
import { Client } from "../support/client.ts";
import { Admin } from "./cluster/admin.ts";
import { NatsNodes } from "./cluster/nats-nodes.ts";
import { unusedPort } from "./cluster/ports.ts";
import { ServerProcess } from "./cluster/server-process.ts";
import { print } from "./report.ts";
import { SOURCES } from "./run.ts";
import { CONNECTION, type Sample, type World, atRest, sample } from "./soak-levels.ts";
import type { LoadEnd, LoadOrders } from "./soak-load.ts";
import { Load } from "./soak-load-process.ts";
import { type Run, draw, figuresOf, judge, whole } from "./soak-report.ts";

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "30" },
    rate: { type: "string" },
    share: { type: "string", default: "0.5" },
    every: { type: "string", default: "5" },
    seed: { type: "string", default: "1" },
    entry: { type: "string" },
    plot: { type: "string", default: fileURLToPath(new URL("../../docs/benchmarks/soak.svg", import.meta.url)) },
  },
});

const STREAM = "soak";
const CONSUMER = "work";
/** The stream lets go of older ones, so that disk and index stay small; far more than may be under way. */
const KEPT_EVENTS = 500_000n;
const PROCESSING_TIMEOUT_S = 30n;
const CAPACITY = { inFlight: 256, warmUpMs: 4_000, forMs: 8_000 } as const;
const WARM_UP_SHARE = 0.1;
const DRAIN_LIMIT_MS = 30_000;

const folder = await mkdtemp(join(tmpdir(), "windshift-soak-"));
let violations: string[];
try {
  violations = await soak();
} finally {
  await rm(folder, { recursive: true, force: true });
}
for (const violation of violations) print(`VIOLATION: ${violation}`);
print(violations.length === 0 ? "no violations" : `${violations.length} violations`);
process.exit(violations.length === 0 ? 0 : 1);

async function soak(): Promise<string[]> {
  await using stack = new AsyncDisposableStack();
  const nats = stack.use(await NatsNodes.start(1));
  const admin = stack.use(await Admin.open([nats.nodes[0]!.url]));
  const server = stack.use(
    new ServerProcess({
      name: "server",
      entry: values.entry ?? SOURCES,
      grpcPort: await unusedPort(),
      healthPort: await unusedPort(),
      natsUrls: [nats.nodes[0]!.url],
      env: { LOG_LEVEL: "warn", NATS_CONNECTION_NAME: CONNECTION },
      logFolder: folder,
    }),
  );
  await server.start();
  const orders: LoadOrders = {
    address: `127.0.0.1:${server.options.grpcPort}`,
    stream: STREAM,
    consumer: CONSUMER,
    seed: Number(values.seed),
    payloadBytes: 256,
    publishers: 4,
    subscribers: 4,
    window: 500,
    visitors: 8,
    visitorWindow: 50,
    ephemerals: 2,
  };
  await furnish(orders.address);
  const load = stack.use(await Load.start(orders));
  const world: World = { nats, admin, server, load, start: 0 };

  const capacity = await load.ask<number>({ ask: "capacity", ...CAPACITY });
  const rate = Math.floor(values.rate === undefined ? capacity * Number(values.share) : Number(values.rate));
  const minutes = Number(values.minutes);
  print(cpuModel());
  print(await settingsOf(world, orders));
  print(
    `capacity ${whole(capacity)} events/s, each published, delivered and acknowledged with confirmation, ` +
      `${CAPACITY.inFlight} under way; ${rate} events/s for ${minutes} minutes, seed ${values.seed}`,
  );
  // Once as it will be, so that everything has been used before it is held against what comes.
  await load.ask({ ask: "start", rate });
  await delay(minutes * 60_000 * WARM_UP_SHARE);
  await load.ask({ ask: "stop", limitMs: DRAIN_LIMIT_MS });
  const before = await atRest(world);
  await load.ask({ ask: "start", rate });
  world.start = performance.now();
  const samples = await watch(world, minutes * 60);
  const end = await load.ask<LoadEnd>({ ask: "stop", limitMs: DRAIN_LIMIT_MS });
  const after = await atRest(world, before);

  const run: Run = { capacity, rate, minutes, samples, before, after, end };
  const found = [...judge(run), ...(await judgeConsumer(world, end))];
  await load.close();
  await server.end("SIGTERM");
  found.push(...server.crashes);
  const figures = figuresOf(run);
  for (const figure of figures) print(figure);
  mkdirSync(dirname(values.plot), { recursive: true });
  writeFileSync(values.plot, draw(run, [cpuModel(), await settingsOf(world, orders), ...figures.slice(0, 2)]));
  print(`drawn in ${values.plot}`);
  return found;
}

async function furnish(address: string): Promise<void> {
  const client = new Client(address);
  await client.ensureStream({
    name: STREAM,
    source: { case: "subjects", value: { subjects: [`${STREAM}.>`] } },
    retentionPolicy: { maxEvents: KEPT_EVENTS },
  });
  await client.ensureConsumer({
    stream: STREAM,
    name: CONSUMER,
    subjects: [`${STREAM}.>`],
    processingTimeout: { seconds: PROCESSING_TIMEOUT_S, nanos: 0 },
  });
  client.close();
}

async function settingsOf({ nats }: World, orders: LoadOrders): Promise<string> {
  const version = (await nats.monitor<{ version: string }>(0, "/varz"))?.version;
  return (
    `nats-server ${version}, file storage, 1 replica; ${orders.payloadBytes} byte payloads, ${orders.publishers} publishing ` +
    `connections, ${orders.subscribers} subscriptions that stay, ${orders.visitors + orders.ephemerals} that come and go`
  );
}

/** Samples until the time is over. */
async function watch(world: World, seconds: number): Promise<Sample[]> {
  const every = Number(values.every);
  const samples: Sample[] = [];
  for (let due = every; due <= seconds; due += every) {
    await delay(Math.max(0, world.start + due * 1000 - performance.now()));
    samples.push(await sample(world));
  }
  return samples;
}

/** What JetStream itself says: everything is stored that was published, and acknowledged. */
async function judgeConsumer({ admin }: World, { verdict }: LoadEnd): Promise<string[]> {
  const { state } = await admin.insist(async (jsm) => jsm.streams.info(STREAM));
  const info = await admin.insist(async (jsm) => jsm.consumers.info(STREAM, CONSUMER));
  const found: string[] = [];
  if (state.last_seq !== verdict.published) {
    found.push(`the stream has stored ${state.last_seq} events, ${verdict.published} were published`);
  }
  if (info.ack_floor.stream_seq !== state.last_seq || info.num_pending > 0 || info.num_ack_pending > 0) {
    const { num_pending, num_ack_pending, ack_floor } = info;
    found.push(
      `the consumer has ${num_pending} events not delivered, ${num_ack_pending} not acknowledged, and acknowledged all up to ` +
        `${ack_floor.stream_seq} of ${state.last_seq}`,
    );
  }
  return found;
}

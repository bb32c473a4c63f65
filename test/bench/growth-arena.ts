/** Where engines are compared: one NATS, a server of each engine, and turns. */
import { setTimeout as delay } from "node:timers/promises";
import type { NatsConnection } from "@nats-io/nats-core";
import { connect } from "@nats-io/transport-node";
import { Client } from "../support/client.ts";
import { startNats } from "../support/nats.ts";
import { ENGINES, type Engine, type Levels } from "./growth-report.ts";
import { type Figures, percentile } from "./report.ts";
import { type BenchServer, startServer } from "./server-under-test.ts";
import type { UnaryConnection } from "./unary-connection.ts";

/** One engine's server, with a connection for what has to be prepared. */
export interface Contestant {
  readonly engine: Engine;
  readonly server: BenchServer;
  readonly client: Client;
}

/** All that runs. Disposing it ends everything. */
export interface Arena extends AsyncDisposable {
  readonly nats: NatsConnection;
  readonly contestants: Readonly<Record<Engine, Contestant>>;
}

/**
 * Wide enough for every point: 10,000 publishes in flight, 64 of 1 MiB, and answers that wait behind all of them. What
 * paces JetStream (`NATS_PUBLISH_ASYNC_MAX_PENDING`) stays as it is.
 */
export const SERVER_VARIABLES = {
  GRPC_MAX_CONCURRENT_STREAMS: "20000",
  GRPC_MAX_CALLS: "50000",
  GRPC_MAX_CONNECTIONS: "10000",
  GRPC_REQUEST_TIMEOUT: "5m",
  NATS_REQUEST_TIMEOUT: "1m",
  PUBLISH_QUEUE_LIMIT: "20000",
  PUBLISH_QUEUE_BYTES: "1GiB",
} as const;

/** An event of 1 MiB has headers besides, and does not fit into the 1 MiB that nats-server takes by default. */
const NATS_CONFIG = "max_payload: 2097152";
/** Turns of each engine that a point is divided into, unless something speaks for longer ones. */
const TURNS = 4;
/** Turns that end by themselves may be shorter; no more of them than this. */
const MAX_TURNS = 40;
/** Timers may be early by so much. */
const NEARLY = 0.98;
/** What comes before each turn: so long at least, and every call answered once. */
const LEAD_MS = 250;
const POLL_MS = 10;
const MEMORY_LOOK_MS = 100;
/** Until what was done has come to rest, and until garbage is collected. */
const SETTLE_MS = 2_000;
const COLLECT_MS = 500;

/** Starts NATS and a server of each engine on it. */
export async function startArena(): Promise<Arena> {
  await using stack = new AsyncDisposableStack();
  const { url } = stack.use(await startNats({ config: NATS_CONFIG }));
  const nats = await connect({ servers: url });
  stack.defer(async () => nats.close());
  const start = async (engine: Engine): Promise<Contestant> => {
    const server = stack.use(await startServer(url, { ...SERVER_VARIABLES, GRPC_ENGINE: engine }));
    const client = new Client(server.address);
    stack.defer(() => client.close());
    return { engine, server, client };
  };
  const contestants = { native: await start("native"), "grpc-js": await start("grpc-js") };
  const owned = stack.move();
  return { nats, contestants, [Symbol.asyncDispose]: async () => owned.disposeAsync() };
}

/** The same for both, one after the other. */
export async function forBoth<T>(todo: (engine: Engine) => Promise<T>): Promise<Record<Engine, T>> {
  return { native: await todo("native"), "grpc-js": await todo("grpc-js") };
}

/**
 * Measures by turns (A B, B A, A B, …) until each engine was measured for so long. `measure` gets the length of a turn in
 * seconds, and may take another.
 */
export async function byTurns(
  seconds: number,
  measure: (engine: Engine, seconds: number) => Promise<Figures>,
  turns = TURNS,
): Promise<Record<Engine, Levels>> {
  const figures: Record<Engine, Figures[]> = { native: [], "grpc-js": [] };
  for (let turn = 0; turn < MAX_TURNS; turn++) {
    for (const engine of turn % 2 === 0 ? ENGINES : ENGINES.toReversed()) {
      figures[engine].push(await measure(engine, seconds / turns));
    }
    if (ENGINES.every((engine) => sum(figures[engine], (one) => one.seconds) >= seconds * NEARLY)) break;
  }
  return { native: levelsOf(figures.native), "grpc-js": levelsOf(figures["grpc-js"]) };
}

function levelsOf(figures: readonly Figures[]): Levels {
  const operations = sum(figures, (one) => one.operations);
  const latencies = Float64Array.from(figures.flatMap((one) => [...one.latencies])).toSorted();
  const [p50, p99] = [percentile(latencies, 0.5), percentile(latencies, 0.99)];
  return {
    cpuMicros: sum(figures, (one) => one.cpuMicros) / operations,
    perSecond: operations / sum(figures, (one) => one.seconds),
    ...(p50 === undefined || p99 === undefined ? {} : { p50, p99 }),
    residentMib: Math.max(...figures.map(({ residentBytes = 0 }) => residentBytes)) / 2 ** 20,
  };
}

function sum(figures: readonly Figures[], value: (one: Figures) => number): number {
  return figures.reduce((total, one) => total + value(one), 0);
}

/** Resident memory of both after a while without load, and without garbage. */
export async function restingBytes({ contestants }: Arena): Promise<Record<Engine, number>> {
  await delay(SETTLE_MS);
  // What finalizers let go of is garbage of the next collection.
  for (let round = 0; round < 2; round++) {
    for (const engine of ENGINES) contestants[engine].server.collectGarbage();
    await delay(COLLECT_MS);
  }
  return forBoth(async (engine) => contestants[engine].server.residentBytes());
}

/**
 * Keeps so many calls in flight and measures while they go on: neither the first rush nor the end, when fewer and fewer are
 * left, counts. Throws when a call failed.
 */
export async function keepInFlight(
  server: BenchServer,
  connections: readonly UnaryConnection[],
  inFlight: number,
  seconds: number,
): Promise<Figures> {
  const { promise: drained, resolve: onDrained } = Promise.withResolvers<void>();
  let latencies: number[] = [];
  let ended = 0;
  let failed = 0;
  let open = inFlight;
  let isOver = false;
  const begin = (connection: UnaryConnection): void => {
    let since = performance.now();
    const onEnd = (isAnswered: boolean): void => {
      const now = performance.now();
      ended += 1;
      if (isAnswered) latencies.push(now - since);
      else failed += 1;
      if (isOver || !isAnswered) {
        open -= 1;
        if (open === 0) onDrained();
        return;
      }
      since = now;
      connection.call(onEnd);
    };
    connection.call(onEnd);
  };
  const start = performance.now();
  for (let n = 0; n < inFlight; n++) begin(connections[n % connections.length]!);
  while (failed === 0 && (ended < inFlight || performance.now() < start + LEAD_MS)) await delay(POLL_MS);
  latencies = [];
  const figures = await watch(server, async () => {
    await delay(failed === 0 ? seconds * 1000 : 0);
    return latencies;
  });
  latencies = [];
  isOver = true;
  await drained;
  if (failed > 0) throw new Error(`${failed} of ${ended} calls failed with ${inFlight} in flight`);
  return figures;
}

/** What the server used while `load` ran, which returns the latencies of its operations, or their number. */
export async function watch(server: BenchServer, load: () => Promise<readonly number[] | number>): Promise<Figures> {
  let residentBytes = server.residentBytes();
  const timer = setInterval(() => {
    residentBytes = Math.max(residentBytes, server.residentBytes());
  }, MEMORY_LOOK_MS);
  try {
    const cpu = server.cpuMicros();
    const start = performance.now();
    const done = await load();
    const seconds = (performance.now() - start) / 1000;
    const cpuMicros = server.cpuMicros() - cpu;
    const [operations, latencies] = typeof done === "number" ? [done, []] : [done.length, done];
    return { operations, seconds, cpuMicros, latencies: Float64Array.from(latencies), residentBytes };
  } finally {
    clearInterval(timer);
  }
}

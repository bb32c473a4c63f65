/** The loads. Requests are encoded once and sent as bytes, so that the client costs as little as it can. */
import { create, toBinary } from "@bufbuild/protobuf";
import { BinaryReader, BinaryWriter } from "@bufbuild/protobuf/wire";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import type { ClientDuplexStream } from "@grpc/grpc-js";
import { type Event, PublishEventRequestSchema } from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { GetRequestSchema, SetRequestSchema } from "../../src/gen/windshift/state/v1alpha1/state_pb.ts";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { type Client, EVENTS, STATE } from "../support/client.ts";
import type { Figures } from "./report.ts";
import { ABUSES, TARGET } from "./abusers.ts";
import type { ServerUnderTest } from "./server-under-test.ts";

/** How much load. */
export interface Settings {
  readonly seconds: number;
  readonly events: number;
  readonly connections: number;
  readonly concurrency: number;
  readonly size: number;
}

type Scenario = (server: ServerUnderTest, settings: Settings) => Promise<Figures>;

const WARM_UP_SECONDS = 1;
const KEYS = 1000;
const WINDOW = 1000n;

/** What a client of good manners notices of others, who share server and machine with it. Run only when asked for. */
export const ABUSE_SCENARIOS: Readonly<Record<string, Scenario>> = Object.fromEntries(
  ["nobody", ...Object.keys(ABUSES)].map((kind) => [
    `abuse-${kind}`,
    async (server, settings) => beside(server, settings, kind),
  ]),
);

/** Every scenario by its name. */
export const SCENARIOS: Readonly<Record<string, Scenario>> = {
  publish: async (server, settings) => {
    await ensureStream(server.clients[0]!);
    const request = publishRequest(settings.size);
    return closedLoop(server, settings, async (client) => client.raw(`${EVENTS}PublishEvent`, request));
  },
  "publish-one": async (server, settings) => {
    await ensureStream(server.clients[0]!);
    const request = publishRequest(settings.size);
    const one = { ...settings, concurrency: 1 };
    return closedLoop(server, one, async (client) => client.raw(`${EVENTS}PublishEvent`, request));
  },
  "publish-stream": publishStream,
  "consume-ack-1": async (server, settings) => consume(server, settings, 1),
  "consume-ack-100": async (server, settings) => consume(server, settings, 100),
  "consume-batch-100": async (server, settings) => consume(server, settings, 100, 100),
  read: async (server, settings) => read(server, settings),
  "end-to-end": endToEnd,
  "state-set": async (server, settings) => {
    await server.clients[0]!.ensureStore({ store: "bench" });
    const requests = setRequests(settings.size);
    return closedLoop(server, settings, async (client, i) => client.raw(`${STATE}Set`, requests[i % KEYS]!));
  },
  "state-get": async (server, settings) => {
    await server.clients[0]!.ensureStore({ store: "bench" });
    for (const request of setRequests(settings.size)) await server.clients[0]!.raw(`${STATE}Set`, request);
    const requests = Array.from({ length: KEYS }, (_, i) =>
      toBinary(GetRequestSchema, create(GetRequestSchema, { store: "bench", key: `key-${i}` })),
    );
    return closedLoop(server, settings, async (client, i) => client.raw(`${STATE}Get`, requests[i % KEYS]!));
  },
  "state-compare-and-swap": async (server, settings) => {
    await server.clients[0]!.ensureStore({ store: "bench" });
    const revisions = new Map<number, bigint>();
    const value = payload(settings.size);
    return closedLoop(server, settings, async (client, _i, worker) => {
      const lastRevision = revisions.get(worker) ?? 0n;
      const { revision } = await client.set({ store: "bench", key: `cas-${worker}`, value, lastRevision });
      revisions.set(worker, revision);
    });
  },
};

function payload(size: number) {
  return create(AnySchema, { typeUrl: "type.googleapis.com/bench.v1.Bytes", value: new Uint8Array(size).fill(7) });
}

function publishRequest(size: number): Uint8Array {
  return toBinary(
    PublishEventRequestSchema,
    create(PublishEventRequestSchema, { subject: "bench.event", data: payload(size) }),
  );
}

/** One call for each connection; an answer is known by its tag. */
async function publishStream(server: ServerUnderTest, settings: Settings): Promise<Figures> {
  await ensureStream(server.clients[0]!);
  const event = publishRequest(settings.size);
  const calls = new Map(server.clients.map((client) => [client, new TaggedCall(client)]));
  try {
    return await closedLoop(server, settings, async (client) => calls.get(client)!.publish(event));
  } finally {
    await Promise.all([...calls.values()].map(async (call) => call.end()));
  }
}

/** A `PublishStream` call, coded by hand. */
class TaggedCall {
  readonly #call: ClientDuplexStream<Uint8Array, Buffer>;
  readonly #waiting = new Map<number, PromiseWithResolvers<void>>();
  #tag = 0;

  constructor(client: Client) {
    this.#call = client.grpc.makeBidiStreamRequest(
      `${EVENTS}PublishStream`,
      (bytes: Uint8Array) => Buffer.from(bytes),
      (bytes) => bytes,
    );
    this.#call.on("data", (bytes: Buffer) => this.#answered(bytes));
  }

  async publish(event: Uint8Array): Promise<void> {
    const answer = Promise.withResolvers<void>();
    this.#tag += 1;
    this.#waiting.set(this.#tag, answer);
    this.#call.write(new BinaryWriter().uint32(TAG).uint64(this.#tag).uint32(EVENT).bytes(event).finish());
    return answer.promise;
  }

  async end(): Promise<void> {
    this.#call.end();
    await once(this.#call, "status");
  }

  #answered(bytes: Buffer): void {
    const reader = new BinaryReader(bytes);
    reader.uint32();
    const tag = Number(reader.uint64());
    const answer = this.#waiting.get(tag)!;
    this.#waiting.delete(tag);
    if (reader.uint32() === ID) answer.resolve();
    else answer.reject(new Error("an event was refused"));
  }
}

/** Fields of its messages, with their wire types: tag, event; id of an answer. */
const TAG = 8;
const EVENT = 18;
const ID = 16;

function setRequests(size: number): Uint8Array[] {
  const value = payload(size);
  return Array.from({ length: KEYS }, (_, i) =>
    toBinary(SetRequestSchema, create(SetRequestSchema, { store: "bench", key: `key-${i}`, value })),
  );
}

async function ensureStream(client: Client): Promise<void> {
  await client.ensureStream({ name: "bench", source: { case: "subjects", value: { subjects: ["bench.>"] } } });
}

/** Keeps so many calls in flight: each worker calls again when its call has ended. */
async function closedLoop(
  server: ServerUnderTest,
  { seconds, concurrency }: Settings,
  call: (client: Client, index: number, worker: number) => Promise<unknown>,
): Promise<Figures> {
  const { clients } = server;
  let index = 0;
  const run = async (durationMs: number): Promise<number[]> => {
    const end = performance.now() + durationMs;
    const latencies: number[] = [];
    const worker = async (_: unknown, number: number): Promise<void> => {
      const client = clients[number % clients.length]!;
      for (let start = performance.now(); start < end;) {
        await call(client, index++, number);
        const now = performance.now();
        latencies.push(now - start);
        start = now;
      }
    };
    await Promise.all(Array.from({ length: concurrency }, worker));
    return latencies;
  };
  await run(WARM_UP_SECONDS * 1000);
  const cpu = server.cpuMicros();
  const start = performance.now();
  const latencies = await run(seconds * 1000);
  return {
    operations: latencies.length,
    seconds: (performance.now() - start) / 1000,
    cpuMicros: server.cpuMicros() - cpu,
    latencies: Float64Array.from(latencies),
  };
}

/** Reads a backlog from its start to its end. */
async function read(server: ServerUnderTest, { events, size }: Settings): Promise<Figures> {
  const [client] = server.clients;
  await ensureStream(client!);
  await fill(client!, events, size);
  const cpu = server.cpuMicros();
  const start = performance.now();
  let received = 0;
  for await (const { response } of client!.readEvents({ stream: "bench" }))
    if (response.case === "event") received += 1;
  const seconds = (performance.now() - start) / 1000;
  if (received !== events) throw new Error(`${received} of ${events} events were read`);
  return { operations: events, seconds, cpuMicros: server.cpuMicros() - cpu, latencies: new Float64Array() };
}

/** Works off a backlog: from the subscription to the last confirmation. */
async function consume(
  server: ServerUnderTest,
  { events, size }: Settings,
  ackBatch: number,
  maxBatch = 0,
): Promise<Figures> {
  const [client] = server.clients;
  await ensureStream(client!);
  await fill(client!, events, size);
  const consumer = { stream: "bench", name: "bench", subjects: ["bench.>"] };
  await client!.ensureConsumer({ ...consumer, from: { pointer: { case: "start", value: true } } });
  const cpu = server.cpuMicros();
  const start = performance.now();
  const call = client!.events();
  const { promise: done, resolve } = Promise.withResolvers<void>();
  let received = 0;
  let confirmed = 0;
  let ids: bigint[] = [];
  const take = ({ id }: Event): void => {
    received += 1;
    ids.push(id);
    if (ids.length < ackBatch && received < events) return;
    call.send({ case: "ack", value: { ids } });
    ids = [];
  };
  call.stream.on("data", () => {
    const { response } = call.received.pop()!;
    if (response.case === "event") take(response.value);
    else if (response.case === "events") response.value.events.forEach(take);
    else if (response.case === "ackConfirmation") {
      confirmed += response.value.ids.length;
      if (confirmed === events) resolve();
    }
  });
  const value = { stream: "bench", consumer: "bench", maxProcessingEvents: WINDOW, maxBatch };
  call.send({ case: "subscribe", value });
  await done;
  const seconds = (performance.now() - start) / 1000;
  const cpuMicros = server.cpuMicros() - cpu;
  await call.cancel();
  return { operations: events, seconds, cpuMicros, latencies: new Float64Array() };
}

async function fill(client: Client, events: number, size: number): Promise<void> {
  const request = publishRequest(size);
  let left = events;
  const worker = async (): Promise<void> => {
    while (left-- > 0) await client.raw(`${EVENTS}PublishEvent`, request);
  };
  await Promise.all(Array.from({ length: 256 }, worker));
}

/** Publishes one event at a time and waits until it is received; acknowledges it meanwhile. */
async function endToEnd(server: ServerUnderTest, settings: Settings): Promise<Figures> {
  const [publisher, subscriber = publisher] = server.clients;
  await ensureStream(publisher!);
  await publisher!.ensureConsumer({ stream: "bench", name: "e2e", subjects: ["bench.>"] });
  const call = await subscriber!.subscribe("bench", "e2e", WINDOW);
  const request = publishRequest(settings.size);
  let arrived: (() => void) | undefined;
  call.stream.on("data", () => {
    const { response } = call.received.pop()!;
    if (response.case !== "event") return;
    call.ack(response.value.id);
    arrived?.();
  });
  const figures = await closedLoop(
    { ...server, clients: [publisher!] },
    { ...settings, concurrency: 1 },
    async (client) => {
      const receipt = new Promise<void>((resolve) => {
        arrived = resolve;
      });
      await client.raw(`${EVENTS}PublishEvent`, request);
      await receipt;
    },
  );
  await call.cancel();
  return figures;
}

const ABUSED_EVENTS = 200;
const ABUSED_BYTES = 64 * 1024;
const LARGE_VALUE_BYTES = 512 * 1024;
const MEMORY_LOOK_MS = 100;
/** Their first rush is over by then. */
const SETTLE_MS = 10_000;

/** Publishes one after the other, while others misbehave. */
async function beside(server: ServerUnderTest, settings: Settings, kind: string): Promise<Figures> {
  const [client] = server.clients;
  await ensureStream(client!);
  await client!.ensureStream({ name: TARGET.stream, source: { case: "subjects", value: { subjects: ["abused.>"] } } });
  await client!.ensureConsumer({ stream: TARGET.stream, name: TARGET.consumer, subjects: ["abused.>"] });
  await client!.ensureStore({ store: TARGET.store });
  await client!.set({ store: TARGET.store, key: TARGET.key, value: payload(LARGE_VALUE_BYTES) });
  const event = { subject: "abused.event", data: payload(ABUSED_BYTES) };
  for (let n = 0; n < ABUSED_EVENTS; n++) await client!.publishEvent(event);
  const abusers =
    kind === "nobody"
      ? undefined
      : spawn(process.execPath, [ABUSERS, kind, server.address], { stdio: ["pipe", "pipe", "inherit"] });
  let residentBytes = 0;
  const timer = setInterval(() => {
    residentBytes = Math.max(residentBytes, server.residentBytes());
  }, MEMORY_LOOK_MS);
  try {
    if (abusers !== undefined) await Promise.race([once(abusers.stdout, "data"), once(abusers, "exit")]);
    await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
    const request = publishRequest(settings.size);
    const one = { ...settings, concurrency: 1 };
    const figures = await closedLoop(server, one, async (good) => good.raw(`${EVENTS}PublishEvent`, request));
    return { ...figures, residentBytes };
  } finally {
    clearInterval(timer);
    abusers?.kill("SIGKILL");
  }
}

const ABUSERS = fileURLToPath(new URL("abusers.ts", import.meta.url));

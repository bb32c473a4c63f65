/** A NATS cluster of three that loses its leaders under load. */
import { connect } from "@nats-io/transport-node";
import { expect } from "vitest";
import { type Client, type ReadCall, textOf, textValue } from "../support/client.ts";
import {
  type Source,
  Worker,
  consumerState,
  createSource,
  publishMany,
  publishUntilStored,
} from "../support/consuming.ts";
import { test as base, uniqueName } from "../support/fixtures.ts";
import { type NatsCluster, ask, startNatsCluster } from "../support/nats.ts";
import { type Windshift, startWindshift } from "../support/windshift.ts";

/** Elections take seconds, and everything here shares two cores. */
const PATIENT = { timeout: 60_000, interval: 100 };
const LONG = 180_000;

const test = base.extend<{ $file: { cluster: NatsCluster; server: Windshift } }>({
  cluster: [
    async ({}, use) => {
      await using cluster = await startNatsCluster();
      await use(cluster);
    },
    { scope: "file" },
  ],
  server: [
    async ({ cluster }, use) => {
      await using server = await startWindshift(cluster.urls.join(","));
      await use(server);
    },
    { scope: "file" },
  ],
});

/** What leads a stream, its consumer, or the connection of a server. */
type Victim = "stream" | "consumer" | "connection";

async function nodeOf(cluster: NatsCluster, victim: Victim, { stream, consumer }: Source): Promise<number> {
  if (victim === "connection") return connectedNode(cluster);
  const leader = await ask(cluster, async (jsm) => {
    const { cluster: group } =
      victim === "stream" ? await jsm.streams.info(stream) : await jsm.consumers.info(stream, consumer);
    return group?.leader;
  });
  return Number(leader!.slice("node-".length));
}

/** The node that a server of ours is connected to. */
async function connectedNode({ nodes }: NatsCluster): Promise<number> {
  for (const [index, node] of nodes.entries()) {
    const port = node.log
      .findLast((line) => line.startsWith("Starting http monitor on"))!
      .split(":")
      .at(-1);
    const response = await fetch(`http://127.0.0.1:${port}/connz`);
    const { connections } = (await response.json()) as { connections: { name?: string }[] };
    if (connections.some(({ name }) => name === "windshift")) return index;
  }
  throw new Error("no node has a connection of a server");
}

/** A publisher that goes on until it is told to stop. */
interface Publishing extends AsyncDisposable {
  readonly stored: number;
  /** Resolves with the ids of all that was stored. */
  stop(): Promise<bigint[]>;
}

function keepPublishing(client: Client, subject: string): Publishing {
  const ids: bigint[] = [];
  let isStopped = false;
  let next = 0;
  const publish = async (): Promise<void> => {
    while (!isStopped) ids.push(await publishUntilStored(client, subject, `key ${next++}`));
  };
  const publishing = Promise.all([publish(), publish(), publish(), publish()]);
  const stop = async (): Promise<bigint[]> => {
    isStopped = true;
    await publishing;
    return ids;
  };
  return {
    get stored() {
      return ids.length;
    },
    stop,
    [Symbol.asyncDispose]: async () => void (await stop()),
  };
}

test(
  "consumers have the replicas of their stream, ephemeral ones too",
  { timeout: LONG },
  async ({ cluster, server }) => {
    for (const ephemeral of [false, true]) {
      const source = await createSource(server.client, { replicas: 3, ephemeral });
      const info = await ask(cluster, async (jsm) => jsm.consumers.info(source.stream, source.consumer));
      expect(info.cluster!.replicas).toHaveLength(2);
    }
  },
);

test("events that are handed back come at once", { timeout: LONG }, async ({ server }) => {
  const source = await createSource(server.client, { replicas: 3, events: 20 });
  const leaver = await server.client.subscribe(source.stream, source.consumer, 20n);
  await leaver.take(20);
  await leaver.cancel();
  const next = await server.client.subscribe(source.stream, source.consumer, 20n);
  const events = await next.take(20);
  expect(new Set(events.map(({ deliveryAttempt }) => deliveryAttempt))).toEqual(new Set([2n]));
  next.send({ case: "reject", value: { ids: [events[0]!.id] } });
  await next.confirmation();
  expect(await next.event()).toMatchObject({ id: events[0]!.id, deliveryAttempt: 3n });
  await next.cancel();
});

test("each ack asks for an answer of its own", { timeout: LONG }, async ({ cluster, server }) => {
  for (const replicas of [1, 3]) {
    const source = await createSource(server.client, { replicas, events: 20 });
    const connection = await connect({ servers: [...cluster.urls] });
    const asked: boolean[] = [];
    connection.subscribe(`$JS.ACK.${source.stream}.>`, {
      callback: (_error, { reply }) => void asked.push(reply !== undefined && reply !== ""),
    });
    await connection.flush();
    const call = await server.client.subscribe(source.stream, source.consumer, 20n);
    const events = await call.take(20);
    call.ack(...events.map(({ id }) => id));
    expect((await call.confirmation()).ids).toHaveLength(20);
    await expect.poll(() => asked).toEqual(Array.from({ length: 20 }, () => true));
    await call.cancel();
    await connection.close();
  }
});

test("a client that leaves gets nothing stuck between two nodes", { timeout: LONG }, async ({ server }) => {
  // Each stream has its leader on some node: some on the one that the server is connected to, some not.
  for (let count = 0; count < 12; count++) {
    const source = await createSource(server.client, { replicas: count % 2 === 0 ? 1 : 3, events: 30 });
    for (let round = 0; round < 4; round++) {
      const call = server.client.events();
      call.send({ case: "subscribe", value: { stream: source.stream, consumer: source.consumer } });
      // At the moment at which events are being delivered.
      await call.next();
      await call.cancel();
    }
    const next = await server.client.subscribe(source.stream, source.consumer, 100n);
    const ids = (await next.take(30)).map(({ id }) => Number(id));
    expect(ids.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 30 }, (_, index) => index + 1));
    await next.cancel();
  }
});

test("each event comes once, although statuses overtake messages", { timeout: LONG }, async ({ cluster, server }) => {
  const source = await createSource(server.client, { replicas: 3 });
  const acked = new Set<bigint>();
  const subscribed = [1, 2, 3].map(async () => server.client.subscribe(source.stream, source.consumer, 10n));
  const workers = (await Promise.all(subscribed)).map((call) => new Worker(call, acked));
  for (let round = 1; round <= 10; round++) await publishMany(server.client, source.subject, 30);
  await expect.poll(() => acked.size, PATIENT).toBe(300);
  expect(workers.flatMap(({ delivered }) => delivered)).toHaveLength(300);
  expect(new Set(workers.flatMap(({ attempts }) => attempts))).toEqual(new Set([1n]));
  const state = await ask(cluster, async (jsm) => consumerState(jsm, source));
  expect(state).toMatchObject({ held: 0, waiting: 0, redelivered: 0 });
  await Promise.all(workers.map(async ({ call }) => call.cancel()));
});

test("a value is current wherever it is read", { timeout: LONG }, async ({ cluster }) => {
  const store = uniqueName();
  await using writer = await startWindshift(cluster.urls[0]!, { DEFAULT_REPLICAS: "3" });
  await using second = await startWindshift(cluster.urls[1]!);
  await using third = await startWindshift(cluster.urls[2]!);
  await writer.client.ensureStore({ store });
  const { config } = await ask(cluster, async (jsm) => jsm.streams.info(`KV_${store}`));
  expect(config.num_replicas).toBe(3);
  for (let round = 0; round < 100; round++) {
    const text = `value ${round}`;
    const { revision } = await writer.client.set({ store, key: "k", value: textValue(text) });
    const reads = [writer, second, third].map(async ({ client }) => client.get({ store, key: "k" }));
    for (const { value, revision: read } of await Promise.all(reads)) {
      expect({ text: textOf(value), read }).toEqual({ text, read: revision });
    }
  }
});

test("an event is there wherever it is read", { timeout: LONG }, async ({ cluster, server }) => {
  const { stream, subject } = await createSource(server.client, { replicas: 3 });
  await using second = await startWindshift(cluster.urls[1]!);
  await using third = await startWindshift(cluster.urls[2]!);
  for (let round = 0; round < 100; round++) {
    const id = await server.client.publish(subject);
    const reads = [server, second, third].flatMap(({ client }) => [
      client.getEvent({ stream, event: { case: "id", value: id } }),
      client.getEvent({ stream, event: { case: "lastOfSubject", value: subject } }),
    ]);
    for (const { event } of await Promise.all(reads)) expect(event!.id).toBe(id);
  }
});

test(
  "a range has what was stored before it began, wherever it is read",
  { timeout: LONG },
  async ({ cluster, server }) => {
    const { stream, subject } = await createSource(server.client, { replicas: 3 });
    await using second = await startWindshift(cluster.urls[1]!);
    await using third = await startWindshift(cluster.urls[2]!);
    for (let round = 0; round < 40; round++) {
      const id = await server.client.publish(subject);
      const from = { pointer: { case: "offset" as const, value: id } };
      const reads = [server, second, third].flatMap(({ client }) => [
        client.readEvents({ stream, from }).events(),
        client.readEvents({ stream, subjects: [subject], from }).events(),
        client.readEvents({ stream, backward: true, limit: 1n }).events(),
      ]);
      for (const events of await Promise.all(reads)) expect(events.map((event) => event.id)).toEqual([id]);
    }
  },
);

test("readings go on when the leader of their stream is killed", { timeout: LONG }, async ({ cluster, server }) => {
  const { client } = server;
  const source = await createSource(client, { replicas: 3, events: 50 });
  const { stream, subject } = source;
  const calls = [
    client.readEvents({ stream, follow: true }).collect(),
    client.readEvents({ stream, follow: true, subjects: [subject] }).collect(),
  ];
  const told = (call: ReadCall): bigint[] => call.told.filter((each) => typeof each === "bigint");
  await using publisher = keepPublishing(client, subject);
  for (let round = 0; round < 2; round++) {
    const before = publisher.stored;
    await expect.poll(() => publisher.stored, PATIENT).toBeGreaterThan(before + 50);
    const node = await nodeOf(cluster, "stream", source);
    await cluster.kill(node);
    const seen = calls.map((call) => told(call).length);
    const goesOn = () => calls.every((call, index) => told(call).length > seen[index]! + 50);
    await expect.poll(goesOn, PATIENT).toBe(true);
    await cluster.restart(node);
  }
  const stored = await publisher.stop();
  const all = Array.from({ length: stored.length + 50 }, (_, index) => BigInt(index + 1));
  for (const call of calls) {
    await expect.poll(() => told(call).length, PATIENT).toBe(all.length);
    expect(told(call)).toEqual(all);
    expect(call.told.filter((each) => typeof each === "string")).toHaveLength(1);
    await call.cancel();
  }
});

for (const victim of ["stream", "consumer", "connection"] as const) {
  const name = victim === "connection" ? "the node that the server is connected to" : `the leader of the ${victim}`;
  test(
    `killing ${name} under load loses nothing and ends no subscription`,
    { timeout: LONG },
    async ({ cluster, server }) => {
      const { client } = server;
      const source = await createSource(client, { replicas: 3, processingTimeoutMs: 5_000 });
      const other = await createEphemeral(client, source);
      const acked = new Set<bigint>();
      const subscribed = [1, 2, 3].map(async () => client.subscribe(source.stream, source.consumer, 10n));
      const workers = (await Promise.all(subscribed)).map((call) => new Worker(call, acked));
      const alone = new Worker(await client.subscribe(other.stream, other.consumer, 10n));
      await using publisher = keepPublishing(client, source.subject);
      await expect.poll(() => Math.min(acked.size, alone.acked.size), PATIENT).toBeGreaterThan(50);

      const node = await nodeOf(cluster, victim, source);
      await cluster.kill(node);
      const before = { stored: publisher.stored, acked: acked.size, alone: alone.acked.size };
      // All goes on with two nodes out of three.
      const goesOn = () =>
        publisher.stored > before.stored + 50 && acked.size > before.acked + 50 && alone.acked.size > before.alone + 50;
      await expect.poll(goesOn, PATIENT).toBe(true);
      await cluster.restart(node);
      const ids = new Set(await publisher.stop());

      // The leader of a consumer may hear of the last events late, and has nothing to deliver until then.
      for (const each of [workers, [alone]]) {
        const missing = (): bigint[] => [...ids.difference(deliveredTo(each))];
        await expect.poll(missing, PATIENT).toEqual([]);
      }
      // An ack whose answer was lost counts, though no client ever hears so: JetStream says what is done.
      for (const each of [source, other]) {
        const state = async () => ask(cluster, async (jsm) => consumerState(jsm, each));
        await expect.poll(state, PATIENT).toMatchObject({ held: 0, waiting: 0 });
      }
      for (const worker of [...workers, alone]) expect(worker.brokenPromises).toEqual([]);
      // Each key was stored once, and nothing that no client knows of.
      const { state } = await ask(cluster, async (jsm) => jsm.streams.info(source.stream));
      expect({ messages: state.messages, last: state.last_seq }).toEqual({ messages: ids.size, last: ids.size });
      await Promise.all([...workers, alone].map(async ({ call }) => call.cancel()));
    },
  );
}

test("a subscription that waits goes on after a change of leader", { timeout: LONG }, async ({ cluster, server }) => {
  const source = await createSource(server.client, { replicas: 3 });
  const call = await server.client.subscribe(source.stream, source.consumer, 10n);
  for (let round = 1n; round <= 5n; round++) {
    await ask(cluster, async (jsm) => {
      const leader = async () => (await jsm.consumers.info(source.stream, source.consumer)).cluster?.leader;
      const old = await leader();
      await stepDown(cluster, `CONSUMER.LEADER.STEPDOWN.${source.stream}.${source.consumer}`);
      await expect.poll(async () => leader().catch(() => old), PATIENT).not.toBe(old);
    });
    const id = await server.client.publish(source.subject);
    expect(await call.event()).toMatchObject({ id, deliveryAttempt: 1n });
    await call.ackNow(id);
  }
  await call.cancel();
});

test(
  "a subscription goes on when all nodes were killed after its consumer was edited",
  { timeout: LONG },
  async ({ skip }) => {
    await using cluster = await startNatsCluster();
    await using server = await startWindshift(cluster.urls.join(","));
    const source = await createSource(server.client, { replicas: 3, events: 2, processingTimeoutMs: 5_000 });
    const call = await server.client.subscribe(source.stream, source.consumer, 2n);
    await expect.poll(() => call.received.length, PATIENT).toBe(3);
    const created = async () =>
      ask(cluster, async (jsm) => (await jsm.consumers.info(source.stream, source.consumer)).created);
    const before = await created();
    await ask(cluster, async (jsm) =>
      jsm.consumers.update(source.stream, source.consumer, { ack_wait: 6_000_000_000 }),
    );
    // A snapshot takes the time of the edit for that of the creation, and so does whoever starts from it.
    await cluster.kill(0);
    await cluster.restart(0);
    await Promise.all(cluster.nodes.map(async (node) => node.kill()));
    for (const node of cluster.nodes) await node.restart();
    await cluster.ready();
    await expect.poll(async () => typeof (await created().catch(() => undefined)), PATIENT).toBe("string");

    const worker = new Worker(call);
    await server.client.publish(source.subject);
    await expect
      .poll(async () => ask(cluster, async (jsm) => consumerState(jsm, source)), PATIENT)
      .toMatchObject({ held: 0, waiting: 0 });
    expect(deliveredTo([worker])).toEqual(new Set([1n, 2n, 3n]));
    await call.cancel();
    skip((await created()) === before, "NATS kept the time of creation this time");
  },
);

function deliveredTo(workers: readonly Worker[]): Set<bigint> {
  return new Set(workers.flatMap(({ delivered }) => delivered));
}

async function stepDown(cluster: NatsCluster, path: string): Promise<void> {
  const connection = await connect({ servers: [...cluster.urls] });
  await connection.request(`$JS.API.${path}`);
  await connection.close();
}

async function createEphemeral(client: Client, { stream, subject }: Source): Promise<Source> {
  const { id: consumer } = await client.ensureConsumer({
    stream,
    subjects: [`${stream}.>`],
    from: { pointer: { case: "start", value: true } },
    processingTimeout: { seconds: 5n },
  });
  return { stream, consumer, subject };
}

/** NATS goes away and comes back under a running server and its open subscriptions. */
import { rm } from "node:fs/promises";
import { fromBinary } from "@bufbuild/protobuf";
import { describe, expect } from "vitest";
import {
  HealthCheckResponse_ServingStatus as ServingStatus,
  HealthCheckResponseSchema,
} from "../../src/gen/grpc/health/v1/health_pb.ts";
import { type EventsResponse, SubscriptionStatus_State } from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { type Client, type EventsCall, failure } from "../support/client.ts";
import {
  Worker,
  confirmed,
  consumerState,
  createSource,
  publishMany,
  publishUntilStored,
} from "../support/consuming.ts";
import { Link } from "../chaos/proxy.ts";
import { until } from "../support/failing.ts";
import { test } from "../support/fixtures.ts";
import { type NatsServer, ask, startNats } from "../support/nats.ts";
import { type Windshift, startWindshift } from "../support/windshift.ts";

const PATIENT = { timeout: 20_000 };
const ORDERLY = { how: "stopped", end: async (nats: NatsServer) => nats.stop() };
const POWER_FAILURE = { how: "killed", end: async (nats: NatsServer) => nats.kill() };

/** What `/readyz`, `/healthz` and `grpc.health.v1` say. */
async function health({ daemon, client }: Windshift) {
  const base = `http://127.0.0.1:${daemon.healthPort}`;
  const [ready, alive] = await Promise.all([fetch(`${base}/readyz`), fetch(`${base}/healthz`)]);
  await Promise.all([ready.arrayBuffer(), alive.arrayBuffer()]);
  const check = await client.raw("/grpc.health.v1.Health/Check", new Uint8Array(0));
  const { status } = fromBinary(HealthCheckResponseSchema, check);
  return { ready: ready.status, alive: alive.status, serving: status };
}

const UP = { ready: 200, alive: 200, serving: ServingStatus.SERVING };
const DOWN = { ready: 503, alive: 200, serving: ServingStatus.NOT_SERVING };

/** Ids from 1. */
function idsUpTo(count: number): bigint[] {
  return Array.from({ length: count }, (_, index) => BigInt(index + 1));
}

describe("while NATS is away", () => {
  test.for([ORDERLY, POWER_FAILURE])("($how) the server is alive and not ready", async ({ end }) => {
    await using nats = await startNats();
    await using windshift = await startWindshift(nats.url);
    expect(await health(windshift)).toEqual(UP);
    for (let round = 0; round < 2; round++) {
      await end(nats);
      await expect.poll(() => health(windshift), PATIENT).toEqual(DOWN);
      await nats.restart();
      await expect.poll(() => health(windshift), PATIENT).toEqual(UP);
    }
  });

  test("calls fail at once, and say that nothing was stored", async () => {
    await using nats = await startNats();
    await using windshift = await startWindshift(nats.url);
    const { client } = windshift;
    const { stream, consumer, subject } = await createSource(client, { events: 1 });
    await client.ensureStore({ store: "store" });
    await nats.stop();
    await expect.poll(() => health(windshift), PATIENT).toEqual(DOWN);

    const writes = [
      client.publish(subject),
      client.publish(subject, "with a key", { idempotencyKey: "k" }),
      client.set({ store: "store", key: "k", value: { typeUrl: "a/b", value: new Uint8Array(0) } }),
      client.ensureStore({ store: "other" }),
      client.deleteConsumer({ stream, id: consumer }),
    ];
    for (const error of await Promise.all(writes.map(failure))) {
      expect(error).toMatchObject({ status: "UNAVAILABLE", reason: "NATS_UNAVAILABLE" });
      expect(error.metadata["outcome"]).toBe("not_stored");
      expect(error.retryAfterMs).toBeGreaterThan(0);
    }
    expect(await failure(client.get({ store: "store", key: "k" }))).toMatchObject({ status: "UNAVAILABLE" });
    expect(await failure(client.subscribe(stream, consumer))).toMatchObject({ status: "UNAVAILABLE" });

    await nats.restart();
    await expect.poll(() => health(windshift), PATIENT).toEqual(UP);
    // What was refused did not happen afterwards.
    expect(await client.publish(subject)).toBe(2n);
  });

  test("settlements are to be tried again, and work when NATS is back", async () => {
    await using nats = await startNats();
    await using windshift = await startWindshift(nats.url);
    const source = await createSource(windshift.client, { events: 10 });
    const call = await windshift.client.subscribe(source.stream, source.consumer, 4n);
    await call.take(4);
    await nats.stop();
    await expect.poll(() => health(windshift), PATIENT).toEqual(DOWN);

    const refused = confirmed({ temporaryFailedIds: [1n], invalidIds: [9n] });
    for (const kind of ["ack", "reject", "ping"] as const) {
      call.send({ case: kind, value: { ids: [1n, 9n] } });
      expect(await call.confirmation()).toEqual(refused);
    }
    await nats.restart();
    await expect.poll(() => health(windshift), PATIENT).toEqual(UP);
    call.ack(1n, 2n, 3n, 4n);
    expect(await call.confirmation()).toEqual(confirmed({ ids: [1n, 2n, 3n, 4n] }));
    expect((await call.take(4)).map(({ id }) => id)).toEqual([5n, 6n, 7n, 8n]);
    expect(await ask(nats, async (jsm) => consumerState(jsm, source))).toMatchObject({ held: 4, redelivered: 0 });
  });

  test("a server starts, and becomes ready when NATS appears", async () => {
    await using nats = await startNats();
    await nats.stop();
    await using windshift = await startWindshift(nats.url);
    expect(await health(windshift)).toEqual(DOWN);
    expect(await failure(windshift.client.publish("a.b"))).toMatchObject({ status: "UNAVAILABLE" });
    await nats.restart();
    await expect.poll(() => health(windshift), PATIENT).toEqual(UP);
    const { stream, consumer } = await createSource(windshift.client, { events: 1 });
    const call = await windshift.client.subscribe(stream, consumer);
    await call.ackNow((await call.event()).id);
  });

  test("a server stops in time, and ends its subscriptions", async () => {
    await using nats = await startNats();
    const windshift = await startWindshift(nats.url);
    const { stream, consumer } = await createSource(windshift.client, { events: 10 });
    const holding = await windshift.client.subscribe(stream, consumer);
    await holding.take(10);
    const idle = await windshift.client.subscribe(stream, consumer);
    await nats.kill();
    await expect.poll(() => health(windshift), PATIENT).toEqual(DOWN);
    await windshift[Symbol.asyncDispose]();
    expect(await holding.ended).toMatchObject({ status: "UNAVAILABLE", reason: "SERVER_DRAINING" });
    expect(await idle.ended).toMatchObject({ status: "UNAVAILABLE", reason: "SERVER_DRAINING" });
  });

  test("clients may leave, by cancelling and by half-closing", async () => {
    await using nats = await startNats();
    await using windshift = await startWindshift(nats.url);
    const { client } = windshift;
    const source = await createSource(client, { events: 4, processingTimeoutMs: 3_000 });
    const calls = [await client.subscribe(source.stream, source.consumer, 2n)];
    await calls[0]!.take(2);
    calls.push(await client.subscribe(source.stream, source.consumer, 2n));
    await calls[1]!.take(2);
    await nats.stop();
    await expect.poll(() => health(windshift), PATIENT).toEqual(DOWN);
    await calls[0]!.cancel();
    expect(await calls[1]!.finish()).toBeUndefined();
    await nats.restart();
    await expect.poll(() => health(windshift), PATIENT).toEqual(UP);
    // Nothing could be handed back, so the events come when their time has run out.
    const next = new Worker(await client.subscribe(source.stream, source.consumer));
    await expect.poll(() => next.acked.size, PATIENT).toBe(4);
  });
});

describe("when NATS comes back", () => {
  for (const ephemeral of [false, true]) {
    const kind = ephemeral ? "an ephemeral" : "a durable";
    test.for([ORDERLY, POWER_FAILURE])(
      `($how) a subscription to ${kind} consumer goes on by itself`,
      async ({ end, how }) => {
        await using nats = await startNats();
        await using windshift = await startWindshift(nats.url);
        const { client } = windshift;
        const source = await createSource(client, { ephemeral });
        const call = await client.subscribe(source.stream, source.consumer, 3n);
        // nats-server writes down late what it delivered: it may come again, as if for the first time.
        const expectNext = async (id: bigint): Promise<void> => {
          let event = await call.event();
          while (event.id < id) event = await call.event();
          expect(event).toMatchObject({ id, deliveryAttempt: 1n });
        };
        for (let round = 0; round < 3; round++) {
          await end(nats);
          await nats.restart();
          await expectNext(await publishUntilStored(client, source.subject, `key ${round}`));
        }
        // A killed nats-server may have forgotten a delivery, and then answers no ack of it before it delivered it again.
        if (how === "killed") return;
        // Its window is full now: there is no pull that could bring anything.
        await end(nats);
        await nats.restart();
        await publishUntilStored(client, source.subject, "key 3");
        call.ack(1n, 2n, 3n);
        expect((await nextConfirmation(call)).ids).toEqual([1n, 2n, 3n]);
        await expectNext(4n);
      },
    );
  }

  test("a nats-server that has forgotten a delivery has no ack of it confirmed", async () => {
    await using nats = await startNats();
    await using windshift = await startWindshift(nats.url, { NATS_REQUEST_TIMEOUT: "1s" });
    const { client } = windshift;
    const source = await createSource(client, { events: 5 });
    const call = await client.subscribe(source.stream, source.consumer, 10n);
    await call.take(5);
    await nats.stop();
    await nats.restart();
    const publish = async (key: string): Promise<bigint> => publishUntilStored(client, source.subject, key);
    for (let n = 0; n < 5; n++) await publish(`key ${n}`);
    const late = (await call.take(5)).map(({ id }) => id);
    // It writes down late what it has delivered.
    await nats.kill();
    await nats.restart();
    // The window is full: nothing comes before this. The last one is one that it remembers.
    await publish("after");
    call.ack(...late, 1n);
    const { ids } = await nextConfirmation(call);
    expect(ids).toContain(1n);
    const came = () => call.received.flatMap(({ response }) => (response.case === "event" ? [response.value.id] : []));
    // Of those that it has forgotten each comes again, before what was published last.
    await expect.poll(came, PATIENT).toContain(11n);
    expect(ids.filter((id) => came().filter((other) => other === id).length > 1)).toEqual([]);
    await call.cancel();
  });

  test("a server that drains has no ack of a forgotten delivery confirmed either", async () => {
    await using nats = await startNats();
    await using windshift = await startWindshift(nats.url, { NATS_REQUEST_TIMEOUT: "1s", SHUTDOWN_GRACE: "300s" });
    const { client } = windshift;
    const { stream, consumer, subject } = await createSource(client, { events: 5 });
    const call = await client.subscribe(stream, consumer, 10n, { statusUpdates: true });
    const came = () => call.received.flatMap(({ response }) => (response.case === "event" ? [response.value.id] : []));
    await expect.poll(came, PATIENT).toHaveLength(5);
    await nats.stop();
    await nats.restart();
    for (let n = 0; n < 5; n++) await publishUntilStored(client, subject, `key ${n}`);
    await until(() => came().length === 10);
    const late = came().slice(5);
    const stopped = windshift.daemon[Symbol.asyncDispose]();
    const isDraining = ({ response }: EventsResponse) =>
      response.case === "status" && response.value.state === SubscriptionStatus_State.DRAINING;
    await until(() => call.received.some(isDraining));
    await nats.kill();
    await nats.restart();
    const confirmations = () =>
      call.received.flatMap(({ response }) => (response.case === "ackConfirmation" ? [response.value] : []));
    const ack = async (...ids: bigint[]) => {
      const told = confirmations().length;
      call.ack(...ids);
      await until(() => confirmations().length > told);
      return confirmations().at(-1)!.ids;
    };
    for (const id of [1n, 2n, 3n, 4n, 5n]) while (!(await ack(id)).includes(id));
    // If it remembers any of these then the first one, whose answer comes last.
    const confirmed = await ack(...late.toReversed());
    const known = (await ask(nats, (jsm) => jsm.consumers.info(stream, consumer))).delivered.stream_seq;
    expect(confirmed.filter((id) => id > known)).toEqual([]);
    await call.cancel();
    await stopped;
  });

  test.for([ORDERLY, POWER_FAILURE])("($how) no event is lost under load", async ({ end }) => {
    await using nats = await startNats();
    await using windshift = await startWindshift(nats.url);
    await workThrough(nats, windshift, async () => {
      await end(nats);
      await nats.restart();
    });
  });

  // Of NATS that keeps what it knows: a lone nats-server that ends, in whatever way, may forget what it wrote down late.
  test("no event is lost, and none comes again whose ack was confirmed, when the connection breaks under load", async () => {
    await using nats = await startNats();
    await using link = await Link.open("to NATS", () => nats.port);
    await using windshift = await startWindshift(`nats://127.0.0.1:${link.port}`);
    const workers = await workThrough(nats, windshift, async () => link.cut());
    expect(workers.flatMap(({ brokenPromises }) => brokenPromises)).toEqual([]);
  });

  test.for([
    { state: "while it waits for events", window: 5n },
    { state: "with a full window", window: 2n },
  ])("without the consumer, its subscription ends with NOT_FOUND $state", async ({ window }) => {
    await using nats = await startNats();
    await using windshift = await startWindshift(nats.url);
    const { stream, consumer } = await createSource(windshift.client, { events: 2 });
    const call = await windshift.client.subscribe(stream, consumer, window);
    await call.take(2);
    await nats.stop();
    await rm(nats.storeDir, { recursive: true });
    await nats.restart();
    expect(await call.ended).toMatchObject({ status: "NOT_FOUND", reason: "STREAM_NOT_FOUND" });
  });

  test("many subscriptions go on together", async () => {
    await using nats = await startNats();
    await using windshift = await startWindshift(nats.url);
    const { client } = windshift;
    const source = await createSource(client);
    const acked = new Set<bigint>();
    const subscribed = Array.from({ length: 200 }, async () => client.subscribe(source.stream, source.consumer, 1n));
    const workers = (await Promise.all(subscribed)).map((call) => new Worker(call, acked));
    await nats.stop();
    await expect.poll(() => health(windshift), PATIENT).toEqual(DOWN);
    await nats.restart();
    await expect.poll(() => health(windshift), PATIENT).toEqual(UP);
    await publishMany(client, source.subject, 500);
    await expect.poll(() => acked.size, PATIENT).toBe(500);
    expect(workers.flatMap(({ delivered }) => delivered)).toHaveLength(500);
  });
});

/** The next confirmation, whatever events come before it. */
async function nextConfirmation(call: EventsCall) {
  for (;;) {
    const { response } = await call.next();
    if (response.case === "ackConfirmation") return response.value;
  }
}

/**
 * Three subscriptions acknowledge 400 events while they are published, with three outages; checks that no event is lost.
 * Returns who worked.
 */
async function workThrough(nats: NatsServer, { client }: Windshift, outage: () => Promise<void>): Promise<Worker[]> {
  // What was on its way to us at an outage comes again when its time has run out.
  const source = await createSource(client, { processingTimeoutMs: 5_000 });
  const acked = new Set<bigint>();
  const subscribed = [1, 2, 3].map(async () => client.subscribe(source.stream, source.consumer, 10n));
  const workers = (await Promise.all(subscribed)).map((call) => new Worker(call, acked));
  const publishing = publishAll(client, source.subject, 400);
  for (let round = 1; round <= 3; round++) {
    await expect.poll(() => acked.size, PATIENT).toBeGreaterThan(round * 60);
    await outage();
  }
  expect(await publishing).toEqual(idsUpTo(400));
  // An ack whose answer was lost counts, though no client ever hears so: JetStream says what is done.
  const drained = async () => ask(nats, async (jsm) => consumerState(jsm, source));
  await expect.poll(drained, PATIENT).toMatchObject({ held: 0, waiting: 0 });
  expect(new Set(workers.flatMap(({ delivered }) => delivered)).size).toBe(400);
  return workers;
}

/** Publishes so many events, a few at a time, each until it is stored; returns their ids in order. */
async function publishAll(client: Client, subject: string, count: number): Promise<bigint[]> {
  const ids: bigint[] = [];
  let next = 0;
  const publish = async (): Promise<void> => {
    while (next < count) ids.push(await publishUntilStored(client, subject, `key ${next++}`));
  };
  await Promise.all([publish(), publish()]);
  return ids.toSorted((a, b) => Number(a - b));
}

test("a subscription outlives restarts of NATS before and after its consumer was edited", async () => {
  await using nats = await startNats();
  await using windshift = await startWindshift(nats.url);
  const { client } = windshift;
  const source = await createSource(client, { events: 2 });
  const { stream, consumer, subject } = source;
  const call = await client.subscribe(stream, consumer, 5n);
  await call.take(2);
  const created = async () => ask(nats, async (jsm) => (await jsm.consumers.info(stream, consumer)).created);
  const before = await created();
  const restart = async (): Promise<void> => {
    await nats.stop();
    await nats.restart();
    const id = await publishUntilStored(client, subject, `key ${Math.random()}`);
    expect((await call.event()).id).toBe(id);
  };
  await restart();
  await ask(nats, async (jsm) => jsm.consumers.update(stream, consumer, { description: "edited" }));
  await restart();
  // What makes this hard: NATS says now that it was made when NATS was restarted first.
  expect(await created()).not.toBe(before);
  call.ack(1n, 2n, 3n, 4n);
  expect(await call.confirmation()).toEqual(confirmed({ ids: [1n, 2n, 3n, 4n] }));
  expect(await ask(nats, async (jsm) => consumerState(jsm, source))).toMatchObject({
    held: 0,
    waiting: 0,
  });
  await restart();
  await call.cancel();
});

test("a consumer that was made again meanwhile is another: the subscription ends, and its old acks do not count", async () => {
  await using nats = await startNats();
  await using windshift = await startWindshift(nats.url);
  const { stream, consumer } = await createSource(windshift.client, { events: 1 });
  const call = await windshift.client.subscribe(stream, consumer, 1n);
  const { id } = await call.event();
  await nats.stop();
  {
    // The same store, out of the server's sight.
    await using elsewhere = await startNats({ storeDir: nats.storeDir });
    await ask(elsewhere, async (jsm) => {
      const { config } = await jsm.consumers.info(stream, consumer);
      await jsm.consumers.delete(stream, consumer);
      await jsm.consumers.add(stream, config);
    });
    await elsewhere.stop();
  }
  await nats.restart();
  call.ack(id);
  expect(await call.ended).toMatchObject({ status: "NOT_FOUND", reason: "CONSUMER_NOT_FOUND" });
  expect(
    call.received.flatMap(({ response }) => (response.case === "ackConfirmation" ? response.value.ids : [])),
  ).toEqual([]);
  const { num_ack_pending: held, num_pending: waiting } = await ask(nats, (jsm) =>
    jsm.consumers.info(stream, consumer),
  );
  expect({ held, waiting }).toEqual({ held: 0, waiting: 1 });
});

test("a NATS without JetStream is not ready, and gRPC health says so too", async () => {
  await using nats = await startNats({
    config: "accounts { A { users: [{ user: a, password: a }] } }\nno_auth_user: a",
  });
  await using windshift = await startWindshift(nats.url);
  expect(await health(windshift)).toEqual(DOWN);
});

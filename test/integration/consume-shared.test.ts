/** Several subscriptions that share one durable consumer, on one server and on two. */
import { expect } from "vitest";
import type { Client } from "../support/client.ts";
import { Link } from "../chaos/proxy.ts";
import { type Source, Worker, confirmed, consumerState, createSource, publishMany } from "../support/consuming.ts";
import { test } from "../support/fixtures.ts";
import { startWindshift } from "../support/windshift.ts";

const EVENTS = 600;

/** So many workers of one consumer, each with a small window. */
async function startWorkers(client: Client, { stream, consumer }: Source, count: number): Promise<Worker[]> {
  return Promise.all(
    Array.from({ length: count }, async () => new Worker(await client.subscribe(stream, consumer, 5n))),
  );
}

/** Ids that were delivered to anyone, in order. */
function deliveredTo(workers: readonly Worker[]): bigint[] {
  return workers.flatMap(({ delivered }) => delivered).toSorted((a, b) => Number(a - b));
}

async function cancelAll(workers: readonly Worker[]): Promise<void> {
  await Promise.all(workers.map(async ({ call }) => call.cancel()));
}

test("subscriptions on one server get every event exactly once", async ({ windshift, client, jsm }) => {
  const source = await createSource(client, { events: EVENTS / 2 });
  const clients = [1, 2, 3].map(() => windshift.connect());
  const workers = (await Promise.all(clients.map(async (each) => startWorkers(each, source, 4)))).flat();
  await publishMany(client, source.subject, EVENTS / 2);
  await expect.poll(() => consumerState(jsm, source), { timeout: 30_000 }).toMatchObject({ held: 0, waiting: 0 });
  expect(deliveredTo(workers)).toEqual(Array.from({ length: EVENTS }, (_, index) => BigInt(index + 1)));
  expect(new Set(workers.flatMap(({ attempts }) => attempts))).toEqual(new Set([1n]));
  await cancelAll(workers);
});

test("subscriptions on two servers get every event exactly once", async ({ nats, client, jsm }) => {
  await using other = await startWindshift(nats.url);
  const source = await createSource(client, { events: EVENTS / 2 });
  const workers = [...(await startWorkers(client, source, 5)), ...(await startWorkers(other.client, source, 5))];
  const publishing = [
    publishMany(client, source.subject, EVENTS / 4),
    publishMany(other.client, source.subject, EVENTS / 4),
  ];
  await Promise.all(publishing);
  await expect.poll(() => consumerState(jsm, source), { timeout: 30_000 }).toMatchObject({ held: 0, waiting: 0 });
  expect(deliveredTo(workers)).toEqual(Array.from({ length: EVENTS }, (_, index) => BigInt(index + 1)));
  expect(new Set(workers.flatMap(({ attempts }) => attempts))).toEqual(new Set([1n]));
  await cancelAll(workers);
});

test("subscriptions that settle nothing never hold more than their windows together", async ({ nats, client, jsm }) => {
  await using other = await startWindshift(nats.url);
  const source = await createSource(client, { events: 50 });
  const calls = [];
  for (const each of [client, other.client, client, other.client]) {
    const call = await each.subscribe(source.stream, source.consumer, 7n);
    await call.take(7);
    calls.push(call);
  }
  await expect.poll(() => consumerState(jsm, source)).toEqual({ held: 28, waiting: 22, pulls: 0, redelivered: 0 });
  await Promise.all(calls.map(async (call) => call.cancel()));
});

test.for(["on the same server", "on another server"])(
  "what a client held that leaves goes to the others $0, at once",
  async (where, { nats, windshift, client, jsm }) => {
    await using other = await startWindshift(nats.url);
    const source = await createSource(client, { events: 100 });
    const leaver = await client.subscribe(source.stream, source.consumer, 40n);
    const held = (await leaver.take(40)).map(({ id }) => id);
    const stayer = where === "on the same server" ? windshift.connect() : other.client;
    const workers = await startWorkers(stayer, source, 3);
    // Whoever stays works off what is left; only what the other one holds is missing.
    await expect.poll(() => consumerState(jsm, source)).toMatchObject({ held: 40, waiting: 0 });
    await leaver.cancel();
    await expect.poll(() => consumerState(jsm, source), { timeout: 10_000 }).toMatchObject({ held: 0, waiting: 0 });
    expect(deliveredTo(workers)).toEqual(Array.from({ length: 100 }, (_, index) => BigInt(index + 1)));
    const again = workers.flatMap(({ delivered, attempts }) => delivered.filter((_, index) => attempts[index] === 2n));
    expect(again.toSorted((a, b) => Number(a - b))).toEqual(held);
    await cancelAll(workers);
  },
);

test("clients that come and go while others work lose no event", async ({ nats, windshift, client, jsm }) => {
  await using other = await startWindshift(nats.url);
  const source = await createSource(client, { events: 100 });
  const workers = [...(await startWorkers(client, source, 2)), ...(await startWorkers(other.client, source, 2))];
  const publishing = publishMany(client, source.subject, EVENTS - 100);
  for (let round = 0; round < 30; round++) {
    const visitor = round % 2 === 0 ? windshift.connect() : other.connect();
    const call = await visitor.subscribe(source.stream, source.consumer, 3n);
    if (round % 3 === 0) await call.finish();
    else await call.cancel();
    visitor.close();
  }
  await publishing;
  await expect.poll(() => consumerState(jsm, source), { timeout: 30_000 }).toMatchObject({ held: 0, waiting: 0 });
  await expect.poll(() => new Set(workers.flatMap((worker) => [...worker.acked])).size).toBe(EVENTS);
  expect(deliveredTo(workers)).toHaveLength(EVENTS);
  await cancelAll(workers);
});

test("a ping that is held up on its way leaves the event to whoever has it then", async ({ nats, client, jsm }) => {
  const source = await createSource(client, { events: 1, processingTimeoutMs: 3_000 });
  await using link = await Link.open("to NATS", () => nats.port);
  await using server = await startWindshift(`nats://127.0.0.1:${link.port}`, { NATS_REQUEST_TIMEOUT: "60s" });
  const late = await server.client.subscribe(source.stream, source.consumer, 1n);
  const { id } = await late.event();
  const other = await client.subscribe(source.stream, source.consumer);
  link.blackHole("up");
  const value = { ids: [id] };
  late.send({ case: "ping", value });
  expect((await other.event()).id).toBe(id);
  late.send({ case: "ack", value });
  expect(await late.confirmation()).toEqual(confirmed({ invalidIds: [id] }));
  link.heal();
  // JetStream has answered it: it does not look whose event it is.
  expect(await late.confirmation()).toEqual(confirmed({ invalidIds: [id] }));
  expect(late.received.at(-1)?.response.case).toBe("pingConfirmation");
  expect(await consumerState(jsm, source)).toMatchObject({ held: 1 });
  await late.cancel();
  await other.cancel();
});

test("a server that stops hands its events to the other at once", async ({ nats, client, jsm }) => {
  const stopping = await startWindshift(nats.url, { SHUTDOWN_GRACE: "100ms" });
  const source = await createSource(client, { events: 60 });
  const calls = await Promise.all(
    Array.from({ length: 3 }, async () => stopping.client.subscribe(source.stream, source.consumer, 20n)),
  );
  await expect.poll(() => consumerState(jsm, source)).toMatchObject({ held: 60, waiting: 0 });
  const workers = await startWorkers(client, source, 2);
  await stopping[Symbol.asyncDispose]();
  await expect.poll(() => consumerState(jsm, source), { timeout: 10_000 }).toMatchObject({ held: 0, waiting: 0 });
  expect(deliveredTo(workers)).toHaveLength(60);
  for (const call of calls) expect((await call.ended)?.status).toBe("UNAVAILABLE");
  await cancelAll(workers);
});

/** Clients that behave badly: they cost what is bounded, and nobody else notices. */
import { once } from "node:events";
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  type IncomingHttpHeaders,
  connect as connectHttp2,
  constants,
} from "node:http2";
import { create, toBinary } from "@bufbuild/protobuf";
import { expect } from "vitest";
import { EventsRequestSchema } from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { type Client, EVENTS, type EventsCall } from "../support/client.ts";
import { type Source, Worker, consumerState, createSource, publishMany } from "../support/consuming.ts";
import { test } from "../support/fixtures.ts";
import { type NatsServer, startNats } from "../support/nats.ts";
import { type Windshift, startWindshift } from "../support/windshift.ts";

const LARGE_BYTES = 900 * 1024;
const DATA = { typeUrl: "type.googleapis.com/acme.Blob", value: new Uint8Array(LARGE_BYTES).fill(7) };

async function publishLarge(client: Client, subject: string, count: number): Promise<void> {
  await Promise.all(Array.from({ length: count }, async () => client.publishEvent({ subject, data: DATA })));
}

/** A call whose client reads nothing until its stream is resumed. */
function subscribeUnread(client: Client, stream: string, consumer: string, maxProcessingEvents: bigint): EventsCall {
  const call = client.events();
  call.stream.pause();
  call.send({ case: "subscribe", value: { stream, consumer, maxProcessingEvents } });
  return call;
}

/** A subscription whose client takes 64 KiB, as HTTP/2 has it, and no more. On a busy machine it may take several tries. */
async function subscribeDeaf(session: ClientHttp2Session, source: Source): Promise<ClientHttp2Stream> {
  for (;;) {
    const call = openDeaf(session, source);
    const [headers] = (await once(call, "response")) as [IncomingHttpHeaders];
    if (headers["grpc-status"] === undefined) return call;
    expect(headers).toMatchObject({ "grpc-status": "14" });
  }
}

function openDeaf(session: ClientHttp2Session, { stream, consumer }: Source): ClientHttp2Stream {
  const value = { stream, consumer, maxProcessingEvents: 1_000n };
  const message = toBinary(EventsRequestSchema, create(EventsRequestSchema, { request: { case: "subscribe", value } }));
  const header = Buffer.from([0, 0, 0, 0, message.length]);
  const headers = { ":method": "POST", ":path": `${EVENTS}Events`, "content-type": "application/grpc", te: "trailers" };
  const call = session.request(headers, { endStream: false });
  call.on("error", () => undefined);
  call.write(Buffer.concat([header, message]));
  return call;
}

/** Publishing and consuming on a connection and consumer of its own, from end to end. */
async function workNormally(windshift: Windshift): Promise<void> {
  const client = windshift.connect();
  const source = await createSource(client);
  const worker = new Worker(await client.subscribe(source.stream, source.consumer));
  for (let round = 0; round < 5; round++) await publishMany(client, source.subject, 40);
  await expect.poll(() => worker.acked.size, { timeout: 20_000 }).toBe(200);
  expect(worker.delivered).toHaveLength(200);
  await worker.call.cancel();
  client.close();
}

test("a client that has not read anything yet is given little at first", async ({ windshift, client, jsm }) => {
  const source = await createSource(client);
  const kib = { typeUrl: "x/test.Kib", value: Buffer.alloc(1024) };
  for (let n = 0; n < 1_800; n += 100) {
    await Promise.all(
      Array.from({ length: 100 }, async () => client.publishEvent({ subject: source.subject, data: kib })),
    );
  }
  const session = connectHttp2(`http://${windshift.address}`);
  const deaf = await Promise.all(Array.from({ length: 2 }, async () => subscribeDeaf(session, source)));
  await expect.poll(async () => (await consumerState(jsm, source)).held).toBeGreaterThan(0);
  await workNormally(windshift);
  // Requests for 128, 256 and 512 KiB at most, before 256 KiB wait to be read; not the 1,000 KiB that their windows allow.
  const { held, waiting } = await consumerState(jsm, source);
  expect(held).toBeLessThan(2 * 800);
  expect(waiting).toBe(1_800 - held);
  for (const call of deaf) call.close();
  session.close();
});

test("a client that never reads is given a bounded amount, and the rest when it reads", async ({
  windshift,
  client,
  jsm,
}) => {
  const source = await createSource(client);
  await publishLarge(client, source.subject, 80);
  const deaf = windshift.connect();
  const call = subscribeUnread(deaf, source.stream, source.consumer, 1_000n);
  await expect.poll(async () => (await consumerState(jsm, source)).held).toBeGreaterThan(0);
  await workNormally(windshift);
  // Two pulls of 8 MiB, not the 70 MiB that its window allows.
  const { held, waiting } = await consumerState(jsm, source);
  expect(held).toBeLessThanOrEqual(20);
  expect(waiting).toBe(80 - held);

  call.stream.resume();
  expect((await call.next()).response.case).toBe("subscribed");
  const events = await call.take(80);
  expect(events.map(({ id }) => id)).toEqual(Array.from({ length: 80 }, (_, index) => BigInt(index + 1)));
  call.ack(...events.map(({ id }) => id));
  expect((await call.confirmation()).ids).toHaveLength(80);
  deaf.close();
});

test("clients that never read and leave give everything back", async ({ windshift, client, jsm }) => {
  const source = await createSource(client);
  await publishLarge(client, source.subject, 30);
  for (let round = 0; round < 3; round++) {
    const deaf = windshift.connect();
    const call = subscribeUnread(deaf, source.stream, source.consumer, 1_000n);
    await expect.poll(async () => (await consumerState(jsm, source)).held).toBeGreaterThan(0);
    call.stream.resume();
    await call.cancel();
    deaf.close();
  }
  const worker = new Worker(await client.subscribe(source.stream, source.consumer));
  await expect.poll(() => consumerState(jsm, source), { timeout: 20_000 }).toMatchObject({ held: 0, waiting: 0 });
  await expect.poll(() => worker.acked.size).toBe(30);
  await worker.call.cancel();
});

test("beyond the budget the client that reads nothing for the longest is cut off, and its events go elsewhere at once", async ({
  nats,
  jsm,
}) => {
  await using windshift = await startWindshift(nats.url, { GRPC_MAX_UNREAD_BYTES: "4MiB" });
  const { client } = windshift;
  const session = connectHttp2(`http://${windshift.address}`);
  const sources: Source[] = [];
  const deaf: ClientHttp2Stream[] = [];
  for (let n = 0; n < 6; n++) {
    const source = await createSource(client);
    await publishLarge(client, source.subject, 4);
    sources.push(source);
    deaf.push(await subscribeDeaf(session, source));
    await expect.poll(async () => (await consumerState(jsm, source)).held, { timeout: 20_000 }).toBeGreaterThan(0);
    expect(await metric(windshift, "windshift_unread_bytes")).toBeLessThanOrEqual(4 * 1024 * 1024);
    await workNormally(windshift);
  }
  await expect.poll(() => metric(windshift, "windshift_slow_clients_total")).toBeGreaterThanOrEqual(2);
  const line = { path: deaf[0]!.sentHeaders[":path"], msg: expect.stringContaining("GRPC_MAX_UNREAD_BYTES") as string };
  expect(windshift.log).toContainEqual(expect.objectContaining(line));
  // The last one holds events still, and may read them.
  let size = 0;
  deaf.at(-1)!.on("data", (bytes: Buffer) => (size += bytes.length));
  await expect.poll(() => size, { timeout: 20_000 }).toBeGreaterThan(4 * LARGE_BYTES);
  // The processing timeout is ten minutes. The worker itself may exceed the budget, at the cost of others.
  const worker = new Worker(await client.subscribe(sources[0]!.stream, sources[0]!.consumer));
  await expect.poll(() => worker.acked.size, { timeout: 20_000 }).toBe(4);
  expect(deaf[0]!.rstCode).toBe(constants.NGHTTP2_ENHANCE_YOUR_CALM);
  session.destroy();
});

test("events of 900 KiB fill a window of 50 and never more", async ({ client, jsm }) => {
  const source = await createSource(client);
  await publishLarge(client, source.subject, 60);
  const call = await client.subscribe(source.stream, source.consumer, 50n);
  const events = await call.take(50);
  for (const { data } of events) expect(data!.value).toHaveLength(LARGE_BYTES);
  await expect.poll(() => consumerState(jsm, source)).toEqual({ held: 50, waiting: 10, pulls: 0, redelivered: 0 });
  call.ack(...events.map(({ id }) => id));
  // The confirmation comes when all are settled; what the first ones made room for may overtake it.
  let isConfirmed = false;
  const rest: bigint[] = [];
  while (!isConfirmed || rest.length < 10) {
    const { response } = await call.next();
    if (response.case === "event") rest.push(response.value.id);
    else isConfirmed = response.case === "ackConfirmation" && response.value.ids.length === 50;
  }
  expect(rest).toEqual(Array.from({ length: 10 }, (_, index) => BigInt(index + 51)));
  await call.cancel();
});

const FLOOD = 5_000;
const FLOODS = [
  { what: "acks of unknown ids", kind: "ack", id: 5n, list: "invalidIds" },
  { what: "acks of ids beyond 2^53", kind: "ack", id: 2n ** 64n - 1n, list: "invalidIds" },
  { what: "rejects of unknown ids", kind: "reject", id: 5n, list: "invalidIds" },
  { what: "pings of unknown ids", kind: "ping", id: 5n, list: "invalidIds" },
  { what: "pings of an event it holds", kind: "ping", id: 1n, list: "ids" },
] as const;

test.for(FLOODS)("a flood of $what is answered one by one", async ({ kind, id, list }, { windshift, client, jsm }) => {
  const source = await createSource(client, { events: 1 });
  const flooding = windshift.connect();
  const call = await flooding.subscribe(source.stream, source.consumer);
  await call.event();
  for (let count = 0; count < FLOOD; count++) call.send({ case: kind, value: { ids: [id] } });
  const working = workNormally(windshift);
  let listed = 0;
  for (let count = 0; count < FLOOD; count++) {
    const lists = await call.confirmation();
    expect(Object.values(lists).flat()).toEqual([id]);
    listed += lists[list].length;
  }
  // Pings that overtake each other are put off.
  if (list === "ids") expect(listed).toBeGreaterThan(0);
  else expect(listed).toBe(FLOOD);
  await working;
  await call.ackNow(1n);
  expect(await consumerState(jsm, source)).toMatchObject({ held: 0, redelivered: 0 });
  flooding.close();
});

test("a flood whose answers nobody reads stops the flood, not the server", async ({ windshift, client, jsm }) => {
  const source = await createSource(client, { events: 10 });
  const deaf = windshift.connect();
  const call = subscribeUnread(deaf, source.stream, source.consumer, 5n);
  await expect.poll(() => consumerState(jsm, source)).toMatchObject({ held: 5 });
  const ids = Array.from({ length: 100 }, (_, index) => BigInt(index + 1_000));
  for (let count = 0; count < FLOOD; count++) call.send({ case: "ack", value: { ids } });
  await workNormally(windshift);
  call.stream.resume();
  await call.next();
  await call.take(5);
  for (let count = 0; count < FLOOD; count++) expect((await call.confirmation()).invalidIds).toHaveLength(100);
  await call.ackNow(1n);
  deaf.close();
});

test("one message with as many ids as are allowed is answered with all of them", async ({ windshift, client }) => {
  const source = await createSource(client, { events: 50 });
  const call = await client.subscribe(source.stream, source.consumer);
  await call.take(50);
  const ids = Array.from({ length: 65_536 }, (_, index) => BigInt(index + 1));
  call.send({ case: "ack", value: { ids } });
  const working = workNormally(windshift);
  const { ids: acked, invalidIds, temporaryFailedIds } = await call.confirmation();
  expect([acked.length, invalidIds.length, temporaryFailedIds.length]).toEqual([50, 65_486, 0]);
  await working;
  await call.cancel();
});

test.for(["ack", "reject", "ping"] as const)(
  "one %s with more ids than that is refused",
  async (kind, { client, jsm }) => {
    const source = await createSource(client, { events: 1 });
    const call = await client.subscribe(source.stream, source.consumer);
    await call.event();
    const ids = Array.from({ length: 1_000_000 }, (_, index) => BigInt(index + 1));
    call.send({ case: kind, value: { ids } });
    const error = await call.ended;
    expect(error).toMatchObject({ status: "INVALID_ARGUMENT", reason: "INVALID_VALUE", fields: [`${kind}.ids`] });
    expect(error?.message).toBe(`${kind}.ids: has more than 65536 ids; settle them in several messages`);
    // Nothing of it was done: the event is handed back.
    const other = await client.subscribe(source.stream, source.consumer);
    expect((await other.event()).deliveryAttempt).toBe(2n);
    expect(await consumerState(jsm, source)).toMatchObject({ held: 1 });
    await other.cancel();
  },
);

test("opening and dropping 500 subscriptions leaves nothing behind", async () => {
  await using nats = await startNats({ config: 'http: "127.0.0.1:-1"' });
  await using windshift = await startWindshift(nats.url);
  const { client } = windshift;
  const source = await createSource(client, { events: 20 });
  await (await client.subscribe(source.stream, source.consumer)).cancel();
  await expect.poll(() => openSubscriptions(windshift)).toBe(0);
  const before = await natsSubscriptions(nats);

  for (let round = 0; round < 10; round++) {
    const leaving = windshift.connect();
    const calls = await Promise.all(
      Array.from({ length: 50 }, async () => leaving.subscribe(source.stream, source.consumer, 2n)),
    );
    expect(await openSubscriptions(windshift)).toBe(50);
    // In turn: each call cancelled, each half-closed, each failed, all at once with their connection.
    const ends = calls.map(async (call) => {
      if (round % 4 === 0) await call.cancel();
      else if (round % 4 === 1) await call.finish();
      else if (round % 4 === 2) call.send({ case: "subscribe", value: {} });
      else call.stream.cancel();
      await call.ended;
    });
    if (round % 4 === 3) leaving.close();
    await Promise.all(ends);
    leaving.close();
    await expect.poll(() => openSubscriptions(windshift)).toBe(0);
  }

  await expect.poll(() => natsSubscriptions(nats)).toBe(before);
  const worker = new Worker(await client.subscribe(source.stream, source.consumer));
  await expect.poll(() => worker.acked.size).toBe(20);
  expect(await metric(windshift, "windshift_unsettled")).toBe(0);
  await worker.call.finish();
});

/** Subscriptions that the server has open at NATS. */
async function natsSubscriptions(nats: NatsServer): Promise<number> {
  const port = nats.log
    .find((line) => line.startsWith("Starting http monitor on"))!
    .split(":")
    .at(-1);
  const response = await fetch(`http://127.0.0.1:${port}/connz`);
  const { connections } = (await response.json()) as { connections: { name?: string; subscriptions: number }[] };
  return connections.find(({ name }) => name === "windshift")!.subscriptions;
}

async function openSubscriptions(windshift: Windshift): Promise<number> {
  return metric(windshift, "windshift_subscriptions");
}

/** The sum of a metric over its labels, as Prometheus gets it. */
async function metric({ daemon }: Windshift, name: string): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${daemon.healthPort}/metrics`);
  const lines = (await response.text())
    .split("\n")
    .filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
  return lines.map((line) => Number(line.slice(line.lastIndexOf(" ")))).reduce((sum, value) => sum + value, 0);
}

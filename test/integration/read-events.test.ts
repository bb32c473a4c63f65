/** Reading a stream without a consumer. */
import { setTimeout as delay } from "node:timers/promises";
import { type MessageInitShape } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type JetStreamManager, RetentionPolicy } from "@nats-io/jetstream";
import { type NatsConnection, headers } from "@nats-io/nats-core";
import { describe, expect } from "vitest";
import type { ReadEventsRequestSchema, StreamPointer } from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { type Client, type ReadCall, failure, textOf } from "../support/client.ts";
import { NatsConnection as ServerConnection } from "../../src/nats/connection.ts";
import { publishUntilStored } from "../support/consuming.ts";
import { findNothing } from "../support/false-answers.ts";
import { test, uniqueName } from "../support/fixtures.ts";
import { ask, startNats } from "../support/nats.ts";
import { startWindshift } from "../support/windshift.ts";

const PATIENT = { timeout: 30_000 };

type Request = Omit<MessageInitShape<typeof ReadEventsRequestSchema>, "$typeName" | "stream">;

const from = (pointer: StreamPointer["pointer"]) => ({ pointer });
const START = from({ case: "start", value: true });
const END = from({ case: "end", value: true });
const offset = (id: bigint) => from({ case: "offset", value: id });
const time = (value: Timestamp) => from({ case: "time", value });

function ids(first: number, last: number): bigint[] {
  return Array.from({ length: last - first + 1 }, (_, index) => BigInt(first + index));
}

/** A stream with so many events, subjects `a`, `b` and `c` in turns. */
async function createStream(client: Client, count = 0): Promise<string> {
  const stream = uniqueName();
  await client.ensureStream({ name: stream, source: { case: "subjects", value: { subjects: [`${stream}.>`] } } });
  await publish(client, stream, count);
  return stream;
}

async function publish(client: Client, stream: string, count: number): Promise<void> {
  for (let n = 0; n < count; n++) await client.publish(`${stream}.${"abc"[n % 3]}`, `text ${n + 1}`);
}

async function publishPlain(nats: NatsConnection, subject: string, header: Record<string, string> = {}): Promise<void> {
  const block = headers();
  for (const [name, value] of Object.entries(header)) block.set(name, value);
  await nats.request(subject, "plain", { headers: block, timeout: 10_000 });
}

async function read(client: Client, stream: string, request: Request = {}): Promise<bigint[]> {
  return (await client.readEvents({ stream, ...request }).events()).map(({ id }) => id);
}

function follow(client: Client, stream: string, request: Request = {}): ReadCall {
  return client.readEvents({ stream, follow: true, ...request }).collect();
}

/** Consumers that readings have left. */
async function leftovers(jsm: JetStreamManager, stream: string): Promise<string[]> {
  const names: string[] = [];
  for await (const { name } of jsm.consumers.list(stream)) names.push(name);
  return names;
}

describe("a range", () => {
  test("has all that is stored, as it was published, and ends", async ({ client, jsm }) => {
    const stream = await createStream(client);
    const timestamp = { ...timestampFromMs(1_700_000_000_000), nanos: 5 };
    await client.publish(`${stream}.a`, "one", { timestamp, idempotencyKey: "key", attributes: { "ce-id": "7" } });
    await client.publish(`${stream}.b.c`, "two");
    const events = await client.readEvents({ stream }).events();
    expect(events.map(({ id, subject, data }) => [id, subject, textOf(data)])).toEqual([
      [1n, `${stream}.a`, "one"],
      [2n, `${stream}.b.c`, "two"],
    ]);
    expect(events[0]).toMatchObject({ deliveryAttempt: 0n });
    expect(events[0]!.headers).toMatchObject({ timestamp, idempotencyKey: "key", attributes: { "ce-id": "7" } });
    await expect.poll(async () => leftovers(jsm, stream)).toEqual([]);
  });

  test("of many events has each once, in order", async ({ client }) => {
    const stream = await createStream(client);
    for (let n = 0; n < 30; n++) {
      await Promise.all(ids(1, 100).map(async () => client.publish(`${stream}.a`, "x".repeat(100))));
    }
    expect(await read(client, stream)).toEqual(ids(1, 3_000));
  });

  test("of an empty stream is empty", async ({ client }) => {
    const stream = await createStream(client);
    expect(await read(client, stream)).toEqual([]);
    expect(await read(client, stream, { subjects: [`${stream}.a`], from: offset(5n) })).toEqual([]);
  });

  test("has what matches one of its subjects", async ({ client }) => {
    const stream = await createStream(client, 9);
    expect(await read(client, stream, { subjects: [`${stream}.a`] })).toEqual([1n, 4n, 7n]);
    expect(await read(client, stream, { subjects: [`${stream}.a`, `${stream}.c`] })).toEqual([1n, 3n, 4n, 6n, 7n, 9n]);
    expect(await read(client, stream, { subjects: [`${stream}.*`] })).toEqual(ids(1, 9));
    expect(await read(client, stream, { subjects: [`${stream}.d`, "other.>"] })).toEqual([]);
  });

  test("ends at its limit", async ({ client }) => {
    const stream = await createStream(client, 9);
    expect(await read(client, stream, { limit: 4n })).toEqual(ids(1, 4));
    expect(await read(client, stream, { limit: 0n })).toEqual(ids(1, 9));
    expect(await read(client, stream, { limit: 2n ** 64n - 1n, subjects: [`${stream}.b`] })).toEqual([2n, 5n, 8n]);
    expect(await read(client, stream, { limit: 2n, subjects: [`${stream}.b`], from: offset(3n) })).toEqual([5n, 8n]);
  });

  test("begins where it shall", async ({ client }) => {
    const stream = await createStream(client, 5);
    expect(await read(client, stream, { from: START })).toEqual(ids(1, 5));
    expect(await read(client, stream, { from: offset(3n) })).toEqual(ids(3, 5));
    expect(await read(client, stream, { from: offset(5n) })).toEqual([5n]);
    expect(await read(client, stream, { from: offset(6n) })).toEqual([]);
    expect(await read(client, stream, { from: offset(2n ** 53n - 1n) })).toEqual([]);
    expect(await read(client, stream, { from: END })).toEqual([]);
  });

  test("begins with what was stored at a time or later", async ({ client, jsm }) => {
    const stream = await createStream(client, 20);
    await jsm.streams.deleteMessage(stream, 9);
    const stored = async (seq: number): Promise<Timestamp> => {
      const { timestamp } = (await jsm.streams.getMessage(stream, { seq }))!;
      const nanos = Number(/\.(\d+)Z/.exec(timestamp)?.[1]?.padEnd(9, "0") ?? 0);
      return { ...timestampFromMs(Math.floor(Date.parse(timestamp) / 1000) * 1000), nanos };
    };
    const at = await stored(8);
    expect(await read(client, stream, { from: time(at) })).toEqual([8n, ...ids(10, 20)]);
    expect(await read(client, stream, { from: time({ ...at, nanos: at.nanos + 1 }) })).toEqual(ids(10, 20));
    expect(await read(client, stream, { from: time(timestampFromMs(0)) })).toHaveLength(19);
    expect(await read(client, stream, { from: time(await stored(20)) })).toEqual([20n]);
    expect(await read(client, stream, { from: time(timestampFromMs(Date.now() + 3_600_000)) })).toEqual([]);
  });

  test("passes over gaps", async ({ client, jsm }) => {
    const stream = await createStream(client, 10);
    for (const seq of [1, 2, 5, 9, 10]) await jsm.streams.deleteMessage(stream, seq);
    expect(await read(client, stream)).toEqual([3n, 4n, 6n, 7n, 8n]);
    expect(await read(client, stream, { from: offset(5n) })).toEqual([6n, 7n, 8n]);
    await jsm.streams.purge(stream);
    expect(await read(client, stream)).toEqual([]);
    await publish(client, stream, 1);
    expect(await read(client, stream)).toEqual([11n]);
  });

  test("does not show schedules, nor what was published again for one consumer, nor count them", async ({
    client,
    natsClient,
    jsm,
  }) => {
    const stream = await createStream(client);
    const { config } = await jsm.streams.info(stream);
    await jsm.streams.update(stream, { subjects: [...config.subjects!, `ws-schedules.${stream}.*`] });
    await publish(client, stream, 1);
    await publishPlain(natsClient, `ws-schedules.${stream}.token`);
    await publishPlain(natsClient, `${stream}.a`, { "WS-Replay-Consumer": `${stream}/c`, "WS-Replay-Id": "1" });
    await publish(client, stream, 1);
    await publishPlain(natsClient, `ws-schedules.${stream}.token`);
    expect(await read(client, stream)).toEqual([1n, 4n]);
    expect(await read(client, stream, { limit: 2n })).toEqual([1n, 4n]);
    const call = follow(client, stream);
    await expect.poll(() => call.told).toEqual([1n, 4n, "caught up at 5"]);
    await call.cancel();
  });

  test("of a mirror has the ids of its origin", async ({ client, jsm }) => {
    const origin = await createStream(client, 5);
    const mirror = uniqueName();
    const source = { case: "mirror" as const, value: { name: origin, from: offset(3n) } };
    await client.ensureStream({ name: mirror, source });
    await expect.poll(async () => (await jsm.streams.info(mirror)).state.last_seq).toBe(5);
    expect(await read(client, mirror)).toEqual([3n, 4n, 5n]);
    expect(await read(client, mirror, { from: offset(4n) })).toEqual([4n, 5n]);
  });
});

describe("a reading that follows", () => {
  test("has caught up once, and goes on with what is stored from then on", async ({ client, jsm }) => {
    const stream = await createStream(client, 3);
    const call = follow(client, stream);
    await expect.poll(() => call.told).toEqual([...ids(1, 3), "caught up at 3"]);
    await publish(client, stream, 3);
    await expect.poll(() => call.told).toEqual([...ids(1, 3), "caught up at 3", ...ids(4, 6)]);
    await call.cancel();
    await expect.poll(async () => leftovers(jsm, stream)).toEqual([]);
  });

  test("of an empty stream has caught up at once", async ({ client }) => {
    const stream = await createStream(client);
    const call = follow(client, stream);
    await expect.poll(() => call.told).toEqual(["caught up at 0"]);
    await publish(client, stream, 2);
    await expect.poll(() => call.told).toEqual(["caught up at 0", 1n, 2n]);
    await call.cancel();
  });

  test("from the end has new events only", async ({ client }) => {
    const stream = await createStream(client, 3);
    const call = follow(client, stream, { from: END });
    await expect.poll(() => call.told).toEqual(["caught up at 3"]);
    await publish(client, stream, 2);
    await expect.poll(() => call.told).toEqual(["caught up at 3", 4n, 5n]);
    await call.cancel();
  });

  test("has caught up where nothing of its subjects is stored", async ({ client }) => {
    const stream = await createStream(client, 6);
    const call = follow(client, stream, { subjects: [`${stream}.d`] });
    await expect.poll(() => call.told).toEqual(["caught up at 6"]);
    await client.publish(`${stream}.a`);
    await client.publish(`${stream}.d`);
    await expect.poll(() => call.told).toEqual(["caught up at 6", 8n]);
    await call.cancel();
  });

  test("has caught up behind the last event that matches", async ({ client }) => {
    const stream = await createStream(client, 6);
    const call = follow(client, stream, { subjects: [`${stream}.a`, `${stream}.d`] });
    await expect.poll(() => call.told).toEqual([1n, 4n, "caught up at 6"]);
    await call.cancel();
  });

  test("from an id that is yet to come begins with it", async ({ client }) => {
    const stream = await createStream(client, 2);
    const call = follow(client, stream, { from: offset(5n) });
    await expect.poll(() => call.told).toEqual(["caught up at 2"]);
    await publish(client, stream, 4);
    await expect.poll(() => call.told).toEqual(["caught up at 2", 5n, 6n]);
    await call.cancel();
  });

  test("from a time that is yet to come begins then", async ({ client }) => {
    const stream = await createStream(client, 1);
    const begin = Date.now() + 1_500;
    const call = follow(client, stream, { from: time(timestampFromMs(begin)) });
    await expect.poll(() => call.told).toEqual(["caught up at 1"]);
    await publish(client, stream, 2);
    await delay(begin - Date.now() + 50);
    await publish(client, stream, 1);
    await expect.poll(() => call.told).toEqual(["caught up at 1", 4n]);
    await call.cancel();
  });

  test("ends at its limit", async ({ client }) => {
    const stream = await createStream(client, 3);
    const call = follow(client, stream, { limit: 2n });
    expect(await call.ended).toBeUndefined();
    expect(call.told).toEqual([1n, 2n]);
    // Also where that is the end of what was stored: who has all that was asked for is told nothing more.
    const exact = follow(client, stream, { limit: 3n });
    expect(await exact.ended).toBeUndefined();
    expect(exact.told).toEqual([1n, 2n, 3n]);
    const longer = follow(client, stream, { limit: 5n });
    await expect.poll(() => longer.told).toEqual([...ids(1, 3), "caught up at 3"]);
    await publish(client, stream, 3);
    expect(await longer.ended).toBeUndefined();
    expect(longer.told).toEqual([...ids(1, 3), "caught up at 3", 4n, 5n]);
  });

  test("goes on when the stream is purged, and behind its gaps", async ({ client, jsm }) => {
    const stream = await createStream(client, 5);
    const call = follow(client, stream);
    await expect.poll(() => call.told).toHaveLength(6);
    await publish(client, stream, 2);
    await jsm.streams.purge(stream);
    await publish(client, stream, 2);
    await expect.poll(() => call.told.slice(6).at(-1)).toBe(9n);
    expect([ids(6, 9), [6n, 8n, 9n], [7n, 8n, 9n], [8n, 9n]]).toContainEqual(call.told.slice(6));
    await call.cancel();
  });

  test("ends with NOT_FOUND when the stream is deleted", async ({ client, jsm }) => {
    const stream = await createStream(client, 2);
    const call = follow(client, stream);
    await expect.poll(() => call.told).toHaveLength(3);
    await jsm.streams.delete(stream);
    expect(await call.ended).toMatchObject({ status: "NOT_FOUND", reason: "STREAM_NOT_FOUND" });
  });

  test("ends with NOT_FOUND when the stream is deleted and made again", async ({ client, jsm }) => {
    const stream = await createStream(client, 2);
    const call = follow(client, stream);
    await expect.poll(() => call.told).toHaveLength(3);
    const { config } = await jsm.streams.info(stream);
    await jsm.streams.delete(stream);
    await jsm.streams.add(config);
    expect(await call.ended).toMatchObject({ status: "NOT_FOUND", reason: "STREAM_NOT_FOUND" });
  });

  test("goes on when its consumer is deleted", async ({ client, jsm }) => {
    const stream = await createStream(client, 2);
    const call = follow(client, stream);
    await expect.poll(() => call.told).toHaveLength(3);
    for (const name of await leftovers(jsm, stream)) {
      expect(name).toMatch(/^ws-read-/);
      await jsm.consumers.delete(stream, name);
    }
    await publish(client, stream, 2);
    await expect.poll(() => call.told.slice(3), PATIENT).toEqual([3n, 4n]);
    await call.cancel();
  });

  test("ends with UNAVAILABLE when its server leaves", async ({ nats }) => {
    await using windshift = await startWindshift(nats.url);
    const stream = await createStream(windshift.client, 2);
    const call = follow(windshift.client, stream);
    await expect.poll(() => call.told).toHaveLength(3);
    await windshift.daemon[Symbol.asyncDispose]();
    expect(await call.ended).toMatchObject({ status: "UNAVAILABLE", reason: "SERVER_DRAINING" });
  });

  test("has from two servers the same", async ({ nats, client }) => {
    await using other = await startWindshift(nats.url);
    const stream = await createStream(client, 4);
    const calls = [client, other.client].map((each) => follow(each, stream));
    await publish(other.client, stream, 4);
    await publish(client, stream, 4);
    for (const call of calls) {
      await expect.poll(() => call.told.filter((each) => typeof each === "bigint")).toEqual(ids(1, 12));
      await call.cancel();
    }
  });
});

describe("backward", () => {
  const backward = async (client: Client, stream: string, request: Request = {}): Promise<bigint[]> =>
    read(client, stream, { backward: true, ...request });

  test("the newest comes first", async ({ client, jsm }) => {
    const stream = await createStream(client, 9);
    expect(await backward(client, stream)).toEqual(ids(1, 9).toReversed());
    expect(await backward(client, stream, { limit: 3n })).toEqual([9n, 8n, 7n]);
    expect(await backward(client, stream, { subjects: [`${stream}.a`] })).toEqual([7n, 4n, 1n]);
    expect(await backward(client, stream, { subjects: [`${stream}.b`, `${stream}.c`], limit: 3n })).toEqual([
      9n,
      8n,
      6n,
    ]);
    expect(await backward(client, stream, { subjects: [`${stream}.d`] })).toEqual([]);
    await expect.poll(async () => leftovers(jsm, stream)).toEqual([]);
  });

  test("an empty stream is empty", async ({ client, jsm }) => {
    const stream = await createStream(client);
    expect(await backward(client, stream)).toEqual([]);
    await publish(client, stream, 3);
    await jsm.streams.purge(stream);
    expect(await backward(client, stream)).toEqual([]);
  });

  test("it begins where it shall", async ({ client, jsm }) => {
    const stream = await createStream(client, 9);
    await jsm.streams.deleteMessage(stream, 5);
    expect(await backward(client, stream, { from: offset(3n) })).toEqual([3n, 2n, 1n]);
    expect(await backward(client, stream, { from: offset(5n), limit: 2n })).toEqual([4n, 3n]);
    expect(await backward(client, stream, { from: offset(99n), limit: 2n })).toEqual([9n, 8n]);
    expect(await backward(client, stream, { from: END, limit: 1n })).toEqual([9n]);
    expect(await backward(client, stream, { from: START })).toEqual([1n]);
    const { timestamp } = (await jsm.streams.getMessage(stream, { seq: 4 }))!;
    const nanos = Number(/\.(\d+)Z/.exec(timestamp)?.[1]?.padEnd(9, "0") ?? 0);
    const at = { ...timestampFromMs(Math.floor(Date.parse(timestamp) / 1000) * 1000), nanos };
    expect(await backward(client, stream, { from: time(at) })).toEqual([4n, 3n, 2n, 1n]);
    expect(await backward(client, stream, { from: time(timestampFromMs(0)) })).toEqual([]);
    expect(await backward(client, stream, { from: time(timestampFromMs(Date.now() + 60_000)), limit: 1n })).toEqual([
      9n,
    ]);
  });

  test("what is stored meanwhile is not told", async ({ client }) => {
    const stream = await createStream(client, 5);
    const seen: bigint[] = [];
    for await (const { response } of client.readEvents({ stream, backward: true })) {
      if (response.case === "event") seen.push(response.value.id);
      await publish(client, stream, 1);
    }
    expect(seen).toEqual(ids(1, 5).toReversed());
  });

  test("many events come, each once, whether few or many of them match", { timeout: 60_000 }, async ({ client }) => {
    const stream = await createStream(client);
    for (let n = 0; n < 30; n++) {
      // Rare at the end, dense at the start.
      const subject = (id: bigint): string => (n < 10 || id === 1n ? `${stream}.a` : `${stream}.b`);
      for (let at = 1; at <= 100; at += 50) {
        await Promise.all(ids(at, at + 49).map(async (id) => client.publish(subject(id))));
      }
    }
    expect(await backward(client, stream)).toEqual(ids(1, 3_000).toReversed());
    const some = (await client.readEvents({ stream, subjects: [`${stream}.a`] }).events()).map(({ id }) => id);
    expect(some).toHaveLength(1_020);
    expect(await backward(client, stream, { subjects: [`${stream}.a`] })).toEqual(some.toReversed());
  });

  test("a slow client has large events, and NATS may restart in the middle", { timeout: 60_000 }, async () => {
    await using nats = await startNats();
    await using windshift = await startWindshift(nats.url);
    const { client } = windshift;
    const stream = await createStream(client);
    const data = { typeUrl: "type.googleapis.com/acme.Blob", value: new Uint8Array(200 * 1024).fill(7) };
    for (let n = 0; n < 40; n++) await client.publishEvent({ subject: `${stream}.a`, data });
    await publish(client, stream, 20);
    const seen: bigint[] = [];
    for await (const { response } of client.readEvents({ stream, backward: true })) {
      if (response.case === "event") seen.push(response.value.id);
      if (seen.length === 25) {
        await nats.kill();
        await nats.restart();
      }
    }
    expect(seen).toEqual(ids(1, 60).toReversed());
  });
});

describe.for(["workqueue", "interest"] as const)("a stream that keeps events for consumers (%s)", (retention) => {
  async function createQueue(client: Client, jsm: JetStreamManager): Promise<string> {
    const stream = uniqueName();
    await jsm.streams.add({ name: stream, subjects: [`${stream}.>`], retention });
    await client.ensureConsumer({ stream, name: "c", subjects: [`${stream}.>`], from: START });
    await publish(client, stream, 6);
    return stream;
  }

  test("is read as it is, and keeps all", async ({ client, jsm }) => {
    const stream = await createQueue(client, jsm);
    expect(await read(client, stream)).toEqual(ids(1, 6));
    expect(await read(client, stream, { subjects: [`${stream}.a`, `${stream}.c`] })).toEqual([1n, 3n, 4n, 6n]);
    expect(await read(client, stream, { subjects: [`${stream}.b`], backward: true })).toEqual([5n, 2n]);
    const call = follow(client, stream, { from: offset(5n) });
    await expect.poll(() => call.told).toEqual([5n, 6n, "caught up at 6"]);
    await client.publish(`${stream}.a`);
    await expect.poll(() => call.told.at(-1), PATIENT).toBe(7n);
    const { state } = await jsm.streams.info(stream);
    expect(state).toMatchObject({ messages: 7, consumer_count: 1 });

    const worker = await client.subscribe(stream, "c", 10n);
    expect((await worker.take(7)).map(({ id }) => id)).toEqual(ids(1, 7));
    worker.ack(...ids(1, 7));
    await worker.confirmation();
    await expect.poll(() => read(client, stream), PATIENT).toEqual([]);
    await jsm.streams.delete(stream);
    expect(await call.ended).toMatchObject({ status: "NOT_FOUND", reason: "STREAM_NOT_FOUND" });
    await worker.cancel();
  });
});

describe("a slow client", () => {
  const LARGE = { typeUrl: "type.googleapis.com/acme.Blob", value: new Uint8Array(500 * 1024).fill(7) };

  test("costs a bounded amount, and has everything when it reads", async ({ windshift, client }) => {
    const stream = await createStream(client);
    for (let n = 0; n < 60; n++) await client.publishEvent({ subject: `${stream}.a`, data: LARGE });
    const deaf = windshift.connect();
    const call = deaf.readEvents({ stream });
    const unread = async (): Promise<number> => {
      const text = await (await fetch(`http://127.0.0.1:${windshift.daemon.healthPort}/metrics`)).text();
      return Number(/^windshift_unread(?:_bytes)? (\d+)/m.exec(text)?.[1] ?? NaN);
    };
    await expect.poll(unread, PATIENT).toBeGreaterThan(0);
    // Someone else reads on, from end to end.
    expect(await read(client, stream, { limit: 20n })).toEqual(ids(1, 20));
    expect(await unread()).toBeLessThan(4 * 1024 * 1024);
    expect((await call.events()).map(({ id }) => id)).toEqual(ids(1, 60));
    deaf.close();
  });

  test(
    "that is away longer than its consumer lives goes on where it was",
    { timeout: 60_000 },
    async ({ windshift, client, jsm }) => {
      const stream = await createStream(client);
      for (let n = 0; n < 20; n++) await client.publishEvent({ subject: `${stream}.a`, data: LARGE });
      const deaf = windshift.connect();
      const call = deaf.readEvents({ stream });
      await expect.poll(async () => (await leftovers(jsm, stream)).length).toBe(1);
      await expect.poll(async () => (await leftovers(jsm, stream)).length, PATIENT).toBe(0);
      expect((await call.events()).map(({ id }) => id)).toEqual(ids(1, 20));
      deaf.close();
    },
  );
});

describe("while NATS is away", () => {
  test("a reading waits, and goes on without loss or duplicates", { timeout: 60_000 }, async () => {
    await using nats = await startNats();
    await using windshift = await startWindshift(nats.url);
    const { client } = windshift;
    const stream = await createStream(client, 5);
    const calls = [follow(client, stream), follow(client, stream, { subjects: [`${stream}.a`] })];
    for (const call of calls) await expect.poll(() => call.told).toContain("caught up at 5");
    for (const end of ["stop", "kill"] as const) {
      await nats[end]();
      await nats.restart();
      for (let n = 0; n < 3; n++) await publishUntilStored(client, `${stream}.a`, `${end} ${n}`);
    }
    await expect.poll(() => calls[0]!.told, PATIENT).toEqual([...ids(1, 5), "caught up at 5", ...ids(6, 11)]);
    await expect.poll(() => calls[1]!.told, PATIENT).toEqual([1n, 4n, "caught up at 5", ...ids(6, 11)]);
    for (const call of calls) await call.cancel();
  });

  test("a range in the middle waits, and goes on", { timeout: 60_000 }, async () => {
    await using nats = await startNats();
    await using windshift = await startWindshift(nats.url);
    const { client } = windshift;
    const stream = await createStream(client);
    const data = { typeUrl: "type.googleapis.com/acme.Blob", value: new Uint8Array(200 * 1024).fill(7) };
    for (let n = 0; n < 60; n++) await client.publishEvent({ subject: `${stream}.a`, data });
    const seen: bigint[] = [];
    for await (const { response } of client.readEvents({ stream })) {
      if (response.case === "event") seen.push(response.value.id);
      // The server has read ahead a little, and not all.
      if (seen.length === 5) {
        await nats.kill();
        await nats.restart();
      }
    }
    expect(seen).toEqual(ids(1, 60));
  });

  test.for(["limits", "workqueue"] as const)(
    "a reading outlives restarts of NATS before and after its stream was edited (%s)",
    { timeout: 60_000 },
    async (retention) => {
      await using nats = await startNats();
      await using windshift = await startWindshift(nats.url);
      const stream = uniqueName();
      const settings = { name: stream, subjects: [`${stream}.>`], retention };
      const { created } = await ask(nats, async (jsm) => jsm.streams.add(settings));
      const call = follow(windshift.client, stream);
      await expect.poll(() => call.told).toContain("caught up at 0");
      const restart = async (id: bigint): Promise<void> => {
        await nats.stop();
        await nats.restart();
        await publishUntilStored(windshift.client, `${stream}.a`, String(id));
        await expect.poll(() => call.told, PATIENT).toContain(id);
      };
      await restart(1n);
      await ask(nats, async (jsm) => jsm.streams.update(stream, { ...settings, description: "edited" }));
      await restart(2n);
      // What makes this hard: NATS says now that it was made when NATS was restarted first.
      expect(await ask(nats, async (jsm) => (await jsm.streams.info(stream)).created)).not.toBe(created);
      await restart(3n);
      await call.cancel();
    },
  );

  test("a stream in memory that lost its events ends a reading", { timeout: 60_000 }, async () => {
    await using nats = await startNats();
    await using windshift = await startWindshift(nats.url);
    const { client } = windshift;
    const stream = uniqueName();
    await client.ensureStream({
      name: stream,
      source: { case: "subjects", value: { subjects: [`${stream}.>`] } },
      storage: { type: 2 },
    });
    await publish(client, stream, 3);
    const call = follow(client, stream);
    await expect.poll(() => call.told).toContain("caught up at 3");
    await nats.restart();
    expect(await call.ended).toMatchObject({ status: "NOT_FOUND", reason: "STREAM_NOT_FOUND" });
  });

  test("no reading begins", async () => {
    await using nats = await startNats();
    await using windshift = await startWindshift(nats.url);
    const stream = await createStream(windshift.client, 1);
    await nats.stop();
    const status = async () => (await failure(windshift.client.readEvents({ stream }).events())).status;
    await expect.poll(status).toBe("UNAVAILABLE");
  });
});

describe("while the leader of its stream gives up, and finds nothing", () => {
  test("a range does not end before its consumer has delivered it", async ({ client }) => {
    const stream = await createStream(client, 5);
    // Nothing comes of the consumer before somebody looks whether there is anything.
    const asked: (() => void)[] = [];
    const { publishWithReply, request } = ServerConnection.prototype;
    using _ = {
      [Symbol.dispose]: () => Object.assign(ServerConnection.prototype, { publishWithReply, request }),
    };
    ServerConnection.prototype.publishWithReply = function patched(...message) {
      if (message[0].includes(`.MSG.NEXT.${stream}.`)) asked.push(() => publishWithReply.apply(this, message));
      else publishWithReply.apply(this, message);
    };
    ServerConnection.prototype.request = function patched(...message) {
      request.apply(this, message);
      if (message[0].endsWith(`.STREAM.MSG.GET.${stream}`)) for (const ask of asked.splice(0)) ask();
    };
    using __ = findNothing(stream, { times: 1 });
    expect(await read(client, stream)).toEqual(ids(1, 5));
  });

  test("a range of a work queue does not end there", async ({ client, jsm }) => {
    const stream = uniqueName();
    await jsm.streams.add({ name: stream, subjects: [`${stream}.>`], retention: RetentionPolicy.Workqueue });
    await publish(client, stream, 5);
    using _ = findNothing(stream, { times: 2, after: 1 });
    expect(await read(client, stream)).toEqual(ids(1, 5));
  });

  test("one that goes backward from a time begins there", async ({ client }) => {
    const stream = await createStream(client, 5);
    using _ = findNothing(stream, { times: 1 });
    const now = time(timestampFromMs(Date.now() + 60_000));
    expect(await read(client, stream, { backward: true, from: now })).toEqual([5n, 4n, 3n, 2n, 1n]);
  });
});

describe("a request is refused", () => {
  test.for([
    ["without a stream", { stream: "" }, "MISSING_FIELD", "stream"],
    ["with a stream that is no name", { stream: "a.b" }, "INVALID_NAME", "stream"],
    ["with an empty subject", { stream: "s", subjects: ["a", ""] }, "MISSING_FIELD", "subjects[1]"],
    ["with a subject that is none", { stream: "s", subjects: ["a b"] }, "INVALID_SUBJECT", "subjects[0]"],
    ["with a line break", { stream: "s", subjects: ["a\r\nPUB b 0"] }, "INVALID_SUBJECT", "subjects[0]"],
    ["with subjects that overlap", { stream: "s", subjects: ["a.>", "a.b"] }, "CONFLICTING_FIELDS", "subjects[1]"],
    [
      "with too many subjects",
      { stream: "s", subjects: Array.from({ length: 1_001 }, (_, n) => `s.${n}`) },
      "INVALID_VALUE",
      "subjects",
    ],
    ["backward with follow", { stream: "s", backward: true, follow: true }, "CONFLICTING_FIELDS", "backward"],
    ["from an id that is none", { stream: "s", from: offset(2n ** 53n) }, "INVALID_VALUE", "from.offset"],
    [
      "from a time that is none",
      { stream: "s", from: { pointer: { case: "time", value: { seconds: 0n, nanos: -1 } } } },
      "INVALID_VALUE",
      "from.time",
    ],
  ] as const)("%s", async ([, request, reason, field], { client }) => {
    const error = await failure(
      client.readEvents(request as MessageInitShape<typeof ReadEventsRequestSchema>).events(),
    );
    expect(error).toMatchObject({ status: "INVALID_ARGUMENT", reason, fields: [field] });
    expect(error.message).toMatch(`${field}: `);
  });

  test("of a stream that does not exist", async ({ client }) => {
    const error = await failure(client.readEvents({ stream: "nowhere", follow: true }).events());
    expect(error).toMatchObject({ status: "NOT_FOUND", reason: "STREAM_NOT_FOUND", metadata: { stream: "nowhere" } });
  });

  test("a thousand subjects are taken", async ({ client }) => {
    const stream = await createStream(client, 3);
    const subjects = [`${stream}.b`, ...Array.from({ length: 999 }, (_, n) => `${stream}.${n}`)];
    expect(await read(client, stream, { subjects })).toEqual([2n]);
  });
});

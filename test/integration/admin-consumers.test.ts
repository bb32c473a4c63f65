/** `AdminService`: looking into consumers, and having them wait. */
import { AckPolicy } from "@nats-io/jetstream";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { describe, expect } from "vitest";
import { SUBJECTS_LOCK } from "../../src/nats/own-consumers.ts";
import { AdminClient, allPages } from "../support/admin-client.ts";
import { failure } from "../support/client.ts";
import { createSource, duration, publishMany } from "../support/consuming.ts";
import { test as base, uniqueName } from "../support/fixtures.ts";
import { type Windshift, startWindshift } from "../support/windshift.ts";

/** A second server on the same NATS. */
const test = base.extend<{ $file: { other: Windshift }; $test: { admin: AdminClient } }>({
  other: [
    async ({ nats }, use) => {
      await using other = await startWindshift(nats.url);
      await use(other);
    },
    { scope: "file" },
  ],
  admin: async ({ client }, use) => {
    await use(new AdminClient(client));
  },
});

function instanceOf({ log }: Windshift): string {
  return String(log.find(({ msg }) => String(msg).startsWith("serving gRPC"))?.["instance"]);
}

/** An hour from now. */
function later() {
  return timestampFromMs(Date.now() + 3_600_000);
}

describe("ListConsumers", () => {
  test("lists the consumers of one stream, once and in order, whatever the size of a page", async ({
    client,
    admin,
    jsm,
  }) => {
    const { stream } = await createSource(client);
    for (const name of ["b", "a", "d"]) await client.ensureConsumer({ stream, name, subjects: [`${stream}.>`] });
    await jsm.consumers.add(stream, { durable_name: "odd$name", ack_policy: AckPolicy.Explicit });
    const list = async (pageSize: number) =>
      allPages(async (pageToken) => {
        const { consumers, nextPageToken } = await admin.listConsumers({ stream, pageSize, pageToken });
        return { entries: consumers.map(({ id }) => id), nextPageToken };
      });
    for (const size of [1, 2, 3, 100]) expect(await list(size)).toEqual(["a", "b", "c", "d"]);
  });

  test("leaves out what servers make for themselves", async ({ client, admin, jsm }) => {
    const { stream, consumer } = await createSource(client, { events: 1 });
    await client.ensureConsumer({ stream, name: "ws-read-mine", subjects: [`${stream}.>`] });
    await jsm.consumers.add(stream, { name: SUBJECTS_LOCK, ack_policy: AckPolicy.None });
    const readings = Array.from({ length: 3 }, () => client.readEvents({ stream, follow: true }).collect());
    for (const reading of readings) await expect.poll(() => reading.told).toEqual([1n, "caught up at 1"]);
    const expected = [consumer, "ws-read-mine"];
    const ids = await allPages(async (pageToken) => {
      const { consumers, nextPageToken } = await admin.listConsumers({ stream, pageSize: 1, pageToken });
      expect(consumers).toHaveLength(1);
      return { entries: consumers.map(({ id }) => id), nextPageToken };
    });
    expect(ids).toEqual(expected);
    expect((await admin.deleteStream({ stream })).consumers).toEqual(expected);
    await Promise.all(readings.map(async (reading) => reading.cancel()));
  });

  test("tells of each how far it is", async ({ client, admin }) => {
    const { stream, consumer } = await createSource(client, { events: 3 });
    const { consumers } = await admin.listConsumers({ stream });
    expect(consumers).toMatchObject([
      { stream, id: consumer, isUsable: true, state: { pending: 3n, inFlight: 0n, lastDeliveredId: 0n } },
    ]);
  });

  test("an empty stream has none; a missing one, a bad name and a foreign token are refused", async ({
    client,
    admin,
  }) => {
    const { stream } = await createSource(client);
    await client.ensureConsumer({ stream, name: "d", subjects: [`${stream}.>`] });
    const { nextPageToken: pageToken } = await admin.listConsumers({ stream, pageSize: 1 });
    const empty = uniqueName();
    await client.ensureStream({ name: empty, source: { case: "subjects", value: { subjects: [`${empty}.>`] } } });
    expect(await admin.listConsumers({ stream: empty })).toMatchObject({ consumers: [], nextPageToken: "" });
    expect(await failure(admin.listConsumers({ stream: "nowhere" }))).toMatchObject({
      reason: "STREAM_NOT_FOUND",
      metadata: { stream: "nowhere" },
    });
    expect(await failure(admin.listConsumers({ stream: "a b" }))).toMatchObject({ fields: ["stream"] });
    expect(await failure(admin.listConsumers({ stream: empty, pageToken }))).toMatchObject({ fields: ["page_token"] });
  });
});

describe("GetConsumer", () => {
  test("shows the configuration in the words in which it was asked for", async ({ client, admin }) => {
    const { stream } = await createSource(client);
    const asked = {
      stream,
      name: "full",
      subjects: [`${stream}.a`, `${stream}.b`],
      from: { pointer: { case: "offset" as const, value: 7n } },
      processingTimeout: duration(12_345),
      deliveryPolicy: {
        maxAttempts: 5,
        backoff: [duration(1000), duration(60_000)],
        deadLetter: { stream: `${stream}-dl` },
      },
      maxProcessingEvents: 77n,
      inactiveThreshold: duration(7_200_000),
    };
    await client.ensureConsumer(asked);
    const { consumer } = await admin.getConsumer({ stream, id: "full" });
    expect(consumer).toMatchObject({ stream, id: "full", isUsable: true, configuration: asked });
    expect(consumer?.pausedUntil).toBeUndefined();
    // The same again is what it is.
    await client.ensureConsumer(consumer!.configuration!);
    expect((await admin.getConsumer({ stream, id: "full" })).consumer?.configuration).toEqual(consumer?.configuration);
  });

  test.for([
    ["start", { case: "start" as const, value: true }],
    ["end", { case: "end" as const, value: true }],
    ["time", { case: "time" as const, value: { seconds: 1_700_000_000n, nanos: 123_456_789 } }],
  ] as const)("shows where it began: %s", async ([, pointer], { client, admin }) => {
    const { stream } = await createSource(client);
    await client.ensureConsumer({ stream, name: "p", subjects: [`${stream}.>`], from: { pointer } });
    const { consumer } = await admin.getConsumer({ stream, id: "p" });
    expect(consumer?.configuration?.from).toMatchObject({ pointer });
    expect(consumer?.configuration?.maxProcessingEvents).toBeUndefined();
    expect(consumer?.configuration?.deliveryPolicy).toBeUndefined();
  });

  test("an ephemeral one has no name", async ({ client, admin }) => {
    const { stream, consumer: id } = await createSource(client, { ephemeral: true });
    const { consumer } = await admin.getConsumer({ stream, id });
    expect(consumer?.id).toBe(id);
    expect(consumer?.configuration?.name).toBeUndefined();
  });

  test("tells what is pending, in flight, delivered again and settled", async ({ client, admin }) => {
    const { stream, consumer: id } = await createSource(client, { events: 5 });
    const state = async () => (await admin.getConsumer({ stream, id })).consumer!.state!;
    expect(await state()).toMatchObject({ pending: 5n, inFlight: 0n, lastDeliveredId: 0n, settledId: 0n });
    expect((await state()).lastDeliveredTime).toBeUndefined();
    const call = await client.subscribe(stream, id, 3n);
    await call.take(3);
    expect(await state()).toMatchObject({
      pending: 2n,
      inFlight: 3n,
      redelivered: 0n,
      lastDeliveredId: 3n,
      settledId: 0n,
    });
    call.send({ case: "reject", value: { ids: [1n] } });
    await call.confirmation();
    expect(await call.event()).toMatchObject({ id: 1n, deliveryAttempt: 2n });
    expect(await state()).toMatchObject({ redelivered: 1n });
    await call.ackNow(1n);
    await expect.poll(state).toMatchObject({ settledId: 1n });
    expect((await state()).lastSettledTime).toBeDefined();
    await call.cancel();
  });

  test("tells how old the oldest unsettled event is, of whatever subject", async ({ client, admin, jsm }) => {
    const { stream } = await createSource(client);
    await client.ensureConsumer({
      stream,
      name: "two",
      subjects: [`${stream}.x`, `${stream}.y`],
      from: { pointer: { case: "start", value: true } },
    });
    const age = async () => (await admin.getConsumer({ stream, id: "two" })).oldestUnsettledAge;
    await client.publish(`${stream}.other`);
    expect(await age()).toBeUndefined();
    await client.publish(`${stream}.y`);
    await client.publish(`${stream}.x`);
    const { time } = (await jsm.streams.getMessage(stream, { seq: 2 }))!;
    const seconds = async () => Number((await age())!.seconds) + (await age())!.nanos / 1e9;
    await expect.poll(seconds).toBeGreaterThan((Date.now() - time.getTime()) / 1000);
    const call = await client.subscribe(stream, "two");
    for (const { id } of await call.take(2)) await call.ackNow(id);
    await expect.poll(age).toBeUndefined();
    await call.cancel();
  });

  test("names the subscriptions of all servers", async ({ client, admin, windshift, other }) => {
    const { stream, consumer: id } = await createSource(client, { events: 6 });
    const get = async () => admin.getConsumer({ stream, id });
    expect(await get()).toMatchObject({ subscriptions: [], servers: 2 });
    const first = await client.subscribe(stream, id, 2n);
    await first.take(2);
    const second = await other.client.subscribe(stream, id, 3n);
    await second.take(3);
    const { subscriptions } = await get();
    expect(subscriptions.map(({ server }) => server)).toEqual([windshift, other].map(instanceOf).toSorted());
    expect(subscriptions.find(({ server }) => server === instanceOf(windshift))).toMatchObject({
      window: 2n,
      held: 2n,
    });
    const there = subscriptions.find(({ server }) => server === instanceOf(other))!;
    expect(there).toMatchObject({ window: 3n, held: 3n, client: expect.stringMatching(/:\d+$/) as unknown });
    expect(Number(there.opened!.seconds)).toBeGreaterThan(Date.now() / 1000 - 600);
    await first.cancel();
    await expect.poll(async () => (await get()).subscriptions.map(({ server }) => server)).toEqual([instanceOf(other)]);
    await second.cancel();
    await expect.poll(async () => (await get()).subscriptions).toEqual([]);
  });

  test("what others say on the servers' subjects is passed over", async ({ client, admin, natsClient }) => {
    const { stream, consumer: id } = await createSource(client);
    const call = await client.subscribe(stream, id);
    const rubbish = natsClient.subscribe("$WINDSHIFT._.subscriptions", {
      callback: (_error, message) => {
        for (const text of [
          "",
          "no json",
          "null",
          "[]",
          '{"server":1}',
          '{"server":"x","subscriptions":[{"client":1}]}',
        ]) {
          message.respond(text);
        }
      },
    });
    await natsClient.flush();
    natsClient.publish("$WINDSHIFT._.subscriptions", "rubbish");
    natsClient.publish("$WINDSHIFT._.subscriptions", '{"stream":5}', { reply: "nobody" });
    expect((await admin.getConsumer({ stream, id })).subscriptions).toHaveLength(1);
    rubbish.unsubscribe();
    await call.cancel();
  });

  test("says what Events cannot subscribe to", async ({ client, admin, jsm }) => {
    const { stream } = await createSource(client);
    await jsm.consumers.add(stream, { durable_name: "all", ack_policy: AckPolicy.All });
    await jsm.consumers.add(stream, { durable_name: "push", deliver_subject: "x", ack_policy: AckPolicy.Explicit });
    for (const id of ["all", "push"]) {
      expect((await admin.getConsumer({ stream, id })).consumer).toMatchObject({ id, isUsable: false });
    }
  });

  test("refuses missing ones and bad names", async ({ client, admin }) => {
    const { stream } = await createSource(client);
    expect(await failure(admin.getConsumer({ stream, id: "nobody" }))).toMatchObject({
      status: "NOT_FOUND",
      reason: "CONSUMER_NOT_FOUND",
      metadata: { stream, consumer: "nobody" },
    });
    expect(await failure(admin.getConsumer({ stream: "nowhere", id: "c" }))).toMatchObject({ status: "NOT_FOUND" });
    expect(await failure(admin.getConsumer({ stream: "", id: "c" }))).toMatchObject({ fields: ["stream"] });
    expect(await failure(admin.getConsumer({ stream, id: "a.b" }))).toMatchObject({
      status: "INVALID_ARGUMENT",
      fields: ["id"],
    });
  });
});

describe("PauseConsumer and ResumeConsumer", () => {
  test("a paused consumer delivers nothing, takes what is settled, and goes on when it is resumed", async ({
    client,
    admin,
    jsm,
    windshift,
  }) => {
    const { stream, consumer: id, subject } = await createSource(client, { events: 2 });
    const call = await client.subscribe(stream, id);
    const held = await call.take(2);
    const until = later();
    const { pausedUntil } = await admin.pauseConsumer({ stream, id, until });
    expect(pausedUntil).toEqual(until);
    expect((await admin.getConsumer({ stream, id })).consumer?.pausedUntil).toEqual(until);
    await call.ackNow(held[0]!.id);
    call.send({ case: "reject", value: { ids: [held[1]!.id] } });
    await call.confirmation();
    await publishMany(client, subject, 3);
    await expect.poll(async () => (await jsm.consumers.info(stream, id)).num_pending).toBe(3);
    expect(call.received.filter(({ response }) => response.case === "event")).toHaveLength(2);
    await admin.resumeConsumer({ stream, id });
    expect((await call.take(4)).map((event) => Number(event.id)).toSorted((a, b) => a - b)).toEqual([2, 3, 4, 5]);
    expect((await admin.getConsumer({ stream, id })).consumer?.pausedUntil).toBeUndefined();
    for (const msg of ["a consumer was paused", "a consumer was resumed"]) {
      expect(windshift.log).toContainEqual(expect.objectContaining({ level: "info", msg, stream, consumer: id }));
    }
    await call.cancel();
  });

  test("a pause ends by itself", async ({ client, admin }) => {
    const { stream, consumer: id } = await createSource(client, { events: 1 });
    await admin.pauseConsumer({ stream, id, until: timestampFromMs(Date.now() + 1000) });
    const call = await client.subscribe(stream, id);
    expect(await call.event()).toMatchObject({ id: 1n });
    await call.cancel();
  });

  test("a pause can be made longer and shorter, and outlives another ensuring", async ({ client, admin }) => {
    const { stream, consumer: id } = await createSource(client);
    await admin.pauseConsumer({ stream, id, until: later() });
    const until = timestampFromMs(Date.now() + 600_000);
    expect((await admin.pauseConsumer({ stream, id, until })).pausedUntil).toEqual(until);
    await client.ensureConsumer({ stream, name: id, subjects: [`${stream}.a`], processingTimeout: duration(5000) });
    expect((await admin.getConsumer({ stream, id })).consumer?.pausedUntil).toEqual(until);
  });

  test("resuming one that is not paused succeeds", async ({ client, admin }) => {
    const { stream, consumer: id } = await createSource(client, { events: 1 });
    await admin.resumeConsumer({ stream, id });
    const call = await client.subscribe(stream, id);
    await call.take(1);
    await call.cancel();
  });

  test.for([
    ["no time", undefined, "MISSING_FIELD"],
    ["a time that is past", timestampFromMs(Date.now() - 1000), "INVALID_VALUE"],
    ["a time beyond the year 9999", { seconds: 253_402_300_800n, nanos: 0 }, "INVALID_VALUE"],
    ["a time with too many nanoseconds", { seconds: 4_000_000_000n, nanos: 1_000_000_000 }, "INVALID_VALUE"],
  ] as const)("%s is refused", async ([, until, reason], { admin }) => {
    const request = { stream: "s", id: "c", ...(until === undefined ? {} : { until }) };
    expect(await failure(admin.pauseConsumer(request))).toMatchObject({
      status: "INVALID_ARGUMENT",
      reason,
      fields: ["until"],
    });
  });

  test("missing ones and bad names are refused", async ({ client, admin }) => {
    const { stream } = await createSource(client);
    const until = later();
    expect(await failure(admin.pauseConsumer({ stream, id: "nobody", until }))).toMatchObject({
      reason: "CONSUMER_NOT_FOUND",
    });
    expect(await failure(admin.resumeConsumer({ stream, id: "nobody" }))).toMatchObject({
      reason: "CONSUMER_NOT_FOUND",
    });
    expect(await failure(admin.pauseConsumer({ stream: "nowhere", id: "c", until }))).toMatchObject({
      reason: "STREAM_NOT_FOUND",
    });
    expect(await failure(admin.pauseConsumer({ stream: "a b", id: "c", until }))).toMatchObject({ fields: ["stream"] });
    expect(await failure(admin.resumeConsumer({ stream, id: "" }))).toMatchObject({ fields: ["id"] });
  });

  test("the year 9999 is a time, too", async ({ client, admin }) => {
    const { stream, consumer: id } = await createSource(client);
    const until = { seconds: 253_402_300_799n, nanos: 0 };
    expect((await admin.pauseConsumer({ stream, id, until })).pausedUntil).toMatchObject(until);
  });
});

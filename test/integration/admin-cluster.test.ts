/** `AdminService` on a NATS cluster of three, with two servers. */
import { setTimeout as delay } from "node:timers/promises";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { connect } from "@nats-io/transport-node";
import { expect } from "vitest";
import { AdminClient } from "../support/admin-client.ts";
import { createSource } from "../support/consuming.ts";
import { test as base } from "../support/fixtures.ts";
import { SettlementTap } from "../support/settlement-tap.ts";
import { type NatsCluster, startNatsCluster } from "../support/nats.ts";
import { type Windshift, startWindshift } from "../support/windshift.ts";

const LONG = 180_000;
const PUBLISH_EVERY_MS = 10;
const PATIENT = { timeout: 60_000, interval: 100 };

const test = base.extend<{ $file: { cluster: NatsCluster; server: Windshift; other: Windshift } }>({
  cluster: [
    async ({}, use) => {
      await using cluster = await startNatsCluster();
      await use(cluster);
    },
    { scope: "file" },
  ],
  server: [
    async ({ cluster }, use) => {
      await using server = await startWindshift(cluster.urls[0]!);
      await use(server);
    },
    { scope: "file" },
  ],
  other: [
    async ({ cluster }, use) => {
      await using other = await startWindshift(cluster.urls[1]!);
      await use(other);
    },
    { scope: "file" },
  ],
});

test("streams and consumers show which nodes keep them", { timeout: LONG }, async ({ server }) => {
  const { stream, consumer: id } = await createSource(server.client, { replicas: 3, events: 1 });
  const admin = new AdminClient(server.client);
  const isWhole = { cluster: "test", leader: expect.stringMatching(/^node-\d$/) as unknown };
  const followers = [{ isCurrent: true, isOffline: false }, { isCurrent: true }];
  await expect
    .poll(async () => (await admin.getStream({ stream })).stream?.replication, PATIENT)
    .toMatchObject({ ...isWhole, followers });
  await expect
    .poll(async () => (await admin.getConsumer({ stream, id })).consumer?.replication, PATIENT)
    .toMatchObject({ ...isWhole, followers });
});

test(
  "a reset ends the subscriptions of both servers and begins anew, by NATS and by making it again",
  { timeout: LONG },
  async ({ server, other }) => {
    const admin = new AdminClient(server.client);
    for (const from of ["start", "end"] as const) {
      const { stream } = await createSource(server.client, { replicas: 3 });
      const pointer = { case: from, value: true } as const;
      await server.client.ensureConsumer({ stream, name: "r", subjects: [`${stream}.>`], from: { pointer } });
      for (let n = 0; n < 4; n++) await server.client.publish(`${stream}.a`);
      const here = await server.client.subscribe(stream, "r", 2n);
      const there = await other.client.subscribe(stream, "r", 2n);
      await Promise.all([here.take(2), there.take(2)]);
      const to = { pointer: { case: "offset" as const, value: 2n } };
      const answer = await admin.resetConsumer({ stream, id: "r", to });
      expect(answer).toMatchObject({ recreated: from === "end", forgotten: 4n, endedSubscriptions: 2 });
      for (const call of [here, there]) expect(await call.ended).toMatchObject({ status: "ABORTED" });
      const again = await other.client.subscribe(stream, "r");
      const events = await again.take(3);
      expect(events.map(({ id, deliveryAttempt }) => [id, deliveryAttempt])).toEqual([
        [2n, 1n],
        [3n, 1n],
        [4n, 1n],
      ]);
      await again.cancel();
    }
  },
);

test(
  "a reset ends what its client has left already: nothing is handed back over it",
  { timeout: LONG },
  async ({ cluster, server }) => {
    const source = await createSource(server.client, { replicas: 3, events: 5 });
    const { stream, consumer: id, subject } = source;
    const natsClient = await connect({ servers: cluster.urls[0]! });
    using tap = await SettlementTap.open(natsClient, source);
    const old = await server.client.subscribe(stream, id, 1_000n);
    await old.take(5);
    // Its end waits for what is on its way, for as long as more and more comes.
    let isOver = false;
    const publishing = (async () => {
      while (!isOver) {
        await server.client.publish(subject);
        await delay(PUBLISH_EVERY_MS);
      }
    })();
    const ended = old.finish();
    await new AdminClient(server.client).resetConsumer({ stream, id, to: { pointer: { case: "start", value: true } } });
    await natsClient.flush();
    const before = tap.told.length;
    await ended;
    isOver = true;
    await publishing;
    await natsClient.flush();
    expect(tap.told.slice(before)).toEqual([]);
    await natsClient.close();
  },
);

test("a paused consumer goes on when it is resumed", { timeout: LONG }, async ({ server, other }) => {
  const { stream, consumer: id } = await createSource(server.client, { replicas: 3 });
  const admin = new AdminClient(server.client);
  const until = timestampFromMs(Date.now() + 3_600_000);
  expect((await admin.pauseConsumer({ stream, id, until })).pausedUntil).toEqual(until);
  await expect
    .poll(async () => (await admin.getConsumer({ stream, id })).consumer?.pausedUntil, PATIENT)
    .toEqual(until);
  const call = await other.client.subscribe(stream, id);
  await server.client.publish(`${stream}.a`);
  expect(call.received.filter(({ response }) => response.case === "event")).toEqual([]);
  await admin.resumeConsumer({ stream, id });
  expect(await call.event()).toMatchObject({ id: 1n });
  await call.cancel();
});

test("dead letters are on as many nodes as their events", { timeout: LONG }, async ({ server, other }) => {
  const { stream, consumer, subject } = await createSource(server.client, { replicas: 3 });
  const deliveryPolicy = { deadLetter: {} };
  await server.client.ensureConsumer({ stream, name: consumer, subjects: [`${stream}.>`], deliveryPolicy });
  const admin = new AdminClient(other.client);
  await expect
    .poll(async () => (await admin.getStream({ stream: `${stream}-dead-letters` })).stream?.replication, PATIENT)
    .toMatchObject({ followers: [{ isCurrent: true }, { isCurrent: true }] });
  const call = await server.client.subscribe(stream, consumer);
  const id = await server.client.publish(subject, "bad");
  await call.event();
  call.send({ case: "reject", value: { ids: [id], permanently: true } });
  expect(await call.confirmation()).toMatchObject({ ids: [id] });
  expect((await admin.listDeadLetters({ stream, consumer })).deadLetters.map((letter) => letter.id)).toEqual([id]);
  await call.cancel();
});

test("what has no leader is in the lists with its name and why", { timeout: LONG }, async ({ cluster, server }) => {
  const admin = new AdminClient(server.client);
  const { stream } = await createSource(server.client, { replicas: 1 });
  const leader = (await admin.getStream({ stream })).stream!.replication!.leader;
  const node = Number(leader.slice("node-".length));
  await using survivor = await startWindshift(cluster.urls.filter((_, index) => index !== node).join(","));
  const there = new AdminClient(survivor.client);
  await cluster.kill(node);
  const find = async () => (await there.listStreams({ pageSize: 1000 })).streams.find(({ name }) => name === stream);
  await expect
    .poll(async () => find().catch((error: Error) => error.message), PATIENT)
    .toMatchObject({ name: stream, error: { code: 14 } });
  expect((await find())?.state).toBeUndefined();
  await cluster.restart(node);
  await expect.poll(async () => (await find().catch(() => undefined))?.error, PATIENT).toBeUndefined();
});

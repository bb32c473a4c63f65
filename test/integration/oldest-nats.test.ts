/** The contract on the oldest nats-server that the README claims: what works there is not an accident of the newest. */
import { readFileSync } from "node:fs";
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { AckPolicy, RetentionPolicy, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  EventsResponseSchema,
  EnsureStreamRequest_DiscardPolicy,
  type GetEventRequest,
  type StreamPointer,
  SubscriptionStatus_State,
} from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { AdminClient } from "../support/admin-client.ts";
import { failure, textOf, textValue } from "../support/client.ts";
import { type NatsServer, startNats } from "../support/nats.ts";
import { openDeadLetters } from "../support/dead-letters.ts";
import { OLDEST_NATS, oldestNats } from "../support/oldest-nats.ts";
import { type Windshift, startWindshift } from "../support/windshift.ts";

const { binary, reason } = await oldestNats();

test("the README claims the version that is tested", () => {
  const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");
  const [major, minor] = OLDEST_NATS.split(".");
  expect(readme).toMatch(new RegExp(`^\\| NATS +\\| ${major}\\.${minor} and newer`, "m"));
});

test(`nats-server ${OLDEST_NATS} is there`, ({ skip }) => skip(binary === undefined, reason));

describe.skipIf(binary === undefined)(`on nats-server ${OLDEST_NATS}`, () => {
  let nats: NatsServer;
  let windshift: Windshift;
  const publish = (subject: string, text?: string, rest = {}): Promise<bigint> =>
    windshift.client.publish(subject, text, rest);

  beforeAll(async () => {
    nats = await startNats({ binary: binary! });
    windshift = await startWindshift(nats.url);
  });
  afterAll(async () => {
    await windshift[Symbol.asyncDispose]();
    await nats[Symbol.asyncDispose]();
  });

  async function ensureStream(name: string): Promise<void> {
    await windshift.client.ensureStream({ name, source: { case: "subjects", value: { subjects: [`${name}.>`] } } });
  }

  test("the server is that old", () => {
    expect(windshift.log).toContainEqual(expect.objectContaining({ natsVersion: OLDEST_NATS }));
  });

  test("a stream takes every option, and can be ensured again", async () => {
    const stream = {
      name: "options",
      source: { case: "subjects" as const, value: { subjects: ["options.a", "options.b"] } },
      retentionPolicy: {
        maxAge: { seconds: 3600n },
        maxEvents: 100n,
        maxEventsPerSubject: 2n,
        maxBytes: 1_000_000n,
        discardPolicy: EnsureStreamRequest_DiscardPolicy.NEW,
        discardNewPerSubject: true,
      },
      storage: { replicas: 1 },
      deduplicationWindow: { seconds: 10n },
      maxEventSize: 1024,
    };
    await windshift.client.ensureStream(stream);
    await windshift.client.ensureStream(stream);
    await windshift.client.ensureStream({ ...stream, maxEventSize: 2048 });
    await publish("options.a");
    await publish("options.a");
    expect(await failure(publish("options.a"))).toMatchObject({ status: "RESOURCE_EXHAUSTED" });
    expect(await failure(publish("options.b", "x".repeat(3000)))).toMatchObject({ status: "RESOURCE_EXHAUSTED" });
  });

  test("publishing deduplicates, checks the expected id and tells of a missing stream", async () => {
    await ensureStream("publish");
    const first = await publish("publish.a", "1", { idempotencyKey: "one" });
    expect(await publish("publish.a", "1", { idempotencyKey: "one" })).toBe(first);
    const second = await publish("publish.a", "2", { expectedLastId: first });
    expect(await failure(publish("publish.a", "3", { expectedLastId: first }))).toMatchObject({
      status: "FAILED_PRECONDITION",
    });
    expect(second).toBe(first + 1n);
    expect(await failure(publish("nowhere.a"))).toMatchObject({ status: "NOT_FOUND" });
  });

  test("what needs a newer NATS is refused by naming it, and everything else works", async () => {
    const tooOld = async (call: Promise<unknown>, what: string, needed: string): Promise<void> => {
      const error = await failure(call);
      expect(error).toMatchObject({
        status: "FAILED_PRECONDITION",
        reason: "NATS_TOO_OLD",
        metadata: { needed, version: OLDEST_NATS, outcome: "not_stored" },
      });
      expect(error.message).toBe(`${what} needs NATS ${needed} or newer; this one is ${OLDEST_NATS}`);
    };
    const stream = { name: "new", source: { case: "subjects" as const, value: { subjects: ["new.>"] } } };
    await tooOld(windshift.client.ensureStream({ ...stream, allowTimeToLive: true }), "allow_time_to_live", "2.11");
    await tooOld(windshift.client.ensureStream({ ...stream, allowScheduling: true }), "allow_scheduling", "2.12");
    await tooOld(windshift.client.ensureStream({ ...stream, allowAtomic: true }), "allow_atomic", "2.12");
    await windshift.client.ensureStream({ ...stream, allowTimeToLive: false, allowAtomic: false });
    await tooOld(publish("new.a", "x", { timeToLive: { seconds: 5n } }), "time_to_live", "2.11");
    await tooOld(publish("new.a", "x", { deliverAt: { seconds: 1n } }), "deliver_at", "2.12");
    const cancel = windshift.client.cancelScheduledEvent({ stream: "new", idempotencyKey: "k" });
    await tooOld(cancel, "CancelScheduledEvent", "2.12");
    const events = [{ subject: "new.a", data: textValue("x") }];
    await tooOld(windshift.client.publishEvents({ events, atomic: true }), "atomic", "2.12");
    expect(await publish("new.a", "x", { attributes: { tenant: "a" } })).toBe(1n);
  });

  test("events are acknowledged, rejected, pinged, and delivered again", async () => {
    await ensureStream("consume");
    const subjects = ["consume.a", "consume.b"];
    const { id: consumer } = await windshift.client.ensureConsumer({ stream: "consume", name: "c", subjects });
    for (const text of ["1", "2", "3"]) await publish("consume.a", text, { timestamp: timestampFromMs(1_000) });
    await publish("consume.other");
    const call = await windshift.client.subscribe("consume", consumer, 10n);
    const [one, two, three] = await call.take(3);
    expect(textOf(one!.data)).toBe("1");
    await call.ackNow(one!.id);
    call.send({ case: "ping", value: { ids: [two!.id] } });
    expect(await call.confirmation()).toMatchObject({ ids: [two!.id] });
    call.send({ case: "reject", value: { ids: [two!.id] } });
    const answers = [(await call.next()).response, (await call.next()).response];
    expect(new Set(answers.map((answer) => answer.case))).toEqual(new Set(["event", "rejectConfirmation"]));
    expect(answers).toContainEqual(
      create(EventsResponseSchema, {
        response: { case: "event", value: { ...two!, deliveryAttempt: 2n } },
      }).response,
    );
    call.send({ case: "reject", value: { ids: [three!.id], permanently: true } });
    expect(await call.confirmation()).toMatchObject({ ids: [three!.id] });
    // Held at the half-close: handed back, and delivered to the next subscription at once.
    expect(await call.finish()).toBeUndefined();
    const next = await windshift.client.subscribe("consume", consumer);
    expect(await next.event()).toMatchObject({ id: two!.id, deliveryAttempt: 3n });
    await next.ackNow(two!.id);
    await windshift.client.deleteConsumer({ stream: "consume", id: consumer });
    expect((await next.ended)?.status).toBe("NOT_FOUND");
  });

  test("events are published a few at a time, and over a stream of them", async () => {
    const { client } = windshift;
    await ensureStream("many");
    const events = ["1", "2"].map((text) => ({ subject: "many.a", data: textValue(text) }));
    const { results } = await client.publishEvents({ events: [...events, { subject: "nowhere.a" }] });
    expect(results.map(({ result }) => (result.case === "id" ? result.value : result.value?.code))).toEqual([
      1n,
      2n,
      expect.any(Number) as number,
    ]);
    const call = client.publishStream();
    for (const tag of [1n, 2n, 3n]) call.publish(tag, "many.a", `tagged ${tag}`, { idempotencyKey: `key ${tag}` });
    expect(await call.finish()).toBeUndefined();
    expect([...call.results]).toEqual([
      [1n, 3n],
      [2n, 4n],
      [3n, 5n],
    ]);
  });

  test("events come in batches, within a limit in bytes, with news of the subscription", async () => {
    await ensureStream("batches");
    const from = { pointer: { case: "start" as const, value: true } };
    const subjects = ["batches.>"];
    await windshift.client.ensureConsumer({ stream: "batches", name: "c", subjects, from, maxProcessingEvents: 100n });
    for (let n = 1; n <= 5; n++) await publish("batches.a", `event ${n}`);
    const more = { maxBatch: 10, statusUpdates: true, maxProcessingBytes: 100_000n };
    const call = await windshift.client.subscribe("batches", "c", 10n, more);
    const texts: (string | undefined)[] = [];
    const states: SubscriptionStatus_State[] = [];
    while (texts.length < 5 || !states.includes(SubscriptionStatus_State.CAUGHT_UP)) {
      const { response } = await call.next();
      if (response.case === "events") {
        texts.push(...response.value.events.map(({ data }) => textOf(data)));
        call.ack(...response.value.events.map(({ id }) => id));
      } else if (response.case === "status") states.push(response.value.state);
      else expect(response.case).toBe("ackConfirmation");
    }
    expect(texts).toEqual([1, 2, 3, 4, 5].map((n) => `event ${n}`));
    expect(states[0]).toBe(SubscriptionStatus_State.ACTIVE);
    await call.cancel();
  });

  test("dead letters are listed, replayed and deleted", async () => {
    const { client } = windshift;
    const admin = new AdminClient(client);
    await ensureStream("letters");
    const place = { stream: "letters", consumer: "c" };
    await client.ensureConsumer({
      stream: "letters",
      name: "c",
      subjects: ["letters.>"],
      deliveryPolicy: { deadLetter: {} },
    });
    const call = await client.subscribe("letters", "c");
    for (const text of ["1", "2"]) {
      const id = await publish("letters.a", text);
      await call.event();
      call.send({ case: "reject", value: { ids: [id], permanently: true, reason: `reason ${text}` } });
      expect(await call.confirmation()).toMatchObject({ ids: [id] });
    }
    const { deadLetters } = await admin.listDeadLetters(place);
    expect(deadLetters).toMatchObject([{ reason: "reason 1" }, { reason: "reason 2" }]);
    const replay = admin.replay({ ...place, events: { case: "ids", value: { ids: [1n] } } });
    expect(await replay.ended).toBeUndefined();
    expect(replay.received.at(-1)).toMatchObject({ case: "summary", value: { replayed: 1n, failed: 0n } });
    expect(textOf((await call.event()).data)).toBe("1");
    const events = { case: "all" as const, value: true };
    expect(await admin.deleteDeadLetters({ ...place, events })).toMatchObject({ ids: [2n], isComplete: true });
    await call.cancel();
  });

  test("events that fail wait, become dead letters, and are replayed", async () => {
    await ensureStream("failing");
    await windshift.client.ensureConsumer({
      stream: "failing",
      name: "c",
      subjects: ["failing.>"],
      deliveryPolicy: { maxAttempts: 2, backoff: [{ nanos: 1_000_000 }], deadLetter: {} },
    });
    const call = await windshift.client.subscribe("failing", "c");
    const id = await publish("failing.a", "bad");
    for (const attempt of [1n, 2n]) {
      expect((await call.event()).deliveryAttempt).toBe(attempt);
      call.send({ case: "reject", value: { ids: [id], reason: `reason ${attempt}` } });
      expect(await call.confirmation()).toMatchObject({ ids: [id] });
    }
    await using opened = await openDeadLetters(nats.url);
    const { letters } = await opened.letters.list("failing", "c", { size: 10 }, {});
    expect(letters).toMatchObject([{ id, attempts: 2, cause: "attempts", reason: "reason 2" }]);
    expect(await opened.letters.replay("failing", "c", [id], {}, {})).toEqual({ done: 1, missing: [] });
    expect(textOf((await call.event()).data)).toBe("bad");
    await call.cancel();
  });

  test.for([
    ["start", { case: "start", value: true }, "1"],
    ["offset", { case: "offset", value: 2n }, "2"],
  ] as const)("an ephemeral consumer begins at %s", async ([name, pointer, expected]) => {
    const stream = `from_${name}`;
    await ensureStream(stream);
    for (const text of ["1", "2", "3"]) await publish(`${stream}.a`, text);
    const from = { pointer };
    const { id } = await windshift.client.ensureConsumer({ stream, subjects: [`${stream}.a`], from });
    const call = await windshift.client.subscribe(stream, id);
    expect(textOf((await call.event()).data)).toBe(expected);
    await call.cancel();
  });

  test("a mirror and an aggregate with filters hold what they copy", async () => {
    await ensureStream("origin");
    for (const subject of ["origin.a", "origin.b", "origin.a"]) await publish(subject);
    await windshift.client.ensureStream({
      name: "mirror",
      source: { case: "mirror", value: { name: "origin", from: { pointer: { case: "offset", value: 2n } } } },
    });
    await windshift.client.ensureStream({
      name: "aggregate",
      source: { case: "aggregate", value: { sources: [{ name: "origin", filterSubjects: ["origin.a"] }] } },
    });
    for (const [stream, expected] of Object.entries({
      mirror: ["origin.b", "origin.a"],
      aggregate: ["origin.a", "origin.a"],
    })) {
      const { id } = await windshift.client.ensureConsumer({
        stream,
        subjects: ["origin.>"],
        from: { pointer: { case: "start", value: true } },
      });
      const call = await windshift.client.subscribe(stream, id);
      const events = await call.take(2);
      expect(events.map(({ subject }) => subject)).toEqual(expected);
      await call.cancel();
    }
  });

  test("an event is read by its id, and as the last one of its subject", async () => {
    await ensureStream("get");
    for (const text of ["1", "2"]) await publish("get.a", text);
    const get = async (event: GetEventRequest["event"]) =>
      textOf((await windshift.client.getEvent({ stream: "get", event })).event!.data);
    expect(await get({ case: "id", value: 1n })).toBe("1");
    expect(await get({ case: "lastOfSubject", value: "get.a" })).toBe("2");
    expect(await failure(get({ case: "id", value: 3n }))).toMatchObject({ reason: "EVENT_NOT_FOUND" });
  });

  test("a stream is read forward, backward and on and on", async () => {
    const { client } = windshift;
    await ensureStream("read");
    for (const text of ["1", "2", "3", "4"]) await publish(text === "3" ? "read.b" : "read.a", text);
    const read = async (request: object) =>
      (await client.readEvents({ stream: "read", ...request }).events()).map(({ id }) => id);
    expect(await read({})).toEqual([1n, 2n, 3n, 4n]);
    expect(await read({ backward: true, limit: 3n })).toEqual([4n, 3n, 2n]);
    expect(await read({ subjects: ["read.b", "read.c"] })).toEqual([3n]);
    expect(await read({ subjects: ["read.a"], backward: true })).toEqual([4n, 2n, 1n]);
    const from = { pointer: { case: "time" as const, value: timestampFromMs(0) } };
    expect(await read({ from, limit: 1n })).toEqual([1n]);
    const call = client.readEvents({ stream: "read", follow: true, subjects: ["read.a"] }).collect();
    await expect.poll(() => call.told).toEqual([1n, 2n, 4n, "caught up at 4"]);
    await publish("read.a", "5");
    await expect.poll(() => call.told.at(-1)).toBe(5n);
    await call.cancel();
  });

  test("a reading that begins behind the end of the stream shows nothing of before", async () => {
    await ensureStream("ahead");
    await publish("ahead.a");
    const from = { pointer: { case: "offset" as const, value: 4n } };
    const call = windshift.client.readEvents({ stream: "ahead", from, follow: true, limit: 2n }).collect();
    await expect.poll(() => call.told).toHaveLength(1);
    for (let id = 2; id <= 5; id++) await publish("ahead.a");
    await expect.poll(() => call.told.slice(1)).toEqual([4n, 5n]);
  });

  test("values are set, compared, read and deleted", async () => {
    const { client } = windshift;
    await client.ensureStore({ store: "settings" });
    const place = { store: "settings", key: "a.b" };
    expect(await client.get(place)).toMatchObject({ revision: 0n });
    const { revision } = await client.set({ ...place, value: textValue("1"), createOnly: true });
    expect(await failure(client.set({ ...place, value: textValue("2"), createOnly: true }))).toMatchObject({
      status: "ALREADY_EXISTS",
    });
    const { revision: next } = await client.set({ ...place, value: textValue("2"), lastRevision: revision });
    const found = await client.get(place);
    expect(found.revision).toBe(next);
    expect(textOf(found.value)).toBe("2");
    expect(await failure(client.delete({ ...place, lastRevision: revision }))).toMatchObject({
      status: "FAILED_PRECONDITION",
    });
    await client.delete({ ...place, lastRevision: next });
    expect(await client.get(place)).toMatchObject({ revision: 0n });
    await client.set({ ...place, value: textValue("3"), createOnly: true });
  });

  test("streams and stores are listed, purged and deleted", async () => {
    const admin = new AdminClient(windshift.client);
    await ensureStream("admin");
    for (const text of ["1", "2", "3"]) await publish("admin.a", text);
    const { streams } = await admin.listStreams({ pageSize: 1000 });
    expect(streams.find(({ name }) => name === "admin")).toMatchObject({ state: { events: 3n, lastId: 3n } });
    expect(await admin.purgeStream({ stream: "admin", events: { case: "beforeId", value: 3n } })).toMatchObject({
      purged: 2n,
    });
    expect(await admin.deleteStream({ stream: "admin" })).toMatchObject({ stream: { state: { events: 1n } } });
    await windshift.client.ensureStore({ store: "admin" });
    expect((await admin.listStores({})).stores.map(({ name }) => name)).toContain("admin");
    expect(await admin.deleteStore({ store: "admin" })).toMatchObject({ store: { name: "admin" } });
  });

  test("a consumer is looked into and reset, and cannot be paused", async () => {
    const { client } = windshift;
    const admin = new AdminClient(client);
    await ensureStream("reset");
    for (const text of ["1", "2", "3"]) await publish("reset.a", text);
    const from = { pointer: { case: "start" as const, value: true } };
    const { id } = await client.ensureConsumer({ stream: "reset", name: "c", subjects: ["reset.>"], from });
    const call = await client.subscribe("reset", id);
    for (const event of await call.take(3)) await call.ackNow(event.id);
    const { consumer, subscriptions } = await admin.getConsumer({ stream: "reset", id });
    expect(consumer).toMatchObject({ state: { pending: 0n, lastDeliveredId: 3n } });
    expect(subscriptions).toHaveLength(1);
    const to = { pointer: { case: "offset" as const, value: 2n } };
    expect(await admin.resetConsumer({ stream: "reset", id, to })).toMatchObject({
      recreated: true,
      endedSubscriptions: 1,
      consumer: { id, state: { pending: 2n } },
    });
    expect(await call.ended).toMatchObject({ status: "ABORTED" });
    const again = await client.subscribe("reset", id);
    expect((await again.take(2)).map((event) => event.id)).toEqual([2n, 3n]);
    await again.cancel();
    const until = timestampFromMs(Date.now() + 60_000);
    const tooOld = { status: "FAILED_PRECONDITION", reason: "NATS_TOO_OLD" };
    expect(await failure(admin.pauseConsumer({ stream: "reset", id, until }))).toMatchObject(tooOld);
    expect(await failure(admin.resumeConsumer({ stream: "reset", id }))).toMatchObject(tooOld);
  });

  test("the consumer of a work queue is set to its start alone", async () => {
    const admin = new AdminClient(windshift.client);
    const connection = await connect({ servers: nats.url });
    const jsm = await jetstreamManager(connection);
    await jsm.streams.add({ name: "queue", subjects: ["queue.>"], retention: RetentionPolicy.Workqueue });
    await jsm.consumers.add("queue", { durable_name: "c", ack_policy: AckPolicy.Explicit });
    await connection.close();
    const reset = async (pointer: StreamPointer["pointer"]) =>
      admin.resetConsumer({ stream: "queue", id: "c", to: { pointer } });
    expect(await failure(reset({ case: "offset", value: 2n }))).toMatchObject({ status: "FAILED_PRECONDITION" });
    expect(await reset({ case: "start", value: true })).toMatchObject({ recreated: true });
  });
});

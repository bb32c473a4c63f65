/** Subscriptions: delivery, settlement, credit, redelivery, and each way in which one ends. */
import { setImmediate as immediate } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import { AckPolicy, DeliverPolicy, jetstream } from "@nats-io/jetstream";
import { headers } from "@nats-io/nats-core";
import { describe, expect } from "vitest";
import { EventsRequestSchema } from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { CallError, type Client, EVENTS, type EventsCall, textOf } from "../support/client.ts";
import { confirmed, consumerState, createSource, duration, publishMany } from "../support/consuming.ts";
import { test } from "../support/fixtures.ts";
import { SettlementTap } from "../support/settlement-tap.ts";
import { startWindshift } from "../support/windshift.ts";

type Request = Parameters<EventsCall["send"]>[0];

/** Settles ids in each way there is. */
const SETTLEMENTS: { kind: string; request: (...ids: bigint[]) => Request }[] = [
  { kind: "ack", request: (...ids) => ({ case: "ack", value: { ids } }) },
  { kind: "reject", request: (...ids) => ({ case: "reject", value: { ids, delay: duration(300_000) } }) },
  { kind: "permanent reject", request: (...ids) => ({ case: "reject", value: { ids, permanently: true } }) },
];

/** Proves that nothing came before this point: the next response has to be the confirmation of an id that nobody has. */
async function nothingCame(call: EventsCall): Promise<void> {
  call.send({ case: "ping", value: { ids: [999_999n] } });
  expect(await call.confirmation()).toEqual(confirmed({ invalidIds: [999_999n] }));
}

/** The error that a call ends with, whatever it says before. */
async function endOf(call: EventsCall): Promise<CallError> {
  const error = await call.ended;
  if (error === undefined) throw new Error("the call ended with OK");
  return error;
}

describe("delivery", () => {
  test.for(["Events", "Consume"])("a subscription by the name %s delivers and confirms", async (name, { client }) => {
    const { stream, consumer } = await createSource(client, { events: 1 });
    const call = client.events({}, EVENTS + name);
    call.send({ case: "subscribe", value: { stream, consumer } });
    expect((await call.next()).response.case).toBe("subscribed");
    await call.ackNow((await call.event()).id);
    expect(await call.finish()).toBeUndefined();
  });

  test.for([
    { given: 30_000, told: { seconds: 30n, nanos: 0 } },
    { given: 1_500, told: { seconds: 1n, nanos: 500_000_000 } },
    { given: undefined, told: { seconds: 30n, nanos: 0 } },
  ])("a processing timeout of $given ms is told when subscribed", async ({ given, told }, { client }) => {
    const { stream } = await createSource(client);
    await client.ensureConsumer({
      stream,
      name: "other",
      subjects: [`${stream}.>`],
      ...(given === undefined ? {} : { processingTimeout: duration(given) }),
    });
    const call = client.events();
    call.send({ case: "subscribe", value: { stream, consumer: "other" } });
    const { response } = await call.next();
    expect(response).toMatchObject({ case: "subscribed", value: { processingTimeout: told } });
    await call.cancel();
  });

  test("events come in the order of their ids, as they were published", async ({ client }) => {
    const { stream, consumer, subject } = await createSource(client);
    const timestamp = { seconds: 1_600_000_000n, nanos: 123_456_789 };
    const first = await client.publish(subject, "one", { timestamp, idempotencyKey: "key 1" });
    const second = await client.publish(`${stream}.b.c`, "two");
    const call = await client.subscribe(stream, consumer);
    const [one, two] = await call.take(2);
    expect(one).toMatchObject({ id: first, subject, deliveryAttempt: 1n });
    expect(one!.headers).toMatchObject({ timestamp, idempotencyKey: "key 1" });
    expect(one!.data!.typeUrl).toBe("type.googleapis.com/windshift.test.v1.StringValue");
    expect(two).toMatchObject({ id: second, subject: `${stream}.b.c`, deliveryAttempt: 1n });
    expect(two!.headers!.idempotencyKey).toBeUndefined();
    expect([one, two].map((event) => textOf(event!.data))).toEqual(["one", "two"]);
    await call.cancel();
  });

  test("events that are published later come at once", async ({ client }) => {
    const { stream, consumer, subject } = await createSource(client);
    const call = await client.subscribe(stream, consumer);
    for (const text of ["a", "b", "c"]) {
      const id = await client.publish(subject, text);
      const event = await call.event();
      expect({ id: event.id, text: textOf(event.data) }).toEqual({ id, text });
    }
    await call.cancel();
  });

  test("events of plain NATS writers are delivered, with JetStream's own time", async ({ client, natsClient, jsm }) => {
    const { stream, consumer, subject } = await createSource(client);
    const js = jetstream(natsClient);
    const bad = headers();
    bad.set("WS-Published-Time", "yesterday");
    bad.set("X-Other", "kept");
    const zoned = headers();
    zoned.set("WS-Published-Time", "2021-03-04T05:06:07.000000008+02:00");
    zoned.set("WS-Data-Type", "acme.v1.Thing");
    zoned.set("Nats-Msg-Id", "k1");
    await js.publish(subject, "plain");
    await js.publish(subject, "bad time", { headers: bad });
    await js.publish(subject, "", { headers: zoned });
    const call = await client.subscribe(stream, consumer);
    const [plain, unreadable, foreign] = await call.take(3);

    for (const [event, text] of [
      [plain!, "plain"],
      [unreadable!, "bad time"],
    ] as const) {
      const stored = await jsm.streams.getMessage(stream, { seq: Number(event.id) });
      expect(Buffer.from(event.data!.value).toString()).toBe(text);
      expect(event.data!.typeUrl).toBe("");
      expect(timeText(event.headers!.timestamp!)).toBe(stored!.timestamp.replace(/0*Z$/, "Z"));
      expect(event.headers!.idempotencyKey).toBeUndefined();
    }
    expect(timeText(foreign!.headers!.timestamp!)).toBe("2021-03-04T03:06:07.000000008Z");
    expect(foreign!.data).toMatchObject({ typeUrl: "type.googleapis.com/acme.v1.Thing" });
    expect(foreign!.headers!.idempotencyKey).toBe("k1");
    await call.cancel();
  });

  test("a consumer made by NATS tools is served with its own settings", async ({ client, jsm }) => {
    const { stream } = await createSource(client, { events: 3 });
    await jsm.consumers.add(stream, {
      durable_name: "tool",
      ack_policy: AckPolicy.Explicit,
      deliver_policy: DeliverPolicy.All,
      ack_wait: 90_000_000_000,
      max_waiting: 1,
      max_batch: 1,
      max_expires: 2_000_000_000,
    });
    const call = await client.subscribe(stream, "tool");
    const events = await call.take(3);
    call.ack(...events.map(({ id }) => id));
    expect((await call.confirmation()).ids).toEqual([1n, 2n, 3n]);
    await call.cancel();
  });

  test.for([
    { what: "that pushes", config: { ack_policy: AckPolicy.Explicit, deliver_subject: "somewhere" } },
    { what: "that delivers headers only", config: { ack_policy: AckPolicy.Explicit, headers_only: true } },
    { what: "without acknowledgement", config: { ack_policy: AckPolicy.None } },
    { what: "that acknowledges all before", config: { ack_policy: AckPolicy.All } },
  ])("a consumer $what is refused", async ({ config }, { client, jsm }) => {
    const { stream } = await createSource(client);
    await jsm.consumers.add(stream, { durable_name: "odd", ...config });
    const call = client.events();
    call.send({ case: "subscribe", value: { stream, consumer: "odd" } });
    expect(await endOf(call)).toMatchObject({ status: "FAILED_PRECONDITION", reason: "CONFIGURATION_REFUSED" });
  });
});

describe("settlement", () => {
  test.for(SETTLEMENTS)("$kind lists each id under exactly one", async ({ request }, { client }) => {
    const { stream, consumer } = await createSource(client, { events: 3 });
    const call = await client.subscribe(stream, consumer);
    await call.take(3);
    const beyond = [2n ** 53n, 2n ** 53n + 1n, 2n ** 63n, 2n ** 64n - 1n];

    call.send(request(1n, 4n, 0n, 3n, ...beyond));
    expect(await call.confirmation()).toEqual(confirmed({ ids: [1n, 3n], invalidIds: [4n, 0n, ...beyond] }));
    call.send(request(1n, 2n));
    expect(await call.confirmation()).toEqual(confirmed({ ids: [2n], invalidIds: [1n] }));
    await call.cancel();
  });

  test.for(SETTLEMENTS)(
    "of an id repeated within one $kind the first mention takes",
    async ({ request }, { client }) => {
      const { stream, consumer } = await createSource(client, { events: 1 });
      const call = await client.subscribe(stream, consumer);
      await call.event();
      call.send(request(1n, 1n, 1n));
      expect(await call.confirmation()).toEqual(confirmed({ ids: [1n], invalidIds: [1n, 1n] }));
      await call.cancel();
    },
  );

  test.for(SETTLEMENTS)("$kind of nothing is confirmed with nothing", async ({ request }, { client }) => {
    const { stream, consumer } = await createSource(client);
    const call = await client.subscribe(stream, consumer);
    call.send(request());
    expect(await call.confirmation()).toEqual(confirmed({}));
    await call.cancel();
  });

  test.for(SETTLEMENTS)("$kind of what another subscription holds is refused", async ({ request }, { client, jsm }) => {
    const source = await createSource(client, { events: 2 });
    const one = await client.subscribe(source.stream, source.consumer, 1n);
    const two = await client.subscribe(source.stream, source.consumer, 1n);
    const [mine, theirs] = [await one.event(), await two.event()];
    expect(mine.id).not.toBe(theirs.id);
    one.send(request(theirs.id));
    expect(await one.confirmation()).toEqual(confirmed({ invalidIds: [theirs.id] }));
    expect(await consumerState(jsm, source)).toMatchObject({ held: 2 });
    two.send(request(theirs.id));
    expect(await two.confirmation()).toEqual(confirmed({ ids: [theirs.id] }));
    await Promise.all([one.cancel(), two.cancel()]);
  });

  test("ping of held, settled and unknown ids is told apart", async ({ client }) => {
    const { stream, consumer } = await createSource(client, { events: 2 });
    const call = await client.subscribe(stream, consumer);
    await call.take(2);
    await call.ackNow(1n);
    call.send({ case: "ping", value: { ids: [1n, 2n, 3n, 2n ** 64n - 1n] } });
    expect(await call.confirmation()).toEqual(confirmed({ ids: [2n], invalidIds: [1n, 3n, 2n ** 64n - 1n] }));
    await call.ackNow(2n);
    await call.cancel();
  });

  test("an ack that was confirmed is a fact in JetStream", async ({ client, jsm }) => {
    const source = await createSource(client, { events: 100 });
    const call = await client.subscribe(source.stream, source.consumer, 100n);
    const events = await call.take(100);
    call.ack(...events.map(({ id }) => id));
    expect((await call.confirmation()).ids).toHaveLength(100);
    const { ack_floor: floor, num_ack_pending: held } = await jsm.consumers.info(source.stream, source.consumer);
    expect({ floor: floor.stream_seq, held }).toEqual({ floor: 100, held: 0 });
    await call.cancel();
  });

  test("of acks that leave together the last one alone asks for an answer", async ({ client, natsClient, jsm }) => {
    const source = await createSource(client, { events: 20 });
    const asked: boolean[] = [];
    natsClient.subscribe(`$JS.ACK.${source.stream}.>`, {
      callback: (_error, { reply }) => void asked.push(reply !== undefined && reply !== ""),
    });
    await natsClient.flush();
    const call = await client.subscribe(source.stream, source.consumer, 20n);
    const events = await call.take(20);
    call.ack(...events.map(({ id }) => id));
    expect((await call.confirmation()).ids).toHaveLength(20);
    expect(await consumerState(jsm, source)).toMatchObject({ held: 0 });
    await expect.poll(() => asked).toEqual([...Array.from({ length: 19 }, () => false), true]);
    await call.cancel();
  });

  test("requests that follow each other at once are each confirmed, in any kind", async ({ client, jsm }) => {
    const source = await createSource(client, { events: 4 });
    const call = await client.subscribe(source.stream, source.consumer);
    await call.take(4);
    call.send({ case: "ping", value: { ids: [1n, 2n] } });
    call.ack(1n);
    call.send({ case: "reject", value: { ids: [2n], permanently: true } });
    call.send({ case: "ping", value: { ids: [1n, 3n] } });
    call.ack(3n, 4n, 1n);
    const seen = new Map<string, bigint[][]>();
    for (let count = 0; count < 5; count++) {
      const { response } = await call.next();
      if (response.case === undefined || !("value" in response) || !("invalidIds" in response.value)) {
        throw new Error(`expected a confirmation, got ${response.case}`);
      }
      const { ids, invalidIds, temporaryFailedIds } = response.value;
      expect(temporaryFailedIds).toEqual([]);
      seen.set(response.case, [...(seen.get(response.case) ?? []), ids, invalidIds]);
    }
    expect(Object.fromEntries(seen)).toEqual({
      pingConfirmation: [[1n, 2n], [], [3n], [1n]],
      ackConfirmation: [[1n], [], [3n, 4n], [1n]],
      rejectConfirmation: [[2n], []],
    });
    expect(await consumerState(jsm, source)).toMatchObject({ held: 0, waiting: 0 });
    await call.cancel();
  });
});

describe("credit", () => {
  test.for([
    { asked: undefined, window: 50 },
    { asked: 0n, window: 50 },
    { asked: 1n, window: 1 },
    { asked: 7n, window: 7 },
    { asked: 300n, window: 300 },
  ])("a window of $asked brings $window events at once and never one more", async (row, { client, jsm }) => {
    const rest = 20;
    const source = await createSource(client, { events: row.window + rest });
    const call = await client.subscribe(source.stream, source.consumer, row.asked);
    const events = await call.take(row.window);
    expect(events.map(({ id }) => id)).toEqual(Array.from({ length: row.window }, (_, index) => BigInt(index + 1)));
    const full = { held: row.window, waiting: rest, pulls: 0, redelivered: 0 };
    await expect.poll(() => consumerState(jsm, source)).toEqual(full);
    await nothingCame(call);

    // A ping frees nothing; each ack makes room for one.
    call.send({ case: "ping", value: { ids: [1n] } });
    expect((await call.confirmation()).ids).toEqual([1n]);
    await nothingCame(call);
    for (let count = 1; count <= 5; count++) {
      await call.ackNow(BigInt(count));
      expect((await call.event()).id).toBe(BigInt(row.window + count));
      await expect.poll(() => consumerState(jsm, source)).toEqual({ ...full, waiting: rest - count });
      await nothingCame(call);
    }
    await call.cancel();
  });

  test("acks of several at once make room for as many", async ({ client, jsm }) => {
    const source = await createSource(client, { events: 40 });
    const call = await client.subscribe(source.stream, source.consumer, 10n);
    await call.take(10);
    call.ack(9n, 3n, 1n, 77n, 3n);
    expect((await call.confirmation()).ids).toHaveLength(3);
    expect((await call.take(3)).map(({ id }) => id)).toEqual([11n, 12n, 13n]);
    await expect.poll(() => consumerState(jsm, source)).toEqual({ held: 10, waiting: 27, pulls: 0, redelivered: 0 });
    await nothingCame(call);
    await call.cancel();
  });

  test("an enormous window is bounded by the server", async ({ nats, client, jsm }) => {
    await using small = await startWindshift(nats.url, { MAX_PROCESSING_EVENTS: "20" });
    const source = await createSource(client, { events: 30 });
    for (const asked of [2n ** 60n, 2n ** 64n - 1n, 21n]) {
      const call = await small.client.subscribe(source.stream, source.consumer, asked);
      await call.take(20);
      await expect.poll(() => consumerState(jsm, source)).toMatchObject({ held: 20, waiting: 10, pulls: 0 });
      await nothingCame(call);
      await call.finish();
    }
  });

  test("a window that was never full stays exact while events trickle in", async ({ client, jsm }) => {
    const source = await createSource(client);
    const call = await client.subscribe(source.stream, source.consumer, 5n);
    for (let count = 1; count <= 12; count++) {
      await client.publish(source.subject);
      if (count > 5) continue;
      expect((await call.event()).id).toBe(BigInt(count));
    }
    await expect.poll(() => consumerState(jsm, source)).toMatchObject({ held: 5, waiting: 7, pulls: 0 });
    await nothingCame(call);
    await call.cancel();
  });
});

describe("redelivery", () => {
  test("a rejected event comes again at once, with the number of its attempt", async ({ client, jsm }) => {
    const source = await createSource(client, { events: 1 });
    const call = await client.subscribe(source.stream, source.consumer);
    for (let attempt = 1n; attempt <= 5n; attempt++) {
      expect(await call.event()).toMatchObject({ id: 1n, deliveryAttempt: attempt });
      call.send({ case: "reject", value: { ids: [1n] } });
      expect(await call.confirmation()).toEqual(confirmed({ ids: [1n] }));
    }
    expect(await call.event()).toMatchObject({ deliveryAttempt: 6n });
    await call.ackNow(1n);
    expect(await consumerState(jsm, source)).toMatchObject({ held: 0, waiting: 0 });
    await call.cancel();
  });

  test("an event that nobody settles comes again after the processing timeout", async ({ client }) => {
    const { stream, consumer } = await createSource(client, { events: 1, processingTimeoutMs: 500 });
    const call = await client.subscribe(stream, consumer, 1n);
    for (let attempt = 1n; attempt <= 3n; attempt++) {
      expect(await call.event()).toMatchObject({ id: 1n, deliveryAttempt: attempt });
    }
    await call.cancel();
  });

  test("an event rejected with a delay comes after what is published meanwhile", async ({ client }) => {
    const { stream, consumer, subject } = await createSource(client, { events: 1 });
    const call = await client.subscribe(stream, consumer);
    const start = performance.now();
    await call.event();
    call.send({ case: "reject", value: { ids: [1n], delay: duration(2_500) } });
    await call.confirmation();
    await client.publish(subject);
    expect(await call.event()).toMatchObject({ id: 2n, deliveryAttempt: 1n });
    expect(await call.event()).toMatchObject({ id: 1n, deliveryAttempt: 2n });
    // Never early; how late it is depends on the machine.
    expect(performance.now() - start).toBeGreaterThanOrEqual(2_500);
    await call.cancel();
  });

  test("an event rejected permanently never comes again", async ({ client, jsm }) => {
    const source = await createSource(client, { events: 2, processingTimeoutMs: 500 });
    const call = await client.subscribe(source.stream, source.consumer, 1n);
    await call.event();
    call.send({ case: "reject", value: { ids: [1n], permanently: true } });
    expect(await call.confirmation()).toEqual(confirmed({ ids: [1n] }));
    expect(await call.event()).toMatchObject({ id: 2n, deliveryAttempt: 1n });
    // The next to come is the second attempt of the other one: its timeout is as long.
    expect(await call.event()).toMatchObject({ id: 2n, deliveryAttempt: 2n });
    await call.ackNow(2n);
    expect(await consumerState(jsm, source)).toMatchObject({ held: 0, waiting: 0 });
    await call.cancel();
  });

  test.for([
    { what: "permanently", request: { permanently: true, delay: duration(1_000) }, reason: "CONFLICTING_FIELDS" },
    { what: "of zero", request: { delay: duration(0) }, reason: "INVALID_VALUE" },
    { what: "that is negative", request: { delay: duration(-1_000) }, reason: "INVALID_VALUE" },
    { what: "that is no duration", request: { delay: { seconds: 1n, nanos: -1 } }, reason: "INVALID_VALUE" },
  ])("a delay $what is refused, and what was held is handed back", async ({ request, reason }, { client }) => {
    const { stream, consumer } = await createSource(client, { events: 2 });
    const call = await client.subscribe(stream, consumer);
    await call.take(2);
    call.send({ case: "reject", value: { ids: [1n], ...request } });
    expect(await endOf(call)).toMatchObject({ status: "INVALID_ARGUMENT", reason, fields: ["reject.delay"] });
    const next = await client.subscribe(stream, consumer);
    expect((await next.take(2)).map(({ deliveryAttempt }) => deliveryAttempt)).toEqual([2n, 2n]);
    await next.cancel();
  });

  test("pings hold an event beyond its processing timeout", async ({ client, jsm }) => {
    const timeoutMs = 1_500;
    const source = await createSource(client, { events: 1, processingTimeoutMs: timeoutMs });
    const call = await client.subscribe(source.stream, source.consumer);
    const { id } = await call.event();
    const until = performance.now() + 3 * timeoutMs;
    while (performance.now() < until) {
      call.send({ case: "ping", value: { ids: [id] } });
      expect(await call.confirmation()).toEqual(confirmed({ ids: [id] }));
    }
    await call.ackNow(id);
    expect(await consumerState(jsm, source)).toMatchObject({ held: 0, waiting: 0, redelivered: 0 });
    expect((await jsm.consumers.info(source.stream, source.consumer)).delivered.consumer_seq).toBe(1);
    await call.cancel();
  });

  test("a ping and an ack that follows at once both take", async ({ client, jsm }) => {
    const source = await createSource(client, { events: 1 });
    const call = await client.subscribe(source.stream, source.consumer);
    const { id } = await call.event();
    call.send({ case: "ping", value: { ids: [id] } });
    call.ack(id);
    const answers = [await call.next(), await call.next()].map(({ response }) => response);
    expect(answers).toMatchObject([
      { case: "pingConfirmation", value: { ids: [id], invalidIds: [], temporaryFailedIds: [] } },
      { case: "ackConfirmation", value: { ids: [id], invalidIds: [], temporaryFailedIds: [] } },
    ]);
    expect(await consumerState(jsm, source)).toMatchObject({ held: 0 });
    await call.cancel();
  });

  test.for([
    ...SETTLEMENTS,
    { kind: "ping", request: (...ids: bigint[]): Request => ({ case: "ping", value: { ids } }) },
  ])(
    "$kind is refused when the time ran out and another subscription has the event",
    async ({ request }, { client, jsm }) => {
      const source = await createSource(client, { events: 1, processingTimeoutMs: 1_500 });
      const slow = await client.subscribe(source.stream, source.consumer, 1n);
      const { id } = await slow.event();
      const other = await client.subscribe(source.stream, source.consumer, 1n);
      expect(await other.event()).toMatchObject({ id, deliveryAttempt: 2n });
      slow.send(request(id));
      expect(await slow.confirmation()).toEqual(confirmed({ invalidIds: [id] }));
      expect(await consumerState(jsm, source)).toMatchObject({ held: 1 });
      await other.ackNow(id);
      await Promise.all([slow.cancel(), other.cancel()]);
    },
  );

  test("events of one subscription may have different times, as a consumer of NATS tools gives them", async ({
    client,
    jsm,
  }) => {
    const { stream } = await createSource(client, { events: 1 });
    // The first attempt has 1 s, all others an hour.
    const backoff = [1_000_000_000, 3_600_000_000_000];
    const ack_policy = AckPolicy.Explicit;
    await jsm.consumers.add(stream, { durable_name: "tool", ack_policy, backoff, max_deliver: 10 });
    const call = await client.subscribe(stream, "tool", 2n);
    expect(await call.event()).toMatchObject({ id: 1n, deliveryAttempt: 1n });
    expect(await call.event()).toMatchObject({ id: 1n, deliveryAttempt: 2n });
    await client.publish(`${stream}.a`);
    // Its time runs out long before that of the event before it, and makes room at once.
    expect(await call.event()).toMatchObject({ id: 2n, deliveryAttempt: 1n });
    expect(await call.event()).toMatchObject({ id: 2n, deliveryAttempt: 2n });
    await call.cancel();
  });

  test("an event that came again here can be settled by its id", async ({ client, jsm }) => {
    const source = await createSource(client, { events: 1, processingTimeoutMs: 1_000 });
    const call = await client.subscribe(source.stream, source.consumer, 1n);
    const { id } = await call.event();
    expect(await call.event()).toMatchObject({ id, deliveryAttempt: 2n });
    await call.ackNow(id);
    expect(await consumerState(jsm, source)).toMatchObject({ held: 0 });
    await call.cancel();
  });
});

describe("half-close", () => {
  test("before subscribing is an error", async ({ client }) => {
    const call = client.events();
    expect(await call.finish()).toMatchObject({ status: "INVALID_ARGUMENT", reason: "UNEXPECTED_MESSAGE" });
  });

  test("right after subscribing ends the call with OK, and events go to the next", async ({ client }) => {
    const { stream, consumer } = await createSource(client, { events: 5 });
    const call = client.events();
    call.send({ case: "subscribe", value: { stream, consumer } });
    expect(await call.finish()).toBeUndefined();
    expect(call.received[0]!.response.case).toBe("subscribed");
    const next = await client.subscribe(stream, consumer);
    expect((await next.take(5)).map(({ id }) => id)).toEqual(expect.arrayContaining([1n, 2n, 3n, 4n, 5n]));
    await next.cancel();
  });

  test("with acks on their way is answered with their confirmations, then OK", async ({ client, jsm }) => {
    const source = await createSource(client, { events: 50 });
    const call = await client.subscribe(source.stream, source.consumer);
    const events = await call.take(50);
    for (const { id } of events) call.ack(id);
    expect(await call.finish()).toBeUndefined();
    const acked = call.received.flatMap(({ response }) =>
      response.case === "ackConfirmation" ? response.value.ids : [],
    );
    expect(acked).toEqual(events.map(({ id }) => id));
    expect(await consumerState(jsm, source)).toMatchObject({ held: 0 });
  });

  test("together with subscribe and acks in one go ends with OK", async ({ client }) => {
    const { stream, consumer } = await createSource(client, { events: 3 });
    const call = client.events();
    call.send({ case: "subscribe", value: { stream, consumer } });
    call.ack(1n, 2n);
    call.ack(3n);
    expect(await call.finish()).toBeUndefined();
    const confirmations = call.received.filter(({ response }) => response.case === "ackConfirmation");
    expect(confirmations).toHaveLength(2);
  });

  test("hands back at once what is still held", async ({ client }) => {
    const { stream, consumer } = await createSource(client, { events: 20 });
    const call = await client.subscribe(stream, consumer);
    await call.take(20);
    call.ack(1n, 2n, 3n, 4n, 5n);
    expect(await call.finish()).toBeUndefined();
    const next = await client.subscribe(stream, consumer);
    const events = await next.take(15);
    expect(events.map(({ id }) => Number(id)).toSorted((a, b) => a - b)).toEqual(
      Array.from({ length: 15 }, (_, index) => index + 6),
    );
    expect(new Set(events.map(({ deliveryAttempt }) => deliveryAttempt))).toEqual(new Set([2n]));
    await next.cancel();
  });
});

describe("a client that leaves", () => {
  test("hands back at once what it held, to those who wait", async ({ client }) => {
    const { stream, consumer } = await createSource(client, { events: 20 });
    const call = await client.subscribe(stream, consumer, 20n);
    await call.take(20);
    const next = await client.subscribe(stream, consumer, 20n);
    await call.cancel();
    const events = await next.take(20);
    expect(new Set(events.map(({ deliveryAttempt }) => deliveryAttempt))).toEqual(new Set([2n]));
    await next.cancel();
  });

  test("leaves nothing stuck, whenever it does", async ({ client, jsm }) => {
    const source = await createSource(client, { events: 50 });
    for (let round = 0; round < 20; round++) {
      const call = client.events();
      call.send({ case: "subscribe", value: { stream: source.stream, consumer: source.consumer } });
      // grpc-js forgets to cancel a call that it has not begun yet.
      await immediate();
      // Without waiting for anything, when subscribed, and with more and more events delivered.
      for (let count = 0; count < round; count++) await call.next();
      await call.cancel();
    }
    const last = await client.subscribe(source.stream, source.consumer, 100n);
    const events = await last.take(50);
    last.ack(...events.map(({ id }) => id));
    expect((await last.confirmation()).ids).toHaveLength(50);
    expect(await consumerState(jsm, source)).toMatchObject({ held: 0, waiting: 0 });
    await last.cancel();
  });

  test("with its connection hands back what it held", async ({ client, windshift }) => {
    const { stream, consumer } = await createSource(client, { events: 5 });
    const leaving = windshift.connect();
    const calls = await Promise.all([1, 2, 3].map(async () => leaving.subscribe(stream, consumer, 2n)));
    const held = await Promise.all([calls[0]!.take(1), calls[1]!.take(1), calls[2]!.take(1)]);
    expect(held.flat()).toHaveLength(3);
    for (const call of calls) call.stream.cancel();
    leaving.close();
    const next = await client.subscribe(stream, consumer);
    const ids = (await next.take(5)).map(({ id }) => Number(id));
    expect(ids.toSorted((a, b) => a - b)).toEqual([1, 2, 3, 4, 5]);
    await next.cancel();
  });

  test("a deadline ends a subscription, and hands back what was held", async ({ client }) => {
    const { stream, consumer } = await createSource(client, { events: 3 });
    const call = client.events({ deadlineMs: 1_500 });
    call.send({ case: "subscribe", value: { stream, consumer } });
    await call.next();
    await call.take(3);
    expect(await endOf(call)).toMatchObject({ status: "DEADLINE_EXCEEDED" });
    const next = await client.subscribe(stream, consumer);
    expect((await next.take(3)).map(({ deliveryAttempt }) => deliveryAttempt)).toEqual([2n, 2n, 2n]);
    await next.cancel();
  });
});

describe("what is not allowed", () => {
  const refusal = (name: string): string => (name === "" ? "MISSING_FIELD" : "INVALID_NAME");
  const unexpected = { status: "INVALID_ARGUMENT", reason: "UNEXPECTED_MESSAGE", fields: ["subscribe"] };

  test.for<{ first: string; request: Request }>([
    { first: "an ack", request: { case: "ack", value: { ids: [1n] } } },
    { first: "a reject", request: { case: "reject", value: { ids: [1n] } } },
    { first: "a ping", request: { case: "ping", value: { ids: [1n] } } },
    { first: "an empty message", request: undefined },
  ])("$first first ends the call", async ({ request }, { client }) => {
    const call = client.events();
    call.send(request);
    expect(await endOf(call)).toMatchObject(unexpected);
  });

  test("subscribing twice ends the call, and hands back what was held", async ({ client }) => {
    const { stream, consumer } = await createSource(client, { events: 3 });
    const call = await client.subscribe(stream, consumer);
    await call.take(3);
    call.send({ case: "subscribe", value: { stream, consumer } });
    expect(await endOf(call)).toMatchObject(unexpected);
    const next = await client.subscribe(stream, consumer);
    await next.take(3);
    await next.cancel();
  });

  test("subscribing twice in one go ends the call", async ({ client }) => {
    const { stream, consumer } = await createSource(client);
    const call = client.events();
    call.send({ case: "subscribe", value: { stream, consumer } });
    call.send({ case: "subscribe", value: { stream, consumer } });
    expect(await endOf(call)).toMatchObject(unexpected);
  });

  test.for([
    { stream: "missing", consumer: "c", error: { status: "NOT_FOUND", reason: "STREAM_NOT_FOUND", fields: [] } },
    {
      stream: undefined,
      consumer: "missing",
      error: { status: "NOT_FOUND", reason: "CONSUMER_NOT_FOUND", fields: [] },
    },
    ...["", "a b", "a.b", "a*", ">", "é", "x".repeat(300)].flatMap((name) => [
      { stream: name, consumer: "c", error: { reason: refusal(name), fields: ["subscribe.stream"] } },
      { stream: undefined, consumer: name, error: { reason: refusal(name), fields: ["subscribe.consumer"] } },
    ]),
  ])(
    "subscribing to stream $stream, consumer $consumer is refused",
    async ({ stream, consumer, error }, { client }) => {
      const existing = await createSource(client);
      const call = client.events();
      call.send({ case: "subscribe", value: { stream: stream ?? existing.stream, consumer } });
      expect(await endOf(call)).toMatchObject({ status: "INVALID_ARGUMENT", ...error });
      expect(call.received).toEqual([]);
    },
  );

  test("an empty message after subscribing is ignored", async ({ client }) => {
    const { stream, consumer } = await createSource(client, { events: 1 });
    const call = client.events();
    call.send({ case: "subscribe", value: { stream, consumer } });
    call.send(undefined);
    await call.next();
    const { id } = await call.event();
    call.stream.write(create(EventsRequestSchema));
    await call.ackNow(id);
    expect(await call.finish()).toBeUndefined();
  });

  test.for([
    { when: "first", subscribed: false },
    { when: "later", subscribed: true },
  ])("bytes that are no message end the call when they come $when", async ({ subscribed }, { client }) => {
    const { stream, consumer } = await createSource(client, { events: 1 });
    const error = await sendGarbage(client, subscribed ? { stream, consumer } : undefined);
    expect(error).toMatchObject({ status: "INVALID_ARGUMENT", reason: "MALFORMED_MESSAGE" });
    const next = await client.subscribe(stream, consumer);
    await next.ackNow((await next.event()).id);
    await next.cancel();
  });
});

describe("a consumer that goes away", () => {
  const ways: { what: string; reason: string; remove: (client: Client, stream: string) => Promise<void> }[] = [
    {
      what: "its consumer is deleted",
      reason: "CONSUMER_NOT_FOUND",
      remove: async (client, stream) => void (await client.deleteConsumer({ stream, id: "c" })),
    },
    {
      what: "its consumer is deleted and made again",
      reason: "CONSUMER_NOT_FOUND",
      remove: async (client, stream) => {
        await client.deleteConsumer({ stream, id: "c" });
        await client.ensureConsumer({ stream, name: "c", subjects: [`${stream}.>`] });
      },
    },
  ];

  for (const full of [false, true]) {
    const state = full ? "with a full window" : "while it waits for events";
    test.for(ways)(`a subscription ends when $what, ${state}`, async ({ reason, remove }, { client }) => {
      const { stream, consumer } = await createSource(client, { events: 2 });
      const call = await client.subscribe(stream, consumer, full ? 2n : 3n);
      await call.take(2);
      await remove(client, stream);
      expect(await endOf(call)).toMatchObject({ status: "NOT_FOUND", reason, metadata: { stream, consumer } });
    });

    test(`a subscription ends when its stream is deleted, ${state}`, async ({ client, jsm }) => {
      const { stream, consumer } = await createSource(client, { events: 2 });
      const call = await client.subscribe(stream, consumer, full ? 2n : 3n);
      await call.take(2);
      await jsm.streams.delete(stream);
      expect(await endOf(call)).toMatchObject({ status: "NOT_FOUND", metadata: { stream } });
    });
  }

  test("all subscriptions of one consumer end with it, those of others go on", async ({ client }) => {
    const { stream, consumer, subject } = await createSource(client);
    await client.ensureConsumer({ stream, name: "other", subjects: [`${stream}.>`] });
    const calls = await Promise.all(Array.from({ length: 20 }, async () => client.subscribe(stream, consumer)));
    const other = await client.subscribe(stream, "other");
    await client.deleteConsumer({ stream, id: consumer });
    for (const error of await Promise.all(calls.map(endOf))) expect(error.status).toBe("NOT_FOUND");
    const id = await client.publish(subject);
    expect((await other.event()).id).toBe(id);
    await other.cancel();
  });

  test("a consumer whose settings change goes on", async ({ client, jsm }) => {
    const { stream, consumer, subject } = await createSource(client, { events: 1 });
    const call = await client.subscribe(stream, consumer);
    await call.event();
    const subjects = [`${stream}.a`, `${stream}.b`];
    await client.ensureConsumer({ stream, name: consumer, subjects, processingTimeout: duration(500_000) });
    expect((await jsm.consumers.info(stream, consumer)).config.filter_subjects).toEqual(subjects);
    const id = await client.publish(subject);
    expect((await call.event()).id).toBe(id);
    await call.ackNow(1n);
    await call.cancel();
  });
});

describe("a server that stops", () => {
  test("ends its subscriptions with UNAVAILABLE and hands back what was held", async ({ nats, client }) => {
    const { stream, consumer } = await createSource(client, { events: 10 });
    const stopping = await startWindshift(nats.url, { SHUTDOWN_GRACE: "1s" });
    const call = await stopping.client.subscribe(stream, consumer);
    await call.take(10);
    const idle = await stopping.client.subscribe(stream, consumer);
    await stopping[Symbol.asyncDispose]();
    for (const error of [await endOf(call), await endOf(idle)]) {
      expect(error).toMatchObject({ status: "UNAVAILABLE", reason: "SERVER_DRAINING" });
    }
    const next = await client.subscribe(stream, consumer);
    const events = await next.take(10);
    expect(new Set(events.map(({ deliveryAttempt }) => deliveryAttempt))).toEqual(new Set([2n]));
    await next.cancel();
  });

  test("lets a client settle what it holds, and brings it nothing new", async ({ nats, client, jsm }) => {
    const source = await createSource(client, { events: 3 });
    const stopping = await startWindshift(nats.url, { SHUTDOWN_GRACE: "60s" });
    const call = await stopping.client.subscribe(source.stream, source.consumer);
    await call.take(3);
    const stopped = stopping.daemon[Symbol.asyncDispose]();
    await expect.poll(() => consumerState(jsm, source)).toMatchObject({ held: 3, pulls: 0 });
    await publishMany(client, source.subject, 2);
    await nothingCame(call);
    await call.ackNow(1n);
    call.ack(2n, 3n);
    expect((await call.confirmation()).ids).toEqual([2n, 3n]);
    expect(await endOf(call)).toMatchObject({ status: "UNAVAILABLE", reason: "SERVER_DRAINING" });
    await stopped;
    expect(await consumerState(jsm, source)).toMatchObject({ held: 0, waiting: 2 });
    await stopping[Symbol.asyncDispose]();
  });

  test("still looks after their consumer: one that is made anew ends them", async ({
    nats,
    client,
    jsm,
    natsClient,
  }) => {
    const source = await createSource(client, { events: 3 });
    const { stream, consumer } = source;
    const stopping = await startWindshift(nats.url, { SHUTDOWN_GRACE: "300s" });
    const call = await stopping.client.subscribe(stream, consumer);
    await call.take(3);
    const stopped = stopping.daemon[Symbol.asyncDispose]();
    await expect.poll(() => consumerState(jsm, source)).toMatchObject({ held: 3, pulls: 0 });
    using tap = await SettlementTap.open(natsClient, source);
    const { config } = await jsm.consumers.info(stream, consumer);
    await jsm.consumers.delete(stream, consumer);
    await jsm.consumers.add(stream, config);
    expect(await endOf(call)).toMatchObject({ status: "NOT_FOUND", reason: "CONSUMER_NOT_FOUND" });
    await stopped;
    // Nor is anything handed back.
    await natsClient.flush();
    expect(tap.told).toEqual([]);
    await stopping[Symbol.asyncDispose]();
  });

  test("lets a call that was half-closed finish", async ({ nats, client, jsm }) => {
    const source = await createSource(client, { events: 200 });
    const stopping = await startWindshift(nats.url);
    const call = await stopping.client.subscribe(source.stream, source.consumer, 200n);
    const events = await call.take(200);
    for (const { id } of events) call.ack(id);
    const ended = call.finish();
    await stopping[Symbol.asyncDispose]();
    const end = await ended;
    const acked = call.received.flatMap(({ response }) =>
      response.case === "ackConfirmation" ? response.value.ids : [],
    );
    // The server may have stopped before it had read all; what it took is confirmed and done.
    if (end === undefined) expect(acked).toHaveLength(200);
    expect((await consumerState(jsm, source)).held).toBeLessThanOrEqual(200 - acked.length);
  });
});

/** A call whose first message, or the one after `subscribe`, is garbage; returns what it ends with. */
async function sendGarbage(client: Client, subscribe?: { stream: string; consumer: string }): Promise<CallError> {
  const { promise, resolve } = Promise.withResolvers<CallError>();
  const stream = client.grpc.makeBidiStreamRequest(
    `${EVENTS}Events`,
    (bytes: Buffer) => bytes,
    (bytes) => bytes,
  );
  stream.on("error", (error) => resolve(new CallError(error as never)));
  stream.on("data", () => stream.write(Buffer.from([0xff, 0xff, 0xff])));
  if (subscribe === undefined) {
    stream.write(Buffer.from([0x0a, 0x7f, 0x01]));
  } else {
    const inner = Buffer.concat([text(1, subscribe.stream), text(2, subscribe.consumer)]);
    stream.write(Buffer.concat([Buffer.from([0x0a, inner.length]), inner]));
  }
  return promise;
}

function text(field: number, value: string): Buffer {
  return Buffer.concat([Buffer.from([field * 8 + 2, value.length]), Buffer.from(value)]);
}

/** RFC 3339, without trailing zeros, as JetStream writes it. */
function timeText({ seconds, nanos }: { seconds: bigint; nanos: number }): string {
  const whole = new Date(Number(seconds) * 1000).toISOString().slice(0, 19);
  const fraction = String(nanos).padStart(9, "0").replace(/0+$/, "");
  return fraction === "" ? `${whole}Z` : `${whole}.${fraction}Z`;
}

test("an id that one ping names several times is under one list each time: first done, then invalid", async ({
  client,
}) => {
  const { stream, consumer } = await createSource(client, { events: 1 });
  const call = await client.subscribe(stream, consumer);
  const { id } = await call.event();
  call.send({ case: "ping", value: { ids: Array.from({ length: 12 }, () => id) } });
  const { ids, invalidIds, temporaryFailedIds } = await call.confirmation();
  expect({ ids, invalid: invalidIds.length, failed: temporaryFailedIds }).toEqual({
    ids: [id],
    invalid: 11,
    failed: [],
  });
  await call.cancel();
});

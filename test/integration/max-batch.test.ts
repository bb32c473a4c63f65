/** Subscriptions that take several events in one message. */
import type { JetStreamManager } from "@nats-io/jetstream";
import { describe, expect } from "vitest";
import { type Event, SubscriptionStatus_State as State } from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import type { Client, EventsCall } from "../support/client.ts";
import { type Source, consumerState, createSource, publishMany } from "../support/consuming.ts";
import { test } from "../support/fixtures.ts";
import { startNats } from "../support/nats.ts";
import { startWindshift } from "../support/windshift.ts";

const PATIENT = { timeout: 30_000 };
const WINDOW = 1_000n;

interface More {
  readonly statusUpdates?: boolean;
  readonly maxProcessingBytes?: bigint;
}

async function subscribe(
  client: Client,
  { stream, consumer }: Source,
  maxBatch: number,
  window = WINDOW,
  more: More = {},
): Promise<EventsCall> {
  return client.subscribe(stream, consumer, window, { maxBatch, ...more });
}

/** What came in messages of several, message by message. */
function batches({ received }: EventsCall): Event[][] {
  return received.flatMap(({ response }) => (response.case === "events" ? [response.value.events] : []));
}

function batched(call: EventsCall): bigint[] {
  return batches(call).flatMap((events) => events.map(({ id }) => id));
}

function ids(from: number, to: number): bigint[] {
  return Array.from({ length: to - from + 1 }, (_, index) => BigInt(from + index));
}

function kinds({ received }: EventsCall): (string | undefined)[] {
  return received.map(({ response }) => response.case);
}

async function settled(jsm: JetStreamManager, source: Source): Promise<void> {
  await expect.poll(() => consumerState(jsm, source)).toMatchObject({ held: 0, waiting: 0 });
}

describe("a subscription with max_batch", () => {
  test("gets what is there in messages of at most so many, in order, each event once", async ({ client, jsm }) => {
    const source = await createSource(client, { events: 250 });
    const call = await subscribe(client, source, 7);
    await expect.poll(() => batched(call)).toEqual(ids(1, 250));
    const sizes = batches(call).map(({ length }) => length);
    expect(Math.max(...sizes)).toBe(7);
    // One read from NATS brings dozens, so most are full.
    expect(sizes.length).toBeLessThan(100);
    expect(new Set(kinds(call))).toEqual(new Set(["subscribed", "events"]));
    call.ack(...batched(call));
    await settled(jsm, source);
    await call.cancel();
  });

  test("waits for no more than are there", async ({ client }) => {
    const source = await createSource(client);
    const call = await subscribe(client, source, 100);
    for (const id of ids(1, 5)) {
      await client.publish(source.subject);
      await expect.poll(() => batched(call).at(-1)).toBe(id);
    }
    expect(batches(call).map(({ length }) => length)).toEqual([1, 1, 1, 1, 1]);
    await call.cancel();
  });

  test("gets events as they are, each with its attempt", async ({ client }) => {
    const source = await createSource(client);
    await client.publish(source.subject, "text", { idempotencyKey: "key" });
    const call = await subscribe(client, source, 10);
    await expect.poll(() => batched(call)).toEqual([1n]);
    const [first] = batches(call)[0]!;
    expect(first).toMatchObject({ subject: source.subject, deliveryAttempt: 1n, headers: { idempotencyKey: "key" } });
    call.send({ case: "reject", value: { ids: [1n] } });
    await expect.poll(() => batched(call)).toEqual([1n, 1n]);
    expect(batches(call)[1]![0]).toMatchObject({ id: 1n, deliveryAttempt: 2n });
    await call.cancel();
  });

  test("holds no more than its window", async ({ client, jsm }) => {
    const source = await createSource(client, { events: 30 });
    const call = await subscribe(client, source, 100, 10n);
    await expect.poll(() => batched(call)).toEqual(ids(1, 10));
    call.ack(1n, 2n, 3n);
    await expect.poll(() => batched(call)).toEqual(ids(1, 13));
    expect(await consumerState(jsm, source)).toMatchObject({ held: 10, waiting: 17 });
    await call.cancel();
  });

  test.for([0, 1])("of %i gets single events", async (maxBatch, { client }) => {
    const source = await createSource(client, { events: 3 });
    const call = await subscribe(client, source, maxBatch);
    expect((await call.take(3)).map(({ id }) => id)).toEqual(ids(1, 3));
    await call.cancel();
  });

  test("of the largest number is bounded by its window", async ({ client }) => {
    const source = await createSource(client, { events: 50 });
    const call = await subscribe(client, source, 2 ** 32 - 1, 20n);
    await expect.poll(() => batched(call)).toEqual(ids(1, 20));
    await call.cancel();
  });

  test("gets no message larger than clients take unless told otherwise", async ({ client }) => {
    const source = await createSource(client);
    const data = { typeUrl: "type.googleapis.com/acme.Blob", value: new Uint8Array(300 * 1024).fill(7) };
    for (let n = 0; n < 20; n++) await client.publishEvent({ subject: source.subject, data });
    const call = await subscribe(client, source, 100);
    await expect.poll(() => batched(call), PATIENT).toEqual(ids(1, 20));
    for (const events of batches(call)) expect(events.length).toBeLessThanOrEqual(3);
    await call.cancel();
  });
});

describe("the order of what is sent is kept", () => {
  test("a confirmation and the news of having caught up come behind the events before them", async ({
    client,
    jsm,
  }) => {
    const source = await createSource(client, { events: 100 });
    const call = await subscribe(client, source, 1_000, 40n, { statusUpdates: true });
    const acked = new Set<bigint>();
    const confirmed = new Set<bigint>();
    const ackAll = (): number => {
      for (const events of batches(call)) {
        const fresh = events.map(({ id }) => id).filter((id) => !acked.has(id));
        for (const id of fresh) acked.add(id);
        if (fresh.length > 0) call.ack(...fresh);
      }
      return acked.size;
    };
    await expect.poll(ackAll).toBe(100);
    await settled(jsm, source);
    await expect.poll(() => kinds(call).filter((kind) => kind === "ackConfirmation").length).toBeGreaterThan(0);

    const seen = new Set<bigint>();
    for (const { response } of call.received) {
      if (response.case === "events") for (const { id } of response.value.events) seen.add(id);
      if (response.case === "ackConfirmation") {
        for (const id of response.value.ids) {
          expect(seen).toContain(id);
          confirmed.add(id);
        }
      }
      if (response.case === "status" && response.value.state === State.CAUGHT_UP) expect(seen.size).toBe(100);
    }
    expect(seen.size).toBe(100);
    const told = call.received.flatMap(({ response }) => (response.case === "status" ? [response.value.state] : []));
    expect(told).toEqual([State.ACTIVE, State.CAUGHT_UP]);
    await expect
      .poll(
        () =>
          call.received.flatMap(({ response }) => (response.case === "ackConfirmation" ? response.value.ids : []))
            .length,
      )
      .toBe(100);
    await call.cancel();
  });

  test("a server that leaves has sent its events before, and takes what its clients settle", async ({ nats, jsm }) => {
    await using windshift = await startWindshift(nats.url, { SHUTDOWN_GRACE: "20s" });
    const source = await createSource(windshift.client, { events: 30 });
    const call = await subscribe(windshift.client, source, 100, WINDOW, { statusUpdates: true });
    await expect.poll(() => batched(call)).toEqual(ids(1, 30));
    const stopped = windshift.daemon[Symbol.asyncDispose]();
    await expect.poll(() => call.received.at(-1)?.response.value).toMatchObject({ state: State.DRAINING });
    call.ack(...ids(1, 30));
    expect(await call.ended).toMatchObject({ status: "UNAVAILABLE", reason: "SERVER_DRAINING" });
    await stopped;
    expect(await consumerState(jsm, source)).toMatchObject({ held: 0, waiting: 0 });
  });
});

test.for(["cancel", "half-close"])("what was held comes again after a %s", async (end, { client, jsm }) => {
  const source = await createSource(client, { events: 60 });
  const call = await subscribe(client, source, 100);
  await expect.poll(() => batched(call)).toEqual(ids(1, 60));
  call.ack(...ids(1, 20));
  await expect.poll(() => kinds(call)).toContain("ackConfirmation");
  if (end === "cancel") await call.cancel();
  else expect(await call.finish()).toBeUndefined();
  const next = await subscribe(client, source, 100);
  await expect.poll(() => batched(next).toSorted((a, b) => Number(a - b))).toEqual(ids(21, 60));
  next.ack(...batched(next));
  await settled(jsm, source);
  await next.cancel();
});

test("a client that does not read is given a bounded amount, and the rest when it reads", async ({
  windshift,
  client,
  jsm,
}) => {
  const source = await createSource(client);
  const data = { typeUrl: "type.googleapis.com/acme.Blob", value: new Uint8Array(900 * 1024).fill(7) };
  for (let n = 0; n < 40; n++) await client.publishEvent({ subject: source.subject, data });
  const deaf = windshift.connect();
  const call = deaf.events();
  call.stream.pause();
  const { stream, consumer } = source;
  call.send({ case: "subscribe", value: { stream, consumer, maxProcessingEvents: WINDOW, maxBatch: 100 } });
  await expect.poll(async () => (await consumerState(jsm, source)).held).toBeGreaterThan(0);
  // Something else goes through from end to end meanwhile.
  const other = await createSource(client, { events: 5 });
  const beside = await subscribe(client, other, 100);
  await expect.poll(() => batched(beside)).toEqual(ids(1, 5));
  const { held, waiting } = await consumerState(jsm, source);
  expect(held).toBeLessThanOrEqual(20);
  expect(waiting).toBe(40 - held);

  call.stream.resume();
  await expect.poll(() => batched(call), PATIENT).toEqual(ids(1, 40));
  await beside.cancel();
  deaf.close();
});

test("events go on in messages of several after a restart of NATS", async () => {
  await using nats = await startNats();
  await using windshift = await startWindshift(nats.url);
  const { client } = windshift;
  const source = await createSource(client, { events: 10 });
  const call = await subscribe(client, source, 100);
  await expect.poll(() => batched(call)).toEqual(ids(1, 10));
  call.ack(...ids(1, 10));
  await expect.poll(() => kinds(call)).toContain("ackConfirmation");
  await nats.restart();
  await expect.poll(async () => client.publish(source.subject).catch(() => undefined), PATIENT).toBe(11n);
  await publishMany(client, source.subject, 9);
  await expect.poll(() => batched(call).toSorted((a, b) => Number(a - b)), PATIENT).toEqual(ids(1, 20));
  await call.cancel();
});

/** What a subscription may hold in bytes, and what all subscriptions of a consumer may hold together. */
import { describe, expect } from "vitest";
import type { Event } from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import type { Client, EventsCall } from "../support/client.ts";
import { type Source, Worker, consumerState, createSource, duration } from "../support/consuming.ts";
import { test } from "../support/fixtures.ts";
import { startWindshift } from "../support/windshift.ts";

/** More than subject, headers and acknowledgement subject of an event in these tests. */
const OVERHEAD = 300;

async function publishSizes(client: Client, { subject }: Source, sizes: readonly number[]): Promise<void> {
  for (const size of sizes)
    await client.publishEvent({ subject, data: { typeUrl: "x/test.Sized", value: Buffer.alloc(size) } });
}

function sizesOf(events: readonly Event[]): number[] {
  return events.map(({ data }) => data!.value.length);
}

/** Payload sizes of everything that came, also of what nobody has asked for yet. */
function received(call: EventsCall): number[] {
  return sizesOf(call.received.flatMap(({ response }) => (response.case === "event" ? [response.value] : [])));
}

describe("max_processing_bytes", () => {
  test("holds back what would exceed it, until there is room", async ({ client, jsm }) => {
    const source = await createSource(client);
    await publishSizes(client, source, [1000, 1000, 1000, 1000, 1000]);
    const maxProcessingBytes = BigInt(3 * 1000 + OVERHEAD + 3 * OVERHEAD);
    const call = await client.subscribe(source.stream, source.consumer, undefined, { maxProcessingBytes });
    const events = await call.take(3);
    await expect.poll(() => consumerState(jsm, source)).toMatchObject({ held: 3, waiting: 2 });
    await call.ackNow(events[1]!.id);
    await expect.poll(() => received(call)).toHaveLength(4);
    call.ack(events[0]!.id);
    await expect.poll(() => received(call)).toHaveLength(5);
    expect(await consumerState(jsm, source)).toMatchObject({ held: 3, waiting: 0 });
    await call.cancel();
  });

  test("lets a larger event come alone", async ({ client, jsm }) => {
    const source = await createSource(client);
    await publishSizes(client, source, [500, 5000, 7000, 400, 400]);
    const call = await client.subscribe(source.stream, source.consumer, undefined, { maxProcessingBytes: 2000n });
    await call.ackNow((await call.event()).id);
    for (const size of [5000, 7000]) {
      const event = await call.event();
      expect(sizesOf([event])).toEqual([size]);
      expect(await consumerState(jsm, source)).toMatchObject({ held: 1 });
      await call.ackNow(event.id);
    }
    expect(sizesOf(await call.take(2))).toEqual([400, 400]);
    await call.cancel();
  });

  test.for([0n, 2n ** 40n, 2n ** 64n - 1n])(
    "of %s bytes limits nothing here",
    async (maxProcessingBytes, { client }) => {
      const source = await createSource(client, { events: 50 });
      const call = await client.subscribe(source.stream, source.consumer, undefined, { maxProcessingBytes });
      await call.take(50);
      await call.cancel();
    },
  );

  test("of one byte delivers events one by one", async ({ client }) => {
    const source = await createSource(client, { events: 5 });
    const call = await client.subscribe(source.stream, source.consumer, undefined, { maxProcessingBytes: 1n });
    for (let n = 0; n < 5; n++) {
      const { id } = await call.event();
      expect(received(call)).toHaveLength(n + 1);
      await call.ackNow(id);
    }
    await call.cancel();
  });

  test("goes on with smaller events when others took the one that was too large", async ({ client, jsm }) => {
    const source = await createSource(client);
    await publishSizes(client, source, [1000, 1500]);
    const call = await client.subscribe(source.stream, source.consumer, undefined, { maxProcessingBytes: 2000n });
    await call.event();
    const other = await client.subscribe(source.stream, source.consumer, 1n);
    expect(sizesOf([await other.event()])).toEqual([1500]);
    expect(await consumerState(jsm, source)).toMatchObject({ held: 2 });
    await publishSizes(client, source, [200]);
    expect(sizesOf([await call.event()])).toEqual([200]);
    await call.cancel();
    await other.cancel();
  });

  test("counts rejected and expired events no more", async ({ client }) => {
    const source = await createSource(client, { processingTimeoutMs: 1_000 });
    await publishSizes(client, source, [1000, 1000]);
    const call = await client.subscribe(source.stream, source.consumer, undefined, { maxProcessingBytes: 1500n });
    const first = await call.event();
    call.send({ case: "reject", value: { ids: [first.id], delay: duration(600_000) } });
    expect((await call.confirmation()).ids).toEqual([first.id]);
    const second = await call.event();
    const again = await call.event();
    expect([again.id, again.deliveryAttempt]).toEqual([second.id, 2n]);
    await call.cancel();
  });

  test("holds at any instant, and whatever has room arrives", async ({ client, jsm }) => {
    const source = await createSource(client);
    const sizes = Array.from({ length: 300 }, (_, index) => [10, 100, 700, 1300, 2900][(index * 7919) % 5]! + index);
    const publishing = publishSizes(client, source, sizes);
    const [limit, largest] = [10_000, 2900 + sizes.length + OVERHEAD];
    const maxProcessingBytes = BigInt(limit);
    const call = await client.subscribe(source.stream, source.consumer, undefined, { maxProcessingBytes });
    const held: Event[] = [];
    for (let count = 0; count < sizes.length;) {
      const { response } = await call.next();
      if (response.case !== "event") continue;
      count += 1;
      held.push(response.value);
      const bytes = sizesOf(held).reduce((sum, size) => sum + size, 0);
      expect(bytes, `${sizesOf(held).join(" + ")} bytes`).toBeLessThanOrEqual(limit);
      // While the largest has room, the next one has to come.
      if (bytes + held.length * OVERHEAD + largest <= limit) continue;
      call.ack(...held.splice(count % 2, held.length).map(({ id }) => id));
    }
    call.ack(...held.map(({ id }) => id));
    await publishing;
    await expect.poll(() => consumerState(jsm, source)).toMatchObject({ held: 0, waiting: 0 });
    await call.cancel();
  });
});

describe("max_processing_events of a consumer", () => {
  test("limits all its subscriptions together, on two servers", async ({ nats, client, jsm }) => {
    await using other = await startWindshift(nats.url);
    const source = await createSource(client, { events: 8 });
    await ensureLimit(client, source, 3n);
    const calls = await Promise.all(
      [client, other.client, client].map(async (each) => each.subscribe(source.stream, source.consumer)),
    );
    const all = () => calls.flatMap((call) => received(call));
    await expect.poll(() => consumerState(jsm, source)).toMatchObject({ held: 3, waiting: 5 });
    await expect.poll(all).toHaveLength(3);
    const holder = calls.find((call) => received(call).length > 0)!;
    const first = await holder.event();

    // Rejected and waiting for its delay, it still counts.
    holder.send({ case: "reject", value: { ids: [first.id], delay: duration(600_000) } });
    await expect.poll(() => confirmedIds(holder)).toEqual([first.id]);
    expect(await consumerState(jsm, source)).toMatchObject({ held: 3, waiting: 5 });

    await ensureLimit(client, source, 5n);
    await expect.poll(all).toHaveLength(5);
    expect(await consumerState(jsm, source)).toMatchObject({ held: 5, waiting: 3 });

    await ensureLimit(client, source, 0n);
    await expect.poll(all).toHaveLength(8);
    await Promise.all(calls.map(async (call) => call.cancel()));
  });

  test("makes room with every ack", async ({ client, jsm }) => {
    const source = await createSource(client, { events: 20 });
    await ensureLimit(client, source, 1n);
    const workers = await Promise.all(
      [1, 2].map(async () => new Worker(await client.subscribe(source.stream, source.consumer))),
    );
    await expect.poll(() => consumerState(jsm, source)).toMatchObject({ held: 0, waiting: 0 });
    expect(workers.flatMap(({ delivered }) => delivered)).toHaveLength(20);
    await Promise.all(workers.map(async ({ call }) => call.cancel()));
  });
});

async function ensureLimit(client: Client, { stream, consumer }: Source, maxProcessingEvents: bigint): Promise<void> {
  const subjects = [`${stream}.>`];
  await client.ensureConsumer({
    stream,
    name: consumer,
    subjects,
    maxProcessingEvents,
    processingTimeout: duration(600_000),
  });
}

function confirmedIds({ received: responses }: EventsCall): bigint[] {
  return responses.flatMap(({ response }) => (response.case === "rejectConfirmation" ? response.value.ids : []));
}

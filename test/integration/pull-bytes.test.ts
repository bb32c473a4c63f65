/** Requests for events are limited in bytes too, and nats-server has more than one way to end them. */
import { AckPolicy, DeliverPolicy } from "@nats-io/jetstream";
import { expect } from "vitest";
import { test } from "../support/fixtures.ts";

const REQUEST_BYTES = 4096;
/** Digits of the nanoseconds since the epoch, which are part of a delivery's reply subject. */
const TIME_DIGITS = 19;

test("a request whose bytes are used up to the last one is followed by another at once", async ({
  client,
  jsm,
  natsClient,
}) => {
  await jsm.streams.add({ name: "bytes", subjects: ["bytes.a"] });
  await jsm.consumers.add("bytes", {
    durable_name: "c",
    ack_policy: AckPolicy.Explicit,
    deliver_policy: DeliverPolicy.All,
    max_bytes: REQUEST_BYTES,
  });
  // Subject, reply subject (all its numbers have one digit here) and payload of two events make up the whole request.
  const overhead = "bytes.a".length + "$JS.ACK.bytes.c.1.1.1..1".length + TIME_DIGITS;
  const half = Buffer.alloc(REQUEST_BYTES / 2 - overhead, 1);
  for (const payload of [half, half, half]) natsClient.publish("bytes.a", payload);
  await expect.poll(async () => (await jsm.streams.info("bytes")).state.messages).toBe(3);

  const call = await client.subscribe("bytes", "c");
  expect((await call.take(2)).map(({ id }) => id)).toEqual([1n, 2n]);
  // A request that ended in silence would be missed after two heartbeats only, 20 s.
  await expect.poll(() => call.received.length, { timeout: 10_000 }).toBe(4);
  await call.cancel();
});

/** The thinnest way through: a stream, a consumer, an event published, consumed and acknowledged. */
import { expect } from "vitest";
import { textOf } from "../support/client.ts";
import { test, uniqueName } from "../support/fixtures.ts";

test("an event that was published is consumed and acknowledged", async ({ client, jsm }) => {
  const stream = uniqueName();
  await client.ensureStream({ name: stream, source: { case: "subjects", value: { subjects: [`${stream}.>`] } } });
  const { id: consumer } = await client.ensureConsumer({ stream, name: "c", subjects: [`${stream}.a`] });
  const published = await client.publish(`${stream}.a`, "first");

  const call = await client.subscribe(stream, consumer);
  const event = await call.event();
  expect(event).toMatchObject({ id: published, subject: `${stream}.a`, deliveryAttempt: 1n });
  expect(textOf(event.data)).toBe("first");

  await call.ackNow(event.id);
  const { num_ack_pending: pending, ack_floor: floor } = await jsm.consumers.info(stream, consumer);
  expect({ pending, floor: floor.stream_seq }).toEqual({ pending: 0, floor: Number(published) });
  expect(await call.finish()).toBeUndefined();
});

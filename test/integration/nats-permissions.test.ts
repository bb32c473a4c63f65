/** The permissions in NATS that docs/security.md gives the server: enough for everything, and no more. */
import { readFileSync } from "node:fs";
import { connect } from "@nats-io/transport-node";
import { expect, test } from "vitest";
import {
  CancelScheduledEventRequestSchema,
  PublishEventsRequestSchema,
} from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { METHODS, methodPaths } from "../../src/rpc.ts";
import { type Client, failure, textOf, textValue } from "../support/client.ts";
import { section } from "../support/markdown.ts";
import { REQUESTS, encode, endOf } from "../support/requests.ts";
import { startNats } from "../support/nats.ts";
import { startWindshift } from "../support/windshift.ts";

const DOCUMENT = readFileSync(new URL("../../docs/security.md", import.meta.url), "utf8");
/** With the subjects of these tests. */
const PERMISSIONS = section(DOCUMENT, "nats-permissions")
  .split("```")[1]!
  .replace(`"orders.>"`, `"orders.>", "more.>", "all.>"`);
const WINDSHIFT = { user: "windshift", pass: "s3cret" };
const CONFIG = `
accounts { shop {
  jetstream: enabled
  users: [
    { user: operator, password: s3cret }
    { user: ${WINDSHIFT.user}, password: ${WINDSHIFT.pass}
${PERMISSIONS}
    }
  ]
} }`;
const ENV = { NATS_USER: WINDSHIFT.user, NATS_PASSWORD: WINDSHIFT.pass, NATS_INBOX_PREFIX: "_INBOX_windshift" };

test("the documented permissions are enough for every call of the contract", async () => {
  await using nats = await startNats({ config: CONFIG });
  await using windshift = await startWindshift(nats.url, ENV);
  const { client } = windshift;
  await useEvents(client);
  await useState(client);
  await useAdditions(client);
  await client.ensureStream({ name: "all", source: { case: "subjects", value: { subjects: ["all.>"] } } });
  await client.ensureConsumer({ stream: "all", name: "there", subjects: ["all.>"] });
  for (const [name, method] of Object.entries(METHODS)) {
    await endOf(client, methodPaths(method)[0]!, REQUESTS[name as keyof typeof METHODS]);
  }
  expect(nats.log.filter((line) => line.includes("Violation"))).toEqual([]);
});

test("they allow neither other subjects nor other answers, and the server says so", async () => {
  await using nats = await startNats({ config: CONFIG });
  await using windshift = await startWindshift(nats.url, ENV);
  await windshift.client.ensureStream({ name: "a", source: { case: "subjects", value: { subjects: ["other.>"] } } });
  expect(await failure(windshift.client.publish("other.a"))).toMatchObject({ status: "PERMISSION_DENIED" });

  const intruder = await connect({ servers: nats.url, ...WINDSHIFT, inboxPrefix: "_INBOX_windshift" });
  try {
    for (const subject of ["orders.>", "$JS.API.>", "$KV.>", "_INBOX.>", ">"]) {
      const refused = Promise.withResolvers<Error | null>();
      intruder.subscribe(subject, { callback: (error) => refused.resolve(error) });
      expect(String(await refused.promise)).toMatch(/Permissions Violation for Subscription/);
    }
  } finally {
    await intruder.close();
  }
});

async function useEvents(client: Client): Promise<void> {
  const source = { case: "subjects" as const, value: { subjects: ["orders.>"] } };
  await client.ensureStream({ name: "orders", source });
  await client.ensureStream({ name: "orders", source, maxEventSize: 1000 });
  await client.ensureStream({ name: "copy", source: { case: "mirror", value: { name: "orders" } } });
  const id = await client.publish("orders.a", "a");
  await client.ensureConsumer({
    stream: "orders",
    name: "billing",
    subjects: ["orders.>"],
    from: { pointer: { case: "start", value: true } },
  });
  await client.ensureConsumer({ stream: "orders", subjects: ["orders.a", "orders.b"] });
  const subscription = await client.subscribe("orders", "billing");
  expect((await subscription.event()).id).toBe(id);
  subscription.send({ case: "ping", value: { ids: [id] } });
  expect((await subscription.confirmation()).ids).toEqual([id]);
  subscription.send({ case: "reject", value: { ids: [id] } });
  expect((await subscription.confirmation()).ids).toEqual([id]);
  expect((await subscription.event()).deliveryAttempt).toBe(2n);
  await subscription.ackNow(id);
  await client.deleteConsumer({ stream: "orders", id: "billing" });
  expect(await subscription.ended).toMatchObject({ reason: "CONSUMER_NOT_FOUND" });
}

/** What goes to subjects of the server's own: dead letters and schedules. */
async function useAdditions(client: Client): Promise<void> {
  const source = { case: "subjects" as const, value: { subjects: ["more.>"] } };
  await client.ensureStream({ name: "more", source, allowScheduling: true, allowAtomic: true, allowTimeToLive: true });
  const id = await client.publish("more.a");
  const inAnHour = { seconds: BigInt(Math.floor(Date.now() / 1000) + 3600), nanos: 0 };
  await client.publish("more.later", "later", { deliverAt: inAnHour, idempotencyKey: "later" });
  const [cancel, publish] = [METHODS.cancelScheduledEvent, METHODS.publishEvents].map((each) => methodPaths(each)[0]!);
  const key = encode(CancelScheduledEventRequestSchema, { stream: "more", idempotencyKey: "later" });
  expect(await endOf(client, cancel!, key)).toBe("OK");
  const events = ["a", "b"].map((each) => ({ subject: `more.${each}`, data: textValue(each) }));
  expect(await endOf(client, publish!, encode(PublishEventsRequestSchema, { events, atomic: true }))).toBe("OK");
  await client.ensureConsumer({
    stream: "more",
    name: "strict",
    subjects: ["more.a"],
    from: { pointer: { case: "start", value: true } },
    deliveryPolicy: { deadLetter: {} },
  });
  const subscription = await client.subscribe("more", "strict", 1n);
  await subscription.event();
  subscription.send({ case: "reject", value: { ids: [id], permanently: true } });
  expect((await subscription.confirmation()).ids).toEqual([id]);
  await subscription.cancel();
}

async function useState(client: Client): Promise<void> {
  await client.ensureStore({ store: "carts" });
  await client.ensureStore({ store: "carts" });
  const { revision } = await client.set({ store: "carts", key: "a", value: textValue("a"), createOnly: true });
  await client.set({ store: "carts", key: "a", value: textValue("b"), lastRevision: revision });
  expect(textOf((await client.get({ store: "carts", key: "a" })).value)).toBe("b");
  await client.delete({ store: "carts", key: "a" });
}

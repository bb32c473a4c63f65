/** More calls than the limits allow, on a NATS that is held up: what is refused, when, and what becomes of the others. */
import { setImmediate as nextTurn } from "node:timers/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { describe, expect, onTestFinished } from "vitest";
import type { PublishEventRequestSchema } from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { Link } from "../chaos/proxy.ts";
import { CallError, type Client, type EventsCall, failure, textValue } from "../support/client.ts";
import { type Source, createSource, publishMany } from "../support/consuming.ts";
import { test as base, uniqueName } from "../support/fixtures.ts";
import { ensureStream } from "../support/publishing.ts";
import { type Windshift, startWindshift } from "../support/windshift.ts";

const IN_FLIGHT = 2;
const WAITING = 3;
const ACCEPTED = IN_FLIGHT + WAITING;
const REFUSED = 4;

type Rest = MessageInitShape<typeof PublishEventRequestSchema>;

/** A server whose NATS is at the end of a link. */
const test = base.extend<{ $file: { link: Link; narrow: Windshift } }>({
  link: [
    async ({ nats }, use) => {
      await using link = await Link.open("nats", () => nats.port);
      await use(link);
    },
    { scope: "file" },
  ],
  narrow: [
    async ({ link }, use) => {
      await using windshift = await startWindshift(`nats://127.0.0.1:${link.port}`, {
        NATS_PUBLISH_ASYNC_MAX_PENDING: String(IN_FLIGHT),
        PUBLISH_QUEUE_LIMIT: String(WAITING),
        READ_MAX_PENDING: String(IN_FLIGHT),
        READ_QUEUE_LIMIT: String(WAITING),
        MANAGEMENT_MAX_PENDING: String(IN_FLIGHT),
        MANAGEMENT_QUEUE_LIMIT: String(WAITING),
        NATS_REQUEST_TIMEOUT: "1m",
      });
      await use(windshift);
    },
    { scope: "file" },
  ],
});

interface Setting {
  readonly client: Client;
  readonly source: Source;
  readonly store: string;
  /** Consumers of the stream, one for each call. */
  readonly consumers: readonly string[];
}

/** Makes what the calls need while NATS answers. */
async function prepare(client: Client): Promise<Setting> {
  const source = await createSource(client);
  await publishMany(client, source.subject, 1);
  const store = uniqueName();
  await client.ensureStore({ store });
  await client.set({ store, key: "k", value: textValue("v") });
  // What is known of a store holds for five seconds.
  await client.get({ store, key: "k" });
  const consumers: string[] = [];
  for (let n = 0; n < ACCEPTED + REFUSED; n++) {
    const { id } = await client.ensureConsumer({
      stream: source.stream,
      name: `n${n}`,
      subjects: [`${source.stream}.>`],
    });
    consumers.push(id);
  }
  return { client, source, store, consumers };
}

type CallOf = (setting: Setting, n: number) => Promise<unknown>;

/** Resolves when the subscription is open; rejects with what ended the call. */
async function subscribe({ client, source }: Setting): Promise<EventsCall> {
  return client.subscribe(source.stream, source.consumer);
}

const WRITES: Record<string, CallOf> = {
  PublishEvent: async ({ client, source }) => client.publish(source.subject),
  Set: async ({ client, store }, n) => client.set({ store, key: `k${n}`, value: textValue("v") }),
  Delete: async ({ client, store }, n) => client.delete({ store, key: `k${n}` }),
  EnsureStream: async ({ client }, n) => {
    const name = uniqueName(`n${n}`);
    await client.ensureStream({ name, source: { case: "subjects", value: { subjects: [`${name}.>`] } } });
  },
  EnsureConsumer: async ({ client, source }, n) =>
    client.ensureConsumer({ stream: source.stream, name: uniqueName(`n${n}`), subjects: [`${source.stream}.>`] }),
  DeleteConsumer: async ({ client, source, consumers }, n) =>
    client.deleteConsumer({ stream: source.stream, id: consumers[n]! }),
  EnsureStore: async ({ client }, n) => client.ensureStore({ store: uniqueName(`n${n}`) }),
};
const OTHERS: Record<string, CallOf> = {
  Get: async ({ client, store }) => client.get({ store, key: "k" }),
  Events: subscribe,
};

/** Starts so many calls on one connection, in order; `ends` fills as they end. */
function start(setting: Setting, call: CallOf, count: number): { all: Promise<void>[]; ends: (CallError | "done")[] } {
  const ends: (CallError | "done")[] = [];
  const all = Array.from({ length: count }, async (_, n) => {
    try {
      await call(setting, n);
      ends.push("done");
    } catch (error) {
      if (!(error instanceof CallError)) throw error;
      ends.push(error);
    }
  });
  return { all, ends };
}

describe.for(Object.entries({ ...WRITES, ...OTHERS }))("%s beyond the limits", ([name, call]) => {
  test("is RESOURCE_EXHAUSTED with RetryInfo before any other call ends, and those end well", async ({
    narrow,
    link,
  }) => {
    const setting = await prepare(narrow.client);
    link.blackHole();
    onTestFinished(() => link.heal());
    const { all, ends } = start(setting, call, ACCEPTED + REFUSED);
    await expect.poll(() => ends.length).toBe(REFUSED);
    for (const end of ends) {
      expect(end).toMatchObject({ status: "RESOURCE_EXHAUSTED", reason: "OVERLOADED", retryAfterMs: 100 });
      expect((end as CallError).metadata["outcome"]).toBe(name in WRITES ? "not_stored" : undefined);
    }
    link.heal();
    await Promise.all(all);
    expect(ends.slice(REFUSED)).toEqual(Array.from({ length: ACCEPTED }, () => "done"));
    // And there is room again.
    const again = start(setting, OTHERS["Get"]!, ACCEPTED);
    await Promise.all(again.all);
    expect(again.ends).toEqual(Array.from({ length: ACCEPTED }, () => "done"));
  });

  test("and NATS lost meanwhile: all that waited is UNAVAILABLE", async ({ narrow, link }) => {
    const setting = await prepare(narrow.client);
    link.blackHole();
    onTestFinished(() => link.heal());
    const { all, ends } = start(setting, call, ACCEPTED + REFUSED);
    await expect.poll(() => ends.length).toBe(REFUSED);
    link.refuse();
    await Promise.all(all);
    for (const end of ends.slice(REFUSED)) expect(end).toMatchObject({ status: "UNAVAILABLE" });
    link.heal();
    await expect.poll(async () => setting.client.publish(setting.source.subject).catch(() => 0n)).toBeGreaterThan(0n);
  });
});

test("a subscription whose client left while it waited is not opened", async ({ narrow, link, jsm }) => {
  const setting = await prepare(narrow.client);
  link.blackHole();
  onTestFinished(() => link.heal());
  const { all } = start(setting, WRITES["EnsureStore"]!, IN_FLIGHT);
  const leaving = narrow.connect().events();
  leaving.send({ case: "subscribe", value: { stream: setting.source.stream, consumer: setting.source.consumer } });
  await nextTurn();
  await leaving.cancel();
  link.heal();
  await Promise.all(all);
  const call = await subscribe(setting);
  await call.event();
  expect((await jsm.consumers.info(setting.source.stream, setting.source.consumer)).num_redelivered).toBe(0);
  await call.cancel();
});

describe("events of a PublishStream that need reads", () => {
  const EVENTS = 100;
  const WAYS: [what: string, prepare: Rest, rest: Rest][] = [
    ["as they are scheduled", {}, { deliverAt: { seconds: 2_208_988_800n } }],
    ["as they repeat a publish with a condition", { expectedLastId: 0n }, { expectedLastId: 0n }],
  ];

  test.for(WAYS)("%s wait their turn, and none is refused", async ([, first, rest], { narrow, client }) => {
    const stream = await ensureStream(client, { allowScheduling: true });
    const publish = async (to: Client, more: Rest) => {
      const call = to.publishStream();
      for (let n = 0; n < EVENTS; n++) {
        call.publish(BigInt(n), `${stream}.${n}`, "x", { idempotencyKey: `k${n}`, ...more });
      }
      expect(await call.finish()).toBeUndefined();
      return [...call.results.values()].filter((result) => result instanceof CallError);
    };
    if (first.expectedLastId !== undefined) expect(await publish(client, first)).toEqual([]);
    expect(await publish(narrow.client, rest)).toEqual([]);
  });
});

test("calls that ask at the same time where to schedule have each its own deadline", async ({ narrow, link }) => {
  const { client } = narrow;
  const stream = await ensureStream(client, { allowScheduling: true });
  link.blackHole();
  onTestFinished(() => link.heal());
  const schedule = async (subject: string, deadlineMs?: number) => {
    const event = { subject, data: textValue("x"), deliverAt: { seconds: 2_208_988_800n } };
    return client.publishEvent(event, deadlineMs === undefined ? {} : { deadlineMs });
  };
  const hasty = failure(schedule(`${stream}.a`, 300));
  const patient = schedule(`${stream}.a`);
  // When that one has ended, the first question would have, too.
  const later = failure(schedule(`${stream}.b`, 800));
  expect(await hasty).toMatchObject({ status: "DEADLINE_EXCEEDED" });
  expect(await later).toMatchObject({ status: "DEADLINE_EXCEEDED" });
  link.heal();
  expect(await patient).toMatchObject({ id: 0n });
});

test("publishes are refused by their bytes too", async ({ link }) => {
  await using windshift = await startWindshift(`nats://127.0.0.1:${link.port}`, {
    PUBLISH_QUEUE_BYTES: "1MiB",
    NATS_REQUEST_TIMEOUT: "1m",
  });
  const setting = await prepare(windshift.client);
  link.blackHole();
  onTestFinished(() => link.heal());
  const large = { typeUrl: "type.googleapis.com/acme.Blob", value: new Uint8Array(300 * 1024) };
  const publish: CallOf = async ({ client, source }) => client.publishEvent({ subject: source.subject, data: large });
  const { all, ends } = start(setting, publish, 5);
  await expect.poll(() => ends.length).toBe(2);
  const refused = { status: "RESOURCE_EXHAUSTED", reason: "OVERLOADED", retryAfterMs: 100 };
  for (const end of ends) expect(end).toMatchObject({ ...refused, metadata: { outcome: "not_stored" } });
  link.heal();
  await Promise.all(all);
  expect(ends.slice(2)).toEqual(["done", "done", "done"]);
});

test("whatever unary calls wait for, there is a limit to them all", async ({ link }) => {
  await using windshift = await startWindshift(`nats://127.0.0.1:${link.port}`, {
    GRPC_MAX_CALLS: "5",
    NATS_REQUEST_TIMEOUT: "1m",
  });
  const setting = await prepare(windshift.client);
  const store = uniqueName();
  await setting.client.ensureStore({ store });
  link.blackHole();
  onTestFinished(() => link.heal());
  // Nothing is known of the store yet: these wait for its configuration.
  const get: CallOf = async ({ client }) => client.get({ store, key: "k" });
  const { all, ends } = start(setting, get, 9);
  await expect.poll(() => ends.length).toBe(4);
  for (const end of ends) {
    expect(end).toMatchObject({ status: "RESOURCE_EXHAUSTED", reason: "OVERLOADED", retryAfterMs: 100 });
  }
  link.heal();
  await Promise.all(all);
  expect(ends.slice(4)).toEqual(Array.from({ length: 5 }, () => "done"));
});

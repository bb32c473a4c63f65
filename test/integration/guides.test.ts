/** The commands of the guides do what these say, one after another, each against a server that has nothing yet. */
import { readFileSync } from "node:fs";
import { type JsonObject, fromJsonString } from "@bufbuild/protobuf";
import { type JetStreamManager, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { expect, test as base } from "vitest";
import { EventsRequestSchema } from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { AdminClient } from "../support/admin-client.ts";
import { type Client, textValue } from "../support/client.ts";
import { until } from "../support/failing.ts";
import { perform, readCommands } from "../support/guide.ts";
import { startNats } from "../support/nats.ts";
import { startWindshift } from "../support/windshift.ts";

const test = base.extend<{ client: Client; jsm: JetStreamManager; natsUrl: string }>({
  natsUrl: async ({}, use) => {
    await using nats = await startNats();
    await use(nats.url);
  },
  client: async ({ natsUrl }, use) => {
    await using windshift = await startWindshift(natsUrl);
    await use(windshift.client);
  },
  jsm: async ({ natsUrl }, use) => {
    const connection = await connect({ servers: natsUrl });
    await use(await jetstreamManager(connection));
    await connection.close();
  },
});

/** The stream of the README. */
async function ensureOrders(client: Client): Promise<void> {
  await client.ensureStream({ name: "orders", source: { case: "subjects", value: { subjects: ["orders.>"] } } });
}

/** Publishes so many events, on one subject after the other. */
async function fill(client: Client, count: number, ...subjects: string[]): Promise<void> {
  const events = Array.from({ length: count }, (_, n) => ({
    subject: subjects[n % subjects.length]!,
    data: textValue(`event ${n}`),
  }));
  const { results } = await client.publishEvents({ events });
  expect(results.every(({ result }) => result.case === "id")).toBe(true);
}

/** What a reading told, in short. */
function told(responses: readonly JsonObject[]): unknown[] {
  return responses.map((response) => {
    const event = response["event"] as JsonObject | undefined;
    return event === undefined ? response : Number(event["id"]);
  });
}

/** From an id to another one, in either direction. */
function ids(first: number, last: number): number[] {
  return Array.from({ length: Math.abs(last - first) + 1 }, (_, n) => (last > first ? first + n : first - n));
}

test("of publishing", async ({ client, jsm }) => {
  const answers: JsonObject[][] = [];
  for (const command of readCommands("publishing.md")) answers.push(await perform(client, command));
  // What is 0 or empty is left out.
  expect(answers).toEqual([
    [{}],
    [{ id: "1" }],
    [{ id: "2" }],
    [{}],
    [{ cancelled: true }],
    [{ results: [{ id: expect.any(String) as string }, { id: expect.any(String) as string }] }],
    [{ results: [{ id: expect.any(String) as string }, { id: expect.any(String) as string }] }],
    [{ tag: "1", id: expect.any(String) as string }],
  ]);
  const { state } = await jsm.streams.info("orders", { subjects_filter: "orders.>" });
  expect(state.subjects).toEqual({
    "orders.created": 4,
    "orders.reserved": 1,
    "orders.paid": 1,
    "orders.shipped": 1,
  });
});

test("of reading", async ({ client }) => {
  await ensureOrders(client);
  await fill(client, 1_010, "orders.created", "orders.paid.later");
  const [byId, ofSubject, ...readings] = readCommands("reading.md");
  expect(told(await perform(client, byId!))).toEqual([1]);
  expect(told(await perform(client, ofSubject!))).toEqual([1_009]);
  const isCaughtUp = (responses: readonly JsonObject[]): boolean => responses.at(-1)!["caughtUp"] !== undefined;
  const caughtUp = { caughtUp: { lastId: "1010" } };
  const expected: readonly (readonly [unknown[], ((responses: readonly JsonObject[]) => boolean)?])[] = [
    [ids(1, 1_010)],
    [ids(1_000, 1_010)],
    [expect.any(Array) as unknown[]],
    [ids(1_010, 1_001)],
    [[...ids(1, 1_010), caughtUp], isCaughtUp],
    [
      [caughtUp, 1_011],
      (responses) => {
        if (isCaughtUp(responses)) void client.publish("orders.created");
        return responses.length === 2;
      },
    ],
  ];
  expect(readings).toHaveLength(expected.length);
  for (const [n, [what, isEnough]] of expected.entries()) {
    expect(told(await perform(client, readings[n]!, isEnough))).toEqual(what);
  }
});

test("of events that fail", async ({ client, jsm }) => {
  await ensureOrders(client);
  const commands = readCommands("delivery.md");
  expect(commands).toHaveLength(1);
  expect(await perform(client, commands[0]!)).toEqual([{ id: "billing" }]);
  const { config } = await jsm.consumers.info("orders", "billing");
  expect(JSON.parse(config.metadata!["windshift.delivery-policy"]!)).toMatchObject({
    max_attempts: 5,
    backoff_ms: [1_000, 10_000, 60_000],
    dead_letter: "orders-dead-letters",
  });
  const text = readFileSync(new URL("../../docs/delivery.md", import.meta.url), "utf8");
  const requests = [...text.matchAll(/^```json\n([^]*?)^```$/gm)];
  expect(requests.map(([, json]) => fromJsonString(EventsRequestSchema, json!).request.case)).toEqual(["reject"]);
});

test("of administration", async ({ client }) => {
  const admin = new AdminClient(client);
  const billing = { stream: "orders", id: "billing" };
  const setUp = async (): Promise<void> => {
    await ensureOrders(client);
    const deliveryPolicy = { deadLetter: {} };
    const from = { pointer: { case: "start" as const, value: true } };
    await client.ensureConsumer({ stream: "orders", name: "billing", subjects: ["orders.>"], from, deliveryPolicy });
    await fill(client, 1_100, "orders.created");
  };
  /** Makes dead letters of the two events that the guide names. */
  const giveUp = async (): Promise<void> => {
    await admin.resetConsumer({ ...billing, to: { pointer: { case: "offset", value: 1_041n } } });
    const call = await client.subscribe("orders", "billing", 100n);
    await call.take(60);
    const given = (): bigint[] =>
      call.received.flatMap(({ response }) => (response.case === "rejectConfirmation" ? response.value.ids : []));
    // One after the other: letters are in the order in which they were stored.
    for (const [n, id] of [1_041n, 1_077n].entries()) {
      call.send({ case: "reject", value: { ids: [id], permanently: true } });
      await until(() => given().length > n);
    }
    await call.cancel();
  };
  const letters = [{ deadLetters: [{ id: "1041" }, { id: "1077" }] }];
  const pending = (count?: number) => [
    { consumer: { id: "billing", state: count === undefined ? {} : { pending: String(count) } } },
  ];
  const replayed = (...pairs: [number, number][]) => [
    ...pairs.map(([id, newId]) => ({ replayed: { id: String(id), newId: String(newId) } })),
    { summary: { replayed: String(pairs.length) } },
  ];
  let nextPageToken = "";
  const steps: readonly (readonly [string, unknown[], (() => Promise<unknown>)?])[] = [
    [
      "ListStreams",
      [{ streams: [{ name: "orders" }, ...Array.from({ length: 19 }, () => ({}))] }],
      async () => {
        await ensureOrders(client);
        await fill(client, 10, "orders.created");
        for (let n = 0; n < 20; n++) {
          await client.ensureStream({
            name: `other${n}`,
            source: { case: "subjects", value: { subjects: [`o${n}`] } },
          });
        }
      },
    ],
    ["ListStreams", [{ streams: [{}] }]],
    ["GetStream", [{ stream: { name: "orders", state: { events: "10" } } }]],
    ["PurgeStream", [{ purged: "10" }]],
    ["PurgeStream", [{ purged: "4" }], async () => fill(client, 8, "orders.created", "orders.test.a")],
    // The ids 11 to 999, without those four.
    ["PurgeStream", [{ purged: "985" }], async () => fill(client, 1_000, "orders.created")],
    ["PurgeStream", [{ purged: "119" }], async () => fill(client, 600, "orders.created")],
    ["DeleteStream", [{ stream: { name: "orders", state: { events: "500" } } }]],
    ["ListConsumers", [{ consumers: [{ id: "billing" }] }], setUp],
    ["GetConsumer", [{ ...pending(1_100)[0], servers: 1 }]],
    ["PauseConsumer", [{ pausedUntil: "2040-12-01T08:00:00Z" }]],
    ["ResumeConsumer", [{}]],
    ["ResetConsumer", pending(1_100)],
    ["ResetConsumer", pending(101)],
    // Whenever that is.
    ["ResetConsumer", [{ consumer: { id: "billing" } }]],
    ["ResetConsumer", pending()],
    ["ListDeadLetters", letters, giveUp],
    ["ListDeadLetters", letters],
    ["ReplayDeadLetters", replayed([1_041, 1_101], [1_077, 1_102])],
    ["ReplayDeadLetters", replayed([1_041, 1_103], [1_077, 1_104]), giveUp],
    ["DeleteDeadLetters", [{ ids: ["1041"], isComplete: true }], giveUp],
    ["DeleteDeadLetters", [{ ids: ["1077"], isComplete: true }]],
    ["ListStores", [{ stores: [{ name: "sessions" }] }], async () => client.ensureStore({ store: "sessions" })],
    ["DeleteStore", [{ store: { name: "sessions" } }]],
  ];
  const commands = readCommands("administration.md");
  expect(commands.map(({ method }) => method.name)).toEqual(steps.map(([name]) => name));
  for (const [n, [, expected, prepare]] of steps.entries()) {
    await prepare?.();
    const { method, json } = commands[n]!;
    const answers = await perform(client, { method, json: json.replace("…", nextPageToken) });
    expect(answers, `${method.name} ${json}`).toMatchObject(expected);
    nextPageToken = (answers[0]?.["nextPageToken"] as string | undefined) ?? "";
  }
});

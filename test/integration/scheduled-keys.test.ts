/** Publishes with the key of an event that is, or was, scheduled: what is answered is stored, once. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { describe, expect } from "vitest";
import type { PublishEventRequestSchema } from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { CallError, type Client, failure, textOf, textValue } from "../support/client.ts";
import { findNothing } from "../support/false-answers.ts";
import { test } from "../support/fixtures.ts";
import { count, ensureStream } from "../support/publishing.ts";

const TIMEOUT = { timeout: 20_000, interval: 50 };
const IN_2040 = { seconds: 2_208_988_800n };
const AT_ONCE = { seconds: 1n };

type Rest = MessageInitShape<typeof PublishEventRequestSchema>;

async function scheduling(client: Client): Promise<string> {
  return ensureStream(client, { allowScheduling: true, allowAtomic: true });
}

/** Schedules an event with this key, and takes it back. */
async function cancelled(client: Client, stream: string, idempotencyKey = "k"): Promise<void> {
  expect(await client.publish(`${stream}.a`, "later", { idempotencyKey, deliverAt: IN_2040 })).toBe(0n);
  expect(await client.cancelScheduledEvent({ stream, idempotencyKey })).toMatchObject({ cancelled: true });
}

/** Each way to publish one event; they resolve with its id. */
const WAYS: readonly [name: string, publish: (client: Client, subject: string, rest: Rest) => Promise<unknown>][] = [
  ["PublishEvent", async (client, subject, rest) => client.publish(subject, "now", rest)],
  [
    "PublishStream",
    async (client, subject, rest) => {
      const call = client.publishStream();
      call.publish(1n, subject, "now", rest);
      await call.finish();
      return call.results.get(1n);
    },
  ],
  [
    "PublishEvents",
    async (client, subject, rest) => {
      const { results } = await client.publishEvents({ events: [{ subject, data: textValue("now"), ...rest }] });
      return results[0]!.result.value;
    },
  ],
];

async function together(client: Client, subject: string, ...rest: readonly Rest[]): Promise<unknown[]> {
  const events = rest.map((each) => ({ subject, data: textValue("now"), ...each }));
  const { results } = await client.publishEvents({ events, atomic: true });
  return results.map(({ result }) => result.value);
}

/** The ids of the events that are stored. */
async function stored(client: Client, stream: string): Promise<bigint[]> {
  return (await client.readEvents({ stream }).events()).map(({ id }) => id);
}

describe("an event with the key of one that was taken back", () => {
  test.for(WAYS)("is stored by %s, once", async ([, publish], { client }) => {
    const stream = await scheduling(client);
    await cancelled(client, stream);
    const id = await publish(client, `${stream}.a`, { idempotencyKey: "k" });
    for (let n = 0; n < 2; n++) expect(await publish(client, `${stream}.a`, { idempotencyKey: "k" })).toBe(id);
    expect(await stored(client, stream)).toEqual([id]);
    const { event } = await client.getEvent({ stream, event: { case: "id", value: id as bigint } });
    expect(textOf(event!.data)).toBe("now");
    expect(event!.headers).toMatchObject({ idempotencyKey: "k", attributes: {} });
  });

  test("is stored once however many publish it at the same time", async ({ client }) => {
    const stream = await scheduling(client);
    await cancelled(client, stream);
    const rest = { idempotencyKey: "k" };
    const ids = await Promise.all(Array.from({ length: 20 }, async () => client.publish(`${stream}.a`, "now", rest)));
    expect(await stored(client, stream)).toEqual([...new Set(ids)]);
  });

  test("is stored as often as one was taken back before it", async ({ client }) => {
    const stream = await scheduling(client);
    for (let n = 0; n < 3; n++) await cancelled(client, stream);
    const id = await client.publish(`${stream}.a`, "now", { idempotencyKey: "k" });
    expect(await stored(client, stream)).toEqual([id]);
  });

  test("is stored on its condition", async ({ client }) => {
    const stream = await scheduling(client);
    await cancelled(client, stream);
    const last = await client.publish(`${stream}.a`);
    const rest = { idempotencyKey: "k", expectedLastId: last };
    const error = await failure(client.publish(`${stream}.a`, "now", { ...rest, expectedLastId: last - 1n }));
    expect(error).toMatchObject({ reason: "LAST_ID_MISMATCH" });
    const id = await client.publish(`${stream}.a`, "now", rest);
    expect(await client.publish(`${stream}.a`, "now", rest)).toBe(id);
    expect(await stored(client, stream)).toEqual([last, id]);
  });

  test("is stored in an atomic batch, once", async ({ client }) => {
    const stream = await scheduling(client);
    await cancelled(client, stream);
    await cancelled(client, stream, "l");
    const batch = async () =>
      together(client, `${stream}.a`, { idempotencyKey: "k" }, {}, { idempotencyKey: "l" }, { idempotencyKey: "m" });
    const ids = await batch();
    expect(await stored(client, stream)).toEqual(ids);
    expect(await failure(batch())).toMatchObject({ status: "ALREADY_EXISTS", reason: "EVENT_EXISTS" });
    for (const idempotencyKey of ["k", "l", "m"]) {
      expect(ids).toContain(await client.publish(`${stream}.a`, "now", { idempotencyKey }));
    }
    expect(await stored(client, stream)).toEqual(ids);
  });

  test("is not stored in an atomic batch when it is stored already", async ({ client }) => {
    const stream = await scheduling(client);
    await cancelled(client, stream);
    const id = await client.publish(`${stream}.a`, "now", { idempotencyKey: "k" });
    expect(await failure(together(client, `${stream}.a`, {}, { idempotencyKey: "k" }))).toMatchObject({
      status: "ALREADY_EXISTS",
    });
    expect(await stored(client, stream)).toEqual([id]);
  });

  test("is not scheduled when it is stored already", async ({ client, jsm }) => {
    const stream = await scheduling(client);
    await cancelled(client, stream);
    const id = await client.publish(`${stream}.a`, "now", { idempotencyKey: "k" });
    expect(await client.publish(`${stream}.a`, "later", { idempotencyKey: "k", deliverAt: IN_2040 })).toBe(id);
    // What is left beside it is the mark of what was taken back.
    expect(await count(jsm, stream)).toBe(2);
  });

  test("is stored where a leader finds nothing because it gives up", async ({ client }) => {
    const stream = await scheduling(client);
    await cancelled(client, stream);
    await client.publish(`${stream}.b`);
    using _ = findNothing(stream, { times: 3 });
    const id = await client.publish(`${stream}.a`, "now", { idempotencyKey: "k" });
    expect(await stored(client, stream)).toContain(id);
  });
});

describe("an event of a publish stream with the key of one that was taken back", () => {
  test("does not come behind a later one of its subject", async ({ client }) => {
    const stream = await scheduling(client);
    await cancelled(client, stream);
    await cancelled(client, stream, "l");
    const call = client.publishStream();
    call.publish(1n, `${stream}.a`, "1", { idempotencyKey: "k" });
    call.publish(2n, `${stream}.b`, "2", { idempotencyKey: "l" });
    call.publish(3n, `${stream}.a`, "3");
    await call.finish();
    const [one, two, three] = [1n, 2n, 3n].map((tag) => call.results.get(tag));
    const isRefused = one instanceof CallError && one.reason === "NO_LEADER" && one.retryAfterMs === 500;
    // Where the later one has not come before JetStream was asked, it is stored, before that one.
    expect(isRefused || (one as bigint) < (three as bigint)).toBe(true);
    const ids = await stored(client, stream);
    expect(ids).toHaveLength(isRefused ? 2 : 3);
    expect(ids).toEqual(expect.arrayContaining([two, three]));
  });
});

describe("an event with the key of one that waits", () => {
  test.for(WAYS)("is not stored by %s, and has no id yet", async ([, publish], { client, jsm }) => {
    const stream = await scheduling(client);
    await client.publish(`${stream}.a`, "later", { idempotencyKey: "k", deliverAt: IN_2040 });
    expect(await publish(client, `${stream}.a`, { idempotencyKey: "k" })).toBe(0n);
    expect(await count(jsm, stream)).toBe(1);
  });

  test("has none yet where that one was scheduled again", async ({ client }) => {
    const stream = await scheduling(client);
    await cancelled(client, stream);
    await client.publish(`${stream}.a`, "later", { idempotencyKey: "k", deliverAt: IN_2040 });
    expect(await client.publish(`${stream}.a`, "now", { idempotencyKey: "k" })).toBe(0n);
    expect(await stored(client, stream)).toEqual([]);
  });

  test("makes an atomic batch ALREADY_EXISTS", async ({ client, jsm }) => {
    const stream = await scheduling(client);
    await client.publish(`${stream}.a`, "later", { idempotencyKey: "k", deliverAt: IN_2040 });
    expect(await failure(together(client, `${stream}.a`, { idempotencyKey: "k" }))).toMatchObject({
      status: "ALREADY_EXISTS",
    });
    expect(await count(jsm, stream)).toBe(1);
  });
});

describe("an event with the key of one that has appeared", () => {
  test.for(WAYS)("has the id of that one by %s", async ([, publish], { client }) => {
    const stream = await scheduling(client);
    await client.publish(`${stream}.a`, "then", { idempotencyKey: "k", deliverAt: AT_ONCE });
    await expect.poll(async () => stored(client, stream), TIMEOUT).toHaveLength(1);
    const [id] = await stored(client, stream);
    expect(await publish(client, `${stream}.a`, { idempotencyKey: "k" })).toBe(id);
    const other = await client.publish(`${stream}.a`, "another");
    expect(await publish(client, `${stream}.a`, { idempotencyKey: "k" })).toBe(id);
    expect(await stored(client, stream)).toEqual([id, other]);
  });

  test("has it where events of the subject came before", async ({ client }) => {
    const stream = await scheduling(client);
    await client.publish(`${stream}.a`, "then", { idempotencyKey: "k", deliverAt: inTwoSeconds() });
    const other = await client.publish(`${stream}.a`, "another");
    await expect.poll(async () => stored(client, stream), TIMEOUT).toHaveLength(2);
    const [id] = (await stored(client, stream)).filter((each) => each !== other);
    expect(await client.publish(`${stream}.a`, "now", { idempotencyKey: "k" })).toBe(id);
  });
});

function inTwoSeconds(): { seconds: bigint } {
  return { seconds: BigInt(Math.floor(Date.now() / 1000) + 2) };
}

test("a repeat of an event is looked for only where events can be scheduled", async ({ client }) => {
  const stream = await ensureStream(client);
  const rest = { idempotencyKey: "k" };
  const id = await client.publish(`${stream}.a`, "x", rest);
  using _ = findNothing(stream, { times: Infinity });
  expect(await client.publish(`${stream}.a`, "x", rest)).toBe(id);
});

test("a repeat of an event costs one read where events can be scheduled", async ({ client }) => {
  const stream = await scheduling(client);
  const rest = { idempotencyKey: "k" };
  const id = await client.publish(`${stream}.a`, "x", rest);
  using _ = findNothing(stream, { times: Infinity, after: 1 });
  expect(await client.publish(`${stream}.a`, "x", rest)).toBe(id);
});

test("an event whose key was stored is not scheduled: the answer is its id", async ({ client, jsm }) => {
  const stream = await scheduling(client);
  const id = await client.publish(`${stream}.a`, "now", { idempotencyKey: "k" });
  expect(await client.publish(`${stream}.a`, "later", { idempotencyKey: "k", deliverAt: IN_2040 })).toBe(id);
  expect(await count(jsm, stream)).toBe(1);
});

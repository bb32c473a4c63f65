/** PublishEvents with atomic: all events in one stream, or none. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { describe, expect } from "vitest";
import {
  ExpectedLastIdScope,
  type PublishEventRequestSchema,
} from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { type Client, failure, textOf, textValue } from "../support/client.ts";
import { test, uniqueName } from "../support/fixtures.ts";
import { startNats, startNatsCluster } from "../support/nats.ts";
import { consume, count, ensureStream } from "../support/publishing.ts";
import { startWindshift } from "../support/windshift.ts";

type NewEvent = MessageInitShape<typeof PublishEventRequestSchema>;

/** Events with a text as their data. */
function eventsOf(...events: readonly (NewEvent & { readonly subject: string })[]): NewEvent[] {
  return events.map((event, index) => ({ data: textValue(`${index}`), ...event }));
}

async function publish(client: Client, events: NewEvent[]): Promise<unknown[]> {
  const { results } = await client.publishEvents({ events, atomic: true });
  return results.map(({ result }) => result.value);
}

const atomic = { allowAtomic: true };

/** How many events a stream has of each subject. */
async function subjectsOf(url: string, stream: string): Promise<Record<string, number>> {
  const connection = await connect({ servers: url });
  try {
    const { state } = await (await jetstreamManager(connection)).streams.info(stream, { subjects_filter: ">" });
    return state.subjects ?? {};
  } finally {
    await connection.close();
  }
}

describe("an atomic batch", () => {
  test("stores all its events in their order, with ids that follow each other", async ({ client }) => {
    const stream = await ensureStream(client, atomic);
    const [a, b] = [`${stream}.a`, `${stream}.b`];
    await client.publish(a);
    expect(await publish(client, eventsOf({ subject: a }, { subject: b }, { subject: a }))).toEqual([2n, 3n, 4n]);
    const delivered = await consume(client, stream, 4);
    expect(delivered.map(({ subject }) => subject)).toEqual([a, a, b, a]);
    expect(delivered.slice(1).map(({ data }) => textOf(data))).toEqual(["0", "1", "2"]);
  });

  test.for([1, 2, 1000])("of %i events", async (length, { client, jsm }) => {
    const stream = await ensureStream(client, atomic);
    const events = Array.from({ length }, (_, n) => ({ subject: `${stream}.${n % 3}`, data: textValue("x") }));
    expect(await publish(client, events)).toEqual(events.map((_, n) => BigInt(n + 1)));
    expect(await count(jsm, stream)).toBe(length);
  });

  test("shows nothing of how it was stored", async ({ client }) => {
    const stream = await ensureStream(client, { ...atomic, allowTimeToLive: true });
    const subject = `${stream}.a`;
    const rest = { attributes: { a: "b" }, timeToLive: { seconds: 60n } };
    await publish(client, eventsOf({ subject, idempotencyKey: "k", ...rest }, { subject }));
    const [first, second] = await consume(client, stream, 2);
    expect(first!.headers).toMatchObject({ idempotencyKey: "k", attributes: { a: "b" } });
    expect(second!.headers!.attributes).toEqual({});
  });

  test("does not mix with others that are stored at the same time", async ({ client }) => {
    const stream = await ensureStream(client, atomic);
    const batches = Array.from({ length: 20 }, async () =>
      publish(client, eventsOf(...Array.from({ length: 20 }, () => ({ subject: `${stream}.a` })))),
    );
    for (const ids of await Promise.all(batches)) {
      expect(ids).toEqual(ids.map((_, n) => (ids[0] as bigint) + BigInt(n)));
    }
  });

  const cases: [what: string, wrong: NewEvent, expected: object, message: RegExp][] = [
    [
      "a subject that is not valid",
      { subject: "a..b" },
      { reason: "INVALID_SUBJECT", fields: ["events[1].subject"] },
      /^events\[1\]\.subject: "a\.\.b"/,
    ],
    [
      "no data",
      { data: undefined as never },
      { reason: "MISSING_FIELD", fields: ["events[1].data"] },
      /^events\[1\]\.data: is required/,
    ],
    [
      "an attribute that is not valid",
      { attributes: { "": "x" } },
      { reason: "INVALID_VALUE", fields: ["events[1].attributes"] },
      /^events\[1\]\.attributes: /,
    ],
    [
      "a time to deliver",
      { deliverAt: { seconds: 1n } },
      { reason: "CONFLICTING_FIELDS", fields: ["events[1].deliver_at"] },
      /cannot be in an atomic batch/,
    ],
    [
      "an expected id of the stream that is not the first",
      { expectedLastId: 0n, expectedLastIdScope: ExpectedLastIdScope.STREAM },
      { reason: "CONFLICTING_FIELDS", fields: ["events[1].expected_last_id_scope"] },
      /for the first event alone/,
    ],
    [
      "an expected id after another event of its subject",
      { expectedLastId: 0n },
      { reason: "CONFLICTING_FIELDS", fields: ["events[1].expected_last_id"] },
      /an event before it has the same subject/,
    ],
    [
      "more data than the stream takes",
      { data: textValue("x".repeat(5000)) },
      { status: "RESOURCE_EXHAUSTED", reason: "EVENT_TOO_LARGE" },
      /^events\[1\]: /,
    ],
    [
      "more data than NATS takes",
      { data: textValue("x".repeat(1024 * 1024)) },
      { status: "RESOURCE_EXHAUSTED", reason: "EVENT_TOO_LARGE" },
      /^events\[1\]\.data: /,
    ],
    [
      "a subject without a stream",
      { subject: "nowhere.at.all" },
      { status: "NOT_FOUND", reason: "SUBJECT_NOT_BOUND" },
      /^events\[1\]: subject: "nowhere\.at\.all"/,
    ],
    [
      "the key of another one",
      { idempotencyKey: "k" },
      { status: "ALREADY_EXISTS", reason: "EVENT_EXISTS", fields: [] },
      /^events\[1\]\.idempotency_key: "k": events\[0\] has the same key/,
    ],
  ];
  test.for(cases)(
    "with %s stores nothing, and says which event it is",
    async ([, wrong, expected, message], { client, jsm }) => {
      const stream = await ensureStream(client, { ...atomic, maxEventSize: 4000 });
      const subject = `${stream}.a`;
      const events = eventsOf({ subject, idempotencyKey: "k" }, { subject, ...wrong }, { subject });
      const error = await failure(publish(client, events));
      expect(error).toMatchObject({ metadata: { index: "1", outcome: "not_stored" }, ...expected });
      if (!("status" in expected)) expect(error.status).toBe("INVALID_ARGUMENT");
      expect(error.message).toMatch(message);
      expect(await count(jsm, stream)).toBe(0);
      // The stream keeps nothing of it for the next one.
      expect(await publish(client, eventsOf({ subject }))).toEqual([1n]);
    },
  );

  test("with a time to live that the stream does not allow stores nothing", async ({ client, jsm }) => {
    const stream = await ensureStream(client, atomic);
    const subject = `${stream}.a`;
    const error = await failure(publish(client, eventsOf({ subject }, { subject, timeToLive: { seconds: 5n } })));
    expect(error).toMatchObject({ status: "FAILED_PRECONDITION", reason: "NOT_ENABLED" });
    expect(error.message).toMatch(/allow_time_to_live/);
    expect(await count(jsm, stream)).toBe(0);
  });

  test.for([
    [0, "MISSING_FIELD", "events: must have at least one event"],
    [1001, "INVALID_VALUE", "events: has 1001 events, at most 1000 may be"],
  ] as const)("of %i events is refused", async ([length, reason, message], { client, jsm }) => {
    const stream = await ensureStream(client, atomic);
    const events = Array.from({ length }, () => ({ subject: `${stream}.a`, data: textValue("x") }));
    const error = await failure(publish(client, events));
    expect(error).toMatchObject({ status: "INVALID_ARGUMENT", reason, fields: ["events"] });
    expect(error.message).toBe(message);
    expect(await count(jsm, stream)).toBe(0);
  });

  test.for([
    [2, "one in the middle", 4],
    [2, "the last one", 3],
    [1, "the last of two", 2],
  ] as const)("over two streams is refused: event %i, %s", async ([other, , length], { client, jsm }) => {
    const [one, two] = [await ensureStream(client, atomic), await ensureStream(client, atomic)];
    const subjects = Array.from({ length }, (_, n) => ({ subject: `${n === other ? two : one}.${n}` }));
    const events = eventsOf(...subjects);
    for (let n = 0; n < 60; n++) {
      const error = await failure(publish(client, events));
      expect(error).toMatchObject({
        status: "INVALID_ARGUMENT",
        reason: "CONFLICTING_FIELDS",
        fields: [`events[${other}].subject`],
        metadata: { index: `${other}`, outcome: "not_stored" },
      });
      expect(error.message).toBe(
        `events[${other}].subject: belongs to stream "${two}", and the first event to "${one}"`,
      );
    }
    expect(await count(jsm, one)).toBe(0);
    expect(await count(jsm, two)).toBe(0);
    // Batches that were given up are gone: a stream takes 50 at a time.
    expect(await publish(client, eventsOf({ subject: `${one}.a` }, { subject: `${one}.b` }))).toEqual([1n, 2n]);
  });

  test.for([
    ["too large", { data: textValue("x".repeat(5000)) }, "EVENT_TOO_LARGE"],
    ["of no stream", { subject: "nowhere.at.all" }, "SUBJECT_NOT_BOUND"],
  ] as const)("whose last event is %s is gone: a stream takes 50 at a time", async ([, wrong, reason], { client }) => {
    const stream = await ensureStream(client, { ...atomic, maxEventSize: 4000 });
    const subject = `${stream}.a`;
    for (let n = 0; n < 60; n++) {
      const error = await failure(publish(client, eventsOf({ subject }, { subject, ...wrong })));
      expect(error).toMatchObject({ reason, metadata: { outcome: "not_stored" } });
    }
    expect(await publish(client, eventsOf({ subject }, { subject }))).toEqual([1n, 2n]);
  });

  test("does not name a subject where JetStream says not which event it refuses", async ({ client }) => {
    const stream = await ensureStream(client, { ...atomic, maxEventSize: 4000 });
    const data = textValue("x".repeat(5000));
    const events = eventsOf({ subject: `${stream}.a` }, { subject: `${stream}.b`, data });
    const error = await failure(publish(client, events));
    expect(error.message).toBe("the event is larger than its stream accepts");
    expect(error.metadata["subject"]).toBeUndefined();
  });

  test("is refused by a stream that does not allow it", async ({ client, jsm }) => {
    const stream = await ensureStream(client);
    for (const events of [[`${stream}.a`], [`${stream}.a`, `${stream}.b`]]) {
      const error = await failure(publish(client, eventsOf(...events.map((subject) => ({ subject })))));
      expect(error).toMatchObject({
        status: "FAILED_PRECONDITION",
        reason: "NOT_ENABLED",
        metadata: { index: "0", outcome: "not_stored" },
      });
      expect(error.message).toMatch(/^events\[0\]: atomic: the stream does not allow it; ensure it with allow_atomic/);
    }
    expect(await count(jsm, stream)).toBe(0);
  });
});

describe("expected ids in an atomic batch", () => {
  test("all have to hold", async ({ client, jsm }) => {
    const stream = await ensureStream(client, atomic);
    const [a, b, c] = [`${stream}.a`, `${stream}.b`, `${stream}.c`];
    const first = await client.publish(a);
    const ids = await publish(
      client,
      eventsOf({ subject: a, expectedLastId: first }, { subject: b, expectedLastId: 0n }),
    );
    expect(ids).toEqual([2n, 3n]);
    const error = await failure(
      publish(client, eventsOf({ subject: a, expectedLastId: 2n }, { subject: b, expectedLastId: 0n }, { subject: c })),
    );
    expect(error).toMatchObject({
      status: "FAILED_PRECONDITION",
      reason: "LAST_ID_MISMATCH",
      metadata: { index: "1", subject: b, outcome: "not_stored" },
    });
    expect(error.message).toBe(`events[1].expected_last_id: 0 is not the id of the last event of "${b}"`);
    expect(await count(jsm, stream)).toBe(3);
  });

  test("may be of the stream for the first event", async ({ client }) => {
    const stream = await ensureStream(client, atomic);
    const expectedLastIdScope = ExpectedLastIdScope.STREAM;
    const batch = async (expectedLastId: bigint) =>
      publish(
        client,
        eventsOf({ subject: `${stream}.a`, expectedLastId, expectedLastIdScope }, { subject: `${stream}.b` }),
      );
    expect(await batch(0n)).toEqual([1n, 2n]);
    expect(await failure(batch(1n))).toMatchObject({ reason: "LAST_ID_MISMATCH", metadata: { index: "0" } });
    expect(await batch(2n)).toEqual([3n, 4n]);
  });

  test("let one of many batches through", async ({ client, jsm }) => {
    const stream = await ensureStream(client, atomic);
    const events = ["a", "b", "c"].map((token) => ({ subject: `${stream}.${token}`, expectedLastId: 0n }));
    const results = await Promise.allSettled(
      Array.from({ length: 10 }, async () => publish(client, eventsOf(...events))),
    );
    expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    expect(await count(jsm, stream)).toBe(3);
  });
});

describe("a key in an atomic batch", () => {
  test("that is stored already refuses all of it", async ({ client, jsm }) => {
    const stream = await ensureStream(client, atomic);
    const subject = `${stream}.a`;
    const events = eventsOf({ subject: `${stream}.b` }, { subject, idempotencyKey: "k" });
    expect(await publish(client, events)).toEqual([1n, 2n]);
    const error = await failure(publish(client, events));
    expect(error).toMatchObject({
      status: "ALREADY_EXISTS",
      reason: "EVENT_EXISTS",
      metadata: { index: "1", outcome: "not_stored" },
    });
    expect(error.message).toBe('events[1].idempotency_key: "k": it is stored already');
    expect(await count(jsm, stream)).toBe(2);
  });

  test("is found among others, where its event is the last of its subject", async ({ client, jsm }) => {
    const stream = await ensureStream(client, atomic);
    await client.publish(`${stream}.b`, "x", { idempotencyKey: "two" });
    await client.publish(`${stream}.c`, "x", { idempotencyKey: "three" });
    await client.publish(`${stream}.c`);
    const batch = async (...keys: string[]) =>
      publish(
        client,
        eventsOf(...keys.map((idempotencyKey, n) => ({ subject: `${stream}.${"abc"[n]}`, idempotencyKey }))),
      );
    expect(await failure(batch("one", "two"))).toMatchObject({ reason: "EVENT_EXISTS", metadata: { index: "1" } });
    const error = await failure(batch("one", "four", "three"));
    expect(error).toMatchObject({ status: "ALREADY_EXISTS", reason: "EVENT_EXISTS" });
    expect(error.metadata["index"]).toBeUndefined();
    expect(await count(jsm, stream)).toBe(3);
    // What was refused may come again without the one that is stored.
    expect(await batch("one", "four")).toEqual([4n, 5n]);
  });

  test("tells of a repeat also where an expected id is wrong by now", async ({ client }) => {
    const stream = await ensureStream(client, atomic);
    const events = eventsOf(
      { subject: `${stream}.a`, idempotencyKey: "a", expectedLastId: 0n },
      { subject: `${stream}.b`, idempotencyKey: "b", expectedLastId: 0n },
    );
    expect(await publish(client, events)).toEqual([1n, 2n]);
    expect(await failure(publish(client, events))).toMatchObject({ reason: "EVENT_EXISTS", metadata: { index: "0" } });
  });
});

describe("while NATS is away", () => {
  test("a batch is not stored, and is refused with that", async () => {
    await using nats = await startNats();
    await using windshift = await startWindshift(nats.url);
    const stream = await ensureStream(windshift.client, atomic);
    const events = eventsOf({ subject: `${stream}.a` }, { subject: `${stream}.b` });
    await nats.stop();
    await expect
      .poll(() => windshift.log.some(({ msg }) => msg === "lost the connection to NATS"), { timeout: 20_000 })
      .toBe(true);
    const error = await failure(publish(windshift.client, events));
    expect(error).toMatchObject({ status: "UNAVAILABLE", metadata: { outcome: "not_stored" } });
    expect(error.retryAfterMs).toBeGreaterThan(0);
  });

  test("batches on their way are stored whole or not at all, as they are told", { timeout: 120_000 }, async () => {
    await using nats = await startNats();
    await using windshift = await startWindshift(nats.url);
    const stream = await ensureStream(windshift.client, atomic);
    const SIZE = 20;
    const events = (batch: number) =>
      Array.from({ length: SIZE }, (_, n) => ({ subject: `${stream}.${batch}`, data: textValue(`${n}`) }));
    const outcomes = new Map<number, string>();
    let batch = 0;
    const work = async (): Promise<void> => {
      while (batch < 600) {
        const mine = batch++;
        if (mine === 200) await nats.kill();
        if (mine === 250) await nats.restart();
        const outcome = await publish(windshift.client, events(mine)).then(
          () => "stored",
          (error: { metadata: Record<string, string> }) => error.metadata["outcome"] ?? "none",
        );
        outcomes.set(mine, outcome);
      }
    };
    await Promise.all(Array.from({ length: 8 }, work));
    await expect
      .poll(async () => (await windshift.client.publish(`${stream}.last`).catch(() => 0n)) > 0n, { timeout: 20_000 })
      .toBe(true);
    const seen = await subjectsOf(nats.url, stream);
    for (const [mine, outcome] of outcomes) {
      const stored = seen[`${stream}.${mine}`] ?? 0;
      if (outcome === "stored") expect([mine, stored]).toEqual([mine, SIZE]);
      else if (outcome === "not_stored") expect([mine, stored]).toEqual([mine, 0]);
      else expect([mine, outcome, [0, SIZE].includes(stored)]).toEqual([mine, "unknown", true]);
    }
    expect(new Set(outcomes.values()).has("stored")).toBe(true);
  });
});

describe("in a cluster", () => {
  test("batches of a replicated stream are stored whole", { timeout: 120_000 }, async () => {
    await using cluster = await startNatsCluster();
    await using windshift = await startWindshift(cluster.urls.join(","));
    const { client } = windshift;
    const stream = await ensureStream(client, { ...atomic, storage: { replicas: 3 } });
    const events = ["a", "b", "c"].map((token) => ({ subject: `${stream}.${token}`, expectedLastId: 0n }));
    const results = await Promise.allSettled(
      Array.from({ length: 10 }, async () => publish(client, eventsOf(...events))),
    );
    expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    const batches = Array.from({ length: 30 }, async () =>
      publish(client, eventsOf(...Array.from({ length: 10 }, () => ({ subject: `${stream}.x` })))),
    );
    for (const ids of await Promise.all(batches)) {
      expect(ids).toEqual(ids.map((_, n) => (ids[0] as bigint) + BigInt(n)));
    }
    expect((await subjectsOf(cluster.urls[0]!, stream))[`${stream}.x`]).toBe(300);
    const key = eventsOf({ subject: `${stream}.k`, idempotencyKey: uniqueName() }, { subject: `${stream}.l` });
    await publish(client, key);
    expect(await failure(publish(client, key))).toMatchObject({ reason: "EVENT_EXISTS", metadata: { index: "0" } });
  });
});

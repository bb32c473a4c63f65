/** `AdminService`: streams. */
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { describe, expect } from "vitest";
import {
  EnsureStreamRequest_DiscardPolicy as DiscardPolicy,
  EnsureStreamRequest_StorageType as StorageType,
} from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { Stream_Retention as Retention } from "../../src/gen/windshift/admin/v1alpha1/admin_pb.ts";
import { AdminClient, allPages } from "../support/admin-client.ts";
import { type Client, failure } from "../support/client.ts";
import { createSource, duration, publishMany } from "../support/consuming.ts";
import { test as base, uniqueName } from "../support/fixtures.ts";

const test = base.extend<{ $test: { admin: AdminClient } }>({
  admin: async ({ client }, use) => {
    await use(new AdminClient(client));
  },
});

async function makeStream(client: Client, name = uniqueName()): Promise<string> {
  await client.ensureStream({ name, source: { case: "subjects", value: { subjects: [`${name}.>`] } } });
  return name;
}

async function listNames(admin: AdminClient, pageSize: number): Promise<string[]> {
  const streams = await allPages(async (pageToken) => {
    const { streams: entries, nextPageToken } = await admin.listStreams({ pageSize, pageToken });
    return { entries, nextPageToken };
  });
  return streams.map(({ name }) => name);
}

describe("ListStreams", () => {
  test("lists all streams once and in order, whatever the size of a page", async ({ client, admin }) => {
    const made = await Promise.all(
      ["list-c", "list-a", "list-b", "list-D"].map(async (name) => makeStream(client, name)),
    );
    const all = await listNames(admin, 1000);
    expect(all).toEqual(all.toSorted((a, b) => (a < b ? -1 : 1)));
    expect(all.filter((name) => name.startsWith("list-"))).toEqual(made.toSorted((a, b) => (a < b ? -1 : 1)));
    for (const size of [1, 2, 3]) expect(await listNames(admin, size)).toEqual(all);
  });

  test("neither repeats nor hides streams while others come and go between its pages", async ({
    client,
    admin,
    jsm,
  }) => {
    const kept = await Promise.all(["k1", "k3", "k5", "k7"].map(async (name) => makeStream(client, `mv-${name}`)));
    await makeStream(client, "mv-k2");
    const seen: string[] = [];
    let pageToken = "";
    let turn = 0;
    do {
      const page = await admin.listStreams({ pageSize: 1, pageToken });
      seen.push(...page.streams.map(({ name }) => name).filter((name) => name.startsWith("mv-")));
      if (seen.includes("mv-k2") && turn++ === 0) {
        await jsm.streams.delete("mv-k2");
        await makeStream(client, "mv-k0");
        await makeStream(client, "mv-k6");
      }
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    expect(seen.filter((name) => kept.includes(name))).toEqual(kept);
    expect(new Set(seen).size).toBe(seen.length);
  });

  test("shows more streams than NATS names at once", { timeout: 180_000 }, async ({ admin, jsm }) => {
    const names = Array.from({ length: 1100 }, (_, index) => `many-${String(index).padStart(4, "0")}`);
    // In memory: it is their number that matters.
    for (let at = 0; at < names.length; at += 50) {
      await Promise.all(
        names.slice(at, at + 50).map(async (name) => jsm.streams.add({ name, subjects: [name], storage: "memory" })),
      );
    }
    const listed = await listNames(admin, 1000);
    for (let at = 0; at < names.length; at += 50) {
      await Promise.all(names.slice(at, at + 50).map(async (name) => jsm.streams.delete(name)));
    }
    expect(listed.filter((name) => name.startsWith("many-"))).toEqual(names);
  });

  test("shows no stores, but streams that only have a name like one", async ({ client, admin }) => {
    await client.ensureStore({ store: "hidden" });
    await makeStream(client, "KV_open");
    const names = await listNames(admin, 1000);
    expect(names).toContain("KV_open");
    expect(names).not.toContain("KV_hidden");
  });

  test("leaves out streams whose names the contract cannot say", async ({ admin, jsm }) => {
    await jsm.streams.add({ name: "odd$name", subjects: ["odd.>"] });
    expect(await listNames(admin, 1000)).not.toContain("odd$name");
  });

  test.for(["nonsense", "AAAA"])("a page token that no server made is refused: %s", async (pageToken, { admin }) => {
    const error = await failure(admin.listStreams({ pageToken }));
    expect(error).toMatchObject({ status: "INVALID_ARGUMENT", fields: ["page_token"] });
  });

  test("a page token of another list is refused", async ({ client, admin }) => {
    await client.ensureStore({ store: "token1" });
    await client.ensureStore({ store: "token2" });
    const { nextPageToken } = await admin.listStores({ pageSize: 1 });
    expect(await failure(admin.listStreams({ pageToken: nextPageToken }))).toMatchObject({ fields: ["page_token"] });
  });
});

describe("GetStream", () => {
  test("shows the configuration in the words in which it was asked for", async ({ client, admin }) => {
    const name = uniqueName();
    const asked = {
      name,
      source: { case: "subjects" as const, value: { subjects: [`${name}.a`, `${name}.b.*`] } },
      retentionPolicy: {
        maxAge: duration(3_600_500),
        maxEvents: 1000n,
        maxEventsPerSubject: 10n,
        maxBytes: 1_000_000n,
        discardPolicy: DiscardPolicy.NEW,
        discardNewPerSubject: true,
      },
      storage: { type: StorageType.MEMORY, replicas: 1 },
      deduplicationWindow: duration(10_000),
      maxEventSize: 4096,
    };
    await client.ensureStream(asked);
    const { stream } = await admin.getStream({ stream: name });
    expect(stream?.configuration).toMatchObject(asked);
    expect(stream).toMatchObject({ name, retention: Retention.LIMITS, isDeadLetters: false, sources: [] });
    expect(Number(stream?.created?.seconds)).toBeGreaterThan(Date.now() / 1000 - 600);
    // The same again is what it is.
    await client.ensureStream(stream!.configuration!);
    expect((await admin.getStream({ stream: name })).stream?.configuration).toEqual(stream?.configuration);
  });

  test("shows what a stream allows, and not where its scheduled events wait", async ({ client, admin, jsm }) => {
    const name = uniqueName();
    const asked = {
      name,
      source: { case: "subjects" as const, value: { subjects: [`${name}.>`] } },
      allowTimeToLive: true,
      allowScheduling: true,
      allowAtomic: true,
    };
    await client.ensureStream(asked);
    await client.publish(`${name}.a`, "later", { deliverAt: { seconds: BigInt(Date.UTC(2040, 0)) / 1000n } });
    expect((await jsm.streams.info(name)).config.subjects).toHaveLength(2);
    const { stream } = await admin.getStream({ stream: name });
    expect(stream?.configuration).toMatchObject(asked);
    // The same again is what it is.
    await client.ensureStream(stream!.configuration!);
    expect((await admin.getStream({ stream: name })).stream?.configuration).toEqual(stream?.configuration);
    await client.ensureStream({ name, source: asked.source });
    expect((await admin.getStream({ stream: name })).stream?.configuration).toEqual(stream?.configuration);
  });

  test("leaves out limits that there are none of", async ({ client, admin }) => {
    const name = await makeStream(client);
    const { stream } = await admin.getStream({ stream: name });
    expect(stream?.configuration?.retentionPolicy).toMatchObject({ discardPolicy: DiscardPolicy.OLD });
    const { maxAge, maxEvents, maxBytes, maxEventsPerSubject } = stream!.configuration!.retentionPolicy!;
    expect([maxAge, maxEvents, maxBytes, maxEventsPerSubject]).toEqual([undefined, undefined, undefined, undefined]);
    expect(stream?.configuration?.maxEventSize).toBeUndefined();
  });

  test("tells how much there is, from an empty stream on", async ({ client, admin }) => {
    const { stream, subject } = await createSource(client);
    const empty = (await admin.getStream({ stream })).stream?.state;
    expect(empty).toMatchObject({ events: 0n, bytes: 0n, lastId: 0n, subjects: 0n, consumers: 1n });
    expect([empty?.firstTime, empty?.lastTime]).toEqual([undefined, undefined]);
    const ids = await publishMany(client, subject, 3);
    await client.publish(`${stream}.b`);
    const { state } = (await admin.getStream({ stream })).stream!;
    expect(state).toMatchObject({ events: 4n, firstId: ids[0], lastId: ids[2]! + 1n, subjects: 2n, consumers: 1n });
    expect(state!.bytes).toBeGreaterThan(0n);
    expect(state!.firstTime!.seconds).toBeLessThanOrEqual(state!.lastTime!.seconds);
  });

  test("shows what a mirror and an aggregate copy, and how far they are", async ({ client, admin }) => {
    const origin = await makeStream(client);
    await publishMany(client, `${origin}.a`, 5);
    const mirror = uniqueName();
    const aggregate = uniqueName();
    const source = { name: origin, from: { pointer: { case: "offset" as const, value: 2n } } };
    await client.ensureStream({ name: mirror, source: { case: "mirror", value: { name: origin } } });
    await client.ensureStream({
      name: aggregate,
      source: {
        case: "aggregate",
        value: { sources: [{ ...source, filterSubjects: [`${origin}.a`, `${origin}.b`] }] },
      },
    });
    await expect
      .poll(async () => (await admin.getStream({ stream: mirror })).stream?.sources)
      .toMatchObject([{ name: origin, lag: 0n, filterSubjects: [] }]);
    const { stream } = await admin.getStream({ stream: aggregate });
    expect(stream?.configuration?.source).toMatchObject({
      case: "aggregate",
      value: { sources: [{ name: origin, filterSubjects: [`${origin}.a`, `${origin}.b`] }] },
    });
    const { sources } = stream!.configuration!.source.value as { sources: { from?: object }[] };
    expect(sources[0]!.from).toMatchObject({ pointer: { case: "offset", value: 2n } });
    expect(stream?.sources).toMatchObject([{ name: origin, filterSubjects: [`${origin}.a`, `${origin}.b`] }]);
  });

  test("knows dead letters by their subjects, and says what other tools have made", async ({ admin, jsm }) => {
    const letters = uniqueName();
    const queue = uniqueName();
    await jsm.streams.add({ name: letters, subjects: [`dead-letters.${letters}.c.*`] });
    await jsm.streams.add({ name: queue, subjects: [`${queue}.>`], retention: "workqueue" });
    expect((await admin.getStream({ stream: letters })).stream).toMatchObject({ isDeadLetters: true });
    expect((await admin.getStream({ stream: queue })).stream).toMatchObject({ retention: Retention.WORK_QUEUE });
  });

  test("refuses a missing one, a bad name, and the stream of a store", async ({ client, admin }) => {
    await client.ensureStore({ store: "of-store" });
    expect(await failure(admin.getStream({ stream: "nowhere" }))).toMatchObject({
      status: "NOT_FOUND",
      reason: "STREAM_NOT_FOUND",
      metadata: { stream: "nowhere" },
    });
    expect(await failure(admin.getStream({ stream: "a b" }))).toMatchObject({
      status: "INVALID_ARGUMENT",
      fields: ["stream"],
    });
    expect(await failure(admin.getStream({}))).toMatchObject({ reason: "MISSING_FIELD", fields: ["stream"] });
    expect(await failure(admin.getStream({ stream: "KV_of-store" }))).toMatchObject({
      status: "FAILED_PRECONDITION",
      metadata: { store: "of-store" },
    });
  });
});

describe("DeleteStream", () => {
  test("removes the stream, says what it was, and writes it down", async ({ client, admin, windshift }) => {
    const { stream, subject, consumer } = await createSource(client, { events: 3 });
    const deleted = await admin.deleteStream({ stream });
    expect(deleted.stream).toMatchObject({ name: stream, state: { events: 3n, firstId: 1n, lastId: 3n } });
    expect(deleted.consumers).toEqual([consumer]);
    expect(await failure(admin.getStream({ stream }))).toMatchObject({ status: "NOT_FOUND" });
    expect(await failure(client.publish(subject))).toMatchObject({ reason: "SUBJECT_NOT_BOUND" });
    expect(windshift.log).toContainEqual(
      expect.objectContaining({
        level: "info",
        msg: "a stream was deleted",
        stream,
        events: 3,
        consumers: [consumer],
        by: expect.stringMatching(/:\d+$/) as unknown,
      }),
    );
  });

  test("ends open subscriptions with NOT_FOUND", async ({ client, admin }) => {
    const { stream, consumer } = await createSource(client, { events: 2 });
    const idle = await client.subscribe(stream, consumer);
    await idle.take(2);
    const full = await client.subscribe(stream, consumer, 1n);
    await admin.deleteStream({ stream });
    expect(await idle.ended).toMatchObject({ status: "NOT_FOUND" });
    expect(await full.ended).toMatchObject({ status: "NOT_FOUND" });
  });

  test("refuses a missing one, a bad name, and the stream of a store", async ({ client, admin, jsm }) => {
    await client.ensureStore({ store: "precious" });
    expect(await failure(admin.deleteStream({ stream: "nowhere" }))).toMatchObject({ status: "NOT_FOUND" });
    expect(await failure(admin.deleteStream({ stream: "a.b" }))).toMatchObject({ fields: ["stream"] });
    const error = await failure(admin.deleteStream({ stream: "KV_precious" }));
    expect(error).toMatchObject({ status: "FAILED_PRECONDITION", reason: "CONFIGURATION_REFUSED" });
    expect(error.message).toContain("DeleteStore");
    expect((await jsm.streams.info("KV_precious")).config.name).toBe("KV_precious");
  });
});

describe("PurgeStream", () => {
  test("removes all, and ids go on where they were", async ({ client, admin, windshift }) => {
    const { stream, subject } = await createSource(client, { events: 4 });
    expect(await admin.purgeStream({ stream, events: { case: "all", value: true } })).toMatchObject({ purged: 4n });
    expect(await client.publish(subject)).toBe(5n);
    expect((await admin.getStream({ stream })).stream?.state).toMatchObject({ events: 1n, firstId: 5n });
    expect(windshift.log).toContainEqual(
      expect.objectContaining({ level: "info", msg: "events of a stream were purged", stream, purged: 4 }),
    );
  });

  test("removes those before an id, which stays", async ({ client, admin }) => {
    const { stream } = await createSource(client, { events: 5 });
    const purge = async (id: bigint) =>
      (await admin.purgeStream({ stream, events: { case: "beforeId", value: id } })).purged;
    expect(await purge(1n)).toBe(0n);
    expect(await purge(4n)).toBe(3n);
    expect((await admin.getStream({ stream })).stream?.state).toMatchObject({ events: 2n, firstId: 4n });
  });

  test.for([100n, 2n ** 63n, 2n ** 64n - 1n])(
    "an id beyond the end (%s) removes all, and ids go on where they were",
    async (id, { client, admin }) => {
      const { stream, subject } = await createSource(client, { events: 3 });
      const { purged } = await admin.purgeStream({ stream, events: { case: "beforeId", value: id } });
      expect(purged).toBe(3n);
      expect(await client.publish(subject)).toBe(4n);
    },
  );

  test("keeps the last ones", async ({ client, admin }) => {
    const { stream } = await createSource(client, { events: 5 });
    const purge = async (keep: bigint) =>
      (await admin.purgeStream({ stream, events: { case: "keep", value: keep } })).purged;
    expect(await purge(2n ** 64n - 1n)).toBe(0n);
    expect(await purge(2n)).toBe(3n);
    expect((await admin.getStream({ stream })).stream?.state).toMatchObject({ events: 2n, firstId: 4n });
  });

  test("writes down what was to go, and who asked", async ({ client, admin, windshift }) => {
    const { stream, subject } = await createSource(client, { events: 9 });
    await admin.purgeStream({ stream, subject, events: { case: "beforeId", value: 4n } });
    await admin.purgeStream({ stream, events: { case: "keep", value: 2n } });
    await admin.purgeStream({ stream, subject, events: { case: "all", value: true } });
    const lines = windshift.log.filter((line) => line["stream"] === stream && line["purged"] !== undefined);
    const by = expect.stringContaining("127.0.0.1:") as string;
    expect(lines).toMatchObject([
      { subject, beforeId: 4, purged: 3, by },
      { keep: 2, purged: 4, by },
      { subject, purged: 2, by },
    ]);
    expect(lines[1]).not.toHaveProperty("subject");
    expect(lines[2]).not.toHaveProperty("keep");
    expect(lines[2]).not.toHaveProperty("beforeId");
  });

  test("removes those of a subject alone, in each way", async ({ client, admin }) => {
    const name = await makeStream(client);
    const fill = async () => {
      for (const subject of ["a", "b", "a", "b", "a", "b"]) await client.publish(`${name}.${subject}`);
    };
    await fill();
    const left = async () => Number((await admin.getStream({ stream: name })).stream!.state!.events);
    const subject = `${name}.a`;
    expect((await admin.purgeStream({ stream: name, subject, events: { case: "beforeId", value: 1n } })).purged).toBe(
      0n,
    );
    expect((await admin.purgeStream({ stream: name, subject, events: { case: "beforeId", value: 5n } })).purged).toBe(
      2n,
    );
    expect(await left()).toBe(4);
    await fill();
    expect((await admin.purgeStream({ stream: name, subject, events: { case: "keep", value: 1n } })).purged).toBe(3n);
    expect((await admin.purgeStream({ stream: name, subject, events: { case: "all", value: true } })).purged).toBe(1n);
    expect(await left()).toBe(6);
    const wildcard = { stream: name, subject: `${name}.*`, events: { case: "all" as const, value: true } };
    expect((await admin.purgeStream(wildcard)).purged).toBe(6n);
  });

  test("removes events that wait for their time, unless a subject leaves them out", async ({ client, admin }) => {
    const name = uniqueName();
    const source = { case: "subjects" as const, value: { subjects: [`${name}.>`] } };
    await client.ensureStream({ name, source, allowScheduling: true });
    const all = { case: "all" as const, value: true };
    const deliverAt = timestampFromMs(Date.now() + 3_600_000);
    await client.publish(`${name}.a`);
    await client.publish(`${name}.a`, "later", { deliverAt, idempotencyKey: "k" });
    expect((await admin.purgeStream({ stream: name, subject: `${name}.>`, events: all })).purged).toBe(1n);
    const cancel = async () => client.cancelScheduledEvent({ stream: name, idempotencyKey: "k" });
    expect(await cancel()).toMatchObject({ cancelled: true });
    await client.publish(`${name}.a`);
    await client.publish(`${name}.a`, "later", { deliverAt, idempotencyKey: "k" });
    expect((await admin.purgeStream({ stream: name, events: all })).purged).toBe(2n);
    expect(await cancel()).toMatchObject({ cancelled: false });
  });

  test("under a subscriber: what it holds can still be settled, and what comes is delivered", async ({
    client,
    admin,
    jsm,
  }) => {
    const { stream, consumer, subject } = await createSource(client, { events: 10 });
    const call = await client.subscribe(stream, consumer, 4n);
    const held = await call.take(4);
    expect((await admin.purgeStream({ stream, events: { case: "all", value: true } })).purged).toBe(10n);
    for (const { id } of held) await call.ackNow(id);
    const id = await client.publish(subject);
    expect(await call.event()).toMatchObject({ id });
    await call.ackNow(id);
    await expect.poll(async () => (await jsm.consumers.info(stream, consumer)).num_ack_pending).toBe(0);
    await call.cancel();
  });

  test("under a reader: it goes on with what is left and what comes", async ({ client, admin }) => {
    const { stream, subject } = await createSource(client, { events: 5 });
    const call = client.readEvents({ stream, follow: true }).collect();
    await expect.poll(() => call.told).toEqual([1n, 2n, 3n, 4n, 5n, "caught up at 5"]);
    await admin.purgeStream({ stream, events: { case: "all", value: true } });
    const id = await client.publish(subject);
    await expect.poll(() => call.told.at(-1)).toBe(id);
    await call.cancel();
    const later = client.readEvents({ stream }).collect();
    await later.ended;
    expect(later.told).toEqual([id]);
  });

  test.for([
    ["nothing that says which", { stream: "s" }, "events", "MISSING_FIELD"],
    ["all: false", { stream: "s", events: { case: "all" as const, value: false } }, "all", "INVALID_VALUE"],
    ["before_id 0", { stream: "s", events: { case: "beforeId" as const, value: 0n } }, "before_id", "INVALID_VALUE"],
    ["keep 0", { stream: "s", events: { case: "keep" as const, value: 0n } }, "keep", "INVALID_VALUE"],
    ["a bad name", { stream: "s s", events: { case: "all" as const, value: true } }, "stream", "INVALID_NAME"],
    [
      "a bad subject",
      { stream: "s", subject: "a..b", events: { case: "all" as const, value: true } },
      "subject",
      "INVALID_SUBJECT",
    ],
  ] as const)("%s is refused", async ([, request, field, reason], { admin }) => {
    expect(await failure(admin.purgeStream(request))).toMatchObject({
      status: "INVALID_ARGUMENT",
      reason,
      fields: [field],
    });
  });

  test("refuses a missing stream, the stream of a store, and one that may not be purged", async ({
    client,
    admin,
    jsm,
  }) => {
    await client.ensureStore({ store: "full" });
    const sealed = uniqueName();
    await jsm.streams.add({ name: sealed, subjects: [`${sealed}.>`], deny_purge: true });
    const all = { case: "all" as const, value: true };
    expect(await failure(admin.purgeStream({ stream: "nowhere", events: all }))).toMatchObject({ status: "NOT_FOUND" });
    for (const stream of ["KV_full", sealed]) {
      expect(await failure(admin.purgeStream({ stream, events: all }))).toMatchObject({
        status: "FAILED_PRECONDITION",
      });
    }
  });
});

/** `AdminService`: dead letters. */
import { jetstream } from "@nats-io/jetstream";
import { type NatsConnection, headers as natsHeaders } from "@nats-io/nats-core";
import { connect } from "@nats-io/transport-node";
import { describe, expect } from "vitest";
import { type DeadLetterOrigin, encodeLetter } from "../../src/events/dead-letter.ts";
import { DeadLetter_Cause as Cause } from "../../src/gen/windshift/admin/v1alpha1/admin_pb.ts";
import { AdminClient, type ReplayCall, allPages } from "../support/admin-client.ts";
import { type Client, failure, textOf, textValue } from "../support/client.ts";
import { test as base, uniqueName } from "../support/fixtures.ts";
import { startNats } from "../support/nats.ts";
import { startWindshift } from "../support/windshift.ts";

const test = base.extend<{ $test: { admin: AdminClient } }>({
  admin: async ({ client }, use) => {
    await use(new AdminClient(client));
  },
});

const ALL = { case: "all" as const, value: true };

function some(...ids: bigint[]) {
  return { case: "ids" as const, value: { ids } };
}

/** A stream with events, and a consumer `c` of them that has dead letters. */
async function createStream(client: Client, events = 0): Promise<string> {
  const stream = uniqueName();
  await client.ensureStream({ name: stream, source: { case: "subjects", value: { subjects: [`${stream}.>`] } } });
  const from = { pointer: { case: "start" as const, value: true } };
  const request = { stream, name: "c", subjects: [`${stream}.>`], from };
  await client.ensureConsumer({ ...request, deliveryPolicy: { deadLetter: {} } });
  for (let n = 1; n <= events; n++) await client.publish(`${stream}.a`, `event ${n}`);
  return stream;
}

/** Writes letters of the consumer `c` as a server does, one for each id. */
async function writeLetters(
  nats: NatsConnection,
  stream: string,
  ids: readonly number[],
  more: Partial<DeadLetterOrigin & { payload: Uint8Array; own: Record<string, string> }> = {},
): Promise<void> {
  const { payload, own = { "WS-Data-Type": "windshift.test.v1.StringValue" }, ...origin } = more;
  for (const id of ids) {
    const known = {
      stream,
      consumer: "c",
      id: BigInt(id),
      subject: `${stream}.a`,
      attempts: 3,
      cause: "attempts",
    } as const;
    const letter = { ...known, reason: `reason ${id}`, time: "2026-01-02T03:04:05.5Z", ...origin };
    const headers = natsHeaders();
    for (const [name, value] of Object.entries(own)) headers.append(name, value);
    for (const line of encodeLetter(undefined, letter).trimEnd().split("\r\n").slice(1)) {
      const colon = line.indexOf(":");
      headers.append(line.slice(0, colon), line.slice(colon + 2));
    }
    await jetstream(nats).publish(`dead-letters.${stream}.c.${id}`, payload ?? textValue(`event ${id}`).value, {
      headers,
    });
  }
}

async function listIds(admin: AdminClient, stream: string, pageSize = 1000): Promise<number[]> {
  return allPages(async (pageToken) => {
    const page = await admin.listDeadLetters({ stream, consumer: "c", pageSize, pageToken });
    return { entries: page.deadLetters.map(({ id }) => Number(id)), nextPageToken: page.nextPageToken };
  });
}

/** What a replay told, in short. */
function told({ received }: ReplayCall): unknown[] {
  return received.map(({ case: kind, value }) => {
    if (kind === "replayed") return ["replayed", value.id, value.newId];
    if (kind === "failed") return ["failed", value.id, value.error?.code];
    return [kind, value?.replayed, value?.failed];
  });
}

describe("ListDeadLetters", () => {
  test("shows each with its event and why it was given up", async ({ client, admin, natsClient }) => {
    const stream = await createStream(client);
    const own = {
      "WS-Data-Type": "windshift.test.v1.StringValue",
      "WS-Published-Time": "2026-01-01T00:00:00.25Z",
      "WS-Trace-Parent": "00-11111111111111111111111111111111-2222222222222222-01",
      "ce-source": "shop",
      "WS-Dead-Letter-1-Id": "4",
      "WS-Dead-Letter-1-Attempts": "2",
      "WS-Dead-Letter-1-Cause": "rejected",
      "WS-Dead-Letter-1-Reason": "earlier",
      "WS-Dead-Letter-1-Time": "2025-12-31T00:00:00Z",
    };
    await writeLetters(natsClient, stream, [7], { own });
    const { deadLetters, nextPageToken } = await admin.listDeadLetters({ stream, consumer: "c" });
    expect(nextPageToken).toBe("");
    const [letter] = deadLetters;
    expect(letter).toMatchObject({
      id: 7n,
      subject: `${stream}.a`,
      cause: Cause.ATTEMPTS,
      attempts: 3n,
      reason: "reason 7",
      time: { seconds: BigInt(Date.UTC(2026, 0, 2, 3, 4, 5) / 1000), nanos: 500_000_000 },
      dataType: "windshift.test.v1.StringValue",
      dataSize: BigInt(textValue("event 7").value.length),
      headers: {
        timestamp: { seconds: BigInt(Date.UTC(2026, 0, 1) / 1000), nanos: 250_000_000 },
        traceParent: own["WS-Trace-Parent"],
        attributes: { "ce-source": "shop" },
      },
      history: [{ id: 4n, attempts: 2n, cause: Cause.REJECTED, reason: "earlier" }],
    });
    expect(textOf(letter?.data)).toBe("event 7");
  });

  test("shows the idempotency key of the event", async ({ client, admin }) => {
    const stream = await createStream(client);
    const call = await client.subscribe(stream, "c");
    const id = await client.publish(`${stream}.a`, "bad", { idempotencyKey: "order 1" });
    await call.event();
    call.send({ case: "reject", value: { ids: [id], permanently: true } });
    await call.confirmation();
    const { deadLetters } = await admin.listDeadLetters({ stream, consumer: "c" });
    expect(deadLetters).toMatchObject([{ id, headers: { idempotencyKey: "order 1" } }]);
    await call.cancel();
  });

  test("leaves the data out where that is asked for", async ({ client, admin, natsClient }) => {
    const stream = await createStream(client);
    await writeLetters(natsClient, stream, [7]);
    const { deadLetters } = await admin.listDeadLetters({ stream, consumer: "c", withoutData: true });
    expect(deadLetters).toMatchObject([{ id: 7n, dataSize: BigInt(textValue("event 7").value.length) }]);
    expect(deadLetters[0]?.data).toBeUndefined();
  });

  test("pages are in the order of their storing, also while some go", async ({ client, admin, natsClient }) => {
    const stream = await createStream(client);
    await writeLetters(natsClient, stream, [5, 2, 9, 1, 7]);
    for (const size of [1, 2, 5, 1000]) expect(await listIds(admin, stream, size)).toEqual([5, 2, 9, 1, 7]);
    const first = await admin.listDeadLetters({ stream, consumer: "c", pageSize: 2 });
    await admin.deleteDeadLetters({ stream, consumer: "c", events: some(2n, 9n) });
    const { nextPageToken: pageToken } = first;
    const second = await admin.listDeadLetters({ stream, consumer: "c", pageSize: 2, pageToken });
    expect(second.deadLetters.map(({ id }) => id)).toEqual([1n, 7n]);
  });

  test("a page has no more than a client takes", async ({ client, admin, natsClient }) => {
    const stream = await createStream(client);
    await writeLetters(natsClient, stream, [1, 2, 3], { payload: Buffer.alloc(600_000) });
    const { deadLetters, nextPageToken } = await admin.listDeadLetters({ stream, consumer: "c" });
    expect(deadLetters).toHaveLength(1);
    expect(nextPageToken).not.toBe("");
    expect(await listIds(admin, stream)).toEqual([1, 2, 3]);
  });

  test("outlives its consumer; where there is neither, that is told", async ({ client, admin, natsClient, jsm }) => {
    const stream = await createStream(client);
    const list = async (consumer: string, from = stream) => admin.listDeadLetters({ stream: from, consumer });
    expect((await list("c")).deadLetters).toEqual([]);
    await writeLetters(natsClient, stream, [1]);
    await jsm.consumers.delete(stream, "c");
    expect((await list("c")).deadLetters).toHaveLength(1);
    expect(await failure(list("nobody"))).toMatchObject({ status: "NOT_FOUND", reason: "CONSUMER_NOT_FOUND" });
    expect(await failure(list("c", "nowhere"))).toMatchObject({ status: "NOT_FOUND", reason: "STREAM_NOT_FOUND" });
  });

  test("bad names and tokens are refused", async ({ client, admin, natsClient }) => {
    const stream = await createStream(client);
    await client.ensureConsumer({ stream, name: "d", subjects: [`${stream}.>`] });
    await writeLetters(natsClient, stream, [1, 2]);
    const { nextPageToken: pageToken } = await admin.listDeadLetters({ stream, consumer: "c", pageSize: 1 });
    expect(await failure(admin.listDeadLetters({ stream, consumer: "d", pageToken }))).toMatchObject({
      status: "INVALID_ARGUMENT",
      fields: ["page_token"],
    });
    expect(await failure(admin.listDeadLetters({ stream: "a b", consumer: "c" }))).toMatchObject({
      fields: ["stream"],
    });
    expect(await failure(admin.listDeadLetters({ stream, consumer: "" }))).toMatchObject({ fields: ["consumer"] });
  });
});

describe("ReplayDeadLetters", () => {
  test("publishes all again, tells each and sums up", async ({ client, admin, natsClient, windshift }) => {
    const stream = await createStream(client, 3);
    await writeLetters(natsClient, stream, [1, 2, 3]);
    const call = admin.replay({ stream, consumer: "c", events: ALL });
    expect(await call.ended).toBeUndefined();
    expect(told(call)).toEqual([
      ["replayed", 1n, 4n],
      ["replayed", 2n, 5n],
      ["replayed", 3n, 6n],
      ["summary", 3n, 0n],
    ]);
    expect(await listIds(admin, stream)).toEqual([]);
    const events = await client.subscribe(stream, "c");
    expect((await events.take(6)).map(({ data }) => textOf(data)).slice(3)).toEqual(["event 1", "event 2", "event 3"]);
    await events.cancel();
    expect(windshift.log).toContainEqual(
      expect.objectContaining({
        level: "info",
        msg: "dead letters were published again",
        stream,
        replayed: 3,
        failed: 0,
      }),
    );
  });

  test("those by id alone; ids without one fail with NOT_FOUND", async ({ client, admin, natsClient }) => {
    const stream = await createStream(client, 4);
    await writeLetters(natsClient, stream, [1, 2, 3]);
    const call = admin.replay({ stream, consumer: "c", events: some(3n, 99n, 1n, 1n) });
    expect(await call.ended).toBeUndefined();
    expect(told(call)).toEqual([
      ["replayed", 1n, 5n],
      ["replayed", 3n, 6n],
      ["failed", 99n, 5],
      ["summary", 2n, 1n],
    ]);
    expect(await listIds(admin, stream)).toEqual([2]);
  });

  test("one that cannot be published stays, and the others go on", async ({ client, admin, natsClient }) => {
    const stream = await createStream(client, 3);
    await writeLetters(natsClient, stream, [1]);
    await writeLetters(natsClient, stream, [2], { subject: "elsewhere.a" });
    await writeLetters(natsClient, stream, [3]);
    const call = admin.replay({ stream, consumer: "c", events: ALL });
    expect(await call.ended).toBeUndefined();
    expect(told(call)).toEqual([
      ["replayed", 1n, 4n],
      ["failed", 2n, 9],
      ["replayed", 3n, 5n],
      ["summary", 2n, 1n],
    ]);
    expect(await listIds(admin, stream)).toEqual([2]);
  });

  test("is no faster than asked for, and ends when the client leaves", async ({
    client,
    admin,
    natsClient,
    windshift,
  }) => {
    const stream = await createStream(client, 5);
    await writeLetters(natsClient, stream, [1, 2, 3, 4, 5]);
    const start = performance.now();
    const call = admin.replay({ stream, consumer: "c", events: ALL, maxPerSecond: 2 });
    await expect.poll(() => call.received.length).toBeGreaterThan(2);
    // Two pauses of half a second.
    expect(performance.now() - start).toBeGreaterThan(950);
    call.stream.cancel();
    await call.ended;
    const line = { msg: "dead letters were published again", stream, isComplete: false };
    await expect.poll(() => windshift.log).toContainEqual(expect.objectContaining(line));
    expect((await listIds(admin, stream)).length).toBeGreaterThan(1);
  });

  test("ends with UNAVAILABLE when the server drains, and the rest stays", async () => {
    await using nats = await startNats();
    await using other = await startWindshift(nats.url);
    const { client } = other;
    const natsClient = await connect({ servers: nats.url });
    const stream = await createStream(client, 5);
    await writeLetters(natsClient, stream, [1, 2, 3, 4, 5]);
    await natsClient.close();
    const leaving = await startWindshift(nats.url, { SHUTDOWN_GRACE: "10s" });
    const call = new AdminClient(leaving.client).replay({ stream, consumer: "c", events: ALL, maxPerSecond: 1 });
    await expect.poll(() => call.received.length).toBeGreaterThan(0);
    const stopped = leaving.daemon[Symbol.asyncDispose]();
    expect(await call.ended).toMatchObject({ status: "UNAVAILABLE", reason: "SERVER_DRAINING" });
    await stopped;
    leaving.client.close();
    const left = await listIds(new AdminClient(client), stream);
    expect(left.length).toBe(5 - call.received.length);
  });

  test.for([
    ["nothing that says which", { stream: "s", consumer: "c" }, "events"],
    ["all: false", { stream: "s", consumer: "c", events: { case: "all" as const, value: false } }, "all"],
    ["no ids", { stream: "s", consumer: "c", events: some() }, "ids.ids"],
    ["id 0", { stream: "s", consumer: "c", events: some(1n, 0n) }, "ids.ids[1]"],
    [
      "too many ids",
      { stream: "s", consumer: "c", events: some(...Array.from({ length: 1001 }, (_, id) => BigInt(id + 1))) },
      "ids.ids",
    ],
    ["a bad stream", { stream: "s s", consumer: "c", events: ALL }, "stream"],
    ["a bad consumer", { stream: "s", consumer: "c.d", events: ALL }, "consumer"],
  ] as const)("%s is refused", async ([, request, field], { admin }) => {
    const refused = { status: "INVALID_ARGUMENT", fields: [field] };
    expect(await admin.replay(request).ended).toMatchObject(refused);
    expect(await failure(admin.deleteDeadLetters(request))).toMatchObject(refused);
  });

  test("missing ones and mirrors are refused", async ({ client, admin }) => {
    const stream = await createStream(client);
    const mirror = uniqueName();
    await client.ensureStream({ name: mirror, source: { case: "mirror", value: { name: stream } } });
    await client.ensureConsumer({ stream: mirror, name: "c", subjects: [`${stream}.>`] });
    const replay = async (from: string, consumer: string) =>
      admin.replay({ stream: from, consumer, events: ALL }).ended;
    expect(await replay("nowhere", "c")).toMatchObject({ reason: "STREAM_NOT_FOUND" });
    expect(await replay(stream, "nobody")).toMatchObject({ reason: "CONSUMER_NOT_FOUND" });
    expect(await replay(mirror, "c")).toMatchObject({ status: "FAILED_PRECONDITION" });
  });
});

describe("DeleteDeadLetters", () => {
  test("removes those by id, names them, and leaves the others", async ({ client, admin, natsClient, windshift }) => {
    const stream = await createStream(client, 4);
    await writeLetters(natsClient, stream, [1, 2, 3, 4]);
    const answer = await admin.deleteDeadLetters({ stream, consumer: "c", events: some(4n, 2n, 77n) });
    expect(answer).toMatchObject({ ids: [2n, 4n], isComplete: true });
    expect(await listIds(admin, stream)).toEqual([1, 3]);
    expect(windshift.log).toContainEqual(
      expect.objectContaining({ level: "info", msg: "dead letters were deleted", stream, deleted: 2, ids: [2, 4] }),
    );
  });

  test("removes all", async ({ client, admin, natsClient }) => {
    const stream = await createStream(client, 3);
    await writeLetters(natsClient, stream, [3, 1]);
    expect(await admin.deleteDeadLetters({ stream, consumer: "c", events: ALL })).toMatchObject({
      ids: [3n, 1n],
      isComplete: true,
    });
    expect(await admin.deleteDeadLetters({ stream, consumer: "c", events: ALL })).toMatchObject({ ids: [] });
  });

  test("all are named in the log, however many", async ({ client, admin, natsClient, windshift }) => {
    const stream = await createStream(client);
    const ids = Array.from({ length: 250 }, (_, n) => n + 1);
    await writeLetters(natsClient, stream, ids);
    await admin.deleteDeadLetters({ stream, consumer: "c", events: ALL });
    const lines = windshift.log.filter((line) => line["msg"] === "dead letters were deleted");
    const ours = lines.filter((line) => line["stream"] === stream);
    expect(ours.map((line) => line["deleted"])).toEqual([100, 100, 50]);
    expect(ours.flatMap((line) => line["ids"])).toEqual(ids);
  });

  test("removes 10,000 at most", { timeout: 180_000 }, async ({ client, admin, natsClient }) => {
    const stream = await createStream(client);
    const events = ALL;
    const ids = Array.from({ length: 10_001 }, (_, n) => n + 1);
    await Promise.all(
      Array.from({ length: 100 }, async (_, part) =>
        writeLetters(
          natsClient,
          stream,
          ids.filter((id) => id % 100 === part),
        ),
      ),
    );
    const answer = await admin.deleteDeadLetters({ stream, consumer: "c", events }, { deadlineMs: 170_000 });
    expect(answer.ids).toHaveLength(10_000);
    expect(answer.isComplete).toBe(false);
    const rest = await admin.deleteDeadLetters({ stream, consumer: "c", events });
    expect(rest.ids).toHaveLength(1);
    expect(rest.isComplete).toBe(true);
  });

  test("stops before its deadline, and says that there may be more", async ({ client, admin, natsClient }) => {
    const stream = await createStream(client, 2);
    await writeLetters(natsClient, stream, [1, 2]);
    const answer = await admin.deleteDeadLetters({ stream, consumer: "c", events: ALL }, { deadlineMs: 1_900 });
    expect(answer).toMatchObject({ ids: [], isComplete: false });
    expect(await listIds(admin, stream)).toEqual([1, 2]);
  });

  test("where there is neither a letter nor the consumer, that is told", async ({ client, admin }) => {
    const stream = await createStream(client);
    expect(await failure(admin.deleteDeadLetters({ stream, consumer: "nobody", events: ALL }))).toMatchObject({
      reason: "CONSUMER_NOT_FOUND",
    });
  });
});

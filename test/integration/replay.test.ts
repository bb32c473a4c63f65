/** Dead letters as an operator has them: listed, replayed for their consumer alone, deleted. */
import { AckPolicy, jetstream } from "@nats-io/jetstream";
import { type MsgHdrs, type NatsConnection, headers as natsHeaders } from "@nats-io/nats-core";
import { describe, expect } from "vitest";
import { encodeLetter } from "../../src/events/dead-letter.ts";
import type { EventsResponse } from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { AdminClient } from "../support/admin-client.ts";
import { type Client, textOf } from "../support/client.ts";
import { confirmed } from "../support/consuming.ts";
import { openDeadLetters } from "../support/dead-letters.ts";
import { until } from "../support/failing.ts";
import { deleteNothing, findNothing, knowNoLeader } from "../support/false-answers.ts";
import { lettersTest as test, uniqueName } from "../support/fixtures.ts";
import { Link } from "../chaos/proxy.ts";
import { startWindshift } from "../support/windshift.ts";

const START = { pointer: { case: "start" as const, value: true } };

/** A stream, with the consumers `c` (which has dead letters) and `other` of all its events. */
async function createStream(client: Client, stream = uniqueName()): Promise<string> {
  await client.ensureStream({ name: stream, source: { case: "subjects", value: { subjects: [`${stream}.>`] } } });
  await ensureConsumer(client, stream, "c", { deliveryPolicy: { deadLetter: {} } });
  await ensureConsumer(client, stream, "other");
  return stream;
}

async function ensureConsumer(client: Client, stream: string, name: string, more: object = {}): Promise<void> {
  await client.ensureConsumer({ stream, name, subjects: [`${stream}.>`], from: START, ...more });
}

/** Writes letters of the consumer `c` as a server does, one for each id. */
async function writeLetters(nats: NatsConnection, stream: string, ids: readonly bigint[]): Promise<void> {
  for (const id of ids) await writeLetter(nats, stream, id, letterBlock(stream, id, `reason ${id}`), `payload ${id}`);
}

/** Writes a letter that is as large as NATS accepts it. */
async function writeLargest(nats: NatsConnection, stream: string, id: bigint, reason: string): Promise<void> {
  const block = letterBlock(stream, id, reason);
  await writeLetter(nats, stream, id, block, Buffer.alloc(nats.info!.max_payload - block.length));
}

/** Of the event that a replay of the letter of event `id` has stored. */
function replayHeaders(stream: string, id: bigint): MsgHdrs {
  const headers = natsHeaders();
  headers.set("WS-Replay-Id", String(id));
  headers.set("WS-Replay-Consumer", `${stream}/c`);
  return headers;
}

function letterBlock(stream: string, id: bigint, reason: string, time = new Date().toISOString()): string {
  const origin = { stream, consumer: "c", id, subject: `${stream}.a`, attempts: 2, reason };
  return encodeLetter(undefined, { ...origin, cause: "attempts", time });
}

async function writeLetter(
  nats: NatsConnection,
  stream: string,
  id: bigint,
  block: string,
  payload: string | Buffer,
): Promise<void> {
  const headers = natsHeaders();
  for (const line of block.trimEnd().split("\r\n").slice(1)) {
    const colon = line.indexOf(":");
    headers.append(line.slice(0, colon), line.slice(colon + 2));
  }
  await jetstream(nats).publish(`dead-letters.${stream}.c.${id}`, payload, { headers });
}

const CALL = {};

/** Work that goes on when a letter fails, and the letters that did. */
function notingFailures() {
  const failed: [id: bigint, reason: string][] = [];
  const onFailed = (id: bigint, { reason }: { reason: string }): void => void failed.push([id, reason]);
  return { work: { onFailed }, failed };
}

describe("a list of letters", () => {
  test("has pages, oldest first", async ({ client, natsClient, letters }) => {
    const stream = await createStream(client);
    await writeLetters(natsClient, stream, [5n, 3n, 9n, 1n]);
    const first = await letters.list(stream, "c", { size: 3 }, CALL);
    expect(first.letters.map(({ id }) => id)).toEqual([5n, 3n, 9n]);
    expect(first.letters[0]).toMatchObject({ reason: "reason 5", attempts: 2, cause: "attempts" });
    const second = await letters.list(stream, "c", { size: 3, after: first.next }, CALL);
    expect(second).toMatchObject({ letters: [{ id: 1n }], next: undefined });
  });

  test.for([0, 1])(
    "is whole although NATS once finds nothing, after %i",
    async (after, { client, natsClient, letters }) => {
      const stream = await createStream(client);
      await writeLetters(natsClient, stream, [5n, 3n]);
      using _lie = findNothing(`${stream}-dead-letters`, { times: 1, after });
      const { letters: listed } = await letters.list(stream, "c", { size: 10 }, CALL);
      expect(listed.map(({ id }) => id)).toEqual([5n, 3n]);
    },
  );

  test("of a consumer that never had one is empty", async ({ client, letters }) => {
    const stream = await createStream(client);
    expect(await letters.list(stream, "other", { size: 3 }, CALL)).toEqual({ letters: [], next: undefined });
  });
});

describe("a replay", () => {
  test("of all letters publishes their events again, oldest first, and removes them", async ({
    client,
    natsClient,
    letters,
  }) => {
    const stream = await createStream(client);
    await writeLetters(natsClient, stream, [5n, 3n, 9n]);
    const done: (bigint | undefined)[][] = [];
    const work = { onDone: (...ids: (bigint | undefined)[]) => void done.push(ids) };
    expect(await letters.replay(stream, "c", "all", work, CALL)).toEqual({ done: 3, missing: [] });
    expect(done).toEqual([
      [5n, 1n],
      [3n, 2n],
      [9n, 3n],
    ]);
    const call = await client.subscribe(stream, "c");
    const events = await call.take(3);
    expect(events.map(({ data }) => Buffer.from(data!.value).toString())).toEqual([
      "payload 5",
      "payload 3",
      "payload 9",
    ]);
    expect(events[0]!.subject).toBe(`${stream}.a`);
    await call.cancel();
    expect((await letters.list(stream, "c", { size: 10 }, CALL)).letters).toEqual([]);
  });

  test("of some letters leaves the others, and says which are missing", async ({
    client,
    jsm,
    natsClient,
    letters,
  }) => {
    const stream = await createStream(client);
    await writeLetters(natsClient, stream, [5n, 3n, 9n]);
    expect(await letters.replay(stream, "c", [9n, 4n, 5n], {}, CALL)).toEqual({ done: 2, missing: [4n] });
    expect((await letters.list(stream, "c", { size: 10 }, CALL)).letters.map(({ id }) => id)).toEqual([3n]);
    // Nothing else is left behind.
    expect((await jsm.streams.info(`${stream}-dead-letters`)).state.messages).toBe(1);
    const stored = await jsm.streams.getMessage(stream, { seq: 2 });
    expect(stored!.header.get("WS-Replay-Id")).toBe("9");
    expect(stored!.header.get("WS-Replay-Consumer")).toBe(`${stream}/c`);
    expect(stored!.header.get("WS-Dead-Letter-1-Reason")).toBe("reason 9");
  });

  test.for([
    ["all letters", "all", 0],
    ["all letters, after the first", "all", 2],
    ["letters by their ids", [5n, 3n], 0],
  ] as const)(
    "of %s leaves none out because NATS once finds nothing",
    async ([, choice, after], { client, natsClient, letters }) => {
      const stream = await createStream(client);
      await writeLetters(natsClient, stream, [5n, 3n]);
      using _lie = findNothing(`${stream}-dead-letters`, { times: 1, after });
      expect(await letters.replay(stream, "c", choice, {}, CALL)).toEqual({ done: 2, missing: [] });
    },
  );

  test("of what would be larger than NATS accepts goes without its reasons, else it fails, and others go on", async ({
    client,
    jsm,
    natsClient,
    letters,
  }) => {
    // A replay has the name more often than a letter.
    const stream = await createStream(client, uniqueName() + "-".repeat(150));
    await writeLargest(natsClient, stream, 3n, "r".repeat(250));
    await writeLargest(natsClient, stream, 4n, "r");
    await writeLetters(natsClient, stream, [5n]);
    const { work, failed } = notingFailures();
    expect(await letters.replay(stream, "c", "all", work, CALL)).toMatchObject({ done: 2 });
    expect(failed).toEqual([[4n, "EVENT_TOO_LARGE"]]);
    const stored = await jsm.streams.getMessage(stream, { seq: 1 });
    expect(stored!.header.get("WS-Dead-Letter-1-Id")).toBe("3");
    expect(stored!.header.has("WS-Dead-Letter-1-Reason")).toBe(false);
    // The one that failed, without a mark.
    expect((await jsm.streams.info(`${stream}-dead-letters`)).state.messages).toBe(1);
  });

  test("goes without its reasons where its stream takes no larger events", async ({
    client,
    jsm,
    natsClient,
    letters,
  }) => {
    const stream = await createStream(client);
    await writeLetter(natsClient, stream, 3n, letterBlock(stream, 3n, "r".repeat(250)), "payload 3");
    await writeLetter(natsClient, stream, 4n, letterBlock(stream, 4n, "r".repeat(250)), Buffer.alloc(1_000));
    await jsm.streams.update(stream, { max_msg_size: 450 });
    const { work, failed } = notingFailures();
    expect(await letters.replay(stream, "c", "all", work, CALL)).toMatchObject({ done: 1 });
    expect(failed).toEqual([[4n, "EVENT_TOO_LARGE"]]);
    expect((await jsm.streams.getMessage(stream, { seq: 1 }))!.header.has("WS-Dead-Letter-1-Reason")).toBe(false);
    expect((await jsm.streams.info(`${stream}-dead-letters`)).state.messages).toBe(1);
  });

  test("goes without its reasons where JetStream takes no longer headers", async ({
    client,
    jsm,
    natsClient,
    letters,
  }) => {
    // A replay has the name more often than a letter.
    const stream = await createStream(client, uniqueName() + "-".repeat(150));
    for (const [id, reason] of [
      [3n, "r".repeat(250)],
      [4n, "r"],
    ] as const) {
      const block = letterBlock(stream, id, reason).slice(0, -"\r\n".length);
      const fill = "x".repeat(65_535 - `${block}x-fill: \r\n\r\n`.length);
      await writeLetter(natsClient, stream, id, `${block}x-fill: ${fill}\r\n\r\n`, "payload");
    }
    const { work, failed } = notingFailures();
    expect(await letters.replay(stream, "c", "all", work, CALL)).toMatchObject({ done: 1 });
    expect(failed).toEqual([[4n, "EVENT_TOO_LARGE"]]);
    const { header } = (await jsm.streams.getMessage(stream, { seq: 1 }))!;
    expect(header.get("WS-Replay-Id")).toBe("3");
    expect(header.has("WS-Dead-Letter-1-Reason")).toBe(false);
    // The one that failed, without a mark.
    expect((await jsm.streams.info(`${stream}-dead-letters`)).state.messages).toBe(1);
  });

  test("waits its turn where too many publish, and no letter fails for it", async ({ nats, client, natsClient }) => {
    const env = { NATS_PUBLISH_ASYNC_MAX_PENDING: "1", PUBLISH_QUEUE_LIMIT: "0" };
    await using busy = await openDeadLetters(nats.url, env);
    const streams = [await createStream(client), await createStream(client), await createStream(client)];
    const ids = Array.from({ length: 20 }, (_, n) => BigInt(n + 1));
    for (const stream of streams) await writeLetters(natsClient, stream, ids);
    const replays = streams.map(async (stream) => busy.letters.replay(stream, "c", "all", {}, CALL));
    const all = { done: ids.length, missing: [] };
    expect(await Promise.all(replays)).toEqual([all, all, all]);
  });

  test("while letters arrive replays those that were there, and the others are left", async ({
    client,
    jsm,
    letters,
  }) => {
    const COUNT = 40;
    const stream = await createStream(client);
    const call = await client.subscribe(stream, "c", 200n);
    // Whatever comes, at first or once more, is rejected for good.
    call.stream.on("data", ({ response }: EventsResponse) => {
      if (response.case !== "event") return;
      call.send({ case: "reject", value: { ids: [response.value.id], permanently: true } });
    });
    const letterCount = async (): Promise<number> =>
      (await jsm.streams.info(`${stream}-dead-letters`, { subjects_filter: `dead-letters.${stream}.c.*` })).state
        .messages;
    await Promise.all(Array.from({ length: COUNT }, async () => client.publish(`${stream}.a`)));
    await until(async () => (await letterCount()) === COUNT);
    let arriving = 0;
    const work = {
      onDone: async () => {
        await client.publish(`${stream}.a`);
        arriving += 1;
      },
    };
    expect(await letters.replay(stream, "c", "all", work, CALL)).toEqual({ done: COUNT, missing: [] });
    expect(arriving).toBe(COUNT);
    // What was replayed has failed again, and what came meanwhile has failed, too.
    await until(async () => (await letterCount()) === 2 * COUNT);
    await until(async () => (await jsm.consumers.info(stream, "c")).num_ack_pending === 0);
    const { letters: left } = await letters.list(stream, "c", { size: 1_000 }, CALL);
    expect(left.filter(({ history }) => history.length === 1)).toHaveLength(COUNT);
    expect(left.filter(({ history }) => history.length === 0)).toHaveLength(COUNT);
    expect((await jsm.streams.info(stream)).state.messages).toBe(3 * COUNT);
    await call.cancel();
  });

  test("by several servers at once stores each event once", async ({ nats, client, jsm, natsClient }) => {
    const COUNT = 50;
    const stream = await createStream(client);
    await writeLetters(
      natsClient,
      stream,
      Array.from({ length: COUNT }, (_, n) => BigInt(n + 1)),
    );
    await using stack = new AsyncDisposableStack();
    const servers = await Promise.all(
      Array.from({ length: 6 }, async () => stack.use(await openDeadLetters(nats.url)).letters),
    );
    await Promise.all(servers.map(async (one) => one.replay(stream, "c", "all", {}, CALL)));
    expect((await jsm.streams.info(stream)).state.messages).toBe(COUNT);
    const ids = new Set<string>();
    for (let seq = 1; seq <= COUNT; seq++) {
      ids.add((await jsm.streams.getMessage(stream, { seq }))!.header.get("WS-Replay-Id"));
    }
    expect(ids.size).toBe(COUNT);
    // Neither letters nor marks.
    expect((await jsm.streams.info(`${stream}-dead-letters`)).state.messages).toBe(0);
  });

  test("by a second server while the first one is about to store the event stores it once", async ({
    nats,
    client,
    jsm,
    natsClient,
    letters,
  }) => {
    const stream = await createStream(client);
    // Where there is nothing else, a replay looks once more, later.
    await client.publish(`${stream}.b`);
    await writeLetters(natsClient, stream, [5n, 9n]);
    await using link = await Link.open("server to NATS", () => Number(new URL(nats.url).port));
    await using first = await openDeadLetters(`nats://127.0.0.1:${link.port}`);
    // The first one has its mark, has seen that the letter is still there, and what it stores then comes late.
    link.delay(150);
    const asked: string[] = [];
    const tap = natsClient.subscribe(">", { callback: (_, { subject }) => void asked.push(subject) });
    const hasLooked = (): boolean => {
      const mark = asked.indexOf(`dead-letters.${stream}.c.5-replay`);
      return mark >= 0 && asked.slice(mark).some((subject) => /^\$JS\.API\..*\bGET\b.*-dead-letters/.test(subject));
    };
    const slow = first.letters.replay(stream, "c", [5n], {}, CALL);
    await until(hasLooked);
    tap.unsubscribe();
    await letters.replay(stream, "c", [5n], {}, CALL);
    await slow;
    expect((await jsm.streams.info(stream)).state.messages).toBe(2);
    expect((await jsm.streams.info(`${stream}-dead-letters`)).state.messages).toBe(1);
  });

  test("ends when it is told to", async ({ client, natsClient, letters }) => {
    const stream = await createStream(client);
    await writeLetters(natsClient, stream, [5n, 3n, 9n]);
    const controller = new AbortController();
    const work = { ratePerSecond: 0.001, signal: controller.signal, onDone: () => controller.abort() };
    expect(await letters.replay(stream, "c", "all", work, CALL)).toMatchObject({ done: 1 });
    expect((await letters.list(stream, "c", { size: 10 }, CALL)).letters.map(({ id }) => id)).toEqual([3n, 9n]);
  });

  test("works, and stores no event twice, while the stream for dead letters is full", async ({
    client,
    jsm,
    natsClient,
    letters,
  }) => {
    const stream = await createStream(client);
    const call = await client.subscribe(stream, "c");
    const id = await client.publish(`${stream}.a`, "payload");
    await call.event();
    call.send({ case: "reject", value: { ids: [id], permanently: true } });
    await call.confirmation();
    await call.cancel();
    const ofEarlierStream = letterBlock(stream, 99n, "reason", "2026-01-02T03:04:05Z");
    await writeLetter(natsClient, stream, 99n, ofEarlierStream, "payload");
    await jsm.streams.update(`${stream}-dead-letters`, { max_msgs: 2 });
    // What a server has left that was killed there, when its message id is not known any more.
    const headers = replayHeaders(stream, id);
    const { seq } = await jetstream(natsClient).publish(`${stream}.a`, "payload", { headers });
    const done: unknown[] = [];
    const work = { onDone: (...ids: unknown[]) => void done.push(ids) };
    await letters.replay(stream, "c", [id], work, CALL);
    await writeLetters(natsClient, stream, [100n]);
    await letters.replay(stream, "c", [99n], work, CALL);
    expect(done).toEqual([
      [id, BigInt(seq)],
      [99n, BigInt(seq) + 1n],
    ]);
    expect((await letters.list(stream, "c", { size: 10 }, CALL)).letters.map((letter) => letter.id)).toEqual([100n]);
  });

  test("on a stream that collects no subjects of its own is refused", async ({ client, jsm, natsClient, letters }) => {
    const origin = await createStream(client);
    const stream = uniqueName();
    await client.ensureStream({ name: stream, source: { case: "aggregate", value: { sources: [{ name: origin }] } } });
    await client.ensureConsumer({ stream, name: "c", subjects: [">"], deliveryPolicy: { deadLetter: {} } });
    await writeLetters(natsClient, stream, [5n]);
    await expect(letters.replay(stream, "c", "all", {}, CALL)).rejects.toMatchObject({
      reason: "CONFIGURATION_REFUSED",
      field: "stream",
    });
    // The letter, and no mark.
    expect((await jsm.streams.info(`${stream}-dead-letters`)).state.messages).toBe(1);
  });

  test("on a mirror, or for a consumer that would not see it, is refused", async ({ client, natsClient, letters }) => {
    const stream = await createStream(client);
    const mirror = uniqueName();
    await client.ensureStream({ name: mirror, source: { case: "mirror", value: { name: stream } } });
    const refused = { reason: "CONFIGURATION_REFUSED" };
    await expect(letters.replay(mirror, "c", "all", {}, CALL)).rejects.toMatchObject(refused);
    await expect(letters.replay(stream, "nobody", "all", {}, CALL)).rejects.toMatchObject({
      reason: "CONSUMER_NOT_FOUND",
    });
    await writeLetters(natsClient, stream, [5n]);
    await client.ensureConsumer({ stream, name: "c", subjects: [`${stream}.b`] });
    await expect(letters.replay(stream, "c", "all", {}, CALL)).rejects.toMatchObject(refused);
    expect((await letters.list(stream, "c", { size: 10 }, CALL)).letters).toHaveLength(1);
  });

  test("of a letter whose event was stored, and then nothing more, stores it no second time", async ({
    client,
    jsm,
    natsClient,
    letters,
  }) => {
    const stream = await createStream(client);
    await writeLetters(natsClient, stream, [5n]);
    const [letter] = (await letters.list(stream, "c", { size: 1 }, CALL)).letters;
    const js = jetstream(natsClient);
    const id = await client.publish(`${stream}.a`);
    // What a server has left that was killed there, when its message id is not known any more.
    const mark = JSON.stringify({ letter: String(letter!.sequence), after: String(id) });
    await js.publish(`dead-letters.${stream}.c.5-replay`, mark);
    const headers = replayHeaders(stream, 5n);
    await client.publish(`${stream}.a`);
    const { seq } = await js.publish(`${stream}.a`, "payload 5", { headers });
    const newIds: unknown[] = [];
    const work = { onDone: (_: bigint, newId: bigint | undefined) => void newIds.push(newId) };
    await letters.replay(stream, "c", "all", work, CALL);
    expect(newIds).toEqual([BigInt(seq)]);
    expect((await jsm.streams.info(stream)).state.last_seq).toBe(seq);
    expect((await jsm.streams.info(`${stream}-dead-letters`)).state.messages).toBe(0);
  });

  test("of a letter whose event was stored, and is not found once, stores it no second time", async ({
    client,
    jsm,
    natsClient,
    letters,
  }) => {
    const stream = await createStream(client);
    await writeLetters(natsClient, stream, [5n]);
    const mark = JSON.stringify({ letter: "1", after: "0" });
    const js = jetstream(natsClient);
    await js.publish(`dead-letters.${stream}.c.5-replay`, mark);
    const headers = replayHeaders(stream, 5n);
    await js.publish(`${stream}.a`, "payload 5", { headers });
    using _ = findNothing(stream, { times: 1 });
    expect(await letters.replay(stream, "c", "all", {}, CALL)).toMatchObject({ done: 1 });
    expect((await jsm.streams.info(stream)).state.messages).toBe(1);
  });

  test("keeps the mark of a letter that was not removed, and is not found once", async ({
    client,
    jsm,
    natsClient,
    letters,
  }) => {
    const stream = await createStream(client);
    await writeLetters(natsClient, stream, [5n]);
    const name = `${stream}-dead-letters`;
    {
      using _ = deleteNothing(name, { times: 1 });
      // After the read that has found the letter.
      using __ = findNothing(name, { times: 1, after: 1 });
      await expect(letters.replay(stream, "c", "all", {}, CALL)).rejects.toMatchObject({
        reason: "CONFIGURATION_REFUSED",
      });
    }
    expect((await jsm.streams.info(name)).state.messages).toBe(2);
    await letters.replay(stream, "c", "all", {}, CALL);
    expect((await jsm.streams.info(name)).state.messages).toBe(0);
    expect((await jsm.streams.info(stream)).state.messages).toBe(1);
  });

  test("stores no event that another replay has stored while it waited", async ({
    client,
    jsm,
    natsClient,
    letters,
  }) => {
    const stream = await createStream(client);
    await jsm.streams.update(stream, { duplicate_window: 100_000_000 });
    await writeLetters(natsClient, stream, [5n, 6n]);
    const reads = natsClient.subscribe(`$JS.API.STREAM.MSG.GET.${stream}-dead-letters`);
    const seen: string[] = [];
    void (async () => {
      for await (const message of reads) seen.push(message.string());
    })();
    await natsClient.flush();
    const slow = letters.replay(stream, "c", "all", { ratePerSecond: 0.5 }, CALL);
    // It has found the second letter, after the mark of the first one.
    await until(() => seen.some((text) => (JSON.parse(text) as { seq: number }).seq === 2));
    expect(await letters.replay(stream, "c", [6n], {}, CALL)).toMatchObject({ done: 1 });
    expect(await slow).toEqual({ done: 1, missing: [] });
    expect((await jsm.streams.info(stream)).state.messages).toBe(2);
    expect((await jsm.streams.info(`${stream}-dead-letters`)).state.messages).toBe(0);
    reads.unsubscribe();
  });

  test("is not misled by what an earlier letter of that id has left", async ({ client, jsm, natsClient, letters }) => {
    const stream = await createStream(client);
    await jetstream(natsClient).publish(
      `dead-letters.${stream}.c.5-replay`,
      JSON.stringify({ letter: "77", after: "0" }),
    );
    await writeLetters(natsClient, stream, [5n]);
    expect(await letters.replay(stream, "c", "all", {}, CALL)).toMatchObject({ done: 1 });
    expect((await jsm.streams.info(stream)).state.messages).toBe(1);
    expect((await jsm.streams.info(`${stream}-dead-letters`)).state.messages).toBe(0);
  });
});

test("the mark of a replay that was killed goes with a repetition by ids, and with its letter", async ({
  client,
  jsm,
  natsClient,
  letters,
}) => {
  const stream = await createStream(client);
  const js = jetstream(natsClient);
  const mark = (id: number, letter: number) =>
    js.publish(`dead-letters.${stream}.c.${id}-replay`, JSON.stringify({ letter: String(letter), after: "0" }));
  await writeLetters(natsClient, stream, [5n, 6n]);
  await mark(5, 1);
  await mark(6, 2);
  await jsm.streams.deleteMessage(`${stream}-dead-letters`, 1);
  expect(await letters.replay(stream, "c", [5n], {}, CALL)).toEqual({ done: 0, missing: [5n] });
  expect((await jsm.streams.info(`${stream}-dead-letters`)).state.messages).toBe(2);
  expect(await letters.delete(stream, "c", [6n], {}, CALL)).toEqual({ done: 1, missing: [] });
  expect((await jsm.streams.info(`${stream}-dead-letters`)).state.messages).toBe(0);
});

describe("a replayed event", () => {
  test("is seen by its consumer alone, on all servers, and its next letter has both histories", async ({
    nats,
    client,
    jsm,
    letters,
  }) => {
    const stream = await createStream(client);
    await using second = await startWindshift(nats.url);
    const call = await second.client.subscribe(stream, "c");
    const id = await client.publish(`${stream}.a`, "bad", { idempotencyKey: "key", attributes: { tenant: "a" } });
    const first = await call.event();
    call.send({ case: "reject", value: { ids: [id], permanently: true, reason: "first" } });
    await call.confirmation();
    await letters.replay(stream, "c", "all", {}, CALL);
    const again = await call.event();
    expect(again).toMatchObject({
      subject: first.subject,
      data: first.data,
      headers: first.headers,
      deliveryAttempt: 1n,
    });
    expect(again.id).not.toBe(id);
    call.send({ case: "reject", value: { ids: [again.id], permanently: true, reason: "second" } });
    await call.confirmation();
    const [letter] = (await letters.list(stream, "c", { size: 1 }, CALL)).letters;
    expect(letter).toMatchObject({
      id: again.id,
      reason: "second",
      idempotencyKey: "key",
      history: [{ id, reason: "first" }],
    });
    // The other consumer gets what was published, and not what was published again.
    const marker = await client.publish(`${stream}.a`, "marker");
    const other = await client.subscribe(stream, "other");
    expect((await other.take(2)).map((event) => event.id)).toEqual([id, marker]);
    await other.ackNow(id);
    await other.ackNow(marker);
    await until(async () => (await jsm.consumers.info(stream, "other")).num_ack_pending === 0);
    await other.cancel();
    await call.cancel();
  });
});

test("a replayed event is seen by consumers of plain NATS", async ({ client, jsm, natsClient, letters }) => {
  const stream = await createStream(client);
  await writeLetters(natsClient, stream, [5n]);
  await jsm.consumers.add(stream, { durable_name: "plain", ack_policy: AckPolicy.Explicit });
  await letters.replay(stream, "c", "all", {}, CALL);
  const consumer = await jetstream(natsClient).consumers.get(stream, "plain");
  const message = await consumer.next();
  expect(message?.string()).toBe("payload 5");
  expect(message?.headers?.get("WS-Replay-Id")).toBe("5");
});

test("the letter of a replayed event is read and delivered like others, and the mark of a replay is not", async ({
  client,
  natsClient,
  letters,
}) => {
  const stream = await createStream(client);
  const call = await client.subscribe(stream, "c");
  for (let round = 0; round < 2; round++) {
    if (round === 0) await client.publish(`${stream}.a`, "bad");
    else await letters.replay(stream, "c", "all", {}, CALL);
    const { id } = await call.event();
    call.send({ case: "reject", value: { ids: [id], permanently: true } });
    await call.confirmation();
  }
  await call.cancel();
  await jetstream(natsClient).publish(`dead-letters.${stream}.c.1-replay`, "{}");
  await writeLetters(natsClient, stream, [99n]);
  const name = `${stream}-dead-letters`;
  const from = { pointer: { case: "start" as const, value: true } };
  await client.ensureConsumer({ stream: name, name: "reader", subjects: ["dead-letters.>"], from });
  const reader = await client.subscribe(name, "reader");
  const delivered = (await reader.take(2)).map(({ subject }) => subject);
  await reader.cancel();
  const read: string[] = [];
  for await (const { response } of client.readEvents({ stream: name })) {
    if (response.case === "event") read.push(response.value.subject);
  }
  expect(read).toHaveLength(2);
  expect(read[1]).toBe(`dead-letters.${stream}.c.99`);
  expect(delivered).toEqual(read);
});

describe("deleted letters", () => {
  test.for([
    ["", async () => undefined],
    [", also where it was reset before", reset],
  ] as const)(
    "are gone, and so are their events for the consumer%s",
    async ([, before], { client, jsm, natsClient, letters }) => {
      const stream = await createStream(client);
      await before(client, stream);
      const call = await client.subscribe(stream, "c");
      const id = await client.publish(`${stream}.a`, "given up");
      expect(textOf((await call.event()).data)).toBe("given up");
      // As if the server had been killed between the letter and the event.
      await writeLetters(natsClient, stream, [id, 99n]);
      expect(await letters.delete(stream, "c", "all", {}, CALL)).toEqual({ done: 2, missing: [] });
      expect((await jsm.consumers.info(stream, "c")).num_ack_pending).toBe(0);
      expect((await letters.list(stream, "c", { size: 10 }, CALL)).letters).toEqual([]);
      await call.cancel();
    },
  );

  test("may be those of a consumer that is gone", async ({ client, natsClient, letters }) => {
    const stream = await createStream(client);
    await writeLetters(natsClient, stream, [5n, 3n]);
    await client.deleteConsumer({ stream, id: "c" });
    expect(await letters.delete(stream, "c", [5n], {}, CALL)).toEqual({ done: 1, missing: [] });
    expect((await letters.list(stream, "c", { size: 10 }, CALL)).letters.map(({ id }) => id)).toEqual([3n]);
  });
});

async function reset(client: Client, stream: string): Promise<void> {
  await new AdminClient(client).resetConsumer({ stream, id: "c", to: START });
}

async function makeAgain(client: Client, stream: string): Promise<void> {
  await client.deleteConsumer({ stream, id: "c" });
  await ensureConsumer(client, stream, "c", { deliveryPolicy: { deadLetter: {} } });
}

describe("a letter of before its consumer", () => {
  /** An event that was given up, and is held anew. */
  async function holdAnew(client: Client, begin: (client: Client, stream: string) => Promise<void>) {
    const stream = await createStream(client);
    const before = await client.subscribe(stream, "c");
    const id = await client.publish(`${stream}.a`, "given up");
    await before.event();
    before.send({ case: "reject", value: { ids: [id], permanently: true } });
    expect(await before.confirmation()).toEqual(confirmed({ ids: [id] }));
    await before.cancel();
    await begin(client, stream);
    const call = await client.subscribe(stream, "c");
    expect(await call.event()).toMatchObject({ id, deliveryAttempt: 1n });
    return { stream, id, call };
  }

  const begins = [
    ["was reset", reset],
    ["was made again", makeAgain],
  ] as const;

  test.for(begins)("%s is deleted, and its event goes on", async ([, begin], { client, jsm, letters }) => {
    const { stream, id, call } = await holdAnew(client, begin);
    expect(await letters.delete(stream, "c", "all", {}, CALL)).toEqual({ done: 1, missing: [] });
    expect((await jsm.consumers.info(stream, "c")).num_ack_pending).toBe(1);
    call.send({ case: "reject", value: { ids: [id] } });
    expect(await call.confirmation()).toEqual(confirmed({ ids: [id] }));
    expect(await call.event()).toMatchObject({ id, deliveryAttempt: 2n });
    await call.cancel();
    expect((await letters.list(stream, "c", { size: 10 }, CALL)).letters).toEqual([]);
  });

  test.for(begins)("%s is replayed beside its event", async ([, begin], { client, jsm, letters }) => {
    const { stream, call } = await holdAnew(client, begin);
    expect(await letters.replay(stream, "c", "all", {}, CALL)).toEqual({ done: 1, missing: [] });
    expect(textOf((await call.event()).data)).toBe("given up");
    expect((await jsm.consumers.info(stream, "c")).num_ack_pending).toBe(2);
    await call.cancel();
  });

  test("was reset may have been on its way then", async ({ client, jsm, natsClient, letters }) => {
    const stream = await createStream(client);
    const id = await client.publish(`${stream}.a`, "given up");
    const block = letterBlock(stream, id, "reason");
    await reset(client, stream);
    const call = await client.subscribe(stream, "c");
    await call.event();
    await writeLetter(natsClient, stream, id, block, "given up");
    expect(await letters.delete(stream, "c", "all", {}, CALL)).toEqual({ done: 1, missing: [] });
    expect((await jsm.consumers.info(stream, "c")).num_ack_pending).toBe(1);
    await call.cancel();
  });
});

test("a letter stays while nobody knows whether its event is settled", async ({ client, jsm, natsClient, letters }) => {
  const stream = await createStream(client);
  const call = await client.subscribe(stream, "c");
  const id = await client.publish(`${stream}.a`, "given up");
  await call.event();
  await writeLetters(natsClient, stream, [id]);
  {
    using _ = knowNoLeader(stream, "c", { times: 1 });
    await expect(letters.delete(stream, "c", "all", {}, CALL)).rejects.toMatchObject({ reason: "NO_LEADER" });
  }
  expect((await letters.list(stream, "c", { size: 10 }, CALL)).letters).toHaveLength(1);
  expect(await letters.delete(stream, "c", "all", {}, CALL)).toEqual({ done: 1, missing: [] });
  expect((await jsm.consumers.info(stream, "c")).num_ack_pending).toBe(0);
  await call.cancel();
});

/** Reading one event without a consumer. */
import type { JetStreamManager } from "@nats-io/jetstream";
import { type NatsConnection, headers } from "@nats-io/nats-core";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { describe, expect } from "vitest";
import { type Client, failure, textOf, textValue } from "../support/client.ts";
import { test, uniqueName } from "../support/fixtures.ts";
import { startNats } from "../support/nats.ts";
import { startWindshift } from "../support/windshift.ts";

async function createStream(client: Client): Promise<string> {
  const stream = uniqueName();
  await client.ensureStream({ name: stream, source: { case: "subjects", value: { subjects: [`${stream}.>`] } } });
  return stream;
}

const byId = (id: bigint) => ({ event: { case: "id" as const, value: id } });
const lastOf = (subject: string) => ({ event: { case: "lastOfSubject" as const, value: subject } });

/** Publishes as NATS tools do. */
async function publishPlain(
  nats: NatsConnection,
  subject: string,
  text: string,
  header: Record<string, string> = {},
): Promise<void> {
  const block = headers();
  for (const [name, value] of Object.entries(header)) block.set(name, value);
  await nats.request(subject, text, { headers: block, timeout: 10_000 });
}

async function collectAlso(jsm: JetStreamManager, stream: string, subject: string): Promise<void> {
  const { config } = await jsm.streams.info(stream);
  await jsm.streams.update(stream, { subjects: [...config.subjects!, subject] });
}

describe("an event", () => {
  test("is read by its id, with all that was published", async ({ client }) => {
    const stream = await createStream(client);
    const data = textValue("text");
    const timestamp = { ...timestampFromMs(1_700_000_000_000), nanos: 123_456_789 };
    const { id } = await client.publishEvent({ subject: `${stream}.a`, data, timestamp, idempotencyKey: "key" });
    await client.publish(`${stream}.b`);
    const { event } = await client.getEvent({ stream, ...byId(id) });
    expect(event).toMatchObject({ id, subject: `${stream}.a`, deliveryAttempt: 0n });
    expect(event!.data!.typeUrl).toBe(data.typeUrl);
    expect(textOf(event!.data)).toBe("text");
    expect(event!.headers).toMatchObject({ timestamp, idempotencyKey: "key" });
  });

  test("is read as the last one of its subject", async ({ client }) => {
    const stream = await createStream(client);
    for (const text of ["1", "2"]) await client.publish(`${stream}.a`, text);
    await client.publish(`${stream}.b`, "3");
    const { event } = await client.getEvent({ stream, ...lastOf(`${stream}.a`) });
    expect(event).toMatchObject({ id: 2n, subject: `${stream}.a` });
    expect(textOf(event!.data)).toBe("2");
  });

  test.for(["id", "subject"])(
    "of NATS tools has the time of its storing (by %s)",
    async (by, { client, natsClient, jsm }) => {
      const stream = await createStream(client);
      await publishPlain(natsClient, `${stream}.a`, "plain");
      const query = by === "id" ? byId(1n) : lastOf(`${stream}.a`);
      const { event } = await client.getEvent({ stream, ...query });
      const stored = await jsm.streams.getMessage(stream, { seq: 1 });
      const { seconds, nanos } = event!.headers!.timestamp!;
      expect(BigInt(nanos)).toBe(BigInt(/\.(\d+)Z/.exec(stored!.timestamp)![1]!.padEnd(9, "0")));
      expect(seconds).toBe(BigInt(Math.floor(Date.parse(stored!.timestamp) / 1000)));
      expect(event!.data).toMatchObject({ typeUrl: "", value: Buffer.from("plain") });
    },
  );

  test("is read from a stream that allows no direct gets", async ({ client, jsm }) => {
    const stream = await createStream(client);
    await jsm.streams.update(stream, { allow_direct: false });
    const id = await client.publish(`${stream}.a`, "text");
    for (const query of [byId(id), lastOf(`${stream}.a`)]) {
      expect((await client.getEvent({ stream, ...query })).event).toMatchObject({ id, subject: `${stream}.a` });
    }
  });

  test("of a mirror has the id that its origin gave it", async ({ client }) => {
    const stream = await createStream(client);
    for (const text of ["1", "2", "3"]) await client.publish(`${stream}.a`, text);
    const mirror = uniqueName();
    const from = { pointer: { case: "offset" as const, value: 2n } };
    await client.ensureStream({ name: mirror, source: { case: "mirror", value: { name: stream, from } } });
    const last = async () => client.getEvent({ stream: mirror, ...lastOf(`${stream}.a`) }).catch(() => undefined);
    await expect.poll(async () => (await last())?.event?.id).toBe(3n);
    expect(textOf((await client.getEvent({ stream: mirror, ...byId(2n) })).event!.data)).toBe("2");
    expect(await failure(client.getEvent({ stream: mirror, ...byId(1n) }))).toMatchObject({
      reason: "EVENT_NOT_FOUND",
    });
  });

  test("is the last one that is shown, where the last one was published again for one consumer", async ({
    client,
    natsClient,
  }) => {
    const stream = await createStream(client);
    for (const text of ["1", "2"]) await client.publish(`${stream}.a`, text);
    await publishPlain(natsClient, `${stream}.a`, "again", {
      "WS-Replay-Consumer": `${stream}/c`,
      "WS-Replay-Id": "1",
    });
    const { event } = await client.getEvent({ stream, ...lastOf(`${stream}.a`) });
    expect(event).toMatchObject({ id: 2n });
    expect(textOf(event!.data)).toBe("2");
  });

  test("is the current one although a mirror that lags answers direct gets", async ({ client, jsm }) => {
    const stream = await createStream(client);
    await client.publish(`${stream}.a`, "old");
    const mirror = uniqueName();
    await jsm.streams.add({ name: mirror, mirror: { name: stream }, allow_direct: true, mirror_direct: true });
    for (let round = 0; round < 100; round++) {
      const id = await client.publish(`${stream}.a`, `text ${round}`);
      expect((await client.getEvent({ stream, ...lastOf(`${stream}.a`) })).event!.id).toBe(id);
      expect((await client.getEvent({ stream, ...byId(id) })).event!.id).toBe(id);
    }
  });
});

describe("there is no event", () => {
  test("where none was stored, or not any more", async ({ client, jsm }) => {
    const stream = await createStream(client);
    for (const text of ["1", "2"]) await client.publish(`${stream}.a`, text);
    await jsm.streams.deleteMessage(stream, 1);
    for (const id of [1n, 3n, 2n ** 53n, 2n ** 64n - 1n]) {
      const error = await failure(client.getEvent({ stream, ...byId(id) }));
      expect(error).toMatchObject({ status: "NOT_FOUND", reason: "EVENT_NOT_FOUND" });
      expect(error.metadata).toEqual({ stream, id: `${id}` });
      expect(error.message).toBe(`id: stream "${stream}" has no event with id ${id}`);
    }
    const error = await failure(client.getEvent({ stream, ...lastOf("other.b") }));
    expect(error).toMatchObject({ status: "NOT_FOUND", reason: "EVENT_NOT_FOUND" });
    expect(error.metadata).toEqual({ stream, subject: "other.b" });
  });

  test("in a stream that does not exist", async ({ client }) => {
    for (const query of [byId(1n), lastOf("a")]) {
      const error = await failure(client.getEvent({ stream: "nowhere", ...query }));
      expect(error).toMatchObject({ status: "NOT_FOUND", reason: "STREAM_NOT_FOUND", metadata: { stream: "nowhere" } });
    }
  });

  test("in a stream that was deleted just now", async ({ client, jsm }) => {
    const stream = await createStream(client);
    const id = await client.publish(`${stream}.a`);
    await client.getEvent({ stream, ...byId(id) });
    await jsm.streams.delete(stream);
    expect(await failure(client.getEvent({ stream, ...byId(id) }))).toMatchObject({ reason: "STREAM_NOT_FOUND" });
  });

  test("behind a schedule, or what was published again for one consumer", async ({ client, natsClient, jsm }) => {
    const stream = await createStream(client);
    await collectAlso(jsm, stream, `ws-schedules.${stream}.*`);
    await publishPlain(natsClient, `ws-schedules.${stream}.token`, "waits");
    await publishPlain(natsClient, `${stream}.a`, "again", {
      "WS-Replay-Consumer": `${stream}/c`,
      "WS-Replay-Id": "7",
    });
    for (const query of [byId(1n), byId(2n), lastOf(`ws-schedules.${stream}.token`), lastOf(`${stream}.a`)]) {
      expect(await failure(client.getEvent({ stream, ...query }))).toMatchObject({ reason: "EVENT_NOT_FOUND" });
    }
  });
});

describe("a request is refused", () => {
  test.for([
    ["without a stream", { stream: "", ...byId(1n) }, "MISSING_FIELD", "stream"],
    ["with a stream that is no name", { stream: "a.b", ...byId(1n) }, "INVALID_NAME", "stream"],
    ["without an event", { stream: "s" }, "MISSING_FIELD", "event"],
    ["with id 0", { stream: "s", ...byId(0n) }, "INVALID_VALUE", "id"],
    ["with an empty subject", { stream: "s", ...lastOf("") }, "MISSING_FIELD", "last_of_subject"],
    ["with a wildcard", { stream: "s", ...lastOf("a.*") }, "INVALID_SUBJECT", "last_of_subject"],
    ["with all", { stream: "s", ...lastOf(">") }, "INVALID_SUBJECT", "last_of_subject"],
    ["with a subject that is none", { stream: "s", ...lastOf("a b") }, "INVALID_SUBJECT", "last_of_subject"],
    ["with a line break", { stream: "s", ...lastOf("a\r\nPUB b 0") }, "INVALID_SUBJECT", "last_of_subject"],
  ] as const)("%s", async ([, request, reason, field], { client }) => {
    const error = await failure(client.getEvent(request));
    expect(error).toMatchObject({ status: "INVALID_ARGUMENT", reason, fields: [field] });
    expect(error.message).toMatch(`${field}: `);
  });

  test("while NATS is away, and answered again when it is back", async () => {
    await using nats = await startNats();
    await using windshift = await startWindshift(nats.url);
    const { client } = windshift;
    const stream = await createStream(client);
    const id = await client.publish(`${stream}.a`);
    await nats.stop();
    const gone = async () => (await failure(client.getEvent({ stream, ...byId(id) }))).status;
    await expect.poll(gone).toBe("UNAVAILABLE");
    await nats.restart();
    const back = async () => (await client.getEvent({ stream, ...byId(id) }).catch(() => undefined))?.event?.id;
    await expect.poll(back, { timeout: 30_000 }).toBe(id);
  });
});

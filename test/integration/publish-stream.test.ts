/** PublishStream: many events of one call, each answered under its tag, in the order of their subjects. */
import { setTimeout as delay } from "node:timers/promises";
import { create, toBinary } from "@bufbuild/protobuf";
import { describe, expect } from "vitest";
import { PublishStreamRequestSchema } from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { CallError, type PublishStreamCall, textOf, textValue } from "../support/client.ts";
import { test, uniqueName } from "../support/fixtures.ts";
import { consume, count, ensureStream, header } from "../support/publishing.ts";
import { startNats } from "../support/nats.ts";
import { startWindshift } from "../support/windshift.ts";

const TIMEOUT = { timeout: 20_000 };

async function answered(call: PublishStreamCall, results: number): Promise<void> {
  await expect.poll(() => call.results.size, TIMEOUT).toBe(results);
}

describe("a publish stream", () => {
  test("stores events and answers each under its tag with its id", async ({ client }) => {
    const stream = await ensureStream(client);
    const call = client.publishStream();
    call.publish(7n, `${stream}.a`, "first");
    call.publish(0n, `${stream}.b`, "second");
    call.publish(2n ** 64n - 1n, `${stream}.a`, "third");
    expect(await call.finish()).toBeUndefined();
    expect(Object.fromEntries(call.results)).toEqual({ "7": 1n, "0": 2n, "18446744073709551615": 3n });
    const events = await consume(client, stream, 3);
    expect(events.map(({ data }) => textOf(data))).toEqual(["first", "second", "third"]);
  });

  test("answers while it is open", async ({ client }) => {
    const stream = await ensureStream(client);
    const call = client.publishStream();
    for (const tag of [1n, 2n, 3n]) {
      call.publish(tag, `${stream}.a`);
      await answered(call, Number(tag));
      expect(call.results.get(tag)).toBe(tag);
    }
    expect(await call.finish()).toBeUndefined();
  });

  test("without events ends with OK", async ({ client }) => {
    expect(await client.publishStream().finish()).toBeUndefined();
  });

  test("answers what was sent before the half-close, and ends then", async ({ client, jsm }) => {
    const stream = await ensureStream(client);
    const call = client.publishStream();
    for (let n = 1n; n <= 5_000n; n++) call.publish(n, `${stream}.a`, `${n}`);
    expect(await call.finish()).toBeUndefined();
    expect(call.results.size).toBe(5_000);
    for (const [tag, id] of call.results) expect(id).toBe(tag);
    expect(await count(jsm, stream)).toBe(5_000);
  });

  test("keeps everything that an event has", async ({ client, jsm }) => {
    const stream = await ensureStream(client, { allowTimeToLive: true });
    const call = client.publishStream({ metadata: { traceparent: TRACE } });
    const rest = {
      idempotencyKey: "k",
      timestamp: { seconds: 1n },
      attributes: { a: "b" },
      timeToLive: { seconds: 60n },
      expectedLastId: 0n,
    };
    call.publish(1n, `${stream}.a`, "x", rest);
    call.publish(2n, `${stream}.a`, "x", rest);
    expect(await call.finish()).toBeUndefined();
    expect([...call.results.values()]).toEqual([1n, 1n]);
    expect(await header(jsm, stream, 1n, "WS-Trace-Parent")).toBe(TRACE);
    expect(await header(jsm, stream, 1n, "Nats-TTL")).toBe("60s");
    const [event] = await consume(client, stream, 1);
    expect(event!.headers).toMatchObject({ idempotencyKey: "k", attributes: { a: "b" }, timestamp: { seconds: 1n } });
  });

  test("answers what cannot be stored with its error, and goes on", async ({ client }) => {
    const stream = await ensureStream(client, { maxEventSize: 1000 });
    const call = client.publishStream();
    call.send(1n);
    call.publish(2n, "not valid");
    call.send(3n, { subject: `${stream}.a` });
    call.publish(4n, `${uniqueName("nowhere")}.a`);
    call.publish(5n, `${stream}.a`, "x", { expectedLastId: 5n });
    call.publish(6n, `${stream}.a`, "x".repeat(2000));
    call.publish(7n, `${stream}.a`, "x", { timeToLive: { seconds: 1n } });
    call.publish(8n, `${stream}.a`);
    expect(await call.finish()).toBeUndefined();
    const result = (tag: bigint): unknown => call.results.get(tag);
    expect(result(1n)).toMatchObject({ status: "INVALID_ARGUMENT", reason: "MISSING_FIELD", fields: ["event"] });
    expect(result(2n)).toMatchObject({ status: "INVALID_ARGUMENT", reason: "INVALID_SUBJECT", fields: ["subject"] });
    expect(result(3n)).toMatchObject({ status: "INVALID_ARGUMENT", reason: "MISSING_FIELD", fields: ["data"] });
    expect(result(4n)).toMatchObject({ status: "NOT_FOUND", reason: "SUBJECT_NOT_BOUND" });
    expect(result(5n)).toMatchObject({ status: "FAILED_PRECONDITION", reason: "LAST_ID_MISMATCH" });
    expect(result(6n)).toMatchObject({ status: "RESOURCE_EXHAUSTED", metadata: { outcome: "not_stored" } });
    expect(result(7n)).toMatchObject({ status: "FAILED_PRECONDITION", reason: "NOT_ENABLED" });
    expect(result(8n)).toBe(1n);
  });

  test("keeps the order of what is stored, whatever is refused in between", async ({ client, jsm }) => {
    const stream = await ensureStream(client, { maxEventSize: 1000 });
    const call = client.publishStream();
    const refusals = [
      { payload: "x".repeat(2000), rest: {} },
      { payload: "x", rest: { expectedLastId: 1_000_000n } },
      { payload: "x", rest: { timeToLive: { seconds: 1n } } },
    ] as const;
    const stored: bigint[] = [];
    for (let tag = 1n; tag <= 300n; tag++) {
      const refusal = refusals[Number(tag % 4n)];
      call.publish(tag, `${stream}.${tag % 3n}`, refusal?.payload ?? `${tag}`, refusal?.rest);
      if (refusal === undefined) stored.push(tag);
    }
    expect(await call.finish()).toBeUndefined();
    expect([...call.results.values()].filter((result) => typeof result === "object")).toHaveLength(225);
    expect(stored.map((tag) => call.results.get(tag))).toEqual(stored.map((_, n) => BigInt(n + 1)));
    expect(await count(jsm, stream)).toBe(75);
  });

  test("ends with INVALID_ARGUMENT for bytes that are no message", async ({ client }) => {
    const call = client.grpc.makeBidiStreamRequest(
      "/windshift.events.v1alpha1.EventsService/PublishStream",
      (bytes: Buffer) => bytes,
      (bytes) => bytes,
    );
    const { promise, resolve } = Promise.withResolvers<CallError>();
    call.on("error", () => undefined);
    call.on("data", () => undefined);
    call.on("status", (end) => resolve(new CallError(end)));
    call.write(Buffer.from([0xff, 0xff]));
    expect(await promise).toMatchObject({ status: "INVALID_ARGUMENT", reason: "MALFORMED_MESSAGE" });
  });

  test("stores what a client sent that left without waiting", async ({ client, jsm }) => {
    const stream = await ensureStream(client);
    const call = client.publishStream();
    call.publish(1n, `${stream}.a`);
    await answered(call, 1);
    call.publish(2n, `${stream}.a`);
    await new Promise<void>((resolve) => {
      call.stream.write(create(PublishStreamRequestSchema, { tag: 3n }), () => resolve());
    });
    await answered(call, 3);
    call.stream.cancel();
    expect(await call.ended).toMatchObject({ status: "CANCELLED" });
    expect(await count(jsm, stream)).toBe(2);
  });
});

const TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

describe("a server that is full", () => {
  test("lets a publish stream wait, and fails none of its events", async ({ nats }) => {
    await using windshift = await startWindshift(nats.url, {
      NATS_PUBLISH_ASYNC_MAX_PENDING: "2",
      PUBLISH_QUEUE_LIMIT: "1",
    });
    const stream = await ensureStream(windshift.client, { name: uniqueName() });
    const calls = [1, 2, 3].map((n) => {
      const call = windshift.client.publishStream();
      for (let tag = 1n; tag <= 500n; tag++) call.publish(tag, `${stream}.${n}`, `${tag}`);
      return call;
    });
    for (const call of calls) expect(await call.finish()).toBeUndefined();
    for (const call of calls) expect([...call.results.values()].filter((id) => typeof id !== "bigint")).toEqual([]);
    for (const { results } of calls) {
      const ids = [...results].toSorted(([a], [b]) => Number(a - b)).map(([, id]) => id as bigint);
      expect(ids).toEqual(ids.toSorted((a, b) => Number(a - b)));
      expect(ids).toHaveLength(500);
    }
  });

  test("holds back a client that sends more than can be stored", async () => {
    await using nats = await startNats();
    await using windshift = await startWindshift(nats.url, { NATS_REQUEST_TIMEOUT: "60s" });
    const stream = await ensureStream(windshift.client);
    const call = windshift.client.publishStream();
    call.publish(1n, `${stream}.a`);
    await answered(call, 1);
    process.kill(nats.pid, "SIGSTOP");
    const payload = textValue("x".repeat(100_000));
    let written = 0;
    const total = 400;
    for (let n = 0; n < total; n++) {
      const event = { subject: `${stream}.a`, data: payload };
      call.stream.write(create(PublishStreamRequestSchema, { tag: BigInt(n + 2), event }), () => (written += 1));
    }
    // 40 MB are on offer; the server takes what it may hold, and the rest stays with the client.
    await expect.poll(() => written, TIMEOUT).toBeGreaterThan(10);
    let before = -1;
    while (before !== written) {
      before = written;
      await delay(300);
    }
    expect(written).toBeLessThan(200);
    process.kill(nats.pid, "SIGCONT");
    expect(await call.finish()).toBeUndefined();
    expect(call.results.size).toBe(total + 1);
  });
});

describe("a server that leaves", () => {
  test("answers what it has read, then ends the call with UNAVAILABLE", async ({ nats, jsm }) => {
    const windshift = await startWindshift(nats.url, { SHUTDOWN_GRACE: "10s" });
    const stream = await ensureStream(windshift.client, { name: uniqueName() });
    const call = windshift.client.publishStream();
    for (let tag = 1n; tag <= 200n; tag++) call.publish(tag, `${stream}.a`);
    await expect.poll(() => call.results.size, TIMEOUT).toBeGreaterThan(0);
    await windshift.daemon[Symbol.asyncDispose]();
    expect(await call.ended).toMatchObject({ status: "UNAVAILABLE", reason: "SERVER_DRAINING" });
    windshift.client.close();
    expect(await count(jsm, stream)).toBe(call.results.size);
    for (const [tag, id] of call.results) expect(id).toBe(tag);
  });
});

describe("while NATS is away", () => {
  test("events fail with what is known of them, and the call goes on when it is back", async () => {
    await using nats = await startNats();
    await using windshift = await startWindshift(nats.url);
    const stream = await ensureStream(windshift.client);
    const call = windshift.client.publishStream();
    call.publish(1n, `${stream}.a`);
    await answered(call, 1);
    await nats.stop();
    await expect.poll(() => windshift.log.some(({ msg }) => msg === "lost the connection to NATS"), TIMEOUT).toBe(true);
    call.publish(2n, `${stream}.a`);
    await answered(call, 2);
    expect(call.results.get(2n)).toMatchObject({ status: "UNAVAILABLE", metadata: { outcome: "not_stored" } });
    await nats.restart();
    let tag = 3n;
    await expect
      .poll(async () => {
        call.publish(tag, `${stream}.a`);
        await answered(call, Number(tag));
        return typeof call.results.get(tag++);
      }, TIMEOUT)
      .toBe("bigint");
    expect(await call.finish()).toBeUndefined();
  });
});

test("a message of another version of the contract is read as far as it is known", async ({ client }) => {
  const stream = await ensureStream(client);
  const known = toBinary(
    PublishStreamRequestSchema,
    create(PublishStreamRequestSchema, { tag: 1n, event: { subject: `${stream}.a`, data: textValue("x") } }),
  );
  const call = client.grpc.makeBidiStreamRequest(
    "/windshift.events.v1alpha1.EventsService/PublishStream",
    (bytes: Buffer) => bytes,
    (bytes) => bytes,
  );
  const { promise, resolve } = Promise.withResolvers<Buffer>();
  call.on("data", resolve);
  call.write(Buffer.concat([known, Buffer.from([0xfa, 0x3f, 0x01, 0x78])]));
  expect([...(await promise)]).toEqual([8, 1, 16, 1]);
  call.cancel();
  call.on("error", () => undefined);
});

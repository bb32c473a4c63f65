/** PublishEvent: what is stored, what a repeat does, what is refused, and what is said while NATS is away. */
import { execFile as execFileWithCallback } from "node:child_process";
import { promisify } from "node:util";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { describe, expect } from "vitest";
import { EnsureStreamRequest_DiscardPolicy as DiscardPolicy } from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { type CallError, type Client, failure, textOf, textValue } from "../support/client.ts";
import { findNothing } from "../support/false-answers.ts";
import { test, uniqueName } from "../support/fixtures.ts";
import { type NatsServer, startNats } from "../support/nats.ts";
import { consume, count, ensureStream, header } from "../support/publishing.ts";
import { startWindshift } from "../support/windshift.ts";

const execFile = promisify(execFileWithCallback);

describe("an event", () => {
  test("gets the next sequence of its stream as its id, whatever its subject", async ({ client }) => {
    const [stream, other] = [await ensureStream(client), await ensureStream(client)];
    expect(await client.publish(`${stream}.a`)).toBe(1n);
    expect(await client.publish(`${stream}.b.c`)).toBe(2n);
    expect(await client.publish(`${other}.a`)).toBe(1n);
    expect(await client.publish(`${stream}.a`)).toBe(3n);
  });

  test("is published under either name of the method", async ({ client }) => {
    const stream = await ensureStream(client);
    const request = { subject: `${stream}.a`, data: textValue("x") };
    expect((await client.publishEvent(request)).id).toBe(1n);
    expect((await client.publishByOldName(request)).id).toBe(2n);
  });

  test("comes back as it was published", async ({ client }) => {
    const stream = await ensureStream(client);
    const data = {
      typeUrl: "type.googleapis.com/acme.orders.v1.OrderCreated",
      value: new Uint8Array([0, 255, 13, 10]),
    };
    await client.publishEvent({ subject: `${stream}.a`, data, idempotencyKey: "key 1" });
    const [event] = await consume(client, stream, 1);
    expect(event).toMatchObject({ id: 1n, subject: `${stream}.a`, deliveryAttempt: 1n });
    expect(event!.data).toMatchObject({ typeUrl: data.typeUrl });
    expect([...event!.data!.value]).toEqual([0, 255, 13, 10]);
    expect(event!.headers).toMatchObject({ idempotencyKey: "key 1" });
  });

  const times: [time: string, seconds: bigint, nanos: number, stored: string][] = [
    ["nanoseconds", 1_700_000_000n, 123_456_789, "2023-11-14T22:13:20.123456789Z"],
    ["one nanosecond", 1_700_000_000n, 1, "2023-11-14T22:13:20.000000001Z"],
    ["trailing zeros, which are cut", 1_700_000_000n, 120_000_000, "2023-11-14T22:13:20.12Z"],
    ["whole seconds", 1_700_000_000n, 0, "2023-11-14T22:13:20Z"],
    ["the epoch", 0n, 0, "1970-01-01T00:00:00Z"],
    ["the moment before 1970", -1n, 999_999_999, "1969-12-31T23:59:59.999999999Z"],
    ["a leap day", 951_782_400n, 0, "2000-02-29T00:00:00Z"],
    ["the year 99", -59_011_459_200n, 5, "0100-01-01T00:00:00.000000005Z"],
    ["the first moment of the year 1", -62_135_596_800n, 0, "0001-01-01T00:00:00Z"],
    ["the last moment of the year 9999", 253_402_300_799n, 999_999_999, "9999-12-31T23:59:59.999999999Z"],
  ];
  test.for(times)("keeps a timestamp of %s", async ([, seconds, nanos, stored], { client, jsm }) => {
    const stream = await ensureStream(client);
    const id = await client.publish(`${stream}.a`, "x", { timestamp: { seconds, nanos } });
    expect(await header(jsm, stream, id, "WS-Published-Time")).toBe(stored);
    const [event] = await consume(client, stream, 1);
    expect(event!.headers!.timestamp).toMatchObject({ seconds, nanos });
  });

  test("without a timestamp gets the time of its publishing", async ({ client, jsm }) => {
    const stream = await ensureStream(client);
    const before = Date.now();
    const id = await client.publish(`${stream}.a`);
    const stored = Date.parse((await header(jsm, stream, id, "WS-Published-Time"))!);
    expect(stored).toBeGreaterThanOrEqual(before);
    expect(stored).toBeLessThanOrEqual(Date.now());
  });

  const TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  const traces: [trace: string, metadata: Record<string, string>, parent?: string, state?: string][] = [
    ["a trace", { traceparent: TRACE }, TRACE],
    ["a trace with its state", { traceparent: TRACE, tracestate: "vendor=value" }, TRACE, "vendor=value"],
    ["no trace", {}],
    ["a state without a trace", { tracestate: "vendor=value" }],
    ["what is no trace", { traceparent: "00-xyz-1-01", tracestate: "vendor=value" }],
    ["a trace of zeros", { traceparent: `00-${"0".repeat(32)}-b7ad6b7169203331-01` }],
  ];
  test.for(traces)("of a call with %s carries just that", async ([, metadata, parent, state], { client, jsm }) => {
    const stream = await ensureStream(client);
    await client.publishEvent({ subject: `${stream}.a`, data: textValue("x") }, { metadata });
    expect(await header(jsm, stream, 1n, "WS-Trace-Parent")).toBe(parent);
    expect(await header(jsm, stream, 1n, "WS-Trace-State")).toBe(state);
    const [event] = await consume(client, stream, 1);
    expect([event!.headers!.traceParent, event!.headers!.traceState]).toEqual([parent, state]);
  });
});

describe("an idempotency key", () => {
  test("that comes again stores nothing, and returns the id of the first", async ({ client, jsm }) => {
    const stream = await ensureStream(client);
    const publish = async (subject: string, text: string) =>
      client.publish(`${stream}.${subject}`, text, { idempotencyKey: "k" });
    await client.publish(`${stream}.a`);
    expect(await publish("a", "first")).toBe(2n);
    expect(await publish("a", "second")).toBe(2n);
    expect(await publish("b", "on another subject")).toBe(2n);
    expect(await count(jsm, stream)).toBe(2);
    expect(textOf((await consume(client, stream, 2))[1]!.data)).toBe("first");
  });

  test("counts for its stream alone", async ({ client }) => {
    const [stream, other] = [await ensureStream(client), await ensureStream(client)];
    await client.publish(`${other}.a`);
    expect(await client.publish(`${stream}.a`, "x", { idempotencyKey: "k" })).toBe(1n);
    expect(await client.publish(`${other}.a`, "x", { idempotencyKey: "k" })).toBe(2n);
  });

  test("that comes many times at once stores one event", async ({ client, jsm }) => {
    const stream = await ensureStream(client);
    const publish = async () => client.publish(`${stream}.a`, "x", { idempotencyKey: "k" });
    expect(new Set(await Promise.all(Array.from({ length: 50 }, publish)))).toEqual(new Set([1n]));
    expect(await count(jsm, stream)).toBe(1);
  });

  const keys: [key: string, given: string, stored: string | undefined][] = [
    ["that is empty is none", "", undefined],
    ["of blanks is none", "  ", undefined],
    ["of line breaks is none", "\r\n\n", undefined],
    ["with a line break has a blank in its place", "a\nb", "a b"],
    // As the Go library writes it: both would otherwise not know each other's keys.
    ["with a Windows line break has two", "a\r\nb", "a  b"],
    ["cannot make headers", "k\r\nWS-Data-Type: evil", "k  WS-Data-Type: evil"],
    ["loses blanks at its ends", " \tk ", "k"],
    ["keeps a colon", "order:1", "order:1"],
    ["keeps other alphabets", "bestellung-ü-注文-🙂", "bestellung-ü-注文-🙂"],
    ["may be long", "k".repeat(8192), "k".repeat(8192)],
  ];
  test.for(keys)("%s", async ([, idempotencyKey, stored], { client, jsm }) => {
    const stream = await ensureStream(client);
    const publish = async (key: string) => client.publish(`${stream}.a`, "x", { idempotencyKey: key });
    expect(await publish(idempotencyKey)).toBe(1n);
    expect(await header(jsm, stream, 1n, "Nats-Msg-Id")).toBe(stored);
    expect(await header(jsm, stream, 1n, "WS-Data-Type")).toBe("windshift.test.v1.StringValue");
    expect(await publish(idempotencyKey)).toBe(stored === undefined ? 2n : 1n);
    if (stored !== undefined) expect(await publish(stored)).toBe(1n);
    const [event] = await consume(client, stream, 1);
    expect(event!.headers!.idempotencyKey).toBe(stored);
  });
});

describe("expected_last_id", () => {
  const publish = async (client: Client, subject: string, expectedLastId: bigint, idempotencyKey?: string) =>
    client.publish(subject, "x", { expectedLastId, ...(idempotencyKey === undefined ? {} : { idempotencyKey }) });

  async function refused(call: Promise<unknown>, subject: string, expected: bigint): Promise<void> {
    const error = await failure(call);
    expect(error).toMatchObject({
      status: "FAILED_PRECONDITION",
      reason: "LAST_ID_MISMATCH",
      domain: "windshift",
      metadata: { subject, outcome: "not_stored" },
      retryAfterMs: undefined,
    });
    expect(error.message).toBe(`expected_last_id: ${expected} is not the id of the last event of "${subject}"`);
  }

  test("compares with the last event of the same subject", async ({ client, jsm }) => {
    const stream = await ensureStream(client);
    const [a, b] = [`${stream}.a`, `${stream}.b`];
    expect(await client.publish(a)).toBe(1n);
    expect(await client.publish(b)).toBe(2n);
    await refused(publish(client, a, 2n), a, 2n);
    expect(await publish(client, a, 1n)).toBe(3n);
    await refused(publish(client, a, 1n), a, 1n);
    expect(await publish(client, b, 2n)).toBe(4n);
    await refused(publish(client, a, 2n ** 64n - 1n), a, 2n ** 64n - 1n);
    expect(await count(jsm, stream)).toBe(4);
  });

  test("0 means that the subject has no event", async ({ client }) => {
    const stream = await ensureStream(client);
    const [a, b] = [`${stream}.a`, `${stream}.b`];
    expect(await publish(client, a, 0n)).toBe(1n);
    await refused(publish(client, a, 0n), a, 0n);
    expect(await publish(client, b, 0n)).toBe(2n);
  });

  test("lets one of many through", async ({ client, jsm }) => {
    const stream = await ensureStream(client);
    const id = await client.publish(`${stream}.a`);
    const calls = Array.from({ length: 20 }, async () => publish(client, `${stream}.a`, id));
    const results = await Promise.allSettled(calls);
    expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    for (const result of results) {
      if (result.status === "rejected") expect((result.reason as CallError).reason).toBe("LAST_ID_MISMATCH");
    }
    expect(await count(jsm, stream)).toBe(2);
  });

  test.for([
    ["of a new subject", 0n],
    ["after another event", 1n],
  ] as const)("with a key: a repeat %s returns the first id", async ([, expected], { client, jsm }) => {
    const stream = await ensureStream(client);
    const subject = `${stream}.a`;
    if (expected > 0n) await client.publish(subject);
    const id = await publish(client, subject, expected, "k");
    expect(id).toBe(expected + 1n);
    expect(await publish(client, subject, expected, "k")).toBe(id);

    // Also after others went on from there.
    await client.publish(`${stream}.b`);
    await publish(client, subject, id, "other");
    expect(await publish(client, subject, expected, "k")).toBe(id);
    expect(await count(jsm, stream)).toBe(Number(id) + 2);
  });

  test("with a key: a repeat whose key has line breaks returns the first id", async ({ client }) => {
    const stream = await ensureStream(client);
    expect(await publish(client, `${stream}.a`, 0n, " a\r\nb ")).toBe(1n);
    expect(await publish(client, `${stream}.a`, 0n, " a\r\nb ")).toBe(1n);
  });

  test.for([0, 1])(
    "with a key: a repeat returns the first id although look %i finds nothing",
    async (after, { client }) => {
      const stream = await ensureStream(client);
      const subject = `${stream}.a`;
      const last = await client.publish(subject);
      const id = await publish(client, subject, last, "k");
      using _ = findNothing(stream, { times: 1, after });
      expect(await publish(client, subject, last, "k")).toBe(id);
    },
  );

  test.for([2n ** 53n + 1n, 2n ** 63n, 2n ** 64n - 1n])(
    "%i is refused with a key, too",
    async (expected, { client }) => {
      const stream = await ensureStream(client);
      const subject = `${stream}.a`;
      await client.publish(subject);
      await refused(publish(client, subject, expected, "k"), subject, expected);
    },
  );

  test("with a key that is new is refused where it does not match", async ({ client }) => {
    const stream = await ensureStream(client);
    const subject = `${stream}.a`;
    await publish(client, subject, 0n, "k");
    await refused(publish(client, subject, 0n, "new"), subject, 0n);
    await refused(publish(client, subject, 7n, "new"), subject, 7n);
  });
});

describe("a subject that no stream collects", () => {
  test("is NOT_FOUND", async ({ client }) => {
    const error = await failure(client.publish("nobody.collects.this"));
    expect(error).toMatchObject({
      status: "NOT_FOUND",
      reason: "SUBJECT_NOT_BOUND",
      metadata: { subject: "nobody.collects.this", outcome: "not_stored" },
      retryAfterMs: undefined,
    });
    expect(error.message).toBe('subject: "nobody.collects.this" is not collected by any stream');
  });

  test("is NOT_FOUND with a key and an expected id", async ({ client }) => {
    const call = client.publish("nobody.collects.this", "x", { idempotencyKey: "k", expectedLastId: 0n });
    expect(await failure(call)).toMatchObject({ status: "NOT_FOUND", reason: "SUBJECT_NOT_BOUND" });
  });

  test("is NOT_FOUND also while somebody listens on it with plain NATS", async ({ nats, natsClient }) => {
    await using windshift = await startWindshift(nats.url, { NATS_REQUEST_TIMEOUT: "200ms" });
    natsClient.subscribe("heard.>");
    await natsClient.flush();
    const error = await failure(windshift.client.publish("heard.a"));
    expect(error).toMatchObject({ status: "NOT_FOUND", reason: "SUBJECT_NOT_BOUND" });
  });

  test.for([
    ["no JSON", "thanks"],
    ["nothing", ""],
    ["JSON of another kind", "[]"],
    ["half an acknowledgement", '{"stream":"x"}'],
    ["null", "null"],
  ])("on which somebody answers with %s harms no other call", async ([, answer], { client, natsClient }) => {
    const stream = await ensureStream(client);
    const subject = uniqueName("answered");
    natsClient.subscribe(subject, { callback: (_, message) => void message.respond(answer) });
    await natsClient.flush();
    const error = await failure(client.publish(subject));
    expect(error).toMatchObject({
      status: "NOT_FOUND",
      reason: "SUBJECT_NOT_BOUND",
      domain: "windshift",
    });
    expect(await client.publish(`${stream}.a`)).toBe(1n);
  });
});

describe("an event that is too large", () => {
  test("for its stream is refused", async ({ client, jsm }) => {
    const stream = await ensureStream(client, { maxEventSize: 1000 });
    const error = await failure(client.publish(`${stream}.a`, "x".repeat(1000)));
    expect(error).toMatchObject({
      status: "RESOURCE_EXHAUSTED",
      reason: "EVENT_TOO_LARGE",
      metadata: { subject: `${stream}.a`, outcome: "not_stored" },
      retryAfterMs: undefined,
    });
    expect(error.message).toContain(`${stream}.a`);
    expect(await client.publish(`${stream}.a`, "x".repeat(500))).toBe(1n);
    expect(await count(jsm, stream)).toBe(1);
  });

  test("for NATS is refused, and one below passes", async ({ client }) => {
    const stream = await ensureStream(client);
    const error = await failure(client.publish(`${stream}.a`, "x".repeat(1024 * 1024)));
    expect(error).toMatchObject({
      status: "RESOURCE_EXHAUSTED",
      reason: "EVENT_TOO_LARGE",
      metadata: { subject: `${stream}.a`, outcome: "not_stored" },
    });
    expect(error.message).toMatch(/^data: with its headers the event has \d+ bytes, NATS accepts 1048576/);
    expect(await client.publish(`${stream}.a`, "x".repeat(1024 * 1024 - 1000))).toBe(1n);
  });

  test("by a few bytes of any alphabet never costs the connection to NATS", async () => {
    await using nats = await startNats({ config: "max_payload: 4096" });
    // So many at once take a busy machine longer than a request may usually take.
    const patience = { NATS_REQUEST_TIMEOUT: "1m", GRPC_REQUEST_TIMEOUT: "1m" };
    await using windshift = await startWindshift(nats.url, patience);
    const { client } = windshift;
    const stream = await ensureStream(client);
    const sizes = Array.from({ length: 1200 }, (_, index) => 2800 + index);
    const results = await Promise.allSettled(
      sizes.map(async (size) =>
        client.publishEvent({
          subject: `${stream}.a`,
          data: { typeUrl: "", value: new Uint8Array(size) },
          // Times of now are stored in texts of different lengths.
          timestamp: { seconds: 1n, nanos: 0 },
          idempotencyKey: `${size}${"ü".repeat(300)}`,
        }),
      ),
    );
    const reasons = results.map((each) => (each.status === "fulfilled" ? "OK" : (each.reason as CallError).reason));
    const first = reasons.indexOf("EVENT_TOO_LARGE");
    expect(first).toBeGreaterThan(0);
    expect(new Set(reasons.slice(0, first))).toEqual(new Set(["OK"]));
    expect(new Set(reasons.slice(first))).toEqual(new Set(["EVENT_TOO_LARGE"]));
  });

  test("for gRPC is refused, and the connection goes on", async ({ client }) => {
    const stream = await ensureStream(client);
    const parallel = client.publish(`${stream}.a`);
    const error = await failure(client.publish(`${stream}.a`, "x".repeat(5 * 1024 * 1024)));
    expect(error).toMatchObject({ status: "RESOURCE_EXHAUSTED" });
    expect(await parallel).toBe(1n);
    expect(await client.publish(`${stream}.a`)).toBe(2n);
  });
});

describe("a stream that discards new events", () => {
  const discardPolicy = DiscardPolicy.NEW;
  test.for([
    ["max_events", { discardPolicy, maxEvents: 1n }],
    ["max_bytes", { discardPolicy, maxBytes: 300n }],
    ["max_events_per_subject", { discardPolicy, maxEventsPerSubject: 1n, discardNewPerSubject: true }],
  ] as const)("refuses them when it has reached %s", async ([, retentionPolicy], { client, jsm }) => {
    const stream = await ensureStream(client, { retentionPolicy });
    const subject = `${stream}.a`;
    await client.publish(subject);
    const error = await failure(client.publish(subject, "hello", { idempotencyKey: "k" }));
    expect(error).toMatchObject({
      status: "RESOURCE_EXHAUSTED",
      reason: "STREAM_FULL",
      domain: "windshift",
      metadata: { subject, outcome: "not_stored" },
    });
    expect(error.message).toBe(`the stream is full and discards new events (subject "${subject}")`);
    expect(await count(jsm, stream)).toBe(1);

    // A refused event has not used its key.
    await jsm.streams.purge(stream);
    expect(await client.publish(subject, "hello", { idempotencyKey: "k" })).toBe(2n);
  });

  test("per subject takes those of other subjects", async ({ client }) => {
    const retentionPolicy = { discardPolicy, maxEventsPerSubject: 1n, discardNewPerSubject: true };
    const stream = await ensureStream(client, { retentionPolicy });
    expect(await client.publish(`${stream}.a`)).toBe(1n);
    expect(await client.publish(`${stream}.b`)).toBe(2n);
  });
});

/** Stops NATS from answering until the scope ends. */
async function pause({ pid }: NatsServer): Promise<Disposable> {
  process.kill(pid, "SIGSTOP");
  const states = async () => (await execFile("ps", ["-o", "state=", "-p", `${pid}`])).stdout.trim();
  await expect.poll(states, { timeout: 20_000 }).toMatch(/^T/);
  return { [Symbol.dispose]: () => void process.kill(pid, "SIGCONT") };
}

/** Waits until the server has seen all calls that this client made before: it answers them in order. */
async function barrier(client: Client): Promise<void> {
  expect(await failure(client.publish(""))).toMatchObject({ reason: "MISSING_FIELD" });
}

describe("many publishes at once", () => {
  test("are all stored, each with an id of its own", async ({ client, jsm }) => {
    const stream = await ensureStream(client);
    const calls = Array.from({ length: 2000 }, async (_, index) => client.publish(`${stream}.a`, `${index}`));
    const ids = await Promise.all(calls);
    expect(new Set(ids).size).toBe(2000);
    expect(await count(jsm, stream)).toBe(2000);
  });

  test("beyond the limits are refused, and all others stored", async () => {
    await using nats = await startNats();
    const limits = { NATS_PUBLISH_ASYNC_MAX_PENDING: "4", PUBLISH_QUEUE_LIMIT: "8" };
    await using windshift = await startWindshift(nats.url, limits);
    const { client } = windshift;
    const stream = await ensureStream(client);
    const refused: unknown[] = [];
    const stored: bigint[] = [];
    let calls: Promise<unknown>[];
    {
      using _paused = await pause(nats);
      calls = Array.from({ length: 100 }, async () =>
        client.publish(`${stream}.a`).then(
          (id) => void stored.push(id),
          (error: unknown) => void refused.push(error),
        ),
      );
      await expect.poll(() => refused.length, { timeout: 20_000 }).toBe(88);
    }
    await Promise.all(calls);
    expect(stored.toSorted((a, b) => Number(a - b))).toEqual(Array.from({ length: 12 }, (_, i) => BigInt(i + 1)));
    for (const error of refused) {
      expect(error).toMatchObject({
        status: "RESOURCE_EXHAUSTED",
        reason: "OVERLOADED",
        message: expect.stringMatching(/^too many publishes: 4 in flight, 8 waiting, with \d+ bytes$/),
        metadata: { outcome: "not_stored" },
        retryAfterMs: 100,
      });
    }
    const natsClient = await connect({ servers: nats.url });
    expect(await count(await jetstreamManager(natsClient), stream)).toBe(12);
    await natsClient.close();
    expect(await client.publish(`${stream}.a`)).toBe(13n);
  });
});

describe("while NATS does not answer", () => {
  const unavailable = { status: "UNAVAILABLE", reason: "NATS_UNAVAILABLE", domain: "windshift" };

  test("a publish ends at its deadline", async () => {
    await using nats = await startNats();
    await using windshift = await startWindshift(nats.url, { GRPC_REQUEST_TIMEOUT: "300ms" });
    const { client } = windshift;
    const stream = await ensureStream(client);
    const request = { subject: `${stream}.a`, data: textValue("x") };
    {
      using _paused = await pause(nats);
      // The server's own, for a client that sets none, and the client's.
      const error = await failure(client.publishEvent(request));
      expect(error).toMatchObject({ status: "DEADLINE_EXCEEDED", reason: "DEADLINE_EXCEEDED", domain: "windshift" });
      expect(await failure(client.publishEvent(request, { deadlineMs: 100 }))).toMatchObject({
        status: "DEADLINE_EXCEEDED",
      });
    }
    await client.publishEvent(request, { deadlineMs: 20_000 });
  });

  test("a write that waits for its turn ends at its deadline, and is never sent", async () => {
    await using nats = await startNats();
    const limits = { NATS_PUBLISH_ASYNC_MAX_PENDING: "1", GRPC_REQUEST_TIMEOUT: "300ms" };
    await using windshift = await startWindshift(nats.url, limits);
    const { client } = windshift;
    const stream = await ensureStream(client);
    await client.ensureStore({ store: "s" });
    let first: Promise<unknown>;
    {
      using _paused = await pause(nats);
      first = client.publishEvent({ subject: `${stream}.a`, data: textValue("x") }, { deadlineMs: 20_000 });
      await barrier(client);
      const start = performance.now();
      const writes = [
        client.publish(`${stream}.a`),
        client.set({ store: "s", key: "a", value: textValue("x") }),
        client.set({ store: "s", key: "a", value: textValue("x"), createOnly: true }),
        client.delete({ store: "s", key: "a" }),
      ];
      for (const error of await Promise.all(writes.map(failure))) {
        expect(error).toMatchObject({ status: "DEADLINE_EXCEEDED", metadata: { outcome: "not_stored" } });
        expect(error.retryAfterMs).toBe(100);
      }
      expect(performance.now() - start).toBeLessThan(1_000);
    }
    await first;
    const natsClient = await connect({ servers: nats.url });
    const jsm = await jetstreamManager(natsClient);
    expect({ events: await count(jsm, stream), values: await count(jsm, "KV_s") }).toEqual({ events: 1, values: 0 });
    await natsClient.close();
  });

  test("a publish may have been stored: a retry is offered with a key alone", async () => {
    await using nats = await startNats();
    await using windshift = await startWindshift(nats.url, { NATS_REQUEST_TIMEOUT: "200ms" });
    const { client } = windshift;
    const stream = await ensureStream(client);
    {
      using _paused = await pause(nats);
      const [plain, keyed] = await Promise.all([
        failure(client.publish(`${stream}.a`)),
        failure(client.publish(`${stream}.a`, "x", { idempotencyKey: "k" })),
      ]);
      const metadata = { subject: `${stream}.a`, outcome: "unknown" };
      expect(plain).toMatchObject({ ...unavailable, metadata, retryAfterMs: undefined });
      expect(keyed).toMatchObject({ ...unavailable, metadata, retryAfterMs: 500 });
    }
    // It was stored after all; the retry finds it.
    const retry = async () => client.publish(`${stream}.a`, "x", { idempotencyKey: "k" }).catch(() => undefined);
    await expect.poll(retry, { timeout: 20_000 }).toBeLessThanOrEqual(2n);
  });

  test("a connection that breaks leaves what is in flight unknown, and what waits not stored", async () => {
    await using nats = await startNats();
    await using windshift = await startWindshift(nats.url, { NATS_PUBLISH_ASYNC_MAX_PENDING: "1" });
    const { client } = windshift;
    const stream = await ensureStream(client);
    await pause(nats);
    const sent = failure(client.publish(`${stream}.a`));
    const waits = failure(client.publish(`${stream}.a`));
    await barrier(client);
    await nats.kill();
    const outcomes = await Promise.all([sent, waits]);
    expect(outcomes[0]).toMatchObject({ ...unavailable, metadata: { outcome: "unknown" }, retryAfterMs: undefined });
    expect(outcomes[1]).toMatchObject({ ...unavailable, metadata: { outcome: "not_stored" }, retryAfterMs: 500 });
  });
});

describe("while NATS is away", () => {
  const writes: [call: string, run: (client: Client) => Promise<unknown>][] = [
    ["PublishEvent", async (client) => client.publish("s.a")],
    ["PublishEvent with a key", async (client) => client.publish("s.a", "x", { idempotencyKey: "k" })],
    ["PublishEvent with an expected id", async (client) => client.publish("s.a", "x", { expectedLastId: 1n })],
    [
      "EnsureStream",
      async (client) => client.ensureStream({ name: "s", source: { case: "subjects", value: { subjects: ["s.>"] } } }),
    ],
    ["EnsureConsumer, durable", async (client) => client.ensureConsumer({ stream: "s", name: "c", subjects: [">"] })],
    ["EnsureConsumer, ephemeral", async (client) => client.ensureConsumer({ stream: "s", subjects: [">"] })],
    ["DeleteConsumer", async (client) => client.deleteConsumer({ stream: "s", id: "c" })],
  ];
  test("every write says that nothing was stored, and may be retried", async () => {
    await using nats = await startNats();
    await using windshift = await startWindshift(nats.url);
    const { client } = windshift;
    await ensureStream(client, { name: "s" });
    await nats.kill();
    const ready = async () => (await fetch(`http://127.0.0.1:${windshift.daemon.healthPort}/readyz`)).status;
    await expect.poll(ready, { timeout: 20_000 }).toBe(503);
    for (const [call, run] of writes) {
      const error = await failure(run(client));
      const { status, reason, domain, metadata, retryAfterMs } = error;
      expect({ call, status, reason, domain, metadata, retryAfterMs }).toMatchObject({
        call,
        status: "UNAVAILABLE",
        reason: "NATS_UNAVAILABLE",
        domain: "windshift",
        metadata: { outcome: "not_stored" },
        retryAfterMs: 500,
      });
    }
    await nats.restart();
    const publish = async () => client.publish("s.a").catch(() => undefined);
    await expect.poll(publish, { timeout: 20_000 }).toBeGreaterThanOrEqual(1n);
  });
});

test("an idempotency key that is too long is refused", async ({ client }) => {
  const error = await failure(client.publish("any.subject", "text", { idempotencyKey: "k".repeat(8193) }));
  expect(error).toMatchObject({ status: "INVALID_ARGUMENT", reason: "INVALID_VALUE", fields: ["idempotency_key"] });
});

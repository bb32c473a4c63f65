/**
 * What is stored in JetStream, both ways: this server stores what the original stored for the same requests
 * (`samples.json`), and delivers what others stored in the same format, or in none.
 */
import { type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { AnySchema, timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ConsumerConfig, JetStreamManager, StoredMsg, StreamConfig } from "@nats-io/jetstream";
import { type MsgHdrs, type NatsConnection, headers as newHeaders } from "@nats-io/nats-core";
import { describe, expect } from "vitest";
import {
  EnsureStreamRequest_DiscardPolicy as DiscardPolicy,
  type EnsureConsumerRequestSchema,
  type EnsureStreamRequestSchema,
  EnsureStreamRequest_StorageType as StorageType,
} from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { type Client, failure, textOf, textValue } from "../support/client.ts";
import { test, uniqueName } from "../support/fixtures.ts";
import samples from "./samples.json" with { type: "json" };

interface EventSample {
  readonly case: string;
  readonly request?: { readonly subject: string; readonly timestamp?: string; readonly idempotencyKey?: string };
  readonly type_url?: string;
  readonly value_base64?: string;
  readonly stored: {
    readonly headers: Readonly<Record<string, readonly string[]>>;
    readonly payload_base64?: string;
  };
}

interface StateSample {
  readonly case: string;
  readonly key: string;
  readonly type_url?: string;
  readonly value_base64?: string;
  readonly stored: {
    readonly subject: string;
    readonly headers: Readonly<Record<string, readonly string[]>>;
    readonly payload_base64: string;
  };
}

const EVENTS: readonly EventSample[] = samples.events;
const STATE: readonly StateSample[] = samples.state;
const TIME = "WS-Published-Time";
const TIME_FORMAT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,8}[1-9])?Z$/;
const TRACE = { traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", tracestate: "vendor=value" };

const fromBase64 = (text = "") => Buffer.from(text, "base64");
const collects = (...subjects: string[]) => ({ case: "subjects" as const, value: { subjects } });
const duration = (seconds: number) => ({ seconds: BigInt(seconds), nanos: 0 });
const fromStart = { pointer: { case: "start" as const, value: true } };

function headersOf(message: StoredMsg): Record<string, string[]> {
  return Object.fromEntries([...message.header].map(([name, values]) => [name, [...values]]));
}

/** `2023-11-14T22:13:20.12Z` to the nanosecond. */
function toTimestamp(text: string) {
  const [, seconds, fraction = ""] = /^(.*?)(?:\.(\d+))?Z$/.exec(text)!;
  return { ...timestampFromDate(new Date(`${seconds}Z`)), nanos: Number(fraction.padEnd(9, "0")) };
}

/** A stream that collects `name.>`. */
async function ensureStream(client: Client): Promise<string> {
  const name = uniqueName();
  await client.ensureStream({ name, source: collects(`${name}.>`) });
  return name;
}

/** The next events of a stream. */
async function consume(client: Client, stream: string, count: number) {
  const { id } = await client.ensureConsumer({ stream, subjects: [">"], from: fromStart });
  const call = await client.subscribe(stream, id);
  const events = await call.take(count);
  await call.cancel();
  return events;
}

describe("an event is stored as the original stored it", () => {
  test.for(EVENTS)("$case", async (sample, { client, jsm }) => {
    const stream = await ensureStream(client);
    const { timestamp, idempotencyKey } = sample.request ?? {};
    const typeUrl = sample.type_url ?? EVENTS[0]!.type_url!;
    const value = fromBase64(sample.type_url === undefined ? EVENTS[0]!.value_base64 : sample.value_base64);
    const subject = `${stream}.${sample.request?.subject ?? "trace"}`;
    const { id } = await client.publishEvent(
      {
        subject,
        data: { typeUrl, value },
        ...(timestamp === undefined ? {} : { timestamp: toTimestamp(timestamp) }),
        ...(idempotencyKey === undefined ? {} : { idempotencyKey }),
      },
      sample.request === undefined ? { metadata: TRACE } : {},
    );

    const stored = (await jsm.streams.getMessage(stream, { seq: Number(id) }))!;
    expect(stored.subject).toBe(subject);
    const headers = headersOf(stored);
    const expected = { ...sample.stored.headers };
    if (timestamp === undefined) {
      expect(expected[TIME]![0]).toMatch(TIME_FORMAT);
      expect(headers[TIME]![0]).toMatch(TIME_FORMAT);
      expected[TIME] = headers[TIME]!;
    }
    expect(headers).toEqual(expected);
    const payload = sample.stored.payload_base64;
    expect(Buffer.from(stored.data)).toEqual(payload === undefined ? value : fromBase64(payload));

    const [event] = await consume(client, stream, 1);
    expect(event!.id).toBe(id);
    expect(event!.data!.typeUrl).toBe(`type.googleapis.com/${expected["WS-Data-Type"]![0]}`);
    expect(Buffer.from(event!.data!.value)).toEqual(value);
    expect(event!.headers).toMatchObject({
      timestamp: toTimestamp(headers[TIME]![0]!),
      ...(idempotencyKey === undefined ? {} : { idempotencyKey }),
      ...(sample.request === undefined ? { traceParent: TRACE.traceparent, traceState: TRACE.tracestate } : {}),
    });
  });
});

test("values are stored as the original stored them", async ({ client, jsm }) => {
  await client.ensureStore({ store: "samples" });
  const { config } = await jsm.streams.info("KV_samples");
  expectConfig(config, configOf(samples.streams, "the store"));
  for (const [index, sample] of STATE.entries()) {
    const { key } = sample;
    if (sample.type_url === undefined) {
      await client.delete({ store: "samples", key });
    } else {
      const value = { typeUrl: sample.type_url, value: fromBase64(sample.value_base64) };
      expect((await client.set({ store: "samples", key, value })).revision).toBe(BigInt(index + 1));
      expect((await client.get({ store: "samples", key })).value).toMatchObject({ typeUrl: sample.type_url });
    }
    const stored = (await jsm.streams.getMessage("KV_samples", { seq: index + 1 }))!;
    expect(stored.subject).toBe(sample.stored.subject);
    expect(headersOf(stored)).toEqual(sample.stored.headers);
    expect(Buffer.from(stored.data)).toEqual(fromBase64(sample.stored.payload_base64));
  }
});

/** The configuration of a sample. */
function configOf(cases: readonly { case: string; config: object }[], name: string): object {
  return cases.find((sample) => sample.case === name)!.config;
}

/** Everything that the sample says, and nothing else but what nats-server says of itself. */
function expectConfig(config: object, sample: object): void {
  const { metadata = {}, ...rest } = config as { metadata?: Record<string, string> };
  expect(rest).toEqual(sample);
  expect(Object.keys(metadata).filter((key) => !key.startsWith("_nats."))).toEqual([]);
}

const STREAMS: [name: string, request: MessageInitShape<typeof EnsureStreamRequestSchema>][] = [
  ["subjects only", { name: "samples", source: collects("samples.>") }],
  [
    "all options",
    {
      name: "full",
      source: collects("full.a", "full.b.*"),
      retentionPolicy: {
        maxAge: duration(3600),
        maxEvents: 10n,
        maxEventsPerSubject: 5n,
        maxBytes: 100_000n,
        discardPolicy: DiscardPolicy.NEW,
        discardNewPerSubject: true,
      },
      storage: { type: StorageType.MEMORY, replicas: 1 },
      deduplicationWindow: duration(60),
      maxEventSize: 1024,
    },
  ],
  [
    "mirror from offset 2 with a filter",
    {
      name: "mirrored",
      source: {
        case: "mirror",
        value: {
          name: "samples",
          from: { pointer: { case: "offset", value: 2n } },
          filterSubjects: ["samples.key"],
        },
      },
    },
  ],
  [
    "aggregate of two",
    {
      name: "aggregated",
      source: {
        case: "aggregate",
        value: {
          sources: [
            { name: "samples", from: fromStart },
            { name: "full", from: fromStart },
          ],
        },
      },
    },
  ],
];

const CONSUMERS: [name: string, request: MessageInitShape<typeof EnsureConsumerRequestSchema>][] = [
  ["durable, one subject", { name: "one", subjects: ["samples.a"] }],
  [
    "durable, two subjects, from the start, 5 s",
    { name: "two", subjects: ["samples.a", "samples.b"], from: fromStart, processingTimeout: duration(5) },
  ],
  ["from offset", { name: "off", subjects: ["samples.>"], from: { pointer: { case: "offset", value: 3n } } }],
  ["from end", { name: "end", subjects: ["samples.>"], from: { pointer: { case: "end", value: true } } }],
  ["ephemeral", { subjects: ["samples.>"] }],
];

async function removeStreams(jsm: JetStreamManager): Promise<void> {
  for (const [, { name }] of STREAMS.toReversed()) await jsm.streams.delete(name!).catch(() => undefined);
}

/** What direct reads need; nats-server gives it to the mirrors of a stream by itself. */
function direct({ mirror }: StreamConfig): Partial<StreamConfig> {
  return { allow_direct: true, mirror_direct: mirror !== undefined };
}

describe("configurations are those of the original", () => {
  test("of streams, but for direct reads", async ({ client, jsm }) => {
    await removeStreams(jsm);
    for (const [name, request] of STREAMS) {
      await client.ensureStream(request);
      const { config } = await jsm.streams.info(request.name!);
      expectConfig(config, { ...configOf(samples.streams, name), ...direct(config) });
    }
  });

  test("of consumers, but for the limits on unsettled events and waiting pulls", async ({ client, jsm }) => {
    await client.ensureStream(STREAMS[0]![1]);
    for (const [name, request] of CONSUMERS) {
      const { id } = await client.ensureConsumer({ stream: "samples", ...request });
      const { config } = await jsm.consumers.info("samples", id);
      const sample = configOf(samples.consumers, name);
      const differs = { max_ack_pending: -1, max_waiting: expect.toSatisfy((pulls: number) => pulls > 512) };
      expectConfig(config, { ...sample, ...differs, ...(name === "ephemeral" ? { name: id } : {}) });
    }
  });

  test("of streams that the original made, once they are ensured here", async ({ client, jsm }) => {
    await removeStreams(jsm);
    for (const [name, request] of STREAMS) {
      const sample = configOf(samples.streams, name) as StreamConfig;
      await jsm.streams.add(sample);
      await client.ensureStream(request);
      const { config } = await jsm.streams.info(request.name!);
      expectConfig(config, { ...sample, ...direct(config) });
    }
  });

  test("of consumers that the original made, which stay as they are", async ({ client, jsm }) => {
    const stream = "samples-made";
    await client.ensureStream({ name: stream, source: collects("made.>") });
    for (const [name, request] of CONSUMERS) {
      const sample = configOf(samples.consumers, name) as ConsumerConfig;
      await jsm.consumers.add(stream, sample);
      await client.ensureConsumer({ ...request, stream, name: sample.name! });
      expectConfig((await jsm.consumers.info(stream, sample.name!)).config, sample);
      await (await client.subscribe(stream, sample.name!)).cancel();
    }
  });
});

/** Publishes with plain NATS. */
async function write(nats: NatsConnection, subject: string, data: Uint8Array, lines?: Record<string, string>) {
  const options: { headers?: MsgHdrs } = {};
  if (lines !== undefined) {
    options.headers = newHeaders();
    for (const [name, value] of Object.entries(lines)) options.headers.set(name, value);
  }
  await nats.request(subject, data, { timeout: 10_000, ...options });
}

describe("an event that others stored is delivered", () => {
  const TYPE = "acme.orders.v1.OrderCreated";
  const TYPE_URL = `type.googleapis.com/${TYPE}`;
  const BYTES = Buffer.from([8, 150, 1, 0, 255]);

  test("with all that its headers say", async ({ client, natsClient }) => {
    const stream = await ensureStream(client);
    await write(natsClient, `${stream}.a`, BYTES, {
      "WS-Data-Type": TYPE,
      [TIME]: "2023-11-14T22:13:20.123456789Z",
      "Nats-Msg-Id": "key-1",
      "WS-Trace-Parent": TRACE.traceparent,
      "WS-Trace-State": TRACE.tracestate,
      "X-Other": "ignored",
    });
    const [event] = await consume(client, stream, 1);
    expect(event).toMatchObject({ id: 1n, subject: `${stream}.a`, deliveryAttempt: 1n });
    expect(event!.headers).toMatchObject({
      timestamp: { seconds: 1_700_000_000n, nanos: 123_456_789 },
      idempotencyKey: "key-1",
      traceParent: TRACE.traceparent,
      traceState: TRACE.tracestate,
    });
    expect(event!.data!.typeUrl).toBe(TYPE_URL);
    expect(Buffer.from(event!.data!.value)).toEqual(BYTES);
  });

  test.for([
    ["UTC", "2023-11-14T22:13:20Z", 1_700_000_000n, 0],
    ["UTC as an offset", "2023-11-14T22:13:20.5+00:00", 1_700_000_000n, 500_000_000],
    ["a zone east", "2023-11-15T00:13:20.123456789+02:00", 1_700_000_000n, 123_456_789],
    ["a zone west", "2023-11-14T17:13:20.000000001-05:00", 1_700_000_000n, 1],
    ["a zone of half an hour", "2023-11-15T03:43:20.12+05:30", 1_700_000_000n, 120_000_000],
    ["a zone before 1970", "1970-01-01T00:59:59.999999999+01:00", -1n, 999_999_999],
    ["small letters", "2023-11-14t22:13:20z", 1_700_000_000n, 0],
    ["more than nanoseconds", "2023-11-14T22:13:20.1234567899Z", 1_700_000_000n, 123_456_789],
    ["the year 1", "0001-01-01T00:00:00Z", -62_135_596_800n, 0],
    ["the year 9999", "9999-12-31T23:59:59.999999999Z", 253_402_300_799n, 999_999_999],
  ] as const)("with its time in %s", async ([, time, seconds, nanos], { client, natsClient }) => {
    const stream = await ensureStream(client);
    await write(natsClient, `${stream}.a`, BYTES, { "WS-Data-Type": TYPE, [TIME]: time });
    const [event] = await consume(client, stream, 1);
    expect(event!.headers!.timestamp).toMatchObject({ seconds, nanos });
    expect(event!.data!.typeUrl).toBe(TYPE_URL);
  });

  test.for([
    ["no headers", undefined, ""],
    ["headers of somebody else", { "X-Other": "x" }, ""],
    ["a type alone", { "WS-Data-Type": TYPE }, TYPE_URL],
    ["an empty type", { "WS-Data-Type": "" }, "type.googleapis.com/"],
    ["an empty time", { "WS-Data-Type": TYPE, [TIME]: "" }, TYPE_URL],
    ["a time in words", { "WS-Data-Type": TYPE, [TIME]: "yesterday" }, TYPE_URL],
    ["a time without a zone", { "WS-Data-Type": TYPE, [TIME]: "2023-11-14T22:13:20" }, TYPE_URL],
    ["a time in seconds", { "WS-Data-Type": TYPE, [TIME]: "1700000000" }, TYPE_URL],
    ["a month too many", { "WS-Data-Type": TYPE, [TIME]: "2023-13-14T22:13:20Z" }, TYPE_URL],
    ["a day too many", { "WS-Data-Type": TYPE, [TIME]: "2023-02-29T22:13:20Z" }, TYPE_URL],
    ["a year of five digits", { "WS-Data-Type": TYPE, [TIME]: "10000-01-01T00:00:00Z" }, TYPE_URL],
    ["a year that its zone makes 0", { "WS-Data-Type": TYPE, [TIME]: "0001-01-01T00:00:00+01:00" }, TYPE_URL],
  ] as const)("with the time of JetStream when it has %s", async ([, lines, typeUrl], { client, natsClient, jsm }) => {
    const stream = await ensureStream(client);
    await write(natsClient, `${stream}.a`, BYTES, lines);
    const [event] = await consume(client, stream, 1);
    const stored = await jsm.streams.getMessage(stream, { seq: 1 });
    const { seconds, nanos } = toTimestamp(stored!.timestamp);
    expect(event!.headers!.timestamp).toMatchObject({ seconds, nanos });
    expect(event!.headers!.idempotencyKey).toBeUndefined();
    expect(event!.headers!.traceParent).toBeUndefined();
    expect(event!.data!.typeUrl).toBe(typeUrl);
    expect(Buffer.from(event!.data!.value)).toEqual(BYTES);
  });

  test("with nothing in it", async ({ client, natsClient }) => {
    const stream = await ensureStream(client);
    await write(natsClient, `${stream}.a`, new Uint8Array());
    const [event] = await consume(client, stream, 1);
    expect(event!.data).toMatchObject({ typeUrl: "", value: new Uint8Array() });
  });

  test("between those published here, whose keys are known to both", async ({ client, natsClient }) => {
    const stream = await ensureStream(client);
    await client.publish(`${stream}.a`, "x", { idempotencyKey: "k" });
    await write(natsClient, `${stream}.a`, BYTES, { "Nats-Msg-Id": "k" });
    await write(natsClient, `${stream}.b`, BYTES, { "Nats-Msg-Id": "l" });
    expect(await client.publish(`${stream}.b`, "x", { idempotencyKey: "l" })).toBe(2n);
    expect(await client.publish(`${stream}.c`)).toBe(3n);
    expect((await consume(client, stream, 3)).map((event) => [event.id, event.headers!.idempotencyKey])).toEqual([
      [1n, "k"],
      [2n, "l"],
      [3n, undefined],
    ]);
  });
});

describe("a value that others stored", () => {
  const value = textValue("by others");

  test("is read", async ({ client, natsClient }) => {
    const store = uniqueName();
    await client.ensureStore({ store });
    await write(natsClient, `$KV.${store}.a.b`, toBinary(AnySchema, value));
    const found = await client.get({ store, key: "a.b" });
    expect(found).toMatchObject({ revision: 1n, value: { typeUrl: value.typeUrl } });
    expect(textOf(found.value)).toBe("by others");
  });

  test.for(["DEL", "PURGE"])("and removed with %s is not there", async (operation, { client, natsClient }) => {
    const store = uniqueName();
    await client.ensureStore({ store });
    await client.set({ store, key: "a", value });
    await write(natsClient, `$KV.${store}.a`, new Uint8Array(), { "KV-Operation": operation });
    expect(await client.get({ store, key: "a" })).toMatchObject({ revision: 0n });
    expect((await client.set({ store, key: "a", value, createOnly: true })).revision).toBe(3n);
  });

  test("that is no Any is an error", async ({ client, natsClient }) => {
    const store = uniqueName();
    await client.ensureStore({ store });
    await write(natsClient, `$KV.${store}.a`, Buffer.from("just text"));
    expect(await failure(client.get({ store, key: "a" }))).toMatchObject({ reason: "VALUE_UNREADABLE" });
  });
});

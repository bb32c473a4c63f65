/** Calls that the native engine refuses by itself: what clients, the log and metrics of a whole server say of them. */
import { once } from "node:events";
import { type ClientHttp2Session, type IncomingHttpHeaders, connect } from "node:http2";
import { Metadata, type StatusObject } from "@grpc/grpc-js";
import { describe, expect, onTestFinished } from "vitest";
import { CallError, EVENTS, STATE, failure } from "../support/client.ts";
import { test as base } from "../support/fixtures.ts";
import { END_HEADERS, END_STREAM, Http2Peer, Type, field, frame, message } from "../support/http2-peer.ts";
import { type Windshift, startWindshift } from "../support/windshift.ts";

const KIB = 1024;
const MIB = 1024 * KIB;
const SERVICE = "windshift.events.v1alpha1.EventsService";
const HEALTH = "/grpc.health.v1.Health/";

/** A server with the native engine. */
const test = base.extend<{ $file: { native: Windshift }; $test: { session: ClientHttp2Session } }>({
  native: [
    async ({ nats }, use) => {
      await using windshift = await startWindshift(nats.url, {
        GRPC_ENGINE: "native",
        GRPC_MAX_MESSAGE_SIZE: "8MiB",
        GRPC_MAX_UNREAD_BYTES: "4MiB",
      });
      await use(windshift);
    },
    { scope: "file" },
  ],
  /** A connection without a gRPC library, which would send nothing that is wrong. */
  session: async ({ native }, use) => {
    const session = connect(`http://${native.address}`);
    session.on("error", () => undefined);
    await once(session, "connect");
    await use(session);
    session.destroy();
  },
});

/** What a client sends. */
interface Request {
  readonly path: string;
  readonly metadata?: Record<string, string>;
  /** Bytes after the header fields. */
  readonly body?: Uint8Array;
  /** The client says nothing of its end. */
  readonly isOpen?: boolean;
}

/** The status that a call ends with. */
async function statusOf(session: ClientHttp2Session, request: Request): Promise<CallError> {
  const { path, metadata = {}, body = message(new Uint8Array()), isOpen = false } = request;
  const headers = { ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers", ...metadata };
  const stream = session.request(headers, { endStream: false });
  stream.on("error", () => undefined);
  const { promise, resolve } = Promise.withResolvers<CallError>();
  const look = (fields: IncomingHttpHeaders): void => {
    if (fields["grpc-status"] === undefined) return;
    const status: StatusObject = {
      code: Number(fields["grpc-status"]),
      details: decodeURIComponent(fields["grpc-message"] as string),
      metadata: Metadata.fromHttp2Headers(fields),
    };
    resolve(new CallError(status));
  };
  stream.on("response", look).on("trailers", look).resume();
  stream.write(body);
  if (!isOpen) stream.end();
  return promise;
}

/** Calls that were counted so far, by method and status. */
async function counts({ daemon }: Windshift): Promise<Map<string, number>> {
  const response = await fetch(`http://127.0.0.1:${daemon.healthPort}/metrics`);
  const series = /^rpc_server_call_duration_seconds_count\{(.*)\} (\d+)$/gm;
  const labelOf = (labels: string, name: string): string => new RegExp(`${name}="([^"]*)"`).exec(labels)![1]!;
  return new Map(
    [...(await response.text()).matchAll(series)].map(([, labels, count]) => [
      `${labelOf(labels!, "rpc_method")} ${labelOf(labels!, "rpc_status_code")}`,
      Number(count),
    ]),
  );
}

/** What a call left behind: its lines in the log, and what was counted. */
async function tracesOf(windshift: Windshift, call: () => Promise<unknown>) {
  const before = await counts(windshift);
  const { length } = windshift.log;
  await call();
  const counted = [...(await counts(windshift))]
    .map(([series, count]) => [series, count - (before.get(series) ?? 0)] as const)
    .filter(([, count]) => count !== 0);
  const lines = windshift.log.slice(length).filter(({ reason }) => reason !== undefined);
  return { counted, lines };
}

interface Expected {
  readonly status: string;
  readonly reason: string;
  readonly message: RegExp;
  readonly level: "info" | "warn";
  /** Unless it is of no method of ours. */
  readonly method?: string;
  readonly outcome?: "not_stored";
  readonly retryAfterMs?: number;
}

const REFUSED: Record<string, readonly [Request, Expected]> = {
  "an unknown method": [
    { path: `${EVENTS}Nothing` },
    { status: "UNIMPLEMENTED", reason: "UNKNOWN_METHOD", message: /^the server has no method "/, level: "info" },
  ],
  "a message that is too large": [
    { path: `${EVENTS}PublishEvent`, body: Buffer.of(0, 0x7f, 0, 0, 0), isOpen: true },
    {
      status: "RESOURCE_EXHAUSTED",
      reason: "MESSAGE_TOO_LARGE",
      message: /^the message has \d+ bytes, at most 8388608 are accepted$/,
      level: "warn",
      method: `${SERVICE}/PublishEvent`,
      outcome: "not_stored",
    },
  ],
  "a message that is too large, for a method by its old name": [
    { path: `${EVENTS}Publish`, body: Buffer.of(0, 0x7f, 0, 0, 0), isOpen: true },
    {
      status: "RESOURCE_EXHAUSTED",
      reason: "MESSAGE_TOO_LARGE",
      message: /^the message has \d+ bytes/,
      level: "warn",
      method: `${SERVICE}/PublishEvent`,
      outcome: "not_stored",
    },
  ],
  "metadata that is too large": [
    { path: `${STATE}Get`, metadata: { "x-large": "x".repeat(20 * KIB) } },
    {
      status: "RESOURCE_EXHAUSTED",
      reason: "MESSAGE_TOO_LARGE",
      message: /^request metadata has \d+ bytes, at most 16384 are accepted$/,
      level: "warn",
      method: "windshift.state.v1alpha1.StateService/Get",
      outcome: "not_stored",
    },
  ],
  "an unsupported encoding": [
    { path: `${EVENTS}PublishEvent`, metadata: { "grpc-encoding": "snappy" } },
    {
      status: "UNIMPLEMENTED",
      reason: "UNSUPPORTED_ENCODING",
      message: /^grpc-encoding: "snappy" is not supported$/,
      level: "info",
      method: `${SERVICE}/PublishEvent`,
    },
  ],
  "a message that is marked as what it is not": [
    { path: `${EVENTS}PublishEvent`, body: message(Buffer.of(1), 1) },
    {
      status: "INTERNAL",
      reason: "PROTOCOL_ERROR",
      message: /^a message is marked as compressed/,
      level: "info",
      method: `${SERVICE}/PublishEvent`,
    },
  ],
  "a timeout that is none": [
    { path: `${EVENTS}PublishEvent`, metadata: { "grpc-timeout": "soon" } },
    {
      status: "INTERNAL",
      reason: "PROTOCOL_ERROR",
      message: /^grpc-timeout: "soon" is no timeout$/,
      level: "info",
      method: `${SERVICE}/PublishEvent`,
    },
  ],
  "no message, for a method that is not of our contract": [
    { path: `${HEALTH}Check`, body: new Uint8Array() },
    { status: "UNIMPLEMENTED", reason: "UNKNOWN_METHOD", message: /and none came$/, level: "info" },
  ],
  "an unfinished request that there is no room for": [
    { path: `${EVENTS}PublishEvent`, body: message(Buffer.alloc(6 * MIB)).subarray(0, 5 * MIB), isOpen: true },
    {
      status: "RESOURCE_EXHAUSTED",
      reason: "OVERLOADED",
      message: /^the server holds too many unfinished requests$/,
      level: "warn",
      method: `${SERVICE}/PublishEvent`,
      outcome: "not_stored",
      retryAfterMs: 100,
    },
  ],
  "a request that is not there by its deadline": [
    { path: `${EVENTS}PublishEvent`, metadata: { "grpc-timeout": "50m" }, isOpen: true },
    {
      status: "DEADLINE_EXCEEDED",
      reason: "DEADLINE_EXCEEDED",
      message: /^the deadline passed$/,
      level: "warn",
      method: `${SERVICE}/PublishEvent`,
      outcome: "not_stored",
    },
  ],
  "a message that is too large, on an open subscription": [
    { path: `${EVENTS}Events`, body: Buffer.of(0, 0x7f, 0, 0, 0), isOpen: true },
    {
      status: "RESOURCE_EXHAUSTED",
      reason: "MESSAGE_TOO_LARGE",
      message: /^the message has \d+ bytes/,
      level: "warn",
      method: `${SERVICE}/Events`,
    },
  ],
  "half a message, on an open subscription": [
    { path: `${EVENTS}Events`, body: message(Buffer.alloc(10)).subarray(0, 7) },
    {
      status: "INTERNAL",
      reason: "PROTOCOL_ERROR",
      message: /^the request ends within a message$/,
      level: "info",
      method: `${SERVICE}/Events`,
    },
  ],
  "an open subscription whose deadline passes": [
    { path: `${EVENTS}Events`, metadata: { "grpc-timeout": "50m" }, body: new Uint8Array(), isOpen: true },
    {
      status: "DEADLINE_EXCEEDED",
      reason: "DEADLINE_EXCEEDED",
      message: /^the deadline passed$/,
      level: "warn",
      method: `${SERVICE}/Events`,
    },
  ],
};

describe.for(Object.entries(REFUSED))("%s", ([, [request, expected]]) => {
  const { status, reason, message: text, level, method = "_OTHER", outcome, retryAfterMs } = expected;

  test("has its code, and a reason in the details", async ({ session }) => {
    const error = await statusOf(session, request);
    expect(error).toMatchObject({ status, reason, domain: "windshift", message: expect.stringMatching(text) });
    expect(error.metadata).toEqual(outcome === undefined ? {} : { outcome });
    expect(error.retryAfterMs).toBe(retryAfterMs);
  });

  test("is logged once, and counted once", async ({ native, session }) => {
    const { lines, counted } = await tracesOf(native, async () => statusOf(session, request));
    const peer = `127.0.0.1:${session.socket.localPort}`;
    const line = { level, method, code: status, reason, peer, msg: expect.stringMatching(text) };
    expect(lines).toEqual([expect.objectContaining({ ...line, ms: expect.any(Number) })]);
    expect(counted).toEqual([[`${method} ${status}`, 1]]);
  });
});

test("the line of a call that no handler had quotes its path", async ({ native, session }) => {
  const { lines } = await tracesOf(native, async () => statusOf(session, { path: "/a.B/C" }));
  expect(lines).toMatchObject([{ path: '"/a.B/C"' }]);
});

test("a path that is itself too large is refused, logged and counted like other metadata", async ({
  native,
  session,
}) => {
  const { lines, counted } = await tracesOf(native, async () => {
    const error = await statusOf(session, { path: `/${"x".repeat(20 * KIB)}` });
    expect(error).toMatchObject({ status: "RESOURCE_EXHAUSTED", reason: "MESSAGE_TOO_LARGE" });
  });
  expect(lines).toMatchObject([{ method: "_OTHER", path: '""' }]);
  expect(counted).toEqual([["_OTHER RESOURCE_EXHAUSTED", 1]]);
});

test("a gRPC library reads the details", async ({ native }) => {
  const { client } = native;
  const unknown = await failure(client.raw("/a.B/C", Buffer.of(1)));
  expect(unknown).toMatchObject({ status: "UNIMPLEMENTED", reason: "UNKNOWN_METHOD", domain: "windshift" });
  const large = await failure(client.raw(`${EVENTS}PublishEvent`, Buffer.alloc(9 * MIB)));
  expect(large).toMatchObject({ status: "RESOURCE_EXHAUSTED", reason: "MESSAGE_TOO_LARGE", domain: "windshift" });
});

test("requests of a few bytes get answers of a few bytes, whatever they name", async ({ native }) => {
  const peer = await Http2Peer.start(native.daemon.grpcPort);
  onTestFinished(() => peer.destroy());
  // Of all characters these take most bytes of an answer. What a table remembers costs one byte when it comes again.
  const long = "\xff".repeat(3900);
  const begin = Buffer.concat([field(":method", "POST"), field(":scheme", "http")]);
  const type = field("content-type", "application/grpc");
  const path = field(":path", `${EVENTS}PublishEvent`);
  const blocks = [
    [begin, field(":path", `/${long}`, 0x40), type],
    [begin, path, type, field("grpc-encoding", long, 0x40)],
    [begin, path, type, field("grpc-timeout", long, 0x40)],
  ];
  for (const [index, block] of blocks.entries()) {
    const id = 2 * index + 1;
    peer.send(frame(Type.headers, END_HEADERS | END_STREAM, id, Buffer.concat(block)));
    const { payload } = await peer.endOf(id);
    expect(payload.toString("latin1")).toContain("grpc-status-details-bin");
    expect(payload.length).toBeLessThan(KIB);
  }
});

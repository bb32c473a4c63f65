/** The engine over real sockets: what it promises to handlers, and what clients of all manners can do to it. */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  type ClientSessionOptions,
  connect as connectHttp2,
} from "node:http2";
import { setTimeout as sleep } from "node:timers/promises";
import { type AddressInfo, type Socket, connect as connectTcp, createServer } from "node:net";
import tls from "node:tls";
import { deflateSync, gzipSync } from "node:zlib";
import { Client as GrpcClient, type ClientOptions, credentials } from "@grpc/grpc-js";
import { describe, expect, onTestFinished, test } from "vitest";
import type { CancelCause, Engine, EngineCall, EngineOptions } from "../../src/grpc/engine/engine.ts";
import { Router } from "../../src/grpc/server.ts";
import type { MethodName } from "../../src/rpc.ts";
import { Authority, type KeyPair, selfSigned } from "../support/certificate.ts";
import { CallError, Client, failure } from "../support/client.ts";
import { EngineUnderTest } from "../support/engine.ts";
import { openGuard } from "../support/guard.ts";
import { Http2Peer, call as openCall, reset } from "../support/http2-peer.ts";

const HOST = "127.0.0.1";
const MIB = 1024 * 1024;
const OK = { code: 0, message: "" };

const OPTIONS: EngineOptions = {
  host: HOST,
  port: 0,
  maxReceiveMessageBytes: 4 * MIB,
  maxMetadataBytes: 16 * 1024,
  maxConcurrentStreams: 1000,
  keepaliveTimeMs: 60_000,
  keepaliveTimeoutMs: 20_000,
  maxConnectionAgeMs: 0,
  maxConnections: 1000,
  maxUnreadBytes: 256 * MIB,
};

/** What handlers of these tests were given. */
interface Started {
  readonly engine: Engine;
  readonly port: number;
  /** Calls of `/test/Hold`, in order: the handler does nothing by itself. */
  readonly held: EngineCall[];
  /** The held call of that number, as soon as it has come. */
  hold(index?: number): Promise<EngineCall>;
}

/** An engine with `/test/Echo` (unary), `/test/EchoAll` (each message comes back) and `/test/Hold` (bidi). */
async function start(options: Partial<EngineOptions> = {}, more?: (engine: Engine) => void): Promise<Started> {
  const engine = new EngineUnderTest({ ...OPTIONS, ...options });
  const held: EngineCall[] = [];
  engine.handle("/test/Echo", {
    kind: "unary",
    handle: (call, request) => {
      call.send(request);
      call.end(OK);
    },
  });
  engine.handle("/test/EchoAll", {
    kind: "bidi",
    handle: (call) => {
      call.onMessage = (message) => call.send(message);
      call.onHalfClose = () => call.end(OK);
    },
  });
  engine.handle("/test/Hold", { kind: "bidi", handle: (call) => void held.push(call) });
  more?.(engine);
  const port = await engine.listen();
  onTestFinished(() => engine.close());
  return {
    engine,
    port,
    held,
    hold: async (index = 0) => {
      await expect.poll(() => held.length).toBeGreaterThan(index);
      return held[index]!;
    },
  };
}

function client(port: number): Client {
  const made = new Client(`${HOST}:${port}`);
  onTestFinished(() => made.close());
  return made;
}

/** A connection without a gRPC library: what the engine writes is seen byte for byte. */
async function http2(port: number, options: ClientSessionOptions = {}): Promise<ClientHttp2Session> {
  const session = connectHttp2(`http://${HOST}:${port}`, options);
  session.on("error", () => undefined);
  onTestFinished(() => session.destroy());
  await once(session, "connect");
  return session;
}

/** Opens a call; neither reads nor ends it. */
function open(
  session: ClientHttp2Session,
  path: string,
  metadata: Record<string, string | string[]> = {},
): ClientHttp2Stream {
  const headers = { ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers", ...metadata };
  const stream = session.request(headers, { endStream: false });
  stream.on("error", () => undefined);
  return stream;
}

/** A message with the header that gRPC puts before each. */
function frame(message: Uint8Array, compressed = 0): Buffer {
  const header = Buffer.alloc(5);
  header[0] = compressed;
  header.writeUInt32BE(message.length, 1);
  return Buffer.concat([header, message]);
}

/** All that a call answers; resolves when it ends. */
async function answer(stream: ClientHttp2Stream): Promise<{ body: Buffer; code: number | undefined; message: string }> {
  const chunks: Buffer[] = [];
  let code: string | undefined;
  let message = "";
  const read = (headers: Record<string, string | string[] | undefined>): void => {
    code ??= headers["grpc-status"] as string | undefined;
    message ||= decodeURI((headers["grpc-message"] as string | undefined) ?? "");
  };
  stream.on("response", (headers) => read(headers as Record<string, string>));
  stream.on("trailers", (headers) => read(headers as Record<string, string>));
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  // A call that the server has ended stays half open until the client ends its side as well.
  await Promise.race([once(stream, "end"), once(stream, "close")]);
  return { body: Buffer.concat(chunks), code: code === undefined ? undefined : Number(code), message };
}

/** The first `length` bytes that a call answers. */
async function read(stream: ClientHttp2Stream, length: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  while (size < length) {
    const chunk = stream.read() as Buffer | null;
    if (chunk === null) await once(stream, "readable");
    else {
      chunks.push(chunk);
      size += chunk.length;
    }
  }
  return Buffer.concat(chunks);
}

/** Resolves when the server has handled every frame that was sent before. */
async function roundTrip(session: ClientHttp2Session): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  session.ping((error) => (error === null ? resolve() : reject(error)));
  await promise;
}

async function expectHealthy(port: number): Promise<void> {
  expect(await client(port).raw("/test/Echo", Buffer.from("alive"))).toEqual(Buffer.from("alive"));
}

describe("messages that are sent at once arrive byte for byte", () => {
  const sizes = (count: number, size: (index: number) => number): number[] =>
    Array.from({ length: count }, (_, i) => size(i));

  test.for([
    ["small ones", sizes(5000, (i) => i % 40)],
    ["empty ones", sizes(3000, () => 0)],
    ["of all sizes", sizes(400, (i) => (i * i * 7919) % 3000)],
    ["around the size of a pack", [65_536, 65_535, 65_531, 65_530, 5, 65_526, 0, 65_537, 1, 1]],
    ["large between small", sizes(60, (i) => (i % 10 === 5 ? 300_000 : i))],
    ["one", [17]],
  ] as const)("%s", async ([, lengths]) => {
    const { port, hold } = await start();
    const session = await http2(port);
    const stream = open(session, "/test/Hold");
    const call = await hold();
    const messages = lengths.map((length) => randomBytes(length));
    for (const message of messages) call.send(message);
    call.end(OK);
    stream.end();
    const { body, code } = await answer(stream);
    expect(code).toBe(0);
    expect(body.equals(Buffer.concat(messages.map((message) => frame(message))))).toBe(true);
  });

  test("and before the status of a call that fails", async () => {
    const { port, hold } = await start();
    const stream = open(await http2(port), "/test/Hold");
    const call = await hold();
    for (let i = 0; i < 100; i++) call.send(Buffer.from([i]));
    call.end({ code: 9, message: "not now" });
    const { body, code, message } = await answer(stream);
    expect({ code, message, size: body.length }).toEqual({ code: 9, message: "not now", size: 600 });
  });

  test("also when they are sent while others are on their way", async () => {
    const { port } = await start();
    const stream = open(await http2(port), "/test/EchoAll");
    const messages = Array.from({ length: 2000 }, (_, i) => randomBytes(i % 700));
    for (const message of messages) stream.write(frame(message));
    stream.end();
    const { body, code } = await answer(stream);
    expect(code).toBe(0);
    expect(body.equals(Buffer.concat(messages.map((message) => frame(message))))).toBe(true);
  });
});

describe("requests", () => {
  test("arrive as they were sent, in any chunks", async () => {
    const { port } = await start();
    const stream = open(await http2(port), "/test/EchoAll");
    const sent = Buffer.concat([frame(Buffer.from("first")), frame(Buffer.alloc(0)), frame(randomBytes(70_000))]);
    for (let at = 0; at < sent.length; at += 997) stream.write(sent.subarray(at, at + 997));
    stream.end();
    expect((await answer(stream)).body.equals(sent)).toBe(true);
  });

  test.for([
    ["gzip", gzipSync],
    ["deflate", deflateSync],
  ] as const)("may be compressed with %s", async ([encoding, pack]) => {
    const { port } = await start();
    const stream = open(await http2(port), "/test/Echo", { "grpc-encoding": encoding });
    stream.end(frame(pack(Buffer.from("hello")), 1));
    expect((await answer(stream)).body).toEqual(frame(Buffer.from("hello")));
  });

  test("may have metadata of one name several times: texts are joined, of bytes the first are taken", async () => {
    const { port, hold } = await start();
    const names = { "x-name": ["a", "b,c", ""], "x-bytes-bin": ["AAE", "Ag"], "x-list-bin": "AwQ,Ag" };
    open(await http2(port), "/test/Hold", names);
    const { metadata } = await hold();
    expect(metadata.get("x-name")).toBe("a, b,c, ");
    expect(Buffer.from(metadata.get("x-bytes-bin")!, "base64")).toEqual(Buffer.of(0, 1));
    expect(Buffer.from(metadata.get("x-list-bin")!, "base64")).toEqual(Buffer.of(3, 4));
  });

  test("have metadata, a peer, a path, and a deadline if the client set one", async () => {
    const { port, hold } = await start();
    const session = await http2(port);
    open(session, "/test/Hold", { "x-name": "value", "grpc-timeout": "1H" });
    open(session, "/test/Hold");
    const [first, second] = [await hold(0), await hold(1)];
    expect(first.path).toBe("/test/Hold");
    expect(first.peer).toMatch(/^127\.0\.0\.1:\d+$/);
    expect(first.metadata.get("x-name")).toBe("value");
    expect(first.metadata.get("absent")).toBeUndefined();
    expect(first.deadlineMs).toBeGreaterThan(Date.now() + 3_000_000);
    expect(second.deadlineMs).toBeUndefined();
  });
});

describe("too much", () => {
  test("of a message is RESOURCE_EXHAUSTED, and other calls do not notice", async () => {
    const { port } = await start();
    const [bad, good] = [client(port), client(port)];
    const huge = failure(bad.raw("/test/Echo", Buffer.alloc(100 * MIB)));
    const others = Array.from({ length: 200 }, async (_, i) =>
      (i % 2 === 0 ? bad : good).raw("/test/Echo", Buffer.of(i)),
    );
    expect(await huge).toMatchObject({ status: "RESOURCE_EXHAUSTED" });
    expect((await Promise.all(others)).map(([byte]) => byte)).toEqual(others.map((_, i) => i));
  });

  test.for([
    ["up to the limit is served", 4 * MIB, undefined],
    ["one byte more is refused", 4 * MIB + 1, "RESOURCE_EXHAUSTED"],
  ] as const)("of a message: %s", async ([, size, status]) => {
    const { port } = await start();
    const call = client(port).raw("/test/Echo", Buffer.alloc(size));
    if (status === undefined) expect((await call).length).toBe(size);
    else expect(await failure(call)).toMatchObject({ status });
  });

  test("of a message that only unpacks to it is RESOURCE_EXHAUSTED", async () => {
    const { port } = await start();
    const stream = open(await http2(port), "/test/Echo", { "grpc-encoding": "gzip" });
    stream.end(frame(gzipSync(Buffer.alloc(100 * MIB)), 1));
    expect((await answer(stream)).code).toBe(8);
    await expectHealthy(port);
  });

  test("announced, and never sent, is RESOURCE_EXHAUSTED", async () => {
    const { port } = await start();
    const stream = open(await http2(port), "/test/Echo");
    stream.write(Buffer.from([0, 0xff, 0xff, 0xff, 0xff]));
    expect((await answer(stream)).code).toBe(8);
  });

  test.for([20, 60])("of metadata, %i KiB, is RESOURCE_EXHAUSTED, and other calls do not notice", async (kib) => {
    const { port } = await start();
    const made = client(port);
    await made.raw("/test/Echo", Buffer.of(1));
    const metadata = { "x-large": "x".repeat(kib * 1024) };
    const error = await failure(made.raw("/test/Echo", Buffer.of(1), { metadata }));
    expect(error).toMatchObject({ status: "RESOURCE_EXHAUSTED" });
    expect(error.message).toMatch(/^request metadata has \d+ bytes, at most 16384 are accepted$/);
    expect(await made.raw("/test/Echo", Buffer.of(2))).toEqual(Buffer.of(2));
  });

  test.for([200, 2000])("of metadata, %i KiB, ends the connection, and others do not notice", async (kib) => {
    const { port } = await start();
    const other = client(port);
    await other.raw("/test/Echo", Buffer.of(1));
    // Node's HTTP/2 knows no more than 64 KiB; it tells clients so, and this one does not listen.
    const session = await http2(port, { maxSendHeaderBlockLength: 4 * MIB });
    const closed = new Promise<void>((resolve) => session.once("close", resolve));
    open(session, "/test/Echo", { "x-large": "x".repeat(kib * 1024) });
    await closed;
    expect(await other.raw("/test/Echo", Buffer.of(2))).toEqual(Buffer.of(2));
    await expectHealthy(port);
  });

  test("of calls on one connection waits for others to end", async () => {
    const { port, held, hold } = await start({ maxConcurrentStreams: 2 });
    const session = await http2(port);
    await roundTrip(session);
    const streams = [1, 2, 3].map(() => open(session, "/test/Hold"));
    await hold(1);
    await roundTrip(session);
    expect(held).toHaveLength(2);
    // Another connection has its own.
    open(await http2(port), "/test/Hold");
    await hold(2);
    streams[0]!.end();
    held[0]!.end(OK);
    await hold(3);
  });
});

test.for(["/test/Nothing", "/", "/test/Echo/", "/windshift.events.v1alpha1.EventsService/Nothing"])(
  "a method that does not exist is UNIMPLEMENTED: %s",
  async (path) => {
    const { port } = await start();
    expect(await failure(client(port).raw(path, Buffer.alloc(0)))).toMatchObject({ status: "UNIMPLEMENTED" });
  },
);

describe("back-pressure", () => {
  const chunk = Buffer.alloc(16 * 1024);

  test("a client that does not read makes send say no, and one that reads again brings onDrain", async () => {
    const { port, hold } = await start();
    const stream = open(await http2(port), "/test/Hold");
    const call = await hold();
    const drained = Promise.withResolvers<void>();
    call.onDrain = drained.resolve;
    let count = 1;
    while (call.send(chunk)) count += 1;
    expect(count * chunk.length).toBeLessThan(2 * MIB);
    call.end(OK);
    stream.end();
    const { body, code } = await answer(stream);
    expect({ code, messages: body.length / (chunk.length + 5) }).toEqual({ code: 0, messages: count });
  });

  test("onDrain comes as often as send says no", async () => {
    const { port, hold } = await start();
    const stream = open(await http2(port), "/test/Hold");
    const call = await hold();
    stream.resume();
    for (let round = 0; round < 5; round++) {
      const { promise, resolve } = Promise.withResolvers<void>();
      call.onDrain = resolve;
      while (call.send(chunk));
      await promise;
    }
  });

  test.for([
    ["from the beginning", 0],
    ["later", 3],
  ] as const)("a handler that pauses %s gets no messages until it resumes", async ([, after]) => {
    const received: number[] = [];
    let call: EngineCall | undefined;
    const { port } = await start({}, (engine) =>
      engine.handle("/test/Slow", {
        kind: "bidi",
        handle: (opened) => {
          call = opened;
          if (after === 0) opened.pause();
          opened.onMessage = (message) => {
            received.push(message[0]!);
            if (received.length === after) opened.pause();
          };
          opened.onHalfClose = () => opened.end(OK);
        },
      }),
    );
    const session = await http2(port);
    const stream = open(session, "/test/Slow");
    const ended = answer(stream);
    const messages = Array.from({ length: 100 }, (_, i) => i);
    for (const i of messages) stream.write(frame(Buffer.of(i)));
    stream.end();
    await expect.poll(() => call !== undefined && received.length).toBe(after);
    await roundTrip(session);
    expect(received).toHaveLength(after);
    call!.resume();
    expect((await ended).code).toBe(0);
    expect(received).toEqual(messages);
  });
});

describe("the end of a call reaches its handler once", () => {
  /** What the handler of a held call hears. */
  function hears(call: EngineCall): { cancels: (CancelCause | "half-close")[]; first: Promise<CancelCause> } {
    const cancels: (CancelCause | "half-close")[] = [];
    const { promise, resolve } = Promise.withResolvers<CancelCause>();
    call.onCancel = (cause) => {
      cancels.push(cause);
      resolve(cause);
    };
    call.onHalfClose = () => cancels.push("half-close");
    return { cancels, first: promise };
  }

  test("when the client cancels", async () => {
    const { port, hold } = await start();
    // Node's own client would end its side first.
    const peer = await Http2Peer.start(port);
    onTestFinished(() => peer.destroy());
    peer.send(openCall(1, "/test/Hold"));
    const call = await hold();
    const { cancels, first } = hears(call);
    expect(call.cancelled).toBe(false);
    peer.send(reset(1));
    expect(await first).toBe("left");
    expect(call.cancelled).toBe(true);
    call.send(Buffer.of(1));
    call.end(OK);
    await peer.roundTrip();
    expect(cancels).toEqual(["left"]);
  });

  test("when the connection breaks", async () => {
    const { port, hold } = await start();
    const session = await http2(port);
    open(session, "/test/Hold");
    const { cancels, first } = hears(await hold());
    session.destroy();
    expect(await first).toBe("left");
    expect(cancels).toEqual(["left"]);
  });

  test("when the deadline passes, and the client hears it too", async () => {
    const { port, hold } = await start();
    const session = await http2(port);
    const stream = open(session, "/test/Hold", { "grpc-timeout": "100m" });
    const { cancels, first } = hears(await hold());
    const { code } = await answer(stream);
    expect({ code, cause: await first }).toEqual({ code: 4, cause: "deadline" });
    await roundTrip(session);
    expect(cancels).toEqual(["deadline"]);
  });

  test("when the deadline passes on the client first", async () => {
    const { port, hold } = await start();
    const made = client(port);
    // Connected before, lest the time runs out on the way.
    await made.raw("/test/Echo", Buffer.of(1));
    const call = failure(made.raw("/test/Hold", Buffer.of(1), { deadlineMs: 100 }));
    const { first } = hears(await hold());
    expect(await call).toMatchObject({ status: "DEADLINE_EXCEEDED" });
    expect(await first).toBe("deadline");
  });

  test("and not after the handler has ended it", async () => {
    const { port, hold } = await start();
    const session = await http2(port);
    const stream = open(session, "/test/Hold");
    const call = await hold();
    const { cancels } = hears(call);
    call.end(OK);
    stream.end();
    expect((await answer(stream)).code).toBe(0);
    await roundTrip(session);
    expect(cancels).toEqual([]);
  });

  test("a second end changes nothing", async () => {
    const { port, hold } = await start();
    const stream = open(await http2(port), "/test/Hold");
    const call = await hold();
    call.end({ code: 5, message: "first" });
    call.end({ code: 13, message: "second" });
    call.send(Buffer.of(1));
    const { code, message, body } = await answer(stream);
    expect({ code, message, size: body.length }).toEqual({ code: 5, message: "first", size: 0 });
  });

  test.for(["unary", "server_streaming", "bidi"] as const)(
    "a %s handler that throws is INTERNAL, without its text",
    async (kind) => {
      const handle = (): never => {
        throw new Error("s3cret");
      };
      const { port } = await start({}, (engine) => engine.handle("/test/Throw", { kind, handle }));
      const error = await failure(client(port).raw("/test/Throw", Buffer.from("x")));
      expect(error).toMatchObject({ status: "INTERNAL", message: "the server failed" });
    },
  );

  test("a status keeps any text", async () => {
    const { port, hold } = await start();
    const stream = open(await http2(port), "/test/Hold");
    (await hold()).end({ code: 3, message: 'name: "ü\n%41 ✓" is wrong' });
    expect((await answer(stream)).message).toBe('name: "ü\n%41 ✓" is wrong');
  });

  test("a status that was cut within a character keeps the rest of its text", async () => {
    const { port, hold } = await start();
    const stream = open(await http2(port), "/test/Hold");
    (await hold()).end({ code: 3, message: `name: "${"😈".slice(0, 1)}…" is wrong` });
    expect((await answer(stream)).message).toBe('name: "\ufffd…" is wrong');
  });
});

describe("behind a router", () => {
  const method = (name: string, kind: MethodName["kind"]): MethodName => ({
    service: "test.Service",
    name,
    kind,
    aliases: [],
  });
  const codec = {
    decode: (bytes: Uint8Array) => {
      if (bytes[0] === 0xff) throw new Error("cut off");
      return bytes;
    },
    encode: (bytes: Uint8Array) => bytes,
    access: () => undefined,
  };

  async function startRouter(): Promise<Client> {
    const { port } = await start({}, (engine) => {
      const router = new Router(engine, openGuard(), []);
      router.unary({ method: method("Throws", "unary"), ...codec }, () => {
        throw new TypeError("secret");
      });
      router.async({ method: method("Rejects", "unary"), ...codec }, async () =>
        Promise.reject(new TypeError("secret")),
      );
      router.bidi({ method: method("ThrowsLater", "bidi"), ...codec }, (call) => {
        call.onMessage = () => {
          throw new TypeError("secret");
        };
      });
    });
    return client(port);
  }

  test.for(["Throws", "Rejects", "ThrowsLater"])(
    "a handler that fails (%s) is INTERNAL with a plain text",
    async (name) => {
      const made = await startRouter();
      const error = await failure(made.raw(`/test.Service/${name}`, Buffer.of(1)));
      expect(error).toMatchObject({
        status: "INTERNAL",
        reason: "INTERNAL",
        message: "the server failed; its log says why",
      });
      await made.raw("/test/Echo", Buffer.of(1));
    },
  );

  test.for(["Throws", "Rejects", "ThrowsLater"])(
    "bytes that are no message (%s) are INVALID_ARGUMENT",
    async (name) => {
      const made = await startRouter();
      const error = await failure(made.raw(`/test.Service/${name}`, Buffer.of(0xff)));
      expect(error).toMatchObject({ status: "INVALID_ARGUMENT", reason: "MALFORMED_MESSAGE" });
      expect(error.message).toBe(`the request is not a valid test.Service/${name} message: cut off`);
    },
  );
});

describe("draining", () => {
  test("lets open calls finish and refuses new ones", async () => {
    const { engine, port, hold } = await start();
    const other = client(port);
    await other.raw("/test/Echo", Buffer.of(1));
    const stream = open(await http2(port), "/test/Hold");
    const call = await hold();
    call.onMessage = (message) => call.send(message);
    let isDrained = false;
    const drained = engine.drain().then(() => (isDrained = true));

    expect(await failure(other.raw("/test/Echo", Buffer.of(2)))).toMatchObject({ status: "UNAVAILABLE" });
    expect(await failure(client(port).raw("/test/Echo", Buffer.of(2)))).toMatchObject({ status: "UNAVAILABLE" });
    stream.write(frame(Buffer.from("still here")));
    expect(await read(stream, 15)).toEqual(frame(Buffer.from("still here")));
    expect(isDrained).toBe(false);

    const ended = answer(stream);
    stream.end();
    call.end(OK);
    expect((await ended).code).toBe(0);
    await drained;
  });

  test("ends at once where nothing is open, idle connections or not", async () => {
    const { engine, port } = await start();
    const session = await http2(port);
    await roundTrip(session);
    const closed = once(session, "close");
    await engine.drain();
    await closed;
  });

  test.for([
    ["a drain", {}],
    ["its age", { maxConnectionAgeMs: 100 }],
  ] as const)("keepalive does not cut a call that outlives %s", async ([, options]) => {
    const { engine, port, hold } = await start({ keepaliveTimeMs: 100, keepaliveTimeoutMs: 100, ...options });
    const session = await http2(port);
    const stream = open(session, "/test/Hold");
    const call = await hold();
    call.onMessage = (message) => call.send(message);
    const leaving = once(session, "goaway");
    if (!("maxConnectionAgeMs" in options)) void engine.drain();
    await leaving;
    // That nothing happens takes its time.
    await sleep(500);
    stream.write(frame(Buffer.of(1)));
    expect(await read(stream, 6)).toEqual(frame(Buffer.of(1)));
  });

  test("is cut short by close", async () => {
    const { engine, port, hold } = await start();
    open(await http2(port), "/test/Hold");
    const call = await hold();
    const { promise, resolve } = Promise.withResolvers<void>();
    call.onCancel = () => resolve();
    void engine.drain();
    engine.close();
    await promise;
  });
});

describe("connections", () => {
  /** A proxy that can stop forwarding without closing anything, as a dead network does. */
  async function proxy(target: number): Promise<{ port: number; freeze(): void; serverSide: Promise<Socket> }> {
    const sockets: Socket[] = [];
    const { promise: serverSide, resolve } = Promise.withResolvers<Socket>();
    const server = createServer((inner) => {
      const outer = connectTcp(target, HOST);
      sockets.push(inner, outer);
      for (const socket of [inner, outer]) socket.on("error", () => undefined);
      inner.on("data", (data) => outer.write(data));
      outer.on("data", (data) => inner.write(data));
      resolve(outer);
    });
    server.listen(0, HOST);
    await once(server, "listening");
    onTestFinished(() => {
      for (const socket of sockets) socket.destroy();
      server.close();
    });
    return {
      port: (server.address() as AddressInfo).port,
      freeze: () => {
        // Reads on, so that a close is seen, and forwards nothing.
        for (const socket of sockets) socket.removeAllListeners("data").resume();
      },
      serverSide,
    };
  }

  test("one that is half open is freed by keepalive, and a silent one that lives is not", async () => {
    const { port, hold } = await start({ keepaliveTimeMs: 200, keepaliveTimeoutMs: 200 });
    const living = open(await http2(port), "/test/Hold");
    const livingCall = await hold(0);
    livingCall.onMessage = (message) => livingCall.send(message);
    const { port: through, freeze, serverSide } = await proxy(port);
    open(await http2(through), "/test/Hold");
    const call = await hold(1);
    const { promise, resolve } = Promise.withResolvers<CancelCause>();
    call.onCancel = resolve;
    const closed = once(await serverSide, "close");
    freeze();
    expect(await promise).toBe("left");
    await closed;
    living.write(frame(Buffer.of(1)));
    expect(await read(living, 6)).toEqual(frame(Buffer.of(1)));
  });

  test("one that is too old is asked to leave, and its open calls go on", async () => {
    const { port, hold } = await start({ maxConnectionAgeMs: 200 });
    const session = await http2(port);
    const stream = open(session, "/test/Hold");
    const call = await hold();
    call.onMessage = (message) => call.send(message);
    const [code] = (await once(session, "goaway")) as [number];
    expect(code).toBe(0);
    for (let i = 0; i < 3; i++) {
      stream.write(frame(Buffer.of(i)));
      expect(await read(stream, 6)).toEqual(frame(Buffer.of(i)));
    }
    const closed = once(session, "close");
    const ended = answer(stream);
    stream.end();
    call.end(OK);
    expect((await ended).code).toBe(0);
    await closed;
    await expectHealthy(port);
  });

  const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  const SETTINGS = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);

  test.for([
    ["noise", randomBytes(4096)],
    ["HTTP/1.1", Buffer.from("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")],
    ["noise after the preface", Buffer.concat([PREFACE, Buffer.alloc(4096, 0xee)])],
    [
      "a frame larger than allowed",
      Buffer.concat([PREFACE, SETTINGS, Buffer.from([0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1])]),
    ],
    [
      "data for a call that was never opened",
      Buffer.concat([PREFACE, SETTINGS, Buffer.from([0, 0, 1, 0, 0, 0, 0, 0, 7, 1])]),
    ],
    [
      "headers that do not decode",
      Buffer.concat([PREFACE, SETTINGS, Buffer.from([0, 0, 2, 1, 5, 0, 0, 0, 1, 0xff, 0xff])]),
    ],
  ] as const)("one that sends %s is closed, and others do not notice", async ([, bytes]) => {
    const { port } = await start();
    const healthy = client(port);
    await healthy.raw("/test/Echo", Buffer.of(1));
    const socket = connectTcp(port, HOST);
    socket.on("error", () => undefined).resume();
    socket.write(bytes);
    await once(socket, "close");
    expect(await healthy.raw("/test/Echo", Buffer.of(2))).toEqual(Buffer.of(2));
    await expectHealthy(port);
  });

  test.for([
    ["that is no gRPC", { "content-type": "text/plain" }, 415],
    ["without a type", { "content-type": "" }, 415],
  ] as const)("a request %s is answered as HTTP has it", async ([, metadata, status]) => {
    const { port } = await start();
    const stream = open(await http2(port), "/test/Echo", metadata);
    stream.end();
    const [headers] = (await once(stream, "response")) as [{ ":status": number }];
    expect(headers[":status"]).toBe(status);
    await expectHealthy(port);
  });

  test.for([
    ["no message", Buffer.alloc(0)],
    ["half a header", Buffer.from([0, 0])],
    ["half a message", Buffer.from([0, 0, 0, 0, 9, 1])],
    ["two messages", Buffer.concat([frame(Buffer.of(1)), frame(Buffer.of(2))])],
  ] as const)("a unary call with %s fails, and not as UNKNOWN", async ([, body]) => {
    const { port } = await start();
    const stream = open(await http2(port), "/test/Echo");
    stream.end(body);
    const { code } = await answer(stream);
    expect([3, 12, 13]).toContain(code);
    await expectHealthy(port);
  });
});

test("an address that is taken is an error at once", async () => {
  const { port } = await start();
  await expect(new EngineUnderTest({ ...OPTIONS, port }).listen()).rejects.toThrow(/EADDRINUSE|No address added/);
});

describe("TLS", () => {
  function connect(port: number, secure: ReturnType<typeof credentials.createSsl>): GrpcClient {
    const options: ClientOptions = { "grpc.use_local_subchannel_pool": 1 };
    const grpc = new GrpcClient(`${HOST}:${port}`, secure, options);
    onTestFinished(() => grpc.close());
    return grpc;
  }

  async function echo(grpc: GrpcClient, path = "/test/Echo"): Promise<string> {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const asIs = (bytes: Buffer): Buffer => bytes;
    grpc.makeUnaryRequest(path, asIs, asIs, Buffer.from("hello"), (error, response) =>
      error === null ? resolve(response!.toString()) : reject(new CallError(error)),
    );
    return promise;
  }

  /** `/test/Who` answers with the subject of the client's certificate. */
  const who = (engine: Engine): void =>
    engine.handle("/test/Who", {
      kind: "unary",
      handle: (call) => {
        call.send(Buffer.from(call.peerCertificate?.subject ?? "nobody"));
        call.end(OK);
      },
    });

  test("serves those who trust the certificate, and nobody in plain text", async ({ skip }) => {
    const pair = selfSigned();
    if (pair === undefined) return skip("there is no openssl to make a certificate with");
    const { port } = await start({ tls: pair });
    expect(await echo(connect(port, credentials.createSsl(pair.cert)))).toBe("hello");
    const untrusting = connect(port, credentials.createSsl());
    expect(await failure(echo(untrusting))).toMatchObject({ status: "UNAVAILABLE" });
    expect(await failure(client(port).raw("/test/Echo", Buffer.of(1)))).toMatchObject({ status: "UNAVAILABLE" });
  });

  test("demands a client's certificate where an authority is given", async ({ skip }) => {
    const pair = selfSigned();
    const stranger = selfSigned();
    if (pair === undefined || stranger === undefined) return skip("there is no openssl to make a certificate with");
    const { port } = await start({ tls: { ...pair, clientCa: pair.cert } });
    expect(await echo(connect(port, credentials.createSsl(pair.cert, pair.key, pair.cert)))).toBe("hello");
    for (const secure of [
      credentials.createSsl(pair.cert),
      credentials.createSsl(pair.cert, stranger.key, stranger.cert),
    ]) {
      expect(await failure(echo(connect(port, secure)))).toMatchObject({ status: "UNAVAILABLE" });
    }
  });

  test("an optional certificate tells who the client is, and a wrong one is turned away", async ({ skip }) => {
    const pair = selfSigned();
    if (pair === undefined) return skip("there is no openssl to make a certificate with");
    using authority = new Authority();
    using other = new Authority("other");
    const tls = { ...pair, clientCa: authority.cert, clientCertificate: "optional" } as const;
    const { port } = await start({ tls }, who);
    const withCertificate = ({ key, cert }: KeyPair) => connect(port, credentials.createSsl(pair.cert, key, cert));
    expect(await echo(connect(port, credentials.createSsl(pair.cert)), "/test/Who")).toBe("nobody");
    const known = withCertificate(authority.issue({ subject: "/O=shop/CN=orders" }));
    expect(await echo(known, "/test/Who")).toBe("O=shop\nCN=orders");
    expect(await echo(known, "/test/Who")).toBe("O=shop\nCN=orders");
    const strangers = [other.issue({ subject: "/CN=orders" }), authority.issue({ subject: "/CN=orders", days: -1 })];
    for (const stranger of strangers) {
      expect(await failure(echo(withCertificate(stranger), "/test/Who"))).toMatchObject({ status: "UNAVAILABLE" });
    }
  });

  test("renewed keys are for new connections, and those before go on", async ({ skip }) => {
    const [before, after] = [selfSigned(), selfSigned()];
    if (before === undefined || after === undefined) return skip("there is no openssl to make a certificate with");
    using authority = new Authority();
    const { engine, port } = await start({ tls: { ...before, clientCa: before.cert } });
    const old = connect(port, credentials.createSsl(before.cert, before.key, before.cert));
    expect(await echo(old)).toBe("hello");
    engine.renewTls({ ...after, clientCa: authority.cert });
    expect(await echo(old)).toBe("hello");
    const { cert, key } = authority.issue({ subject: "/CN=orders" });
    expect(await echo(connect(port, credentials.createSsl(after.cert, key, cert)))).toBe("hello");
    const late = connect(port, credentials.createSsl(after.cert, before.key, before.cert));
    expect(await failure(echo(late))).toMatchObject({ status: "UNAVAILABLE" });
  });

  test.for(["TLSv1", "TLSv1.1"] as const)("%s is refused, also with renewed keys", async (version, { skip }) => {
    const pair = selfSigned();
    if (pair === undefined) return skip("there is no openssl to make a certificate with");
    // Whatever Node is told to take by itself.
    const byItself = { DEFAULT_MIN_VERSION: tls.DEFAULT_MIN_VERSION, DEFAULT_CIPHERS: tls.DEFAULT_CIPHERS };
    Object.assign(tls, { DEFAULT_MIN_VERSION: version, DEFAULT_CIPHERS: "DEFAULT:@SECLEVEL=0" });
    onTestFinished(() => void Object.assign(tls, byItself));
    const { engine, port } = await start({ tls: pair });
    const outdated = { minVersion: version, maxVersion: version, ciphers: "DEFAULT:@SECLEVEL=0" } as const;
    await expect(Http2Peer.startTls(port, outdated)).rejects.toThrow(/alert protocol version/);
    engine.renewTls(pair);
    await expect(Http2Peer.startTls(port, outdated)).rejects.toThrow(/alert protocol version/);
    const peer = await Http2Peer.startTls(port, { maxVersion: "TLSv1.2" });
    await peer.roundTrip();
    peer.destroy();
  });

  test("keys that are renewed before it listens are those that it begins with", async ({ skip }) => {
    const [before, after] = [selfSigned(), selfSigned()];
    if (before === undefined || after === undefined) return skip("there is no openssl to make a certificate with");
    const { port } = await start({ tls: before }, (engine) => engine.renewTls(after));
    expect(await echo(connect(port, credentials.createSsl(after.cert)))).toBe("hello");
  });

  test("to renew keys of a server without any changes nothing", async () => {
    const { engine, port } = await start();
    engine.renewTls({ cert: Buffer.of(), key: Buffer.of() });
    expect(await client(port).raw("/test/Echo", Buffer.of(1))).toEqual(Buffer.of(1));
  });
});

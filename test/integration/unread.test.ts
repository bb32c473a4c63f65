/** The engine's budget for what clients have not read, over real sockets: who is cut off, who is not, and what is freed. */
import { once } from "node:events";
import { type ClientHttp2Session, type ClientHttp2Stream, connect as connectHttp2 } from "node:http2";
import { expect, onTestFinished, test } from "vitest";
import type { CancelCause, Engine, EngineCall, EngineOptions } from "../../src/grpc/engine/engine.ts";
import { Client } from "../support/client.ts";
import { EngineUnderTest } from "../support/engine.ts";
import { Http2Peer, call as openCall, ping } from "../support/http2-peer.ts";
import { heldBytes } from "../support/memory.ts";

const MIB = 1024 * 1024;
const BUDGET = 8 * MIB;
const OK = { code: 0, message: "" };
const ENHANCE_YOUR_CALM = 11;
const PING = ping();

interface Started {
  readonly engine: Engine;
  readonly port: number;
  /** Calls of `/test/Hold`, in order: the handler does nothing by itself. */
  readonly held: EngineCall[];
  /** Why each of them ended, by its number. */
  readonly causes: Map<number, CancelCause>;
  /** Most that was ever unread after a send. */
  most(): number;
}

/** An engine with `/test/Echo` (unary), `/test/Large` (unary, answers 1 MiB) and `/test/Hold` (bidi). */
async function start(options: Partial<EngineOptions> = {}): Promise<Started> {
  const engine = new EngineUnderTest({
    host: "127.0.0.1",
    port: 0,
    maxReceiveMessageBytes: 4 * MIB,
    maxMetadataBytes: 16 * 1024,
    maxConcurrentStreams: 1000,
    maxConnections: 1000,
    maxUnreadBytes: BUDGET,
    keepaliveTimeMs: 60_000,
    keepaliveTimeoutMs: 20_000,
    maxConnectionAgeMs: 0,
    ...options,
  });
  const held: EngineCall[] = [];
  const causes = new Map<number, CancelCause>();
  let most = 0;
  const large = Buffer.alloc(MIB);
  engine.handle("/test/Echo", {
    kind: "unary",
    handle: (call, request) => {
      call.send(request);
      call.end(OK);
    },
  });
  engine.handle("/test/Large", {
    kind: "unary",
    handle: (call) => {
      call.send(large);
      call.end(OK);
      most = Math.max(most, engine.unreadBytes);
    },
  });
  engine.handle("/test/Hold", {
    kind: "bidi",
    handle: (call) => {
      const number = held.push(call) - 1;
      call.onCancel = (cause) => causes.set(number, cause);
    },
  });
  const port = await engine.listen();
  onTestFinished(() => engine.close());
  return { engine, port, held, causes, most: () => most };
}

async function http2(port: number): Promise<ClientHttp2Session> {
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  session.on("error", () => undefined);
  onTestFinished(() => session.destroy());
  await once(session, "connect");
  return session;
}

/** Opens a call that does not read its answers. */
function open(session: ClientHttp2Session, path: string): ClientHttp2Stream {
  const headers = { ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers" };
  const stream = session.request(headers, { endStream: false });
  stream.on("error", () => undefined);
  stream.pause();
  return stream;
}

/** Resolves when the call is over, with the code it was reset with. */
async function closed(stream: ClientHttp2Stream): Promise<number> {
  await new Promise((resolve) => stream.once("close", resolve));
  return stream.rstCode;
}

/** Opens so many calls of `/test/Hold`, in order. */
async function hold({ port, held }: Started, count: number): Promise<ClientHttp2Stream[]> {
  const session = await http2(port);
  const streams: ClientHttp2Stream[] = [];
  const before = held.length;
  for (let n = 1; n <= count; n++) {
    streams.push(open(session, "/test/Hold"));
    await expect.poll(() => held.length).toBe(before + n);
  }
  return streams;
}

/** Reads until the end of the call; the number of bytes. */
async function readAll(stream: ClientHttp2Stream): Promise<number> {
  let size = 0;
  stream.on("data", (chunk: Buffer) => (size += chunk.length));
  stream.resume();
  stream.end();
  await once(stream, "end");
  return size;
}

async function expectServed({ port }: Started): Promise<void> {
  const client = new Client(`127.0.0.1:${port}`);
  expect(await client.raw("/test/Echo", Buffer.from("alive"))).toEqual(Buffer.from("alive"));
  client.close();
}

const chunk = Buffer.alloc(64 * 1024);

/** Sends so much as one call; what a message costs beside its bytes makes it a little more. */
function sendMany(call: EngineCall, bytes: number): void {
  for (let sent = 0; sent < bytes; sent += chunk.length) call.send(chunk);
}

test("what is sent counts until it is read, however the call ends", async () => {
  const started = await start();
  const { engine, held } = started;
  const streams = await hold(started, 4);
  for (const call of held) sendMany(call, MIB);
  expect(engine.unreadBytes).toBeGreaterThan(4 * MIB);
  expect(engine.unreadBytes).toBeLessThan(5 * MIB);
  held[0]!.end(OK);
  held[1]!.end({ code: 9, message: "not now" });
  await Promise.all([readAll(streams[0]!), readAll(streams[1]!)]);
  await expect.poll(() => engine.unreadBytes).toBeLessThan(2.5 * MIB);
  streams[2]!.close(8);
  streams[3]!.resume();
  await expect.poll(() => engine.unreadBytes).toBe(0);
});

test("beyond the budget those that read nothing for the longest are reset, and their handlers hear why", async () => {
  const started = await start();
  const { engine, held, causes } = started;
  const streams = await hold(started, 20);
  const resets = streams.map((stream) => closed(stream));
  for (const call of held) {
    sendMany(call, 17 * chunk.length);
    expect(engine.unreadBytes).toBeLessThanOrEqual(BUDGET);
    await expectServed(started);
  }
  // Seven times that fits, and eight times does not, with what messages cost beside and what the client's window takes.
  expect(await Promise.all(resets.slice(0, 13))).toEqual(Array.from({ length: 13 }, () => ENHANCE_YOUR_CALM));
  await expect.poll(() => causes.size).toBe(13);
  expect([...causes]).toEqual(Array.from({ length: 13 }, (_, n) => [n, "unread"]));
  for (const call of held.slice(13)) call.end(OK);
  for (const stream of streams.slice(13)) expect(await readAll(stream)).toBe(17 * (chunk.length + 5));
  expect(engine.unreadBytes).toBe(0);
});

test("a call that was reset takes no more, and its end changes nothing", async () => {
  const started = await start();
  const { engine, held } = started;
  const [first] = await hold(started, 2);
  const reset = closed(first!);
  sendMany(held[0]!, 7 * MIB);
  sendMany(held[1]!, 7 * MIB);
  const { unreadBytes } = engine;
  expect(unreadBytes).toBeLessThan(7.5 * MIB);
  expect(held[0]!.send(chunk)).toBe(true);
  held[0]!.end(OK);
  expect(engine.unreadBytes).toBe(unreadBytes);
  expect(await reset).toBe(ENHANCE_YOUR_CALM);
});

test("a hook that throws harms neither who sends nor who is cut off, and its error is heard of", async () => {
  const errors: unknown[] = [];
  const onUnread = (): void => {
    throw new Error("hook");
  };
  const started = await start({ onUnread, onError: (error) => errors.push(error) });
  const { engine, held, causes } = started;
  const [first] = await hold(started, 2);
  const reset = closed(first!);
  sendMany(held[0]!, 6 * MIB);
  sendMany(held[1]!, 6 * MIB);
  expect(await reset).toBe(ENHANCE_YOUR_CALM);
  expect(errors.map(String)).toEqual(["Error: hook"]);
  await expect.poll(() => [...causes]).toEqual([[0, "unread"]]);
  expect(engine.unreadBytes).toBeGreaterThan(5 * MIB);
});

test("a client that reads is not cut off while others do not", async () => {
  const started = await start();
  const { engine, held, causes } = started;
  const [reading] = await hold(started, 1);
  reading!.resume();
  let size = 0;
  reading!.on("data", (bytes: Buffer) => (size += bytes.length));
  const [call] = held;
  const deaf = await hold(started, 40);
  for (let round = 0; round < deaf.length; round++) {
    // As much as back-pressure allows, so that it always holds something.
    const { promise, resolve } = Promise.withResolvers<void>();
    call!.onDrain = resolve;
    while (call!.send(chunk));
    sendMany(held[round + 1]!, MIB);
    expect(engine.unreadBytes).toBeLessThanOrEqual(BUDGET);
    await promise;
  }
  await expect.poll(() => causes.size).toBeGreaterThan(30);
  expect(causes.has(0)).toBe(false);
  const before = size;
  call!.send(chunk);
  await expect.poll(() => size).toBeGreaterThan(before);
});

test("answers of unary calls count too", async () => {
  const started = await start();
  const { engine, port, most } = started;
  const session = await http2(port);
  const streams = Array.from({ length: 40 }, () => {
    const stream = open(session, "/test/Large");
    stream.end(Buffer.from([0, 0, 0, 0, 0]));
    return stream;
  });
  await expect.poll(() => streams.filter(({ rstCode }) => rstCode === ENHANCE_YOUR_CALM).length).toBe(33);
  expect(most()).toBeLessThanOrEqual(BUDGET);
  // Seven times 1 MiB without what the client's window took.
  expect(engine.unreadBytes).toBeGreaterThan(6.5 * MIB);
  await expectServed(started);
  session.destroy();
  await expect.poll(() => engine.unreadBytes).toBe(0);
});

test("a client that does not even read its socket loses the connection, and others keep theirs", async () => {
  const aborted: string[] = [];
  const started = await start({ onUnread: ({ path }, bytes) => aborted.push(`${path} ${bytes > MIB}`) });
  const { engine, held, causes, port } = started;
  // It does not read either, and holds little.
  const other = await hold(started, 1);
  sendMany(held[0]!, 4 * chunk.length);
  const stuck = await Http2Peer.startUnread(port);
  onTestFinished(() => stuck.destroy());
  for (let n = 0; n < 4; n++) stuck.send(openCall(2 * n + 1, "/test/Hold"));
  await expect.poll(() => held.length).toBe(5);
  // The system takes some megabytes before it is stuck.
  let taken = 0;
  while (causes.size === 0) {
    for (const call of held.slice(1)) sendMany(call, MIB);
    taken += 4;
    expect(engine.unreadBytes).toBeLessThanOrEqual(BUDGET);
    expect(taken).toBeLessThan(200);
    await expectServed(started);
  }
  stuck.socket.resume();
  await stuck.closed;
  await expect.poll(() => causes.size).toBe(4);
  expect([...causes.values()]).toEqual(Array.from({ length: 4 }, () => "unread"));
  expect(aborted).toEqual(Array.from({ length: 4 }, () => "/test/Hold true"));
  expect(engine.unreadBytes).toBeLessThan(MIB);
  held[0]!.end(OK);
  expect(await readAll(other[0]!)).toBe(4 * (chunk.length + 5));
});

test.for([true, false])("a client that floods pings costs others nothing (reads the answers: %s)", async (reads) => {
  const { port } = await start();
  const client = new Client(`127.0.0.1:${port}`);
  onTestFinished(() => client.close());
  const peer = await Http2Peer.start(port);
  onTestFinished(() => peer.destroy());
  await peer.roundTrip();
  const before = await heldBytes();
  if (!reads) peer.socket.pause();
  let isOver = false;
  const flood = peer.flood(400_000, (n) => {
    if (n % 50_000 === 0) peer.received.length = 0;
    return PING;
  });
  void flood.finally(() => (isOver = true));
  const text = Buffer.from("served");
  // A server that leaves its answers in the socket of a client that reads none stops to read from it, or closes it.
  for (let n = 0; n < 300 || (reads && !isOver); n++) expect(await client.raw("/test/Echo", text)).toEqual(text);
  peer.received.length = 0;
  expect((await heldBytes()) - before).toBeLessThan(32 * MIB);
});

test("connections beyond the limit are closed, until there is room again", async () => {
  const started = await start({ maxConnections: 2 });
  const [first] = [await http2(started.port), await http2(started.port)];
  const third = await Http2Peer.start(started.port);
  await third.closed;
  const gone = once(first!, "close");
  first!.destroy();
  await gone;
  await expectServed(started);
});

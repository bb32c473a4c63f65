/**
 * The native engine against clients that attack it: each costs the server a bounded number of frames or bytes, ends with the
 * code that RFC 9113 names, and nobody else notices. Figures are counts, so that a busy machine does not change them.
 */
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { Server } from "node:net";
import { connect as connectTls } from "node:tls";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import type { CallStatus, CancelCause, EngineCall, EngineOptions, Refusal } from "../../src/grpc/engine/engine.ts";
import type { Call } from "../../src/grpc/engine/native/call.ts";
import { HpackDecoder } from "../../src/grpc/engine/native/hpack.ts";
import { NativeEngine } from "../../src/grpc/engine/native/server.ts";
import { Stream } from "../../src/grpc/engine/native/stream.ts";
import { selfSigned } from "../support/certificate.ts";
import {
  ACK,
  DEFAULT_WINDOW,
  END_HEADERS,
  END_STREAM,
  type Frame,
  Http2Peer,
  INITIAL_WINDOW,
  MAX_WINDOW,
  PADDED,
  PREFACE,
  Type,
  call,
  callBlock,
  data,
  field,
  frame,
  integer,
  message,
  ping,
  reset,
  settings,
  u32,
  unary,
  windowUpdate,
} from "../support/http2-peer.ts";
import { type AttackLimits, type Served, underAttack } from "../support/attack.ts";
import { collectGarbage, heldBytes } from "../support/memory.ts";

const KIB = 1024;
const MIB = 1024 * KIB;
const OK = { code: 0, message: "" };
const NOTHING = Buffer.alloc(0);
/** What a connection may do without use before it is ended; it earns 10,000 a second, and these tests take seconds. */
const PATIENCE = 20_000;
const FLOOD_LIMIT = 20 * PATIENCE;
const MINUTE_MS = 60_000;
/** The shortest deadline that anybody sets for calls by the thousand. */
const DEADLINE_MS = 120;

const OPTIONS: EngineOptions = {
  host: "127.0.0.1",
  port: 0,
  maxReceiveMessageBytes: 4 * MIB,
  maxMetadataBytes: 16 * KIB,
  maxConcurrentStreams: 1000,
  maxConnections: 5000,
  maxUnreadBytes: 32 * MIB,
  keepaliveTimeMs: 60_000,
  keepaliveTimeoutMs: 20_000,
  maxConnectionAgeMs: 0,
};

interface Started {
  readonly engine: NativeEngine;
  readonly port: number;
  /** Calls of `/test/Hold`, in order: the handler does nothing by itself. */
  readonly held: EngineCall[];
  readonly errors: unknown[];
}

/** An engine with `/test/Echo` (unary), `/test/EchoAll` (bidi) and `/test/Hold` (bidi). */
async function start(options: Partial<EngineOptions> = {}, requestLimitMs?: number): Promise<Started> {
  const errors: unknown[] = [];
  const onError = (error: unknown): void => void errors.push(error);
  const engine = new NativeEngine({ ...OPTIONS, onError, ...options }, requestLimitMs);
  const held: EngineCall[] = [];
  engine.handle("/test/Echo", {
    kind: "unary",
    handle: (opened, request) => {
      opened.send(request);
      opened.end(OK);
    },
  });
  engine.handle("/test/EchoAll", {
    kind: "bidi",
    handle: (opened) => {
      opened.onMessage = (received) => opened.send(received);
      opened.onHalfClose = () => opened.end(OK);
    },
  });
  engine.handle("/test/Hold", { kind: "bidi", handle: (opened) => void held.push(opened) });
  const port = await engine.listen();
  onTestFinished(() => engine.close());
  return { engine, port, held, errors };
}

async function attacker(port: number, ...values: readonly (readonly [number, number])[]): Promise<Http2Peer> {
  const peer = await Http2Peer.start(port, ...values);
  onTestFinished(() => peer.destroy());
  return peer;
}

/** Clients that attack are in this process as well, and keep what came for them. */
const MEMORY: AttackLimits = { bytes: 16 * MIB };

/** Others call all the time, and the attack stays within its limits. */
async function withBystander(
  port: number,
  attack: (served: Served) => Promise<void>,
  limits?: AttackLimits,
): Promise<void> {
  await underAttack(async () => attacker(port), attack, limits);
}

/** For waits by the thousand, of which nothing is to stay in memory. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise(setImmediate);
}

const MANY_CONNECTIONS = 2000;

/** Exceptions that escape are a crash in production. */
const escaped: unknown[] = [];
const onEscape = (error: unknown): void => void escaped.push(error);
beforeEach(() => void process.on("uncaughtException", onEscape));
afterEach(() => {
  process.off("uncaughtException", onEscape);
  expect(escaped.splice(0)).toEqual([]);
});

const PACKED_CALL = callBlock("/test/Hold", ["grpc-encoding", "gzip"]);
const BOMB_DATA = data(3, message(gzipSync(Buffer.alloc(4 * MIB)), 1));

/** A dynamic table of nothing, and then of all that may be. */
const TABLE_GAME = Buffer.concat([Buffer.of(0x20), integer(4096, 5, 0x20)]);
const TEXT_DATA = data(3, message(gzipSync(Buffer.concat([randomBytes(14_000), Buffer.alloc(48 * 14_000)])), 1));

/** A call that ends with its message. */
function lastMessage(id: number, packed: Buffer): Buffer {
  return Buffer.concat([frame(Type.headers, END_HEADERS, id, PACKED_CALL), data(id, packed)]);
}

/** The prefix of a message that is larger than any may be. */
const TOO_LARGE = Buffer.of(0, 0xff, 0xff, 0xff, 0xff);
const LARGER_BOMB = message(gzipSync(Buffer.alloc(8 * MIB)), 1);
/** Its checksum is not that of what it unpacks to. */
const BROKEN_BOMB = message(gzipSync(Buffer.alloc(4 * MIB)), 1);
BROKEN_BOMB.fill(0xff, BROKEN_BOMB.length - 8);

describe("floods of what leads to nothing end the connection after a bounded number of frames", () => {
  const many = Array.from({ length: 2000 }, (_, index) => [INITIAL_WINDOW, 1000 + index] as const);

  test.for([
    ["PING", 1, () => ping()],
    ["PING answers that nobody asked for", 1, () => frame(Type.ping, ACK, 0, Buffer.alloc(8))],
    ["SETTINGS", 1, () => settings()],
    ["SETTINGS with thousands of values", 1, () => settings(...many)],
    ["acknowledgements of SETTINGS", 1, () => frame(Type.settings, ACK, 0)],
    ["PRIORITY", 1, (i) => frame(Type.priority, 0, 2 * i + 1, Buffer.concat([u32(0), Buffer.of(1)]))],
    ["window updates of the connection", 1, () => windowUpdate(0, 1)],
    ["window updates of a stream", 1, () => windowUpdate(1, 1)],
    ["empty DATA", 1, () => data(1, NOTHING)],
    ["DATA of padding alone", 1, () => data(1, Buffer.of(0), PADDED)],
    ["frames of unknown types", 1, () => frame(0x42, 0, 0, Buffer.alloc(8))],
    ["GOAWAY", 1, () => frame(Type.goaway, 0, 0, Buffer.alloc(8))],
    [
      "DATA beyond the window of a call that has ended",
      1,
      (i) => (i === 0 ? Buffer.concat([call(5, "/test/Nothing"), data(5, Buffer.of(0))]) : data(5, Buffer.of(0))),
    ],
    [
      "empty DATA for a call that has ended",
      1,
      (i) => (i === 0 ? Buffer.concat([call(5, "/test/Nothing"), data(5, NOTHING)]) : data(5, NOTHING)),
    ],
    ["PRIORITY that depends on itself", 10, () => frame(Type.priority, 0, 1, Buffer.concat([u32(1), Buffer.of(1)]))],
    ["requests that are reset", 10, (i) => Buffer.concat([call(2 * i + 5, "/test/Hold"), reset(2 * i + 5)])],
    ["resets of what is closed", 1, () => reset(1)],
    ["requests that are malformed", 10, (i) => frame(Type.headers, END_HEADERS, 2 * i + 5, field(":nonsense", "1"))],
    [
      "window updates by nothing",
      10,
      (i) => Buffer.concat([call(2 * i + 5, "/test/Hold"), windowUpdate(2 * i + 5, 0)]),
    ],
    [
      "windows that overflow",
      10,
      (i) => Buffer.concat([call(2 * i + 5, "/test/Hold"), windowUpdate(2 * i + 5, 0x7fffffff)]),
    ],
    [
      "requests with more DATA than announced",
      10,
      (i) => {
        const block = callBlock("/test/Hold", ["content-length", "1"]);
        const id = 2 * i + 5;
        return Buffer.concat([frame(Type.headers, END_HEADERS, id, block), data(id, Buffer.alloc(2), END_STREAM)]);
      },
    ],
    [
      "requests with DATA behind their end",
      10,
      (i) => {
        const id = 2 * i + 5;
        return Buffer.concat([call(id, "/test/Hold", END_HEADERS | END_STREAM), data(id, NOTHING, END_STREAM)]);
      },
    ],
    [
      "requests with two header blocks",
      10,
      (i) => Buffer.concat([call(2 * i + 5, "/test/Hold"), call(2 * i + 5, "/test/Hold")]),
    ],
    ["messages of a few bytes that unpack to megabytes", 50, () => BOMB_DATA],
    ["messages of a few bytes that unpack to more than allowed", 50, (i) => lastMessage(2 * i + 5, LARGER_BOMB)],
    ["messages that unpack to 49 times as much, as text may", 50, () => TEXT_DATA],
    [
      "messages that unpack to megabytes, and then turn out to be broken",
      50,
      (i) => lastMessage(2 * i + 5, BROKEN_BOMB),
    ],
  ] as readonly (readonly [string, number, (index: number) => Buffer])[])("%s", async ([, cost, next]) => {
    const { port, held } = await start();
    await withBystander(
      port,
      async (served) => {
        const peer = await attacker(port);
        peer.send(call(1, "/test/Hold"), frame(Type.headers, END_HEADERS, 3, PACKED_CALL));
        const sent = await peer.flood(FLOOD_LIMIT / cost, next, served);
        expect(sent).toBeLessThan(FLOOD_LIMIT / cost);
        expect(await peer.ending()).toBe("ENHANCE_YOUR_CALM");
        expect(held.length).toBeLessThan(FLOOD_LIMIT / 10);
        expect(held.every((opened) => opened.cancelled)).toBe(true);
      },
      MEMORY,
    );
  });

  test("one byte of window at a time, of a response that waits for it", async () => {
    const { port, held } = await start();
    await withBystander(
      port,
      async (served) => {
        const peer = await attacker(port, [INITIAL_WINDOW, 1 << 20]);
        for (let i = 0; i < 100; i++) peer.send(call(2 * i + 1, "/test/Hold"));
        await expect.poll(() => held.length).toBe(100);
        for (const opened of held) opened.send(Buffer.alloc(200 * KIB));
        const sent = await peer.flood(FLOOD_LIMIT, () => windowUpdate(0, 1), served);
        expect(sent).toBeLessThan(FLOOD_LIMIT);
        expect(await peer.ending()).toBe("ENHANCE_YOUR_CALM");
      },
      { bytes: 48 * MIB },
    );
  });

  test.for([
    ["empty", NOTHING],
    ["of one byte", Buffer.of(0x40)],
    ["of full size", Buffer.alloc(16 * KIB, 0x40)],
  ])("CONTINUATION, %s", async ([, payload]) => {
    const { port } = await start();
    await withBystander(port, async () => {
      const peer = await attacker(port);
      peer.send(frame(Type.headers, 0, 1, callBlock("/test/Echo")));
      for (let i = 0; i < 33; i++) peer.send(frame(Type.continuation, 0, 1, payload as Buffer));
      expect(await peer.ending()).toBe("ENHANCE_YOUR_CALM");
    });
  });

  test("SETTINGS that move the windows of a thousand streams cost as much as they do", async () => {
    const { port, held } = await start();
    await withBystander(
      port,
      async (served) => {
        const peer = await attacker(port);
        for (let i = 0; i < 1000; i++) peer.send(call(2 * i + 1, "/test/Hold"));
        await expect.poll(() => held.length).toBe(1000);
        const sent = await peer.flood(PATIENCE, (i) => settings([INITIAL_WINDOW, 1000 + (i % 2)]), served);
        expect(sent).toBeLessThan(PATIENCE / 4);
        expect(await peer.ending()).toBe("ENHANCE_YOUR_CALM");
      },
      MEMORY,
    );
  });

  test("SETTINGS full of initial windows move those of ten thousand streams once, to the last one", async () => {
    const { port, held } = await start({ maxConcurrentStreams: 10_000 });
    await withBystander(port, async () => {
      const peer = await attacker(port);
      for (let i = 0; i < 10_000; i++) peer.send(call(2 * i + 1, "/test/Hold"));
      await expect.poll(() => held.length).toBe(10_000);
      const moves = countMoves();
      peer.send(settings(...Array.from({ length: 2730 }, (_, i) => [INITIAL_WINDOW, i % 2 === 0 ? 5 : 7] as const)));
      await peer.roundTrip();
      expect(moves()).toBe(10_000);
      held[4999]!.send(Buffer.alloc(100));
      await expect.poll(() => dataBytes(peer, 9999)).toBe(7);
    });
  });
});

/** How often the window of a stream has moved since. */
function countMoves(): () => number {
  let moves = 0;
  const { moveSendWindow } = Stream.prototype;
  Stream.prototype.moveSendWindow = function (by) {
    moves += 1;
    return moveSendWindow.call(this, by);
  };
  onTestFinished(() => void Object.assign(Stream.prototype, { moveSendWindow }));
  return () => moves;
}

describe("a client that works hard is no attacker", () => {
  test("1,000 calls in flight that all end by their deadline, five times in a row", async () => {
    const { port, held } = await start();
    const peer = await attacker(port);
    for (let round = 0; round < 5; round++) {
      const ids = Array.from({ length: 1000 }, (_, i) => 2 * (1000 * round + i) + 1);
      peer.send(...ids.map((id) => call(id, "/test/Hold")));
      await expect.poll(() => held.length).toBe(1000 * (round + 1));
      await sleep(DEADLINE_MS);
      peer.send(...ids.map((id) => reset(id)));
      await peer.roundTrip();
    }
    expect(peer.goaway).toBeUndefined();
  });

  test("1,000 calls that are cancelled as soon as they are open", async () => {
    const { port, held } = await start();
    const peer = await attacker(port);
    const ids = Array.from({ length: 1000 }, (_, i) => 2 * i + 1);
    peer.send(...ids.map((id) => call(id, "/test/Hold")), ...ids.map((id) => reset(id)));
    await peer.roundTrip();
    expect(held.length).toBe(1000);
    expect(peer.goaway).toBeUndefined();
  });

  test("a ping and two window updates for each message that it gets", async () => {
    const { port, held } = await start();
    const peer = await attacker(port);
    peer.send(call(1, "/test/Hold"));
    await expect.poll(() => held.length).toBe(1);
    const count = 20_000;
    let seen = 0;
    for (let sent = 0; sent < count; sent += 100) {
      for (let i = 0; i < 100; i++) held[0]!.send(Buffer.of(i));
      await expect.poll(() => dataBytes(peer, 1), { interval: 1 }).toBe((sent + 100) * 6);
      for (; seen < sent + 100; seen++) peer.send(ping(), windowUpdate(0, 6), windowUpdate(1, 6));
    }
    await peer.roundTrip();
    expect(peer.goaway).toBeUndefined();
  });

  test("a download of 256 MiB with a window update for each frame", async () => {
    const { port, held } = await start();
    const peer = await attacker(port);
    peer.send(call(1, "/test/Hold"));
    await expect.poll(() => held.length).toBe(1);
    const size = 4 * MIB;
    let frames = 0;
    for (let sent = 0; sent < 64; sent++) {
      held[0]!.send(Buffer.alloc(size));
      let got = 0;
      while (got < size + 5) {
        await expect.poll(() => peer.received.length, { interval: 1 }).toBeGreaterThan(0);
        for (const { type, payload } of peer.received.splice(0)) {
          if (type !== Type.data) continue;
          got += payload.length;
          frames += 1;
          peer.send(windowUpdate(0, payload.length), windowUpdate(1, payload.length));
        }
      }
    }
    expect(frames).toBeGreaterThan(PATIENCE / 4);
    await peer.roundTrip();
    expect(peer.goaway).toBeUndefined();
  });

  test("60 MiB of compressed messages one after the other, and 500 calls with such of 64 KiB", async () => {
    const { port, held } = await start();
    const peer = await attacker(port);
    const packed = message(gzipSync(Buffer.from("some text ".repeat(10 * KIB))), 1);
    const short = message(gzipSync(Buffer.alloc(64 * KIB)), 1);
    peer.send(frame(Type.headers, END_HEADERS, 1, PACKED_CALL));
    await expect.poll(() => held.length).toBe(1);
    let unpacked = 0;
    held[0]!.onMessage = ({ length }) => void (unpacked += length);
    for (let i = 0; i < 600; i++) peer.send(data(1, packed));
    await peer.roundTrip();
    expect(unpacked).toBe(600 * 100 * KIB);
    for (let i = 1; i <= 500; i++) {
      const id = 2 * i + 1;
      peer.send(frame(Type.headers, END_HEADERS, id, callBlock("/test/Echo", ["grpc-encoding", "gzip"])));
      peer.send(data(id, short, END_STREAM), windowUpdate(0, 70 * KIB), windowUpdate(id, 70 * KIB));
      await peer.endOf(id);
      peer.received.length = 0;
    }
    expect(peer.goaway).toBeUndefined();
  });

  test("messages for calls that the server has just ended, a thousand at once", async () => {
    const { port, held } = await start();
    await withBystander(port, async () => {
      const peer = await attacker(port);
      const ids = Array.from({ length: 1000 }, (_, i) => 2 * i + 1);
      peer.send(...ids.map((id) => call(id, "/test/Hold")));
      await expect.poll(() => held.length).toBe(1000);
      for (const opened of held) opened.end({ code: 14, message: "the server leaves" });
      peer.send(...ids.map((id) => data(id, message(Buffer.of(1)))), ...ids.map((id) => data(id, NOTHING, END_STREAM)));
      await peer.roundTrip();
      expect(peer.goaway).toBeUndefined();
    });
  });

  test("windows full of small messages, a frame each, for a hundred calls that the server has just ended", async () => {
    const { port, held } = await start();
    await withBystander(port, async (served) => {
      const peer = await attacker(port);
      const ids = Array.from({ length: 100 }, (_, i) => 2 * i + 3);
      peer.send(call(1, "/test/Hold"), ...ids.map((id) => call(id, "/test/Hold")));
      await expect.poll(() => held.length).toBe(101);
      for (const opened of held.slice(1)) opened.end({ code: 14, message: "the server is behind" });
      const small = message(Buffer.alloc(100));
      const perWindow = Math.floor(DEFAULT_WINDOW / small.length);
      expect(100 * perWindow).toBeGreaterThan(2 * PATIENCE);
      for (const id of ids) {
        peer.send(...Array.from({ length: perWindow }, () => data(id, small)));
        await served();
      }
      await peer.roundTrip();
      expect(peer.goaway).toBeUndefined();
      expect(held[0]!.cancelled).toBe(false);
    });
  });
});

/** DATA that came for a stream. */
function dataBytes(peer: Http2Peer, streamId: number): number {
  let sum = 0;
  for (const one of peer.received) if (one.type === Type.data && one.streamId === streamId) sum += one.payload.length;
  return sum;
}

describe("header blocks", () => {
  const open = END_HEADERS | END_STREAM;

  test.for([
    ["a table larger than allowed", integer(4097, 5, 0x20)],
    ["a table size behind a field", Buffer.concat([field("a", "b"), Buffer.of(0x20)])],
    ["an index beyond the table", integer(62, 7, 0x80)],
    ["index 0", Buffer.of(0x80)],
    ["an integer without end", Buffer.concat([Buffer.of(0xff), Buffer.alloc(100, 0xff)])],
    ["a text that is longer than its block", Buffer.of(0x40, 0x7f, 0xff, 0xff, 0x03)],
    ["Huffman's EOS", Buffer.of(0x40, 0x84, 0xff, 0xff, 0xff, 0xff)],
  ] as const)("with %s are COMPRESSION_ERROR", async ([, block]) => {
    const { port } = await start();
    await withBystander(port, async () => {
      const peer = await attacker(port);
      peer.send(frame(Type.headers, open, 1, block));
      expect(await peer.ending()).toBe("COMPRESSION_ERROR");
    });
  });

  test("that a few bytes blow up to megabytes are refused, and hold nothing", async () => {
    const { port, held } = await start();
    const peer = await attacker(port);
    const large = field("x-bomb", "x".repeat(4000), 0x40);
    peer.send(frame(Type.headers, END_HEADERS, 1, Buffer.concat([callBlock("/test/Hold"), large])));
    await expect.poll(() => held.length).toBe(1);
    // Each of these bytes is a field of 4 KB: 60 MB in one frame, and each frame a call that stays.
    const bomb = Buffer.concat([callBlock("/test/Hold"), Buffer.alloc(15 * KIB, 0x80 | 62)]);
    await withBystander(
      port,
      async (served) => {
        for (let i = 1; i <= 100; i++) {
          peer.send(frame(Type.headers, END_HEADERS, 2 * i + 1, bomb));
          await served();
        }
        const answer = await peer.endOf(201);
        expect(answer.payload.toString("latin1")).toContain("request metadata has ");
        expect(held).toHaveLength(1);
      },
      { bytes: 4 * MIB },
    );
  });

  test.for([
    ["to the same again and again", Buffer.alloc(10 * KIB, 0x20)],
    ["to nothing and back", Buffer.concat(Array.from({ length: 2 * KIB }, () => TABLE_GAME))],
  ] as const)("that change the table's size %s are read, and cost little", async ([, changes]) => {
    const { port } = await start();
    await withBystander(
      port,
      async (served) => {
        const peer = await attacker(port);
        const fields = Buffer.concat(Array.from({ length: 40 }, (_, index) => field(`x-${index}`, "value", 0x40)));
        for (let i = 0; i < 100; i++) {
          const block = Buffer.concat([changes, callBlock("/test/Nothing"), fields]);
          peer.send(frame(Type.headers, open, 2 * i + 1, block));
          await served();
        }
        await peer.endOf(199);
      },
      { bytes: 4 * MIB, calls: 5000 },
    );
  });

  test("over the limit by hundreds, in as many frames as they may have, are each refused", async () => {
    const { port } = await start();
    const block = callBlock("/test/Echo", ...Array.from({ length: 50 }, () => ["x-large", "x".repeat(KIB)] as const));
    await withBystander(
      port,
      async (served) => {
        const peer = await attacker(port);
        for (let i = 0; i < 300; i++) {
          peer.send(frame(Type.headers, END_STREAM, 2 * i + 1, block.subarray(0, 2 * KIB)));
          for (let at = 2 * KIB; at < block.length; at += 2 * KIB) {
            const flags = at + 2 * KIB < block.length ? 0 : END_HEADERS;
            peer.send(frame(Type.continuation, flags, 2 * i + 1, block.subarray(at, at + 2 * KIB)));
          }
          if (i % 10 === 0) await served();
        }
        expect((await peer.endOf(599)).payload.toString("latin1")).toMatch(/request metadata has \d+ bytes/);
      },
      MEMORY,
    );
  });

  test("in HEADERS and 32 CONTINUATION frames are served, and one more frame ends the connection", async () => {
    const { port } = await start();
    const peer = await attacker(port);
    const block = callBlock("/test/Echo");
    const inFrames = (id: number, count: number): Buffer =>
      Buffer.concat(
        Array.from({ length: count }, (_, i) => {
          const isLast = i === count - 1;
          const part = block.subarray(i, isLast ? block.length : i + 1);
          return frame(i === 0 ? Type.headers : Type.continuation, isLast ? END_HEADERS : 0, id, part);
        }),
      );
    peer.send(inFrames(1, 33), data(1, message(Buffer.from("served")), END_STREAM));
    await peer.endOf(1);
    expect(dataBytes(peer, 1)).toBe(message(Buffer.from("served")).length);
    peer.send(inFrames(3, 34));
    expect(await peer.ending()).toBe("ENHANCE_YOUR_CALM");
  });

  test("leave nothing of fields that the table has dropped", async () => {
    const { port } = await start();
    await withBystander(
      port,
      async (served) => {
        for (let i = 0; i < 50; i++) {
          const peer = await attacker(port);
          // Each of these takes the place of the one before.
          for (let entry = 0; entry < 250; entry++) {
            const large = field("x-large", `${entry}`.padEnd(1900, "x"), 0x40);
            const block = Buffer.concat([callBlock("/test/Nothing"), large]);
            peer.send(frame(Type.headers, open, 2 * entry + 1, block));
          }
          await peer.roundTrip();
          peer.received.length = 0;
          await served();
        }
      },
      { bytes: 50 * 200 * KIB },
    );
  });

  test("over the limit are RESOURCE_EXHAUSTED, and the connection stays", async () => {
    const { port } = await start();
    const peer = await attacker(port);
    const block = callBlock("/test/Echo", ["x-large", "x".repeat(15 * KIB)], ["x-more", "x".repeat(2 * KIB)]);
    peer.send(frame(Type.headers, END_STREAM, 1, block.subarray(0, 16 * KIB)));
    peer.send(frame(Type.continuation, END_HEADERS, 1, block.subarray(16 * KIB)));
    expect((await peer.endOf(1)).payload.toString("latin1")).toMatch(/request metadata has \d+ bytes, at most 16384/);
    await peer.roundTrip();
  });

  test("of a few bytes get answers of a few bytes, whatever they name", async () => {
    const { port } = await start();
    const peer = await attacker(port);
    const long = "\xff".repeat(3900);
    const names = [
      field("grpc-timeout", long, 0x40),
      field("grpc-encoding", long, 0x40),
      field(":path", `/${long}`, 0x40),
    ];
    for (const [index, name] of names.entries()) {
      const start = Buffer.concat([field(":method", "POST"), field(":scheme", "http")]);
      const path = index === 2 ? NOTHING : field(":path", "/test/Echo");
      const type = field("content-type", "application/grpc");
      const block = index === 2 ? Buffer.concat([start, name, type]) : Buffer.concat([start, path, type, name]);
      peer.send(frame(Type.headers, open, 2 * index + 1, block));
      expect((await peer.endOf(2 * index + 1)).payload.length).toBeLessThan(KIB);
    }
  });

  test("that never end are bounded, and do not keep others from being served", async () => {
    const { port } = await start();
    const dribble = async (served: Served): Promise<void> => {
      const slow = await Promise.all(Array.from({ length: 200 }, async () => attacker(port)));
      for (const peer of slow) peer.send(frame(Type.headers, 0, 1, callBlock("/test/Echo").subarray(0, 10)));
      for (let i = 0; i < 20; i++) {
        for (const peer of slow) peer.send(frame(Type.continuation, 0, 1, Buffer.of(0)));
        await served();
      }
      expect(slow.every(({ isClosed }) => !isClosed)).toBe(true);
    };
    await withBystander(port, dribble, MEMORY);
  });
});

test("metadata with blanks around its value, as some clients send it, is served without them", async () => {
  const { port, held } = await start();
  const peer = await attacker(port);
  peer.send(frame(Type.headers, END_HEADERS, 1, callBlock("/test/Hold", ["x-padded", " \ta b "], ["x-blank", "  "])));
  await expect.poll(() => held.length).toBe(1);
  expect(held[0]!.metadata.get("x-padded")).toBe("a b");
  expect(held[0]!.metadata.get("x-blank")).toBe("");
});

describe("flow control", () => {
  test.for([
    ["of the connection", [windowUpdate(0, 0x7fffffff)]],
    [
      "of a stream, by the initial window",
      [call(1, "/test/Hold"), windowUpdate(1, 1000), settings([INITIAL_WINDOW, 0x7fffffff])],
    ],
    ["that is set beyond 2^31 - 1", [settings([INITIAL_WINDOW, 0x80000000])]],
  ] as const)("a window %s that overflows is FLOW_CONTROL_ERROR", async ([, frames]) => {
    const { port } = await start();
    await withBystander(port, async () => {
      const peer = await attacker(port);
      peer.send(...frames);
      expect(await peer.ending()).toBe("FLOW_CONTROL_ERROR");
    });
  });

  test("a window of a stream that overflows resets the stream alone", async () => {
    const { port } = await start();
    const peer = await attacker(port);
    peer.send(call(1, "/test/Hold"), windowUpdate(1, 0x7fffffff));
    expect(await peer.resetOf(1)).toBe("FLOW_CONTROL_ERROR");
    await peer.roundTrip();
  });

  test("DATA of padding alone leaves the window of its stream as it was", async () => {
    const { port, held } = await start();
    const peer = await attacker(port);
    peer.send(call(1, "/test/Hold"));
    await expect.poll(() => held.length).toBe(1);
    const got: Uint8Array[] = [];
    held[0]!.onMessage = (received) => void got.push(received);
    const padding = Buffer.alloc(256);
    padding[0] = 255;
    // Each time no more than the window has.
    for (let round = 0; round < 4; round++) {
      peer.send(...Array.from({ length: 200 }, () => data(1, padding, PADDED)));
      await peer.roundTrip();
    }
    peer.send(data(1, message(Buffer.alloc(KIB))));
    await peer.roundTrip();
    expect(got).toEqual([Buffer.alloc(KIB)]);
    const given = peer.received.filter(({ type, streamId }) => type === Type.windowUpdate && streamId === 1);
    expect(given.reduce((sum, { payload }) => sum + payload.readUInt32BE(0), 0)).toBe(4 * 200 * padding.length);
  });

  test("more DATA than a stream's window resets the stream, more than the connection's ends it", async () => {
    const { port, held } = await start();
    const peer = await attacker(port);
    peer.send(call(1, "/test/Hold"));
    await expect.poll(() => held.length).toBe(1);
    held[0]!.pause();
    for (let i = 0; i < 5; i++) peer.send(data(1, Buffer.alloc(16 * KIB)));
    expect(await peer.resetOf(1)).toBe("FLOW_CONTROL_ERROR");
    await peer.roundTrip();
  });

  test.for([
    ["of no window at all", [[INITIAL_WINDOW, 0]]],
    ["that does not read", []],
  ] as const)("a client %s makes the server hold no more than its budget", async ([, values]) => {
    const maxUnreadBytes = 4 * MIB;
    const { port, engine, held } = await start({ maxUnreadBytes });
    const attack = async (served: Served): Promise<void> => {
      const peers = await Promise.all(Array.from({ length: 10 }, async () => attacker(port, ...values)));
      for (const peer of peers) {
        peer.socket.pause();
        for (let i = 0; i < 20; i++) peer.send(windowUpdate(0, 1000), call(2 * i + 1, "/test/Hold"));
      }
      await expect.poll(() => held.length).toBe(200);
      // Handlers that look at what `send` says, and add a message each time: 256 KiB each, and a bit.
      for (const opened of held) {
        while (opened.send(Buffer.alloc(16 * KIB)) && !opened.cancelled);
        expect(engine.unreadBytes).toBeLessThanOrEqual(maxUnreadBytes);
        await served();
      }
      expect(held.some((opened) => opened.cancelled)).toBe(true);
    };
    await withBystander(port, attack, { bytes: maxUnreadBytes + 10 * MIB });
  });

  const longField = ["x-large", "x".repeat(15 * KIB)] as const;

  /** A unary call with much metadata. */
  function withMetadata(id: number, path: string): Buffer {
    const headers = frame(Type.headers, END_HEADERS, id, callBlock(path, longField));
    return Buffer.concat([headers, data(id, message(NOTHING), END_STREAM)]);
  }

  test.for([
    ["calls with much metadata", (id) => withMetadata(id, "/test/Echo")],
    ["calls with little metadata", (id) => unary(id, "/test/Echo", NOTHING)],
    ["calls whose handler remembers much", (id) => unary(id, "/test/Remember", NOTHING)],
    [
      "calls that are refused in the midst of their answer",
      (id) => Buffer.concat([call(id, "/test/EchoAll"), data(id, message(NOTHING)), data(id, TOO_LARGE)]),
    ],
    [
      "requests that are no gRPC",
      (id) => frame(Type.headers, END_HEADERS | END_STREAM, id, plainBlock("/", longField)),
    ],
    [
      "requests that are no gRPC, of long paths",
      (id) => frame(Type.headers, END_HEADERS | END_STREAM, id, plainBlock(`/${"x".repeat(15 * KIB)}`)),
    ],
  ] as readonly (readonly [string, (id: number) => Buffer])[])(
    "%s, which were answered and wait for a window, hold no more than the budget",
    async ([, next]) => {
      const maxUnreadBytes = 4 * MIB;
      const { port, engine } = await start({ maxUnreadBytes, maxConcurrentStreams: 10_000 });
      engine.handle("/test/Remember", {
        kind: "unary",
        handle: (opened, request) => {
          const kept = Buffer.alloc(16 * KIB);
          opened.onCancel = () => void kept.length;
          opened.send(request);
          opened.end(OK);
        },
      });
      const before = await heldBytes();
      const attack = async (served: Served): Promise<void> => {
        const peer = await attacker(port, [INITIAL_WINDOW, 0]);
        for (let i = 0; i < 8000; i++) {
          peer.send(next(2 * i + 1));
          if (i % 100 !== 99) continue;
          await peer.roundTrip();
          peer.received.length = 0;
          expect(engine.unreadBytes).toBeLessThanOrEqual(maxUnreadBytes);
          await served();
        }
        expect(engine.unreadBytes).toBeGreaterThan(maxUnreadBytes / 2);
        expect((await heldBytes()) - before).toBeLessThan(maxUnreadBytes + 8 * MIB);
        expect(peer.isClosed).toBe(false);
      };
      await withBystander(port, attack);
    },
  );

  test("an answer that has waited for its window counts no more when it is gone", async () => {
    const { port, engine } = await start();
    const peer = await attacker(port, [INITIAL_WINDOW, 0]);
    peer.send(
      unary(1, "/test/Echo", Buffer.alloc(100)),
      frame(Type.headers, END_HEADERS | END_STREAM, 3, plainBlock("/")),
    );
    await peer.roundTrip();
    expect(engine.unreadBytes).toBeGreaterThan(2 * KIB);
    expect(engine.unreadBytes).toBeLessThan(4 * KIB);
    peer.send(windowUpdate(1, 50), windowUpdate(3, 1));
    await peer.roundTrip();
    expect(engine.unreadBytes).toBeGreaterThan(2 * KIB);
    peer.send(windowUpdate(1, 55));
    expect((await peer.endOf(1)).payload.includes(field("grpc-status", "0"))).toBe(true);
    expect(engine.unreadBytes).toBeGreaterThan(KIB);
    expect(engine.unreadBytes).toBeLessThan(2 * KIB);
    peer.send(reset(3));
    await peer.roundTrip();
    expect(engine.unreadBytes).toBe(0);
  });

  describe("what the socket of a client that does not read has to wait with", () => {
    const BUDGET = 8 * MIB;
    const fields = [
      ":method POST",
      ":scheme http",
      ":path /test/Nothing",
      "content-type application/grpc",
      "te trailers",
    ];
    const known = fields
      .map((text) => text.split(" ") as [string, string])
      .map(([name, value]) => field(name, value, 0x40));
    /** A call of 14 bytes, once the first one has filled the table. */
    const smallCall = (id: number): Buffer =>
      frame(
        Type.headers,
        END_HEADERS | END_STREAM,
        id,
        id === 1 ? Buffer.concat(known) : Buffer.of(0x80 | 66, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62),
      );

    /** A text that is as long as a few hundred calls. */
    const onRefused = ({ code }: Refusal): CallStatus => ({ code, message: "x".repeat(2 * KIB) });

    async function unreadPeer(port: number): Promise<Http2Peer> {
      const peer = await Http2Peer.startUnread(port);
      onTestFinished(() => peer.destroy());
      return peer;
    }

    /** Calls on and on until 2 MiB more are held, or others had to go. */
    async function fill(engine: NativeEngine, peer: Http2Peer, between: () => Promise<void>): Promise<void> {
      const before = engine.unreadBytes;
      let last = before;
      for (let id = 1; last < before + 2 * MIB && last <= engine.unreadBytes;) {
        last = engine.unreadBytes;
        peer.send(...Array.from({ length: 50 }, (_, index) => smallCall(id + 2 * index)));
        id += 2 * 50;
        await between();
      }
    }

    test("counts where it is of no call, and beyond the budget those that read least lose their connection", async () => {
      const { engine, port } = await start({ maxUnreadBytes: BUDGET, onRefused });
      const peers: Http2Peer[] = [];
      const attack = async (served: Served): Promise<void> => {
        for (let n = 0; n < 10; n++) {
          peers.push(await unreadPeer(port));
          await fill(engine, peers[n]!, async () => {
            await served();
            expect(engine.unreadBytes).toBeLessThanOrEqual(BUDGET);
          });
        }
        expect(engine.unreadBytes).toBeGreaterThan(BUDGET / 2);
      };
      await withBystander(port, attack, { bytes: BUDGET + 8 * MIB });
      for (const peer of peers) peer.socket.resume();
      await Promise.all(peers.slice(0, 5).map(async ({ closed }) => closed));
      await peers[9]!.roundTrip();
    });

    test("counts where it is DATA, and the handlers of those who are cut off hear why", async () => {
      const unread: string[] = [];
      const onUnread: EngineOptions["onUnread"] = ({ path }) => void unread.push(path);
      const { engine, port, held } = await start({ maxUnreadBytes: BUDGET, onUnread });
      const causes: CancelCause[] = [];
      const attack = async (served: Served): Promise<void> => {
        for (let n = 0; n < 60; n++) {
          const peer = await unreadPeer(port);
          peer.send(call(1, "/test/Hold"));
          await until(() => held.length > n);
          held[n]!.onCancel = (cause) => void causes.push(cause);
          // As much as the socket takes, so that nothing is left with the stream.
          const { connection } = held[n] as Call;
          for (let sent = 1; !connection.isStuck && !held[n]!.cancelled; sent++) {
            held[n]!.send(Buffer.alloc(15 * KIB));
            if (sent % 40 === 0) await new Promise(setImmediate);
          }
          await served();
          expect(engine.unreadBytes).toBeLessThanOrEqual(BUDGET);
        }
      };
      await withBystander(port, attack, { bytes: BUDGET + 8 * MIB });
      expect(causes.length).toBeGreaterThan(20);
      expect(causes.every((cause) => cause === "unread")).toBe(true);
      expect(unread).toEqual(causes.map(() => "/test/Hold"));
    });

    test("counts no more when it was read, or its connection is gone", async () => {
      const { engine, port } = await start({ onRefused });
      const [reading, leaving] = [await unreadPeer(port), await unreadPeer(port)];
      for (const peer of [reading, leaving]) await fill(engine, peer, async () => new Promise(setImmediate));
      const both = engine.unreadBytes;
      reading.socket.resume();
      await expect.poll(() => engine.unreadBytes).toBeLessThan(both - MIB);
      expect(engine.unreadBytes).toBeGreaterThan(0);
      // It is ended for an offence; what it has not read stays for a moment.
      leaving.send(data(0, NOTHING));
      await expect.poll(() => engine.unreadBytes).toBe(0);
      await reading.roundTrip();
    });
  });

  test("streams that wait for a window take turns, a frame each, and one that comes later has to wait for no more", async () => {
    const { port, held } = await start();
    const peer = await attacker(port, [INITIAL_WINDOW, MIB]);
    for (const id of [1, 3, 5]) peer.send(call(id, "/test/Hold"));
    await expect.poll(() => held.length).toBe(3);
    for (const opened of held) opened.send(Buffer.alloc(300 * KIB));
    // Its answer waits as well: the others have used up the window of the connection.
    const turns = (): number[] =>
      peer.received.filter(({ type }) => type === Type.data).map(({ streamId }) => streamId);
    await peer.until(() => turns().length === 4);
    peer.send(unary(7, "/test/Echo", Buffer.of(1)));
    await peer.roundTrip();
    expect(turns()).toEqual([1, 3, 5, 1]);
    peer.send(windowUpdate(0, 2 * MIB));
    await Promise.all([1, 3, 5].map(async (id) => peer.until(() => dataBytes(peer, id) === 300 * KIB + 5)));
    const order = turns();
    expect(order.indexOf(7)).toBeLessThanOrEqual(7);
    const large = order.filter((id) => id !== 7);
    for (let at = 0; at < 3 * 18; at += 3) expect(large.slice(at, at + 3)).toEqual([1, 3, 5]);
  });

  test("a client that does not read, and asks for small answers, costs what they say, not a buffer for each", async () => {
    const { port } = await start();
    const peer = await attacker(port);
    await peer.roundTrip();
    peer.socket.pause();
    // So much that neither its socket nor ours takes more.
    const filler = Buffer.alloc(256 * KIB);
    peer.send(call(1, "/test/EchoAll"), windowUpdate(0, 0x40000000), windowUpdate(1, 0x40000000));
    const chunks = message(filler);
    for (let at = 0; at < 40 * chunks.length; at += 16 * KIB - 1) peer.send(data(1, wrap(chunks, at, 16 * KIB - 1)));
    await expect.poll(() => peer.socket.writableLength, { timeout: 20_000 }).toBeLessThan(MIB);
    const askOn = async (served: Served): Promise<void> => {
      for (let i = 0; i < 1000; i++) {
        peer.send(ping());
        await served();
      }
    };
    await withBystander(port, askOn, MEMORY);
  });
});

/** `length` bytes of a pattern that repeats, from `at` on. */
function wrap(pattern: Buffer, at: number, length: number): Buffer {
  const start = at % pattern.length;
  const first = pattern.subarray(start, start + length);
  return first.length === length ? first : Buffer.concat([first, pattern.subarray(0, length - first.length)]);
}

/** The header block of a request that is no gRPC. */
function plainBlock(path: string, ...more: readonly (readonly [name: string, value: string])[]): Buffer {
  const fields = [
    [":method", "POST"],
    [":scheme", "http"],
    [":path", path],
    [":authority", "localhost"],
    ["content-type", "text/plain"],
    ...more,
  ] as const;
  return Buffer.concat(fields.map(([name, value]) => field(name, value)));
}

/** The answer to a call that had to make room, or found none. */
function isOverloaded({ type, payload }: Frame): boolean {
  return type === Type.headers && (payload.includes(field("grpc-status", "8")) || payload.includes("415"));
}

describe("requests that are not finished", () => {
  test("count against a budget, also when only the end of the call is missing", async () => {
    const { port } = await start({ maxUnreadBytes: 8 * MIB });
    await withBystander(port, async () => {
      const before = await heldBytes();
      const peer = await attacker(port);
      const request = message(Buffer.alloc(MIB));
      for (let i = 0; i < 40; i++) {
        const id = 2 * i + 1;
        peer.send(call(id, "/test/Echo"));
        for (let at = 0; at < request.length; at += 16 * KIB) {
          if (at % (32 * KIB) === 0) await peer.roundTrip();
          peer.send(data(id, request.subarray(at, at + 16 * KIB)));
        }
        if (peer.isClosed) break;
      }
      await peer.roundTrip();
      expect((await heldBytes()) - before).toBeLessThan(24 * MIB);
      expect(peer.received.some(({ type, flags }) => type === Type.headers && (flags & END_STREAM) !== 0)).toBe(true);
    });
  });

  test("hold their own bytes, not those that came along with them", async () => {
    const { port, held } = await start();
    const peer = await attacker(port);
    peer.send(call(1, "/test/Hold"), call(3, "/test/Hold"));
    await expect.poll(() => held.length).toBe(2);
    const [paused, reading] = held as [EngineCall, EngineCall];
    paused.pause();
    let got = 0;
    reading.onMessage = ({ length }) => void (got += length);
    await peer.roundTrip();
    const before = await heldBytes();
    const junk = message(Buffer.alloc(15 * KIB));
    for (let i = 1; i <= 2000; i++) {
      peer.send(data(1, message(Buffer.of(1))), data(3, junk));
      await until(() => got === i * 15 * KIB);
    }
    peer.received.length = 0;
    expect((await heldBytes()) - before).toBeLessThan(8 * MIB);
  });

  test("and so do those that are with their handler", async () => {
    const { engine, port, held } = await start();
    const kept: unknown[] = [];
    engine.handle("/test/Keep", { kind: "unary", handle: (...all) => void kept.push(all) });
    const peer = await attacker(port);
    peer.send(call(1, "/test/Hold"));
    await expect.poll(() => held.length).toBe(1);
    held[0]!.onMessage = () => undefined;
    await peer.roundTrip();
    const grown: number[] = [];
    for (const junk of [message(NOTHING), message(Buffer.alloc(15 * KIB))]) {
      const before = await heldBytes();
      for (let i = 0; i < 400; i++) {
        const count = kept.length + 1;
        peer.send(unary(2 * count + 1, "/test/Keep", Buffer.alloc(300)), data(1, junk));
        await until(() => kept.length === count);
      }
      peer.received.length = 0;
      grown.push((await heldBytes()) - before);
    }
    expect(grown[1]! - grown[0]!).toBeLessThan(2 * MIB);
  });

  test("of thousands of calls with long metadata count as well", async () => {
    const { port, held } = await start({ maxUnreadBytes: 4 * MIB });
    const peer = await attacker(port);
    const block = callBlock("/test/Hold", ["x-large", "x".repeat(15 * KIB)]);
    for (let i = 0; i < 900; i++) peer.send(frame(Type.headers, END_HEADERS, 2 * i + 1, block));
    await peer.roundTrip();
    expect(held.length).toBeLessThan(300);
    peer.destroy();
    const other = await attacker(port);
    other.send(frame(Type.headers, END_HEADERS, 1, block));
    const before = held.length;
    await expect.poll(() => held.length).toBe(before + 1);
  });

  const part = message(Buffer.alloc(100)).subarray(0, 6);
  const large = field("x-large", "x".repeat(3900), 0x40);

  /** The first one costs its client 4 KB, each further one a byte, as it has the field in its table. */
  function withLargeField(id: number): Buffer {
    const known = id === 1 ? large : Buffer.of(0x80 | 62);
    return frame(Type.headers, END_HEADERS, id, Buffer.concat([callBlock("/test/Hold"), known]));
  }

  test.for([
    ["calls without a request", (id) => call(id, "/test/Echo")],
    ["requests that only lack their end", (id) => Buffer.concat([call(id, "/test/Echo"), data(id, message(part))])],
    ["parts of requests", (id) => Buffer.concat([call(id, "/test/Echo"), data(id, part)])],
    ["streams with a part of a message", (id) => Buffer.concat([call(id, "/test/Hold"), data(id, part)])],
    ["streams with much metadata", withLargeField],
    [
      "messages for a handler that does not take them",
      (id) => Buffer.concat([call(id, "/test/Busy"), data(id, Buffer.concat(Array.from({ length: 8 }, () => part)))]),
    ],
    ["requests that are no gRPC", (id) => frame(Type.headers, END_HEADERS, id, plainBlock("/upload"))],
  ] as readonly (readonly [string, (id: number) => Buffer])[])(
    "of one client use up what all may have, and everybody else is served: %s",
    async ([, next]) => {
      const maxUnreadBytes = MIB;
      const { engine, port, held } = await start({ maxUnreadBytes });
      engine.handle("/test/Busy", { kind: "bidi", handle: (opened) => opened.pause() });
      // Somebody has been served all along, and sends a request in pieces meanwhile.
      const other = await attacker(port);
      other.send(
        call(1, "/test/Hold"),
        call(3, "/test/Echo"),
        data(3, message(Buffer.alloc(10_000)).subarray(0, 5000)),
      );
      await other.roundTrip();
      await withBystander(
        port,
        async (served) => {
          const peers = [await attacker(port), await attacker(port)];
          for (let id = 1; id < 3000; id += 2) {
            for (const peer of peers) peer.send(next(id));
            if (id % 100 !== 1) continue;
            await Promise.all(peers.map(async (peer) => peer.roundTrip()));
            await served();
          }
          for (const peer of peers) expect(peer.received.filter(isOverloaded).length).toBeGreaterThan(500);
          const newcomer = await attacker(port);
          newcomer.send(unary(1, "/test/Echo", Buffer.alloc(10_000)));
          expect((await newcomer.endOf(1)).payload.includes(field("grpc-status", "0"))).toBe(true);
        },
        MEMORY,
      );
      other.send(data(3, message(Buffer.alloc(10_000)).subarray(5000), END_STREAM));
      expect((await other.endOf(3)).payload.includes(field("grpc-status", "0"))).toBe(true);
      expect(held[0]!.cancelled).toBe(false);
    },
  );

  test("of streams end after a time limit for each message", async () => {
    const { port, held } = await start({}, 50);
    const peer = await attacker(port);
    const whole = message(Buffer.alloc(100));
    for (const id of [1, 3, 5]) peer.send(call(id, "/test/Hold"));
    await expect.poll(() => held.length).toBe(3);
    const received: number[] = [];
    const [inTime, paused] = held as [EngineCall, EngineCall];
    inTime.onMessage = ({ length }) => void received.push(length);
    paused.pause();
    peer.send(data(1, whole.subarray(0, 50)), data(3, whole.subarray(0, 50)));
    await peer.roundTrip();
    peer.send(data(1, whole.subarray(50)));
    await peer.roundTrip();
    peer.send(data(5, whole.subarray(0, 50)));
    // It began last, so the time of the others has passed as well.
    expect((await peer.endOf(5)).payload.toString("latin1")).toContain("a message took too long to arrive");
    expect(received).toEqual([100]);
    expect(held.map(({ cancelled }) => cancelled)).toEqual([false, false, true]);
    paused.resume();
    expect((await peer.endOf(3)).payload.toString("latin1")).toContain("a message took too long to arrive");
    expect(inTime.cancelled).toBe(false);
  });

  test.for([
    ["nothing", []],
    ["a part of a message", [message(Buffer.alloc(100)).subarray(0, 50)]],
    ["all but the end", [message(Buffer.alloc(100))]],
  ] as const)("end after a time limit, and let go of what they held: %s came", async ([, parts]) => {
    const { port } = await start({ maxUnreadBytes: 32 * KIB }, 50);
    await withBystander(port, async () => {
      const peer = await attacker(port);
      // More than the budget has room for, did they not end.
      for (let id = 1; id < 100; id += 2) {
        peer.send(call(id, "/test/Echo"), ...parts.map((part) => data(id, part)));
        await peer.roundTrip();
        const { payload } = await peer.endOf(id);
        expect(payload.toString("latin1")).toContain("the request took too long to arrive");
      }
    });
  });

  test("end at the client's deadline", async () => {
    const { port } = await start();
    const peer = await attacker(port);
    peer.send(frame(Type.headers, END_HEADERS, 1, callBlock("/test/Echo", ["grpc-timeout", "50m"])));
    expect((await peer.endOf(1)).payload.toString("latin1")).toContain("the deadline passed");
  });

  test("have time for the handler once they are there", async () => {
    const { engine, port } = await start({}, 50);
    let answer: (() => void) | undefined;
    engine.handle("/test/Later", { kind: "unary", handle: (opened) => (answer = () => opened.end(OK)) });
    const peer = await attacker(port);
    peer.send(call(1, "/test/Later"), data(1, message(NOTHING)));
    await peer.roundTrip();
    peer.send(data(1, NOTHING, END_STREAM));
    await expect.poll(() => answer).toBeDefined();
    // Another one that runs out of time tells that the time has passed.
    peer.send(call(3, "/test/Echo"));
    await peer.endOf(3);
    answer!();
    expect((await peer.endOf(1)).payload.includes(field("grpc-status", "0"))).toBe(true);
  });

  test("that are no gRPC get their answer, however long they are", async () => {
    const { port } = await start();
    const peer = await attacker(port);
    peer.send(frame(Type.headers, END_HEADERS, 1, plainBlock("/upload")));
    for (let part = 0; part < 4; part++) peer.send(data(1, Buffer.alloc(16 * KIB - 1)));
    await peer.endOf(1);
    expect(peer.received.find(({ type }) => type === Type.headers)!.payload.toString("latin1")).toContain("415");
  });

  test("that are no gRPC get their answer when all of them has come, as clients stop at an error", async () => {
    const { port } = await start();
    const peer = await attacker(port);
    peer.send(frame(Type.headers, END_HEADERS, 1, plainBlock("/upload", ["content-length", "20"])));
    peer.send(data(1, Buffer.alloc(10)));
    await peer.roundTrip();
    expect(peer.received.filter(({ streamId }) => streamId === 1)).toEqual([]);
    peer.send(data(1, Buffer.alloc(10), END_STREAM));
    await peer.endOf(1);
    expect(peer.received.find(({ type }) => type === Type.headers)!.payload.toString("latin1")).toContain("415");
  });

  test.for([
    ["GET", true],
    ["HEAD", false],
  ] as const)(
    "that are no gRPC because of their method, %s, are told the one that is",
    async ([method, hasContent]) => {
      const { port } = await start();
      const peer = await attacker(port);
      const block = [field(":method", method), field(":scheme", "http"), field(":path", "/"), field(":authority", "x")];
      peer.send(frame(Type.headers, END_HEADERS | END_STREAM, 1, Buffer.concat(block)));
      await peer.endOf(1);
      const { payload, flags } = await peer.find(({ type, streamId }) => type === Type.headers && streamId === 1);
      const fields: Record<string, string> = {};
      new HpackDecoder().decode(payload, 0, payload.length, ({ name, value }) => void (fields[name] = value));
      expect(fields).toMatchObject({ ":status": "405", allow: "POST" });
      expect((flags & END_STREAM) === 0).toBe(hasContent);
      expect(dataBytes(peer, 1) > 0).toBe(hasContent);
      await peer.roundTrip();
      expect(peer.received.some(({ type }) => type === Type.rstStream)).toBe(false);
    },
  );

  test("that ask for a tunnel have their answer before they end, as they wait for it", async () => {
    const { port } = await start();
    const peer = await attacker(port);
    const block = [field(":method", "CONNECT"), field(":authority", "localhost:1")];
    peer.send(frame(Type.headers, END_HEADERS, 1, Buffer.concat(block)));
    await peer.endOf(1);
    const { payload } = await peer.find(({ type, streamId }) => type === Type.headers && streamId === 1);
    expect(payload.toString("latin1")).toContain("405");
    expect(await peer.resetOf(1)).toBe("NO_ERROR");
  });

  test("that are no gRPC, and never end, get their answer after a time limit", async () => {
    const { port } = await start({}, 50);
    const peer = await attacker(port);
    peer.send(frame(Type.headers, END_HEADERS, 1, plainBlock("/upload")));
    await peer.endOf(1);
    expect(peer.received.find(({ type }) => type === Type.headers)!.payload.toString("latin1")).toContain("415");
  });

  test("that wait for a window are forgotten when they end", async () => {
    const { port, held } = await start();
    const peer = await attacker(port, [INITIAL_WINDOW, 1 << 20]);
    // Uses up the connection's window: what is sent from now on waits.
    peer.send(call(1, "/test/Hold"));
    await expect.poll(() => held.length).toBe(1);
    held[0]!.send(Buffer.alloc(100 * KIB));
    await peer.roundTrip();
    const calls: WeakRef<EngineCall>[] = [];
    for (let i = 1; i <= 1500; i++) {
      peer.send(call(2 * i + 1, "/test/Hold"));
      await until(() => held.length === 2);
      const opened = held.pop()!;
      opened.send(Buffer.alloc(16 * KIB));
      calls.push(new WeakRef(opened));
      peer.send(reset(2 * i + 1));
    }
    await peer.roundTrip();
    await collectGarbage();
    expect(calls.filter((ref) => ref.deref() !== undefined).length).toBeLessThan(100);
  });
});

describe("messages", () => {
  test.for([
    ["promise more than is allowed", "/test/Echo", 0xffff_ffff, 2000],
    ["promise as much as is allowed, and send none of it", "/test/Echo", 4 * MIB, 900],
    ["promise as much in streams", "/test/Hold", 4 * MIB, 900],
  ] as const)("that %s cost what has come of them", async ([, path, promised, count]) => {
    const { port } = await start();
    await withBystander(
      port,
      async (served) => {
        const peer = await attacker(port);
        for (let i = 0; i < count; i++) {
          const id = 2 * i + 1;
          peer.send(call(id, path), data(id, Buffer.concat([Buffer.of(0), u32(promised)])));
          if (i % 20 === 0) await served();
        }
        await peer.roundTrip();
        expect(peer.goaway).toBeUndefined();
      },
      { bytes: 8 * MIB },
    );
  });

  test("that unpack to more than allowed are RESOURCE_EXHAUSTED, and to less are served", async () => {
    const { port } = await start();
    const peer = await attacker(port);
    for (const [index, size] of [64 * MIB, MIB].entries()) {
      const id = 2 * index + 1;
      const packed = message(gzipSync(Buffer.alloc(size)), 1);
      peer.send(frame(Type.headers, END_HEADERS, id, callBlock("/test/Echo", ["grpc-encoding", "gzip"])));
      for (let at = 0; at < packed.length; at += 16 * KIB) peer.send(data(id, packed.subarray(at, at + 16 * KIB)));
      peer.send(data(id, NOTHING, END_STREAM), windowUpdate(0, 2 * MIB), windowUpdate(id, 2 * MIB));
    }
    expect((await peer.endOf(1)).payload.toString("latin1")).toContain(`has more than ${4 * MIB} bytes`);
    await peer.endOf(3);
    expect(dataBytes(peer, 3)).toBe(MIB + 5);
  });
});

describe("refusals", () => {
  /** A refusal that is told to the client with further details. */
  function hook(): { readonly refusals: Refusal[]; readonly onRefused: (refusal: Refusal) => CallStatus } {
    const refusals: Refusal[] = [];
    const onRefused = (refusal: Refusal): CallStatus => {
      refusals.push(refusal);
      return { code: refusal.code, message: refusal.message, details: Buffer.from("why") };
    };
    return { refusals, onRefused };
  }

  const gzip = ["grpc-encoding", "gzip"] as const;

  test.for([
    ["unknown_method", 12, "/test/Nothing", [], [message(NOTHING)]],
    ["wrong_count", 12, "/test/Echo", [], [message(NOTHING), message(NOTHING)]],
    ["wrong_count", 12, "/test/Echo", [], []],
    ["unsupported_encoding", 12, "/test/Echo", [["grpc-encoding", "snappy"]], []],
    ["malformed", 13, "/test/Echo", [["grpc-timeout", "soon"]], []],
    ["malformed", 13, "/test/Echo", [], [message(NOTHING, 1)]],
    ["malformed", 13, "/test/Echo", [gzip], [message(Buffer.of(1), 1)]],
    ["malformed", 13, "/test/Echo", [], [message(Buffer.of(1)).subarray(0, 3)]],
    ["message_too_large", 8, "/test/Echo", [], [TOO_LARGE]],
    ["message_too_large", 8, "/test/Echo", [gzip], [message(gzipSync(Buffer.alloc(5 * MIB)), 1)]],
    ["metadata_too_large", 8, "/test/Echo", [["x-large", "x".repeat(16 * KIB - 200)]], []],
    ["overloaded", 8, "/test/Echo", [["x-large", "x".repeat(9 * KIB)]], []],
    ["overloaded", 8, "/test/Echo", [], [message(Buffer.alloc(8 * KIB))]],
    ["overloaded", 8, "/test/Echo", [], [message(Buffer.alloc(16 * KIB)).subarray(0, 10 * KIB)]],
  ] as const)("of kind %s, code %i, are told to the hook, which has the last word (%#)", async (row) => {
    const [kind, code, path, fields, parts] = row;
    const { refusals, onRefused } = hook();
    const { port } = await start({ onRefused, ...(kind === "overloaded" ? { maxUnreadBytes: 8 * KIB } : {}) });
    const peer = await attacker(port);
    peer.send(frame(Type.headers, END_HEADERS, 1, callBlock(path, ...fields)));
    peer.send(...parts.map((part) => data(1, part)), data(1, NOTHING, END_STREAM));
    const { payload } = await peer.endOf(1);
    const common = { kind, code, path, isHandled: false, message: expect.any(String), openedAt: expect.any(Number) };
    expect(refusals).toEqual([{ ...common, peer: `127.0.0.1:${peer.socket.localPort}` }]);
    for (const part of [field("grpc-status", `${code}`), field("grpc-status-details-bin", "d2h5")])
      expect(payload.includes(part)).toBe(true);
  });

  test.for([
    ["too_slow", []],
    ["deadline", [["grpc-timeout", "20m"]]],
  ] as const)("of kind %s as well", async ([kind, fields]) => {
    const { refusals, onRefused } = hook();
    const { port } = await start({ onRefused }, 50);
    const peer = await attacker(port);
    const before = performance.now();
    peer.send(frame(Type.headers, END_HEADERS, 1, callBlock("/test/Echo", ...fields)));
    const { payload } = await peer.endOf(1);
    expect(refusals).toMatchObject([{ kind, code: 4, isHandled: false }]);
    expect(refusals[0]!.openedAt).toBeGreaterThanOrEqual(before);
    expect(payload.includes(field("grpc-status-details-bin", "d2h5"))).toBe(true);
  });

  test("of a call that has a handler are told to both, once", async () => {
    const { refusals, onRefused } = hook();
    const { port, held } = await start({ onRefused });
    const peer = await attacker(port);
    peer.send(call(1, "/test/Hold"));
    await expect.poll(() => held.length).toBe(1);
    const causes: CancelCause[] = [];
    held[0]!.onCancel = (cause) => void causes.push(cause);
    peer.send(data(1, TOO_LARGE), data(1, NOTHING, END_STREAM));
    expect((await peer.endOf(1)).payload.includes(field("grpc-status-details-bin", "d2h5"))).toBe(true);
    await peer.roundTrip();
    expect(refusals).toMatchObject([{ kind: "message_too_large", isHandled: true }]);
    expect(causes).toEqual(refusals);
    expect(held[0]!.cancelled).toBe(true);
  });

  test("of calls whose deadline passes while their handler answers are told to both as well", async () => {
    const { refusals, onRefused } = hook();
    const { engine, port } = await start({ onRefused });
    const causes: CancelCause[] = [];
    engine.handle("/test/Endless", {
      kind: "server_streaming",
      handle: (opened) => (opened.onCancel = (cause) => void causes.push(cause)),
    });
    const peer = await attacker(port);
    // In one piece: the deadline is not to pass between them.
    const headers = frame(Type.headers, END_HEADERS, 1, callBlock("/test/Endless", ["grpc-timeout", "20m"]));
    peer.send(headers, data(1, message(NOTHING), END_STREAM));
    expect((await peer.endOf(1)).payload.includes(field("grpc-status-details-bin", "d2h5"))).toBe(true);
    expect(refusals).toMatchObject([{ kind: "deadline", code: 4, isHandled: true }]);
    expect(causes).toEqual(["deadline"]);
  });

  test("have their plain status where the hook throws, and its error is heard of", async () => {
    const onRefused = (): CallStatus => {
      throw new Error("hook");
    };
    const { port, held, errors } = await start({ onRefused });
    const peer = await attacker(port);
    peer.send(
      call(1, "/test/Nothing"),
      call(3, "/test/Hold"),
      data(3, TOO_LARGE),
      unary(5, "/test/Echo", Buffer.of(1)),
    );
    expect((await peer.endOf(1)).payload.includes(field("grpc-status", "12"))).toBe(true);
    expect((await peer.endOf(3)).payload.includes(field("grpc-status", "8"))).toBe(true);
    expect((await peer.endOf(5)).payload.includes(field("grpc-status", "0"))).toBe(true);
    expect(errors.map(String)).toEqual(["Error: hook", "Error: hook"]);
    expect(held[0]!.cancelled).toBe(true);
  });
});

describe("frames in the wrong place", () => {
  const opened = call(1, "/test/Hold");
  const finished = unary(1, "/test/Echo", Buffer.of(1));

  test.for([
    ["DATA on a stream that was never opened", [data(1, NOTHING)], "PROTOCOL_ERROR"],
    ["RST_STREAM on a stream that was never opened", [reset(1)], "PROTOCOL_ERROR"],
    ["a window update on a stream that was never opened", [windowUpdate(1, 1)], "PROTOCOL_ERROR"],
    ["CONTINUATION without HEADERS", [frame(Type.continuation, END_HEADERS, 1)], "PROTOCOL_ERROR"],
    ["another frame within a header block", [call(1, "/test/Echo", 0), ping()], "PROTOCOL_ERROR"],
    ["a stream with an even number", [call(2, "/test/Echo")], "PROTOCOL_ERROR"],
    ["a stream that was passed over", [call(5, "/test/Hold"), call(3, "/test/Hold")], "PROTOCOL_ERROR"],
    ["DATA on a stream that is closed", [finished, data(1, Buffer.of(1))], "STREAM_CLOSED"],
    ["HEADERS on a stream that is closed", [finished, call(1, "/test/Echo")], "STREAM_CLOSED"],
    ["DATA on a stream that the client has reset", [opened, reset(1), data(1, Buffer.of(1))], "STREAM_CLOSED"],
    ["PUSH_PROMISE", [frame(Type.pushPromise, END_HEADERS, 1, u32(2))], "PROTOCOL_ERROR"],
    ["DATA on stream 0", [data(0, NOTHING)], "PROTOCOL_ERROR"],
    ["HEADERS on stream 0", [call(0, "/test/Echo")], "PROTOCOL_ERROR"],
    ["SETTINGS on a stream", [frame(Type.settings, 0, 1)], "PROTOCOL_ERROR"],
    ["SETTINGS of a broken length", [frame(Type.settings, 0, 0, Buffer.alloc(5))], "FRAME_SIZE_ERROR"],
    ["a PING of a broken length", [frame(Type.ping, 0, 0, Buffer.alloc(7))], "FRAME_SIZE_ERROR"],
    ["a frame of more than 16 KiB", [data(1, Buffer.alloc(16 * KIB + 1))], "FRAME_SIZE_ERROR"],
    ["a window update of the connection by nothing", [windowUpdate(0, 0)], "PROTOCOL_ERROR"],
    [
      "a broken PRIORITY on a stream that may still be opened",
      [frame(Type.priority, 0, 1, Buffer.alloc(4))],
      "FRAME_SIZE_ERROR",
    ],
    ["padding that is longer than its DATA", [opened, data(1, Buffer.of(9, 1), PADDED)], "PROTOCOL_ERROR"],
  ] as const)("%s", async ([, frames, code]) => {
    const { port } = await start();
    await withBystander(port, async () => {
      const peer = await attacker(port);
      peer.send(...frames);
      expect(await peer.ending()).toBe(code);
    });
  });

  test("DATA behind the end of the request resets the stream", async () => {
    const { port } = await start();
    const peer = await attacker(port);
    peer.send(call(1, "/test/Hold"), data(1, NOTHING, END_STREAM), data(1, Buffer.of(1)));
    expect(await peer.resetOf(1)).toBe("STREAM_CLOSED");
    await peer.roundTrip();
  });

  test.for([
    ["its header fields", [frame(Type.headers, END_HEADERS | END_STREAM, 1, callBlock("/test/Nothing"))]],
    ["its DATA", [call(1, "/test/Once"), data(1, message(NOTHING), END_STREAM)]],
    ["DATA that is refused", [call(1, "/test/Once"), data(1, Buffer.of(0, 0xff, 0xff, 0xff, 0xff), END_STREAM)]],
  ] as const)("a call that ends by the end of its request, %s, is not reset as well", async ([, frames]) => {
    const { port, engine } = await start();
    engine.handle("/test/Once", { kind: "bidi", handle: (once) => (once.onMessage = () => once.end(OK)) });
    const peer = await attacker(port);
    peer.send(...frames);
    await peer.endOf(1);
    await peer.roundTrip();
    expect(peer.received.filter(({ type }) => type === Type.rstStream)).toEqual([]);
  });

  test.for([
    ["DATA", 5, [data(1, Buffer.alloc(4), END_STREAM)]],
    ["trailers", 5, [data(1, Buffer.alloc(4)), frame(Type.headers, END_HEADERS | END_STREAM, 1, field("a", "b"))]],
    ["header fields", 5, []],
  ] as const)(
    "a request that announced more than it has, and ends with %s, is reset",
    async ([, announced, frames]) => {
      const { port, held } = await start();
      const peer = await attacker(port);
      const flags = frames.length === 0 ? END_HEADERS | END_STREAM : END_HEADERS;
      peer.send(frame(Type.headers, flags, 1, callBlock("/test/Hold", ["content-length", `${announced}`])), ...frames);
      expect(await peer.resetOf(1)).toBe("PROTOCOL_ERROR");
      expect(held.every(({ cancelled }) => cancelled)).toBe(true);
      await peer.roundTrip();
    },
  );

  test.for([data(1, Buffer.of(1)), windowUpdate(1, 1), reset(1), call(1, "/test/Hold")])(
    "what was under way when the server reset the stream is ignored (%#)",
    async (late) => {
      const { port, held } = await start();
      const peer = await attacker(port);
      peer.send(call(1, "/test/Hold"));
      await expect.poll(() => held.length).toBe(1);
      held[0]!.end(OK);
      expect(await peer.resetOf(1)).toBe("NO_ERROR");
      peer.send(late);
      await peer.roundTrip();
    },
  );

  test("what follows for calls beyond the limit, that were opened before it was known, is ignored", async () => {
    const { port, held } = await start({ maxConcurrentStreams: 10 });
    const peer = await attacker(port);
    const ids = Array.from({ length: 500 }, (_, index) => 2 * index + 1);
    peer.send(...ids.map((id) => call(id, "/test/Hold")), ...ids.map((id) => data(id, NOTHING, END_STREAM)));
    await peer.roundTrip();
    expect(held).toHaveLength(10);
    expect(await peer.resetOf(21)).toBe("REFUSED_STREAM");
    expect(peer.goaway).toBeUndefined();
  });

  test("more calls than allowed are refused, one by one, and others go on", async () => {
    const { port, held } = await start({ maxConcurrentStreams: 10 });
    const peer = await attacker(port);
    for (let i = 0; i < 30; i++) peer.send(call(2 * i + 1, "/test/Hold"));
    expect(await peer.resetOf(21)).toBe("REFUSED_STREAM");
    expect(await peer.resetOf(59)).toBe("REFUSED_STREAM");
    expect(held).toHaveLength(10);
  });
});

describe("connections", () => {
  test.for([
    ["noise", Buffer.alloc(4096, 0xee)],
    ["a preface with a mistake", Buffer.from("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n")],
    ["another frame than SETTINGS first", Buffer.concat([PREFACE, ping()])],
    ["an acknowledgement first", Buffer.concat([PREFACE, frame(Type.settings, ACK, 0)])],
  ] as const)("that begin with %s end with PROTOCOL_ERROR", async ([, bytes]) => {
    const { port } = await start();
    await withBystander(port, async () => {
      const peer = await Http2Peer.open(port);
      onTestFinished(() => peer.destroy());
      peer.send(bytes);
      expect(await peer.ending()).toBe("PROTOCOL_ERROR");
    });
  });

  test.for([
    ["at once", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", false],
    ["byte for byte", "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc", true],
    ["and want no content", "HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n", false],
    ["with a method like the preface", "PRI * HTTP/1.1\r\n\r\n", true],
  ] as const)("that speak HTTP/1 %s get a plain answer", async ([, request, isSlow]) => {
    const { port } = await start();
    const content = request.startsWith("HEAD") ? /$/ : /.+\n$/;
    await withBystander(port, async (served) => {
      const peer = await Http2Peer.open(port, true);
      onTestFinished(() => peer.destroy());
      for (const part of isSlow ? request : [request]) {
        peer.send(Buffer.from(part));
        await served();
      }
      await peer.closed;
      expect(peer.raw.toString("latin1")).toMatch(
        new RegExp(`^HTTP/1.1 400 Bad Request\r\n[^]*\r\n\r\n${content.source}`),
      );
    });
  });

  test("that speak HTTP/1 without end are closed", async () => {
    const { port } = await start();
    await withBystander(
      port,
      async (served) => {
        for (let i = 0; i < 20; i++) {
          const peer = await Http2Peer.open(port);
          onTestFinished(() => peer.destroy());
          const sent = await peer.flood(10_000, (n) => Buffer.from(n === 0 ? "GET /" : "x"), served);
          expect(sent).toBeLessThan(10_000);
          await peer.closed;
        }
      },
      MEMORY,
    );
  });

  test("that never get to the point are closed after ten seconds", async () => {
    const { port } = await start();
    await withBystander(port, async () => {
      const endless = Buffer.concat([PREFACE, settings(), frame(Type.headers, 0, 1, callBlock("/test/Echo"))]);
      const beginnings = [NOTHING, PREFACE.subarray(0, 10), PREFACE, Buffer.from("GET / HT"), endless];
      const peers = await Promise.all(beginnings.map(async () => Http2Peer.open(port)));
      for (const [index, peer] of peers.entries()) peer.send(beginnings[index]!);
      await Promise.all(peers.map(async ({ closed }) => closed));
    });
  });

  test("that send a frame byte by byte are closed after ten seconds, unless it is DATA", async () => {
    const { port, held } = await start();
    await withBystander(port, async () => {
      const rest = Buffer.alloc(16 * KIB);
      const beginnings = [
        frame(Type.headers, END_HEADERS, 3, Buffer.concat([callBlock("/test/Echo"), rest]).subarray(0, 16 * KIB)),
        frame(Type.ping, 0, 0, Buffer.alloc(8)).subarray(0, 12),
        data(1, message(rest).subarray(0, 16 * KIB)),
      ];
      const peers = await Promise.all(beginnings.map(async () => attacker(port)));
      for (const peer of peers) peer.send(call(1, "/test/Hold"));
      await expect.poll(() => held.length).toBe(3);
      let at = 0;
      const dripping = setInterval(() => {
        for (const [index, peer] of peers.entries()) peer.send(beginnings[index]!.subarray(at, at + 1));
        at += 1;
      }, 200);
      onTestFinished(() => clearInterval(dripping));
      const [headers, other, slow] = peers as [Http2Peer, Http2Peer, Http2Peer];
      expect(await headers.ending()).toBe("ENHANCE_YOUR_CALM");
      expect(await other.ending()).toBe("ENHANCE_YOUR_CALM");
      clearInterval(dripping);
      slow.send(beginnings[2]!.subarray(at));
      await slow.roundTrip();
    });
  });

  test("that break are still told by the address that they had", async () => {
    const { port, held } = await start();
    const peer = await attacker(port);
    peer.send(call(1, "/test/Hold"));
    await expect.poll(() => held.length).toBe(1);
    const { localPort } = peer.socket;
    peer.socket.resetAndDestroy();
    await expect.poll(() => held[0]!.cancelled).toBe(true);
    expect(held[0]!.peer).toBe(`127.0.0.1:${localPort}`);
  });

  test("that are silent are asked for a sign of life, and closed without one", async () => {
    const { port } = await start({ keepaliveTimeMs: 300, keepaliveTimeoutMs: 300 });
    await withBystander(port, async () => {
      const dead = await attacker(port);
      const alive = await attacker(port);
      let seen = 0;
      const answering = setInterval(() => {
        for (const { type, flags, payload } of alive.received.slice(seen)) {
          seen += 1;
          if (type === Type.ping && (flags & ACK) === 0) alive.send(frame(Type.ping, ACK, 0, payload));
        }
      }, 10);
      onTestFinished(() => clearInterval(answering));
      await dead.closed;
      expect(alive.isClosed).toBe(false);
      await alive.roundTrip();
    });
  });

  test.for(["plain text", "TLS"])(
    "are alive while their client reads, however slowly, over %s",
    async (wire, { skip }) => {
      const tls = wire === "TLS" ? selfSigned() : undefined;
      if (wire === "TLS" && tls === undefined) return skip("there is no openssl to make a certificate with");
      const { port, held } = await start({ maxUnreadBytes: 256 * MIB, ...(tls === undefined ? {} : { tls }) });
      const peer = tls === undefined ? await Http2Peer.start(port) : await Http2Peer.startTls(port);
      onTestFinished(() => peer.destroy());
      peer.socket.pause();
      peer.send(settings([INITIAL_WINDOW, MAX_WINDOW]), windowUpdate(0, MAX_WINDOW - DEFAULT_WINDOW));
      peer.send(call(1, "/test/Hold"));
      await expect.poll(() => held.length).toBe(1);
      const { connection } = held[0] as Call;
      const { socket } = connection;
      const pingedAt = performance.now();
      connection.ping(pingedAt);
      // The kernel has room: that it takes something does not show that the client is there.
      for (let n = 0; n < 3; n++) {
        const { bytesWritten } = socket;
        held[0]!.send(Buffer.alloc(KIB));
        await until(() => socket.bytesWritten > bytesWritten && socket.writableLength === 0);
        connection.tick(performance.now());
        expect(connection.pingedAt).toBe(pingedAt);
      }
      for (let n = 0; n < 64; n++) held[0]!.send(Buffer.alloc(MIB));
      await until(() => connection.isStuck);
      connection.tick(performance.now());
      const seenAt = connection.pingedAt!;
      connection.tick(performance.now());
      expect(connection.pingedAt).toBe(seenAt);
      peer.socket.resume();
      // It never answers the ping.
      await expect
        .poll(() => {
          connection.tick(performance.now());
          return connection.pingedAt;
        })
        .toBeGreaterThan(seenAt);
    },
  );

  test("by the thousand are served, cost little while they are idle, and let go of all they held", async () => {
    const { port } = await start();
    const peers: Http2Peer[] = [];
    const before = await heldBytes();
    onTestFinished(() => peers.forEach((peer) => peer.destroy()));
    await withBystander(
      port,
      async (served) => {
        for (let i = 0; i < MANY_CONNECTIONS; i += 50) {
          const more = await Promise.all(Array.from({ length: 50 }, async () => Http2Peer.start(port)));
          for (const peer of more) peer.send(unary(1, "/test/Echo", Buffer.of(1)));
          await Promise.all(more.map(async (peer) => peer.endOf(1)));
          peers.push(...more);
          await served();
        }
      },
      { bytes: MANY_CONNECTIONS * 16 * KIB },
    );
    for (const peer of peers) peer.destroy();
    await Promise.all(peers.map(async ({ closed }) => closed));
    peers.length = 0;
    expect((await heldBytes()) - before).toBeLessThan(MANY_CONNECTIONS * KIB);
  });

  test("keep little of the calls that they had by the thousand", async () => {
    const { port, held } = await start({ maxConcurrentStreams: 10_000 });
    const count = 10_000;
    const makeBusy = async (): Promise<void> => {
      const peer = await attacker(port);
      const sendAll = async (from: number, next: (id: number) => Buffer): Promise<void> => {
        for (let i = 0; i < count; i += 500) {
          peer.send(...Array.from({ length: 500 }, (_, index) => next(from + 2 * (i + index))));
          await peer.roundTrip();
          peer.received.length = 0;
        }
      };
      peer.send(call(1, "/test/Hold"));
      // Some are refused before their end, and others are all open at once.
      await sendAll(3, (id) => call(id, "/test/Nothing"));
      await sendAll(3 + 2 * count, (id) => call(id, "/test/Echo"));
      await sendAll(3 + 2 * count, (id) => data(id, message(NOTHING), END_STREAM));
      // The client keeps the piece of its answers that came last.
      await peer.roundTrip();
      peer.received.length = 0;
    };
    const becomeIdle = (): void => {
      for (const opened of held) {
        const { connection } = opened as Call;
        for (const minutes of [1, 2]) connection.tick(performance.now() + minutes * MINUTE_MS);
      }
    };
    // The first one leaves more in memory, once and for all.
    await makeBusy();
    becomeIdle();
    const before = await heldBytes();
    const connections = 3;
    for (let n = 0; n < connections; n++) await makeBusy();
    expect((await heldBytes()) - before).toBeGreaterThan(connections * 256 * KIB);
    becomeIdle();
    expect((await heldBytes()) - before).toBeLessThan(connections * 128 * KIB);
  });

  test("beyond the limit are closed at once, and when others leave there is room", async () => {
    const { port } = await start({ maxConnections: 11 });
    const peers = await Promise.all(Array.from({ length: 10 }, async () => attacker(port)));
    await Promise.all(peers.map(async (peer) => peer.roundTrip()));
    await withBystander(
      port,
      async (served) => {
        for (let i = 0; i < 200; i++) {
          const further = await Http2Peer.open(port);
          await further.closed;
          if (i % 10 === 0) await served();
        }
      },
      MEMORY,
    );
    const takesRoom = async (): Promise<void> => {
      const isServed = async (): Promise<boolean> => {
        const peer = await attacker(port);
        return peer.roundTrip().then(
          () => true,
          () => false,
        );
      };
      await expect.poll(isServed).toBe(true);
    };
    // That of the bystander.
    await takesRoom();
    const further = await Http2Peer.open(port);
    await further.closed;
    peers[0]!.destroy();
    await peers[0]!.closed;
    await takesRoom();
  });

  test("that cannot be accepted harm nobody else", async () => {
    const servers: Server[] = [];
    const { listen } = Server.prototype;
    onTestFinished(() => void Object.assign(Server.prototype, { listen }));
    Server.prototype.listen = function (this: Server, ...all: unknown[]) {
      servers.push(this);
      return listen.apply(this, all as Parameters<typeof listen>);
    };
    const { port, errors } = await start();
    await withBystander(port, async () => {
      // What Node does, but not for each reason on each platform.
      const error = new Error("accept ENOBUFS");
      expect(servers.map((server) => server.emit("error", error))).toEqual([true]);
      expect(errors).toEqual([error]);
    });
  });

  test("end with the server, whatever they are doing", async () => {
    const { port, engine } = await start();
    const peers = await Promise.all(Array.from({ length: 20 }, async () => attacker(port)));
    const silent = await Http2Peer.open(port);
    const ending = await attacker(port);
    ending.send(data(1, NOTHING));
    for (const peer of peers) peer.send(call(1, "/test/Hold"), frame(Type.headers, 0, 3, callBlock("/test/Echo")));
    await peers[0]!.find(({ type }) => type === Type.settings);
    engine.close();
    await Promise.all([...peers, silent, ending].map(async ({ closed }) => closed));
  });
});

describe("connections that leave", () => {
  const pair = selfSigned();
  const large = Buffer.alloc(400 * KIB);
  const count = 64;

  async function opened(port: number, isTls: boolean): Promise<Http2Peer> {
    const peer = isTls ? await Http2Peer.startTls(port) : await Http2Peer.start(port);
    onTestFinished(() => peer.destroy());
    peer.send(settings([INITIAL_WINDOW, MAX_WINDOW]), windowUpdate(0, MAX_WINDOW - DEFAULT_WINDOW));
    return peer;
  }

  /** Answers the first ping, or the one that follows another. */
  async function answerPing(peer: Http2Peer, after?: Buffer): Promise<Buffer> {
    const { payload } = await peer.find(
      ({ type, flags, payload: mark }) =>
        type === Type.ping && (flags & ACK) === 0 && (after === undefined || !mark.equals(after)),
    );
    peer.send(frame(Type.ping, ACK, 0, payload));
    return payload;
  }

  /** Ends calls with large answers until neither the kernel nor the socket takes another one; returns how many. */
  async function fill(engine: NativeEngine, held: readonly EngineCall[]): Promise<number> {
    for (let ended = 0; ended < count; ended++) {
      held[ended]!.send(large);
      held[ended]!.end(OK);
      for (let waits = 0; engine.unreadBytes > 0; waits++) {
        if (waits === 20) return ended;
        await sleep(5);
      }
    }
    throw new Error("all of it was taken");
  }

  test.for([
    ["a drain", "plain text", {}],
    ["its age", "plain text", { maxConnectionAgeMs: 1 }],
    ["a drain", "TLS", {}],
    ["its age", "TLS", { maxConnectionAgeMs: 1 }],
  ] as const)("by %s, over %s, end when a client that paused has all of its answers", async (row, { skip }) => {
    const [reason, wire, options] = row;
    if (wire === "TLS" && pair === undefined) return skip("there is no openssl to make a certificate with");
    const { engine, port, held } = await start({ ...options, ...(wire === "TLS" ? { tls: pair! } : {}) });
    const peer = await opened(port, wire === "TLS");
    const ids = Array.from({ length: count }, (_, index) => 2 * index + 1);
    peer.send(...ids.map((id) => call(id, "/test/Hold")));
    await expect.poll(() => held.length).toBe(count);
    let isDrained = false;
    const drained = reason === "a drain" ? engine.drain().then(() => (isDrained = true)) : undefined;
    const lastCall = await answerPing(peer);
    await peer.find(({ type, payload }) => type === Type.goaway && payload.readUInt32BE(0) === ids.at(-1));
    peer.socket.pause();
    const ended = await fill(engine, held);
    peer.send(...ids.slice(ended).map((id) => reset(id)));
    await expect.poll(() => held.at(-1)!.cancelled).toBe(true);
    // Longer than a socket lingers that is at its end.
    await sleep(2_000);
    expect(isDrained).toBe(false);
    peer.socket.resume();
    for (const id of ids.slice(0, ended)) {
      expect((await peer.endOf(id)).payload.includes(field("grpc-status", "0"))).toBe(true);
      expect(dataBytes(peer, id)).toBe(large.length + 5);
    }
    await answerPing(peer, lastCall);
    await drained;
    await peer.closed;
  });

  test("refuse the calls that are on their way, however many, and go on with those that they have", async () => {
    const { engine, port, held } = await start();
    const peer = await opened(port, false);
    peer.send(call(1, "/test/Hold"));
    await expect.poll(() => held.length).toBe(1);
    await peer.roundTrip();
    const ids = Array.from({ length: PATIENCE / 4 }, (_, index) => 2 * index + 3);
    peer.send(...ids.map((id) => unary(id, "/test/Echo", Buffer.alloc(10))));
    void engine.drain();
    await Promise.all([ids[0]!, ids.at(-1)!].map(async (id) => expect(await peer.resetOf(id)).toBe("REFUSED_STREAM")));
    expect(peer.received.filter(({ type }) => type === Type.rstStream)).toHaveLength(ids.length);
    held[0]!.send(Buffer.from("still there"));
    held[0]!.end(OK);
    expect((await peer.endOf(1)).payload.includes(field("grpc-status", "0"))).toBe(true);
    expect(dataBytes(peer, 1)).toBe(message(Buffer.from("still there")).length);
    expect(peer.goaway).toBe("NO_ERROR");
  });

  test("and end before their time name no later stream than they did before", async () => {
    const { engine, port, held } = await start();
    const peer = await opened(port, false);
    peer.send(call(1, "/test/Hold"));
    await expect.poll(() => held.length).toBe(1);
    void engine.drain();
    await answerPing(peer);
    await peer.find(({ type, payload }) => type === Type.goaway && payload.readUInt32BE(0) === 1);
    peer.send(call(3, "/test/Hold"), data(0, NOTHING));
    expect(await peer.ending()).toBe("PROTOCOL_ERROR");
    const named = peer.received
      .filter(({ type }) => type === Type.goaway)
      .map(({ payload }) => payload.readUInt32BE(0));
    expect(named).toEqual([MAX_WINDOW, 1, 1]);
  });

  test("and whose client does not say that it has all, end by keepalive", async () => {
    const { engine, port, held } = await start({ keepaliveTimeoutMs: 100 });
    const peer = await opened(port, false);
    peer.send(call(1, "/test/Hold"));
    await expect.poll(() => held.length).toBe(1);
    const drained = engine.drain();
    await answerPing(peer);
    held[0]!.end(OK);
    await drained;
    await peer.closed;
  });
});

describe("handlers", () => {
  test.for(["onCancel", "onDrain", "onMessage", "onHalfClose"] as const)(
    "that throw in %s harm nobody else",
    async (name) => {
      const { port, held, errors } = await start();
      await withBystander(port, async () => {
        const peer = await attacker(port);
        peer.send(call(1, "/test/Hold"));
        await expect.poll(() => held.length).toBe(1);
        held[0]![name] = () => {
          throw new Error(name);
        };
        if (name === "onDrain") {
          while (held[0]!.send(Buffer.alloc(16 * KIB)));
          peer.send(windowUpdate(0, MIB), windowUpdate(1, MIB));
        }
        if (name === "onMessage") peer.send(data(1, message(Buffer.of(1))));
        if (name === "onHalfClose") peer.send(data(1, NOTHING, END_STREAM));
        if (name === "onCancel") peer.send(reset(1));
        await expect.poll(() => errors.map(String)).toEqual([`Error: ${name}`]);
      });
    },
  );
});

test("a handler that pauses and resumes in its callbacks gets one message after the other, and one end", async () => {
  const { port, held } = await start();
  const peer = await attacker(port);
  peer.send(call(1, "/test/Hold"));
  await expect.poll(() => held.length).toBe(1);
  const opened = held[0]!;
  const seen: string[] = [];
  const during = (name: string): void => {
    seen.push(`${name} begins`);
    opened.pause();
    opened.resume();
    seen.push(`${name} ends`);
  };
  opened.onMessage = ([first]) => during(`message ${first}`);
  opened.onHalfClose = () => during("half-close");
  opened.pause();
  peer.send(...[1, 2, 3].map((n) => data(1, message(Buffer.of(n)))), data(1, NOTHING, END_STREAM));
  await peer.roundTrip();
  opened.resume();
  const names = ["message 1", "message 2", "message 3", "half-close"];
  expect(seen).toEqual(names.flatMap((name) => [`${name} begins`, `${name} ends`]));
});

describe("TLS", () => {
  const pair = selfSigned();
  // Without openssl there is no certificate.
  const withTls = pair === undefined ? test.skip : test;

  withTls("serves as without", async () => {
    const { port } = await start({ tls: pair! });
    const peer = await Http2Peer.startTls(port);
    onTestFinished(() => peer.destroy());
    peer.send(unary(1, "/test/Echo", Buffer.of(1)));
    await peer.endOf(1);
  });

  async function withTlsBystander(port: number, attack: (served: Served) => Promise<void>): Promise<void> {
    const open = async (): Promise<Http2Peer> => {
      const peer = await Http2Peer.startTls(port);
      onTestFinished(() => peer.destroy());
      return peer;
    };
    await underAttack(open, attack, MEMORY);
  }

  withTls.for([
    ["another protocol", ["http/1.1"]],
    ["none", undefined],
  ] as const)("clients that ask for %s by ALPN are turned away", async ([, protocols]) => {
    const { port } = await start({ tls: pair! });
    await withTlsBystander(port, async (served) => {
      for (let i = 0; i < 30; i++) {
        const options = protocols === undefined ? {} : { ALPNProtocols: [...protocols] };
        const socket = connectTls({ port, host: "127.0.0.1", rejectUnauthorized: false, ...options });
        const errors: Error[] = [];
        socket.on("error", (error) => void errors.push(error)).resume();
        await new Promise((resolve) => socket.once("close", resolve));
        expect(socket.alpnProtocol || false).toBe(false);
        await served();
      }
    });
  });

  withTls("clients that begin to shake hands, and break off or send noise, disturb nobody", async () => {
    const { port } = await start({ tls: pair! });
    // A ClientHello of 512 bytes, of which none is ever complete.
    const hello = Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03]);
    await withTlsBystander(port, async (served) => {
      const silent = await Promise.all(Array.from({ length: 100 }, async () => Http2Peer.open(port)));
      onTestFinished(() => silent.forEach((peer) => peer.destroy()));
      for (const peer of silent) peer.send(hello);
      for (let i = 0; i < 100; i++) {
        const peer = await Http2Peer.open(port);
        peer.send(i % 2 === 0 ? hello : Buffer.concat([hello.subarray(0, 5), Buffer.alloc(512, i)]));
        await served();
        peer.destroy();
      }
      expect(silent.every(({ isClosed }) => !isClosed)).toBe(true);
    });
  });

  withTls("a client that wants to renegotiate is refused", async () => {
    const { port } = await start({ tls: pair! });
    const peer = await Http2Peer.startTls(port, { maxVersion: "TLSv1.2" });
    await peer.roundTrip();
    const socket = peer.socket as ReturnType<typeof connectTls>;
    const error = new Promise((resolve) => socket.once("error", resolve));
    socket.renegotiate({}, () => undefined);
    expect(await error).toMatchObject({ code: "ERR_SSL_NO_RENEGOTIATION" });
    peer.destroy();
  });

  withTls("a client that never shakes hands is cut off after ten seconds", async () => {
    const { port } = await start({ tls: pair! });
    const peer = await Http2Peer.open(port);
    await peer.closed;
  });

  withTls("a client that speaks plain text does not disturb others", async () => {
    const { port } = await start({ tls: pair! });
    const peer = await attacker(port);
    await peer.closed;
    const other = await Http2Peer.startTls(port);
    await other.roundTrip();
    other.destroy();
  });
});

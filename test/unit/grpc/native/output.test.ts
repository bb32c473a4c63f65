/** What one turn of the event loop produced, as it leaves: packed, complete and in order. */
import { PassThrough, Writable } from "node:stream";
import type { Socket } from "node:net";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Framing, Output } from "../../../../src/grpc/engine/native/output.ts";
import { type Frame, message as withPrefix } from "../../../support/http2-peer.ts";

/** The far end: keeps what it is given, or takes nothing as long as it is shut. */
class Sink extends Writable {
  readonly chunks: Buffer[] = [];
  writes = 0;
  isShut = false;
  #open: (() => void) | undefined;

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.#take([chunk], done);
  }

  override _writev(chunks: { chunk: Buffer }[], done: () => void): void {
    this.#take(
      chunks.map(({ chunk }) => chunk),
      done,
    );
  }

  open(): void {
    this.isShut = false;
    const open = this.#open;
    this.#open = undefined;
    open?.();
  }

  #take(chunks: readonly Buffer[], done: () => void): void {
    this.writes += 1;
    // A copy, as the kernel makes one: what is written may be used again as soon as it is taken.
    const take = (): void => {
      this.chunks.push(...chunks.map((chunk) => Buffer.from(chunk)));
      done();
    };
    if (this.isShut) this.#open = take;
    else take();
  }

  get frames(): Frame[] {
    const bytes = Buffer.concat(this.chunks);
    const frames: Frame[] = [];
    for (let at = 0; at < bytes.length;) {
      const end = at + 9 + bytes.readUIntBE(at, 3);
      const streamId = bytes.readUInt32BE(at + 5);
      frames.push({ type: bytes[at + 3]!, flags: bytes[at + 4]!, streamId, payload: bytes.subarray(at + 9, end) });
      at = end;
    }
    return frames;
  }
}

const nothing = (): void => undefined;

function open(onReady = nothing, onBehind = nothing): { sink: Sink; output: Output } {
  const sink = new Sink({ highWaterMark: 64 * 1024 });
  return { sink, output: new Output(sink as unknown as Socket, onReady, onBehind) };
}

async function turn(): Promise<void> {
  await new Promise(setImmediate);
}

describe("one turn", () => {
  test("leaves in one write, and not before the turn is over", async () => {
    const { sink, output } = open();
    output.frame(6, 0, 0, Buffer.alloc(8));
    output.frame32(3, 7, 8);
    output.headers(1, 7, Buffer.of(0x20), Buffer.from("block"));
    output.message(7, Framing.plain, Buffer.from("hello"));
    expect(sink.writes).toBe(0);
    await turn();
    expect(sink.writes).toBe(1);
    expect(sink.frames).toEqual([
      { type: 6, flags: 0, streamId: 0, payload: Buffer.alloc(8) },
      { type: 3, flags: 0, streamId: 7, payload: Buffer.of(0, 0, 0, 8) },
      { type: 1, flags: 5, streamId: 7, payload: Buffer.from(" block") },
      { type: 0, flags: 0, streamId: 7, payload: withPrefix(Buffer.from("hello")) },
    ]);
    await turn();
    expect(sink.writes).toBe(1);
  });

  test("leaves sooner with every eighth end of a stream", async () => {
    const { sink, output } = open();
    const end = (streamId: number): void => output.headers(1, streamId, Buffer.alloc(0), Buffer.of(streamId));
    for (let n = 0; n < 7; n++) end(2 * n + 1);
    output.headers(0, 15, Buffer.alloc(0), Buffer.of(15));
    output.message(15, Framing.plain, Buffer.of(15));
    expect(sink.writes).toBe(0);
    end(15);
    expect(sink.writes).toBe(1);
    for (let n = 8; n < 17; n++) end(2 * n + 1);
    expect(sink.writes).toBe(2);
    expect(sink.frames).toHaveLength(18);
    await turn();
    expect(sink.writes).toBe(3);
    expect(sink.frames.filter(({ flags }) => flags === 5).map(({ streamId }) => streamId)).toEqual(
      Array.from({ length: 17 }, (_, n) => 2 * n + 1),
    );
  });

  test("puts messages of one stream that follow each other into one frame, and no others", async () => {
    const { sink, output } = open();
    for (const streamId of [1, 1, 1, 3, 1, 1]) output.message(streamId, Framing.plain, Buffer.of(streamId));
    output.frame32(8, 0, 5);
    output.message(1, Framing.plain, Buffer.of(1));
    await turn();
    expect(sink.frames.map(({ type, streamId, payload }) => [type, streamId, payload.length])).toEqual([
      [0, 1, 18],
      [0, 3, 6],
      [0, 1, 12],
      [8, 0, 4],
      [0, 1, 6],
    ]);
  });

  test("starts another frame where one is full", async () => {
    const { sink, output } = open();
    for (let i = 0; i < 10; i++) output.message(1, Framing.plain, Buffer.alloc(4000, i));
    await turn();
    expect(sink.frames.map(({ payload }) => payload.length)).toEqual([16_020, 16_020, 8010]);
  });

  test("does not go on in a frame that has left", async () => {
    const { sink, output } = open();
    output.message(1, Framing.plain, Buffer.of(1));
    await turn();
    output.message(1, Framing.plain, Buffer.of(2));
    await turn();
    expect(sink.frames.map(({ payload }) => payload)).toEqual([withPrefix(Buffer.of(1)), withPrefix(Buffer.of(2))]);
  });

  test("cuts long header blocks, with both parts in order", async () => {
    const { sink, output } = open();
    const block = Buffer.alloc(40_000, 0x61);
    output.headers(1, 5, Buffer.of(0x20), block);
    await turn();
    const { frames } = sink;
    expect(frames.map(({ type, flags }) => [type, flags])).toEqual([
      [1, 1],
      [9, 0],
      [9, 4],
    ]);
    expect(Buffer.concat(frames.map(({ payload }) => payload))).toEqual(Buffer.concat([Buffer.of(0x20), block]));
  });
});

describe("parts of a message", () => {
  test.each([0, 1, 3, 5, 6, 100, 5000])("that begin at byte %i of a message carry those bytes", async (from) => {
    const message = Buffer.from(Array.from({ length: 30_000 }, (_, i) => i % 251));
    const whole = withPrefix(message);
    for (const length of [1, 2, 5, 100, 4096, 16_384]) {
      const { sink, output } = open();
      output.part(1, Framing.plain, message, from, length);
      await turn();
      expect(sink.frames).toEqual([{ type: 0, flags: 0, streamId: 1, payload: whole.subarray(from, from + length) }]);
    }
  });

  test("without a prefix are the message alone", async () => {
    const { sink, output } = open();
    output.part(1, Framing.none, Buffer.from("hello"), 1, 3);
    await turn();
    expect(sink.frames[0]!.payload.toString()).toBe("ell");
  });
});

test("whatever is sent leaves byte for byte, whether the far end takes it or not", async () => {
  const step = fc.oneof(
    fc.record({
      kind: fc.constant("message" as const),
      size: fc.oneof(fc.nat(50), fc.nat(16_379)),
      streamId: fc.integer({ min: 1, max: 3 }),
    }),
    fc.record({
      kind: fc.constant("part" as const),
      size: fc.integer({ min: 1, max: 16_384 }),
      streamId: fc.integer({ min: 1, max: 3 }),
    }),
    fc.record({ kind: fc.constant("ping" as const) }),
    fc.record({ kind: fc.constant("ends" as const), count: fc.integer({ min: 1, max: 20 }) }),
    fc.record({ kind: fc.constant("turn" as const) }),
    fc.record({ kind: fc.constant("shut" as const) }),
    fc.record({ kind: fc.constant("open" as const) }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      const { sink, output } = open();
      const sent = new Map<number, Buffer[]>();
      let pings = 0;
      let ends = 0;
      let fill = 0;
      const add = (streamId: number, bytes: Buffer): void =>
        void sent.set(streamId, [...(sent.get(streamId) ?? []), bytes]);
      for (const one of steps) {
        if (one.kind === "message") {
          const payload = Buffer.alloc(one.size, ++fill);
          output.message(one.streamId, Framing.plain, payload);
          add(one.streamId, withPrefix(payload));
        } else if (one.kind === "part") {
          const payload = Buffer.alloc(one.size, ++fill);
          output.part(one.streamId, Framing.none, payload, 0, one.size);
          add(one.streamId, payload);
        } else if (one.kind === "ping") {
          output.frame(6, 0, 0, Buffer.alloc(8, ++pings));
        } else if (one.kind === "ends") {
          for (let n = 0; n < one.count; n++) output.headers(1, ++ends, Buffer.alloc(0), Buffer.from("end"));
        } else if (one.kind === "turn") await turn();
        else if (one.kind === "shut") sink.isShut = true;
        else sink.open();
      }
      await turn();
      sink.open();
      await turn();
      sink.open();
      await turn();
      const { frames } = sink;
      expect(frames.filter(({ type }) => type === 6).map(({ payload }) => payload[0])).toEqual(
        Array.from({ length: pings }, (_, i) => i + 1),
      );
      expect(frames.filter(({ type }) => type === 1).map(({ streamId }) => streamId)).toEqual(
        Array.from({ length: ends }, (_, i) => i + 1),
      );
      for (const [streamId, bytes] of sent) {
        const came = frames.filter((frame) => frame.type === 0 && frame.streamId === streamId);
        expect(Buffer.concat(came.map(({ payload }) => payload)).equals(Buffer.concat(bytes))).toBe(true);
        expect(came.every(({ payload }) => payload.length <= 16_384)).toBe(true);
      }
    }),
    { numRuns: 150 },
  );
});

describe("a far end that takes nothing", () => {
  test("makes it say so, and tell when there is room again", async () => {
    let ready = 0;
    const { sink, output } = open(() => void (ready += 1));
    sink.isShut = true;
    for (let i = 0; i < 10; i++) output.part(1, Framing.none, Buffer.alloc(16_384), 0, 16_384);
    await turn();
    expect(output.blocked).toBe(true);
    expect(output.backlog).toBe(10 * (16_384 + 9));
    sink.open();
    await turn();
    expect(output.blocked).toBe(false);
    expect(output.backlog).toBe(0);
    expect(ready).toBe(1);
  });

  test("gets nothing before the turn is over", async () => {
    const { sink, output } = open();
    sink.isShut = true;
    output.frame(6, 0, 0, Buffer.alloc(8));
    await turn();
    for (let n = 1; n <= 20; n++) output.headers(1, n, Buffer.alloc(0), Buffer.of(n));
    expect(sink.writableLength).toBe(17);
    await turn();
    expect(sink.writableLength).toBe(17 + 20 * 10);
  });

  test("is told of each turn, until it has taken all, and costs buffers beside the bytes", async () => {
    const unread: number[] = [];
    const { sink, output } = open(nothing, () => void unread.push(output.unread));
    output.frame(6, 0, 0, Buffer.alloc(8));
    await turn();
    expect(unread).toEqual([]);
    sink.isShut = true;
    for (let n = 0; n < 3; n++) {
      output.frame(6, 0, 0, Buffer.alloc(8));
      await turn();
    }
    expect(output.taken).toBe(17);
    sink.open();
    await turn();
    await turn();
    expect(output.taken).toBe(4 * 17);
    // The third one waits here.
    expect(unread.slice(0, 3)).toEqual([17 + 65_536, 2 * 17 + 65_536, 3 * 17 + 2 * 65_536]);
    expect(unread.at(-1)).toBe(0);
    const told = unread.length;
    output.frame(6, 0, 0, Buffer.alloc(8));
    await turn();
    expect(unread.length).toBe(told);
  });

  test("gets what many turns bring in a few writes", async () => {
    const { sink, output } = open();
    sink.isShut = true;
    const turns = 5000;
    for (let n = 0; n < turns; n++) {
      output.frame(6, 0, 0, Buffer.alloc(8));
      await turn();
    }
    expect(output.backlog).toBe(turns * 17);
    let writes = 0;
    const { write } = sink;
    sink.write = ((...all: Parameters<typeof write>) => ((writes += 1), write.apply(sink, all))) as typeof write;
    const { bufferedRequestCount } = (sink as unknown as { _writableState: { bufferedRequestCount: number } })
      ._writableState;
    // One of a few bytes, and then such of 16 KiB.
    expect(bufferedRequestCount).toBe(1 + Math.floor((turns * 17) / 16_384));
    sink.open();
    await turn();
    await turn();
    expect(sink.frames.length).toBe(turns);
    expect(writes).toBe(1);
  });

  test("keeps small writes at their size", async () => {
    const { sink, output } = open();
    sink.isShut = true;
    for (let i = 0; i < 20; i++) {
      output.frame(6, 0, 0, Buffer.alloc(8, i));
      await turn();
    }
    sink.open();
    await turn();
    sink.open();
    await turn();
    expect(sink.frames.map(({ payload }) => payload[0])).toEqual(Array.from({ length: 20 }, (_, i) => i));
  });
});

test("large payloads are not copied", async () => {
  const seen: Buffer[] = [];
  const stream = new PassThrough();
  stream.write = ((chunk: Buffer) => seen.push(chunk) > 0) as typeof stream.write;
  const output = new Output(stream as unknown as Socket, nothing, nothing);
  const payload = Buffer.alloc(16_384);
  output.part(1, Framing.none, payload, 0, payload.length);
  await turn();
  expect(seen.some(({ buffer }) => buffer === payload.buffer)).toBe(true);
});

test("nothing leaves after the end", async () => {
  const { sink, output } = open();
  output.frame(6, 0, 0, Buffer.alloc(8));
  output.close();
  await turn();
  expect(sink.writes).toBe(0);
});

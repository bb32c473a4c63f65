/** Where frames begin and end, however the socket cuts them. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type FrameHandler,
  FrameReader,
  MAX_FRAME_BYTES,
  writeFrameHeader,
} from "../../../../src/grpc/engine/native/frames.ts";
import { frame } from "../../../support/http2-peer.ts";

interface Seen {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Buffer;
}

/** Keeps views, as the engine does: they have to stay as they are. */
class Recorder implements FrameHandler {
  readonly frames: Seen[] = [];
  readonly oversized: number[][] = [];
  stopAfter = Infinity;

  onFrame(type: number, flags: number, streamId: number, bytes: Buffer, start: number, end: number): boolean {
    this.frames.push({ type, flags, streamId, payload: bytes.subarray(start, end) });
    return this.frames.length < this.stopAfter;
  }

  onOversized(...what: number[]): void {
    this.oversized.push(what);
  }
}

function read(pieces: readonly Buffer[], stopAfter = Infinity): Recorder {
  const recorder = new Recorder();
  recorder.stopAfter = stopAfter;
  const reader = new FrameReader(recorder);
  for (const piece of pieces) reader.read(piece);
  return recorder;
}

const FRAMES: Seen[] = [
  { type: 4, flags: 0, streamId: 0, payload: Buffer.alloc(0) },
  { type: 1, flags: 5, streamId: 1, payload: Buffer.from("headers") },
  { type: 0, flags: 1, streamId: 0x7fffffff, payload: Buffer.from([0]) },
  { type: 0xff, flags: 0xff, streamId: 3, payload: Buffer.alloc(300, 7) },
  { type: 6, flags: 0, streamId: 0, payload: Buffer.from("12345678") },
];
const BYTES = Buffer.concat(FRAMES.map(({ type, flags, streamId, payload }) => frame(type, flags, streamId, payload)));

describe("frames", () => {
  test("are the same when their bytes come in one piece or in two, wherever the cut is", () => {
    expect(read([BYTES]).frames).toEqual(FRAMES);
    for (let cut = 0; cut <= BYTES.length; cut++) {
      expect(read([BYTES.subarray(0, cut), BYTES.subarray(cut)]).frames).toEqual(FRAMES);
    }
  });

  test("are the same when each byte comes alone", () => {
    expect(read(Array.from(BYTES, (byte) => Buffer.of(byte))).frames).toEqual(FRAMES);
  });

  test("are the same in any pieces", () => {
    const lengths = fc.array(fc.nat(20), { maxLength: 10 });
    const cuts = fc.array(fc.nat(200), { maxLength: 30 });
    fc.assert(
      fc.property(lengths, cuts, (sizes, at) => {
        const frames = sizes.map((size, index) => ({
          type: 0,
          flags: 0,
          streamId: index,
          payload: Buffer.alloc(size, index),
        }));
        const bytes = Buffer.concat(frames.map((one) => frame(one.type, one.flags, one.streamId, one.payload)));
        const edges = [0, ...at.map((edge) => Math.min(edge, bytes.length)).toSorted((a, b) => a - b), bytes.length];
        const pieces = edges.slice(1).map((edge, index) => bytes.subarray(edges[index]!, edge));
        expect(read(pieces).frames).toEqual(frames);
      }),
    );
  });

  test("in one piece are views of it, without a copy", () => {
    for (const { payload } of read([BYTES]).frames) expect(payload.buffer).toBe(BYTES.buffer);
  });

  test("that were put together stay as they are when others follow", () => {
    const recorder = new Recorder();
    const reader = new FrameReader(recorder);
    for (let i = 0; i < 3; i++) for (const byte of frame(0, 0, 1, Buffer.alloc(50, i))) reader.read(Buffer.of(byte));
    expect(recorder.frames.map(({ payload }) => payload[0])).toEqual([0, 1, 2]);
  });

  test("have numbers of streams without the reserved bit", () => {
    const bytes = frame(0, 0, 5);
    bytes[5]! |= 0x80;
    expect(read([bytes]).frames[0]!.streamId).toBe(5);
  });

  test.each([1, 9, 10, 20_000])("that are too long are told before their payload comes, in pieces of %i", (size) => {
    const bytes = Buffer.concat([BYTES, frame(0, 0, 9, Buffer.alloc(MAX_FRAME_BYTES + 1)), BYTES]);
    const pieces = [];
    for (let at = 0; at < bytes.length; at += size) pieces.push(bytes.subarray(at, at + size));
    const { frames, oversized } = read(pieces);
    expect(frames).toEqual(FRAMES);
    expect(oversized).toEqual([[0, 9, MAX_FRAME_BYTES + 1]]);
  });

  test("of the largest size are read, also in two pieces", () => {
    const bytes = frame(0, 0, 1, Buffer.alloc(MAX_FRAME_BYTES, 1));
    for (const cut of [0, 5, 9, 100]) {
      expect(read([bytes.subarray(0, cut), bytes.subarray(cut)]).frames[0]!.payload).toHaveLength(MAX_FRAME_BYTES);
    }
  });

  test("that are not complete have numbers of their own, except DATA, as soon as its type has come", () => {
    const reader = new FrameReader(new Recorder());
    const seen = new Set<number>();
    for (const { type, flags, streamId, payload } of FRAMES) {
      const bytes = frame(type, flags, streamId, payload);
      const numbers = Array.from(bytes, (byte) => (reader.read(Buffer.of(byte)), reader.unfinished));
      expect(numbers.pop()).toBe(0);
      const first = numbers[0]!;
      expect(seen.has(first) || first === 0).toBe(false);
      seen.add(first);
      expect(numbers).toEqual(numbers.map((_, index) => (type === 0 && index >= 3 ? 0 : first)));
    }
  });

  test("end where their handler says so", () => {
    for (let cut = 0; cut <= BYTES.length; cut++) {
      expect(read([BYTES.subarray(0, cut), BYTES.subarray(cut)], 2).frames).toEqual(FRAMES.slice(0, 2));
    }
  });
});

test("what is written before a payload reads back", () => {
  fc.assert(
    fc.property(fc.nat(0xffffff), fc.nat(255), fc.nat(255), fc.nat(0x7fffffff), (length, type, flags, streamId) => {
      const bytes = Buffer.alloc(12);
      writeFrameHeader(bytes, 2, length, type, flags, streamId);
      expect([bytes.readUIntBE(2, 3), bytes[5], bytes[6], bytes.readUInt32BE(7)]).toEqual([
        length,
        type,
        flags,
        streamId,
      ]);
    }),
  );
});

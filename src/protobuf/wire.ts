/**
 * Hot path: the Protobuf wire format, read and written in place. The generated code reflects over descriptors for each
 * message (3 to 10 µs); the few messages that flow by the ten thousand are coded by hand on top of this
 * (`test/unit/grpc/codecs.test.ts` compares them with the generated code over random messages and random bytes).
 */
import { Buffer, isUtf8 } from "node:buffer";
import { asBuffer } from "../bytes.ts";
import type { LastText } from "../last-text.ts";

/** An unsigned 64-bit number: as a number where that is exact, else as a bigint. */
export type Uint64 = number | bigint;

const WIRE_VARINT = 0;
const WIRE_FIXED64 = 1;
const WIRE_BYTES = 2;
const WIRE_GROUP = 3;
const WIRE_END_GROUP = 4;
const WIRE_FIXED32 = 5;
const MAX_DEPTH = 100;
const MAX_TAG_BYTES = 5;
const TWO_32 = 2 ** 32;

/** Reads one message. Throws on what is not Protobuf. */
export class WireReader {
  readonly #bytes: Buffer;
  #at: number;
  #end: number;

  constructor(bytes: Uint8Array) {
    this.#bytes = asBuffer(bytes);
    this.#at = 0;
    this.#end = bytes.length;
  }

  /** The next tag (field number × 8 + wire type), or 0 at the end. */
  tag(): number {
    if (this.#at >= this.#end) return 0;
    const tag = this.#varint32();
    if (tag >>> 3 === 0) throw new Error("a field has number 0");
    return tag;
  }

  /** Runs `read` within a nested message. */
  message(read: (reader: WireReader) => void): void {
    const end = this.#end;
    this.#end = this.#length();
    read(this);
    this.#end = end;
  }

  uint64(): Uint64 {
    const low = this.#low64();
    const high = this.#high;
    if (high < 0x20_0000) return high * TWO_32 + low;
    return (BigInt(high) << 32n) | BigInt(low);
  }

  /** A signed 64-bit number; beyond 2^53 it is rounded. */
  int64(): number {
    const low = this.#low64();
    return (this.#high | 0) * TWO_32 + low;
  }

  int32(): number {
    return this.#low64() | 0;
  }

  uint32(): number {
    return this.#low64();
  }

  bool(): boolean {
    const low = this.#low64();
    return low !== 0 || this.#high !== 0;
  }

  /** `last`: for texts that mostly come again. */
  string(last?: LastText): string {
    const end = this.#length();
    const bytes = this.#bytes;
    const text = last === undefined ? bytes.toString("utf8", this.#at, end) : last.decode(bytes, this.#at, end);
    // What is no UTF-8 was read as replacement characters; a text may hold them by itself too.
    if (text.includes("\uFFFD") && !isUtf8(this.#bytes.subarray(this.#at, end))) throw new Error("a text is not UTF-8");
    this.#at = end;
    return text;
  }

  /** A view into the bytes of the message. */
  bytes(): Buffer {
    const end = this.#length();
    const bytes = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return bytes;
  }

  /** A repeated number, packed or not. False: there are more than `max`, and the rest is not read. */
  uint64s(tag: number, into: Uint64[], max: number): boolean {
    if ((tag & 7) === WIRE_VARINT) {
      into.push(this.uint64());
      return into.length <= max;
    }
    const end = this.#length();
    while (this.#at < end && into.length <= max) into.push(this.uint64());
    if (into.length > max) return false;
    if (this.#at !== end) throw new Error("a packed field is cut off");
    return true;
  }

  /** Passes over a field that nobody here knows. */
  skip(tag: number, depth = 0): void {
    switch (tag & 7) {
      case WIRE_VARINT:
        this.#low64();
        return;
      case WIRE_FIXED64:
        this.#advance(8);
        return;
      case WIRE_BYTES:
        this.#at = this.#length();
        return;
      case WIRE_FIXED32:
        this.#advance(4);
        return;
      case WIRE_GROUP:
        this.#skipGroup(tag >>> 3, depth);
        return;
      default:
        throw new Error(`wire type ${tag & 7} is not valid`);
    }
  }

  #skipGroup(field: number, depth: number): void {
    if (depth >= MAX_DEPTH) throw new Error("groups are nested too deeply");
    for (;;) {
      const tag = this.tag();
      if (tag === 0) throw new Error("a group is cut off");
      if ((tag & 7) === WIRE_END_GROUP) {
        if (tag >>> 3 !== field) throw new Error("a group ends as another");
        return;
      }
      this.skip(tag, depth + 1);
    }
  }

  #high = 0;

  /** Reads a varint of up to 64 bits: returns the lower half, leaves the upper in `#high`. */
  #low64(): number {
    const bytes = this.#bytes;
    let low = 0;
    let high = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      if (this.#at >= this.#end) throw new Error("a number is cut off");
      const byte = bytes[this.#at++]!;
      const bits = byte & 0x7f;
      if (shift < 28) low |= bits << shift;
      else if (shift === 28) {
        low |= bits << 28;
        high = bits >>> 4;
      } else high |= bits << (shift - 32);
      if (byte < 0x80) {
        this.#high = high >>> 0;
        return low >>> 0;
      }
    }
    throw new Error("a number is longer than 64 bits");
  }

  #varint32(): number {
    const start = this.#at;
    const low = this.#low64();
    // Also in bytes: numbers may be padded beyond what they take, tags may not.
    if (this.#high !== 0 || this.#at - start > MAX_TAG_BYTES) throw new Error("a tag is longer than 32 bits");
    return low;
  }

  /** Reads a length; returns where it ends. */
  #length(): number {
    const length = this.#low64();
    if (this.#high !== 0 || length > this.#end - this.#at) throw new Error("a field is cut off");
    return this.#at + length;
  }

  #advance(count: number): void {
    if (count > this.#end - this.#at) throw new Error("a field is cut off");
    this.#at += count;
  }
}

/** Writes one message into a buffer of exactly its size. */
export class WireWriter {
  readonly bytes: Buffer;
  #at = 0;

  constructor(size: number) {
    this.bytes = Buffer.allocUnsafe(size);
  }

  varint(value: number): void {
    let rest = value;
    while (rest >= 0x80) {
      this.bytes[this.#at++] = (rest % 0x80) | 0x80;
      rest = Math.floor(rest / 0x80);
    }
    this.bytes[this.#at++] = rest;
  }

  uint64(value: Uint64): void {
    const exact = exactly(value);
    if (typeof exact === "number") {
      this.varint(exact);
      return;
    }
    let rest = exact;
    while (rest >= 0x80n) {
      this.bytes[this.#at++] = Number(rest & 0x7fn) | 0x80;
      rest >>= 7n;
    }
    this.bytes[this.#at++] = Number(rest);
  }

  /** A tag and the length of what follows. */
  header(tag: number, length: number): void {
    this.varint(tag);
    this.varint(length);
  }

  /** `length` is the text's in UTF-8. */
  string(tag: number, text: string, length: number): void {
    this.header(tag, length);
    this.#at += length === text.length ? this.bytes.write(text, this.#at, "latin1") : this.bytes.write(text, this.#at);
  }

  raw(tag: number, bytes: Uint8Array): void {
    this.header(tag, bytes.length);
    this.copy(bytes);
  }

  /** What is encoded already. */
  copy(bytes: Uint8Array): void {
    this.bytes.set(bytes, this.#at);
    this.#at += bytes.length;
  }
}

/** Arithmetic with a bigint takes many times as long: only where a number is not exact. */
function exactly(value: Uint64): Uint64 {
  return typeof value === "bigint" && value <= MAX_SAFE ? Number(value) : value;
}

const MAX_SAFE = BigInt(Number.MAX_SAFE_INTEGER);

/** Bytes that `value` takes as a varint. */
export function varintSize(value: Uint64): number {
  const exact = exactly(value);
  let size = 1;
  if (typeof exact === "bigint") for (let rest = exact >> 7n; rest > 0n; rest >>= 7n) size += 1;
  else for (let rest = exact; rest >= 0x80; rest = Math.floor(rest / 0x80)) size += 1;
  return size;
}

/** Bytes of a field with a length before it, for a tag of one byte. */
export function fieldSize(length: number): number {
  return 1 + varintSize(length) + length;
}

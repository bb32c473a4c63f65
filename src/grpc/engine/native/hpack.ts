/**
 * HPACK (RFC 7541): reading header blocks with the static and the dynamic table, and writing fields that no table has to
 * remember. Responses of a gRPC server are so few and so short that a table for them would cost more than it saves.
 */
import { Buffer } from "node:buffer";
import { decodeHuffman } from "./huffman.ts";

const ENTRY_OVERHEAD = 32;

/** One field of a header list. Those in a table are shared by all requests that refer to them. */
export class HeaderField {
  readonly name: string;
  readonly value: string;
  /** As HPACK and HTTP/2 count: both texts and 32 bytes. */
  readonly size: number;
  #isValid: boolean | undefined;

  constructor(name: string, value: string) {
    this.name = name;
    this.value = value;
    this.size = name.length + value.length + ENTRY_OVERHEAD;
  }

  /** Whether name and value hold only characters that they may (RFC 9113, section 8.2.1). */
  get isValid(): boolean {
    return (this.#isValid ??= VALID_NAME.test(this.name) && VALID_VALUE.test(this.value));
  }
}

// oxlint-disable-next-line no-control-regex
const VALID_NAME = /^:?[^\0-\x20A-Z\x7f-\xff:]+$/;
// oxlint-disable-next-line no-control-regex
const VALID_VALUE = /^(?![ \t])[^\0\r\n]*(?<![ \t])$/;

/** Called for each field, in order. */
export type FieldVisitor = (field: HeaderField) => void;

/** A block that breaks the rules: the tables of both sides differ from here on, the connection has to end. */
export class HpackError extends Error {}

/** Size of the dynamic table until the other side says otherwise. */
const DEFAULT_TABLE_SIZE = 4096;

/** RFC 7541, appendix A. */
const STATIC: readonly (readonly [name: string, value: string])[] = [
  [":authority", ""],
  [":method", "GET"],
  [":method", "POST"],
  [":path", "/"],
  [":path", "/index.html"],
  [":scheme", "http"],
  [":scheme", "https"],
  [":status", "200"],
  [":status", "204"],
  [":status", "206"],
  [":status", "304"],
  [":status", "400"],
  [":status", "404"],
  [":status", "500"],
  ["accept-charset", ""],
  ["accept-encoding", "gzip, deflate"],
  ["accept-language", ""],
  ["accept-ranges", ""],
  ["accept", ""],
  ["access-control-allow-origin", ""],
  ["age", ""],
  ["allow", ""],
  ["authorization", ""],
  ["cache-control", ""],
  ["content-disposition", ""],
  ["content-encoding", ""],
  ["content-language", ""],
  ["content-length", ""],
  ["content-location", ""],
  ["content-range", ""],
  ["content-type", ""],
  ["cookie", ""],
  ["date", ""],
  ["etag", ""],
  ["expect", ""],
  ["expires", ""],
  ["from", ""],
  ["host", ""],
  ["if-match", ""],
  ["if-modified-since", ""],
  ["if-none-match", ""],
  ["if-range", ""],
  ["if-unmodified-since", ""],
  ["last-modified", ""],
  ["link", ""],
  ["location", ""],
  ["max-forwards", ""],
  ["proxy-authenticate", ""],
  ["proxy-authorization", ""],
  ["range", ""],
  ["referer", ""],
  ["refresh", ""],
  ["retry-after", ""],
  ["server", ""],
  ["set-cookie", ""],
  ["strict-transport-security", ""],
  ["transfer-encoding", ""],
  ["user-agent", ""],
  ["vary", ""],
  ["via", ""],
  ["www-authenticate", ""],
];

/** Reads the header blocks of one connection, one after the other: each may refer to those before. */
export class HpackDecoder {
  readonly #maxTableSize: number;
  /** Newest first would cost a shift for each; so newest last, read from the end. */
  #entries: (HeaderField | undefined)[] = [];
  #first = 0;
  #size = 0;
  #tableSize: number;
  #bytes: Buffer = NO_BYTES;
  #at = 0;
  #end = 0;
  /** The last block, where it changed no table. */
  #last: Buffer = NO_BYTES;
  #lastLength = 0;

  /** `maxTableSize` is what our settings allow the other side. */
  constructor(maxTableSize: number = DEFAULT_TABLE_SIZE) {
    this.#maxTableSize = maxTableSize;
    this.#tableSize = maxTableSize;
  }

  /**
   * Whether this is the last block again, which need not be read: once the table knows its fields, a client sends the same
   * few bytes for each call of a method. Only for a block that changes no table the same bytes mean the same.
   */
  isRepeated(bytes: Buffer, start: number, end: number): boolean {
    const length = this.#lastLength;
    if (length === 0 || end - start !== length) return false;
    const last = this.#last;
    for (let n = 0; n < length; n++) if (bytes[start + n] !== last[n]) return false;
    return true;
  }

  /** Reads a whole block. Throws {@link HpackError}. */
  decode(bytes: Buffer, start: number, end: number, visit: FieldVisitor): void {
    this.#lastLength = 0;
    let changesTable = false;
    this.#bytes = bytes;
    this.#at = start;
    this.#end = end;
    let mayResize = true;
    while (this.#at < this.#end) {
      const byte = bytes[this.#at]!;
      if ((byte & 0x80) !== 0) {
        visit(this.#lookUp(this.#integer(7)));
      } else if ((byte & 0x40) !== 0) {
        const field = this.#literal(6);
        changesTable = true;
        this.#insert(field);
        visit(field);
      } else if ((byte & 0x20) !== 0) {
        // Only at the beginning of a block (section 4.2).
        if (!mayResize) throw new HpackError("a change of the table's size inside of a header block");
        changesTable = true;
        this.#resize(this.#integer(5));
        continue;
      } else {
        visit(this.#literal(4));
      }
      mayResize = false;
    }
    this.#bytes = NO_BYTES;
    if (!changesTable) this.#remember(bytes, start, end);
  }

  #remember(bytes: Buffer, start: number, end: number): void {
    if (end - start > MAX_REPEATED_BYTES) return;
    if (this.#last.length === 0) this.#last = Buffer.allocUnsafeSlow(MAX_REPEATED_BYTES);
    bytes.copy(this.#last, 0, start, end);
    this.#lastLength = end - start;
  }

  #literal(prefixBits: number): HeaderField {
    const index = this.#integer(prefixBits);
    const name = index === 0 ? this.#string() : this.#lookUp(index).name;
    return new HeaderField(name, this.#string());
  }

  #lookUp(index: number): HeaderField {
    if (index === 0) throw new HpackError("index 0");
    if (index <= STATIC.length) return STATIC_FIELDS[index - 1]!;
    const at = this.#entries.length - (index - STATIC.length);
    const entry = at < this.#first ? undefined : this.#entries[at];
    if (entry === undefined) throw new HpackError(`index ${index} is in no table`);
    return entry;
  }

  #insert(entry: HeaderField): void {
    const { size } = entry;
    this.#evict(this.#tableSize - size);
    // One that is larger than the table empties it, and is not kept (section 4.4).
    if (size > this.#tableSize) return;
    this.#entries.push(entry);
    this.#size += size;
  }

  #resize(size: number): void {
    if (size > this.#maxTableSize) throw new HpackError(`a table of ${size} bytes, allowed are ${this.#maxTableSize}`);
    this.#tableSize = size;
    this.#evict(size);
  }

  #evict(limit: number): void {
    while (this.#size > limit && this.#first < this.#entries.length) {
      this.#size -= this.#entries[this.#first]!.size;
      // A table of 4 KiB is not to keep alive what it has dropped until the next slice.
      this.#entries[this.#first] = undefined;
      this.#first += 1;
    }
    if (this.#first < COMPACT_AT && this.#first < this.#entries.length) return;
    this.#entries = this.#entries.slice(this.#first);
    this.#first = 0;
  }

  #integer(prefixBits: number): number {
    const mask = (1 << prefixBits) - 1;
    let value = this.#byte() & mask;
    if (value < mask) return value;
    for (let shift = 0; ; shift += 7) {
      const byte = this.#byte();
      // Four more octets reach beyond every index and length that can be valid here.
      if (shift > MAX_INTEGER_SHIFT) throw new HpackError("an integer that is too large");
      value += (byte & 0x7f) * 2 ** shift;
      if ((byte & 0x80) === 0) return value;
    }
  }

  #string(): string {
    if (this.#at >= this.#end) throw new HpackError("the header block ends in a field");
    const isHuffman = (this.#bytes[this.#at]! & 0x80) !== 0;
    const length = this.#integer(7);
    const start = this.#at;
    if (length > this.#end - start) throw new HpackError("a text that leaves its header block");
    this.#at += length;
    const text = isHuffman
      ? decodeHuffman(this.#bytes, start, this.#at)
      : this.#bytes.toString("latin1", start, this.#at);
    if (text === undefined) throw new HpackError("a text that is no Huffman code");
    return text;
  }

  #byte(): number {
    if (this.#at >= this.#end) throw new HpackError("the header block ends in a number");
    return this.#bytes[this.#at++]!;
  }
}

const NO_BYTES = Buffer.alloc(0);
const COMPACT_AT = 256;
/** Longer blocks are read each time. */
const MAX_REPEATED_BYTES = 128;
const MAX_INTEGER_SHIFT = 21;
const STATIC_FIELDS: readonly HeaderField[] = STATIC.map(([name, value]) => new HeaderField(name, value));

/** Tells the other side that our table stays empty; its place is before the first field of a connection. */
export const NO_TABLE: Buffer = Buffer.from([0x20]);

/** `:status 200`. */
export const STATUS_200: Buffer = Buffer.from([0x88]);

/** One field that no table remembers; characters beyond latin1 are not allowed in headers. */
export function encodeField(name: string, value: string): Buffer {
  const index = STATIC.findIndex(([known]) => known === name) + 1;
  const nameBytes = index > 0 ? encodeInteger(index, 4, 0) : Buffer.concat([Buffer.from([0]), encodeString(name)]);
  return Buffer.concat([nameBytes, encodeString(value)]);
}

function encodeString(text: string): Buffer {
  const bytes = Buffer.from(text, "latin1");
  return Buffer.concat([encodeInteger(bytes.length, 7, 0), bytes]);
}

function encodeInteger(value: number, prefixBits: number, first: number): Buffer {
  const mask = (1 << prefixBits) - 1;
  if (value < mask) return Buffer.from([first | value]);
  const bytes = [first | mask];
  let rest = value - mask;
  for (; rest > 0x7f; rest = Math.floor(rest / 128)) bytes.push((rest & 0x7f) | 0x80);
  bytes.push(rest);
  return Buffer.from(bytes);
}

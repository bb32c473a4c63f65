/** Hot path: the well-known types inside hot messages, and `Any` by itself. */
import { Buffer } from "node:buffer";
import { LastBytes, LastText } from "../last-text.ts";
import { type Uint64, WireReader, WireWriter, fieldSize, varintSize } from "./wire.ts";

/** `google.protobuf.Any`. */
export interface AnyMessage {
  typeUrl: string;
  value: Uint8Array;
}

/** `google.protobuf.Timestamp` and `Duration`. */
export interface SecondsAndNanos {
  seconds: number;
  nanos: number;
}

const EMPTY = Buffer.alloc(0);
/** Most values are of the same type as the one before. */
const lastUrl = new LastText();
const lastUrlBytes = new LastBytes();

/** Reads an `Any`; a second one for the same field goes into the first, as Protobuf wants it. */
export function readAny(reader: WireReader, into: AnyMessage | undefined): AnyMessage {
  const any = into ?? { typeUrl: "", value: EMPTY };
  reader.message((r) => readAnyFields(r, any));
  return any;
}

function readAnyFields(reader: WireReader, any: AnyMessage): void {
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === 10) any.typeUrl = reader.string(lastUrl);
    else if (tag === 18) any.value = reader.bytes();
    else reader.skip(tag);
  }
}

/** `Any` ← bytes; its value is a view into them. Throws on what is not Protobuf. */
export function decodeAny(bytes: Uint8Array): AnyMessage {
  const any: AnyMessage = { typeUrl: "", value: EMPTY };
  readAnyFields(new WireReader(bytes), any);
  return any;
}

/** `Any` → bytes. */
export function encodeAny(any: AnyMessage): Uint8Array {
  const writer = new WireWriter(anySize(any));
  writeAny(writer, any);
  return writer.bytes;
}

/** Size of the fields of an `Any`. */
export function anySize({ typeUrl, value }: AnyMessage): number {
  const url = lastUrlBytes.encode(typeUrl).length;
  return (url === 0 ? 0 : fieldSize(url)) + (value.length === 0 ? 0 : fieldSize(value.length));
}

/** Writes the fields of an `Any`. */
export function writeAny(writer: WireWriter, { typeUrl, value }: AnyMessage): void {
  if (typeUrl !== "") writer.raw(10, lastUrlBytes.encode(typeUrl));
  if (value.length > 0) writer.raw(18, value);
}

/** Reads a `Timestamp` or `Duration`. */
export function readTime(reader: WireReader, into: SecondsAndNanos | undefined): SecondsAndNanos {
  const time = into ?? { seconds: 0, nanos: 0 };
  reader.message((r) => {
    for (let tag = r.tag(); tag !== 0; tag = r.tag()) {
      if (tag === 8) time.seconds = r.int64();
      else if (tag === 16) time.nanos = r.int32();
      else r.skip(tag);
    }
  });
  return time;
}

/** A negative number takes ten bytes on the wire, as the unsigned one with the same bits. */
function unsigned(value: number): Uint64 {
  return value < 0 ? BigInt.asUintN(64, BigInt(value)) : value;
}

/** Size of the fields of a `Timestamp` or `Duration`. */
export function timeSize({ seconds, nanos }: SecondsAndNanos): number {
  return (seconds === 0 ? 0 : 1 + varintSize(unsigned(seconds))) + (nanos === 0 ? 0 : 1 + varintSize(unsigned(nanos)));
}

/** Writes a `Timestamp` or `Duration` under `tag`. */
export function writeTime(writer: WireWriter, tag: number, time: SecondsAndNanos, size: number): void {
  writer.header(tag, size);
  if (time.seconds !== 0) {
    writer.varint(8);
    writer.uint64(unsigned(time.seconds));
  }
  if (time.nanos !== 0) {
    writer.varint(16);
    writer.uint64(unsigned(time.nanos));
  }
}

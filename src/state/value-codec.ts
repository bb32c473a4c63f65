/**
 * Hot path: the stored format of values, the marshalled `google.protobuf.Any`. The form in which it is nearly always
 * written, both fields in their order, is read in place; the protobuf library reads all others.
 */
import { fromBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { WindshiftError, quote } from "../errors.ts";

/** A value of any message type. */
export interface Value {
  readonly typeUrl: string;
  readonly value: Uint8Array;
}

const TYPE_URL = 0x0a;
const VALUE = 0x12;

/** The usual form, or undefined. Type URLs of up to 127 ASCII characters: their length is one byte. */
function readUsual(bytes: Buffer): Value | undefined {
  if (bytes.length < 2 || bytes[0] !== TYPE_URL || bytes[1]! >= 0x80) return undefined;
  let at = 2 + bytes[1]!;
  if (at >= bytes.length || bytes[at] !== VALUE) return undefined;
  for (let n = 2; n < at; n++) if (bytes[n]! >= 0x80) return undefined;
  const typeUrl = bytes.toString("latin1", 2, at);
  let length = 0;
  let scale = 1;
  let byte = 0x80;
  for (at += 1; byte >= 0x80 && at < bytes.length && scale <= MAX_SCALE; at++, scale *= 0x80) {
    byte = bytes[at]!;
    length += (byte & 0x7f) * scale;
  }
  // A view, up to the end: nothing follows.
  return byte < 0x80 && at + length === bytes.length ? { typeUrl, value: bytes.subarray(at) } : undefined;
}

/** Of the last of five bytes. */
const MAX_SCALE = 0x80 ** 4;

/** Throws VALUE_UNREADABLE for bytes that somebody else stored and that are no `Any`. */
export function decodeValue(bytes: Buffer, store: string, key: string): Value {
  const usual = readUsual(bytes);
  if (usual !== undefined) return usual;
  try {
    const { typeUrl, value } = fromBinary(AnySchema, bytes);
    return { typeUrl, value };
  } catch (cause) {
    const text = `the value of key ${quote(key)} in store ${quote(store)} is not a google.protobuf.Any`;
    throw new WindshiftError("VALUE_UNREADABLE", text, { metadata: { store, key }, cause });
  }
}

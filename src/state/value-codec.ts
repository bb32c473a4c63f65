/** The stored format of values: the marshalled `google.protobuf.Any`, on the protobuf library's own. */
import { fromBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { WindshiftError, quote } from "../errors.ts";

/** A value of any message type. */
export interface Value {
  readonly typeUrl: string;
  readonly value: Uint8Array;
}

/** Throws VALUE_UNREADABLE for bytes that somebody else stored and that are no `Any`. */
export function decodeValue(bytes: Uint8Array, store: string, key: string): Value {
  try {
    const { typeUrl, value } = fromBinary(AnySchema, bytes);
    return { typeUrl, value };
  } catch (cause) {
    const text = `the value of key ${quote(key)} in store ${quote(store)} is not a google.protobuf.Any`;
    throw new WindshiftError("VALUE_UNREADABLE", text, { metadata: { store, key }, cause });
  }
}

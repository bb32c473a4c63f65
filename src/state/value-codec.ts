/** Hot path: the stored format of values, the marshalled `google.protobuf.Any`, read in place. */
import { WindshiftError, quote } from "../errors.ts";
import { type AnyMessage, decodeAny } from "../protobuf/well-known.ts";

/** A value of any message type. */
export type Value = Readonly<AnyMessage>;

/** Throws VALUE_UNREADABLE for bytes that somebody else stored and that are no `Any`. */
export function decodeValue(bytes: Buffer, store: string, key: string): Value {
  try {
    return decodeAny(bytes);
  } catch (cause) {
    const text = `the value of key ${quote(key)} in store ${quote(store)} is not a google.protobuf.Any`;
    throw new WindshiftError("VALUE_UNREADABLE", text, { metadata: { store, key }, cause });
  }
}

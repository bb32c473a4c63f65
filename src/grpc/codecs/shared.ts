/** Hot path: the well-known types inside hot messages. */
import { type Uint64, type WireReader, type WireWriter, varintSize } from "./wire.ts";

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

/** Reads an `Any`; a second one for the same field goes into the first, as Protobuf wants it. */
export function readAny(reader: WireReader, into: AnyMessage | undefined): AnyMessage {
  const any = into ?? { typeUrl: "", value: EMPTY };
  reader.message((r) => {
    for (let tag = r.tag(); tag !== 0; tag = r.tag()) {
      if (tag === 10) any.typeUrl = r.string();
      else if (tag === 18) any.value = r.bytes();
      else r.skip(tag);
    }
  });
  return any;
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

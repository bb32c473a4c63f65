import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { expect, test } from "vitest";
import { decodeValue } from "../../../src/state/value-codec.ts";

function decode(bytes: Uint8Array): unknown {
  try {
    const { typeUrl, value } = decodeValue(Buffer.from(bytes), "store", "key");
    return { typeUrl, value: Buffer.from(value) };
  } catch {
    return undefined;
  }
}

function reference(bytes: Uint8Array): unknown {
  try {
    const { typeUrl, value } = fromBinary(AnySchema, bytes);
    return { typeUrl, value: Buffer.from(value) };
  } catch {
    return undefined;
  }
}

const text = fc.oneof(
  fc.string(),
  fc.string({ unit: "grapheme" }),
  fc.constant("type.googleapis.com/a.B"),
  fc.constant("x".repeat(128)),
);

test("every value reads as the protobuf library reads it", () => {
  fc.assert(
    fc.property(text, fc.uint8Array({ maxLength: 300 }), (typeUrl, value) => {
      const bytes = toBinary(AnySchema, create(AnySchema, { typeUrl, value }));
      expect(decode(bytes)).toEqual({ typeUrl, value: Buffer.from(value) });
    }),
  );
});

/** True where a field of `Any` has the wire type of another: unknown as Protobuf has it, and the library reads it. */
function hasForeignWireType(bytes: Uint8Array): boolean {
  const reader = new BinaryReader(bytes);
  try {
    while (reader.pos < reader.len) {
      const [number, type] = reader.tag();
      if (number <= 2 && type !== WireType.LengthDelimited) return true;
      reader.skip(type, number);
    }
  } catch {
    // No message at all: for both readers.
  }
  return false;
}

test("so do bytes that somebody else wrote, or that are none", () => {
  const field = fc.oneof(
    fc.constantFrom([0x0a], [0x12], [0x0a, 0x00], [0x12, 0x00], [0x18, 0x01], [0x0a, 0x01, 0x61], [0x12, 0x01, 0xff]),
    fc.constantFrom([0x0a, 0x01, 0xff], [0x12, 0x81, 0x00, 0x07], [0x12, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00]),
    fc.array(fc.integer({ min: 0, max: 255 }), { maxLength: 4 }),
  );
  fc.assert(
    fc.property(fc.array(field, { maxLength: 4 }), (fields) => {
      const bytes = Uint8Array.from(fields.flat());
      if (hasForeignWireType(bytes)) return;
      expect(decode(bytes)).toEqual(reference(bytes));
    }),
    { numRuns: 20_000 },
  );
});

test("a field with the wire type of another is an unknown one", () => {
  expect(decode(Uint8Array.from([0x08, 0x01, 0x12, 0x01, 0x07]))).toEqual({ typeUrl: "", value: Buffer.from([7]) });
});

test("a large value keeps every byte", () => {
  const value = Buffer.alloc(300_000, "ab");
  const bytes = toBinary(AnySchema, create(AnySchema, { typeUrl: "t/a.B", value }));
  expect(decode(bytes)).toEqual({ typeUrl: "t/a.B", value });
});

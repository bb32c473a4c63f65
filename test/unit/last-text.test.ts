import fc from "fast-check";
import { expect, test } from "vitest";
import { LastBytes, LastText } from "../../src/last-text.ts";

const texts = fc.array(
  fc.oneof(
    fc.constantFrom(
      "",
      "a",
      "b",
      "orders.created",
      "orders.deleted",
      "x".repeat(256),
      "x".repeat(257),
      "é".repeat(200),
    ),
    fc.string({ unit: "grapheme", maxLength: 8 }),
  ),
  { maxLength: 12 },
);

test("a text reads the same, whatever was read before", () => {
  fc.assert(
    fc.property(texts, fc.string({ maxLength: 4 }), (all, around) => {
      const last = new LastText();
      for (const text of all) {
        const bytes = Buffer.from(around + text + around);
        const start = Buffer.byteLength(around);
        expect(last.decode(bytes, start, bytes.length - start)).toBe(text);
        // It may be overwritten: what is remembered is a copy.
        bytes.fill(0);
      }
    }),
  );
});

test("bytes that are no UTF-8 read as the same replacement again", () => {
  const last = new LastText();
  const bytes = Buffer.of(0x61, 0xff, 0xfe);
  expect(last.decode(bytes, 0, 3)).toBe(bytes.toString());
  expect(last.decode(bytes, 0, 3)).toBe(bytes.toString());
});

test("a text is written the same, whatever was written before", () => {
  fc.assert(
    fc.property(texts, (all) => {
      const last = new LastBytes();
      for (const text of all) expect(last.encode(text)).toEqual(Buffer.from(text));
    }),
  );
});

test("a text that comes again is the same string, and the same bytes", () => {
  const bytes = new LastBytes();
  expect(bytes.encode("orders.created")).toBe(bytes.encode("orders.created"));
});

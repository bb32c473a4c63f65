/** The status of a call in header fields. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { CallStatus } from "../../../../src/grpc/engine/engine.ts";
import { HpackDecoder } from "../../../../src/grpc/engine/native/hpack.ts";
import { encodeHttpHeaders, encodeTrailers, percentEncode } from "../../../../src/grpc/engine/native/status.ts";

function fieldsOf(block: Buffer): Record<string, string> {
  const fields: Record<string, string> = {};
  new HpackDecoder().decode(block, 0, block.length, ({ name, value }) => void (fields[name] = value));
  return fields;
}

describe("trailers", () => {
  test.each<[CallStatus, Record<string, string>]>([
    [{ code: 0, message: "" }, { "grpc-status": "0" }],
    [
      { code: 5, message: "no such stream" },
      { "grpc-status": "5", "grpc-message": "no such stream" },
    ],
    [{ code: 99, message: "" }, { "grpc-status": "99" }],
    [
      { code: 0, message: "fine" },
      { "grpc-status": "0", "grpc-message": "fine" },
    ],
    [
      { code: 3, message: "", details: Buffer.from([1, 2, 3, 4]) },
      { "grpc-status": "3", "grpc-status-details-bin": "AQIDBA" },
    ],
    [
      { code: 0, message: "", metadata: [["x-cost-bin", "AAEC"]] },
      { "grpc-status": "0", "x-cost-bin": "AAEC" },
    ],
  ])("of %j", (status, fields) => {
    expect(fieldsOf(encodeTrailers(status))).toEqual(fields);
  });
});

describe("messages", () => {
  test.each([
    ["plain text, with (punctuation)!", "plain text, with (punctuation)!"],
    ["100%", "100%25"],
    ["a\nb\tc\r", "a%0Ab%09c%0D"],
    ["é ☺ 😈", "%C3%A9 %E2%98%BA %F0%9F%98%88"],
    ["\x7f\0", "%7F%00"],
    [" a b ", "%20a b%20"],
    ["  a", "%20 a"],
    [" ", "%20"],
    ["", ""],
  ])("%j is %s", (text, encoded) => {
    expect(percentEncode(text)).toBe(encoded);
  });

  test("of any text are printable ASCII and read back", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        const encoded = percentEncode(text);
        expect(encoded).toMatch(/^[\x20-\x7e]*$/);
        expect(encoded.trim()).toBe(encoded);
        expect(Buffer.from(unescapeBytes(encoded))).toEqual(Buffer.from(text));
      }),
    );
  });
});

function unescapeBytes(text: string): number[] {
  const bytes: number[] = [];
  for (let at = 0; at < text.length; at++) {
    if (text[at] !== "%") bytes.push(text.charCodeAt(at));
    else {
      bytes.push(Number.parseInt(text.slice(at + 1, at + 3), 16));
      at += 2;
    }
  }
  return bytes;
}

test("what is no gRPC gets a status of HTTP", () => {
  const type = { "content-type": "text/plain" };
  expect(fieldsOf(encodeHttpHeaders(415))).toEqual({ ":status": "415", ...type });
  expect(fieldsOf(encodeHttpHeaders(405))).toEqual({ ":status": "405", ...type, allow: "POST" });
});

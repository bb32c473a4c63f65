import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { HeaderLines, type NatsMessage, headerValue, statusCode, statusText } from "../../../src/nats/message.ts";
import { natsMessage } from "./nats-message.ts";

function message(headers: string | undefined): NatsMessage {
  return natsMessage({ headers: headers === undefined ? undefined : Buffer.from(headers) });
}

function lines(headers: string): [string, string][] {
  const found: [string, string][] = [];
  for (const each = new HeaderLines(Buffer.from(headers)); each.next();) found.push([each.name, each.value]);
  return found;
}

describe("the status of a message", () => {
  test.for([
    [undefined, 0, ""],
    ["NATS/1.0\r\n\r\n", 0, ""],
    ["NATS/1.0\r\nA: 1\r\n\r\n", 0, ""],
    ["NATS/1.0 503\r\n\r\n", 503, ""],
    ["NATS/1.0 404 Message Not Found\r\n\r\n", 404, "Message Not Found"],
    [
      "NATS/1.0 409 Message Size Exceeds MaxBytes\r\nNats-Pending-Messages: 1\r\n\r\n",
      409,
      "Message Size Exceeds MaxBytes",
    ],
    ["NATS/1.0 100 Idle Heartbeat\r\n\r\n", 100, "Idle Heartbeat"],
  ] as const)("%j is %i %j", ([headers, code, text]) => {
    expect(statusCode(message(headers))).toBe(code);
    if (code > 0) expect(statusText(message(headers))).toBe(text);
  });

  test("a message without headers has no text", () => {
    expect(statusText(message(undefined))).toBe("");
  });
});

describe("headers are read", () => {
  test("in order, without the blanks around their values", () => {
    expect(lines("NATS/1.0\r\nA: 1\r\nB:2\r\nA:  3 \r\n\r\n")).toEqual([
      ["A", "1"],
      ["B", "2"],
      ["A", "3"],
    ]);
  });

  test("after a status", () => {
    expect(lines("NATS/1.0 100 Idle Heartbeat\r\nA: 1\r\n\r\n")).toEqual([["A", "1"]]);
  });

  test("with colons in a value, empty values, and text in UTF-8", () => {
    expect(lines("NATS/1.0\r\nA: b:c\r\nB:\r\nC: é✓\r\n\r\n")).toEqual([
      ["A", "b:c"],
      ["B", ""],
      ["C", "é✓"],
    ]);
  });

  test("past lines without a colon, and without a name", () => {
    expect(lines("NATS/1.0\r\nnonsense\r\n: x\r\nA: 1\r\n\r\n")).toContainEqual(["A", "1"]);
  });

  test("as they were written, whatever they hold", () => {
    const name = fc.string({ unit: fc.constantFrom(..."ABCxyz-_09".split("")), minLength: 1, maxLength: 10 });
    const value = fc.string({ unit: "grapheme", maxLength: 20 }).map((text) => text.replace(/[\r\n]/g, "").trim());
    fc.assert(
      fc.property(fc.array(fc.tuple(name, value), { maxLength: 8 }), (headers) => {
        const block = headers.map(([key, text]) => `${key}: ${text}\r\n`).join("");
        expect(lines(`NATS/1.0\r\n${block}\r\n`)).toEqual(headers);
      }),
    );
  });

  test("to an end, whatever the bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        for (const each = new HeaderLines(Buffer.from(bytes)); each.next();) expect(each.value).toBeDefined();
      }),
    );
  });
});

describe("one header", () => {
  const headers = "NATS/1.0\r\nNats-Msg-Id: a\r\nnats-msg-id: b\r\nEmpty:\r\n\r\n";

  test.for([
    ["Nats-Msg-Id", "a"],
    ["NATS-MSG-ID", "a"],
    ["Empty", ""],
    ["Nats-Msg", undefined],
  ] as const)("%s is %j", ([name, value]) => {
    expect(headerValue(message(headers), name)).toBe(value);
  });

  test("of a message without headers is none", () => {
    expect(headerValue(message(undefined), "A")).toBeUndefined();
  });
});

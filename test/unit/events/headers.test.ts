import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { dataTypeOf, decodeHeaders, encodeHeaders, storedKey, typeUrlOf } from "../../../src/events/headers.ts";
import { MAX_SECONDS, MIN_SECONDS, parseTimestamp } from "../../../src/events/timestamp.ts";
import type { NatsMessage } from "../../../src/nats/message.ts";
import { natsMessage } from "../nats/nats-message.ts";

const publishedAt = { seconds: 1_700_000_000, nanos: 120_000_000 };

function stored(block: string | undefined): NatsMessage {
  return natsMessage({ headers: block === undefined ? undefined : Buffer.from(block) });
}

function block(...lines: string[]): NatsMessage {
  return stored(`NATS/1.0\r\n${lines.map((line) => `${line}\r\n`).join("")}\r\n`);
}

test("what was written is read again", () => {
  const text = fc.string({ unit: "grapheme", minLength: 1, maxLength: 30 });
  const headers = fc.record({
    dataType: fc.constantFrom("", "acme.orders.v1.OrderCreated"),
    publishedAt: fc.record({
      seconds: fc.integer({ min: MIN_SECONDS, max: MAX_SECONDS }),
      nanos: fc.integer({ min: 0, max: 999_999_999 }),
    }),
    idempotencyKey: fc.option(text.map(storedKey), { nil: undefined }),
    traceParent: fc.option(fc.constant("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), { nil: undefined }),
    traceState: fc.option(fc.constant("vendor=value,other=:a"), { nil: undefined }),
    attributes: fc.option(
      fc
        .dictionary(fc.constantFrom("a", "ce-id", "natsy", "~!"), fc.string({ unit: fc.constantFrom("b", "é", ":") }), {
          minKeys: 1,
        })
        .map((all): [string, string][] => Object.entries(all)),
      { nil: undefined },
    ),
  });
  fc.assert(
    fc.property(headers, (written) => {
      expect(decodeHeaders(stored(encodeHeaders(written)))).toEqual(written);
    }),
  );
});

test("what was read before makes no difference", () => {
  const line = fc.constantFrom(
    "WS-Data-Type: acme.A",
    "WS-Data-Type: acme.B",
    "WS-Published-Time: 2020-01-01T00:00:00Z",
    "Nats-Msg-Id: k",
    "WS-Trace-Parent: 00-a-b-01",
    "WS-Replay-Consumer: s/c",
    "WS-Idempotency-Key: own",
    "tenant: a",
    `tenant: ${"a".repeat(600)}`,
  );
  const time = fc.constantFrom("2023-11-14T22:13:20Z", "2023-11-14T22:13:20.123456789Z", "", "no time");
  const one = fc.record({ time, lines: fc.array(line, { maxLength: 3 }) });
  fc.assert(
    fc.property(fc.array(one, { minLength: 2, maxLength: 6 }), (all) => {
      for (const { time: written, lines } of all) {
        // Names that are written otherwise are read line by line.
        const expected = decodeHeaders(block(`ws-published-time: ${written}`, ...lines));
        expect(decodeHeaders(block(`WS-Published-Time: ${written}`, ...lines))).toEqual(expected);
      }
    }),
  );
});

test("no key makes headers of its own", () => {
  const key = fc.string({ unit: fc.constantFrom("a", " ", "\r", "\n", ":", "é", "✓", "\0") }).map(storedKey);
  fc.assert(
    fc.property(key, (idempotencyKey) => {
      const lines = encodeHeaders({ dataType: "", publishedAt, idempotencyKey }).split("\r\n");
      expect(lines).toHaveLength(6);
      expect(lines[3]).toBe(`Nats-Msg-Id: ${idempotencyKey}`);
    }),
  );
});

test("reading never throws, whatever is stored", () => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 80 }),
    fc
      .string({ unit: fc.constantFrom(..."N\r\n: aWS-Data-Type".split("")), maxLength: 60 })
      .map((text) => Buffer.from(text)),
  );
  fc.assert(
    fc.property(bytes, (headers) => {
      decodeHeaders({ ...stored(undefined), headers: Buffer.from(headers) });
    }),
  );
});

describe("the stored format is the one of the contract", () => {
  test("with all headers", () => {
    const written = encodeHeaders({
      dataType: "acme.A",
      publishedAt,
      idempotencyKey: "key-1",
      expectedLastSequence: 18_446_744_073_709_551_615n,
      traceParent: "00-a-b-01",
      traceState: "v=1",
    });
    expect(written.split("\r\n")).toEqual([
      "NATS/1.0",
      "WS-Published-Time: 2023-11-14T22:13:20.12Z",
      "WS-Data-Type: acme.A",
      "Nats-Msg-Id: key-1",
      "Nats-Expected-Last-Subject-Sequence: 18446744073709551615",
      "WS-Trace-Parent: 00-a-b-01",
      "WS-Trace-State: v=1",
      "",
      "",
    ]);
  });

  interface Sample {
    readonly case: string;
    readonly type_url?: string;
    readonly request?: { readonly idempotencyKey?: string };
    readonly stored: { readonly headers: Record<string, string[]> };
  }
  const samples = (
    JSON.parse(readFileSync(new URL("../../interop/samples.json", import.meta.url), "utf8")) as { events: Sample[] }
  ).events;

  test.for(samples)("as the original stored it: $case", ({ type_url: typeUrl, request, stored: { headers } }) => {
    const first = (name: string): string | undefined => headers[name]?.[0];
    const written = encodeHeaders({
      dataType: typeUrl === undefined ? first("WS-Data-Type")! : dataTypeOf(typeUrl),
      publishedAt: parseTimestamp(first("WS-Published-Time")!)!,
      idempotencyKey: request?.idempotencyKey,
      traceParent: first("WS-Trace-Parent"),
      traceState: first("WS-Trace-State"),
    });
    const lines = Object.entries(headers).map(([name, values]) => `${name}: ${values[0]}`);
    expect(written.split("\r\n").slice(1, -2).sort()).toEqual(lines.sort());
  });
});

describe("the stored type of a type URL", () => {
  test.for([
    ["type.googleapis.com/acme.orders.v1.OrderCreated", "acme.orders.v1.OrderCreated"],
    ["example.com/deep/path/acme.A", "acme.A"],
    ["acme.A", "acme.A"],
    ["/acme.A", "acme.A"],
    ["_a.B1", "_a.B1"],
    ["", ""],
    ["type.googleapis.com/", ""],
    ["type.googleapis.com/acme..A", ""],
    ["type.googleapis.com/1a", ""],
    ["type.googleapis.com/a b", ""],
    ["type.googleapis.com/a\r\nNats-Rollup: all", ""],
    ["type.googleapis.com/é", ""],
  ] as const)("%j is %j", ([typeUrl, dataType]) => {
    expect(dataTypeOf(typeUrl)).toBe(dataType);
  });

  test.for([
    ["acme.A", "type.googleapis.com/acme.A"],
    ["", "type.googleapis.com/"],
    [undefined, ""],
  ] as const)("%j is delivered as %j", ([dataType, typeUrl]) => {
    expect(typeUrlOf(dataType)).toBe(typeUrl);
  });
});

describe("a key is stored", () => {
  test.for([
    ["key-1", "key-1"],
    ["a\nb", "a b"],
    ["a\r\nNats-Rollup: all", "a  Nats-Rollup: all"],
    ["\n a \r", "a"],
    ["\r\n", ""],
    ["", ""],
  ] as const)("%j as %j", ([key, asStored]) => {
    expect(storedKey(key)).toBe(asStored);
  });
});

describe("headers that others stored", () => {
  const nothing = {
    dataType: undefined,
    publishedAt: undefined,
    idempotencyKey: undefined,
    traceParent: undefined,
    traceState: undefined,
    attributes: undefined,
  };
  const time = "2023-11-14T22:13:20.12Z";

  test("none at all", () => {
    expect(decodeHeaders(stored(undefined))).toEqual(nothing);
  });

  test("none of ours", () => {
    expect(decodeHeaders(block("Nats-Expected-Stream: s", "WS-Other: x", "nats-ttl: 1s", "ws-: x"))).toEqual(nothing);
  });

  test("others are attributes, the first of those that differ by case alone", () => {
    const { attributes } = decodeHeaders(block("Tenant: a", "b:", "TENANT: c", "Nats: d", "ws_e: f"));
    expect(attributes).toEqual([
      ["Tenant", "a"],
      ["b", ""],
      ["Nats", "d"],
      ["ws_e", "f"],
    ]);
  });

  test.for(["größe: x", ": x", "a b: x", "a : x", "a\0: x", `${"n".repeat(257)}: x`])(
    "a name that nobody could publish is no attribute: %j",
    (line) => {
      expect(decodeHeaders(block(line)).attributes).toBeUndefined();
    },
  );

  test("bytes that are no text come out as text", () => {
    const bytes = Buffer.concat([Buffer.from("NATS/1.0\r\na: "), Buffer.from([0xff]), Buffer.from("\r\n\r\n")]);
    expect(decodeHeaders({ ...stored(undefined), headers: bytes }).attributes).toEqual([["a", "\ufffd"]]);
  });

  test("the key of an event that was scheduled is its key", () => {
    expect(decodeHeaders(block("WS-Idempotency-Key: k", "Nats-Scheduler: s")).idempotencyKey).toBe("k");
  });

  test("names are compared without case", () => {
    const headers = decodeHeaders(block("ws-data-type: acme.A", `WS-PUBLISHED-TIME: ${time}`, "nats-msg-id:k"));
    expect(headers).toEqual({ ...nothing, dataType: "acme.A", publishedAt, idempotencyKey: "k" });
  });

  test("of a repeated one the first counts", () => {
    expect(decodeHeaders(block("Nats-Msg-Id: a", "Nats-Msg-Id: b")).idempotencyKey).toBe("a");
  });

  test("a time that cannot be read is none", () => {
    const { publishedAt: found, dataType } = decodeHeaders(block("WS-Published-Time: today", "WS-Data-Type: acme.A"));
    expect({ found, dataType }).toEqual({ found: undefined, dataType: "acme.A" });
  });

  test("a time with an offset is read", () => {
    expect(decodeHeaders(block("WS-Published-Time: 2023-11-15T00:13:20.12+02:00")).publishedAt).toEqual(publishedAt);
  });

  test("an empty type is a type", () => {
    expect(decodeHeaders(block("WS-Data-Type:")).dataType).toBe("");
  });
});

test("a key that is nearly all blanks is read in one go", () => {
  // A pattern that looks for blanks at the end takes minutes for this one, and nothing else runs meanwhile.
  expect(storedKey(`a${" ".repeat(1_000_000)}b `)).toHaveLength(1_000_002);
});

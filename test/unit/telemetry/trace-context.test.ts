import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  NO_TRACE,
  formatTraceParent,
  parseTraceParent,
  readTraceContext,
  traceContextReader,
} from "../../../src/telemetry/trace-context.ts";

const TRACE = "0af7651916cd43dd8448eb211c80319c";
const SPAN = "b7ad6b7169203331";
const VALID = `00-${TRACE}-${SPAN}-01`;

function carrier(values: Record<string, string>): Map<string, string> {
  return new Map(Object.entries(values));
}

describe("a traceparent", () => {
  test("is taken apart", () => {
    expect(parseTraceParent(VALID)).toEqual({ traceId: TRACE, spanId: SPAN, flags: 1 });
    expect(parseTraceParent(`00-${TRACE}-${SPAN}-ff`)?.flags).toBe(255);
  });

  test.each([
    ["empty", ""],
    ["too short", VALID.slice(0, -1)],
    ["too long for its version", `${VALID}-00`],
    ["with something behind it", `${VALID}x`],
    ["with a line break", `${VALID}\n`],
    ["in capitals", VALID.toUpperCase()],
    ["of the forbidden version", `ff-${TRACE}-${SPAN}-01`],
    ["without a trace", `00-${"0".repeat(32)}-${SPAN}-01`],
    ["without a span", `00-${TRACE}-${"0".repeat(16)}-01`],
    ["with other separators", VALID.replaceAll("-", "_")],
    ["of a later version with something glued to it", `01-${TRACE}-${SPAN}-01x`],
  ])("%s is not valid", (_, text) => {
    expect(parseTraceParent(text)).toBeUndefined();
  });

  test("survives being written and read", () => {
    const hex = (length: number): fc.Arbitrary<string> =>
      fc
        .string({ unit: fc.constantFrom(..."0123456789abcdef".split("")), minLength: length, maxLength: length })
        .filter((text) => /[^0]/.test(text));
    const parts = fc.record({ traceId: hex(32), spanId: hex(16), flags: fc.nat(255) });
    fc.assert(
      fc.property(parts, (parent) => {
        expect(parseTraceParent(formatTraceParent(parent))).toEqual(parent);
      }),
    );
  });

  test("is refused, whatever else a client sends", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 60 }), (text) => parseTraceParent(text) === undefined),
    );
  });
});

describe("the trace of a call", () => {
  test("is what the client sent", () => {
    const context = readTraceContext(carrier({ traceparent: VALID, tracestate: "a=1,b=2" }));
    expect(context).toEqual({ traceParent: VALID, traceState: "a=1,b=2" });
  });

  test.each([
    ["later version", `01-${TRACE}-${SPAN}-01`, VALID],
    ["later version with more parts", `cc-${TRACE}-${SPAN}-03-what-ever`, VALID],
    ["later version, not sampled", `01-${TRACE}-${SPAN}-02`, `00-${TRACE}-${SPAN}-00`],
  ])("of a %s is brought down to version 00", (_, traceparent, expected) => {
    expect(readTraceContext(carrier({ traceparent }))).toEqual({ traceParent: expected, traceState: undefined });
  });

  test("is none without a valid traceparent, whatever the tracestate", () => {
    expect(readTraceContext(carrier({ tracestate: "a=1" }))).toBe(NO_TRACE);
    expect(readTraceContext(carrier({ traceparent: "x", tracestate: "a=1" }))).toBe(NO_TRACE);
  });

  test.each([
    ["empty", "", undefined],
    ["blank", "  ", undefined],
    ["with blanks around it", " a=1 ", "a=1"],
    ["of 512 characters", "a".repeat(512), "a".repeat(512)],
    ["of 513 characters", "a".repeat(513), undefined],
    ["with a line break", "a=1\r\nNats-Msg-Id: x", undefined],
    ["beyond ASCII", "a=ü", undefined],
  ])("has a tracestate %s", (_, tracestate, expected) => {
    expect(readTraceContext(carrier({ traceparent: VALID, tracestate })).traceState).toBe(expected);
  });

  test("has no tracestate that could break a header, whatever a client sends", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 10 }), (tracestate) => {
        const { traceState = "a" } = readTraceContext(carrier({ traceparent: VALID, tracestate }));
        return /^[ -~]+$/.test(traceState);
      }),
    );
  });

  test.each([
    [["tracecontext", "baggage"], VALID],
    [["baggage"], undefined],
    [["none"], undefined],
  ])("with propagators %o is %s", (propagators, expected) => {
    expect(traceContextReader(propagators)(carrier({ traceparent: VALID })).traceParent).toBe(expected);
  });
});

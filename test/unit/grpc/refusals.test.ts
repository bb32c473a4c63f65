import { fromBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { describe, expect, onTestFinished, test } from "vitest";
import { ErrorInfoSchema, RetryInfoSchema } from "../../../src/gen/google/rpc/error_details_pb.ts";
import { StatusSchema } from "../../../src/gen/google/rpc/status_pb.ts";
import {
  type CallStatus,
  type EngineOptions,
  REFUSAL_CODES,
  type Refusal,
  type RefusalKind,
} from "../../../src/grpc/engine/engine.ts";
import { refusalReport } from "../../../src/grpc/refusals.ts";
import type { Distribution } from "../../../src/telemetry/instruments.ts";
import { createLogger } from "../../../src/telemetry/logger.ts";
import { Metrics } from "../../../src/telemetry/metrics.ts";

const KINDS = Object.keys(REFUSAL_CODES) as RefusalKind[];

interface Started {
  readonly report: NonNullable<EngineOptions["onRefused"]>;
  readonly lines: Record<string, unknown>[];
  /** Series of calls, by method. */
  readonly counts: () => [method: unknown, count: number][];
  /** Seconds of all calls. */
  readonly seconds: () => number;
}

function start(): Started {
  const metrics = new Metrics();
  onTestFinished(() => metrics.stop());
  const lines: Record<string, unknown>[] = [];
  const destination = { write: (line: string) => void lines.push(JSON.parse(line) as Record<string, unknown>) };
  const calls = metrics.instruments.find(({ definition }) => definition.name === "rpc.server.call.duration")!;
  return {
    report: refusalReport(createLogger({ level: "debug", development: false, destination }), metrics),
    lines,
    counts: () => calls.collect().map(({ labels, value }) => [labels["rpc.method"], (value as Distribution).count]),
    seconds: () => calls.collect().reduce((all, { value }) => all + (value as Distribution).sum, 0),
  };
}

function refusal(rest: Partial<Refusal> = {}): Refusal {
  const kind = rest.kind ?? "unknown_method";
  const common = { path: "/a.B/C", peer: "127.0.0.1:1", openedAt: performance.now(), isHandled: false };
  return { kind, code: REFUSAL_CODES[kind], message: "the message", ...common, ...rest };
}

function outcomeOf({ details }: CallStatus): string | undefined {
  const [info] = fromBinary(StatusSchema, details!).details;
  return anyUnpack(info!, ErrorInfoSchema)!.metadata["outcome"];
}

describe.for(KINDS)("a refusal for %s", (kind) => {
  test.for([true, false])("has the engine's code and message (handled: %s)", (isHandled) => {
    const status = start().report(refusal({ kind, isHandled }));
    expect(status).toMatchObject({ code: REFUSAL_CODES[kind], message: "the message" });
    expect(fromBinary(StatusSchema, status.details!)).toMatchObject({ code: REFUSAL_CODES[kind] });
  });

  test("says that nothing was stored where its code leaves that open, and no handler had the call", () => {
    const { report } = start();
    const isOpen = [4, 8].includes(REFUSAL_CODES[kind]);
    expect(outcomeOf(report(refusal({ kind })))).toBe(isOpen ? "not_stored" : undefined);
    expect(outcomeOf(report(refusal({ kind, isHandled: true })))).toBeUndefined();
  });
});

test.for([true, false])("only an overload asks clients to come again (handled: %s)", (isHandled) => {
  const { report } = start();
  const retried = KINDS.filter((kind) => {
    const { details } = fromBinary(StatusSchema, report(refusal({ kind, isHandled })).details!);
    return details.some((detail) => anyUnpack(detail, RetryInfoSchema)?.retryDelay?.nanos === 100_000_000);
  });
  expect(retried).toEqual(["overloaded"]);
});

describe("a flood of refusals", () => {
  test("is one series and a few lines, however many paths clients invent", () => {
    const { report, lines, counts } = start();
    const since = performance.now();
    for (let i = 0; i < 1000; i++) report(refusal({ path: `/a.B/C${i}` }));
    const seconds = Math.ceil((performance.now() - since) / 1000);
    expect(lines.length).toBeLessThanOrEqual(50 * seconds);
    expect(counts()).toEqual([["_OTHER", 1000]]);
  });

  test("leaves no line out of other refusals", () => {
    const { report, lines } = start();
    for (let i = 0; i < 1000; i++) report(refusal());
    report(refusal({ kind: "overloaded" }));
    expect(lines.at(-1)).toMatchObject({ reason: "OVERLOADED" });
  });
});

test("a call that has a handler is neither logged nor counted here", () => {
  const { report, lines, counts } = start();
  report(refusal({ isHandled: true }));
  expect([lines, counts()]).toEqual([[], []]);
});

test("a line holds no more than a part of a long path", () => {
  const { report, lines } = start();
  report(refusal({ path: `/${"x".repeat(10_000)}` }));
  expect(lines).toMatchObject([{ path: `"/${"x".repeat(99)}…"` }]);
});

test("a line and a count tell how long the call took", () => {
  const { report, lines, seconds } = start();
  report(refusal({ openedAt: performance.now() - 5_000 }));
  expect(lines[0]!["ms"]).toBeGreaterThanOrEqual(5_000);
  expect(seconds()).toBeGreaterThanOrEqual(5);
});

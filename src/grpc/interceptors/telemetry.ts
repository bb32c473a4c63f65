/** Metrics, traces and logs of calls: one interceptor each. Without an exporter a call pays for one addition. */
import { performance } from "node:perf_hooks";
import { LineLimit } from "../../telemetry/line-limit.ts";
import type { Logger } from "../../telemetry/logger.ts";
import type { Metrics } from "../../telemetry/metrics.ts";
import type { Telemetry } from "../../telemetry/telemetry.ts";
import type { ActiveSpan } from "../../telemetry/tracing.ts";
import type { Reason, WindshiftError } from "../../errors.ts";
import { Code } from "../errors.ts";
import type { CallStatus } from "../engine/engine.ts";
import type { Interceptor } from "../server.ts";

/** Counts calls and measures how long they take. */
export function metricsInterceptor(metrics: Metrics): Interceptor {
  return {
    end(call, { code }) {
      metrics.rpc(call.name).record(code, (performance.now() - call.startedAt) / 1000);
    },
  };
}

/** Reads the client's trace context; where traces are recorded, the call gets a span and passes that on. */
export function tracingInterceptor({ tracing, readTraceContext }: Telemetry): Interceptor {
  return {
    start(call) {
      const parent = readTraceContext(call.engineCall.metadata);
      call.traceParent = parent.traceParent;
      call.traceState = parent.traceState;
      // A subscription may live for weeks: its events have spans, it has none.
      if (!tracing.enabled || !call.isUnary) return;
      const span = tracing.startCall(call.name, call.engineCall.peer, parent);
      if (span === undefined) return;
      call.span = span;
      call.traceParent = span.traceParent;
      call.traceState = span.traceState;
    },
    end(call, { code }) {
      if (call.span !== undefined) (call.span as ActiveSpan).endCall(code);
    },
  };
}

type Level = "error" | "warn" | "info" | "debug";

/** What a failed call is to an operator: our fault, somebody's load, or everyday life. */
const LEVELS: Readonly<Record<number, Level>> = {
  [Code.CANCELLED]: "debug",
  [Code.INTERNAL]: "error",
  [Code.DATA_LOSS]: "error",
  [Code.UNAVAILABLE]: "warn",
  [Code.RESOURCE_EXHAUSTED]: "warn",
  [Code.DEADLINE_EXCEEDED]: "warn",
};

/** What is otherwise with a reason than with others of its code. */
const LEVELS_OF_REASONS: Readonly<Partial<Record<Reason, Level>>> = {
  // The engine has told of those already.
  SLOW_CLIENT: "debug",
  // INTERNAL only because gRPC's specification says so: it is the client's fault, not ours.
  PROTOCOL_ERROR: "info",
};

/** Lines for one method and reason in a second. */
const LINES_PER_SECOND = 50;

/** A failed call, for its line in the log. */
interface FailedCall {
  /** Of a method that exists, or the name for all others: lines are counted by it. */
  readonly name: string;
  /** What the client called, where that is not said by the name. */
  readonly path?: string;
  readonly peer: string;
  /** Who called, where that was proved. */
  readonly principal?: string | undefined;
  /** On the monotonic clock. */
  readonly startedAt: number;
  readonly traceParent?: string | undefined;
}

/** Writes a line for each failed call, and of a flood of the same a part; payloads never. */
export class FailureLog {
  readonly #logger: Logger;
  readonly #limit = new LineLimit(LINES_PER_SECOND, {
    onQuiet: (kind, leftOut) => this.#logger.warn({ kind, leftOut }, "lines about calls that failed were left out"),
  });

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  write(call: FailedCall, { code, message }: CallStatus, error: WindshiftError | undefined): void {
    const level = (error && LEVELS_OF_REASONS[error.reason]) ?? LEVELS[code] ?? "info";
    if (!this.#logger.isLevelEnabled(level)) return;
    const leftOut = this.#limit.admit(`${call.name} ${error?.reason ?? code}`);
    if (leftOut === undefined) return;
    this.#logger[level]({ ...fields(call, code, error), ...(leftOut === 0 ? {} : { leftOut }) }, message);
  }
}

/** Logs calls that fail. */
export function loggingInterceptor(logger: Logger): Interceptor {
  const log = new FailureLog(logger);
  return {
    end({ name, engineCall, caller, startedAt, traceParent }, status, error) {
      if (status.code === Code.OK) return;
      const { principal } = caller ?? {};
      const who = principal === undefined || principal.kind === "anonymous" ? undefined : principal.name;
      log.write({ name, peer: engineCall.peer, principal: who, startedAt, traceParent }, status, error);
    },
  };
}

function fields(call: FailedCall, code: number, error: WindshiftError | undefined): object {
  return {
    method: call.name,
    ...(call.path === undefined ? {} : { path: call.path }),
    code: Object.keys(Code)[Object.values(Code).indexOf(code as never)] ?? code,
    reason: error?.reason,
    peer: call.peer,
    ...(call.principal === undefined ? {} : { principal: call.principal }),
    ms: Math.round(performance.now() - call.startedAt),
    ...traceFields(call.traceParent),
    ...(error?.cause === undefined ? {} : { err: error.cause }),
  };
}

function traceFields(traceParent: string | undefined): object {
  if (traceParent === undefined) return {};
  const [, traceId, spanId] = traceParent.split("-");
  return { trace_id: traceId, span_id: spanId };
}

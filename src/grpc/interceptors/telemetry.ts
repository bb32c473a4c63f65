/** Metrics, traces and logs of calls: one interceptor each. Without an exporter a call pays for one addition. */
import { LineLimit } from "../../telemetry/line-limit.ts";
import type { Logger } from "../../telemetry/logger.ts";
import type { Metrics } from "../../telemetry/metrics.ts";
import type { Telemetry } from "../../telemetry/telemetry.ts";
import type { ActiveSpan } from "../../telemetry/tracing.ts";
import type { WindshiftError } from "../../errors.ts";
import { Code } from "../errors.ts";
import type { Interceptor, ServerCall } from "../server.ts";

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

/** Lines for one method and reason in a second. */
const LINES_PER_SECOND = 50;

/** One line for each failed call, and of a flood of the same a part; payloads never. */
export function loggingInterceptor(logger: Logger): Interceptor {
  const limit = new LineLimit(LINES_PER_SECOND);
  return {
    end(call, { code, message }, error) {
      if (code === Code.OK) return;
      // The engine has told of those already.
      const level = error?.reason === "SLOW_CLIENT" ? "debug" : (LEVELS[code] ?? "info");
      if (!logger.isLevelEnabled(level)) return;
      const leftOut = limit.admit(`${call.name} ${error?.reason ?? code}`);
      if (leftOut === undefined) return;
      logger[level]({ ...fields(call, code, error), ...(leftOut === 0 ? {} : { leftOut }) }, message);
    },
  };
}

function fields(call: ServerCall, code: number, error: WindshiftError | undefined): object {
  return {
    method: call.name,
    code: Object.keys(Code)[Object.values(Code).indexOf(code as never)] ?? code,
    reason: error?.reason,
    peer: call.engineCall.peer,
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

/**
 * OpenTelemetry's `NodeSDK`, told everything explicitly: left to itself it would send logs to localhost, patch modules and
 * carry a context through every promise. Loaded only when something is exported or spans are logged; it takes 0.3 s and
 * 40 MiB.
 */
import {
  type ContextManager,
  type HrTime,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  metrics,
  trace,
} from "@opentelemetry/api";
import type { Resource } from "@opentelemetry/resources";
import type { MetricReader } from "@opentelemetry/sdk-metrics";
import { NodeSDK } from "@opentelemetry/sdk-node";
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  ParentBasedSampler,
  type ReadableSpan,
  type Sampler,
  type SpanProcessor,
  TraceIdRatioBasedSampler,
} from "@opentelemetry/sdk-trace";
import type { Logger } from "./logger.ts";

/** A running SDK. Stopping it sends what is still waiting. */
export interface RunningSdk {
  getTracer(name: string, version: string): Tracer;
  stop(): Promise<void>;
}

/** Starts the SDK with these parts alone. It registers itself globally, so a process has one at a time. */
export function startSdk(parts: {
  readonly resource: Resource;
  readonly sampler: Sampler;
  readonly spanProcessors: SpanProcessor[];
  readonly metricReaders: MetricReader[];
}): RunningSdk {
  const sdk = new NodeSDK({
    ...parts,
    autoDetectResources: false,
    logRecordProcessors: [],
    textMapPropagator: null,
    contextManager: NO_CONTEXT,
  });
  sdk.start();
  return {
    getTracer: (name, version) => trace.getTracer(name, version),
    stop: async () => {
      await sdk.shutdown();
      trace.disable();
      metrics.disable();
    },
  };
}

/** Contexts are passed by hand: a context manager would make every promise of the process dearer. */
const NO_CONTEXT: ContextManager = {
  active: () => ROOT_CONTEXT,
  with: (_context, fn, thisArg, ...args) => fn.call(thisArg as ThisParameterType<typeof fn>, ...args),
  bind: (_context, target) => target,
  enable: () => NO_CONTEXT,
  disable: () => NO_CONTEXT,
};

/** The sampler of a value of `OTEL_TRACES_SAMPLER`; `ratio` is its argument. */
export function createSampler(name: string, ratio: number): Sampler {
  const root = rootSampler(name.replace("parentbased_", ""), ratio);
  return name.startsWith("parentbased_") ? new ParentBasedSampler({ root }) : root;
}

function rootSampler(name: string, ratio: number): Sampler {
  switch (name) {
    case "always_off":
      return new AlwaysOffSampler();
    case "traceidratio":
      return new TraceIdRatioBasedSampler(ratio);
    default:
      return new AlwaysOnSampler();
  }
}

/** `OTEL_TRACING_LOG`: writes finished spans to the log, for those who have no collector at hand. */
export function logSpanProcessor(logger: Logger): SpanProcessor {
  return {
    onStart: () => {},
    onEnd: (span) => logger.info(describe(span), "span"),
    forceFlush: () => Promise.resolve(),
    shutdown: () => Promise.resolve(),
  };
}

function describe(span: ReadableSpan): object {
  const { traceId, spanId } = span.spanContext();
  return {
    span: span.name,
    kind: SpanKind[span.kind].toLowerCase(),
    traceId,
    spanId,
    parentSpanId: span.parentSpanContext?.spanId,
    durationMs: milliseconds(span.duration),
    failed: span.status.code === SpanStatusCode.ERROR ? (span.status.message ?? true) : undefined,
    attributes: span.attributes,
  };
}

function milliseconds([seconds, nanoseconds]: HrTime): number {
  return seconds * 1000 + nanoseconds / 1e6;
}

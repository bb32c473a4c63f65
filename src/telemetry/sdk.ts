/** OpenTelemetry's tracer, put together from the SDK's parts. Loaded only when spans are recorded. */
import { type HrTime, SpanKind, SpanStatusCode, type Tracer } from "@opentelemetry/api";
import type { Resource } from "@opentelemetry/resources";
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  ParentBasedSampler,
  type ReadableSpan,
  type Sampler,
  type SpanProcessor,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from "@opentelemetry/sdk-trace";
import type { Logger } from "./logger.ts";

/** A tracer that can be stopped; stopping sends what is still waiting. */
export interface StoppableTracer {
  readonly tracer: Tracer;
  stop(): Promise<void>;
}

/** Creates a tracer. It is not registered globally: whoever makes spans is given it, and several servers can coexist. */
export function createTracer(
  scope: { readonly name: string; readonly version: string },
  resource: Resource,
  sampler: Sampler,
  spanProcessors: SpanProcessor[],
): StoppableTracer {
  const provider = new TracerProvider({ resource, sampler, spanProcessors });
  return { tracer: provider.getTracer(scope.name, scope.version), stop: () => provider.shutdown() };
}

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

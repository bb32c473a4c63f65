/**
 * Telemetry of one server: starts what the configuration asks for and nothing else. Metrics are always counted (that is
 * one addition each) and always there for `/metrics`; the OpenTelemetry SDK is loaded only where something is exported,
 * logged or scraped.
 */
import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import type { Resource } from "@opentelemetry/resources";
import { within } from "../within.ts";
import { logDiagnostics } from "./diagnostics.ts";
import type { Logger } from "./logger.ts";
import { Metrics } from "./metrics.ts";
import type { RunningSdk } from "./sdk.ts";
import { type TraceCarrier, type TraceContext, traceContextReader } from "./trace-context.ts";
import { Tracing } from "./tracing.ts";

/** Where one kind of telemetry goes; without an endpoint nowhere. */
interface OtlpOptions {
  readonly endpoint: string | undefined;
  readonly timeoutMs: number;
  readonly headers: Readonly<Record<string, string>>;
}

/** What to record and where to send it. */
export interface TelemetryOptions {
  /** No spans and no exports; metrics are still counted. */
  readonly disabled: boolean;
  readonly serviceName: string;
  readonly resourceAttributes: Readonly<Record<string, string>>;
  /** As in `OTEL_PROPAGATORS`. */
  readonly propagators: readonly string[];
  /** Finished spans go to the log. */
  readonly tracingLog: boolean;
  readonly sampler: { readonly name: string; readonly ratio: number };
  readonly traces: OtlpOptions;
  readonly metrics: OtlpOptions & {
    readonly intervalMs: number;
    /** At most the interval. */
    readonly collectTimeoutMs: number;
  };
}

/** What the telemetry cannot find in its options. */
export interface TelemetryContext {
  /** The server's version. */
  readonly version: string;
  /** Names this process among all servers; a random one unless given. */
  readonly instance?: string;
  /** How long the last export may hold up the end; 2 s unless given. */
  readonly flushTimeoutMs?: number;
}

/** Running telemetry. Disposing it sends what is still waiting, within a time limit. */
export interface Telemetry extends AsyncDisposable {
  readonly metrics: Metrics;
  readonly tracing: Tracing;
  /** False: every span would be thrown away, so do not begin one. */
  readonly tracingEnabled: boolean;
  /** The trace that a call belongs to, if the configuration lets it count. */
  readTraceContext(carrier: TraceCarrier): TraceContext;
  /** All metrics in the Prometheus text format. */
  renderPrometheus(): Promise<string>;
}

const FLUSH_TIMEOUT_MS = 2000;
const SCOPE_NAME = "windshift";

/** Starts the telemetry of one server. */
export async function startTelemetry(
  options: TelemetryOptions,
  logger: Logger,
  { version, instance = randomUUID(), flushTimeoutMs = FLUSH_TIMEOUT_MS }: TelemetryContext,
): Promise<Telemetry> {
  const metrics = new Metrics();
  const resource = resourceAttributes(options, version, instance);
  const sdk = await startExport(options, metrics, logger, version, resource);
  const isTracing = options.tracingLog || options.traces.endpoint !== undefined;
  const tracing = new Tracing(isTracing ? sdk?.getTracer(SCOPE_NAME, version) : undefined);
  // After the exporters: reading OTEL_… variables with a unit, they would complain that `10s` is not a number.
  if (sdk !== undefined) logDiagnostics(logger);

  let render: Promise<() => Promise<string>> | undefined;
  return {
    metrics,
    tracing,
    tracingEnabled: tracing.enabled,
    readTraceContext: traceContextReader(options.propagators),
    renderPrometheus: async () => (await (render ??= loadRenderer(metrics, version, resource)))(),
    [Symbol.asyncDispose]: async () => {
      metrics.stop();
      if (sdk === undefined) return;
      if (!(await within(flushTimeoutMs, sdk.stop())))
        logger.warn({ flushTimeoutMs }, "telemetry was not sent in time");
    },
  };
}

async function startExport(
  { disabled, tracingLog, traces, sampler, metrics: target }: TelemetryOptions,
  metrics: Metrics,
  logger: Logger,
  version: string,
  attributes: Attributes,
): Promise<RunningSdk | undefined> {
  if (disabled) return undefined;
  const spanProcessors = [];
  const metricReaders = [];
  if (tracingLog) spanProcessors.push((await import("./sdk.ts")).logSpanProcessor(logger));
  if (traces.endpoint !== undefined) {
    const { otlpSpanProcessor } = await import("./otlp.ts");
    spanProcessors.push(otlpSpanProcessor({ ...traces, endpoint: traces.endpoint }));
  }
  if (target.endpoint !== undefined) {
    const { otlpMetricReader } = await import("./otlp.ts");
    const { metricProducer } = await import("./metric-producer.ts");
    const producer = metricProducer(metrics, { name: SCOPE_NAME, version }, "otlp");
    metricReaders.push(otlpMetricReader({ ...target, endpoint: target.endpoint }, producer));
  }
  if (spanProcessors.length + metricReaders.length === 0) return undefined;
  const { createSampler, startSdk } = await import("./sdk.ts");
  const resource = await createResource(attributes);
  return startSdk({ resource, sampler: createSampler(sampler.name, sampler.ratio), spanProcessors, metricReaders });
}

async function loadRenderer(metrics: Metrics, version: string, attributes: Attributes): Promise<() => Promise<string>> {
  const { prometheusRenderer } = await import("./prometheus.ts");
  const { metricProducer } = await import("./metric-producer.ts");
  const producer = metricProducer(metrics, { name: SCOPE_NAME, version }, "prometheus");
  return prometheusRenderer(producer, await createResource(attributes));
}

type Attributes = Readonly<Record<string, string | number>>;

/** What identifies this process in traces and metrics; the operator's attributes win, the service's name over all. */
function resourceAttributes(
  { serviceName, resourceAttributes: own }: TelemetryOptions,
  version: string,
  instance: string,
): Attributes {
  return {
    "service.version": version,
    "service.instance.id": instance,
    "host.name": hostname(),
    "process.pid": process.pid,
    "process.runtime.name": "nodejs",
    "process.runtime.version": process.versions.node,
    ...own,
    "service.name": serviceName,
  };
}

async function createResource(attributes: Attributes): Promise<Resource> {
  const { defaultResource, resourceFromAttributes } = await import("@opentelemetry/resources");
  return defaultResource().merge(resourceFromAttributes(attributes));
}

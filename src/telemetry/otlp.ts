/**
 * The exporters, over OTLP and gRPC. Every timeout and interval is passed explicitly: the exporters would read
 * `OTEL_EXPORTER_OTLP_TIMEOUT` and its like as milliseconds, where we and the original mean seconds. What we do not set
 * (compression, certificates) they take from OpenTelemetry's own variables.
 */
import { Metadata } from "@grpc/grpc-js";
import { OTLPMetricExporter } from "@opentelemetry/exporter-metrics-otlp-grpc";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-grpc";
import { type MetricProducer, type MetricReader, PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";
import { BatchSpanProcessor, type SpanProcessor } from "@opentelemetry/sdk-trace";

/** Where one kind of telemetry goes. */
export interface OtlpTarget {
  /** `http://host:port` or `https://host:port`. */
  readonly endpoint: string;
  /** How long one export may take. */
  readonly timeoutMs: number;
  /** Sent with every export. */
  readonly headers: Readonly<Record<string, string>>;
}

/** A processor that sends spans in batches, each within the target's timeout. */
export function otlpSpanProcessor(target: OtlpTarget): SpanProcessor {
  const exporter = new OTLPTraceExporter(exporterOptions(target));
  return new BatchSpanProcessor({ exporter, exportTimeoutMillis: target.timeoutMs });
}

/** A reader that sends the producer's metrics every `intervalMs`. */
export function otlpMetricReader(
  target: OtlpTarget & { readonly intervalMs: number; readonly collectTimeoutMs: number },
  producer: MetricProducer,
): MetricReader {
  return new PeriodicExportingMetricReader({
    exporter: new OTLPMetricExporter(exporterOptions(target)),
    exportIntervalMillis: target.intervalMs,
    exportTimeoutMillis: target.collectTimeoutMs,
    metricProducers: [producer],
  });
}

function exporterOptions({ endpoint, timeoutMs, headers }: OtlpTarget): {
  url: string;
  timeoutMillis: number;
  metadata: Metadata;
} {
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
  return { url: endpoint, timeoutMillis: timeoutMs, metadata };
}

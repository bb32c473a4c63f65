/** The text for `/metrics`. Loaded at the first scrape. */
import { PrometheusExporter, PrometheusSerializer } from "@opentelemetry/exporter-prometheus";
import type { Resource } from "@opentelemetry/resources";
import { MeterProvider, type MetricProducer } from "@opentelemetry/sdk-metrics";

/** Renders the producer's metrics in the Prometheus text format. The exporter's own HTTP server stays off. */
export function prometheusRenderer(producer: MetricProducer, resource: Resource): () => Promise<string> {
  const reader = new PrometheusExporter({ preventServerStart: true, metricProducers: [producer] });
  // A reader collects only when it belongs to a provider, which also lends it the resource.
  new MeterProvider({ resource, readers: [reader] });
  const serializer = new PrometheusSerializer("", false, undefined, false, true);
  return async () => `${serializer.serialize((await reader.collect()).resourceMetrics).trimEnd()}\n`;
}

/**
 * Hands our instruments to OpenTelemetry's readers: a `MetricProducer` beside the SDK's own. Loaded only when something
 * is exported or scraped, since the SDK takes 100 ms and 20 MiB.
 */
import { type HrTime, ValueType } from "@opentelemetry/api";
import {
  AggregationTemporality,
  type CollectionResult,
  type DataPoint,
  DataPointType,
  type MetricData,
  type MetricDescriptor,
  type MetricProducer,
} from "@opentelemetry/sdk-metrics";
import { emptyResource } from "@opentelemetry/resources";
import type { Definition, Distribution, Instrument, Sample } from "./instruments.ts";
import type { Metrics } from "./metrics.ts";

/** How an exporter wants metrics to be called. */
export type Naming = "otlp" | "prometheus";

/** A producer over all instruments. Values are cumulative since the metrics were created. */
export function metricProducer(
  metrics: Metrics,
  scope: { readonly name: string; readonly version: string },
  naming: Naming,
): MetricProducer {
  const startTime = hrTime(metrics.startedAt);
  return {
    collect: () => {
      const endTime = hrTime(Date.now());
      const data = metrics.instruments
        .map((instrument) => metricData(instrument, naming, startTime, endTime))
        .filter(({ dataPoints }) => dataPoints.length > 0);
      const scopeMetrics = [{ scope, metrics: data }];
      // The reader puts the SDK's resource in the place of this one.
      return Promise.resolve<CollectionResult>({
        resourceMetrics: { resource: emptyResource(), scopeMetrics },
        errors: [],
      });
    },
  };
}

function metricData(instrument: Instrument, naming: Naming, startTime: HrTime, endTime: HrTime): MetricData {
  const { definition, boundaries } = instrument;
  const samples = instrument.collect();
  const point = <T>({ labels }: Sample, value: T): DataPoint<T> => ({
    startTime,
    endTime,
    attributes: labels,
    value,
  });
  const common = {
    descriptor: descriptor(definition, naming),
    aggregationTemporality: AggregationTemporality.CUMULATIVE,
  };
  if (definition.kind === "histogram") {
    const dataPoints = samples.flatMap((sample) =>
      typeof sample.value === "number" ? [] : [point(sample, histogram(sample.value, boundaries))],
    );
    return { ...common, dataPointType: DataPointType.HISTOGRAM, dataPoints };
  }
  const dataPoints = samples.flatMap((sample) =>
    typeof sample.value === "number" ? [point(sample, sample.value)] : [],
  );
  return definition.kind === "gauge"
    ? { ...common, dataPointType: DataPointType.GAUGE, dataPoints }
    : {
        ...common,
        dataPointType: DataPointType.SUM,
        dataPoints,
        isMonotonic: definition.kind === "counter",
      };
}

function histogram(
  { counts, ...totals }: Distribution,
  boundaries: readonly number[],
): {
  buckets: { boundaries: number[]; counts: number[] };
  count: number;
  sum: number;
  min: number;
  max: number;
} {
  return { ...totals, buckets: { boundaries: [...boundaries], counts: [...counts] } };
}

const SUFFIXES: Readonly<Record<string, string>> = { s: "seconds", By: "bytes" };

/** Prometheus has the unit in the name, where the OpenTelemetry collector puts it as well; its serializer does not. */
function descriptor({ name, description, unit }: Definition, naming: Naming): MetricDescriptor {
  const suffix = SUFFIXES[unit];
  return naming === "prometheus"
    ? {
        name: suffix === undefined ? name : `${name}.${suffix}`,
        description,
        unit: "",
        valueType: ValueType.DOUBLE,
      }
    : { name, description, unit, valueType: ValueType.DOUBLE };
}

function hrTime(milliseconds: number): HrTime {
  return [Math.floor(milliseconds / 1000), (milliseconds % 1000) * 1_000_000];
}

/** What the soak found: limits that were broken, figures, and a drawing. */
import type { Levels, Rest, Sample } from "./soak-levels.ts";
import { judgeHandles } from "./soak-levels.ts";
import type { LoadEnd, LoadSample } from "./soak-load.ts";
import { drawPlot } from "../support/plot.ts";
import { type Point, judgeTrend, secondHalf, trendOf } from "./soak-trend.ts";

/** What may be added over the second half, by the slope of its samples. */
const MAX_RSS_GROWTH_MIB = 16;
const MAX_HEAP_GROWTH_MIB = 8;
/** What may be added to the heap right after a collection, at rest. */
const MAX_LIVE_GROWTH_MIB = 4;

/** All that was measured. */
export interface Run {
  readonly capacity: number;
  readonly rate: number;
  readonly minutes: number;
  readonly samples: readonly Sample[];
  /** Warm, with the subscriptions that stay, and no load. */
  readonly before: Rest;
  readonly after: Rest;
  readonly end: LoadEnd;
}

/** Limits of memory and handles, and what clients saw. */
export function judge({ samples, before, after, end }: Run): string[] {
  const found = [
    judgeTrend("RSS", pointsOf(samples, "rssMib"), MAX_RSS_GROWTH_MIB, "MiB"),
    judgeTrend("the heap", pointsOf(samples, "heapMib"), MAX_HEAP_GROWTH_MIB, "MiB"),
  ].filter((text) => text !== undefined);
  const grown = after.liveMib - before.liveMib;
  if (!(grown <= MAX_LIVE_GROWTH_MIB)) {
    found.push(`the heap after a collection grew by ${grown.toFixed(1)} MiB, ${MAX_LIVE_GROWTH_MIB} MiB being allowed`);
  }
  found.push(...judgeHandles(before, after));
  const { missed, invented, duplicated, examples } = end.verdict;
  const named = examples.length === 0 ? "" : `, for example ${examples.join(", ")}`;
  if (missed > 0) found.push(`${missed} events were published and not delivered and acknowledged${named}`);
  if (invented > 0) found.push(`${invented} events were delivered and not published${named}`);
  if (duplicated > 0) found.push(`${duplicated} events came again after their confirmed ack${named}`);
  if (end.problemCount > 0) found.push(`${end.problemCount} problems: ${end.problems.join("; ")}`);
  return found;
}

function pointsOf(samples: readonly Sample[], name: keyof Levels): Point[] {
  return samples.map((one) => ({ at: one.at, value: one[name] })).filter(({ value }) => Number.isFinite(value));
}

/** The figures, a line each; the first two go into the drawing. */
export function figuresOf({ samples, minutes, rate, before, after, end, capacity }: Run): string[] {
  const [first, last] = [samples[0]!, samples.at(-1)!];
  const seconds = last.at - first.at;
  const events = last.load.confirmed - first.load.confirmed;
  const half = (name: keyof Levels): string => {
    const { slope, growth, mean } = trendOf(secondHalf(pointsOf(samples, name)));
    return `mean ${mean.toFixed(1)} MiB, slope ${(slope * 3600).toFixed(1)} MiB/h, which is ${growth.toFixed(1)} MiB over it`;
  };
  const cores = (micros: (one: Sample) => number): number => (micros(last) - micros(first)) / 1e6 / seconds;
  const [server, nats, load] = [
    cores(({ serverMicros }) => serverMicros),
    cores(({ natsMicros }) => natsMicros),
    cores(({ loadMicros }) => loadMicros),
  ];
  const others = Math.max(0, cores(({ machineMicros: micros }) => micros) - server - nats - load);
  const { orderly, cancelled, dropped } = end.left;
  const delivery = samples.map(({ load: one }) => one.delivery);
  const publish = samples.map(({ load: one }) => one.publish);
  return [
    `${rate} events/s for ${minutes} min at a capacity of ${whole(capacity)}/s: ${whole(end.verdict.published)} events published, ` +
      `${end.verdict.missed} missed, ${end.verdict.duplicated} again after their confirmed ack`,
    `${whole(end.came)} subscriptions came and went: ${orderly} half closed, ${cancelled} cancelled, ${dropped} dropped; ` +
      `${whole(end.verdict.redelivered)} events were handed on to others`,
    `throughput: ${whole(events / seconds)} events/s acknowledged, ${((server * 1e6 * seconds) / events).toFixed(0)} µs of server CPU each`,
    `cores used: server ${server.toFixed(2)}, NATS ${nats.toFixed(2)}, load ${load.toFixed(2)}, others ${others.toFixed(2)}`,
    `latency from when a publish was due, median over the samples: event p50 ${medianOf(delivery.map(({ p50 }) => p50))} ms, ` +
      `p99 ${medianOf(delivery.map(({ p99 }) => p99))} ms; id p50 ${medianOf(publish.map(({ p50 }) => p50))} ms, ` +
      `p99 ${medianOf(publish.map(({ p99 }) => p99))} ms`,
    `RSS over the second half: ${half("rssMib")} (limit ${MAX_RSS_GROWTH_MIB} MiB)`,
    `heap over the second half: ${half("heapMib")} (limit ${MAX_HEAP_GROWTH_MIB} MiB)`,
    `at rest before and after: heap after a collection ${before.liveMib.toFixed(1)}, ${after.liveMib.toFixed(1)} MiB ` +
      `(limit +${MAX_LIVE_GROWTH_MIB} MiB); RSS ${before.rssMib.toFixed(0)}, ${after.rssMib.toFixed(0)} MiB; ` +
      `files ${before.files}, ${after.files}; NATS subscriptions ${before.natsSubscriptions}, ` +
      `${after.natsSubscriptions}; consumers ${before.consumers}, ${after.consumers}; subscriptions ${before.subscriptions}, ` +
      `${after.subscriptions}; unsettled ${before.unsettled}, ${after.unsettled}`,
  ];
}

function medianOf(values: readonly number[]): string {
  return (values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN).toFixed(1);
}

export function whole(value: number): string {
  return Math.round(value).toLocaleString("en");
}

/** The samples over time. */
export function draw({ samples, minutes, rate, capacity }: Run, lines: readonly string[]): string {
  const over = (value: (one: Sample, last: Sample | undefined) => number) =>
    samples.map((one, n) => [one.at / 60, value(one, samples[n - 1])] as const);
  const perSecond = (count: (load: LoadSample) => number) =>
    over((one, last) => (last === undefined ? Number.NaN : (count(one.load) - count(last.load)) / (one.at - last.at)));
  return drawPlot({
    title: `Soak: ${minutes} minutes at ${Math.round((rate / capacity) * 100)} % of capacity`,
    lines,
    marks: [{ at: minutes / 2, label: "trends are taken from here" }],
    panels: [
      {
        title: "Throughput",
        unit: "events/s",
        series: [
          { name: "published", points: perSecond(({ published }) => published) },
          { name: "acknowledged", points: perSecond(({ confirmed }) => confirmed) },
        ],
      },
      {
        title: "From when a publish was due to the event",
        unit: "ms",
        series: [
          { name: "p99", points: over(({ load }) => load.delivery.p99) },
          { name: "p50", points: over(({ load }) => load.delivery.p50) },
        ],
      },
      {
        title: "Memory of the server",
        unit: "MiB",
        series: [
          { name: "RSS", points: over(({ rssMib }) => rssMib) },
          { name: "heap in use", points: over(({ heapMib }) => heapMib) },
        ],
      },
      {
        title: "What the server holds",
        unit: "count",
        series: [
          { name: "files", points: over(({ files }) => files) },
          { name: "NATS subscriptions", points: over(({ natsSubscriptions }) => natsSubscriptions) },
          { name: "subscriptions", points: over(({ subscriptions }) => subscriptions) },
          { name: "consumers", points: over(({ consumers }) => consumers) },
        ],
      },
    ],
  });
}

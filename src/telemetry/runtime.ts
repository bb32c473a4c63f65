/** What Node says about its own process: delays of the event loop, memory, processor time. */
import { monitorEventLoopDelay } from "node:perf_hooks";
import { getHeapSpaceStatistics } from "node:v8";
import { type Definition, type Instrument, Observed, type Sample } from "./instruments.ts";

const RESOLUTION_MS = 20;
/** Percentiles tell of the last one to two minutes: a histogram over the whole life would hide today's delays. */
const WINDOW_MS = 60_000;

/** Delay of the event loop, seen by a timer that fires every 20 ms. Runs until `stop`. */
export class EventLoopDelay {
  readonly #histogram: ReturnType<typeof monitorEventLoopDelay> = monitorEventLoopDelay({
    resolution: RESOLUTION_MS,
  });
  readonly #now: () => number;
  #since: number;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
    this.#since = now();
    this.#histogram.enable();
  }

  /** The three instruments. Several exporters may read them: none of them resets what another would read. */
  instruments(): Instrument[] {
    return [
      this.#observed("p50", "median", () => this.#histogram.percentile(50)),
      this.#observed("p99", "99th percentile", () => this.#histogram.percentile(99)),
      this.#observed("max", "maximum", () => this.#histogram.max, true),
    ];
  }

  stop(): void {
    this.#histogram.disable();
  }

  #observed(suffix: string, description: string, nanoseconds: () => number, last = false): Instrument {
    const definition = gauge(`nodejs.eventloop.delay.${suffix}`, "s", `Delay of the event loop, ${description}.`);
    return new Observed(definition, () => {
      if (this.#histogram.count === 0) return [];
      // The histogram holds the time between two firings, which is the resolution when nothing is late.
      const value = Math.max(0, nanoseconds() / 1e9 - RESOLUTION_MS / 1000);
      if (last) this.#startOver();
      return [{ labels: {}, value }];
    });
  }

  #startOver(): void {
    if (this.#now() - this.#since < WINDOW_MS) return;
    this.#since = this.#now();
    this.#histogram.reset();
  }
}

/** Memory and processor time. */
export function processInstruments(): Instrument[] {
  return [
    new Observed({ ...gauge("process.memory.usage", "By", "Resident memory of the process."), kind: "updown" }, () => [
      { labels: {}, value: process.memoryUsage.rss() },
    ]),
    new Observed(
      {
        ...gauge("v8js.memory.heap.used", "By", "Used heap by its space."),
        kind: "updown",
        attributes: ["v8js.heap.space.name"],
      },
      heapSpaces,
    ),
    new Observed(
      {
        ...gauge("process.cpu.time", "s", "Processor time of the process."),
        kind: "counter",
        attributes: ["cpu.mode"],
      },
      cpuTime,
    ),
  ];
}

function gauge(name: string, unit: string, description: string): Definition {
  return { name, kind: "gauge", unit, description, attributes: [] };
}

function heapSpaces(): Sample[] {
  return getHeapSpaceStatistics().map(({ space_name, space_used_size }) => ({
    labels: { "v8js.heap.space.name": space_name },
    value: space_used_size,
  }));
}

function cpuTime(): Sample[] {
  const { user, system } = process.cpuUsage();
  return [
    { labels: { "cpu.mode": "user" }, value: user / 1e6 },
    { labels: { "cpu.mode": "system" }, value: system / 1e6 },
  ];
}

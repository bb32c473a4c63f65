/**
 * Instruments whose measurements cost one addition. Events flow at tens of thousands a second, and each touches several
 * counters: an OpenTelemetry counter would build and hash an attribute object every time. Here a hot path asks its
 * family once for the handle of its label set and then adds to a plain field; exporters read the fields when they collect
 * (`metric-producer.ts`).
 */

/** Attributes of one series. */
export type Labels = Readonly<Record<string, string | boolean>>;

/** What an instrument is, as `docs/telemetry.md` lists it. */
export interface Definition {
  readonly name: string;
  /** `counter` only grows, `updown` is summed over servers, `gauge` is a state of this one. */
  readonly kind: "counter" | "updown" | "gauge" | "histogram";
  /** Unit as UCUM writes it: `s`, `By`, `{event}`. */
  readonly unit: string;
  readonly description: string;
  /** Names of the labels a series may have. */
  readonly attributes: readonly string[];
}

/** What a histogram has counted. */
export interface Distribution {
  readonly counts: readonly number[];
  readonly count: number;
  readonly sum: number;
  readonly min: number;
  readonly max: number;
}

/** One series at the moment of its collection. */
export interface Sample {
  readonly labels: Labels;
  readonly value: number | Distribution;
}

/** Anything that can be collected. */
export interface Instrument {
  readonly definition: Definition;
  /** Upper bounds of a histogram's buckets; empty for other kinds. */
  readonly boundaries: readonly number[];
  collect(): Sample[];
}

/** Handle of a series that only grows. */
export class Count {
  value = 0;

  /** Adds `n`, which is not negative. */
  add(n: number): void {
    this.value += n;
  }
}

/** Handle of a series that goes up and down. Without an initial value it is reported from its first one on. */
export class Level {
  value: number | undefined;

  constructor(initial?: number) {
    this.value = initial;
  }

  set(value: number): void {
    this.value = value;
  }

  add(n: number): void {
    this.value = (this.value ?? 0) + n;
  }
}

/** Handle of a series that counts values by size. */
export class Histogram implements Distribution {
  readonly counts: number[];
  readonly #boundaries: readonly number[];
  count = 0;
  sum = 0;
  min: number = Infinity;
  max: number = -Infinity;

  constructor(boundaries: readonly number[]) {
    this.#boundaries = boundaries;
    this.counts = boundaries.map(() => 0);
    this.counts.push(0);
  }

  /** Counts one value. */
  record(value: number): void {
    const boundaries = this.#boundaries;
    let bucket = 0;
    // Bounds are inclusive; calls are fast, so the search ends early.
    while (bucket < boundaries.length && value > (boundaries[bucket] ?? Infinity)) bucket++;
    this.counts[bucket] = (this.counts[bucket] ?? 0) + 1;
    this.count++;
    this.sum += value;
    if (value < this.min) this.min = value;
    if (value > this.max) this.max = value;
  }
}

/** OpenTelemetry's limit too. Beyond it one series collects the rest, and the memory stays bounded. */
export const MAX_SERIES = 2000;

/** OpenTelemetry's mark for the series that collects what is over the limit. */
export const OVERFLOW: Labels = Object.freeze({ "otel.metric.overflow": true });

/** All series of one instrument, by their labels. Series live as long as the family. */
export class Family<Point extends Count | Level | Histogram> implements Instrument {
  readonly definition: Definition;
  readonly boundaries: readonly number[];
  readonly #create: () => Point;
  readonly #series = new Map<string, { readonly labels: Labels; readonly point: Point }>();
  #overflow: Point | undefined;

  constructor(definition: Definition, create: () => Point, boundaries: readonly number[] = []) {
    this.definition = definition;
    this.boundaries = boundaries;
    this.#create = create;
  }

  /** The handle of a label set: ask once, keep it. Labels are those of the definition; some may be left out. */
  with(labels: Labels): Point {
    const key = this.definition.attributes.map((name) => labels[name] ?? "").join("\0");
    const known = this.#series.get(key);
    if (known !== undefined) return known.point;
    if (this.#series.size >= MAX_SERIES) return (this.#overflow ??= this.#create());
    const point = this.#create();
    this.#series.set(key, { labels, point });
    return point;
  }

  collect(): Sample[] {
    const samples: Sample[] = [];
    for (const { labels, point } of this.#series.values()) addSample(samples, labels, point);
    if (this.#overflow !== undefined) addSample(samples, OVERFLOW, this.#overflow);
    return samples;
  }
}

/** An instrument that is read when it is collected, and costs nothing in between. */
export class Observed implements Instrument {
  readonly definition: Definition;
  readonly boundaries: readonly number[] = [];
  readonly #read: () => Sample[];

  constructor(definition: Definition, read: () => Sample[]) {
    this.definition = definition;
    this.#read = read;
  }

  collect(): Sample[] {
    return this.#read();
  }
}

function addSample(samples: Sample[], labels: Labels, point: Count | Level | Histogram): void {
  if (point instanceof Histogram) {
    const { count, sum, min, max } = point;
    samples.push({ labels, value: { counts: [...point.counts], count, sum, min, max } });
  } else if (point.value !== undefined) {
    samples.push({ labels, value: point.value });
  }
}

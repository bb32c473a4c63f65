/** Whether a level stays: the slope of its samples by least squares. */

/** A sample: when, in seconds, and how much. */
export interface Point {
  readonly at: number;
  readonly value: number;
}

/** What the samples of a time say. */
export interface Trend {
  /** Growth a second. */
  readonly slope: number;
  /** What that slope adds from the first sample to the last. */
  readonly growth: number;
  readonly mean: number;
}

/** The slope through all points; none through fewer than two moments. */
export function trendOf(points: readonly Point[]): Trend {
  if (points.length === 0) return { slope: 0, growth: 0, mean: 0 };
  const meanAt = points.reduce((sum, { at }) => sum + at, 0) / points.length;
  const mean = points.reduce((sum, { value }) => sum + value, 0) / points.length;
  let products = 0;
  let squares = 0;
  for (const { at, value } of points) {
    products += (at - meanAt) * (value - mean);
    squares += (at - meanAt) ** 2;
  }
  const slope = squares === 0 ? 0 : products / squares;
  return { slope, growth: slope * (points.at(-1)!.at - points[0]!.at), mean };
}

/** The points of the second half of a time, by when they were taken. */
export function secondHalf(points: readonly Point[]): Point[] {
  const [first, last] = [points[0], points.at(-1)];
  if (first === undefined || last === undefined) return [];
  const middle = (first.at + last.at) / 2;
  return points.filter(({ at }) => at >= middle);
}

/** Says when a level grew by more than is allowed over the second half. */
export function judgeTrend(
  name: string,
  points: readonly Point[],
  maxGrowth: number,
  unit: string,
): string | undefined {
  const later = secondHalf(points);
  if (later.length === 0) return `${name} was not measured over the second half`;
  const { growth } = trendOf(later);
  if (growth <= maxGrowth) return undefined;
  return `${name} grew by ${growth.toFixed(1)} ${unit} over the second half, ${maxGrowth} ${unit} being allowed`;
}

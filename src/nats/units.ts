/** JetStream's units: it counts durations in whole nanoseconds, everything else here in milliseconds. */

const NANOSECONDS_PER_MS = 1_000_000;

/** Whole nanoseconds: JetStream refuses the fraction that a number of milliseconds easily leaves (4517.792156). */
export function nanoseconds(ms: number): number {
  return Math.round(ms * NANOSECONDS_PER_MS);
}

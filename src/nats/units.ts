/** JetStream's units: it counts durations in whole nanoseconds, everything else here in milliseconds; no limit is -1. */

const NANOSECONDS_PER_MS = 1_000_000;
const MAX_INT64 = 2 ** 63;

/** Whole nanoseconds: JetStream refuses the fraction that a number of milliseconds easily leaves (4517.792156). */
export function nanoseconds(ms: number): number {
  return Math.round(ms * NANOSECONDS_PER_MS);
}

/** Milliseconds, with fractions. */
export function milliseconds(ns: number): number {
  return ns / NANOSECONDS_PER_MS;
}

/** JetStream's word for a limit: 0, and what would not fit into its signed integer, are none. */
export function limit(value: bigint | undefined): number {
  // As a number: the last 512 below 2^63 are rounded up to it.
  const count = Number(value ?? 0n);
  return count === 0 || count >= MAX_INT64 ? -1 : count;
}

/** `grpc-timeout`: how long the client waits. */

const UNITS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 1e-3, n: 1e-6 };
const TIMEOUT = /^(\d{1,8})([HMSmun])$/;

/** Milliseconds, with fractions; undefined where the value is none. */
export function parseTimeout(value: string): number | undefined {
  const [, digits, unit] = TIMEOUT.exec(value) ?? [];
  return digits === undefined ? undefined : Number(digits) * UNITS[unit!]!;
}

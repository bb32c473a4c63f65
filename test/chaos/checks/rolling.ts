/** Promise 8: a rolling restart fails no publish that is retried with its key. */
import { type Evidence, type Violation, at, hadItsTurn } from "./evidence.ts";

/** A client that got an error finds a server that works, and is answered, within this time. */
const STORED_WITHIN_MS = 5_000;

export function checkRolling(evidence: Evidence): Violation[] {
  const violations: Violation[] = [];
  const add = (text: string): void => void violations.push({ check: "rolling", text });
  for (const { name, start, end } of evidence.faults) {
    const others = evidence.faults.filter((other) => other.start < end && other.end > start - STORED_WITHIN_MS);
    if (name !== "rolling_restart" || others.length > 1) continue;
    const begun = new Map<string, number>();
    for (const entry of evidence.entries) {
      if (entry.e === "publish" && entry.retries && entry.t >= start && entry.t <= end && !begun.has(entry.key)) {
        begun.set(entry.key, entry.t);
      } else if (entry.e === "publish_failed" && begun.has(entry.key) && entry.code !== "UNAVAILABLE") {
        add(`${entry.key} failed as ${entry.code} (${entry.text ?? ""}) at ${at(evidence, entry.t)}`);
      }
    }
    const stored = new Map(
      evidence.entries.flatMap((entry) => (entry.e === "published" ? [[entry.key, entry.t]] : [])),
    );
    for (const [key, t] of begun) {
      const ms = (stored.get(key) ?? Infinity) - t;
      if (ms <= STORED_WITHIN_MS || !hadItsTurn(evidence, t, t + STORED_WITHIN_MS)) continue;
      add(`${key}, published at ${at(evidence, t)}, took ${Math.round(ms)} ms with all its repetitions`);
    }
  }
  return violations;
}

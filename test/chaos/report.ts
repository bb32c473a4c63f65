/** What a run says: on the terminal for people, as JSON for whoever keeps it. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Outcome } from "./run.ts";
import type { Planned } from "./schedule.ts";

const MAX_SHOWN = 12;
const SEEN = [
  "stored",
  "event",
  "confirmed",
  "state_done",
  "ended",
  "resumed",
  "slowest resume in ms",
  "keys undecided",
];

/** Prints a round; a failed one with all that is needed to repeat it. */
export function printRound(label: string, outcome: Outcome, schedule: readonly Planned[]): void {
  const { violations, counts, faults, skipped } = outcome;
  const seen = SEEN.map((name) => `${counts[name] ?? 0} ${name}`);
  const verdict = violations.length === 0 ? "ok" : `${violations.length} VIOLATIONS`;
  const done = faults.toSorted((a, b) => a.start - b.start).map(({ name }) => name);
  print(`${label} seed ${outcome.seed}: ${verdict}; ${seen.join(", ")}; ${done.join(", ") || "no faults"}`);
  if (skipped.length > 0) print(`  skipped: ${skipped.join(", ")}`);
  if (violations.length === 0) return;
  const kinds: Record<string, number> = {};
  for (const { check } of violations) kinds[check] = (kinds[check] ?? 0) + 1;
  print(
    `  ${Object.entries(kinds)
      .map(([kind, count]) => `${kind}: ${count}`)
      .join(", ")}`,
  );
  for (const { check, text } of violations.slice(0, MAX_SHOWN)) print(`  [${check}] ${text}`);
  if (violations.length > MAX_SHOWN) print(`  … and ${violations.length - MAX_SHOWN} more`);
  print(`  schedule: ${schedule.map(({ name, atMs, forMs }) => `${name}@${atMs}+${forMs}`).join(" ")}`);
  print(`  histories and logs: ${outcome.folder}`);
}

/** Writes a round down, next to its histories. */
export function writeRound(outcome: Outcome, schedule: readonly Planned[]): void {
  writeFileSync(join(outcome.folder, "report.json"), JSON.stringify({ ...outcome, schedule }, undefined, 2));
}

/** A line for people. */
export function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

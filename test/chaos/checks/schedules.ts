/** Scheduled events appear once and not early, unless they were taken back. */
import { type Evidence, type Violation, excused } from "./evidence.ts";

/** NATS looks for what is due every so often. */
const FIRES_WITHIN_MS = 1_000;

interface Fate {
  readonly dueMs: number;
  readonly dueT: number;
  /** When that was first heard. */
  scheduledAt: number | undefined;
  /** What the answer was to somebody who asked to take it back. */
  isCancelled: boolean | undefined;
  /** Such questions without an answer. */
  unanswered: number;
}

export function checkSchedules(evidence: Evidence): Violation[] {
  const violations: Violation[] = [];
  const add = (text: string): void => void violations.push({ check: "schedules", text });
  const fates = new Map<string, Fate>();
  for (const entry of evidence.entries) {
    if (entry.e === "schedule" && !fates.has(entry.key)) {
      fates.set(entry.key, {
        dueMs: entry.dueMs,
        dueT: entry.dueT,
        scheduledAt: undefined,
        isCancelled: undefined,
        unanswered: 0,
      });
    } else if (entry.e === "scheduled") {
      fates.get(entry.key)!.scheduledAt ??= entry.t;
    } else if (entry.e === "cancel") {
      fates.get(entry.key)!.unanswered += 1;
    } else if (entry.e === "cancel_done") {
      const fate = fates.get(entry.key)!;
      fate.unanswered -= 1;
      if (fate.isCancelled !== true) fate.isCancelled = entry.cancelled;
    }
  }
  const stored = new Map<string, number[]>();
  for (const { key, id, atMs = Infinity } of evidence.stored) {
    const fate = key === undefined ? undefined : fates.get(key);
    if (fate === undefined) continue;
    stored.set(key!, [...(stored.get(key!) ?? []), id]);
    if (atMs < fate.dueMs) add(`${key} appeared as ${id}, ${fate.dueMs - atMs} ms before its time`);
  }
  for (const [key, { dueT, scheduledAt, isCancelled, unanswered }] of fates) {
    const ids = stored.get(key) ?? [];
    if (ids.length > 1) add(`${key} appeared as ${ids.join(" and ")}`);
    if (ids.length > 0 && isCancelled === true) add(`${key} appeared as ${ids.join(", ")}, and was taken back`);
    if (ids.length > 0 || scheduledAt === undefined) continue;
    // It may have been accepted as late as its answer was heard. One that finds its stream full is tried again by the next leader, which need not come (nats-server 2.14.0).
    if (excused(evidence, "full", dueT, Math.max(dueT, scheduledAt) + FIRES_WITHIN_MS)) continue;
    // Taken back, or by a call whose answer was lost: the next one finds nothing.
    if (isCancelled === true || unanswered > 0) continue;
    add(`${key} was scheduled, and did not appear${isCancelled === false ? ", nor was it taken back" : ""}`);
  }
  return violations;
}

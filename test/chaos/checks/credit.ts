/**
 * Promise 4: never more unsettled events than the window. The client sees less than the server: an event counts only
 * as long as the server cannot have let go of it, that is from its arrival to the moment the client sent a settlement,
 * or to the earliest moment at which its time can have run out. A settlement that failed makes it count again.
 */
import { type Evidence, SLACK_MS, type Violation, at, bySubscription, holdMs, stalledMs } from "./evidence.ts";
import type { Entry } from "../history.ts";

/** What is counted off the time for a round trip to NATS. */
const ROUND_TRIP_MS = 200;

export function checkCredit(evidence: Evidence): Violation[] {
  return [...bySubscription(evidence.entries)].flatMap(([sub, entries]) => checkOne(evidence, sub, entries));
}

function checkOne(evidence: Evidence, sub: string, entries: readonly Entry[]): Violation[] {
  /** Until when the server holds an event for sure. */
  const held = new Map<number, number>();
  const settling = new Map<number, number>();
  /** Settlements under way; one that was sent before its event came counts for it too. */
  const open = new Map<number, number>();
  let window = Infinity;
  let hold = 0;
  let subscribedAt = 0;
  for (const entry of entries) {
    if (entry.e === "subscribe") {
      ({ window } = entry);
      subscribedAt = entry.t;
    } else if (entry.e === "subscribed") {
      hold = holdMs(entry.timeoutMs);
    } else if (entry.e === "settle" && entry.kind !== "ping") {
      for (const id of entry.ids) {
        open.set(id, (open.get(id) ?? 0) + 1);
        const until = held.get(id);
        if (until === undefined) continue;
        settling.set(id, until);
        held.delete(id);
      }
    } else if (entry.e === "confirmed" && entry.kind !== "ping") {
      for (const id of entry.failed) {
        const until = settling.get(id);
        if (until !== undefined) held.set(id, until);
      }
      for (const id of [...entry.ids, ...entry.invalid, ...entry.failed]) {
        settling.delete(id);
        open.set(id, (open.get(id) ?? 1) - 1);
      }
    } else if (entry.e === "event") {
      const late = SLACK_MS + stalledMs(evidence, entry.t - 2 * hold - ROUND_TRIP_MS, entry.t);
      const receivedAt = Math.max(subscribedAt, entry.t - late);
      const until = receivedAt + hold - ROUND_TRIP_MS;
      settling.delete(entry.id);
      if ((open.get(entry.id) ?? 0) > 0) settling.set(entry.id, until);
      else held.set(entry.id, until);
      for (const [id, end] of held) {
        if (end - stalledMs(evidence, end - hold, entry.t) <= entry.t) held.delete(id);
      }
      if (held.size > window) {
        const ids = [...held.keys()].join(", ");
        return [
          { check: "credit", text: `${sub} held ${ids} at ${at(evidence, entry.t)}, its window being ${window}` },
        ];
      }
    }
  }
  return [];
}

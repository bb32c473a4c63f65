/** Promise 8: on SIGTERM, what was not settled within the grace comes elsewhere at once, not after the timeout. */
import type { Entry } from "../history.ts";
import { type Evidence, type Of, SLACK_MS, type Violation, at, bySubscription, hadItsTurn } from "./evidence.ts";

const AT_ONCE_MS = 1_500;
/** Whoever gets other events so long after it gets these before them. */
const HANDED_BACK_MS = 500;
/** Where JetStream's own clock would bring it so soon, nothing can be told. */
const CLEAR_MS = 2_000;
const DRAINS = new Set(["term_server", "rolling_restart"]);

export function checkDrain(evidence: Evidence): Violation[] {
  const violations: Violation[] = [];
  const consumerOf = new Map(
    evidence.entries.flatMap((entry) => (entry.e === "subscribe" ? [[entry.sub, entry.consumer] as const] : [])),
  );
  for (const [sub, entries] of bySubscription(evidence.entries)) {
    const end = entries.find((entry) => entry.e === "ended");
    if (end === undefined || !isAlone(end.t)) continue;
    if (wasCut(entries, end)) {
      violations.push({ check: "drain", text: `${sub} was cut off at ${at(evidence, end.t)} as its server drained` });
    }
    if (end.reason !== "SERVER_DRAINING") continue;
    const consumer = consumerOf.get(sub);
    // What is handed back may be with somebody else before its last client has heard of the end.
    const later = evidence.entries.filter(
      (entry): entry is Of<"event"> =>
        entry.e === "event" &&
        entry.t > end.t - SLACK_MS &&
        entry.sub !== sub &&
        consumerOf.get(entry.sub) === consumer,
    );
    // Somebody was there who had room.
    if (!later.some(({ t }) => t > end.t + HANDED_BACK_MS && t <= end.t + AT_ONCE_MS)) continue;
    for (const [id, keptUntil] of unsettled(entries)) {
      if (keptUntil - end.t < CLEAR_MS) continue;
      const next = later.find((entry) => entry.id === id);
      if (next !== undefined && next.t - end.t <= AT_ONCE_MS) continue;
      const when = next === undefined ? "never" : `${Math.round(next.t - end.t)} ms later`;
      const text = `${sub} held ${id} when its server ended at ${at(evidence, end.t)}; it came again ${when}`;
      violations.push({ check: "drain", text });
    }
  }
  return violations;

  /** It was open, and did not end with the status that a draining server gives. */
  function wasCut([first, ...more]: readonly Entry[], { t, by, code, reason }: Of<"ended">): boolean {
    if (first?.e !== "subscribe" || by !== "server" || code !== "UNAVAILABLE" || reason !== undefined) return false;
    const server = `server-${first.server}`;
    const isDraining = evidence.faults.some(
      ({ name, detail, start, end }) =>
        DRAINS.has(name) && start <= t && end >= t && detail.split(", ").includes(server),
    );
    return isDraining && more.some(({ e }) => e === "subscribed") && hadItsTurn(evidence, t - AT_ONCE_MS, t);
  }

  /** No fault but the drain itself could hold up what is handed back, or have it go to somebody who cannot tell of it. */
  function isAlone(t: number): boolean {
    const near = evidence.faults.filter(({ start, end }) => start < t + AT_ONCE_MS && end > t - AT_ONCE_MS);
    return near.every(({ name }) => DRAINS.has(name)) && near.length <= 1;
  }
}

/** Events that no settlement was sent for, with the time until which JetStream leaves them to this client. */
function unsettled(entries: readonly { readonly e: string }[]): Map<number, number> {
  const held = new Map<number, number>();
  let timeoutMs = 0;
  for (const entry of entries as Parameters<typeof bySubscription>[0]) {
    if (entry.e === "subscribed") timeoutMs = entry.timeoutMs;
    else if (entry.e === "event") held.set(entry.id, entry.t + timeoutMs);
    else if (entry.e === "settle" && entry.kind !== "ping") for (const id of entry.ids) held.delete(id);
    else if (entry.e === "confirmed" && entry.kind === "ping") {
      for (const id of entry.ids) if (held.has(id)) held.set(id, entry.t + timeoutMs);
    }
  }
  return held;
}

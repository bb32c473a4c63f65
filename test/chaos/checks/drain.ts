/** Promise 8: on SIGTERM, what was not settled within the grace comes elsewhere at once, not after the timeout. */
import { type Evidence, type Of, type Violation, at, bySubscription } from "./evidence.ts";

const AT_ONCE_MS = 1_500;
/** Where JetStream's own clock would bring it so soon, nothing can be told. */
const CLEAR_MS = 2_000;

export function checkDrain(evidence: Evidence): Violation[] {
  const violations: Violation[] = [];
  for (const fault of evidence.faults.filter(({ name }) => name === "term_server")) {
    const isAlone = evidence.faults.every(
      (other) => other === fault || other.end < fault.start - 5_000 || other.start > fault.end + 5_000,
    );
    if (!isAlone) continue;
    const server = Number(fault.detail.replace("server-", ""));
    for (const [sub, entries] of bySubscription(evidence.entries)) {
      const [first] = entries;
      const end = entries.find((entry) => entry.e === "ended");
      if (first?.e !== "subscribe" || first.server !== server) continue;
      if (end === undefined || end.t < fault.start || end.t > fault.end) continue;
      for (const [id, keptUntil] of unsettled(entries)) {
        if (keptUntil - end.t < CLEAR_MS) continue;
        const next = evidence.entries.find(
          (entry): entry is Of<"event"> =>
            entry.e === "event" && entry.id === id && entry.t > end.t && isOf(entry.sub, first.consumer),
        );
        if (next !== undefined && next.t - end.t <= AT_ONCE_MS) continue;
        const when = next === undefined ? "never" : `${Math.round(next.t - end.t)} ms later`;
        const text = `${sub} held ${id} when its server ended at ${at(evidence, end.t)}; it came again ${when}`;
        violations.push({ check: "drain", text });
      }
    }
  }
  return violations;

  function isOf(sub: string, consumer: string): boolean {
    return evidence.entries.some(
      (entry) => entry.e === "subscribe" && entry.sub === sub && entry.consumer === consumer,
    );
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

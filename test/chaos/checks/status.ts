/** What a subscription is told of itself: each change once, in order, in time, and what it says is so. */
import type { Entry } from "../history.ts";
import { type Evidence, type Of, SLACK_MS, type Violation, at, bySubscription, hadItsTurn } from "./evidence.ts";
import { resumptions } from "./resume.ts";

/** A silent NATS is told within this time. */
const SILENCE_MS = 10_000;
/** These take NATS away from the servers that they name. */
const AWAY = new Set(["nats_away", "refuse_nats_link", "silent_nats_link"]);
/** A server that stands still meanwhile may notice later. */
const STILL = new Set(["pause_server", "stall_server"]);
/** What a client is told while one of these lasts, it hears after it. */
const DEAF = new Set(["pause_client", "silent_client_link", "half_open_client_link"]);

export function checkStatus(evidence: Evidence): Violation[] {
  const violations: Violation[] = [];
  const add = (text: string): void => void violations.push({ check: "status", text });
  const resumed = resumptions(evidence).filter(({ ms, limitMs }) => ms <= limitMs);
  // A killed process does not tell that its subscriptions ended.
  const lastOf = new Map(evidence.entries.map(({ p, t }) => [p, t]));
  for (const [sub, entries] of bySubscription(evidence.entries)) {
    if (!entries.some(({ e }) => e === "status")) continue;
    const [first] = entries;
    if (first?.e !== "subscribe") continue;
    judgeOrder(sub, entries);
    for (const { name, detail, start, end } of evidence.faults.filter((fault) => AWAY.has(fault.name))) {
      const until = start + SILENCE_MS + SLACK_MS;
      if (until > end || !detail.includes(`server ${first.server} `) || !isOpen(entries, start, until)) continue;
      if (mayHearLate(first, start, until) || !hadItsTurn({ ...evidence, leaderships: undefined }, start, until))
        continue;
      if (stateAt(entries, until) !== "DISCONNECTED") add(`${sub} was not told of ${name} at ${at(evidence, start)}`);
    }
    for (const { since, ms } of resumed.filter((one) => one.sub === sub)) {
      const goneOn = since + ms + SLACK_MS;
      if (isOpen(entries, since, goneOn) && stateAt(entries, goneOn) === "DISCONNECTED" && isWhole(since, goneOn)) {
        add(`${sub} went on at ${at(evidence, since + ms)}, and was told to be disconnected still`);
      }
    }
  }
  return violations;

  function isOpen(list: readonly Entry[], from: number, to: number): boolean {
    const openedAt = list.find(({ e }) => e === "subscribed")?.t ?? Infinity;
    const last = list.findLast(({ e }) => e === "ended" || e === "half_close")?.t ?? lastOf.get(list[0]!.p)!;
    return openedAt < from && last > to;
  }

  function mayHearLate({ p, server }: Of<"subscribe">, from: number, to: number): boolean {
    return evidence.faults.some(({ name, detail, start, end }) => {
      if (start >= to) return false;
      if (STILL.has(name)) return detail === `server-${server}` && end + SLACK_MS > from;
      return DEAF.has(name) && end + SLACK_MS > to && detail.split(", ").some((one) => isOf(one, p, server));
    });
  }

  /** Whether a fault hit the client of this process, or its link to that server. */
  function isOf(detail: string, process: string, server: number): boolean {
    const [client, to = `server ${server}`] = detail.split(" - ");
    return `${process}-`.startsWith(`${client}-`) && to === `server ${server}`;
  }

  function isWhole(from: number, to: number): boolean {
    return evidence.faults.every(({ effects, start, end }) => effects.length === 0 || end < from || start > to);
  }

  function judgeOrder(sub: string, entries: readonly Entry[]): void {
    let last: "ACTIVE" | "DISCONNECTED" | undefined;
    let isDraining = false;
    for (const entry of entries) {
      if (entry.e === "event" && isDraining) add(`${sub} got ${entry.id} after it was told to drain`);
      if (entry.e === "ended") judgeEnd(entry, isDraining);
      if (entry.e !== "status") continue;
      const { state, t } = entry;
      if (isDraining) add(`${sub} was told ${state} after DRAINING at ${at(evidence, t)}`);
      else if (last === undefined && state !== "ACTIVE" && state !== "DISCONNECTED")
        add(`${sub} was told ${state} first`);
      else if (state === last) add(`${sub} was told ${state} twice at ${at(evidence, t)}`);
      if (state === "ACTIVE" || state === "DISCONNECTED") last = state;
      isDraining = state === "DRAINING";
    }
  }

  function judgeEnd(end: Of<"ended">, isDraining: boolean): void {
    if (end.reason !== "SERVER_DRAINING" || isDraining) return;
    add(`${end.sub} ended at ${at(evidence, end.t)} as its server drained, and was not told before`);
  }
}

function stateAt(entries: readonly Entry[], t: number): string | undefined {
  const told = entries.filter((entry): entry is Of<"status"> => entry.e === "status" && entry.t <= t);
  return told.findLast(({ state }) => state === "ACTIVE" || state === "DISCONNECTED")?.state;
}

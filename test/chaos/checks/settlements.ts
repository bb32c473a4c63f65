/** Promise 3 and the contract: each id is answered once, and what a subscription does not hold is refused. */
import { type Evidence, SLACK_MS, type Violation, at, bySubscription, holdMs, stalledMs } from "./evidence.ts";
import { LETTERS } from "../cluster/topology.ts";
import type { Entry, Kind } from "../history.ts";

/** An answer takes no longer than JetStream's own answer is waited for, and a little. */
const ANSWER_MS = 6_000;

interface Hold {
  /** Every time it came; for each, since when its time counts: since it came, or a ping was confirmed. */
  readonly deliveries: { since: number; isSettled: boolean }[];
  /** Pings sent and not answered. */
  pings: number;
}

interface Request {
  readonly at: number;
  readonly wasPinged: boolean;
  /** How often the event had come when it was sent: it is for that delivery, or for one that came meanwhile. */
  readonly deliveries: number;
}

export function checkSettlements(evidence: Evidence): Violation[] {
  return [...bySubscription(evidence.entries)].flatMap(([sub, entries]) => checkOne(evidence, sub, entries));
}

function checkOne(evidence: Evidence, sub: string, entries: readonly Entry[]): Violation[] {
  const violations: Violation[] = [];
  const add = (check: string, text: string): void => void violations.push({ check, text: `${sub}: ${text}` });
  const holds = new Map<number, Hold>();
  /** Requests of an id that have no answer yet: when they were sent. */
  const open = new Map<string, Request[]>();
  let timeoutMs = 0;
  let givesUp = false;
  let halfClosed = false;
  for (const entry of entries) {
    if (entry.e === "subscribe") givesUp = entry.consumer === LETTERS.consumer;
    else if (entry.e === "subscribed") timeoutMs = entry.timeoutMs;
    else if (entry.e === "half_close") halfClosed = true;
    else if (entry.e === "event") {
      const hold = holds.get(entry.id) ?? { deliveries: [], pings: 0 };
      hold.deliveries.push({ since: entry.t, isSettled: false });
      hold.pings = 0;
      holds.set(entry.id, hold);
    } else if (entry.e === "settle") {
      for (const id of entry.ids) {
        const hold = holds.get(id);
        if (entry.kind === "ping" && hold !== undefined) hold.pings += 1;
        const name = `${answerKind(entry.kind)} ${id}`;
        const deliveries = hold?.deliveries.length ?? 0;
        const request = { at: entry.t, wasPinged: (hold?.pings ?? 0) > 0, deliveries };
        open.set(name, [...(open.get(name) ?? []), request]);
      }
    } else if (entry.e === "confirmed") {
      for (const [list, ids] of [
        ["ids", entry.ids],
        ["invalid", entry.invalid],
        ["failed", entry.failed],
      ] as const) {
        for (const id of ids) {
          const request = open.get(`${entry.kind} ${id}`)?.shift();
          const hold = holds.get(id);
          if (request === undefined) add("answer", `${entry.kind} of ${id} was answered, and not asked for`);
          if (entry.kind === "ping" && hold !== undefined) hold.pings -= 1;
          // While its letter is being written an event is kept, and its client is to reject it again.
          const kept = hold?.deliveries[(request?.deliveries ?? 0) - 1];
          if (givesUp && list === "failed" && entry.kind === "reject" && kept !== undefined) kept.since = entry.t;
          if (list === "ids" && request !== undefined) accepted(entry.kind, id, entry.t, request, hold);
        }
      }
    } else if (entry.e === "ended") {
      judgeOpen(entry);
    }
  }
  return violations;

  function accepted(kind: Kind, id: number, t: number, request: Request, hold: Hold | undefined): void {
    if (hold === undefined) {
      add("stale", `${kind} of ${id} was accepted, which it never had`);
      return;
    }
    const possible = hold.deliveries.slice(Math.max(0, request.deliveries - 1)).filter(({ isSettled }) => !isSettled);
    const isInTime = (since: number): boolean => request.at < since + holdMs(timeoutMs) || request.wasPinged;
    const delivery = possible.find(({ since }) => isInTime(since)) ?? possible.at(-1);
    if (delivery === undefined) {
      add("stale", `${kind} of ${id} was accepted, which was settled before`);
      return;
    }
    if (!isInTime(delivery.since)) {
      const late = Math.round(request.at - delivery.since);
      add("stale", `${kind} of ${id} was accepted ${late} ms after it came, the timeout being ${timeoutMs} ms`);
    }
    if (kind === "ping") delivery.since = t;
    else delivery.isSettled = true;
  }

  function judgeOpen(end: Extract<Entry, { e: "ended" }>): void {
    const isClean = halfClosed && end.code === undefined;
    for (const [name, requests] of open) {
      for (const request of requests) {
        const waited = end.t - request.at;
        const allowed = ANSWER_MS + SLACK_MS + stalledMs(evidence, request.at - ANSWER_MS, end.t);
        if (!isClean && waited <= allowed) continue;
        add("answer", `${name}, sent at ${at(evidence, request.at)}, has no answer at ${at(evidence, end.t)}`);
      }
    }
  }
}

function answerKind(kind: Kind): Kind {
  return kind === "terminate" ? "reject" : kind;
}

/** Promise 3 and the contract: each id is answered once, and what a subscription does not hold is refused. */
import { type Evidence, SLACK_MS, type Violation, at, bySubscription, holdMs, stalledMs } from "./evidence.ts";
import type { Entry, Kind } from "../history.ts";

/** An answer takes no longer than JetStream's own answer is waited for, and a little. */
const ANSWER_MS = 6_000;

interface Hold {
  /** When it came last, or a ping was confirmed last. */
  since: number;
  isSettled: boolean;
  /** Pings sent and not answered. */
  pings: number;
}

export function checkSettlements(evidence: Evidence): Violation[] {
  return [...bySubscription(evidence.entries)].flatMap(([sub, entries]) => checkOne(evidence, sub, entries));
}

function checkOne(evidence: Evidence, sub: string, entries: readonly Entry[]): Violation[] {
  const violations: Violation[] = [];
  const add = (check: string, text: string): void => void violations.push({ check, text: `${sub}: ${text}` });
  const holds = new Map<number, Hold>();
  /** Requests of an id that have no answer yet: when they were sent. */
  const open = new Map<string, { readonly at: number; readonly wasPinged: boolean }[]>();
  let timeoutMs = 0;
  let halfClosed = false;
  for (const entry of entries) {
    if (entry.e === "subscribed") timeoutMs = entry.timeoutMs;
    else if (entry.e === "half_close") halfClosed = true;
    else if (entry.e === "event") holds.set(entry.id, { since: entry.t, isSettled: false, pings: 0 });
    else if (entry.e === "settle") {
      for (const id of entry.ids) {
        const hold = holds.get(id);
        if (entry.kind === "ping" && hold !== undefined) hold.pings += 1;
        const name = `${answerKind(entry.kind)} ${id}`;
        const request = { at: entry.t, wasPinged: (hold?.pings ?? 0) > 0 };
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
          if (list === "ids" && request !== undefined) accepted(entry.kind, id, entry.t, request, hold);
        }
      }
    } else if (entry.e === "ended") {
      judgeOpen(entry);
    }
  }
  return violations;

  function accepted(
    kind: Kind,
    id: number,
    t: number,
    request: { at: number; wasPinged: boolean },
    hold: Hold | undefined,
  ): void {
    if (hold === undefined) {
      add("stale", `${kind} of ${id} was accepted, which it never had`);
      return;
    }
    if (hold.isSettled) add("stale", `${kind} of ${id} was accepted, which was settled before`);
    else if (request.at >= hold.since + holdMs(timeoutMs) && !request.wasPinged) {
      const late = Math.round(request.at - hold.since);
      add("stale", `${kind} of ${id} was accepted ${late} ms after it came, the timeout being ${timeoutMs} ms`);
    }
    if (kind === "ping") hold.since = t;
    else hold.isSettled = true;
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

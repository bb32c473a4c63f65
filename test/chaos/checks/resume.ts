/**
 * Promise 6: an open subscription goes on within 2 s of its consumer having a leader. The moment is known exactly: all
 * nodes answer the suite's own eye that they see the same leader, and no fault is in force. From then on, or from when
 * there are events and room for them, the first one has to come in time. What is added is what the suite itself was kept
 * waiting for by the machine in this time, and a little for a client that has to get its turn.
 */
import type { Entry } from "../history.ts";
import { type Evidence, type Violation, at, bySubscription } from "./evidence.ts";

const RESUME_MS = 2_000;
const TURN_MS = 250;
/** So many events are published meanwhile: each of the subscriptions that share a consumer is to get one. */
const PLENTY = 15;

/** How a subscription went on once it could. */
export interface Resumed {
  readonly sub: string;
  readonly since: number;
  /** Infinity: not as long as one could look. */
  readonly ms: number;
  readonly limitMs: number;
}

interface Span {
  readonly from: number;
  readonly to: number;
}

export function checkResume(evidence: Evidence): Violation[] {
  return resumptions(evidence).flatMap(({ sub, since, ms, limitMs }) => {
    if (ms <= limitMs) return [];
    const when = ms === Infinity ? "none" : `one after ${Math.round(ms)} ms`;
    const text = `${sub} could go on at ${at(evidence, since)}, and got no event within ${Math.round(limitMs)} ms: ${when}`;
    return [{ check: "resume", text }];
  });
}

/** Every time a subscription was to go on, and how long it took. */
export function resumptions(evidence: Evidence): Resumed[] {
  const { entries, leaderships = [] } = evidence;
  const published = entries.filter(({ e }) => e === "published").map(({ t }) => t);
  const subscriptions = bySubscription(entries);
  // A killed process does not tell that its subscriptions ended.
  const lastOf = new Map(entries.map(({ p, t }) => [p, t]));
  const resumed: Resumed[] = [];
  for (const { consumer, from, to } of leaderships) {
    for (const whole of wholeSpans(evidence)) {
      const begin = published.find((t) => t >= Math.max(from, whole.from));
      if (begin === undefined) continue;
      const span = { from: begin, to: Math.min(to, whole.to, published.at(-1)!) };
      const limitMs = RESUME_MS + TURN_MS + lagMs(evidence, begin, begin + RESUME_MS);
      if (published.filter((t) => t >= begin && t <= begin + RESUME_MS - 500).length < PLENTY) continue;
      for (const [sub, list] of subscriptions) {
        const [first] = list;
        if (first?.e !== "subscribe" || first.consumer !== consumer) continue;
        const one = resumption(list, { ...span, to: Math.min(span.to, lastOf.get(first.p)!) }, limitMs);
        if (one !== undefined) resumed.push({ sub, limitMs, ...one });
      }
    }
  }
  return resumed;
}

/** Times without any fault in force. */
function wholeSpans({ faults }: Evidence): Span[] {
  const spans: Span[] = [];
  let from = 0;
  for (const { start, end } of faults
    .filter(({ effects }) => effects.length > 0)
    .toSorted((a, b) => a.start - b.start)) {
    if (start > from) spans.push({ from, to: start });
    from = Math.max(from, end);
  }
  return [...spans, { from, to: Infinity }];
}

function lagMs({ lags = [] }: Evidence, from: number, to: number): number {
  return lags.filter(({ t }) => t >= from && t <= to).reduce((sum, { ms }) => sum + ms, 0);
}

/** Undefined where it was not open, or had no room for long enough to tell. */
function resumption(
  list: readonly Entry[],
  span: Span,
  limitMs: number,
): { readonly since: number; readonly ms: number } | undefined {
  /** What it holds, with the time until which it may. */
  const held = new Map<number, number>();
  /** Settlements sent since the event came: what is invalid because it had not come yet is held when the answer comes. */
  const settled = new Set<number>();
  let window = Infinity;
  let timeoutMs = 0;
  let openedAt = Infinity;
  let endedAt = span.to;
  let roomAt = 0;
  const room = (now: number): void => {
    for (const [id, until] of held) {
      if (until > now) continue;
      if (held.size >= window) roomAt = Math.max(roomAt, until);
      held.delete(id);
    }
  };
  for (const entry of list) {
    if (entry.t > span.to) break;
    room(entry.t);
    if (entry.e === "subscribe") ({ window } = entry);
    else if (entry.e === "subscribed") {
      ({ timeoutMs } = entry);
      openedAt = entry.t;
    } else if (entry.e === "event") {
      const since = Math.max(span.from, roomAt);
      if (entry.t > span.from) {
        // The server lets go of an event a little before its time is up: it was full until just now.
        const wasFull = held.size >= window;
        return openedAt < span.from && !wasFull ? { since, ms: entry.t - since } : undefined;
      }
      held.set(entry.id, entry.t + timeoutMs);
      settled.delete(entry.id);
    } else if (entry.e === "settle") {
      for (const id of entry.ids) settled.add(id);
    } else if (entry.e === "confirmed" && entry.kind === "ping") {
      for (const id of entry.ids) if (held.has(id)) held.set(id, entry.t + timeoutMs);
    } else if (entry.e === "confirmed") {
      const wasFull = held.size >= window;
      for (const id of [...entry.ids, ...entry.invalid]) if (settled.has(id)) held.delete(id);
      if (wasFull && held.size < window) roomAt = entry.t;
    } else if (entry.e === "half_close" || entry.e === "ended") {
      endedAt = Math.min(endedAt, entry.t);
    }
  }
  room(endedAt);
  const since = Math.max(span.from, roomAt);
  if (openedAt >= span.from || held.size >= window || since + limitMs > endedAt) return undefined;
  return { since, ms: Infinity };
}

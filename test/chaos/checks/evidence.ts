/** What is judged, and what the judges share. */
import type { Letter, Stored } from "../cluster/admin.ts";
import type { Lag, Leadership } from "../cluster/eye.ts";
import type { Effect, FaultRecord } from "../faults/fault.ts";
import type { Entry } from "../history.ts";

/** A promise that was broken. */
export interface Violation {
  /** Which check found it. */
  readonly check: string;
  readonly text: string;
}

/** What JetStream said of a consumer in the end. */
export interface ConsumerEnd {
  readonly consumer: string;
  readonly pending: number;
  readonly unsettled: number;
  /** Events that all its subscriptions together may hold; undefined for no limit. */
  readonly limit?: number;
}

/** What became of the consumer whose events are given up. */
export interface Letters extends Omit<ConsumerEnd, "consumer" | "limit"> {
  /** What the dead-letter stream held in the end. */
  readonly written: readonly Letter[];
  /** When JetStream had an event as given up, by its id, as far as anybody heard. */
  readonly terminations: ReadonlyMap<number, number>;
}

/** All that is known of a run. */
export interface Evidence {
  /** In the order of time. */
  readonly entries: readonly Entry[];
  readonly faults: readonly FaultRecord[];
  /** What the main stream held in the end. */
  readonly stored: readonly Stored[];
  readonly consumers: readonly ConsumerEnd[];
  /** Undefined for a server that has no dead letters. */
  readonly letters?: Letters | undefined;
  /** Nodes of NATS; 3 unless given. */
  readonly nodes?: number | undefined;
  /** Who led which consumer when, as the suite's own eye saw it. */
  readonly leaderships?: readonly Leadership[] | undefined;
  /** When the machine kept the suite itself waiting. */
  readonly lags?: readonly Lag[] | undefined;
  /** Hears of each key whose calls have too many orders to try them all. */
  readonly onUndecided?: (key: string) => void;
}

/** Entries of one kind. */
export type Of<E extends Entry["e"]> = Extract<Entry, { e: E }>;

/** What a message may take on its way on a busy machine, in milliseconds. */
export const SLACK_MS = 1_000;
/** For so long after its end a fault may still show. */
const LINGER_MS = 1_500;

/** How long something was held up between `from` and `to` by faults, at most; those that overlap count once. */
export function stalledMs({ faults }: Evidence, from: number, to: number): number {
  const stalls = faults
    .filter(({ effects, start, end }) => effects.includes("stalls") && start < to && end + LINGER_MS > from)
    .toSorted((a, b) => a.start - b.start);
  let sum = 0;
  let counted = from;
  for (const { start, end } of stalls) {
    const until = Math.min(to, end + LINGER_MS);
    sum += Math.max(0, until - Math.max(counted, start));
    counted = Math.max(counted, until);
  }
  return sum;
}

/** Whether a fault with this effect could show between `from` and `to`. */
export function excused({ faults }: Evidence, effect: Effect, from: number, to: number, lingerMs = LINGER_MS): boolean {
  return faults.some(({ effects, start, end }) => effects.includes(effect) && start <= to && end + lingerMs >= from);
}

const MAX_LAG_MS = 500;

/**
 * Whether the machine gave everyone a turn between `from` and `to`: the suite itself was not kept waiting, and NATS answered
 * its eye all the time. What fails without a fault on a machine that is used by others says nothing.
 */
export function hadItsTurn({ leaderships, lags = [] }: Evidence, from: number, to: number): boolean {
  if (lags.some(({ t, ms }) => t + ms >= from && t <= to && ms > MAX_LAG_MS)) return false;
  if (leaderships === undefined) return true;
  // Unless it had only just begun to look.
  return leaderships.some((one) => one.from <= from && one.to >= to);
}

/**
 * When a majority of the nodes was killed at once, or a lone one ended, in whatever way: from then on acks of the last moment
 * may be forgotten.
 */
export function majorityKills({ faults, nodes }: Evidence): number[] {
  const kills = faults.filter(({ effects }) => effects.includes(nodes === 1 ? "nodes" : "kills"));
  return kills.flatMap((fault) => {
    if (nodes === 1 || fault.detail.includes(",")) return [fault.start];
    const others = kills.filter((other) => other !== fault && other.start <= fault.start && other.end >= fault.start);
    return others.length > 0 ? [fault.start] : [];
  });
}

/** How long an event can be settled at most after it came. */
export function holdMs(timeoutMs: number): number {
  return timeoutMs - Math.min(timeoutMs * 0.05, 250);
}

/** Entries by the subscription that they belong to. */
export function bySubscription(entries: readonly Entry[]): Map<string, Entry[]> {
  const subscriptions = new Map<string, Entry[]>();
  for (const entry of entries) {
    if (!("sub" in entry)) continue;
    const list = subscriptions.get(entry.sub);
    if (list === undefined) subscriptions.set(entry.sub, [entry]);
    else list.push(entry);
  }
  return subscriptions;
}

/** A time in a text: seconds since the first entry. */
export function at({ entries }: Evidence, t: number): string {
  return `${((t - (entries[0]?.t ?? 0)) / 1000).toFixed(3)} s`;
}

/**
 * Promise 4: never more unsettled events than the window, in events and in bytes, nor than the consumer allows all its
 * subscriptions. The client sees less than the server: an event counts only as long as the server cannot have let go of
 * it, that is from its arrival to the moment the client sent a settlement, or to the earliest moment at which its time
 * can have run out. A settlement that failed makes it count again. What a client held that was killed is somebody else's
 * from then on: it counts up to the last word of that client.
 */
import type { Entry } from "../history.ts";
import { type Evidence, type Of, SLACK_MS, type Violation, at, excused, holdMs, stalledMs } from "./evidence.ts";

/** What is counted off the time for a round trip to NATS. */
const ROUND_TRIP_MS = 200;
/** After a change of leader JetStream may not know of everything that the one before had delivered. */
const NEW_LEADER_MS = 12_000;
/** `$JS.ACK.<stream>.<consumer>.<deliveries>.<id>.<delivery>.<time>.<waiting>` besides names and id, at the least. */
const ACK_SUBJECT_BYTES = "$JS.ACK....1..1.1700000000000000000.0".length;

export function checkCredit(evidence: Evidence): Violation[] {
  const violations: Violation[] = [];
  const add = (text: string): void => void violations.push({ check: "credit", text });
  const sizes = new Map(evidence.stored.map(({ id, bytes = 0 }) => [id, bytes]));
  const limits = new Map(evidence.consumers.map(({ consumer, limit = Infinity }) => [consumer, limit]));
  const holdings = new Map<string, Holding>();
  const judged = new Set<string>();
  const lastWords = new Map(evidence.entries.map(({ p, t }) => [p, t]));
  for (const entry of evidence.entries) {
    if (!("sub" in entry)) continue;
    if (entry.e === "subscribe") holdings.set(entry.sub, new Holding(evidence, entry));
    const holding = holdings.get(entry.sub);
    holding?.add(entry);
    if (entry.e === "ended") holdings.delete(entry.sub);
    if (entry.e !== "event" || holding === undefined) continue;
    judgeOne(holding, entry);
    judgeConsumer(holding.first.consumer, entry.t);
  }
  return violations;

  function judgeOne({ first, held }: Holding, { sub, t }: Of<"event">): void {
    const { consumer, stream, window, maxBytes = 0 } = first;
    if (judged.has(sub)) return;
    const ids = [...held.keys()];
    const what = `${sub} held ${ids.join(", ")} at ${at(evidence, t)}`;
    const names = ACK_SUBJECT_BYTES + stream.length + consumer.length;
    const bytes = ids.reduce((sum, id) => sum + (sizes.get(id) ?? 0) + names + String(id).length, 0);
    if (ids.length > window) add(`${what}, its window being ${window}`);
    else if (maxBytes > 0 && ids.length > 1 && bytes > maxBytes) add(`${what}, ${bytes} bytes of ${maxBytes}`);
    else return;
    judged.add(sub);
  }

  function judgeConsumer(consumer: string, t: number): void {
    const limit = limits.get(consumer) ?? Infinity;
    if (limit === Infinity || judged.has(consumer) || excused(evidence, "nodes", t, t, NEW_LEADER_MS)) return;
    const ids = new Set<number>();
    for (const { first, held, doubtful } of holdings.values()) {
      if (first.consumer !== consumer || lastWords.get(first.p)! < t) continue;
      for (const [id, until] of held) if (until > t && !doubtful.has(id)) ids.add(id);
    }
    if (ids.size <= limit) return;
    add(`${consumer} had ${ids.size} events held at ${at(evidence, t)}, ${limit} being its limit`);
    judged.add(consumer);
  }
}

/** What one subscription holds for sure. */
class Holding {
  readonly first: Of<"subscribe">;
  /** Until when the server holds an event for sure. */
  readonly held = new Map<number, number>();
  /** Of those, what JetStream may have settled without anybody knowing. */
  readonly doubtful = new Set<number>();
  readonly #evidence: Evidence;
  readonly #settling = new Map<number, number>();
  /** Settlements under way; one that was sent before its event came counts for it too. */
  readonly #open = new Map<number, number>();
  #holdMs = 0;

  constructor(evidence: Evidence, first: Of<"subscribe">) {
    this.#evidence = evidence;
    this.first = first;
  }

  add(entry: Entry): void {
    if (entry.e === "subscribed") this.#holdMs = holdMs(entry.timeoutMs);
    else if (entry.e === "settle" && entry.kind !== "ping") this.#settle(entry);
    else if (entry.e === "confirmed" && entry.kind !== "ping") this.#confirmed(entry);
    else if (entry.e === "event") this.#event(entry);
  }

  #settle({ ids }: Of<"settle">): void {
    for (const id of ids) {
      this.#open.set(id, (this.#open.get(id) ?? 0) + 1);
      const until = this.held.get(id);
      if (until === undefined) continue;
      this.#settling.set(id, until);
      this.held.delete(id);
    }
  }

  #confirmed({ ids, invalid, failed }: Of<"confirmed">): void {
    for (const id of failed) {
      const until = this.#settling.get(id);
      if (until !== undefined) this.held.set(id, until);
      this.doubtful.add(id);
    }
    for (const id of [...ids, ...invalid, ...failed]) {
      this.#settling.delete(id);
      this.#open.set(id, (this.#open.get(id) ?? 1) - 1);
    }
  }

  #event({ id, t }: Of<"event">): void {
    const late = SLACK_MS + stalledMs(this.#evidence, t - 2 * this.#holdMs - ROUND_TRIP_MS, t);
    const receivedAt = Math.max(this.first.t, t - late);
    const until = receivedAt + this.#holdMs - ROUND_TRIP_MS;
    this.#settling.delete(id);
    this.doubtful.delete(id);
    if ((this.#open.get(id) ?? 0) > 0) this.#settling.set(id, until);
    else this.held.set(id, until);
    for (const [other, end] of this.held) {
      if (end - stalledMs(this.#evidence, end - this.#holdMs, t) <= t) this.held.delete(other);
    }
  }
}

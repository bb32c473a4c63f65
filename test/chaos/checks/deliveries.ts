/** Promises 2 and 5: everything stored arrives, nothing else does, and nothing comes again after its confirmed ack. */
import {
  type Evidence,
  type Of,
  SLACK_MS,
  type Violation,
  at,
  excused,
  holdMs,
  majorityKills,
  stalledMs,
} from "./evidence.ts";

/** Acks that were confirmed so shortly before all nodes died may be forgotten. */
const FORGETTABLE_MS = 1_000;

interface Track {
  readonly deliveries: Of<"event">[];
  /** Confirmed acks, with the delivery that they were for. */
  readonly acks: { readonly at: number; readonly delivery: Of<"event">; readonly sub: string }[];
  /** An ack or a final reject that may have been applied. */
  mayBeSettled: boolean;
  /** Something besides the timeout may have made JetStream deliver it early. */
  isDisturbed: boolean;
}

export function checkDeliveries(evidence: Evidence): Violation[] {
  const violations: Violation[] = [];
  const consumerOf = new Map<string, string>();
  const timeouts = new Map<string, number>();
  const tracks = new Map<string, Map<number, Track>>(evidence.consumers.map(({ consumer }) => [consumer, new Map()]));
  const heldBy = new Map<string, Set<number>>();
  const track = (sub: string, id: number): Track | undefined => {
    const ofConsumer = tracks.get(consumerOf.get(sub) ?? "");
    if (ofConsumer === undefined) return undefined;
    let found = ofConsumer.get(id);
    if (found === undefined) {
      ofConsumer.set(id, (found = { deliveries: [], acks: [], mayBeSettled: false, isDisturbed: false }));
    }
    return found;
  };
  const texts = new Map(evidence.stored.map(({ id, text }) => [id, text]));
  for (const entry of evidence.entries) {
    if (entry.e === "subscribe") {
      consumerOf.set(entry.sub, entry.consumer);
      heldBy.set(entry.sub, new Set());
    } else if (entry.e === "subscribed") {
      timeouts.set(entry.sub, entry.timeoutMs);
    } else if (entry.e === "event") {
      const found = track(entry.sub, entry.id);
      if (found === undefined) continue;
      heldBy.get(entry.sub)!.add(entry.id);
      if (texts.get(entry.id) !== entry.text || entry.key !== entry.text) {
        const text = `${entry.sub} got ${entry.id} as ${entry.text} (key ${entry.key ?? "none"}), stored is ${texts.get(entry.id) ?? "nothing"}`;
        violations.push({ check: "invented", text });
      }
      if (entry.attempt < 1)
        violations.push({ check: "attempt", text: `${entry.id} came as attempt ${entry.attempt}` });
      judge(evidence, found, entry, violations);
      found.deliveries.push(entry);
    } else if (entry.e === "settle" && entry.kind !== "ping") {
      for (const id of entry.ids) {
        const found = track(entry.sub, id);
        if (found === undefined || !heldBy.get(entry.sub)!.has(id)) continue;
        if (entry.kind === "reject") found.isDisturbed = true;
        else found.mayBeSettled = true;
      }
    } else if (entry.e === "confirmed" && entry.kind !== "ping") {
      for (const id of entry.ids) {
        const found = track(entry.sub, id);
        heldBy.get(entry.sub)!.delete(id);
        const delivery = found?.deliveries.findLast(({ sub }) => sub === entry.sub);
        if (found === undefined || delivery === undefined) continue;
        // Also where it was sent before the event came: the server had it.
        if (entry.kind === "ack") found.mayBeSettled = true;
        if (entry.kind === "ack") found.acks.push({ at: entry.t, delivery, sub: entry.sub });
      }
    } else if (entry.e === "ended") {
      for (const id of heldBy.get(entry.sub) ?? []) {
        const found = track(entry.sub, id);
        if (found !== undefined) found.isDisturbed = true;
      }
    }
  }
  for (const { consumer, pending, unsettled } of evidence.consumers) {
    if (pending > 0 || unsettled > 0) {
      const text = `${consumer} was left with ${pending} not delivered and ${unsettled} not settled`;
      violations.push({ check: "stuck", text });
    }
    for (const { id, text } of evidence.stored) {
      const found = tracks.get(consumer)!.get(id);
      if (found === undefined) violations.push({ check: "lost", text: `${consumer} never got ${id} (${text})` });
      else if (!found.mayBeSettled) {
        violations.push({ check: "lost", text: `${consumer} did not get ${id} (${text}) again, which nobody settled` });
      }
    }
  }
  return violations;

  /** A delivery after a confirmed ack is a fault where it cannot have been on its way before that ack was applied. */
  function judge(all: Evidence, found: Track, entry: Of<"event">, into: Violation[]): void {
    for (const ack of found.acks) {
      const held = timeouts.get(ack.sub) ?? 0;
      const cameAt = ack.delivery.t - SLACK_MS - stalledMs(all, ack.delivery.t - 2 * held, ack.delivery.t);
      const mayHaveTimedOut = ack.at - cameAt >= holdMs(held);
      const isLater = entry.attempt > ack.delivery.attempt && !found.isDisturbed && !mayHaveTimedOut;
      const sentAt = entry.t - SLACK_MS - stalledMs(all, ack.at, entry.t);
      const isLate = sentAt > ack.at && !(mayHaveTimedOut && excused(all, "stalls", ack.at, entry.t));
      if (!isLater && !isLate) continue;
      const kills = majorityKills(all);
      if (kills.some((kill) => kill >= ack.at - SLACK_MS && kill - FORGETTABLE_MS <= ack.at && kill <= entry.t))
        continue;
      into.push({
        check: "duplicated",
        text:
          `${entry.id} came to ${entry.sub} as attempt ${entry.attempt} at ${at(all, entry.t)}; ${ack.sub} had it as attempt ` +
          `${ack.delivery.attempt} at ${at(all, ack.delivery.t)} and a confirmed ack at ${at(all, ack.at)}`,
      });
      return;
    }
  }
}

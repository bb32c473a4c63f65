/** Ways to work on events, between them all that a client may do. */
import { setTimeout as delay } from "node:timers/promises";
import type { Lists } from "../history.ts";
import type { Random } from "../random.ts";
import type { OpenSubscription, SubscriberStyle } from "./subscriber.ts";

const FAR_AHEAD = 1_000_000_000;
const TRY_AGAIN_MS = 100;

/** Acknowledges each event as it comes. */
export function oneByOne(consumer: string, window: number): SubscriberStyle {
  return {
    consumer,
    window,
    onEvent: (id, _, subscription) => subscription.settle("ack", [id]),
    onConfirmed: retryFailed,
  };
}

/** Lets its window fill, then acknowledges all at once. */
export function inBatches(consumer: string, window: number, patienceMs: number): SubscriberStyle {
  let held = new Set<number>();
  const flush = (subscription: OpenSubscription): void => {
    if (held.size > 0) subscription.settle("ack", [...held]);
    held.clear();
  };
  return {
    consumer,
    window,
    onOpen: (subscription) => {
      const mine = (held = new Set<number>());
      const timer = setInterval(() => mine === held && flush(subscription), patienceMs);
      subscription.signal.addEventListener("abort", () => clearInterval(timer));
    },
    onEvent: (id) => void held.add(id),
    onConfirmed: retryFailed,
  };
}

/** Rejects some, with and without a delay, some for good, and acknowledges the rest. */
export function rejecting(consumer: string, window: number, random: Random): SubscriberStyle {
  return {
    consumer,
    window,
    onEvent: (id, attempt, subscription) => {
      const chance = attempt > 3 ? 1 : random.next();
      if (chance < 0.15) subscription.settle("reject", [id]);
      else if (chance < 0.25) subscription.settle("reject", [id], 300);
      else if (chance < 0.28) subscription.settle("terminate", [id]);
      else subscription.settle("ack", [id]);
    },
    onConfirmed: retryFailed,
  };
}

/** What becomes of an event under the policy of dead letters: the same at every delivery. */
function fateOf(id: number): "rejected" | "terminated" | "ignored" | "acknowledged" {
  if (id % 20 === 0) return "rejected";
  if (id % 20 === 7) return "terminated";
  return id % 40 === 13 ? "ignored" : "acknowledged";
}

/** Fails with some events whatever happens: rejects them always, or for good, or does nothing. */
export function failing(consumer: string, window: number): SubscriberStyle {
  return {
    consumer,
    window,
    onEvent: (id, _, subscription) => {
      const fate = fateOf(id);
      if (fate === "rejected") subscription.settle("reject", [id]);
      else if (fate === "terminated") subscription.settle("terminate", [id]);
      else if (fate === "acknowledged") subscription.settle("ack", [id]);
    },
    // What was to be rejected for good may not be rejected for now: the answer is the same for both.
    onConfirmed: (kind, { failed }, subscription) => {
      for (const id of failed) {
        const again = kind === "reject" && fateOf(id) === "terminated" ? "terminate" : kind;
        setTimeout(() => subscription.settle(again, [id]), TRY_AGAIN_MS).unref();
      }
    },
  };
}

/** Works on each event for longer than the processing timeout, and pings meanwhile. */
export function pinging(consumer: string, window: number, timeoutMs: number): SubscriberStyle {
  const rest = (ms: number, { signal }: OpenSubscription): Promise<unknown> =>
    delay(ms, undefined, { signal }).catch(() => undefined);
  const work = async (id: number, subscription: OpenSubscription): Promise<void> => {
    for (let n = 0; n < 4; n++) {
      await rest(timeoutMs / 3, subscription);
      subscription.settle("ping", [id]);
    }
    await rest(timeoutMs / 10, subscription);
    subscription.settle("ack", [id]);
  };
  return {
    consumer,
    window,
    onEvent: (id, _, subscription) => void work(id, subscription),
    onConfirmed: (kind, lists, subscription) => {
      if (kind !== "ping") retryFailed(kind, lists, subscription);
    },
  };
}

/** Does what it must not: acknowledges too late, twice, what it never had and what is not there yet. */
export function unruly(consumer: string, window: number, timeoutMs: number, random: Random): SubscriberStyle {
  return {
    consumer,
    window,
    onEvent: (id, attempt, subscription) => {
      const ack = (): void => subscription.settle("ack", [id]);
      const chance = attempt > 2 ? 1 : random.next();
      if (chance < 0.1) {
        setTimeout(ack, timeoutMs + random.between(20, 400)).unref();
      } else if (chance < 0.3) {
        subscription.settle("ack", [id, id, id + 1, id + FAR_AHEAD]);
        ack();
      } else if (chance < 0.5) {
        ack();
        setTimeout(ack, random.between(5, 500)).unref();
      } else {
        ack();
      }
    },
  };
}

/** Takes `count` events, acknowledges them, half closes, and comes again. */
export function leaving(consumer: string, window: number, random: Random): SubscriberStyle {
  let left = 0;
  return {
    consumer,
    window,
    onOpen: () => {
      left = random.between(0, 20);
    },
    onEvent: (id, _, subscription) => {
      left -= 1;
      if (random.chance(0.8)) subscription.settle("ack", [id]);
      if (left === 0) subscription.halfClose();
    },
  };
}

function retryFailed(
  kind: Parameters<OpenSubscription["settle"]>[0],
  lists: Lists,
  subscription: OpenSubscription,
): void {
  if (lists.failed.length === 0) return;
  setTimeout(() => subscription.settle(kind, lists.failed), TRY_AGAIN_MS).unref();
}

/**
 * What a client that asked is told about its subscription besides events: whether NATS can be reached, and when it has
 * caught up. Nothing here is on the way of an event of a client that did not ask.
 */
import type { ConsumerInfo } from "@nats-io/jetstream";

/** How a subscription fares. */
export type SubscriptionStatus = "active" | "disconnected" | "caught_up";

/** After so long without an event, while some may be waiting, one asks how many … */
const MIN_LOOK_MS = 250;
/** … and less and less often while it does not change. */
const MAX_LOOK_MS = 5_000;

/**
 * Tells each change once. A subscription has caught up when the consumer has no event that was never delivered: each
 * event says how many are left behind it, and where others took the last one, asking JetStream tells.
 */
export class StatusReporter implements Disposable {
  readonly #tell: (status: SubscriptionStatus) => void;
  readonly #info: () => Promise<ConsumerInfo>;
  #isStarted = false;
  #isReachable = true;
  #isCaughtUp = false;
  /** Events that came since the last look. */
  #news = 0;
  #lookMs = MIN_LOOK_MS;
  #timer: NodeJS.Timeout | undefined;
  #isOver = false;

  constructor(info: () => Promise<ConsumerInfo>, tell: (status: SubscriptionStatus) => void) {
    this.#info = info;
    this.#tell = tell;
  }

  /** From here on it tells, beginning with what is. `waiting`: events that were never delivered. */
  start(waiting: number): void {
    this.#isStarted = true;
    this.#tell(this.#isReachable ? "active" : "disconnected");
    this.#waiting(waiting);
  }

  /** NATS can be reached, or not. */
  reachable(isReachable: boolean): void {
    if (this.#isOver) return;
    this.#isReachable = isReachable;
    if (!this.#isStarted) return;
    this.#tell(isReachable ? "active" : "disconnected");
    // What was published meanwhile may be waiting, or may have gone elsewhere.
    if (isReachable) this.#look();
  }

  /** An event was sent, with so many waiting behind it. */
  delivered(waiting: number): void {
    this.#news += 1;
    this.#waiting(waiting);
  }

  [Symbol.dispose](): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
  }

  #waiting(waiting: number): void {
    if (this.#isOver) return;
    if (waiting > 0) {
      this.#isCaughtUp = false;
      this.#lookLater();
    } else if (!this.#isCaughtUp) {
      this.#isCaughtUp = true;
      clearTimeout(this.#timer);
      this.#timer = undefined;
      this.#lookMs = MIN_LOOK_MS;
      this.#tell("caught_up");
    }
  }

  #lookLater(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      if (this.#news === 0) this.#look();
      else this.#lookLater();
      this.#news = 0;
    }, this.#lookMs);
  }

  #look(): void {
    this.#lookMs = Math.min(MAX_LOOK_MS, this.#lookMs * 2);
    this.#info().then(
      (info) => {
        if (this.#isReachable) this.#waiting(info.num_pending);
      },
      () => {
        if (this.#isReachable && !this.#isCaughtUp && !this.#isOver) this.#lookLater();
      },
    );
  }
}

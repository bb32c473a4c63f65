/**
 * Hot path: the events that one subscription holds unsettled, with the time that each has left. A map in the order in
 * which times run out (a ping moves its event to the end), so one timer watches the first entry for all of them.
 *
 * The time counts on the monotonic clock from the receipt of the event, and ends a little before JetStream's: nothing
 * is accepted here that may already be on its way to another subscriber.
 */

/** An event held by the client. */
export interface HeldEvent {
  /** Stream sequence. */
  readonly id: number;
  /** Where JetStream hears what became of this delivery. */
  readonly ackSubject: string;
  readonly attempt: number;
  /** On the monotonic clock; from then on the event is not held any more. */
  expiresAt: number;
  /** An ack or reject is under way: it decides, not the clock, and there is no second one. */
  isSettling: boolean;
  /** Pings under way; they hold the clock too, and an ack may overtake them. */
  pings: number;
  /** For the caller: what goes with the event until it is settled. */
  readonly tag: unknown;
}

const MARGIN_SHARE = 0.05;
const MAX_MARGIN_MS = 250;

/** How long a client may really take: a little less than JetStream gives. */
export function holdTimeMs(processingTimeoutMs: number, roundTripMs: number): number {
  const margin = Math.min(processingTimeoutMs * MARGIN_SHARE, MAX_MARGIN_MS);
  return Math.max(0, processingTimeoutMs - margin - roundTripMs);
}

/** Events of one subscription. `onExpired` hears of each whose time ran out. */
export class Ledger implements Disposable {
  readonly #held = new Map<number, HeldEvent>();
  readonly #onExpired: (event: HeldEvent) => void;
  #timer: NodeJS.Timeout | undefined;

  constructor(onExpired: (event: HeldEvent) => void) {
    this.#onExpired = onExpired;
  }

  /** Events held, those being settled included. */
  get size(): number {
    return this.#held.size;
  }

  /** Takes an event in. Returns the entry it takes the place of, where the same event was held already. */
  add(event: HeldEvent): HeldEvent | undefined {
    const previous = this.#held.get(event.id);
    if (previous !== undefined) this.#held.delete(event.id);
    this.#held.set(event.id, event);
    this.#timer ??= this.#arm();
    return previous;
  }

  /** The event, if it is held and may be settled or pinged now. */
  find(id: number, now: number): HeldEvent | undefined {
    const event = this.#held.get(id);
    if (event === undefined || event.isSettling) return undefined;
    if (event.expiresAt > now || event.pings > 0) return event;
    this.#expire(event);
    return undefined;
  }

  /**
   * Settled: the event is not held any more. JetStream settles by sequence, so a later delivery of it that came in the
   * meantime goes with it, unless that is being settled itself. False when nothing was held.
   */
  settled(event: HeldEvent): boolean {
    const held = this.#held.get(event.id);
    if (held === undefined || (held !== event && held.isSettling)) return false;
    return this.#held.delete(event.id);
  }

  /** Still held, until `expiresAt`. */
  keep(event: HeldEvent, expiresAt: number): void {
    if (this.#held.get(event.id) !== event || event.isSettling) return;
    if (expiresAt <= performance.now() && event.pings === 0) {
      this.#expire(event);
      return;
    }
    if (expiresAt === event.expiresAt) return;
    event.expiresAt = expiresAt;
    this.#held.delete(event.id);
    this.#held.set(event.id, event);
  }

  /** Lets go of everything that is not being settled, and returns it. */
  release(): HeldEvent[] {
    const released = [...this.#held.values()].filter((event) => !event.isSettling);
    for (const event of released) this.#held.delete(event.id);
    return released;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#held.clear();
  }

  #expire(event: HeldEvent): void {
    this.#held.delete(event.id);
    this.#onExpired(event);
  }

  #arm(): NodeJS.Timeout | undefined {
    const first = this.#held.values().next().value;
    if (first === undefined) return undefined;
    // One that is being settled stays first until its answer comes.
    const wait = Math.max(isBusy(first) ? BUSY_LOOK_MS : 1, first.expiresAt - performance.now());
    return setTimeout(
      () => {
        const now = performance.now();
        for (const event of this.#held.values()) {
          if (event.expiresAt > now) break;
          if (!isBusy(event)) this.#expire(event);
        }
        this.#timer = this.#arm();
      },
      Math.min(wait, MAX_TIMER_MS),
    );
  }
}

const BUSY_LOOK_MS = 50;
/** Node's timers do not go further; the next look arms it again. */
const MAX_TIMER_MS = 2 ** 31 - 1;

function isBusy(event: HeldEvent): boolean {
  return event.isSettling || event.pings > 0;
}

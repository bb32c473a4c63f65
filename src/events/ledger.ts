/**
 * Hot path: the events that one subscription holds unsettled, with the time that each has left. One timer watches the
 * earliest end for all of them, and looks for the next one when it fires: settling an event touches no timer. The times
 * need not run out in the order of receipt: a consumer of NATS tools may give each attempt another one (`backoff`).
 *
 * The time counts on the monotonic clock from the receipt of the event, and ends a little before JetStream's: nothing
 * is accepted here that may already be on its way to another subscriber.
 */

import { performance } from "node:perf_hooks";
import { SequenceMap } from "../sequence-map.ts";

/** An event held by the client. */
export interface HeldEvent {
  /** Stream sequence. */
  readonly id: number;
  /** Where JetStream hears what became of this delivery. */
  readonly ackSubject: string;
  readonly attempt: number;
  /** The epoch of the pull in which it came. */
  readonly epoch: number;
  /** For the log, should it fail. */
  readonly subject: string;
  readonly traceParent: string | undefined;
  /** Size as NATS counts it. */
  readonly bytes: number;
  /** On the monotonic clock; from then on the event is not held any more. */
  expiresAt: number;
  /** An ack or reject is under way: it decides, not the clock, and there is no second one. */
  isSettling: boolean;
  /** Pings under way, which an ack may overtake. They do not hold the clock: JetStream may never hear of them. */
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
  readonly #held = new SequenceMap<HeldEvent>();
  readonly #onExpired: (event: HeldEvent) => void;
  #timer: NodeJS.Timeout | undefined;
  /** When the timer fires, on the monotonic clock. */
  #wakesAt = Infinity;

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
    if (event.expiresAt < this.#wakesAt) this.#wakeAt(event.expiresAt);
    return previous;
  }

  /** The event, if it is held and may be settled or pinged now. */
  find(id: number, now: number): HeldEvent | undefined {
    const event = this.#held.get(id);
    if (event === undefined || event.isSettling) return undefined;
    if (event.expiresAt > now) return event;
    this.#expire(event);
    return undefined;
  }

  /** The event, if an ack or reject of it is under way. */
  settling(id: number): HeldEvent | undefined {
    const event = this.#held.get(id);
    return event?.isSettling === true ? event : undefined;
  }

  /**
   * Settled: returns what is not held any more. JetStream settles by sequence, so when an event is done for good, a later
   * delivery of it that came in the meantime goes with it, unless that is being settled itself.
   */
  settled(event: HeldEvent, isForGood: boolean): HeldEvent | undefined {
    const held = this.#held.get(event.id);
    if (held === undefined || (held !== event && (held.isSettling || !isForGood))) return undefined;
    this.#held.delete(event.id);
    return held;
  }

  /** Not settled after all: held for the rest of its time. */
  keep(event: HeldEvent): void {
    if (event.isSettling || this.#held.get(event.id) !== event) return;
    if (event.expiresAt <= performance.now()) this.#expire(event);
  }

  /**
   * JetStream has begun its time anew: it is held until `expiresAt`. False where its time had run out before we knew, as
   * somebody else may have it by now.
   */
  prolong(event: HeldEvent, expiresAt: number): boolean {
    if (event.expiresAt <= performance.now() || this.#held.get(event.id) !== event) return false;
    // What overtakes does not take away.
    event.expiresAt = Math.max(event.expiresAt, expiresAt);
    return true;
  }

  /** Lets go of everything that is not being settled, and returns it. */
  release(): HeldEvent[] {
    const released = this.#held.values().filter((event) => !event.isSettling);
    for (const event of released) this.#held.delete(event.id);
    return released;
  }

  /** Like `release`; and what is being settled is held no longer than until its answer comes. */
  abandon(): HeldEvent[] {
    for (const event of this.#held.values()) if (event.isSettling) event.expiresAt = 0;
    return this.release();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#wakesAt = Infinity;
    this.#held.clear();
  }

  #expire(event: HeldEvent): void {
    this.#held.delete(event.id);
    this.#onExpired(event);
  }

  #wakeAt(time: number): void {
    clearTimeout(this.#timer);
    this.#wakesAt = time;
    const wait = Math.max(1, time - performance.now());
    this.#timer = setTimeout(() => this.#look(), Math.min(wait, MAX_TIMER_MS));
  }

  #look(): void {
    const now = performance.now();
    let next = Infinity;
    this.#wakesAt = Infinity;
    for (const event of this.#held.values()) {
      if (event.expiresAt > now) next = Math.min(next, event.expiresAt);
      else if (!event.isSettling) this.#expire(event);
      // One that is being settled is looked at again until its answer comes.
      else next = Math.min(next, now + BUSY_LOOK_MS);
    }
    if (next < this.#wakesAt) this.#wakeAt(next);
  }
}

const BUSY_LOOK_MS = 50;
/** Node's timers do not go further; the next look arms it again. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * A limit on what is in flight to JetStream, with a bounded queue before it. Beyond both, work is refused at once: the
 * caller hears OVERLOADED and may come back, instead of waiting in memory for an answer that comes too late. What waits
 * leaves the queue at its deadline, so nothing is sent that nobody waits for.
 */
import { WindshiftError } from "../errors.ts";

/** Work that waits for its turn. Exactly one of the two is called, once. */
export interface Limited {
  /** When it gives up, in milliseconds since the epoch. */
  readonly deadlineMs: number;
  /** It would store something: its refusal says that it did not. */
  readonly isWrite: boolean;
  /** It is your turn; `leave` the limit when done. */
  start(): void;
  /** You will not get a turn. */
  refuse(error: WindshiftError): void;
}

const RETRY_AFTER_MS = 100;
/** Entries that have started are dropped from the queue in heaps of this size. */
const COMPACT_AT = 1024;
/** How late a deadline in the queue is noticed at most; one pass over ten thousand entries takes some 20 µs. */
const SWEEP_INTERVAL_MS = 20;

/** How much may be in flight, and how much may wait. */
export class InFlightLimit {
  readonly #what: string;
  readonly #maxInFlight: number;
  readonly #maxWaiting: number;
  #waiting: Limited[] = [];
  #head = 0;
  #inFlight = 0;
  #isStarting = false;
  /** Runs only while something waits. */
  #sweeper: NodeJS.Timeout | undefined;

  constructor(what: string, maxInFlight: number, maxWaiting: number) {
    this.#what = what;
    this.#maxInFlight = maxInFlight;
    this.#maxWaiting = maxWaiting;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  get waiting(): number {
    return this.#waiting.length - this.#head;
  }

  /** Starts the work now, later, or refuses it: now, or at its deadline. */
  enter(work: Limited): void {
    if (this.#inFlight < this.#maxInFlight) {
      this.#inFlight += 1;
      work.start();
    } else if (this.waiting < this.#maxWaiting) {
      this.#waiting.push(work);
      this.#sweeper ??= setInterval(() => this.#sweep(), SWEEP_INTERVAL_MS);
    } else {
      const text = `too many ${this.#what}: ${this.#inFlight} in flight, ${this.waiting} waiting`;
      work.refuse(neverStarted("OVERLOADED", text, work));
    }
  }

  /** One that was started is done: the next begins. */
  leave(): void {
    this.#inFlight -= 1;
    if (this.#isStarting) return;
    this.#isStarting = true;
    try {
      // A loop, as work may leave as soon as it starts, and so might all that waits.
      while (this.#inFlight < this.#maxInFlight && this.waiting > 0) {
        this.#inFlight += 1;
        this.#next().start();
      }
    } finally {
      this.#isStarting = false;
    }
  }

  /** Refuses all that waits, as when NATS is gone. */
  refuseWaiting(error: WindshiftError): void {
    const waiting = this.#waiting.slice(this.#head);
    this.#replace([]);
    for (const work of waiting) work.refuse(error);
  }

  #sweep(): void {
    const now = Date.now();
    const late: Limited[] = [];
    for (let n = this.#head; n < this.#waiting.length; n++) {
      if (this.#waiting[n]!.deadlineMs <= now) late.push(this.#waiting[n]!);
    }
    if (late.length > 0) this.#replace(this.#waiting.slice(this.#head).filter(({ deadlineMs }) => deadlineMs > now));
    else if (this.waiting === 0) this.#replace([]);
    const text = `the deadline passed while waiting for a turn among other ${this.#what}`;
    for (const work of late) work.refuse(neverStarted("DEADLINE_EXCEEDED", text, work));
  }

  #replace(waiting: Limited[]): void {
    this.#waiting = waiting;
    this.#head = 0;
    if (waiting.length > 0) return;
    clearInterval(this.#sweeper);
    this.#sweeper = undefined;
  }

  #next(): Limited {
    const next = this.#waiting[this.#head]!;
    this.#head += 1;
    if (this.#head === this.#waiting.length || this.#head > COMPACT_AT) {
      this.#waiting = this.#waiting.slice(this.#head);
      this.#head = 0;
    }
    return next;
  }
}

function neverStarted(reason: "OVERLOADED" | "DEADLINE_EXCEEDED", text: string, { isWrite }: Limited): WindshiftError {
  return new WindshiftError(reason, text, {
    ...(isWrite ? { outcome: "not_stored" } : {}),
    retryAfterMs: RETRY_AFTER_MS,
  });
}

/**
 * A limit on what is in flight to JetStream, with a bounded queue before it. Beyond both, work is refused at once: the
 * caller hears OVERLOADED and may come back, instead of waiting in memory for an answer that comes too late.
 */
import { WindshiftError } from "../errors.ts";

/** Work that waits for its turn. Exactly one of the two is called, once. */
export interface Limited {
  /** It is your turn; `leave` the limit when done. */
  start(): void;
  /** You will not get a turn. */
  refuse(error: WindshiftError): void;
}

const RETRY_AFTER_MS = 100;
/** Entries that have started are dropped from the queue in heaps of this size. */
const COMPACT_AT = 1024;

/** How much may be in flight, and how much may wait. */
export class InFlightLimit {
  readonly #what: string;
  readonly #maxInFlight: number;
  readonly #maxWaiting: number;
  #waiting: Limited[] = [];
  #head = 0;
  #inFlight = 0;
  #isStarting = false;

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

  /** Starts the work now, later, or refuses it now. */
  enter(work: Limited): void {
    if (this.#inFlight < this.#maxInFlight) {
      this.#inFlight += 1;
      work.start();
    } else if (this.waiting < this.#maxWaiting) {
      this.#waiting.push(work);
    } else {
      work.refuse(
        new WindshiftError(
          "OVERLOADED",
          `too many ${this.#what}: ${this.#inFlight} in flight, ${this.waiting} waiting`,
          {
            outcome: "not_stored",
            retryAfterMs: RETRY_AFTER_MS,
          },
        ),
      );
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
    this.#waiting = [];
    this.#head = 0;
    for (const work of waiting) work.refuse(error);
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

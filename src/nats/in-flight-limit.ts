/**
 * A limit on what is in flight to JetStream, with a bounded queue before it. Beyond both, work is refused at once: the
 * caller hears OVERLOADED and may come back, instead of waiting in memory for an answer that comes too late. What waits
 * leaves the queue at its deadline, so nothing is sent that nobody waits for.
 *
 * Work that was started and has to wait before it is tried again stands aside meanwhile: it counts as waiting.
 */
import { WindshiftError } from "../errors.ts";

/** Work that waits for its turn. Exactly one of the two is called, once. */
export interface Limited {
  /** When it gives up, in milliseconds since the epoch. */
  readonly deadlineMs: number;
  /** It would store something: its refusal says that it did not. */
  readonly isWrite: boolean;
  /** What it keeps in memory; 0 where that is not worth counting. */
  readonly bytes: number;
  /** It waits also where too many do: its owner has bounds of its own, and looks whether it is crowded here. */
  readonly isPatient?: boolean;
  /** It is your turn; `leave` the limit when done. */
  start(): void;
  /** You will not get a turn. */
  refuse(error: WindshiftError): void;
}

const RETRY_AFTER_MS = 100;
const NOTHING: Pick<Limited, "bytes"> = { bytes: 0 };
/** Entries that have started are dropped from the queue in heaps of this size. */
const COMPACT_AT = 1024;
/** How late a deadline in the queue is noticed at most; one pass over ten thousand entries takes some 20 µs. */
const SWEEP_INTERVAL_MS = 20;

/** Bounds of an {@link InFlightLimit}. */
export interface Limits {
  readonly maxInFlight: number;
  readonly maxWaiting: number;
  /** In flight and waiting together; a single one may have more. */
  readonly maxBytes?: number;
}

/** How much may be in flight, and how much may wait. */
export class InFlightLimit {
  readonly #what: string;
  #maxInFlight: number;
  readonly #maxWaiting: number;
  readonly #maxBytes: number;
  #waiting: Limited[] = [];
  #head = 0;
  #inFlight = 0;
  #aside = 0;
  #bytes = 0;
  #isStarting = false;
  /** Runs only while something waits. */
  #sweeper: NodeJS.Timeout | undefined;

  constructor(what: string, { maxInFlight, maxWaiting, maxBytes = Infinity }: Limits) {
    this.#what = what;
    this.#maxInFlight = maxInFlight;
    this.#maxWaiting = maxWaiting;
    this.#maxBytes = maxBytes;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  get waiting(): number {
    return this.#queued + this.#aside;
  }

  /** Whether more would be refused, unless it is patient. */
  get isCrowded(): boolean {
    return (
      (this.#inFlight >= this.#maxInFlight && this.waiting >= this.#maxWaiting) ||
      (this.#bytes > 0 && this.#bytes >= this.#maxBytes)
    );
  }

  /** From now on so many may be in flight; those that are go on. */
  set maxInFlight(count: number) {
    this.#maxInFlight = count;
  }

  /** Starts the work now, later, or refuses it: now, or at its deadline. */
  enter(work: Limited): void {
    const hasTurn = this.#inFlight < this.#maxInFlight;
    if (work.isPatient !== true && ((!hasTurn && this.waiting >= this.#maxWaiting) || !this.#hasRoomFor(work))) {
      this.#refuse(work);
      return;
    }
    this.#bytes += work.bytes;
    this.#startOrQueue(work);
  }

  /** One that was started is done: the next begins. */
  leave({ bytes }: Pick<Limited, "bytes"> = NOTHING): void {
    this.#bytes -= bytes;
    this.#inFlight -= 1;
    if (this.#isStarting) return;
    this.#isStarting = true;
    try {
      // A loop, as work may leave as soon as it starts, and so might all that waits.
      while (this.#inFlight < this.#maxInFlight && this.#queued > 0) {
        this.#inFlight += 1;
        this.#next().start();
      }
    } finally {
      this.#isStarting = false;
    }
  }

  /** One that has left will come back. False: too many wait, and it was refused. */
  standAside(work: Limited): boolean {
    if (work.isPatient !== true && (this.waiting >= this.#maxWaiting || !this.#hasRoomFor(work))) {
      this.#refuse(work);
      return false;
    }
    this.#bytes += work.bytes;
    this.#aside += 1;
    return true;
  }

  /** One that stood aside takes its turn, now or later. */
  comeBack(work: Limited): void {
    this.#aside -= 1;
    this.#startOrQueue(work);
  }

  /** One that stood aside does not come back. */
  giveUp({ bytes }: Limited): void {
    this.#aside -= 1;
    this.#bytes -= bytes;
  }

  /** Refuses all that waits for its turn, as when NATS is gone. */
  refuseWaiting(error: WindshiftError): void {
    const waiting = this.#waiting.slice(this.#head);
    this.#replace([]);
    this.#dropAll(waiting, () => error);
  }

  get #queued(): number {
    return this.#waiting.length - this.#head;
  }

  #hasRoomFor({ bytes }: Limited): boolean {
    return this.#bytes === 0 || this.#bytes + bytes <= this.#maxBytes;
  }

  #startOrQueue(work: Limited): void {
    if (this.#inFlight < this.#maxInFlight) {
      this.#inFlight += 1;
      work.start();
    } else {
      this.#waiting.push(work);
      this.#sweeper ??= setInterval(() => this.#sweep(), SWEEP_INTERVAL_MS);
    }
  }

  #refuse(work: Limited): void {
    const text = `too many ${this.#what}: ${this.#inFlight} in flight, ${this.waiting} waiting`;
    const bytes = this.#maxBytes === Infinity ? "" : `, with ${this.#bytes} bytes`;
    work.refuse(neverStarted("OVERLOADED", text + bytes, work));
  }

  #dropAll(dropped: readonly Limited[], error: (work: Limited) => WindshiftError): void {
    for (const { bytes } of dropped) this.#bytes -= bytes;
    for (const work of dropped) work.refuse(error(work));
  }

  #sweep(): void {
    const now = Date.now();
    const late: Limited[] = [];
    for (let n = this.#head; n < this.#waiting.length; n++) {
      if (this.#waiting[n]!.deadlineMs <= now) late.push(this.#waiting[n]!);
    }
    if (late.length > 0) this.#replace(this.#waiting.slice(this.#head).filter(({ deadlineMs }) => deadlineMs > now));
    else if (this.#queued === 0) this.#replace([]);
    const text = `the deadline passed while waiting for a turn among other ${this.#what}`;
    this.#dropAll(late, (work) => neverStarted("DEADLINE_EXCEEDED", text, work));
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

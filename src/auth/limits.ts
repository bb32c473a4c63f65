/**
 * What one principal may take: calls and bytes in a second, subscriptions and other streaming calls at a time. All its
 * credentials and connections share one allowance; whoever is at its limits slows down nobody else.
 *
 * A second's worth may come at once. Whoever took more than that, by one large message say, waits until it is earned.
 */
import { WindshiftError } from "../errors.ts";
import type { Limits } from "./policy-rule.ts";
import type { Principal } from "./principal.ts";

/** What each principal may take that a policy says nothing else of; 0 is as much as it likes. */
export type PrincipalLimits = Required<Limits>;

/** Principals whose allowance is kept although they do nothing: forgotten ones begin with a full one. */
const MAX_IDLE = 10_000;
const RETRY_STREAM_MS = 1_000;

/** The allowances of all principals. */
export class Allowances {
  readonly #limits: PrincipalLimits;
  readonly #now: () => number;
  readonly #allowances = new Map<string, Allowance>();
  #pruneAt = MAX_IDLE;

  /** `now` is a monotonic clock, in milliseconds. */
  constructor(limits: PrincipalLimits, now: () => number = () => performance.now()) {
    this.#limits = limits;
    this.#now = now;
  }

  get size(): number {
    return this.#allowances.size;
  }

  /** The allowance of a principal, with its own limits where it has some; undefined where nothing is limited. */
  of({ kind, name }: Principal, own: Limits = {}): Allowance | undefined {
    const limits = { ...this.#limits, ...own };
    if (Object.values(limits).every((limit) => limit === 0)) return undefined;
    const key = `${kind} ${name}`;
    let allowance = this.#allowances.get(key);
    if (allowance === undefined) {
      if (this.#allowances.size >= this.#pruneAt) this.#prune();
      this.#allowances.set(key, (allowance = new Allowance(this.#now)));
    }
    allowance.limit(limits);
    return allowance;
  }

  #prune(): void {
    for (const [key, allowance] of this.#allowances) if (allowance.isUntouched) this.#allowances.delete(key);
    this.#pruneAt = Math.max(MAX_IDLE, 2 * this.#allowances.size);
  }
}

/** What one principal has left. */
export class Allowance {
  readonly #now: () => number;
  #limits: PrincipalLimits = { callsPerSecond: 0, bytesPerSecond: 0, openSubscriptions: 0, openStreams: 0 };
  #calls: Bucket | undefined;
  #bytes: Bucket | undefined;
  #subscriptions = 0;
  #streams = 0;

  constructor(now: () => number) {
    this.#now = now;
  }

  /** Other limits than before; what is open stays open. */
  limit(limits: PrincipalLimits): void {
    const { callsPerSecond, bytesPerSecond } = this.#limits;
    this.#limits = limits;
    if (limits.callsPerSecond !== callsPerSecond) this.#calls = bucketOf(limits.callsPerSecond, this.#now);
    if (limits.bytesPerSecond !== bytesPerSecond) this.#bytes = bucketOf(limits.bytesPerSecond, this.#now);
  }

  /** True when it is as good as a new one. */
  get isUntouched(): boolean {
    return this.#streams === 0 && this.#calls?.isFull !== false && this.#bytes?.isFull !== false;
  }

  /** A call with a request of so many bytes. Throws LIMIT_EXCEEDED where it has to wait. */
  takeCall(bytes: number): void {
    const waitMs = this.waitMs;
    if (waitMs > 0) {
      const { callsPerSecond, bytesPerSecond } = this.#limits;
      const limit =
        this.#calls !== undefined && this.#calls.waitMs > 0 ? `${callsPerSecond} calls` : `${bytesPerSecond} bytes`;
      throw exceeded(`the limit of ${limit} per second is reached`, waitMs);
    }
    this.take(bytes);
  }

  /** Counts a message of a streaming call, which is never refused: its sender is slowed down by {@link waitMs}. */
  take(bytes: number): void {
    this.#calls?.take(1);
    this.#bytes?.take(bytes);
  }

  /** How long until it may take more; 0 is at once. */
  get waitMs(): number {
    return Math.max(this.#calls?.waitMs ?? 0, this.#bytes?.waitMs ?? 0);
  }

  /** Begins a streaming call. Throws LIMIT_EXCEEDED where there are too many. What is returned ends it. */
  openStream(): () => void {
    const { openStreams } = this.#limits;
    if (openStreams > 0 && this.#streams >= openStreams) {
      throw exceeded(`the limit of ${openStreams} streaming calls at a time is reached`, RETRY_STREAM_MS);
    }
    this.#streams += 1;
    return () => (this.#streams -= 1);
  }

  /** The same for a subscription, which is a streaming call already. */
  openSubscription(): () => void {
    const { openSubscriptions } = this.#limits;
    if (openSubscriptions > 0 && this.#subscriptions >= openSubscriptions) {
      throw exceeded(`the limit of ${openSubscriptions} subscriptions at a time is reached`, RETRY_STREAM_MS);
    }
    this.#subscriptions += 1;
    return () => (this.#subscriptions -= 1);
  }
}

/** Fills at a rate up to a second's worth; may be overdrawn once. */
class Bucket {
  readonly #perSecond: number;
  readonly #now: () => number;
  #level: number;
  #at: number;

  constructor(perSecond: number, now: () => number) {
    this.#perSecond = this.#level = perSecond;
    this.#now = now;
    this.#at = now();
  }

  get isFull(): boolean {
    return this.#fill() >= this.#perSecond;
  }

  get waitMs(): number {
    const level = this.#fill();
    // Less than one is not yet one call; what is earned is not exact.
    return level > 0.999_999 ? 0 : Math.ceil(((1 - level) / this.#perSecond) * 1000);
  }

  take(amount: number): void {
    this.#level = this.#fill() - amount;
  }

  #fill(): number {
    const now = this.#now();
    this.#level = Math.min(this.#perSecond, this.#level + ((now - this.#at) / 1000) * this.#perSecond);
    this.#at = now;
    return this.#level;
  }
}

function bucketOf(perSecond: number, now: () => number): Bucket | undefined {
  return perSecond === 0 ? undefined : new Bucket(perSecond, now);
}

function exceeded(text: string, retryAfterMs: number): WindshiftError {
  return new WindshiftError("LIMIT_EXCEEDED", text, { outcome: "not_stored", retryAfterMs });
}

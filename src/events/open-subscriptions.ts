/**
 * The open subscriptions of this server, and those of all servers on the same NATS, as each reports its own. Nothing is
 * stored: who does not answer in time is missing.
 */
import type { WindshiftError } from "../errors.ts";
import { resetError } from "../nats/consumer-reset.ts";
import type { Peers } from "../nats/peers.ts";
import type { HeldEvent } from "./ledger.ts";

/** A subscription of this server until it is closed. */
export interface OpenSubscription {
  readonly stream: string;
  readonly consumer: string;
  /** Address of the client. */
  readonly client: string;
  /** In milliseconds since the epoch. */
  readonly openedMs: number;
  readonly window: number;
  readonly held: number;
  /** False once it is being closed; what its client has said may be on its way to JetStream yet. */
  readonly isOpen: boolean;
  /** The event, if an ack or reject of it is under way. */
  settling(id: number): HeldEvent | undefined;
  /** Ends it, closed by half or not: nothing that came to it is settled or handed back any more. */
  abort(error: WindshiftError): void;
}

/** A subscription as its server tells of it. */
export interface ReportedSubscription {
  /** Instance of the server. */
  readonly server: string;
  readonly client: string;
  readonly openedMs: number;
  readonly window: number;
  readonly held: number;
}

/** What the servers have told. */
export interface SubscriptionReport {
  readonly subscriptions: readonly ReportedSubscription[];
  /** How many servers have answered. */
  readonly servers: number;
}

const SUBSCRIPTIONS = "subscriptions";
const RESETS = "consumer-resets";
/** Longer than for a report: what a server that is merely slow still acknowledges would settle what comes after the reset. */
const RESET_QUIET_MS = 500;
/** A server that dies in the middle of a reset keeps subscribers away no longer than this. */
const MAX_RESET_MS = 30_000;
/** Resets under way that are known at once; of more, subscribers are not kept away. */
const MAX_RESETS = 1_000;
/** One server tells of no more, and neither do all together. */
const MAX_REPORTED = 1_000;

interface Question {
  readonly stream: string;
  readonly consumer: string;
}

interface Answer {
  readonly server: string;
  readonly subscriptions: readonly Omit<ReportedSubscription, "server">[];
}

interface ResetNotice extends Question {
  /** Who says it. */
  readonly server: string;
  readonly isOver: boolean;
}

interface ResetAnswer {
  readonly server: string;
  readonly ended: number;
  /** That server resets the consumer itself, and goes first. */
  readonly isRefused: boolean;
}

/** A reset that a server has told of. */
interface KnownReset extends Question {
  /** When it is over at the latest, on the monotonic clock. */
  readonly until: number;
}

/** A reset that this server carries out. */
interface OwnReset {
  /** The others have had their time to refuse it. */
  isGranted: boolean;
}

/** Knows the subscriptions of this server, and asks for those of the others. */
export class OpenSubscriptions {
  readonly #peers: Peers;
  readonly #instance: string;
  readonly #open = new Set<OpenSubscription>();
  /** Resets that go on, by consumer and server. */
  readonly #resets = new Map<string, KnownReset>();
  readonly #ownResets = new Map<string, OwnReset>();

  /** `instance` names this server among all. */
  constructor(peers: Peers, instance: string) {
    this.#peers = peers;
    this.#instance = instance;
    peers.serve(SUBSCRIPTIONS, (body) => {
      if (!isQuestion(body)) return undefined;
      const open = this.#of(body).filter(({ isOpen }) => isOpen);
      const subscriptions = open.slice(0, MAX_REPORTED);
      return {
        server: instance,
        subscriptions: subscriptions.map(({ client, openedMs, window, held }) => ({ client, openedMs, window, held })),
      } satisfies Answer;
    });
    peers.serve(RESETS, (body) => {
      if (!isNotice(body)) return undefined;
      // Our own word comes back from NATS, and we have acted on it already.
      const isRefused = body.server !== instance && this.#refuses(body);
      const ended = body.server === instance || isRefused ? 0 : this.#noteReset(body);
      return { server: instance, ended, isRefused } satisfies ResetAnswer;
    });
  }

  add(subscription: OpenSubscription): void {
    this.#open.add(subscription);
  }

  delete(subscription: OpenSubscription): void {
    this.#open.delete(subscription);
  }

  /** The event of a consumer, if an ack or reject of it is under way from a subscription of this server. */
  settling(stream: string, consumer: string, id: number): HeldEvent | undefined {
    for (const each of this.#open) {
      if (each.stream !== stream || each.consumer !== consumer) continue;
      const event = each.settling(id);
      if (event !== undefined) return event;
    }
    return undefined;
  }

  /** Who is subscribed to a consumer, on all servers; in the order of servers and of opening. */
  async report(stream: string, consumer: string): Promise<SubscriptionReport> {
    const answers = (await this.#peers.ask(SUBSCRIPTIONS, { stream, consumer } satisfies Question)).filter(isAnswer);
    const subscriptions = answers
      .flatMap(({ server, subscriptions: its }) => its.map((one) => ({ server, ...one })))
      .toSorted((a, b) => (a.server === b.server ? a.openedMs - b.openedMs : a.server < b.server ? -1 : 1))
      .slice(0, MAX_REPORTED);
    return { subscriptions, servers: answers.length };
  }

  /**
   * Ends all subscriptions to a consumer, and keeps new ones away until `endReset`. Returns how many ended, on the servers
   * that have answered. Throws CONSUMER_RESET while it is being reset already, by whichever server.
   */
  async beginReset(stream: string, consumer: string): Promise<number> {
    this.refuseDuringReset(stream, consumer);
    const notice: ResetNotice = { server: this.#instance, stream, consumer, isOver: false };
    const own: OwnReset = { isGranted: false };
    this.#ownResets.set(keyOf(notice), own);
    const here = this.#noteReset(notice);
    try {
      const answers = (await this.#peers.ask(RESETS, notice, RESET_QUIET_MS)).filter(isResetAnswer);
      if (answers.some(({ isRefused }) => isRefused)) throw resetError(stream, consumer);
      own.isGranted = true;
      return answers.reduce((sum, { ended }) => sum + ended, here);
    } catch (error) {
      void this.endReset(stream, consumer);
      throw error;
    }
  }

  /** Lets subscribers in again. Whoever has not heard of the beginning ends its subscriptions now. */
  async endReset(stream: string, consumer: string): Promise<void> {
    const notice: ResetNotice = { server: this.#instance, stream, consumer, isOver: true };
    this.#ownResets.delete(keyOf(notice));
    this.#noteReset(notice);
    // Who does not hear of it lets them in when the time is over.
    await this.#peers.ask(RESETS, notice).catch(() => undefined);
  }

  /** Of two servers that begin at the same time, the one whose name comes first goes first. */
  #refuses(notice: ResetNotice): boolean {
    const own = this.#ownResets.get(keyOf(notice));
    return !notice.isOver && own !== undefined && (own.isGranted || this.#instance < notice.server);
  }

  /** Throws CONSUMER_RESET while a consumer is being reset. */
  refuseDuringReset(stream: string, consumer: string): void {
    const now = performance.now();
    for (const reset of this.#resets.values()) {
      const isIt = reset.stream === stream && reset.consumer === consumer;
      if (isIt && reset.until > now) throw resetError(stream, consumer);
    }
    if (this.#ownResets.has(keyOf({ stream, consumer }))) throw resetError(stream, consumer);
  }

  /** Returns how many subscriptions ended; those that were being closed are let go of, too. */
  #noteReset(notice: ResetNotice): number {
    const now = performance.now();
    for (const [key, { until }] of this.#resets) if (until <= now) this.#resets.delete(key);
    const { server, stream, consumer } = notice;
    const key = `${keyOf(notice)} ${server}`;
    if (notice.isOver) this.#resets.delete(key);
    else if (this.#resets.size < MAX_RESETS) this.#resets.set(key, { stream, consumer, until: now + MAX_RESET_MS });
    const subscriptions = this.#of(notice);
    const { length } = subscriptions.filter(({ isOpen }) => isOpen);
    for (const subscription of subscriptions) subscription.abort(resetError(stream, consumer));
    return length;
  }

  #of({ stream, consumer }: Question): OpenSubscription[] {
    return [...this.#open].filter((each) => each.stream === stream && each.consumer === consumer);
  }
}

function isQuestion(body: unknown): body is Question {
  const { stream, consumer } = (body ?? {}) as Partial<Question>;
  return typeof stream === "string" && typeof consumer === "string";
}

function isAnswer(body: unknown): body is Answer {
  const { server, subscriptions } = (body ?? {}) as Partial<Answer>;
  return typeof server === "string" && Array.isArray(subscriptions) && subscriptions.every(isReported);
}

function isReported(one: unknown): boolean {
  const { client, openedMs, window, held } = (one ?? {}) as Partial<ReportedSubscription>;
  return typeof client === "string" && [openedMs, window, held].every(Number.isSafeInteger);
}

function isNotice(body: unknown): body is ResetNotice {
  const { server, isOver } = (body ?? {}) as Partial<ResetNotice>;
  return isQuestion(body) && typeof server === "string" && typeof isOver === "boolean";
}

function isResetAnswer(body: unknown): body is ResetAnswer {
  const { server, ended, isRefused } = (body ?? {}) as Partial<ResetAnswer>;
  return typeof server === "string" && Number.isSafeInteger(ended) && typeof isRefused === "boolean";
}

function keyOf({ stream, consumer }: Question): string {
  return `${stream} ${consumer}`;
}

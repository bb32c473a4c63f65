/**
 * The open subscriptions of this server, and those of all servers on the same NATS, as each reports its own. Nothing is
 * stored: who does not answer in time is missing.
 */
import type { WindshiftError } from "../errors.ts";
import type { Peers } from "../nats/peers.ts";

/** A subscription of this server while it is open. */
export interface OpenSubscription {
  readonly stream: string;
  readonly consumer: string;
  /** Address of the client. */
  readonly client: string;
  /** In milliseconds since the epoch. */
  readonly openedMs: number;
  readonly window: number;
  readonly held: number;
  /** Ends it; nothing that it holds is settled or handed back any more. */
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

/** Knows the subscriptions of this server, and asks for those of the others. */
export class OpenSubscriptions {
  readonly #peers: Peers;
  readonly #open = new Set<OpenSubscription>();

  /** `instance` names this server among all. */
  constructor(peers: Peers, instance: string) {
    this.#peers = peers;
    peers.serve(SUBSCRIPTIONS, (body) => {
      if (!isQuestion(body)) return undefined;
      const subscriptions = this.#of(body).slice(0, MAX_REPORTED);
      return {
        server: instance,
        subscriptions: subscriptions.map(({ client, openedMs, window, held }) => ({ client, openedMs, window, held })),
      } satisfies Answer;
    });
  }

  add(subscription: OpenSubscription): void {
    this.#open.add(subscription);
  }

  delete(subscription: OpenSubscription): void {
    this.#open.delete(subscription);
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

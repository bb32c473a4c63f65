/**
 * The suite's own eye: asks every node of NATS, past all links, who leads the consumers of the main stream. A consumer counts as
 * led while all nodes see the same leader answer; then a server can reach that leader from wherever it is connected.
 */
import type { ConsumerInfo } from "@nats-io/jetstream";
import type { NatsConnection } from "@nats-io/nats-core";
import { connect } from "@nats-io/transport-node";
import { setTimeout as delay } from "node:timers/promises";
import { clock } from "../history.ts";

/** All nodes saw this consumer with this leader, at every look from the first to the last. */
export interface Leadership {
  readonly consumer: string;
  readonly leader: string;
  readonly from: number;
  readonly to: number;
}

/** This process was to look at `t`, and the machine kept it waiting for so long. */
export interface Lag {
  readonly t: number;
  readonly ms: number;
}

const LOOK_MS = 150;
const LIST_MS = 1_000;
const ANSWER_MS = 1_000;
/** Looks further apart than this do not show what was in between. */
const BLINK_MS = 1_000;
const MIN_LAG_MS = 20;

/** What JetStream tells when an event was settled for good without an acknowledgement. */
interface Terminated {
  readonly stream_seq: number;
  readonly timestamp: string;
}

interface Names {
  readonly consumers?: readonly string[] | null;
}

/** Looks from its start until it is disposed. */
export class Eye implements AsyncDisposable {
  readonly #leaderships: Leadership[] = [];
  readonly #lags: Lag[] = [];
  readonly #terminations = new Map<number, number>();
  readonly #stop = new AbortController();
  readonly #stack: AsyncDisposableStack;
  readonly #views: readonly NatsConnection[];
  readonly #stream: string;
  /** By the name of the consumer; and one that finds them. */
  readonly #watches = new Map<string, Promise<void>>();

  private constructor(
    views: readonly NatsConnection[],
    stream: string,
    lettersConsumer: string,
    stack: AsyncDisposableStack,
  ) {
    this.#views = views;
    this.#stream = stream;
    this.#stack = stack;
    this.#watches.set("", this.#list());
    // All nodes are listened to, as any may be away.
    for (const view of views) {
      const subject = `$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.${stream}.${lettersConsumer}`;
      view.subscribe(subject, { callback: (_, message) => this.#terminated(message.json<Terminated>()) });
    }
  }

  /** `lettersConsumer` is the one of the stream whose events are given up. */
  static async open(urls: readonly string[], stream: string, lettersConsumer: string): Promise<Eye> {
    await using stack = new AsyncDisposableStack();
    const views = await Promise.all(
      urls.map(async (servers, node) => {
        const connection = await connect({
          servers,
          ignoreClusterUpdates: true,
          maxReconnectAttempts: -1,
          reconnectTimeWait: 100,
          pingInterval: 1_000,
          maxPingOut: 2,
          name: `chaos-eye-${node}`,
        });
        stack.defer(async () => connection.close());
        return connection;
      }),
    );
    return new Eye(views, stream, lettersConsumer, stack.move());
  }

  get leaderships(): readonly Leadership[] {
    return this.#leaderships;
  }

  get lags(): readonly Lag[] {
    return this.#lags;
  }

  /** When JetStream first had an event as given up, by its id, in milliseconds since the epoch. */
  get terminations(): ReadonlyMap<number, number> {
    return this.#terminations;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await Promise.all([...this.#watches.values()]);
    await this.#stack.disposeAsync();
  }

  #terminated({ stream_seq: id, timestamp }: Terminated): void {
    this.#terminations.set(id, Math.min(Date.parse(timestamp), this.#terminations.get(id) ?? Infinity));
  }

  /** Looks for consumers, and measures how late it comes to it. */
  async #list(): Promise<void> {
    for (let n = 0; !this.#stop.signal.aborted; n++) {
      const due = clock() + LOOK_MS;
      await delay(LOOK_MS);
      const ms = clock() - due;
      if (ms > MIN_LAG_MS) this.#lags.push({ t: due, ms });
      if ((n * LOOK_MS) % LIST_MS >= LOOK_MS) continue;
      const lists = this.#views.map(async (view) => ask<Names>(view, `CONSUMER.NAMES.${this.#stream}`));
      // Without an answer those that are known are looked at all the same.
      void Promise.any(lists).then(
        ({ consumers }) => {
          for (const name of consumers ?? []) if (!this.#watches.has(name)) this.#watches.set(name, this.#watch(name));
        },
        () => undefined,
      );
    }
  }

  async #watch(consumer: string): Promise<void> {
    let last: { leader: string; to: number } | undefined;
    while (!this.#stop.signal.aborted) {
      const answers = await Promise.all(
        this.#views.map(async (view) =>
          ask<ConsumerInfo>(view, `CONSUMER.INFO.${this.#stream}.${consumer}`).catch(() => undefined),
        ),
      );
      const t = clock();
      // A lone node has no groups.
      const leaders = new Set(answers.map((info) => (info?.cluster === undefined ? info?.name : info.cluster.leader)));
      const [leader = ""] = leaders;
      if (leaders.size > 1 || leader === "") last = undefined;
      else if (last?.leader === leader && t - last.to < BLINK_MS) last.to = t;
      else {
        const seen = { consumer, leader, from: t, to: t };
        this.#leaderships.push(seen);
        last = seen;
      }
      await delay(LOOK_MS);
    }
  }
}

async function ask<Answer>(connection: NatsConnection, subject: string): Promise<Answer> {
  const reply = await connection.request(`$JS.API.${subject}`, "", { timeout: ANSWER_MS });
  return reply.json<Answer>();
}

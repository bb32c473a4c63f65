/**
 * What servers of ours say to each other: messages of core NATS on subjects of their own, which nothing keeps. Whoever is
 * away does not hear them, so each is a hint or a question; what has to hold needs something else besides.
 *
 * The subjects begin with `$WINDSHIFT` and the JetStream domain. `$` is in no subject that the contract allows, so no stream
 * of a client collects them, and no event is published to them.
 */
import type { NatsConnection, Subscription } from "./connection.ts";
import { noReply } from "./errors.ts";
import { type NatsMessage, statusCode } from "./message.ts";

/** Answers a question; undefined: with nothing. Must not trust what it gets. */
export type PeerHandler = (body: unknown) => object | undefined;

const PREFIX = "$WINDSHIFT";
const NO_DOMAIN = "_";
/** Nobody knows how many there are: after so long without a further answer there are no more … */
const QUIET_MS = 100;
/** … or, where NATS is far away, after so many round trips; … */
const QUIET_ROUND_TRIPS = 4;
/** … and no later than this. */
const MAX_WAIT_MS = 1_000;
const MAX_ANSWERS = 1_000;

/** The servers of ours on one NATS, this one included. */
export class Peers {
  readonly #connection: NatsConnection;
  readonly #prefix: string;
  readonly #handlers = new Map<string, PeerHandler>();
  #subscriptions: Subscription[] = [];

  constructor(connection: NatsConnection) {
    this.#connection = connection;
    this.#prefix = `${PREFIX}.${connection.options.domain ?? NO_DOMAIN}.`;
    connection.listen({
      onConnected: () => this.#subscribe(),
      onDisconnected: () => this.#unsubscribe(),
    });
  }

  /** Hears of all that is asked about a topic, from now on. */
  serve(topic: string, handler: PeerHandler): void {
    this.#handlers.set(topic, handler);
    if (this.#connection.connected) this.#subscribe();
  }

  /**
   * Asks all; resolves with what those have answered who did so in time: until there was nothing for `quietMs`. Rejects
   * without a connection.
   */
  async ask(topic: string, body: object, quietMs: number = QUIET_MS): Promise<unknown[]> {
    const connection = this.#connection;
    const answers: unknown[] = [];
    const { promise, resolve } = Promise.withResolvers<void>();
    const inbox = connection.createInbox();
    const latest = setTimeout(resolve, MAX_WAIT_MS);
    let quiet: NodeJS.Timeout | undefined;
    const subscription = connection.subscribe(inbox, (message) => {
      const answer = parse(message);
      if (answer !== undefined) answers.push(answer);
      // A status says that nobody listens.
      if (statusCode(message) !== 0 || answers.length >= MAX_ANSWERS) resolve();
      clearTimeout(quiet);
      quiet = setTimeout(resolve, Math.max(quietMs, QUIET_ROUND_TRIPS * connection.roundTripMs));
    });
    try {
      if (subscription === undefined || !connection.connected) {
        throw noReply("not_sent", `to ask about ${topic}`, { write: false, repeatable: true });
      }
      connection.publishWithReply(this.#prefix + topic, inbox, JSON.stringify(body));
      await promise;
    } finally {
      clearTimeout(latest);
      clearTimeout(quiet);
      subscription?.unsubscribe();
    }
    return answers;
  }

  #subscribe(): void {
    this.#unsubscribe();
    for (const [topic, handler] of this.#handlers) {
      const subscription = this.#connection.subscribe(this.#prefix + topic, (message) => {
        const body = parse(message);
        const answer = body === undefined ? undefined : handler(body);
        if (answer === undefined || message.reply === "") return;
        this.#connection.publish(message.reply, "", Buffer.from(JSON.stringify(answer)));
      });
      if (subscription !== undefined) this.#subscriptions.push(subscription);
    }
  }

  #unsubscribe(): void {
    for (const subscription of this.#subscriptions.splice(0)) subscription.unsubscribe();
  }
}

/** Undefined for what is no JSON: anybody may publish there. */
function parse({ payload }: NatsMessage): unknown {
  try {
    return JSON.parse(payload.toString()) as unknown;
  } catch {
    return undefined;
  }
}

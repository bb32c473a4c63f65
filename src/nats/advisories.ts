/**
 * What nats-server tells about streams and consumers without being asked: created, changed, deleted, a new leader. A
 * hint that makes reactions fast, never the only way to learn of a thing: an advisory can be lost, or not allowed.
 */
import type { NatsConnection, Subscription } from "./connection.ts";
import type { NatsMessage } from "./message.ts";

/** What happened to a stream or consumer. */
export type Advisory = "created" | "updated" | "deleted" | "leader_elected";

const PREFIX = "$JS.EVENT.ADVISORY.";
const KINDS: Readonly<Record<string, Advisory>> = {
  CREATED: "created",
  UPDATED: "updated",
  DELETED: "deleted",
  LEADER_ELECTED: "leader_elected",
};
const SUBJECTS = [
  "STREAM.CREATED.*",
  "STREAM.UPDATED.*",
  "STREAM.DELETED.*",
  "CONSUMER.DELETED.*.*",
  "CONSUMER.LEADER_ELECTED.*.*",
];

/** Hands advisories to those who watch a stream or consumer. */
export class Advisories {
  readonly #connection: NatsConnection;
  readonly #watchers = new Map<string, Set<(advisory: Advisory, message: NatsMessage) => void>>();
  #subscriptions: Subscription[] = [];

  constructor(connection: NatsConnection) {
    this.#connection = connection;
    connection.listen({
      onConnected: () => this.#subscribe(),
      onDisconnected: () => this.#unsubscribe(),
    });
    if (connection.connected) this.#subscribe();
  }

  /** Calls back for each advisory of a stream, or with `consumer` of that consumer; call the result to stop. */
  watch(
    stream: string,
    consumer: string | undefined,
    onAdvisory: (advisory: Advisory, message: NatsMessage) => void,
  ): () => void {
    const key = consumer === undefined ? `STREAM ${stream}` : `CONSUMER ${stream} ${consumer}`;
    let watchers = this.#watchers.get(key);
    if (watchers === undefined) this.#watchers.set(key, (watchers = new Set()));
    watchers.add(onAdvisory);
    return () => {
      watchers.delete(onAdvisory);
      if (watchers.size === 0 && this.#watchers.get(key) === watchers) this.#watchers.delete(key);
    };
  }

  #subscribe(): void {
    this.#unsubscribe();
    for (const subject of SUBJECTS) {
      const subscription = this.#connection.subscribe(PREFIX + subject, (message) => this.#dispatch(message));
      if (subscription !== undefined) this.#subscriptions.push(subscription);
    }
  }

  #unsubscribe(): void {
    for (const subscription of this.#subscriptions.splice(0)) subscription.unsubscribe();
  }

  #dispatch(message: NatsMessage): void {
    const [object, kind, stream, consumer] = message.subject.slice(PREFIX.length).split(".");
    const advisory = KINDS[kind!];
    if (advisory === undefined) return;
    const key = object === "STREAM" ? `STREAM ${stream}` : `CONSUMER ${stream} ${consumer}`;
    for (const watcher of [...(this.#watchers.get(key) ?? [])]) watcher(advisory, message);
  }
}

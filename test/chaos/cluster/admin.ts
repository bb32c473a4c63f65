/**
 * What the suite itself asks of JetStream, past all links: who leads, what is stored, what is left. It repeats until it
 * is answered, because the cluster is being broken at the same time.
 */
import { type JetStreamManager, type JsMsg, jetstream, jetstreamManager } from "@nats-io/jetstream";
import type { MsgHdrs, NatsConnection } from "@nats-io/nats-core";
import { connect } from "@nats-io/transport-node";
import { setTimeout as delay } from "node:timers/promises";

/** A message as the stream holds it. */
export interface Stored {
  readonly id: number;
  readonly key: string | undefined;
  readonly text: string;
  /** Its size as NATS counts it, without the subject for its acknowledgement. */
  readonly bytes?: number;
  /** When JetStream stored it, in milliseconds since the epoch. */
  readonly atMs?: number;
}

/** A dead letter. */
export interface Letter {
  /** Id of its event. */
  readonly id: number;
  readonly text: string;
  readonly cause: string;
  readonly attempts: number;
  /** When JetStream stored it, in milliseconds since the epoch. */
  readonly atMs?: number;
}

/** Where scheduled events wait. */
const SCHEDULES = "ws-schedules.";
const ATTEMPT_MS = 2_000;
const PAUSE_MS = 100;

/** A connection of the suite's own. */
export class Admin implements AsyncDisposable {
  readonly #connection: NatsConnection;
  readonly #jsm: JetStreamManager;

  private constructor(connection: NatsConnection, jsm: JetStreamManager) {
    this.#connection = connection;
    this.#jsm = jsm;
  }

  static async open(urls: readonly string[]): Promise<Admin> {
    const connection = await connect({
      servers: [...urls],
      maxReconnectAttempts: -1,
      reconnectTimeWait: 100,
      pingInterval: 1_000,
      maxPingOut: 2,
      name: "chaos-admin",
    });
    return new Admin(connection, await jetstreamManager(connection, { checkAPI: false, timeout: ATTEMPT_MS }));
  }

  get jsm(): JetStreamManager {
    return this.#jsm;
  }

  /** Repeats `ask` until it is answered; rejects with the last error after `limitMs`. */
  async insist<T>(ask: (jsm: JetStreamManager) => Promise<T>, limitMs = 20_000): Promise<T> {
    const end = performance.now() + limitMs;
    for (;;) {
      try {
        return await ask(this.#jsm);
      } catch (error) {
        if (performance.now() > end) throw error;
        await delay(PAUSE_MS);
      }
    }
  }

  /** The node that leads a stream, or one of its consumers. */
  async leader(stream: string, consumer?: string): Promise<number> {
    return this.insist(async (jsm) => {
      const info = consumer === undefined ? await jsm.streams.info(stream) : await jsm.consumers.info(stream, consumer);
      // A lone node has no groups.
      if (info.cluster === undefined) return 0;
      const node = Number(info.cluster.leader?.replace("node-", "") ?? NaN);
      if (Number.isNaN(node)) throw new Error(`${stream} ${consumer ?? ""} has no leader`);
      return node;
    });
  }

  /** A request that is repeated until somebody answers. */
  async api(subject: string, body = ""): Promise<unknown> {
    return this.insist(async () => {
      const reply = await this.#connection.request(`$JS.API.${subject}`, body, { timeout: ATTEMPT_MS });
      return reply.json<unknown>();
    });
  }

  /** Stores a message, however long the stream is without a leader. */
  async publish(subject: string, limitMs: number): Promise<void> {
    await this.insist(async () => jetstream(this.#connection).publish(subject, "", { timeout: ATTEMPT_MS }), limitMs);
  }

  /** Every event that a stream holds, from its first message; schedules are none. */
  async contents(stream: string): Promise<Stored[]> {
    const messages = await this.#messages(stream);
    return messages
      .filter(({ subject }) => !subject.startsWith(SCHEDULES))
      .map((message) => {
        const { headers, seq: id, subject, data } = message;
        // That of an event that was scheduled is kept under another name.
        const key = headers?.get("Nats-Msg-Id") || headers?.get("WS-Idempotency-Key") || undefined;
        const bytes = subject.length + headerBytes(headers) + data.length;
        return { id, key, text: readText(data), bytes, atMs: message.info.timestampNanos / 1_000_000 };
      });
  }

  /** How many schedules of a stream wait for their time. */
  async schedules(stream: string): Promise<number> {
    return this.insist(async (jsm) => {
      const { state } = await jsm.streams.info(stream, { subjects_filter: `${SCHEDULES}${stream}.>` });
      return Object.keys(state.subjects ?? {}).length;
    });
  }

  /** Every dead letter of a consumer. */
  async letters(stream: string): Promise<Letter[]> {
    const messages = await this.#messages(`${stream}-dead-letters`);
    return messages.map(({ headers, data, info }) => ({
      id: Number(headers?.get("WS-Dead-Letter-Id")),
      text: readText(data),
      cause: headers?.get("WS-Dead-Letter-Cause") ?? "",
      attempts: Number(headers?.get("WS-Dead-Letter-Attempts")),
      atMs: info.timestampNanos / 1_000_000,
    }));
  }

  async #messages(stream: string): Promise<JsMsg[]> {
    return this.insist(async (jsm) => {
      const { state } = await jsm.streams.info(stream);
      if (state.messages === 0) return [];
      const consumer = await jetstream(this.#connection).consumers.get(stream, { filter_subjects: [">"] });
      const messages: JsMsg[] = [];
      for await (const message of await consumer.fetch({ max_messages: state.messages, expires: 10_000 })) {
        messages.push(message);
      }
      if (messages.length < state.messages) throw new Error(`read ${messages.length} of ${state.messages} messages`);
      return messages;
    }, 40_000);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#connection.close();
  }
}

/** `NATS/1.0`, a line for each value, and an empty one. */
function headerBytes(headers: MsgHdrs | undefined): number {
  if (headers === undefined) return 0;
  let bytes = "NATS/1.0\r\n\r\n".length;
  for (const [name, values] of headers) for (const value of values) bytes += `${name}: ${value}\r\n`.length;
  return bytes;
}

/** The text in a marshalled `StringValue`. */
function readText(bytes: Uint8Array): string {
  return Buffer.from(bytes.subarray(2)).toString();
}

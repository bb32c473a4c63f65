/** A connection to NATS that sends nothing: tests answer in its place. */
import type { ConnectionListener, NatsConnection, ReplyHandler, Subscription } from "../../../src/nats/connection.ts";
import type { NatsMessage } from "../../../src/nats/message.ts";
import { natsMessage } from "./nats-message.ts";

/** A request that waits for its answer. */
export interface SentRequest {
  readonly subject: string;
  readonly payload: string;
  readonly timeoutMs: number;
  readonly handler: ReplyHandler;
}

/** Keeps what is sent; `as` is what the code under test takes it for. */
export class FakeConnection {
  readonly options = { requestTimeoutMs: 5_000 };
  readonly apiPrefix = "$JS.API";
  readonly maxPayload = 1024 * 1024;
  readonly connected = true;
  isAnsweredInOrder = true;
  connects = 1;
  readonly roundTripMs = 0;
  get receivedAt(): number {
    return performance.now();
  }
  readonly sent: SentRequest[] = [];
  /** What wants no answer. */
  readonly published: { readonly subject: string; readonly payload: string }[] = [];
  /** What others may answer. */
  readonly asked: { readonly subject: string; readonly payload: string }[] = [];
  /** Who hears what comes on a subject. */
  readonly subscriptions = new Map<string, (message: NatsMessage) => void>();
  readonly #listeners = new Set<ConnectionListener>();
  readonly #hooks: (() => void)[] = [];

  get as(): NatsConnection {
    return this as unknown as NatsConnection;
  }

  listen(listener: ConnectionListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  request(subject: string, _headers: string, payload: Uint8Array, timeoutMs: number, handler: ReplyHandler): void {
    this.sent.push({ subject, payload: Buffer.from(payload).toString(), timeoutMs, handler });
  }

  createInbox(): string {
    return "inbox";
  }

  subscribe(subject: string, onMessage: (message: NatsMessage) => void): Subscription {
    this.subscriptions.set(subject, onMessage);
    return { unsubscribe: () => this.subscriptions.delete(subject) } as unknown as Subscription;
  }

  publish(subject: string, _headers: string, payload: Uint8Array): void {
    this.published.push({ subject, payload: Buffer.from(payload).toString() });
    this.onPublish();
  }

  onPublish: () => void = () => undefined;

  beforeWrite(hook: () => void): void {
    this.#hooks.push(hook);
  }

  /** What happens right before a write. */
  flush(): void {
    for (const hook of this.#hooks.splice(0)) hook();
  }

  publishWithReply(subject: string, _reply: string, payload: string): void {
    this.asked.push({ subject, payload });
  }

  /** The oldest request without an answer. */
  take(): SentRequest {
    const request = this.sent.shift();
    if (request === undefined) throw new Error("nothing was sent");
    return request;
  }

  disconnect(): void {
    for (const { handler } of this.sent.splice(0)) handler.onNoReply("disconnected");
    for (const listener of this.#listeners) listener.onDisconnected();
  }

  connect(): void {
    this.connects += 1;
    for (const listener of this.#listeners) listener.onConnected();
  }
}

/** A reply with this body. */
export function reply(body: unknown): NatsMessage {
  return natsMessage({ payload: Buffer.from(typeof body === "string" ? body : JSON.stringify(body)) });
}

/** What JetStream answers in place of an acknowledgement. */
export function refusal(code: number): NatsMessage {
  return reply({ error: { code: 400, err_code: code, description: "refused" }, stream: "s", seq: 0 });
}

/** What NATS answers where nobody listens. */
export function nobody(): NatsMessage {
  return natsMessage({ headers: Buffer.from("NATS/1.0 503\r\n\r\n") });
}

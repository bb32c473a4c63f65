/**
 * The connection to NATS that everything shares. The client library keeps it (dialling, authentication, TLS, protocol,
 * reconnecting for ever); this file adds what the hot paths need and the library is too slow or too vague for:
 *
 * - Commands are written into one buffer and leave in one write for each turn of the event loop, or for a few of them
 *   where there are many: NATS works on the first while the others are made.
 * - Messages are read where the socket brought them (`protocol.ts`); the library sees none of them.
 * - Requests share one inbox. A reply finds its handler by the number at the end of its subject; there is no promise and
 *   no timer for each.
 * - A lost connection is told at once to everyone who waits: what was sent may or may not have arrived (`disconnected`),
 *   what was not sent never will be (`not_sent`). Nothing is kept to be sent later, so a call that was answered with an
 *   error never happens afterwards.
 */
import { Buffer } from "node:buffer";
import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { performance } from "node:perf_hooks";
import { checkServerIdentity } from "node:tls";
import {
  type ConnectionOptions,
  type NatsConnection as Client,
  PermissionViolationError,
  type ServerInfo,
  createInbox,
  credsAuthenticator,
  nkeyAuthenticator,
  usernamePasswordAuthenticator,
  tokenAuthenticator,
} from "@nats-io/nats-core";
import type { NatsConnectionImpl } from "@nats-io/nats-core/internal";
import { connect } from "@nats-io/transport-node";
import { type NatsMessage, statusCode } from "./message.ts";
import type { IncomingMessage } from "./protocol.ts";
import { SequenceMap } from "../sequence-map.ts";
import { within } from "../within.ts";
import { ClientSocket } from "./client-socket.ts";
import { CommandWriter } from "./commands.ts";

/** Where NATS is and how to get in. */
export interface NatsOptions {
  readonly servers: readonly string[];
  readonly name: string;
  readonly inboxPrefix: string;
  /** JetStream domain; undefined for the account's own. */
  readonly domain?: string | undefined;
  readonly credsFile?: string | undefined;
  readonly nkeySeed?: string | undefined;
  readonly token?: string | undefined;
  readonly user?: string | undefined;
  readonly password?: string | undefined;
  readonly tls?:
    | {
        readonly caFile?: string | undefined;
        readonly certFile?: string | undefined;
        readonly keyFile?: string | undefined;
        readonly handshakeFirst?: boolean;
      }
    | undefined;
  /** How long one answer of JetStream is waited for, in milliseconds. */
  readonly requestTimeoutMs: number;
}

/** What this folder logs to. */
export interface NatsLogger {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** Why a request has no reply. After `not_sent` and `forbidden` nothing happened; after the others nobody knows. */
export type NoReply = "timeout" | "disconnected" | "not_sent" | "forbidden";

/** Who waits for a reply; exactly one of the two is called, once, never before `request` has returned. */
export interface ReplyHandler {
  onReply(message: NatsMessage): void;
  onNoReply(why: NoReply): void;
}

/** Told about each loss and return of the connection, in the order of registration. */
export interface ConnectionListener {
  onConnected(): void;
  onDisconnected(): void;
}

/** A subscription of core NATS. */
export interface Subscription {
  /** No further messages will be sent; those on their way still come, then `drained` resolves. */
  drain(): Promise<void>;
  unsubscribe(): void;
}

interface Pending {
  readonly subject: string;
  readonly handler: ReplyHandler;
  readonly expiresAt: number;
}

/**
 * So many commands with so many bytes do not wait for the end of their turn: with 64 publishes of 256 bytes in flight that
 * brings an eighth of throughput more. Acknowledgements are small: written by sixteen, each would cost a twentieth more.
 */
const COMMANDS_PER_WRITE = 16;
const BYTES_PER_WRITE = 8 * 1024;
const SWEEP_INTERVAL_MS = 50;
/** A connection that answers no ping for three of these is given up: 9 s. */
const PING_INTERVAL_MS = 3_000;
const MAX_PINGS_OUT = 2;
const CONNECT_TIMEOUT_MS = 5_000;
/** After a slower round trip it is measured again, at once. */
const SLOW_ROUND_TRIP_MS = 100;
/** A NATS that does not answer may hold up the end so long, twice. */
const CLOSE_FLUSH_MS = 250;
const RECONNECT_MIN_MS = 100;
const RECONNECT_SPREAD_MS = 400;
const DEFAULT_PORT = 4222;

/** One connection to NATS for the life of the process. */
export class NatsConnection implements AsyncDisposable {
  readonly options: NatsOptions;
  /** `$JS.API`, or `$JS.<domain>.API`. */
  readonly apiPrefix: string;
  readonly #logger: NatsLogger;
  readonly #inbox: string;
  readonly #pending = new SequenceMap<Pending>();
  readonly #listeners = new Set<ConnectionListener>();
  readonly #flushHooks: (() => void)[] = [];
  #client: NatsConnectionImpl | undefined;
  #socket: ClientSocket | undefined;
  /** By the numbers that the client has given to subscriptions. */
  #handlers = new Map<number, (message: IncomingMessage) => void>();
  #connected = false;
  #closed = false;
  #nextToken = 0;
  #sweeper: NodeJS.Timeout | undefined;
  #retry: { timer: NodeJS.Timeout; wake: () => void } | undefined;
  #flushScheduled = false;
  /** When that was, on the monotonic clock: near enough for what is sent in the same turn. */
  #scheduledAt = 0;
  readonly #commands = new CommandWriter();
  #reconnects = 0;
  #connects = 0;
  #isAnsweredInOrder = false;
  #hasErrors = false;
  #roundTripMs = 0;

  private constructor(options: NatsOptions, logger: NatsLogger) {
    this.options = options;
    this.#logger = logger;
    this.apiPrefix = options.domain === undefined ? "$JS.API" : `$JS.${options.domain}.API`;
    this.#inbox = `${createInbox(options.inboxPrefix)}.`;
  }

  /**
   * Resolves when the first attempt has ended, either way: without NATS the daemon runs, not ready, and goes on trying.
   * Rejects only for what no waiting mends, such as an unreadable credentials file.
   */
  static async open(options: NatsOptions, logger: NatsLogger): Promise<NatsConnection> {
    const connection = new NatsConnection(options, logger);
    const clientOptions = connectionOptions(options);
    const { promise, resolve } = Promise.withResolvers<void>();
    void connection.#keepConnected(clientOptions, resolve);
    await promise;
    return connection;
  }

  /** Whether commands reach NATS right now. */
  get connected(): boolean {
    return this.#connected;
  }

  /** Times the connection came back after a loss. */
  get reconnects(): number {
    return this.#reconnects;
  }

  /** Times there was a connection. */
  get connects(): number {
    return this.#connects;
  }

  /**
   * Whether an answer of JetStream means that all which was sent before has come to it: it is that of the nats-server that we
   * are connected to, without other nodes, and nothing was refused on this connection.
   */
  get isAnsweredInOrder(): boolean {
    return this.#isAnsweredInOrder && !this.#hasErrors;
  }

  /** The last measured round trip, in milliseconds; 0 before the first. */
  get roundTripMs(): number {
    return this.#roundTripMs;
  }

  /** The server connected to; undefined while there is none. */
  get server(): { readonly url: string; readonly version: string; readonly cluster: string | undefined } | undefined {
    const client = this.#client;
    if (client?.info === undefined || !this.#connected) return undefined;
    return { url: client.getServer(), version: client.info.version, cluster: client.info.cluster };
  }

  /** Largest message NATS accepts, headers included, in bytes. */
  get maxPayload(): number {
    return this.#client?.info?.max_payload ?? 1024 * 1024;
  }

  /** When the message came that is being handled, on the monotonic clock: asking the clock for each takes longer. */
  get receivedAt(): number {
    return this.#socket?.readAt ?? performance.now();
  }

  /** Requests without an answer yet. */
  get pendingRequests(): number {
    return this.#pending.size;
  }

  /** Registers for loss and return; call the result to stop. */
  listen(listener: ConnectionListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Sends a message without waiting for anything; false when there is no connection. */
  publish(subject: string, headers: string, payload: Uint8Array): boolean {
    if (!this.#connected) return false;
    this.#write(subject, "", undefined, headers, payload);
    return true;
  }

  /** Sends a message whose answers, if any, come to a subscription on `reply`. */
  publishWithReply(subject: string, reply: string, payload: string): void {
    if (this.#connected) this.#write(subject, reply, undefined, "", Buffer.from(payload));
  }

  /** Sends a message and waits `timeoutMs` for one reply. `headers` is a whole header block, or empty. */
  request(subject: string, headers: string, payload: Uint8Array, timeoutMs: number, handler: ReplyHandler): void {
    if (!this.#connected) {
      queueMicrotask(() => handler.onNoReply("not_sent"));
      return;
    }
    const token = this.#nextToken++;
    this.#scheduleFlush();
    this.#pending.set(token, { subject, handler, expiresAt: this.#scheduledAt + timeoutMs });
    this.#sweeper ??= setInterval(() => this.#sweep(), SWEEP_INTERVAL_MS);
    this.#write(subject, this.#inbox, token, headers, payload);
  }

  /** Subscribes; the callback is on the hot path and must not throw. Undefined without a connection. */
  subscribe(subject: string, onMessage: (message: NatsMessage) => void): Subscription | undefined {
    if (this.#client === undefined || this.#closed) return undefined;
    // What was published before has to leave before it: an acknowledgement, then a new pull.
    this.#flush();
    const inner = this.#client.subscribe(subject, NO_CALLBACK);
    const handlers = this.#handlers;
    handlers.set(inner.getID(), (message) => {
      try {
        onMessage(message);
      } catch (error) {
        this.#unhandled(error, subject);
      }
    });
    return {
      drain: async () => {
        this.#flush();
        if (inner.isClosed()) return;
        if (this.#connected) await inner.drain().catch(() => undefined);
        // Else the library would subscribe again when it has a connection.
        else inner.unsubscribe();
        handlers.delete(inner.getID());
      },
      unsubscribe: () => {
        this.#flush();
        inner.unsubscribe();
        handlers.delete(inner.getID());
      },
    };
  }

  /** Runs `hook` once, right before the next write: what it sends leaves with it. Schedules that write. */
  beforeWrite(hook: () => void): void {
    this.#flushHooks.push(hook);
    this.#scheduleFlush();
  }

  /** Measures a round trip; rejects without a connection. */
  async ping(): Promise<number> {
    if (this.#client === undefined || !this.#connected) throw new Error("not connected to NATS");
    this.#flush();
    const start = performance.now();
    await this.#client.flush();
    this.#roundTripMs = performance.now() - start;
    // One that was held up says nothing of the next ones, and takes its time from every event.
    if (this.#roundTripMs > SLOW_ROUND_TRIP_MS) this.ping().catch(() => undefined);
    return this.#roundTripMs;
  }

  /** A new subject to receive on, unique to its asker. */
  createInbox(): string {
    return createInbox(this.options.inboxPrefix);
  }

  /** Sends what waits, then closes. Requests without an answer end as `disconnected`. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#flush();
    this.#closed = true;
    this.#retry?.wake();
    if (this.#connected) await within(CLOSE_FLUSH_MS, this.#client?.flush());
    this.#lost();
    clearInterval(this.#sweeper);
    await within(CLOSE_FLUSH_MS, this.#client?.close());
  }

  async #keepConnected(options: ConnectionOptions, firstAttemptDone: () => void): Promise<void> {
    while (!this.#closed) {
      try {
        const client = (await connect(options)) as unknown as Client as NatsConnectionImpl;
        if (this.#closed) {
          await client.close();
          break;
        }
        remember(client, this.options.servers);
        this.#client = client;
        this.#watch(client);
        this.#handlers = new Map();
        this.#socket = new ClientSocket(client, this.#handlers, () => {
          this.#hasErrors = true;
        });
        const replies = client.subscribe(`${this.#inbox}*`, NO_CALLBACK);
        this.#handlers.set(replies.getID(), (message) => this.#dispatch(message));
        this.#established();
        firstAttemptDone();
        const cause = await client.closed();
        this.#lost();
        if (!this.#closed) this.#logger.error({ err: cause }, "the connection to NATS was closed; connecting again");
      } catch (error) {
        this.#logger.warn(
          { err: error, servers: redacted(this.options.servers) },
          "cannot connect to NATS; trying again",
        );
      }
      firstAttemptDone();
      if (!this.#closed) await this.#pause(reconnectDelay());
    }
  }

  #watch(client: NatsConnectionImpl): void {
    const run = async (): Promise<void> => {
      for await (const status of client.status()) {
        if (client !== this.#client) return;
        if (status.type === "disconnect") {
          // The library says it of attempts to connect, too.
          if (this.#connected && !this.#closed) {
            this.#logger.warn({ server: status.server }, "lost the connection to NATS");
          }
          this.#lost();
        } else if (status.type === "reconnect" && !this.#connected) {
          this.#reconnects += 1;
          this.#logger.info({ server: status.server }, "connected to NATS again");
          this.#established();
        } else if (status.type === "error") {
          if (status.error instanceof PermissionViolationError) this.#forbidden(status.error);
          this.#logger.error({ err: status.error }, "NATS reported an error");
        } else if (status.type === "ldm") {
          this.#logger.info({ server: status.server }, "the NATS server is shutting down; moving to another");
        }
      }
    };
    void run();
  }

  #established(): void {
    if (this.#connected || this.#closed) return;
    this.#connected = true;
    this.#connects += 1;
    this.#isAnsweredInOrder = this.#hasErrors = false;
    this.#socket?.take();
    this.#lookWhoAnswers();
    this.ping().catch(() => undefined);
    for (const listener of [...this.#listeners]) this.#guard("", () => listener.onConnected());
  }

  /** The JetStream of an account can be that of a node behind the one that we are connected to. */
  #lookWhoAnswers(): void {
    const info = this.#client?.info as (ServerInfo & { readonly domain?: string }) | undefined;
    if (info?.jetstream !== true || (info.cluster ?? "") !== "") return;
    this.request(`${this.apiPrefix}.INFO`, "", NO_BODY, this.options.requestTimeoutMs, {
      onReply: (reply) => {
        if (statusCode(reply) !== 0) return;
        const answer = JSON.parse(reply.payload.toString()) as { readonly domain?: string; readonly error?: object };
        this.#isAnsweredInOrder = answer.error === undefined && answer.domain === info.domain;
      },
      onNoReply: () => undefined,
    });
  }

  #lost(): void {
    if (!this.#connected) return;
    this.#connected = false;
    this.#commands.clear();
    const waiting = this.#pending.values();
    this.#pending.clear();
    for (const { subject, handler } of waiting) this.#guard(subject, () => handler.onNoReply("disconnected"));
    for (const listener of [...this.#listeners]) this.#guard("", () => listener.onDisconnected());
  }

  #forbidden(error: PermissionViolationError): void {
    if (error.operation !== "publish") return;
    for (const [token, { subject, handler }] of this.#pending.select((pending) => pending.subject === error.subject)) {
      this.#pending.delete(token);
      this.#guard(subject, () => handler.onNoReply("forbidden"));
    }
  }

  #dispatch(message: IncomingMessage): void {
    const token = message.numberInSubject(this.#inbox.length);
    const pending = this.#pending.get(token);
    if (pending === undefined) return;
    this.#pending.delete(token);
    try {
      pending.handler.onReply(message);
    } catch (error) {
      this.#unhandled(error, pending.subject);
    }
  }

  #guard(subject: string, run: () => void): void {
    try {
      run();
    } catch (error) {
      this.#unhandled(error, subject);
    }
  }

  /** A handler that throws is not to keep others from theirs. */
  #unhandled(error: unknown, subject: string): void {
    this.#logger.error({ err: error, subject }, "a message could not be handled");
  }

  #sweep(): void {
    if (this.#pending.size === 0) {
      clearInterval(this.#sweeper);
      this.#sweeper = undefined;
      return;
    }
    const now = performance.now();
    for (const [token, { subject, handler }] of this.#pending.select(({ expiresAt }) => expiresAt <= now)) {
      this.#pending.delete(token);
      this.#guard(subject, () => handler.onNoReply("timeout"));
    }
  }

  #write(subject: string, reply: string, token: number | undefined, headers: string, payload: Uint8Array): void {
    this.#commands.publish(subject, reply, token, headers, payload);
    const { count, bytes } = this.#commands;
    if (count >= COMMANDS_PER_WRITE && bytes >= BYTES_PER_WRITE) this.#flush();
    else this.#scheduleFlush();
  }

  #scheduleFlush(): void {
    if (this.#flushScheduled) return;
    this.#flushScheduled = true;
    this.#scheduledAt = performance.now();
    setImmediate(() => this.#flush());
  }

  #flush(): void {
    if (this.#flushHooks.length > 0) {
      this.#flushScheduled = true;
      for (const hook of this.#flushHooks.splice(0)) hook();
    }
    this.#flushScheduled = false;
    const chunks = this.#commands.take();
    if (chunks.length > 0 && this.#connected) this.#socket?.write(chunks);
  }

  async #pause(ms: number): Promise<void> {
    await new Promise<void>((wake) => {
      this.#retry = { timer: setTimeout(wake, ms), wake };
    });
    clearTimeout(this.#retry?.timer);
    this.#retry = undefined;
  }
}

const NO_BODY = new Uint8Array(0);

/** What the client library would do with a message; `ProtocolReader` hands it none of ours. */
const NO_CALLBACK = { callback: (): void => undefined };

function reconnectDelay(): number {
  return RECONNECT_MIN_MS + Math.random() * RECONNECT_SPREAD_MS;
}

/** Server URLs without their passwords and tokens. */
export function redacted(servers: readonly string[]): string[] {
  return servers.map((server) => server.replace(/\/\/[^@/]*@/, "//***@"));
}

function connectionOptions(options: NatsOptions): ConnectionOptions {
  const authenticator = [];
  if (options.credsFile !== undefined) {
    const file = options.credsFile;
    readFileSync(file);
    // Read again for each connect, as credentials are rotated in place.
    authenticator.push((nonce?: string) => credsAuthenticator(readFileSync(file))(nonce));
  }
  if (options.nkeySeed !== undefined) authenticator.push(nkeyAuthenticator(Buffer.from(options.nkeySeed)));
  if (options.token !== undefined) authenticator.push(tokenAuthenticator(options.token));
  if (options.user !== undefined)
    authenticator.push(usernamePasswordAuthenticator(options.user, options.password ?? ""));
  return {
    servers: [...options.servers],
    name: options.name,
    ...(authenticator.length > 0 ? { authenticator } : {}),
    ...(options.tls === undefined ? {} : { tls: { ...definedOnly(options.tls), ...identityCheck(options.servers) } }),
    inboxPrefix: options.inboxPrefix,
    timeout: CONNECT_TIMEOUT_MS,
    pingInterval: PING_INTERVAL_MS,
    maxPingOut: MAX_PINGS_OUT,
    reconnect: true,
    maxReconnectAttempts: -1,
    reconnectDelayHandler: reconnectDelay,
    ignoreAuthErrorAbort: true,
    noAsyncTraces: true,
  };
}

/**
 * The client library names no host to TLS where the server's is an IP address, and Node then compares the certificate
 * with "localhost". It has to be for one of the addresses that we were told.
 */
function identityCheck(servers: readonly string[]): { checkServerIdentity: typeof checkServerIdentity } {
  const addresses = servers.map(hostOf).filter((host) => isIP(host) !== 0);
  return {
    checkServerIdentity: (host, certificate) => {
      const problem = checkServerIdentity(host, certificate);
      if (problem === undefined || host !== "localhost") return problem;
      return addresses.some((address) => checkServerIdentity(address, certificate) === undefined) ? undefined : problem;
    },
  };
}

/** Until its first connection the library forgets each server that does not answer. */
function remember(client: NatsConnectionImpl, servers: readonly string[]): void {
  const known = client.getServers().map(({ listen }) => listen);
  const forgotten = servers.filter((server) => !known.includes(listenOf(server)));
  if (forgotten.length > 0) client.setServers([...known, ...forgotten]);
}

/** `host:port`, as the library names a server. */
function listenOf(server: string): string {
  const { hostname, port } = new URL(server.includes("://") ? server : `nats://${server}`);
  return `${hostname}:${port === "" ? DEFAULT_PORT : port}`;
}

/** The host of `host:port` or a URL, without the brackets of IPv6. */
function hostOf(server: string): string {
  const { hostname } = new URL(server.includes("://") ? server : `nats://${server}`);
  return hostname.replace(/^\[|\]$/g, "");
}

function definedOnly<T extends object>(value: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, v]) => v !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>;
  };
}

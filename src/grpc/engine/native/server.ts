/**
 * The engine of our own: gRPC over HTTP/2, framed here instead of by `node:http2`. How it is built, what it leaves out and
 * how it was proven: README.md beside this file.
 */
import { type X509Certificate, constants } from "node:crypto";
import { type AddressInfo, type Server, type Socket, createServer } from "node:net";
import {
  type SecureContextOptions,
  type TLSSocket,
  Server as TlsServer,
  createServer as createTlsServer,
} from "node:tls";
import type { Engine, EngineHandler, EngineOptions, EngineTls } from "../engine.ts";
import { UnreadBudget } from "../unread-budget.ts";
import { Call, type CallServices } from "./call.ts";
import { Connection } from "./connection.ts";
import { RequestBudget } from "./request-budget.ts";

const TICK_MS = 1_000;
/** From being accepted to the first SETTINGS; with TLS so long for the handshake, and once more for what follows. */
const PREFACE_LIMIT_MS = 10_000;
/** For the one request of a call, or a message of a stream, once it has begun. */
const REQUEST_LIMIT_MS = 60_000;
/** So that connections that began together do not end together. */
const AGE_SPREAD = 0.1;

/** Serves on sockets of `node:net` and `node:tls`. */
export class NativeEngine implements Engine {
  readonly #options: EngineOptions;
  readonly #server: Server;
  readonly #handlers = new Map<string, EngineHandler>();
  readonly #connections = new Map<Connection, Lifetime>();
  readonly #sockets = new Set<Socket>();
  readonly #services: CallServices;
  readonly #unread: UnreadBudget;
  readonly #requests: RequestBudget;
  #timer: NodeJS.Timeout | undefined;
  #isDraining = false;
  #drained = Promise.withResolvers<void>();

  /** `requestLimitMs`: how long a client may take to send the one request of a call, or a message of a stream. */
  constructor(options: EngineOptions, requestLimitMs: number = REQUEST_LIMIT_MS) {
    this.#options = options;
    this.#unread = new UnreadBudget(options.maxUnreadBytes);
    this.#requests = new RequestBudget(options.maxUnreadBytes);
    this.#services = {
      handlers: this.#handlers,
      maxReceiveMessageBytes: options.maxReceiveMessageBytes,
      maxMetadataBytes: options.maxMetadataBytes,
      requestLimitMs,
      unread: this.#unread,
      onError: (error) => options.onError?.(error),
      onRefused: options.onRefused,
      onUnread: options.onUnread,
    };
    this.#server = this.#createServer();
    this.#server.maxConnections = options.maxConnections;
  }

  get unreadBytes(): number {
    return this.#unread.bytes;
  }

  handle(path: string, handler: EngineHandler): void {
    this.#handlers.set(path, handler);
  }

  async listen(): Promise<number> {
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    const { host, port } = this.#options;
    this.#server.once("error", reject);
    this.#server.listen({ host, port }, () => {
      this.#server.removeListener("error", reject);
      // Connections that cannot be accepted, which Linux never tells: nobody to listen would end the process.
      this.#server.on("error", (error) => this.#services.onError(error));
      this.#timer = setInterval(() => this.#tick(), TICK_MS).unref();
      resolve((this.#server.address() as AddressInfo).port);
    });
    return promise;
  }

  renewTls(tls: EngineTls): void {
    if (this.#server instanceof TlsServer) this.#server.setSecureContext(secureContext(tls));
  }

  async drain(): Promise<void> {
    this.#isDraining = true;
    this.#server.close();
    for (const connection of [...this.#connections.keys()]) connection.leave(true);
    this.#endIfDone();
    return this.#drained.promise;
  }

  close(): void {
    this.#isDraining = true;
    this.#server.close();
    for (const connection of [...this.#connections.keys()]) connection.destroy();
    for (const socket of this.#sockets) socket.destroy();
    this.#endIfDone();
  }

  #createServer(): Server {
    const { tls } = this.#options;
    if (tls === undefined) return createServer({ noDelay: true }, (socket) => this.#accept(socket));
    const isOptional = tls.clientCertificate === "optional";
    const server = createTlsServer({
      ...secureContext(tls),
      requestCert: tls.clientCa !== undefined,
      rejectUnauthorized: tls.clientCa !== undefined && !isOptional,
      ALPNProtocols: ["h2"],
      handshakeTimeout: PREFACE_LIMIT_MS,
    });
    server.on("secureConnection", (socket: TLSSocket) => {
      // gRPC asks for it (section "ALPN"); a client that did not is told nothing it would understand.
      if (socket.alpnProtocol !== "h2") {
        socket.destroy();
        return;
      }
      const certificate = socket.getPeerX509Certificate();
      // No certificate is fine where it is optional; a wrong one is not.
      if (certificate !== undefined && !socket.authorized) socket.destroy();
      else this.#accept(socket, certificate);
    });
    // Handshakes that fail are the client's affair; one that takes too long does not end the socket by itself.
    server.on("tlsClientError", (_error, socket) => socket.destroy());
    // Sockets whose handshake is not over are no connections yet.
    server.on("connection", (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once("close", () => this.#sockets.delete(socket));
    });
    return server;
  }

  #accept(socket: Socket, certificate?: X509Certificate): void {
    if (this.#isDraining) {
      socket.destroy();
      return;
    }
    const share = this.#requests.open(() => connection.openStreams.filter((stream) => stream instanceof Call));
    const connection = new Connection(socket, certificate, {
      maxConcurrentStreams: this.#options.maxConcurrentStreams,
      maxHeaderBytes: this.#options.maxMetadataBytes,
      unread: this.#unread,
      newStream: (on, id, sendWindow) => new Call(on, id, sendWindow, this.#services, share),
      onClosed: (closed) => {
        this.#requests.close(share);
        this.#closed(closed);
      },
    });
    const { maxConnectionAgeMs: age } = this.#options;
    const leavesAt = age > 0 ? performance.now() + age * (1 + AGE_SPREAD * (2 * Math.random() - 1)) : Infinity;
    this.#connections.set(connection, { leavesAt });
  }

  #closed(connection: Connection): void {
    this.#connections.delete(connection);
    this.#endIfDone();
  }

  #endIfDone(): void {
    if (!this.#isDraining || this.#connections.size > 0) return;
    clearInterval(this.#timer);
    this.#drained.resolve();
  }

  #tick(): void {
    const { keepaliveTimeMs, keepaliveTimeoutMs } = this.#options;
    const now = performance.now();
    for (const [connection, { leavesAt }] of [...this.#connections]) {
      connection.tick(now);
      const { pingedAt } = connection;
      if (!connection.isEstablished && now - connection.openedAt > PREFACE_LIMIT_MS) connection.destroy();
      else if (pingedAt !== undefined && now - pingedAt > keepaliveTimeoutMs) connection.destroy();
      else if (pingedAt === undefined && now - connection.lastHeard > keepaliveTimeMs) connection.ping(now);
      if (now > leavesAt) connection.leave();
    }
  }
}

/** All of it again each time: what a renewal leaves out goes back to Node's defaults. */
function secureContext({ cert, key, clientCa }: EngineTls): SecureContextOptions {
  return {
    cert,
    key,
    ...(clientCa === undefined ? {} : { ca: clientCa }),
    minVersion: "TLSv1.2",
    // Forbidden in HTTP/2 (RFC 9113, section 9.2.1), and it costs the server more than the client.
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
  };
}

interface Lifetime {
  /** On the monotonic clock. */
  readonly leavesAt: number;
}

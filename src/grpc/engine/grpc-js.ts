/**
 * Hot path: the engine on `@grpc/grpc-js`. It uses the library's public calls; what looks odd is for speed:
 *
 * - Messages stay bytes here (`serialize` and `deserialize` do nothing), so that wrong ones get our own errors.
 * - The library writes one message at a time, each after the callback of the one before. Messages that wait meanwhile
 *   are packed into one write: what is passed to `write` is no Buffer but something with `byteLength` and `copy`, all
 *   that the library asks of a serialized message. Its first five bytes, which the library fills in for the whole, are
 *   overwritten with the header of the first message. The version of the library is pinned, and
 *   `test/integration/engine.test.ts` compares every byte.
 */
import type { X509Certificate } from "node:crypto";
import type { EventEmitter } from "node:events";
import { type Http2Server, type Http2Session, type ServerHttp2Stream, constants } from "node:http2";
import { type TLSSocket, Server as TlsServer } from "node:tls";
import {
  Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type handleBidiStreamingCall,
  type handleServerStreamingCall,
  type handleUnaryCall,
  logVerbosity,
  type sendUnaryData,
  setLogVerbosity,
} from "@grpc/grpc-js";
import { asBuffer } from "../../bytes.ts";
import {
  type CallStatus,
  type CancelCause,
  type Engine,
  type EngineCall,
  type EngineHandler,
  type EngineOptions,
  type EngineTls,
  type RequestMetadata,
  type ResponseMetadata,
  causeOfLeaving,
} from "./engine.ts";
import { type Holder, UnreadBudget } from "./unread-budget.ts";

type Anything =
  | ServerUnaryCall<Buffer, Outgoing>
  | ServerDuplexStream<Buffer, Outgoing>
  | ServerWritableStream<Buffer, Outgoing>;

/** What the library copies into its own buffer. */
type Outgoing = Pick<Buffer, "byteLength" | "copy">;

const MIN_VERSION = "TLSv1.2" as const;
const RESOURCE_EXHAUSTED = 8;
const INTERNAL = 13;
/** What a message costs beside its bytes while it waits. */
const MESSAGE_OVERHEAD_BYTES = 128;
/** Beyond so many bytes not yet taken by the library, `send` says no. */
const HIGH_WATER_BYTES = 256 * 1024;
const MAX_PACK_BYTES = 64 * 1024;
const FRAME_HEADER_BYTES = 5;
const DETAILS_KEY = "grpc-status-details-bin";

/** Serves on `@grpc/grpc-js`. */
export class GrpcJsEngine implements Engine {
  readonly #options: EngineOptions;
  readonly #server: Server;
  readonly #budget: UnreadBudget;
  readonly #shared: Shared;
  #tls: EngineTls | undefined;

  constructor(options: EngineOptions) {
    // The library would write to standard error, beside our own errors that say the same.
    setLogVerbosity(logVerbosity.NONE);
    this.#options = options;
    this.#tls = options.tls;
    this.#budget = new UnreadBudget(options.maxUnreadBytes);
    this.#shared = {
      budget: this.#budget,
      onUnread: options.onUnread,
      onError: (error) => options.onError?.(error),
    };
    this.#server = new Server({
      "grpc.enable_channelz": 0,
      "grpc.max_receive_message_length": options.maxReceiveMessageBytes,
      "grpc.max_concurrent_streams": options.maxConcurrentStreams,
      "grpc.keepalive_time_ms": options.keepaliveTimeMs,
      "grpc.keepalive_timeout_ms": options.keepaliveTimeoutMs,
      ...(options.maxConnectionAgeMs > 0 ? { "grpc.max_connection_age_ms": options.maxConnectionAgeMs } : {}),
    });
  }

  get unreadBytes(): number {
    return this.#budget.bytes;
  }

  handle(path: string, handler: EngineHandler): void {
    const implementation = this.#implement(handler);
    this.#server.addService(
      {
        call: {
          path,
          requestStream: handler.kind === "bidi",
          responseStream: handler.kind !== "unary",
          requestSerialize: asIs,
          requestDeserialize: asIs,
          responseSerialize: asIs as unknown as (message: Outgoing) => Buffer,
          responseDeserialize: asIs,
        },
      },
      { call: implementation },
    );
  }

  async listen(): Promise<number> {
    const { host, port } = this.#options;
    const address = host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    this.#server.bindAsync(address, this.#credentials(), (error, bound) => {
      if (error === null) resolve(bound);
      else reject(error);
    });
    const bound = await promise;
    for (const server of this.#http2Servers().keys()) {
      server.maxConnections = this.#options.maxConnections;
      server.on("session", spareWhileLeaving);
      server.prependListener("secureConnection", turnAwayStrangers);
    }
    return bound;
  }

  renewTls(tls: EngineTls): void {
    if (this.#tls === undefined) return;
    this.#tls = tls;
    const { cert, key, clientCa } = tls;
    const context = { cert, key, ...(clientCa === undefined ? {} : { ca: clientCa }), minVersion: MIN_VERSION };
    for (const server of this.#http2Servers().keys()) if (server instanceof TlsServer) server.setSecureContext(context);
  }

  async drain(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#server.tryShutdown(() => resolve());
    return promise;
  }

  close(): void {
    // With channelz off, the library keeps no list of connections for forceShutdown, which then cuts none. It has another.
    const sessions = [...this.#http2Servers().values()].flatMap((server) => [...server.sessions]);
    this.#server.forceShutdown();
    for (const session of sessions) session.destroy();
  }

  /** The library's own list of what it listens with, and of their connections. */
  #http2Servers(): Map<Http2Server, { readonly sessions: Set<Http2Session> }> {
    return (this.#server as unknown as { http2Servers: Map<Http2Server, { sessions: Set<Http2Session> }> })
      .http2Servers;
  }

  #implement(
    handler: EngineHandler,
  ):
    | handleUnaryCall<Buffer, Outgoing>
    | handleBidiStreamingCall<Buffer, Outgoing>
    | handleServerStreamingCall<Buffer, Outgoing> {
    switch (handler.kind) {
      case "unary":
        return (inner: ServerUnaryCall<Buffer, Outgoing>, respond: sendUnaryData<Outgoing>) => {
          const call = new UnaryCall(inner, this.#shared, respond);
          this.#admit(call, () => handler.handle(call, inner.request));
        };
      case "server_streaming":
        return (inner: ServerWritableStream<Buffer, Outgoing>) => {
          const call = new StreamCall(inner, this.#shared);
          this.#admit(call, () => handler.handle(call, inner.request));
        };
      case "bidi":
        return (inner: ServerDuplexStream<Buffer, Outgoing>) => {
          const call = new StreamCall(inner, this.#shared);
          this.#admit(call, () => {
            call.attach(inner);
            handler.handle(call);
            call.read(inner);
          });
        };
    }
  }

  /** Runs a handler, unless the call is refused. One that throws shows nothing of why to the client. */
  #admit(call: Call, run: () => void): void {
    if (!call.hasRoomFor(this.#options.maxMetadataBytes)) return;
    try {
      run();
    } catch (error) {
      this.#options.onError?.(error);
      call.end({ code: INTERNAL, message: "the server failed" });
    }
  }

  #credentials(): ServerCredentials {
    const tls = this.#tls;
    if (tls === undefined) return ServerCredentials.createInsecure();
    const pair = { cert_chain: tls.cert, private_key: tls.key };
    const made = ServerCredentials.createSsl(tls.clientCa ?? null, [pair], tls.clientCa !== undefined);
    // The library passes these on to Node, and has no option for these two.
    const options = made._getConstructorOptions()!;
    options.minVersion = MIN_VERSION;
    if (tls.clientCertificate === "optional") options.rejectUnauthorized = false;
    return made;
  }
}

/** No certificate is fine where it is optional; one that no authority of ours has signed is not. */
function turnAwayStrangers(socket: TLSSocket): void {
  if (socket.getPeerX509Certificate() !== undefined && !socket.authorized) socket.destroy();
}

const peerCertificates = new WeakMap<Http2Session, X509Certificate>();

/** The library hands out the certificate in a form of its own, and Node a new object each time. */
function certificateOf(session: Http2Session | undefined): X509Certificate | undefined {
  if (session === undefined || session.destroyed || session.encrypted !== true) return undefined;
  let certificate = peerCertificates.get(session);
  if (certificate === undefined) {
    certificate = (session.socket as TLSSocket).getPeerX509Certificate();
    if (certificate !== undefined) peerCertificates.set(session, certificate);
  }
  return certificate;
}

function asIs(bytes: Buffer): Buffer {
  return bytes;
}

/** What all calls of an engine share. */
interface Shared {
  readonly budget: UnreadBudget;
  readonly onUnread: EngineOptions["onUnread"];
  readonly onError: (error: unknown) => void;
}

abstract class Call implements EngineCall, Holder {
  readonly path: string;
  readonly metadata: RequestMetadata;
  readonly deadlineMs: number | undefined;
  cancelled = false;
  onCancel: ((cause: CancelCause) => void) | undefined;
  onDrain: (() => void) | undefined;
  onMessage: ((message: Uint8Array) => void) | undefined;
  onHalfClose: (() => void) | undefined;
  unreadBytes = 0;
  protected ended = false;
  /** The transport has no more to do with it. */
  protected isGone = false;
  #isAborted = false;
  readonly #inner: Anything;
  readonly #shared: Shared;

  constructor(inner: Anything, shared: Shared) {
    this.#inner = inner;
    this.#shared = shared;
    this.path = inner.getPath();
    this.metadata = new CallMetadata(inner.metadata);
    const deadline = inner.getDeadline();
    this.deadlineMs = typeof deadline !== "number" ? deadline.getTime() : deadline === Infinity ? undefined : deadline;
    // The library says "cancelled" after every call, also one that ended well.
    (inner as EventEmitter).on("cancelled", () => {
      this.isGone = true;
      this.letGo();
      shared.budget.forget(this);
      if (this.ended) return;
      this.ended = true;
      this.cancelled = true;
      this.onCancel?.(this.#causeOfEnd());
    });
  }

  #causeOfEnd(): CancelCause {
    return this.#isAborted ? "unread" : causeOfLeaving(this.deadlineMs);
  }

  get connection(): Http2Session | undefined {
    return streamOf(this.#inner).session;
  }

  get isConnectionStuck(): boolean {
    return isStuck(this.connection);
  }

  /** The handler hears of it a little later, by `onCancel`: whoever sends right now is in the midst of something. */
  abort(bytes: number): void {
    this.#tellUnread(bytes);
    this.#isAborted = true;
    this.isGone = true;
    this.letGo();
    const { connection } = this;
    if (isStuck(connection)) cut(connection!);
    else streamOf(this.#inner).close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
  }

  /** The handler of another call may be what is sending: what the hook throws is none of its business. */
  #tellUnread(bytes: number): void {
    try {
      this.#shared.onUnread?.(this, bytes);
    } catch (error) {
      this.#shared.onError(error);
    }
  }

  get peer(): string {
    return this.#inner.getPeer();
  }

  get peerCertificate(): X509Certificate | undefined {
    return certificateOf(this.connection);
  }

  sendMetadata(metadata: ResponseMetadata): void {
    if (!this.ended && !this.isGone) this.#inner.sendMetadata(toMetadata(metadata));
  }

  hasRoomFor(maxMetadataBytes: number): boolean {
    const size = metadataSize(this.#inner.metadata);
    if (size <= maxMetadataBytes) return true;
    this.end({
      code: RESOURCE_EXHAUSTED,
      message: `request metadata has ${size} bytes, at most ${maxMetadataBytes} are accepted`,
    });
    return false;
  }

  /** So many bytes wait for the client. False: that was too much, and the call is aborted. */
  protected hold(bytes: number): boolean {
    this.#shared.budget.hold(this, bytes);
    return !this.isGone;
  }

  /** The transport took so many bytes. */
  protected taken(bytes: number): void {
    this.#shared.budget.taken(this, bytes);
  }

  /** Drops what is kept here. */
  protected abstract letGo(): void;
  abstract send(message: Uint8Array): boolean;
  abstract end(status: CallStatus): void;
  abstract pause(): void;
  abstract resume(): void;
}

/** The HTTP/2 stream of a call, which the library keeps to itself: by its own means a call ends when all was read. */
function streamOf(inner: Anything): ServerHttp2Stream {
  return (inner as unknown as { call: { stream: ServerHttp2Stream } }).call.stream;
}

/** Whether bytes of a connection wait in the system's write: the client does not even read its socket. */
function isStuck(session: Http2Session | undefined): boolean {
  if (session === undefined || session.destroyed) return false;
  const { _handle: handle } = session.socket as unknown as { _handle?: { writeQueueSize?: number } | null };
  return (handle?.writeQueueSize ?? 0) > 0;
}

/** Ends a connection without waiting for what is being written: `destroy` of a session alone would. */
function cut(session: Http2Session): void {
  // Node hides `destroy` of the socket, as it is for the session to call; disposing of it comes to the same.
  const dispose = session.socket[Symbol.asyncDispose];
  session.destroy();
  dispose().catch(() => undefined);
}

/**
 * A connection that was asked to leave takes no pings any more (Node), and the library cuts one that it cannot ping, with all
 * calls that are still open. Those have to end by themselves, so its pings count as answered from then on.
 */
function spareWhileLeaving(session: Http2Session): void {
  const ping = session.ping.bind(session);
  session.ping = (...args: unknown[]) => {
    if (!session.closed || session.destroyed) return (ping as (...all: unknown[]) => boolean)(...args);
    const callback = args.at(-1) as (error: Error | null, ms: number, payload: Buffer) => void;
    queueMicrotask(() => callback(null, 0, NO_PAYLOAD));
    return true;
  };
}

const NO_PAYLOAD = Buffer.alloc(8);

class CallMetadata implements RequestMetadata {
  readonly #metadata: Metadata;

  constructor(metadata: Metadata) {
    this.#metadata = metadata;
  }

  get(name: string): string | undefined {
    const value = this.#metadata.get(name)[0];
    return typeof value === "string" ? value : value?.toString("base64");
  }
}

function metadataSize(metadata: Metadata): number {
  let size = 0;
  for (const [name, values] of Object.entries(metadata.toHttp2Headers())) {
    for (const value of Array.isArray(values) ? values : [values]) size += name.length + String(value).length;
  }
  return size;
}

class UnaryCall extends Call {
  readonly #respond: sendUnaryData<Outgoing>;
  #message: Uint8Array | undefined;

  constructor(inner: ServerUnaryCall<Buffer, Outgoing>, shared: Shared, respond: sendUnaryData<Outgoing>) {
    super(inner, shared);
    this.#respond = respond;
  }

  send(message: Uint8Array): boolean {
    this.#message = message;
    return true;
  }

  end(status: CallStatus): void {
    if (this.ended) return;
    this.ended = true;
    if (status.code !== 0) {
      this.#respond(failure(status));
      return;
    }
    const message = asBuffer(this.#message!);
    this.#message = undefined;
    if (!this.hold(message.length + MESSAGE_OVERHEAD_BYTES)) return;
    this.#respond(null, message, status.metadata === undefined ? undefined : toMetadata(status.metadata));
  }

  protected letGo(): void {}
  pause(): void {}
  resume(): void {}
}

class StreamCall extends Call {
  readonly #inner: ServerDuplexStream<Buffer, Outgoing> | ServerWritableStream<Buffer, Outgoing>;
  #readable: ServerDuplexStream<Buffer, Outgoing> | undefined;
  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  /** Of the write in progress, with what its messages cost beside their bytes. */
  #writingBytes = 0;
  #isWriting = false;
  #isOver = false;
  #status: CallStatus | undefined;

  constructor(inner: ServerDuplexStream<Buffer, Outgoing> | ServerWritableStream<Buffer, Outgoing>, shared: Shared) {
    super(inner, shared);
    this.#inner = inner;
  }

  /** From then on the handler may pause, also before anything is read. */
  attach(inner: ServerDuplexStream<Buffer, Outgoing>): void {
    this.#readable = inner;
  }

  read(inner: ServerDuplexStream<Buffer, Outgoing>): void {
    inner.on("data", (message: Buffer) => {
      if (!this.ended) this.onMessage?.(message);
    });
    const stream = streamOf(inner);
    inner.on("end", () => {
      // One that was reset ends as well, before the library says that it was cancelled: that is no half-close.
      if (!this.ended && !stream.destroyed) this.onHalfClose?.();
    });
  }

  send(message: Uint8Array): boolean {
    if (this.ended || this.isGone) return true;
    this.#queue.push(message);
    this.#queuedBytes += message.length;
    if (!this.hold(message.length + MESSAGE_OVERHEAD_BYTES)) return true;
    if (!this.#isWriting) this.#write();
    if (this.#queuedBytes <= HIGH_WATER_BYTES) return true;
    this.#isOver = true;
    return false;
  }

  end(status: CallStatus): void {
    if (this.ended) return;
    this.ended = true;
    if (this.isGone) return;
    this.#status = status;
    if (!this.#isWriting) this.#finish(status);
  }

  protected letGo(): void {
    this.#queue = [];
    this.#queuedBytes = 0;
  }

  pause(): void {
    this.#readable?.pause();
  }

  resume(): void {
    this.#readable?.resume();
  }

  #write(): void {
    this.#isWriting = true;
    this.#inner.write(this.#pack(), () => {
      this.#isWriting = false;
      if (this.isGone) return;
      this.taken(this.#writingBytes);
      if (this.#queue.length > 0) this.#write();
      else if (this.#status !== undefined) this.#finish(this.#status);
      if (!this.#isOver || this.#queuedBytes > HIGH_WATER_BYTES / 2) return;
      this.#isOver = false;
      if (!this.ended) this.onDrain?.();
    });
  }

  #pack(): Outgoing {
    const [first] = this.#queue;
    let count = 1;
    let bytes = first!.length;
    while (count < this.#queue.length) {
      const next = this.#queue[count]!.length + FRAME_HEADER_BYTES;
      if (bytes + next > MAX_PACK_BYTES) break;
      bytes += next;
      count += 1;
    }
    const messages = this.#queue.splice(0, count);
    let taken = 0;
    for (const message of messages) taken += message.length;
    this.#queuedBytes -= taken;
    this.#writingBytes = taken + count * MESSAGE_OVERHEAD_BYTES;
    return count === 1 ? asBuffer(first!) : new Pack(messages, bytes);
  }

  #finish(status: CallStatus): void {
    if (status.code === 0) this.#inner.end(status.metadata === undefined ? undefined : toMetadata(status.metadata));
    else this.#inner.emit("error", failure(status));
  }
}

/** Several messages in one write, each with its header, but for the first one's, which the library makes room for. */
class Pack implements Outgoing {
  readonly byteLength: number;
  readonly #messages: readonly Uint8Array[];

  constructor(messages: readonly Uint8Array[], byteLength: number) {
    this.#messages = messages;
    this.byteLength = byteLength;
  }

  copy(target: Uint8Array, targetStart: number): number {
    const buffer = asBuffer(target);
    let at = targetStart - FRAME_HEADER_BYTES;
    for (const message of this.#messages) {
      buffer[at] = 0;
      buffer.writeUInt32BE(message.length, at + 1);
      buffer.set(message, at + FRAME_HEADER_BYTES);
      at += FRAME_HEADER_BYTES + message.length;
    }
    return this.byteLength;
  }
}

function toMetadata(fields: ResponseMetadata): Metadata {
  const metadata = new Metadata();
  for (const [name, value] of fields) metadata.add(name, name.endsWith("-bin") ? Buffer.from(value, "base64") : value);
  return metadata;
}

function failure({
  code,
  message,
  details,
  metadata: more = [],
}: CallStatus): Error & { code: number; details: string; metadata: Metadata } {
  const metadata = toMetadata(more);
  if (details !== undefined) metadata.set(DETAILS_KEY, asBuffer(details));
  // Half of a surrogate pair, as is left where a text was cut, would make the library throw where nobody catches it.
  return Object.assign(new Error(message), { code, details: message.toWellFormed(), metadata });
}

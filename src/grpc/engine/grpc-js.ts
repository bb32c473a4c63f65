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
import type { EventEmitter } from "node:events";
import type { Http2Session } from "node:http2";
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
import type { CallStatus, Engine, EngineCall, EngineHandler, EngineOptions, RequestMetadata } from "./engine.ts";

type Anything =
  | ServerUnaryCall<Buffer, Outgoing>
  | ServerDuplexStream<Buffer, Outgoing>
  | ServerWritableStream<Buffer, Outgoing>;

/** What the library copies into its own buffer. */
type Outgoing = Pick<Buffer, "byteLength" | "copy">;

const RESOURCE_EXHAUSTED = 8;
const INTERNAL = 13;
/** Beyond so many bytes not yet taken by the library, `send` says no. */
const HIGH_WATER_BYTES = 256 * 1024;
const MAX_PACK_BYTES = 64 * 1024;
const FRAME_HEADER_BYTES = 5;
/** The client's own clock ends a call a moment before ours: our deadline counts from when the request had arrived. */
const CLIENTS_LEAD_MS = 25;
const DETAILS_KEY = "grpc-status-details-bin";

/** Serves on `@grpc/grpc-js`. */
export class GrpcJsEngine implements Engine {
  readonly #options: EngineOptions;
  readonly #server: Server;

  constructor(options: EngineOptions) {
    // The library would write to standard error, beside our own errors that say the same.
    setLogVerbosity(logVerbosity.NONE);
    this.#options = options;
    this.#server = new Server({
      "grpc.enable_channelz": 0,
      "grpc.max_receive_message_length": options.maxReceiveMessageBytes,
      "grpc.max_concurrent_streams": options.maxConcurrentStreams,
      "grpc.keepalive_time_ms": options.keepaliveTimeMs,
      "grpc.keepalive_timeout_ms": options.keepaliveTimeoutMs,
      ...(options.maxConnectionAgeMs > 0 ? { "grpc.max_connection_age_ms": options.maxConnectionAgeMs } : {}),
    });
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
    return promise;
  }

  async drain(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#server.tryShutdown(() => resolve());
    return promise;
  }

  close(): void {
    // With channelz off, the library keeps no list of connections for forceShutdown, which then cuts none. It has another.
    const { http2Servers } = this.#server as unknown as { http2Servers: Map<unknown, { sessions: Set<Http2Session> }> };
    const sessions = [...http2Servers.values()].flatMap((server) => [...server.sessions]);
    this.#server.forceShutdown();
    for (const session of sessions) session.destroy();
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
          const call = new UnaryCall(inner, respond);
          this.#admit(call, () => handler.handle(call, inner.request));
        };
      case "server_streaming":
        return (inner: ServerWritableStream<Buffer, Outgoing>) => {
          const call = new StreamCall(inner);
          this.#admit(call, () => handler.handle(call, inner.request));
        };
      case "bidi":
        return (inner: ServerDuplexStream<Buffer, Outgoing>) => {
          const call = new StreamCall(inner);
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
    const { tls } = this.#options;
    if (tls === undefined) return ServerCredentials.createInsecure();
    const pair = { cert_chain: tls.cert, private_key: tls.key };
    return ServerCredentials.createSsl(tls.clientCa ?? null, [pair], tls.clientCa !== undefined);
  }
}

function asIs(bytes: Buffer): Buffer {
  return bytes;
}

abstract class Call implements EngineCall {
  readonly path: string;
  readonly metadata: RequestMetadata;
  readonly deadlineMs: number | undefined;
  cancelled = false;
  onCancel: ((deadlineExceeded: boolean) => void) | undefined;
  onDrain: (() => void) | undefined;
  onMessage: ((message: Uint8Array) => void) | undefined;
  onHalfClose: (() => void) | undefined;
  protected ended = false;
  readonly #inner: Anything;

  constructor(inner: Anything) {
    this.#inner = inner;
    this.path = inner.getPath();
    this.metadata = new CallMetadata(inner.metadata);
    const deadline = inner.getDeadline();
    this.deadlineMs = typeof deadline !== "number" ? deadline.getTime() : deadline === Infinity ? undefined : deadline;
    // The library says "cancelled" after every call, also one that ended well.
    (inner as EventEmitter).on("cancelled", () => {
      if (this.ended) return;
      this.ended = true;
      this.cancelled = true;
      this.onCancel?.(this.deadlineMs !== undefined && Date.now() + CLIENTS_LEAD_MS >= this.deadlineMs);
    });
  }

  get peer(): string {
    return this.#inner.getPeer();
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

  abstract send(message: Uint8Array): boolean;
  abstract end(status: CallStatus): void;
  abstract pause(): void;
  abstract resume(): void;
}

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

  constructor(inner: ServerUnaryCall<Buffer, Outgoing>, respond: sendUnaryData<Outgoing>) {
    super(inner);
    this.#respond = respond;
  }

  send(message: Uint8Array): boolean {
    this.#message = message;
    return true;
  }

  end(status: CallStatus): void {
    if (this.ended) return;
    this.ended = true;
    if (status.code === 0) this.#respond(null, asBuffer(this.#message!));
    else this.#respond(failure(status));
  }

  pause(): void {}
  resume(): void {}
}

class StreamCall extends Call {
  readonly #inner: ServerDuplexStream<Buffer, Outgoing> | ServerWritableStream<Buffer, Outgoing>;
  #readable: ServerDuplexStream<Buffer, Outgoing> | undefined;
  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  #isWriting = false;
  #isOver = false;
  #status: CallStatus | undefined;

  constructor(inner: ServerDuplexStream<Buffer, Outgoing> | ServerWritableStream<Buffer, Outgoing>) {
    super(inner);
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
    inner.on("end", () => {
      if (!this.ended) this.onHalfClose?.();
    });
  }

  send(message: Uint8Array): boolean {
    if (this.ended) return true;
    this.#queue.push(message);
    this.#queuedBytes += message.length;
    if (!this.#isWriting) this.#write();
    if (this.#queuedBytes <= HIGH_WATER_BYTES) return true;
    this.#isOver = true;
    return false;
  }

  end(status: CallStatus): void {
    if (this.ended) return;
    this.ended = true;
    this.#status = status;
    if (!this.#isWriting) this.#finish(status);
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
    for (const message of messages) this.#queuedBytes -= message.length;
    return count === 1 ? asBuffer(first!) : new Pack(messages, bytes);
  }

  #finish(status: CallStatus): void {
    if (status.code === 0) this.#inner.end();
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

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function failure({
  code,
  message,
  details,
}: CallStatus): Error & { code: number; details: string; metadata: Metadata } {
  const metadata = new Metadata();
  if (details !== undefined) metadata.set(DETAILS_KEY, asBuffer(details));
  return Object.assign(new Error(message), { code, details: message, metadata });
}

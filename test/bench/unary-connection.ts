/**
 * Hot path of the client under `growth`: one connection that sends the same unary request again and again, at the least
 * cost that still looks like a client of gRPC on the wire. Bytes are made once and only numbered; header fields go
 * through the table of HPACK after the first call, and flow control is kept, both ways. Of an answer it looks at nothing but
 * whether there is a message: ours sends none with an error.
 */
import { once } from "node:events";
import { type Socket, connect } from "node:net";
import {
  ACK,
  END_HEADERS,
  END_STREAM,
  PREFACE,
  Type,
  data,
  field,
  frame,
  message,
  settings,
  windowUpdate,
} from "../support/http2-peer.ts";

/** Called when a call is over: true with an answer, false when it failed or was refused. */
type OnEnd = (isAnswered: boolean) => void;

/** A header field. */
type Field = readonly [name: string, value: string];

interface Call {
  readonly id: number;
  readonly onEnd: OnEnd;
  isAnswered: boolean;
  /** Of the request. */
  sentBytes: number;
  /** What the server takes of this stream. */
  window: number;
}

const HEAD_BYTES = 9;
/** What any server takes in a frame. */
const MAX_FRAME_BYTES = 16_384;
const DEFAULT_WINDOW = 65_535;
const MESSAGE_PREFIX_BYTES = 5;
const MAX_STREAM_ID = 2 ** 31 - 1;
const SETTING = { headerTableSize: 1, enablePush: 2, initialWindowSize: 4 } as const;
/** Answers to many calls may be under way at a time. */
const CONNECTION_WINDOW = 1 << 24;
/** `:method: POST` and `:scheme: http`, which every table has. */
const STATIC_FIELDS = Buffer.of(0x83, 0x86);
/** Number of the field that was last put into the table. */
const NEWEST_FIELD = 62;
/** More than our fields take there. */
const MIN_TABLE_BYTES = 2048;

/** An open connection. Its calls end with it. */
export class UnaryConnection implements Disposable {
  readonly #socket: Socket;
  readonly #calls = new Map<number, Call>();
  /** Those whose request waits for a window, in their order. */
  readonly #waiting = new Set<Call>();
  readonly #opened = Promise.withResolvers<void>();
  readonly #request: Buffer;
  /** With the fields in full, and as numbers of the table. */
  readonly #firstHead: Buffer;
  readonly #head: Buffer;
  /** A whole call of a request that fits into one frame. */
  readonly #whole: Buffer | undefined;
  #nextId = 1;
  #window = DEFAULT_WINDOW;
  #streamWindow = DEFAULT_WINDOW;
  #receivedBytes = 0;
  #out: Buffer[] = [];
  #rest: Buffer | undefined;

  private constructor(socket: Socket, path: string, request: Uint8Array, metadata: readonly Field[]) {
    this.#socket = socket;
    this.#request = message(request);
    const fields = fieldsOf(path, metadata);
    this.#firstHead = frame(Type.headers, END_HEADERS, 0, Buffer.concat([STATIC_FIELDS, ...fields]));
    const numbers = fields.map((_, n) => 0x80 | (NEWEST_FIELD + fields.length - 1 - n));
    this.#head = frame(Type.headers, END_HEADERS, 0, Buffer.concat([STATIC_FIELDS, Buffer.from(numbers)]));
    if (this.#request.length <= MAX_FRAME_BYTES) {
      this.#whole = Buffer.concat([this.#head, data(0, this.#request, END_STREAM)]);
    }
    socket.on("error", () => undefined);
    socket.on("data", (chunk: Buffer) => this.#read(chunk));
    socket.on("close", () => this.#close());
    this.#write(PREFACE, settings([SETTING.enablePush, 0]), windowUpdate(0, CONNECTION_WINDOW - DEFAULT_WINDOW));
  }

  /** Connects for calls of one method with one request, and waits for the server's settings. */
  static async open(
    address: string,
    path: string,
    request: Uint8Array,
    metadata: readonly Field[] = [],
  ): Promise<UnaryConnection> {
    const [host, port] = address.split(":") as [string, string];
    const socket = connect({ host, port: Number(port), noDelay: true });
    await once(socket, "connect");
    const connection = new UnaryConnection(socket, path, request, metadata);
    await connection.#opened.promise;
    return connection;
  }

  /** Sends the request once more. */
  call(onEnd: OnEnd): void {
    const id = this.#nextId;
    this.#nextId += 2;
    if (this.#socket.destroyed || id > MAX_STREAM_ID) {
      queueMicrotask(() => onEnd(false));
      return;
    }
    const call: Call = { id, onEnd, isAnswered: false, sentBytes: 0, window: this.#streamWindow };
    this.#calls.set(id, call);
    const length = this.#request.length;
    if (this.#whole !== undefined && id > 1 && length <= Math.min(this.#window, call.window)) {
      const bytes = Buffer.from(this.#whole);
      bytes.writeUInt32BE(id, 5);
      bytes.writeUInt32BE(id, this.#head.length + 5);
      this.#window -= length;
      call.window -= length;
      call.sentBytes = length;
      this.#write(bytes);
      return;
    }
    const head = Buffer.from(id === 1 ? this.#firstHead : this.#head);
    head.writeUInt32BE(id, 5);
    this.#write(head);
    this.#send(call);
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }

  /** As much of the request as the windows allow. */
  #send(call: Call): void {
    const request = this.#request;
    while (call.sentBytes < request.length) {
      const size = Math.min(MAX_FRAME_BYTES, this.#window, call.window, request.length - call.sentBytes);
      if (size <= 0) {
        this.#waiting.add(call);
        return;
      }
      const start = call.sentBytes;
      call.sentBytes += size;
      call.window -= size;
      this.#window -= size;
      const flags = call.sentBytes === request.length ? END_STREAM : 0;
      this.#write(data(call.id, request.subarray(start, call.sentBytes), flags));
    }
    this.#waiting.delete(call);
  }

  /** All that one turn of the event loop brings leaves in one write. */
  #write(...frames: readonly Buffer[]): void {
    if (this.#out.length === 0) process.nextTick(() => this.#flush());
    this.#out.push(...frames);
  }

  #flush(): void {
    const out = this.#out;
    this.#out = [];
    if (!this.#socket.destroyed) this.#socket.write(out.length === 1 ? out[0]! : Buffer.concat(out));
  }

  #read(chunk: Buffer): void {
    const bytes = this.#rest === undefined ? chunk : Buffer.concat([this.#rest, chunk]);
    let at = 0;
    while (bytes.length - at >= HEAD_BYTES) {
      const start = at + HEAD_BYTES;
      const end = start + bytes.readUIntBE(at, 3);
      if (end > bytes.length) break;
      this.#onFrame(bytes[at + 3]!, bytes[at + 4]!, bytes.readUInt32BE(at + 5) & MAX_STREAM_ID, bytes, start, end);
      at = end;
    }
    this.#rest = at === bytes.length ? undefined : bytes.subarray(at);
  }

  #onFrame(type: number, flags: number, id: number, bytes: Buffer, start: number, end: number): void {
    switch (type) {
      case Type.data:
        this.#onData(id, end - start);
        if ((flags & END_STREAM) !== 0) this.#end(id);
        return;
      case Type.headers:
        if ((flags & END_STREAM) !== 0) this.#end(id);
        return;
      case Type.rstStream: {
        const call = this.#calls.get(id);
        if (call !== undefined) call.isAnswered = false;
        this.#end(id);
        return;
      }
      case Type.settings:
        if ((flags & ACK) === 0) this.#onSettings(bytes.subarray(start, end));
        return;
      case Type.ping:
        if ((flags & ACK) === 0) this.#write(frame(Type.ping, ACK, 0, bytes.subarray(start, end)));
        return;
      case Type.windowUpdate:
        this.#onWindow(id, bytes.readUInt32BE(start));
        return;
      default:
      // GOAWAY is followed by the end of the connection; the rest means nothing to us.
    }
  }

  #onData(id: number, length: number): void {
    const call = this.#calls.get(id);
    if (call !== undefined && length >= MESSAGE_PREFIX_BYTES) call.isAnswered = true;
    this.#receivedBytes += length;
    if (this.#receivedBytes < CONNECTION_WINDOW / 2) return;
    this.#write(windowUpdate(0, this.#receivedBytes));
    this.#receivedBytes = 0;
  }

  #onSettings(payload: Buffer): void {
    for (let at = 0; at < payload.length; at += 6) {
      const [name, value] = [payload.readUInt16BE(at), payload.readUInt32BE(at + 2)];
      if (name === SETTING.initialWindowSize) {
        for (const call of this.#calls.values()) call.window += value - this.#streamWindow;
        this.#streamWindow = value;
      } else if (name === SETTING.headerTableSize && value < MIN_TABLE_BYTES) {
        this.#socket.destroy(new Error("the server's table for header fields is too small"));
      }
    }
    this.#write(frame(Type.settings, ACK, 0));
    this.#opened.resolve();
  }

  #onWindow(id: number, by: number): void {
    if (id !== 0) {
      const call = this.#calls.get(id);
      if (call === undefined) return;
      call.window += by;
      if (this.#waiting.has(call)) this.#send(call);
      return;
    }
    this.#window += by;
    for (const call of this.#waiting) {
      if (this.#window === 0) break;
      this.#send(call);
    }
  }

  #end(id: number): void {
    const call = this.#calls.get(id);
    if (call === undefined) return;
    this.#calls.delete(id);
    this.#waiting.delete(call);
    call.onEnd(call.isAnswered);
  }

  #close(): void {
    this.#opened.reject(new Error("the server closed the connection"));
    for (const call of this.#calls.values()) call.onEnd(false);
    this.#calls.clear();
  }
}

/** Each is put into the table, where the last one has the lowest number. */
function fieldsOf(path: string, metadata: readonly Field[]): Buffer[] {
  const fields = [
    [":authority", "localhost"],
    [":path", path],
    ["content-type", "application/grpc"],
    ["te", "trailers"],
    ["user-agent", "windshift-bench"],
    ...metadata,
  ] as const;
  return fields.map(([name, value]) => field(name, value, 0x40));
}

/**
 * A client of HTTP/2 that sends whatever bytes a test wants, and shows each frame that comes back. What it knows of the
 * protocol it has from the RFC, not from the server: no line of the engine is on this side of the wire.
 */
import { once } from "node:events";
import { type Socket, connect } from "node:net";
import { type ConnectionOptions, connect as connectTls } from "node:tls";

export const Type = {
  data: 0,
  headers: 1,
  priority: 2,
  rstStream: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;
export const ACK = 0x1;
export const END_STREAM = 0x1;
export const END_HEADERS = 0x4;
export const PADDED = 0x8;
/** The setting of that name. */
export const INITIAL_WINDOW = 0x4;
export const DEFAULT_WINDOW = 65_535;
export const MAX_WINDOW: number = 2 ** 31 - 1;
export const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

/** The error codes of RFC 9113 (section 7), by number. */
export const CODES = [
  "NO_ERROR",
  "PROTOCOL_ERROR",
  "INTERNAL_ERROR",
  "FLOW_CONTROL_ERROR",
  "SETTINGS_TIMEOUT",
  "STREAM_CLOSED",
  "FRAME_SIZE_ERROR",
  "REFUSED_STREAM",
  "CANCEL",
  "COMPRESSION_ERROR",
  "CONNECT_ERROR",
  "ENHANCE_YOUR_CALM",
  "INADEQUATE_SECURITY",
  "HTTP_1_1_REQUIRED",
] as const;

/** A frame as it came. */
export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Buffer;
}

/** Bytes of one frame. */
export function frame(type: number, flags: number, streamId: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const bytes = Buffer.alloc(9 + payload.length);
  bytes.writeUIntBE(payload.length, 0, 3);
  bytes[3] = type;
  bytes[4] = flags;
  bytes.writeUInt32BE(streamId, 5);
  bytes.set(payload, 9);
  return bytes;
}

/** A number of 32 bits. */
export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export function settings(...values: readonly (readonly [name: number, value: number])[]): Buffer {
  const payload = Buffer.alloc(6 * values.length);
  for (const [index, [name, value]] of values.entries()) {
    payload.writeUInt16BE(name, 6 * index);
    payload.writeUInt32BE(value, 6 * index + 2);
  }
  return frame(Type.settings, 0, 0, payload);
}

export function ping(): Buffer {
  return frame(Type.ping, 0, 0, Buffer.alloc(8));
}

export function windowUpdate(streamId: number, by: number): Buffer {
  return frame(Type.windowUpdate, 0, streamId, u32(by));
}

export function reset(streamId: number, code = 8): Buffer {
  return frame(Type.rstStream, 0, streamId, u32(code));
}

export function data(streamId: number, payload: Uint8Array, flags = 0): Buffer {
  return frame(Type.data, flags, streamId, payload);
}

/** An integer of HPACK (RFC 7541, section 5.1). */
export function integer(value: number, prefixBits: number, first = 0): Buffer {
  const mask = 2 ** prefixBits - 1;
  if (value < mask) return Buffer.of(first | value);
  const bytes = [first | mask];
  let rest = value - mask;
  for (; rest > 0x7f; rest = Math.floor(rest / 128)) bytes.push((rest & 0x7f) | 0x80);
  return Buffer.from([...bytes, rest]);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, "latin1");
  return Buffer.concat([integer(bytes.length, 7), bytes]);
}

/** A field that no table remembers, or (`0x40`) one that the dynamic table does. */
export function field(name: string, value: string, kind: 0 | 0x40 = 0): Buffer {
  return Buffer.concat([Buffer.of(kind), text(name), text(value)]);
}

/** The header block of a call. */
export function callBlock(path: string, ...more: readonly (readonly [name: string, value: string])[]): Buffer {
  const fields: (readonly [string, string])[] = [
    [":method", "POST"],
    [":scheme", "http"],
    [":path", path],
    [":authority", "localhost"],
    ["te", "trailers"],
    ["content-type", "application/grpc"],
    ...more,
  ];
  return Buffer.concat(fields.map(([name, value]) => field(name, value)));
}

/** Opens a call. */
export function call(streamId: number, path: string, flags: number = END_HEADERS): Buffer {
  return frame(Type.headers, flags, streamId, callBlock(path));
}

/** A message with the prefix that gRPC puts before each. */
export function message(bytes: Uint8Array, compressed = 0): Buffer {
  return Buffer.concat([Buffer.of(compressed), u32(bytes.length), bytes]);
}

/** A unary call with all of its request. */
export function unary(streamId: number, path: string, request: Uint8Array): Buffer {
  return Buffer.concat([call(streamId, path), data(streamId, message(request), END_STREAM)]);
}

/** Cuts what comes, in pieces of any size, into frames. */
export class FrameReader {
  #rest: Buffer = Buffer.alloc(0);

  /** The frames that are complete with this piece. */
  read(piece: Buffer): Frame[] {
    const frames: Frame[] = [];
    let bytes = this.#rest.length === 0 ? piece : Buffer.concat([this.#rest, piece]);
    while (bytes.length >= 9 && bytes.length >= 9 + bytes.readUIntBE(0, 3)) {
      const end = 9 + bytes.readUIntBE(0, 3);
      const streamId = bytes.readUInt32BE(5) & 0x7fffffff;
      frames.push({ type: bytes[3]!, flags: bytes[4]!, streamId, payload: bytes.subarray(9, end) });
      bytes = bytes.subarray(end);
    }
    this.#rest = bytes;
    return frames;
  }
}

/** One connection. It answers nothing by itself: neither SETTINGS nor PING. */
export class Http2Peer {
  readonly socket: Socket;
  /** Every frame that came, in order. */
  readonly received: Frame[] = [];
  /** Bytes that came before any frame could be read: set by `plain`. */
  raw = Buffer.alloc(0);
  readonly closed: Promise<void>;
  #isClosed = false;
  #isPlain: boolean;
  readonly #reader = new FrameReader();
  #wake = Promise.withResolvers<void>();

  constructor(socket: Socket, isPlain: boolean) {
    this.socket = socket;
    this.#isPlain = isPlain;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.closed = promise;
    socket.on("error", () => undefined);
    socket.on("data", (chunk: Buffer) => this.#read(chunk));
    socket.on("close", () => {
      this.#isClosed = true;
      resolve();
      this.#wakeUp();
    });
  }

  /** Connects and sends nothing; `isPlain` keeps what comes as bytes. */
  static async open(port: number, isPlain = false): Promise<Http2Peer> {
    const socket = connect({ port, host: "127.0.0.1", noDelay: true });
    await once(socket, "connect");
    return new Http2Peer(socket, isPlain);
  }

  /** Connects and opens the conversation. */
  static async start(port: number, ...values: readonly (readonly [name: number, value: number])[]): Promise<Http2Peer> {
    const peer = await Http2Peer.open(port);
    peer.send(PREFACE, settings(...values));
    return peer;
  }

  /** Connects with windows without limits, and reads nothing until its socket is resumed. */
  static async startUnread(port: number): Promise<Http2Peer> {
    const peer = await Http2Peer.open(port);
    peer.socket.pause();
    const windows = [settings([INITIAL_WINDOW, MAX_WINDOW]), windowUpdate(0, MAX_WINDOW - DEFAULT_WINDOW)];
    peer.send(PREFACE, ...windows);
    return peer;
  }

  /** The same over TLS. */
  static async startTls(port: number, options: ConnectionOptions = {}): Promise<Http2Peer> {
    const socket = connectTls({
      port,
      host: "127.0.0.1",
      rejectUnauthorized: false,
      ALPNProtocols: ["h2"],
      ...options,
    });
    await once(socket, "secureConnect");
    const peer = new Http2Peer(socket, false);
    peer.send(PREFACE, settings());
    return peer;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** False where the socket is full, or gone. */
  send(...frames: readonly Buffer[]): boolean {
    return !this.#isClosed && this.socket.write(Buffer.concat(frames));
  }

  /** The first frame that fits, of those that came or will come; rejects when the connection ends without it. */
  async find(fits: (frame: Frame) => boolean): Promise<Frame> {
    let seen = 0;
    await this.until(() => {
      while (seen < this.received.length && !fits(this.received[seen]!)) seen += 1;
      return seen < this.received.length;
    });
    return this.received[seen]!;
  }

  /** Looks again whenever something has come, until it is so; rejects when the connection ends before. */
  async until(isSo: () => boolean): Promise<void> {
    while (!isSo()) {
      if (this.#isClosed) throw new Error(`the connection ended after ${this.received.map(describe).join(", ")}`);
      await this.#wake.promise;
    }
  }

  /** Resolves when the server has handled everything that was sent before. */
  async roundTrip(): Promise<void> {
    const mark = Buffer.alloc(8);
    mark.writeUInt32BE(++marks);
    this.send(frame(Type.ping, 0, 0, mark));
    await this.find(({ type, flags, payload }) => type === Type.ping && (flags & ACK) !== 0 && payload.equals(mark));
  }

  /** The code with which the server ended the connection; undefined where it ended it without a word. */
  async ending(): Promise<string | undefined> {
    await this.closed;
    return this.goaway;
  }

  /** The code of the last GOAWAY that came. */
  get goaway(): string | undefined {
    const last = this.received.findLast(({ type }) => type === Type.goaway);
    return last === undefined ? undefined : CODES[last.payload.readUInt32BE(4)];
  }

  /** The code with which the server reset a stream. */
  async resetOf(streamId: number): Promise<string | undefined> {
    const { payload } = await this.find((one) => one.type === Type.rstStream && one.streamId === streamId);
    return CODES[payload.readUInt32BE(0)];
  }

  /** The frame that ends a stream. */
  async endOf(streamId: number): Promise<Frame> {
    return this.find(
      ({ type, flags, streamId: on }) =>
        on === streamId && (type === Type.headers || type === Type.data) && (flags & END_STREAM) !== 0,
    );
  }

  /**
   * Sends what `next` makes, again and again, as fast as it is taken, until the server ends the connection; returns how
   * many times. Gives up at `limit`. `between` is waited for every few hundred times.
   */
  async flood(limit: number, next: (index: number) => Buffer, between: () => Promise<void> = turn): Promise<number> {
    for (let sent = 0; sent < limit;) {
      const batch = Array.from({ length: Math.min(FLOOD_BATCH, limit - sent) }, (_, index) => next(sent + index));
      sent += batch.length;
      if (!this.socket.write(Buffer.concat(batch))) await Promise.race([this.#drained(), this.closed]);
      await between();
      if (this.#isClosed || (this.goaway ?? "NO_ERROR") !== "NO_ERROR") return sent;
    }
    return limit;
  }

  destroy(): void {
    this.socket.destroy();
  }

  async #drained(): Promise<void> {
    // One that ends with an error is closed right behind it.
    await once(this.socket, "drain").catch(async () => this.closed);
  }

  #read(chunk: Buffer): void {
    if (this.#isPlain) {
      this.raw = Buffer.concat([this.raw, chunk]);
      return;
    }
    this.received.push(...this.#reader.read(chunk));
    this.#wakeUp();
  }

  #wakeUp(): void {
    this.#wake.resolve();
    this.#wake = Promise.withResolvers();
  }
}

async function turn(): Promise<void> {
  await new Promise(setImmediate);
}

let marks = 0;
const FLOOD_BATCH = 500;

function describe({ type, streamId }: Frame): string {
  return `${Object.entries(Type).find(([, value]) => value === type)?.[0] ?? type} on ${streamId}`;
}

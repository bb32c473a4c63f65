/**
 * HTTP/2 as bytes on a socket, for clients that do what no library does: never read the socket, flood frames, send what
 * is not theirs to send.
 */
import { once } from "node:events";
import { type Socket, connect } from "node:net";

const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
const MAX_WINDOW = 2 ** 31 - 1;
const DEFAULT_WINDOW = 65_535;
const FRAME = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, windowUpdate: 8 } as const;
const END_STREAM = 1;
const END_HEADERS = 4;
const INITIAL_WINDOW_SIZE = 4;

/** A connection that reads nothing until it is told to, and lets the server send as much as it likes. */
export class RawHttp2 implements Disposable {
  readonly socket: Socket;
  /** Resolves when the connection is over, whoever ended it. */
  readonly closed: Promise<unknown>;
  #nextStream = 1;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on("error", () => undefined);
    this.closed = new Promise((resolve) => socket.once("close", resolve));
  }

  static async open(port: number): Promise<RawHttp2> {
    const socket = connect(port, "127.0.0.1");
    const client = new RawHttp2(socket);
    await once(socket, "connect");
    const window = Buffer.alloc(6);
    window.writeUInt16BE(INITIAL_WINDOW_SIZE);
    window.writeUInt32BE(MAX_WINDOW, 2);
    const more = Buffer.alloc(4);
    more.writeUInt32BE(MAX_WINDOW - DEFAULT_WINDOW);
    socket.write(
      Buffer.concat([
        PREFACE,
        frame(FRAME.settings, 0, 0, window),
        frame(FRAME.settings, END_STREAM, 0, Buffer.alloc(0)),
        frame(FRAME.windowUpdate, 0, 0, more),
      ]),
    );
    return client;
  }

  /** Opens a call and returns its stream; with `message`, that is all it sends. */
  call(path: string, message?: Uint8Array): number {
    const stream = this.#nextStream;
    this.#nextStream += 2;
    // HPACK: the static table's `:method: POST` and `:scheme: http`, then literals for
    // `:authority`, `:path` and `content-type`.
    const [scheme, authority] = [Buffer.of(0x83, 0x86), [Buffer.of(0x01), text("test")]];
    const head = [scheme, ...authority, Buffer.of(0x04), text(path), Buffer.of(0x0f, 0x10), text("application/grpc")];
    this.send(FRAME.headers, END_HEADERS, stream, Buffer.concat(head));
    if (message !== undefined) this.message(stream, message, true);
    return stream;
  }

  /** Sends one gRPC message. */
  message(stream: number, message: Uint8Array, isLast = false): void {
    const header = Buffer.alloc(5);
    header.writeUInt32BE(message.length, 1);
    this.send(FRAME.data, isLast ? END_STREAM : 0, stream, Buffer.concat([header, message]));
  }

  /** Leaves a call. */
  reset(stream: number): void {
    this.send(FRAME.reset, 0, stream, Buffer.of(0, 0, 0, 8));
  }

  ping(count: number): boolean {
    const ping = frame(FRAME.ping, 0, 0, Buffer.alloc(8));
    return this.socket.write(Buffer.concat(Array.from({ length: count }, () => ping)));
  }

  settings(count: number): boolean {
    const settings = frame(FRAME.settings, 0, 0, Buffer.alloc(0));
    return this.socket.write(Buffer.concat(Array.from({ length: count }, () => settings)));
  }

  send(type: number, flags: number, stream: number, payload: Uint8Array): boolean {
    return this.socket.write(frame(type, flags, stream, payload));
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}

function frame(type: number, flags: number, stream: number, payload: Uint8Array): Buffer {
  const header = Buffer.alloc(9);
  header.writeUIntBE(payload.length, 0, 3);
  header[3] = type;
  header[4] = flags;
  header.writeUInt32BE(stream, 5);
  return Buffer.concat([header, payload]);
}

function text(value: string): Buffer {
  return Buffer.concat([Buffer.of(value.length), Buffer.from(value)]);
}

/**
 * A gRPC client that costs little: HTTP/2 of Node, and by hand the few messages that flow all the time. A client library
 * would take more of the machine than the server under load. Connections can be dropped, as a client that dies drops them.
 */
import { connect as connectHttp2, constants, type ClientHttp2Session, type ClientHttp2Stream } from "node:http2";
import { type Socket, connect as connectTcp } from "node:net";
import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { EVENTS } from "./client.ts";

const FRAME_HEAD = 5;
const STREAM_WINDOW = 1 << 20;
const CONNECTION_WINDOW = 1 << 22;
/** How a call ends that never got a status. */
const NO_STATUS = "no status";

/** What a subscription tells. */
export type Told =
  | { readonly kind: "event"; readonly id: number; readonly dueAt: number }
  | { readonly kind: "confirmed"; readonly ids: readonly number[]; readonly refused: readonly number[] }
  | { readonly kind: "subscribed" };

/** One connection. */
export class LoadConnection {
  readonly #session: ClientHttp2Session;
  readonly #socket: Socket;

  constructor(address: string) {
    const [host, port] = address.split(":") as [string, string];
    const socket = connectTcp({ host, port: Number(port), noDelay: true });
    this.#socket = socket;
    this.#session = connectHttp2(`http://${address}`, {
      createConnection: () => socket,
      settings: { enablePush: false, initialWindowSize: STREAM_WINDOW },
    });
    this.#session.on("connect", () => this.#session.setLocalWindowSize(CONNECTION_WINDOW));
    // Calls tell how they ended.
    this.#session.on("error", () => undefined);
    socket.on("error", () => undefined);
  }

  /** A call with one answer; rejects with the status that is not OK. */
  async unary(method: string, request: Uint8Array): Promise<Buffer> {
    const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
    let response: Buffer | undefined;
    const call = this.#open(method, (message) => {
      response = message;
    });
    call.stream.end(frame(request));
    void call.ended.then((status) => {
      if (status === "0" && response !== undefined) resolve(response);
      else reject(new Error(`${method} ended with status ${status}`));
    });
    return promise;
  }

  /** Subscribes; `onTold` gets all messages that came together. */
  subscribe(stream: string, consumer: string, window: number, onTold: (told: Told[]) => void): LoadSubscription {
    let batch: Told[] = [];
    const call = this.#open(
      "Events",
      (message) => batch.push(decodeResponse(message)),
      () => {
        const told = batch;
        batch = [];
        if (told.length > 0) onTold(told);
      },
    );
    return new LoadSubscription(call.stream, call.ended, encodeSubscribe(stream, consumer, window));
  }

  /** Ends it when its calls have ended. */
  close(): void {
    this.#session.close();
  }

  /** Resets the connection, whatever is under way. */
  drop(): void {
    this.#socket.resetAndDestroy();
  }

  #open(
    method: string,
    onMessage: (message: Buffer) => void,
    onChunk?: () => void,
  ): { stream: ClientHttp2Stream; ended: Promise<string> } {
    const stream = this.#session.request({
      ":method": "POST",
      ":path": EVENTS + method,
      "content-type": "application/grpc",
      te: "trailers",
    });
    const { promise: ended, resolve } = Promise.withResolvers<string>();
    let status: string | undefined;
    const messages = new Messages(onMessage);
    const readStatus = (headers: Record<string, unknown>): void => {
      if (typeof headers["grpc-status"] === "string") status = headers["grpc-status"];
    };
    stream.on("response", readStatus);
    stream.on("trailers", readStatus);
    stream.on("error", () => undefined);
    stream.on("close", () => resolve(status ?? NO_STATUS));
    stream.on("data", (chunk: Buffer) => {
      messages.read(chunk);
      onChunk?.();
    });
    return { stream, ended };
  }
}

/** An open subscription. */
export class LoadSubscription {
  /** The status with which it ended. */
  readonly ended: Promise<string>;
  readonly #stream: ClientHttp2Stream;

  constructor(stream: ClientHttp2Stream, ended: Promise<string>, subscribe: Uint8Array) {
    this.#stream = stream;
    this.ended = ended;
    stream.write(frame(subscribe));
  }

  ack(ids: readonly number[]): void {
    if (!this.#stream.destroyed && !this.#stream.writableEnded) this.#stream.write(frame(encodeAck(ids)));
  }

  /** Says that nothing more will be sent; the server answers what was, and ends the call. */
  halfClose(): void {
    this.#stream.end();
  }

  cancel(): void {
    this.#stream.close(constants.NGHTTP2_CANCEL);
  }
}

/** The id in the answer to a publish. */
export function decodePublished(message: Uint8Array): number {
  const reader = new BinaryReader(message);
  reader.tag();
  return Number(reader.uint64());
}

/** A message with gRPC's five bytes before it. */
function frame(message: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(FRAME_HEAD + message.length);
  bytes[0] = 0;
  bytes.writeUInt32BE(message.length, 1);
  bytes.set(message, FRAME_HEAD);
  return bytes;
}

/** Puts gRPC messages together. Large ones come in many pieces, each of which is copied once. */
export class Messages {
  readonly #onMessage: (message: Buffer) => void;
  #pieces: Buffer[] = [];
  #length = 0;
  /** As many bytes have to be there before it is worth a look. */
  #needed = FRAME_HEAD;

  constructor(onMessage: (message: Buffer) => void) {
    this.#onMessage = onMessage;
  }

  /** Takes what came next, and hands on every message that is whole with it. */
  read(piece: Buffer): void {
    this.#pieces.push(piece);
    this.#length += piece.length;
    if (this.#length < this.#needed) return;
    const bytes = this.#pieces.length === 1 ? piece : Buffer.concat(this.#pieces);
    let at = 0;
    for (;;) {
      this.#needed = bytes.length - at < FRAME_HEAD ? FRAME_HEAD : FRAME_HEAD + bytes.readUInt32BE(at + 1);
      if (bytes.length - at < this.#needed) break;
      this.#onMessage(bytes.subarray(at + FRAME_HEAD, at + this.#needed));
      at += this.#needed;
    }
    this.#length = bytes.length - at;
    this.#pieces = this.#length === 0 ? [] : [bytes.subarray(at)];
  }
}

/** `EventsRequest` with `Subscribe`: stream (1), consumer (2) and `max_processing_events` (4; 3 is reserved). */
export function encodeSubscribe(stream: string, consumer: string, window: number): Uint8Array {
  const writer = new BinaryWriter();
  writer.tag(1, WireType.LengthDelimited).fork();
  writer.tag(1, WireType.LengthDelimited).string(stream);
  writer.tag(2, WireType.LengthDelimited).string(consumer);
  writer.tag(4, WireType.Varint).uint64(window);
  return writer.join().finish();
}

function encodeAck(ids: readonly number[]): Uint8Array {
  const writer = new BinaryWriter();
  writer.tag(2, WireType.LengthDelimited).fork();
  writer.tag(1, WireType.LengthDelimited).fork();
  for (const id of ids) writer.uint64(id);
  return writer.join().join().finish();
}

/** `EventsResponse`: an event (1), subscribed (2) or the confirmation of an ack (3). */
function decodeResponse(message: Uint8Array): Told {
  const reader = new BinaryReader(message);
  const [field] = reader.tag();
  const end = reader.uint32() + reader.pos;
  if (field === 1) return decodeEvent(reader, end);
  if (field === 3) return decodeConfirmation(reader, end);
  return { kind: "subscribed" };
}

/** `Event`: the id (1) and the data (4), an `Any` whose value (2) begins with when it was due. */
function decodeEvent(reader: BinaryReader, end: number): Told {
  let id = 0;
  let dueAt = Number.NaN;
  while (reader.pos < end) {
    const [field, type] = reader.tag();
    if (field === 1) id = Number(reader.uint64());
    else if (field === 4) {
      const dataEnd = reader.uint32() + reader.pos;
      while (reader.pos < dataEnd) {
        const [inner, innerType] = reader.tag();
        if (inner !== 2) {
          reader.skip(innerType);
          continue;
        }
        const value = reader.bytes();
        dueAt = new DataView(value.buffer, value.byteOffset).getFloat64(0, true);
      }
    } else reader.skip(type);
  }
  return { kind: "event", id, dueAt };
}

/** `AckConfirmation`: ids (1), and those that were not acknowledged (2, 3). */
function decodeConfirmation(reader: BinaryReader, end: number): Told {
  const ids: number[] = [];
  const refused: number[] = [];
  while (reader.pos < end) {
    const [field] = reader.tag();
    const list = field === 1 ? ids : refused;
    const listEnd = reader.uint32() + reader.pos;
    while (reader.pos < listEnd) list.push(Number(reader.uint64()));
  }
  return { kind: "confirmed", ids, refused };
}

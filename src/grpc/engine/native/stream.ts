/**
 * One stream of HTTP/2 on the side that answers (RFC 9113, section 5):
 *
 *     open ──END_STREAM of the client──▶ half-closed (remote) ──our END_STREAM──▶ closed
 *     open ──our END_STREAM──▶ half-closed (local) ──END_STREAM of the client──▶ closed
 *
 * A reset of either side closes it at once. What is sent waits in a queue while a flow-control window or the socket is
 * full; the end of the stream waits behind it.
 */
import type { Connection } from "./connection.ts";
import { DEFAULT_WINDOW, Flag, MAX_FRAME_BYTES, MAX_WINDOW } from "./frames.ts";
import type { HeaderList } from "./header-list.ts";
import { type Framing, prefixBytes } from "./output.ts";

/** A message that waits to be sent. */
interface Outgoing {
  readonly framing: Framing;
  readonly message: Uint8Array;
}

/** A stream with what the layer above has to add. */
export abstract class Stream {
  readonly id: number;
  readonly connection: Connection;
  /** On the monotonic clock. */
  readonly openedAt: number;
  /** DATA that the client may still send, and that we may. */
  receiveWindow: number = DEFAULT_WINDOW;
  sendWindow: number;
  /** DATA that the client has announced and not sent yet, where it did. */
  announced: number | undefined;
  /** The client has ended its side. */
  remoteEnded = false;
  /** We have ended ours: nothing more is sent. */
  localEnded = false;
  /** It waits in the connection's round for its turn to send. */
  isReady = false;
  #queue: Outgoing[] = [];
  #head = 0;
  /** Of the first message in the queue, prefix included: bytes that were sent. */
  #sent = 0;
  #queuedBytes = 0;
  #trailers: Uint8Array | undefined;
  #headersSent = false;
  #isDropped = false;

  constructor(connection: Connection, id: number, sendWindow: number) {
    this.connection = connection;
    this.id = id;
    this.openedAt = connection.lastHeard;
    this.sendWindow = sendWindow;
  }

  /** The header fields of the request; the list is used again for the next one. */
  abstract onRequest(headers: HeaderList): void;
  /** Payload of DATA; a view that stays valid. */
  abstract onData(bytes: Buffer, start: number, end: number): void;
  /** The client has ended its side. */
  abstract onRemoteEnd(): void;
  /** The stream is over before we ended it: reset, or its connection is gone. */
  abstract onKilled(): void;
  /** Nothing more comes of the socket read during which the stream asked to be told. */
  abstract onReadOver(): void;
  /** Less waits to be sent than before, or it was the last and our side has ended. */
  abstract onSent(): void;

  /** What waits to be sent costs so many bytes of memory. */
  get backlog(): number {
    return this.#queuedBytes + (this.#queue.length - this.#head) * MESSAGE_OVERHEAD_BYTES;
  }

  /** Sends a message, or queues it. The first one takes the response's header fields along. */
  protected write(framing: Framing, message: Uint8Array): void {
    const size = prefixBytes(framing) + message.length;
    const { connection } = this;
    if (this.#isDropped) return;
    this.begin();
    if (this.#queuedBytes === 0 && size <= this.sendWindow && connection.mayWrite(size)) {
      this.sendWindow -= size;
      connection.sendMessage(this.id, framing, message);
      return;
    }
    this.#queue.push({ framing, message });
    this.#queuedBytes += size;
    connection.wantsToSend(this);
  }

  /** Ends our side behind all that waits: with trailers, or without any. */
  protected finish(trailers: Uint8Array): void {
    if (this.#isDropped) return;
    if (this.#queuedBytes > 0) this.#trailers = trailers;
    else this.#end(trailers);
  }

  /** Ends our side with nothing but header fields, where none were sent yet. */
  protected respond(block: Uint8Array): void {
    if (this.#isDropped) return;
    this.#headersSent = true;
    this.#end(block);
  }

  /** True once header fields were sent: what ends the stream then are trailers. */
  protected get hasBegun(): boolean {
    return this.#headersSent;
  }

  /** The block of fields that begins a response. */
  protected abstract responseHeaders(): Uint8Array;

  /** Sends one frame's worth; false when it has nothing more, or its window is used up. */
  sendSome(limit: number): boolean {
    const room = Math.min(limit, this.sendWindow, MAX_FRAME_BYTES);
    if (room <= 0 || this.#queuedBytes === 0) return false;
    const { framing, message } = this.#queue[this.#head]!;
    const left = prefixBytes(framing) + message.length - this.#sent;
    const from = this.#sent;
    const bytes = Math.min(left, room);
    this.sendWindow -= bytes;
    this.#queuedBytes -= bytes;
    this.#sent += bytes;
    if (bytes === left) this.#next();
    if (from === 0 && bytes === left) this.connection.sendMessage(this.id, framing, message);
    else this.connection.sendPart(this.id, framing, message, from, bytes);
    if (this.#queuedBytes === 0 && this.#trailers !== undefined) this.#end(this.#trailers);
    this.onSent();
    return this.#queuedBytes > 0 && this.sendWindow > 0;
  }

  /** Sends the header fields of the response, where they were not sent yet. */
  protected begin(): void {
    if (this.#headersSent || this.#isDropped) return;
    this.#headersSent = true;
    this.connection.sendHeaders(this.id, 0, this.responseHeaders());
  }

  #next(): void {
    this.#sent = 0;
    this.#head += 1;
    if (this.#head < COMPACT_AT && this.#head < this.#queue.length) return;
    this.#queue = this.#queue.slice(this.#head);
    this.#head = 0;
  }

  #end(block: Uint8Array): void {
    this.#trailers = undefined;
    this.localEnded = true;
    if (block.length === 0) this.connection.sendEmptyData(this.id);
    else this.connection.sendHeaders(this.id, Flag.endStream, block);
    this.connection.finished(this);
  }

  /** Another initial window of the client moves all windows. False: beyond what a window may be. */
  moveSendWindow(by: number): boolean {
    this.sendWindow += by;
    if (this.sendWindow > MAX_WINDOW) return false;
    if (this.#queuedBytes > 0 && this.sendWindow > 0) this.connection.wantsToSend(this);
    return true;
  }

  /** Forgets what waits to be sent, and takes nothing more. */
  protected drop(): void {
    this.#queue = [];
    this.#head = this.#queuedBytes = this.#sent = 0;
    this.#isDropped = true;
  }

  /** Ends it at once, on both sides; what waits is dropped. */
  kill(): void {
    const wasOver = this.localEnded;
    this.localEnded = this.remoteEnded = true;
    this.drop();
    this.#trailers = undefined;
    if (!wasOver) this.onKilled();
  }
}

const COMPACT_AT = 64;
const MESSAGE_OVERHEAD_BYTES = 128;

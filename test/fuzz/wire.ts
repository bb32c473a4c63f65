/**
 * What takes the place of a socket here: a Duplex that hands the connection its bytes at once and takes what comes back.
 * It shows nothing of how sockets behave, which the integration tests do on real ones; it is there for millions of frames.
 */
import type { Socket } from "node:net";
import { Duplex } from "node:stream";
import { CODES, DEFAULT_WINDOW, INITIAL_WINDOW, MAX_WINDOW, PREFACE, Type } from "../support/http2-peer.ts";

const MAX_FRAME = 16_384;

/** What the server may not do, or did not do. */
export class Violation extends Error {}

function check(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Violation(what);
}

type OnFrame = (type: number, flags: number, streamId: number, bytes: Buffer, start: number, end: number) => void;

/** Frames out of pieces of any size; written anew, so that it has no faults in common with the engine's. */
class Frames {
  readonly #onFrame: OnFrame;
  #rest: Buffer = Buffer.alloc(0);
  /** Bytes before the first frame. */
  #skip: number;

  constructor(onFrame: OnFrame, skip = 0) {
    this.#onFrame = onFrame;
    this.#skip = skip;
  }

  /** Bytes of a frame that is not complete. */
  get pending(): number {
    return this.#rest.length;
  }

  read(piece: Buffer): void {
    const bytes = this.#rest.length === 0 ? piece : Buffer.concat([this.#rest, piece]);
    let at = Math.min(this.#skip, bytes.length);
    this.#skip -= at;
    while (bytes.length - at >= 9) {
      const end = at + 9 + bytes.readUIntBE(at, 3);
      if (end > bytes.length) break;
      this.#onFrame(bytes[at + 3]!, bytes[at + 4]!, bytes.readUInt32BE(at + 5) & MAX_WINDOW, bytes, at + 9, end);
      at = end;
    }
    this.#rest = bytes.subarray(at);
  }
}

/** One stream as the server has answered it. */
interface Answer {
  hasHeaders: boolean;
  isEnded: boolean;
  isReset: boolean;
  /** What came, for comparisons: types, flags, codes and payloads; DATA that follows DATA is one. */
  text: string;
  data: number;
}

/** Both directions of one connection: what the client granted, and whether the server keeps to it and to the RFC. */
export class Wire extends Duplex {
  readonly remoteAddress = "127.0.0.1";
  readonly remotePort = 1;
  /** Frames that the server was given. */
  frames = 0;
  pingsAnswered = 0;
  /** The code of the last GOAWAY. */
  ending: string | undefined;
  /** Holds back that what was written is taken, as a client does that does not read. */
  isStuck = false;
  #release: (() => void) | undefined;
  #sentByClient = new Frames((...frame) => this.#onClientFrame(...frame), PREFACE.length);
  #sentByServer = new Frames((...frame) => this.#onServerFrame(...frame));
  #answers = new Map<number, Answer>();
  #connectionText = "";
  #hasServerSettings = false;
  #blockOf = 0;
  #data = 0;
  /** The most that the server may have been granted. */
  #connectionCredit = DEFAULT_WINDOW;
  #initialCredit = DEFAULT_WINDOW;
  #streamCredit = new Map<number, number>();
  #isInBlock = false;
  #hasCalls = false;
  /** Streams by number, and whether the client ended its side with the frame that opened them. */
  #opened = new Map<number, boolean>();
  /** That the last GOAWAY named. */
  #lastStream = MAX_WINDOW;

  constructor() {
    super({ highWaterMark: 65_536 });
  }

  get socket(): Socket {
    return this as unknown as Socket;
  }

  setNoDelay(): this {
    return this;
  }

  /** Gives the server bytes, piece by piece, which are all that there is before the event loop turns. */
  feed(bytes: Buffer, pieces: readonly Buffer[] = [bytes]): void {
    this.#sentByClient.read(bytes);
    for (const piece of pieces) this.emit("data", piece);
  }

  /** The client begins to read again. */
  unstick(): void {
    this.isStuck = false;
    this.#release?.();
    this.#release = undefined;
  }

  /** Nothing is half sent: a PING has to be answered. */
  get isBetweenFrames(): boolean {
    return this.#sentByClient.pending === 0 && !this.#isInBlock;
  }

  /** All that came back, in an order that does not depend on when the event loop turned. */
  get transcript(): string {
    const streams = [...this.#answers]
      .toSorted(([a], [b]) => a - b)
      .map(([id, { text, data }]) => `${id}:${text}(${data})`);
    return [this.#connectionText, ...streams].join("\n");
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.#take([chunk], done);
  }

  override _writev(chunks: { chunk: Buffer }[], done: () => void): void {
    this.#take(
      chunks.map(({ chunk }) => chunk),
      done,
    );
  }

  #take(chunks: readonly Buffer[], done: () => void): void {
    for (const chunk of chunks) this.#sentByServer.read(chunk);
    if (this.isStuck) this.#release = done;
    else done();
  }

  #onClientFrame(type: number, flags: number, streamId: number, bytes: Buffer, start: number, end: number): void {
    this.frames += 1;
    if (type === Type.windowUpdate && end - start === 4) {
      const by = bytes.readUInt32BE(start) & MAX_WINDOW;
      if (streamId === 0) this.#connectionCredit += by;
      else this.#streamCredit.set(streamId, (this.#streamCredit.get(streamId) ?? 0) + by);
    } else if (type === Type.settings && (flags & 1) === 0) {
      for (let at = start; at + 6 <= end; at += 6) {
        if (bytes.readUInt16BE(at) !== INITIAL_WINDOW) continue;
        const value = bytes.readUInt32BE(at + 2);
        // A window that shrinks leaves those who have used more of it where they are.
        this.#initialCredit = this.#hasCalls ? Math.max(this.#initialCredit, value) : value;
      }
    } else if (type === Type.headers || type === Type.continuation) {
      if (type === Type.headers && !this.#opened.has(streamId)) this.#opened.set(streamId, (flags & 1) !== 0);
      this.#isInBlock = (flags & 0x4) === 0;
      this.#hasCalls = true;
    }
  }

  #onServerFrame(type: number, flags: number, streamId: number, bytes: Buffer, start: number, end: number): void {
    check(end - start <= MAX_FRAME, `a frame of ${end - start} bytes`);
    check(this.#hasServerSettings || (type === Type.settings && (flags & 1) === 0), `frame ${type} before SETTINGS`);
    check(this.#blockOf === 0 || (type === Type.continuation && streamId === this.#blockOf), "a broken header block");
    check(this.ending === undefined || this.ending === "NO_ERROR", `frame ${type} behind GOAWAY`);
    if (streamId === 0) this.#onConnectionFrame(type, flags, bytes, start, end);
    else this.#onStreamFrame(type, flags, streamId, bytes, start, end);
  }

  #onConnectionFrame(type: number, flags: number, bytes: Buffer, start: number, end: number): void {
    if (type === Type.settings) {
      this.#hasServerSettings = true;
      this.#connectionText += (flags & 1) === 0 ? "S" : "s";
    } else if (type === Type.ping) {
      if ((flags & 1) !== 0) this.pingsAnswered += 1;
      this.#connectionText += (flags & 1) === 0 ? "P" : "p";
    } else if (type === Type.goaway) {
      const last = bytes.readUInt32BE(start);
      check(last <= this.#lastStream, `GOAWAY with stream ${last} after ${this.#lastStream}`);
      this.#lastStream = last;
      const code = bytes.readUInt32BE(start + 4);
      this.ending = CODES[code];
      check(this.ending !== undefined && this.ending !== "INTERNAL_ERROR", `GOAWAY with code ${code}`);
      this.#connectionText += `G${this.ending} `;
    } else {
      check(type === Type.windowUpdate && end - start === 4, `frame ${type} on stream 0`);
      check(bytes.readUInt32BE(start) > 0, "a window update by nothing");
    }
  }

  #onStreamFrame(type: number, flags: number, streamId: number, bytes: Buffer, start: number, end: number): void {
    let answer = this.#answers.get(streamId);
    if (answer === undefined) {
      answer = { hasHeaders: false, isEnded: false, isReset: false, text: "", data: 0 };
      this.#answers.set(streamId, answer);
    }
    if (type === Type.windowUpdate) {
      check(bytes.readUInt32BE(start) > 0, "a window update by nothing");
      return;
    }
    if (type === Type.rstStream) {
      const code = CODES[bytes.readUInt32BE(start)];
      check(code !== undefined && code !== "INTERNAL_ERROR", `RST_STREAM with code ${code}`);
      const isOver = answer.isEnded && this.#opened.get(streamId) === true;
      check(code !== "NO_ERROR" || !isOver, `RST_STREAM on stream ${streamId}, which both sides have ended`);
      answer.isReset = true;
      answer.text += `R${code} `;
      return;
    }
    check(!answer.isEnded && !answer.isReset, `frame ${type} on stream ${streamId}, which is over`);
    if (type === Type.data) {
      check(answer.hasHeaders, `DATA before HEADERS on stream ${streamId}`);
      this.#onServerData(streamId, answer, end - start);
    } else if (type === Type.continuation) {
      check(this.#blockOf === streamId, "CONTINUATION out of place");
    } else {
      check(type === Type.headers, `frame ${type} on stream ${streamId}`);
      check(!answer.hasHeaders || (flags & 1) !== 0, `a second beginning on stream ${streamId}`);
      // The first block of a connection also sets its table's size.
      answer.text += `H${bytes.toString("hex", bytes[start] === 0x20 ? start + 1 : start, end)} `;
      answer.hasHeaders = true;
    }
    if (type !== Type.data) this.#blockOf = (flags & 0x4) === 0 ? streamId : 0;
    if (type !== Type.continuation && (flags & 1) !== 0) answer.isEnded = true;
  }

  #onServerData(streamId: number, answer: Answer, length: number): void {
    this.#data += length;
    answer.data += length;
    check(this.#data <= this.#connectionCredit, "more DATA than the connection's window");
    const credit = this.#initialCredit + (this.#streamCredit.get(streamId) ?? 0);
    check(answer.data <= credit, `more DATA than the window of stream ${streamId}`);
  }
}

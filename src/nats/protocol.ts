/**
 * Hot path: what NATS sends, read in place. Messages of our own subscriptions go straight to their handlers, as views of
 * what the socket brought; every other command is handed on whole, to the client library, which keeps the connection
 * (authentication, pings, topology) and knows nothing of the messages that it does not see.
 *
 * Only the form in which nats-server writes is understood. Whatever else comes means that our place in the stream of
 * bytes is lost, and with it the connection: it throws a {@link ProtocolError}.
 */
import { Buffer } from "node:buffer";
import { LastText } from "../last-text.ts";
import type { NatsMessage } from "./message.ts";

/** The bytes are none that nats-server sends. */
export class ProtocolError extends Error {
  override readonly name = "ProtocolError";
}

/** Where what was read goes. */
export interface ProtocolRoutes {
  /** Handlers by the number of their subscription; they must not throw. */
  readonly handlers: ReadonlyMap<number, (message: IncomingMessage) => void>;
  /** One whole command that is not for a handler. */
  other(command: Buffer): void;
}

/** A command without its payload; nats-server's INFO with the addresses of a large cluster is the longest. */
const MAX_LINE_BYTES = 1024 * 1024;
/** As nats-server has it for `max_payload`, with room for headers. */
const MAX_MESSAGE_BYTES = 2 * 64 * 1024 * 1024;

/** Reads the commands of one connection. */
export class ProtocolReader {
  readonly #routes: ProtocolRoutes;
  /** The beginning of a command that is not complete. */
  #partial: Buffer = NO_BYTES;
  #filled = 0;
  /** What the command at hand takes in all; 0 while its first line has not ended. */
  #needed = 0;

  constructor(routes: ProtocolRoutes) {
    this.#routes = routes;
  }

  /** Takes what the socket brought. Messages that were handed on are views of it. */
  read(chunk: Buffer): void {
    let at = 0;
    while (this.#filled > 0 && at < chunk.length) at = this.#continue(chunk, at);
    while (at < chunk.length) {
      const end = this.#command(chunk, at, chunk.length);
      if (end < 0) {
        this.#keep(chunk, at);
        return;
      }
      at = end;
    }
  }

  /** Reads one command; returns where it ends, or -1 where it is not complete, with what it takes in `#needed`. */
  #command(bytes: Buffer, start: number, length: number): number {
    this.#needed = 0;
    const first = bytes[start];
    if (first !== LETTER_M && first !== LETTER_H) return this.#other(bytes, start, length);
    const hasHeaders = first === LETTER_H;
    const subject = start + (hasHeaders ? 5 : 4);
    let at = subject;
    while (at < length && bytes[at]! > BLANK) at += 1;
    const subjectEnd = at;
    let sid = 0;
    for (at += 1; at < length && bytes[at]! > BLANK; at++) sid = sid * 10 + digit(bytes[at]!);
    const sidEnd = at;
    while (at < length && bytes[at]! >= BLANK) at += 1;
    if (at + 1 >= length) {
      if (length - start > MAX_LINE_BYTES) throw new ProtocolError("a line of NATS does not end");
      return -1;
    }
    // From the end: its size, with headers their size before it, and before that a reply subject or nothing.
    const lineEnd = at;
    const total = numberBefore(bytes, sidEnd, lineEnd);
    let blank = blankBefore(bytes, lineEnd);
    let headerBytes = 0;
    if (hasHeaders) {
      headerBytes = numberBefore(bytes, sidEnd, blank);
      blank = blankBefore(bytes, blank);
    }
    const isSound =
      (!hasHeaders || bytes[start + 1] === LETTER_M) &&
      bytes[subject - 3] === LETTER_S &&
      bytes[subject - 2] === LETTER_G &&
      bytes[subject - 1] === BLANK &&
      subjectEnd > subject &&
      sid > 0 &&
      bytes[lineEnd] === CR &&
      bytes[lineEnd + 1] === LF &&
      blank >= sidEnd &&
      total >= headerBytes &&
      total <= MAX_MESSAGE_BYTES;
    if (!isSound) throw corrupt(bytes, start, lineEnd);
    const payload = lineEnd + 2;
    const end = payload + total + 2;
    if (end > length) {
      this.#needed = end - start;
      return -1;
    }
    if (bytes[end - 2] !== CR || bytes[end - 1] !== LF) throw corrupt(bytes, start, lineEnd);
    const handler = this.#routes.handlers.get(sid);
    if (handler === undefined) {
      this.#routes.other(bytes.subarray(start, end));
    } else {
      const reply = Math.min(sidEnd + 1, blank);
      handler(new IncomingMessage(bytes, subject, subjectEnd, reply, blank, payload, headerBytes, total));
    }
    return end;
  }

  #other(bytes: Buffer, start: number, length: number): number {
    const end = bytes.indexOf(LF, start) + 1;
    if (end === 0 || end > length) {
      if (length - start > MAX_LINE_BYTES) throw new ProtocolError("a line of NATS does not end");
      return -1;
    }
    this.#routes.other(bytes.subarray(start, end));
    return end;
  }

  #keep(chunk: Buffer, at: number): void {
    this.#filled = chunk.length - at;
    this.#partial = Buffer.allocUnsafe(this.#needed || this.#filled);
    chunk.copy(this.#partial, 0, at);
  }

  /** Takes what belongs to the command that has begun; returns where the next one does. */
  #continue(chunk: Buffer, start: number): number {
    let end = chunk.length;
    if (this.#needed === 0) {
      const lineEnd = chunk.indexOf(LF, start) + 1;
      if (lineEnd > 0) end = lineEnd;
      this.#partial = Buffer.concat([this.#partial.subarray(0, this.#filled), chunk.subarray(start, end)]);
      this.#filled = this.#partial.length;
    } else {
      end = Math.min(end, start + this.#needed - this.#filled);
      chunk.copy(this.#partial, this.#filled, start, end);
      this.#filled += end - start;
      if (this.#filled < this.#needed) return end;
    }
    const whole = this.#partial;
    if (this.#command(whole, 0, this.#filled) >= 0) {
      this.#partial = NO_BYTES;
      this.#filled = 0;
    } else if (this.#needed > 0) {
      this.#partial = Buffer.allocUnsafe(this.#needed);
      whole.copy(this.#partial, 0, 0, this.#filled);
    }
    return end;
  }
}

const subjects = new LastText();

/** A message where the socket brought it: nothing is copied or decoded before somebody asks. */
export class IncomingMessage implements NatsMessage {
  readonly size: number;
  readonly #bytes: Buffer;
  readonly #subject: number;
  readonly #subjectEnd: number;
  readonly #reply: number;
  readonly #replyEnd: number;
  readonly #start: number;
  readonly #headerBytes: number;
  readonly #end: number;
  #replyText: string | undefined;

  /** Where its parts are: subject, reply subject (empty for none), then headers and payload of `total` bytes. */
  constructor(
    bytes: Buffer,
    subject: number,
    subjectEnd: number,
    reply: number,
    replyEnd: number,
    start: number,
    headerBytes: number,
    total: number,
  ) {
    this.#bytes = bytes;
    this.#subject = subject;
    this.#subjectEnd = subjectEnd;
    this.#reply = reply;
    this.#replyEnd = replyEnd;
    this.#start = start;
    this.#headerBytes = headerBytes;
    this.#end = start + total;
    if (reply === replyEnd) this.#replyText = "";
    this.size = subjectEnd - subject + replyEnd - reply + total;
  }

  get subject(): string {
    return subjects.decode(this.#bytes, this.#subject, this.#subjectEnd);
  }

  get reply(): string {
    return (this.#replyText ??= this.#bytes.toString("latin1", this.#reply, this.#replyEnd));
  }

  get headers(): Buffer | undefined {
    return this.#headerBytes === 0 ? undefined : this.#bytes.subarray(this.#start, this.#start + this.#headerBytes);
  }

  readHeaders<Result>(read: (bytes: Buffer, start: number, end: number) => Result): Result | undefined {
    return this.#headerBytes === 0 ? undefined : read(this.#bytes, this.#start, this.#start + this.#headerBytes);
  }

  get payload(): Buffer {
    return this.#bytes.subarray(this.#start + this.#headerBytes, this.#end);
  }

  /** The number that the subject ends in, from its byte `from` on; NaN where that is none. */
  numberInSubject(from: number): number {
    let at = this.#subject + from;
    if (at >= this.#subjectEnd) return NaN;
    let number = 0;
    for (; at < this.#subjectEnd; at++) number = number * 10 + digit(this.#bytes[at]!);
    return number;
  }
}

const NO_BYTES = Buffer.alloc(0);
const BLANK = 32;
const CR = 13;
const LF = 10;
const ZERO = 48;
const LETTER_G = 71;
const LETTER_H = 72;
const LETTER_M = 77;
const LETTER_S = 83;
const MAX_QUOTED_BYTES = 64;

function digit(byte: number): number {
  const value = byte - ZERO;
  return value >= 0 && value <= 9 ? value : NaN;
}

function blankBefore(bytes: Buffer, end: number): number {
  let at = end - 1;
  while (at > 0 && bytes[at] !== BLANK) at -= 1;
  return at;
}

/** The digits right before `end`, back to a blank; NaN where there are none or others. */
function numberBefore(bytes: Buffer, from: number, end: number): number {
  let number = 0;
  let at = end - 1;
  for (let power = 1; at > from && bytes[at] !== BLANK; at--, power *= 10) number += digit(bytes[at]!) * power;
  return at === end - 1 ? NaN : number;
}

function corrupt(bytes: Buffer, start: number, end: number): ProtocolError {
  const line = bytes.toString("latin1", start, Math.min(end, start + MAX_QUOTED_BYTES));
  return new ProtocolError(`NATS sent what is no command: ${JSON.stringify(line)}`);
}

/**
 * Hot path: the commands that publish messages (PUB and HPUB), written one after the other into a buffer until they are
 * taken. Each is put together where it will lie: joined as a text first, its line takes three times as long.
 */
import { Buffer } from "node:buffer";
import { asBuffer } from "../bytes.ts";

const BUFFER_BYTES = 64 * 1024;
/** From this size on a payload is not copied. */
const LARGE_BYTES = 16 * 1024;
/** A call into Node's own code takes as long as it does to write so many characters one by one. */
const SHORT_TEXT = 64;
/** A verb, blanks, line breaks, and three numbers of up to sixteen digits. */
const MAX_FRAME_BYTES = 64;

const PUB = Buffer.from("PUB ");
const HPUB = Buffer.from("HPUB ");
const BLANK = 32;
const ZERO = 48;
const CR = 13;
const LF = 10;

/** Commands that wait to be written to a socket. */
export class CommandWriter {
  #buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
  #start = 0;
  #end = 0;
  #full: Buffer[] = [];
  #count = 0;
  #bytes = 0;

  /** Commands since they were last taken. */
  get count(): number {
    return this.#count;
  }

  /** What they take. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Appends one command. The reply subject is `reply` with `token` at its end, where there is one; empty for none.
   * Subjects are ASCII, the header block is a whole one or empty; only its idempotency key may hold more than ASCII.
   * Large payloads go along as they are, without a copy.
   */
  publish(subject: string, reply: string, token: number | undefined, headers: string, payload: Uint8Array): void {
    const isLarge = payload.length >= LARGE_BYTES;
    const headerLength = headers.length === 0 ? 0 : Buffer.byteLength(headers);
    this.#reserve(MAX_FRAME_BYTES + subject.length + reply.length + headerLength + (isLarge ? 0 : payload.length));
    const buffer = this.#buffer;
    const start = this.#end;
    const verb = headerLength === 0 ? PUB : HPUB;
    buffer.set(verb, start);
    let at = start + verb.length;
    at = writeAscii(buffer, at, subject);
    buffer[at++] = BLANK;
    if (reply !== "") {
      at = writeAscii(buffer, at, reply);
      if (token !== undefined) at = writeDecimal(buffer, at, token);
      buffer[at++] = BLANK;
    }
    if (headerLength > 0) {
      at = writeDecimal(buffer, at, headerLength);
      buffer[at++] = BLANK;
    }
    at = writeDecimal(buffer, at, headerLength + payload.length);
    buffer[at++] = CR;
    buffer[at++] = LF;
    if (headerLength > 0) at += buffer.write(headers, at, headerLength === headers.length ? "latin1" : "utf8");
    if (isLarge) {
      this.#end = at;
      this.#retire();
      this.#full.push(asBuffer(payload));
    } else {
      buffer.set(payload, at);
      at += payload.length;
    }
    buffer[at++] = CR;
    buffer[at++] = LF;
    this.#end = at;
    this.#count += 1;
    this.#bytes += at - start + (isLarge ? payload.length : 0);
  }

  /** All that wait, in pieces; they are the caller's from now on. */
  take(): Buffer[] {
    this.#count = this.#bytes = 0;
    this.#retire();
    const taken = this.#full;
    if (taken.length > 0) this.#full = [];
    return taken;
  }

  /** Forgets what waits. */
  clear(): void {
    this.#count = this.#bytes = 0;
    this.#full = [];
    this.#start = this.#end;
  }

  #reserve(bytes: number): void {
    if (this.#end + bytes <= this.#buffer.length) return;
    this.#retire();
    this.#buffer = Buffer.allocUnsafeSlow(Math.max(BUFFER_BYTES, bytes));
    this.#start = this.#end = 0;
  }

  #retire(): void {
    if (this.#end > this.#start) this.#full.push(this.#buffer.subarray(this.#start, this.#end));
    this.#start = this.#end;
  }
}

/** Returns where it ends. */
function writeAscii(into: Buffer, at: number, text: string): number {
  const { length } = text;
  if (length > SHORT_TEXT) return at + into.write(text, at, "latin1");
  for (let n = 0; n < length; n++) into[at + n] = text.charCodeAt(n);
  return at + length;
}

/** Returns where it ends. */
function writeDecimal(into: Buffer, at: number, value: number): number {
  let end = at + 1;
  for (let rest = value; rest >= 10; rest /= 10) end += 1;
  let rest = value;
  for (let n = end - 1; n >= at; n--) {
    const tens = Math.floor(rest / 10);
    into[n] = ZERO + (rest - 10 * tens);
    rest = tens;
  }
  return end;
}

/**
 * Hot path: what is read of a message from NATS, straight from its bytes. A map of canonical names, as client libraries
 * build it, takes 4 µs for each message; most need a line or two of it.
 */

/** A message as it came from NATS; it stays valid, and so do its views. */
export interface NatsMessage {
  readonly subject: string;
  /** Empty when the message has no reply subject. */
  readonly reply: string;
  /** The header block, `NATS/1.0…\r\n\r\n`; undefined without headers. */
  readonly headers: Buffer | undefined;
  /** What `read` makes of the header block, which is `bytes[start, end)`; undefined without headers. Saves the view. */
  readHeaders<Result>(read: (bytes: Buffer, start: number, end: number) => Result): Result | undefined;
  readonly payload: Buffer;
  /** Bytes as NATS counts a message: subject, reply subject, headers and payload. */
  readonly size: number;
}

/** The status of a message without content (`NATS/1.0 503`), or 0. */
export function statusCode(message: NatsMessage): number {
  const { headers } = message;
  // "NATS/1.0" is 8 bytes; a status follows after one blank, three digits.
  if (headers === undefined || headers.length < 12 || headers[8] !== 0x20) return 0;
  return (headers[9]! - 48) * 100 + (headers[10]! - 48) * 10 + (headers[11]! - 48);
}

/** The text after the status code; for logs alone, as nats-server may word it otherwise tomorrow. */
export function statusText(message: NatsMessage): string {
  const { headers } = message;
  if (headers === undefined) return "";
  const end = headers.indexOf("\r\n");
  return headers.toString("latin1", 12, end < 0 ? headers.length : end).trim();
}

/** The first value of a header, compared without case, outer blanks removed; undefined when it is not there. */
export function headerValue({ headers }: Pick<NatsMessage, "headers">, name: string): string | undefined {
  if (headers === undefined) return undefined;
  const wanted = name.toLowerCase();
  const lines = new HeaderLines(headers);
  while (lines.next()) if (lines.is(wanted)) return lines.value;
  return undefined;
}

/** Walks over the header lines of a block in order, and decodes of them what it is asked for. */
export class HeaderLines {
  readonly #block: Buffer;
  readonly #limit: number;
  readonly #end: number;
  #at: number;
  #start = 0;
  #colon = 0;
  #stop = 0;

  /** Of the block in `[start, end)`. */
  constructor(block: Buffer, start = 0, end: number = block.length) {
    this.#block = block;
    this.#limit = end;
    this.#end = end - 2;
    let at = start;
    while (at < end && block[at] !== CR) at += 1;
    this.#at = at + 2;
  }

  /** Moves to the next line with a name; false at the end. */
  next(): boolean {
    const block = this.#block;
    while (this.#at < this.#end) {
      const start = this.#at;
      let colon = -1;
      let at = start;
      for (; at < this.#limit && block[at] !== CR; at++) if (colon < 0 && block[at] === COLON) colon = at;
      this.#at = at + 2;
      if (colon < 0) continue;
      this.#start = start;
      this.#colon = colon;
      this.#stop = at;
      return true;
    }
    return false;
  }

  /** Whether this is the line of `name`, which is given in lower case. */
  is(name: string): boolean {
    return this.#colon - this.#start === name.length && this.begins(name);
  }

  /** Whether the name of this line begins so; `start` is given in lower case. */
  begins(start: string): boolean {
    if (this.#colon - this.#start < start.length) return false;
    for (let n = 0; n < start.length; n++) {
      const byte = this.#block[this.#start + n]!;
      const lower = byte >= UPPER_A && byte <= UPPER_Z ? byte + TO_LOWER : byte;
      if (lower !== start.charCodeAt(n)) return false;
    }
    return true;
  }

  /** The name as it was written. */
  get name(): string {
    return this.#block.toString("latin1", this.#start, this.#colon);
  }

  /** The value without the ASCII blanks around it. */
  get value(): string {
    return this.read(decodeText);
  }

  /** What `read` makes of the bytes of the value, which are those of `block` in `[start, end)`. */
  read<T>(read: (block: Buffer, start: number, end: number) => T): T {
    const block = this.#block;
    let from = this.#colon + 1;
    let to = this.#stop;
    while (from < to && isBlank(block[from]!)) from += 1;
    while (to > from && isBlank(block[to - 1]!)) to -= 1;
    return read(block, from, to);
  }
}

/** The decimal number in `[start, end)` of a text; NaN where that is none. */
export function digitsBetween(text: string, start: number, end: number): number {
  if (start >= end) return NaN;
  let number = 0;
  for (let at = start; at < end; at++) {
    const digit = text.charCodeAt(at) - ZERO;
    if (digit < 0 || digit > 9) return NaN;
    number = number * 10 + digit;
  }
  return number;
}

function decodeText(block: Buffer, start: number, end: number): string {
  return block.toString("utf8", start, end);
}

function isBlank(byte: number): boolean {
  return byte === 32 || byte === 9;
}

const CR = 13;
const COLON = 58;
const ZERO = 48;
const UPPER_A = 65;
const UPPER_Z = 90;
const TO_LOWER = 32;

/**
 * Frames of HTTP/2 (RFC 9113, section 4): what they are called, and where one ends and the next begins. As many as one
 * read of the socket brought are handed on in place, without a copy; only one that is split between reads is put together.
 */
import { Buffer } from "node:buffer";

export const FrameType = {
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

export const Flag = { ack: 0x1, endStream: 0x1, endHeaders: 0x4, padded: 0x8, priority: 0x20 } as const;

/** Section 7. */
export const ErrorCode = {
  noError: 0,
  protocolError: 1,
  internalError: 2,
  flowControlError: 3,
  settingsTimeout: 4,
  streamClosed: 5,
  frameSizeError: 6,
  refusedStream: 7,
  cancel: 8,
  compressionError: 9,
  connectError: 10,
  enhanceYourCalm: 11,
  inadequateSecurity: 12,
  http11Required: 13,
} as const;
export type ErrorCode = (typeof ErrorCode)[keyof typeof ErrorCode];

/** Section 6.5.2. */
export const Setting = {
  headerTableSize: 1,
  enablePush: 2,
  maxConcurrentStreams: 3,
  initialWindowSize: 4,
  maxFrameSize: 5,
  maxHeaderListSize: 6,
} as const;

export const FRAME_HEADER_BYTES = 9;
const TYPE_AT = 3;
/** What both sides take unless they say otherwise; we never do. */
export const MAX_FRAME_BYTES = 16_384;
export const MAX_FRAME_SIZE_LIMIT = 16_777_215;
export const DEFAULT_WINDOW = 65_535;
export const MAX_WINDOW = 2_147_483_647;
export const PREFACE: Buffer = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

/** Receives frames. Payloads are views: valid as long as anybody keeps them. */
export interface FrameHandler {
  /** False: nothing further is to be read. */
  onFrame(type: number, flags: number, streamId: number, bytes: Buffer, start: number, end: number): boolean;
  /** A frame is longer than we take. */
  onOversized(type: number, streamId: number, length: number): void;
}

/** Cuts a stream of bytes into frames. */
export class FrameReader {
  readonly #handler: FrameHandler;
  /** The beginning of a frame that is not complete yet. */
  #partial: Buffer | undefined;
  #filled = 0;
  /** Frames so far that did not come in one piece. */
  #split = 0;
  /** Not of the pool: a part of it would keep all of it, as long as the connection lasts. */
  #header = Buffer.allocUnsafeSlow(FRAME_HEADER_BYTES);
  #stopped = false;

  constructor(handler: FrameHandler) {
    this.#handler = handler;
  }

  /** Takes what the socket brought, from `start` on. */
  read(chunk: Buffer, start = 0): void {
    let at = start;
    while (at < chunk.length && !this.#stopped) {
      if (this.#filled > 0) {
        at = this.#complete(chunk, at);
        continue;
      }
      const left = chunk.length - at;
      if (left < FRAME_HEADER_BYTES) {
        chunk.copy(this.#header, 0, at);
        this.#filled = left;
        this.#split += 1;
        return;
      }
      const length = readLength(chunk, at);
      if (length > MAX_FRAME_BYTES) {
        this.#oversized(chunk, at, length);
        return;
      }
      const end = at + FRAME_HEADER_BYTES + length;
      if (end > chunk.length) {
        this.#begin(chunk, at, FRAME_HEADER_BYTES + length);
        return;
      }
      this.#handle(chunk, at, end);
      at = end;
    }
  }

  /** Which frame has begun and not ended, by a number that no other one has: 0 for none, and for DATA, which may be slow. */
  get unfinished(): number {
    if (this.#filled === 0) return 0;
    const isData = this.#filled > TYPE_AT && (this.#partial ?? this.#header)[TYPE_AT] === FrameType.data;
    return isData ? 0 : this.#split;
  }

  /** Ignores everything from here on. */
  stop(): void {
    this.#stopped = true;
    this.#partial = undefined;
  }

  #complete(chunk: Buffer, from: number): number {
    let at = from;
    if (this.#partial === undefined) {
      const copied = chunk.copy(this.#header, this.#filled, at, at + FRAME_HEADER_BYTES - this.#filled);
      this.#filled += copied;
      at += copied;
      if (this.#filled < FRAME_HEADER_BYTES) return at;
      const length = readLength(this.#header, 0);
      if (length > MAX_FRAME_BYTES) {
        this.#oversized(this.#header, 0, length);
        return chunk.length;
      }
      this.#partial = Buffer.allocUnsafe(FRAME_HEADER_BYTES + length);
      this.#header.copy(this.#partial);
    }
    const partial = this.#partial;
    const copied = chunk.copy(partial, this.#filled, at);
    this.#filled += copied;
    if (this.#filled === partial.length) {
      this.#partial = undefined;
      this.#filled = 0;
      this.#handle(partial, 0, partial.length);
    }
    return at + copied;
  }

  #begin(chunk: Buffer, at: number, size: number): void {
    this.#partial = Buffer.allocUnsafe(size);
    this.#filled = chunk.copy(this.#partial, 0, at);
    this.#split += 1;
  }

  #handle(bytes: Buffer, at: number, end: number): void {
    const streamId = bytes.readUInt32BE(at + 5) & MAX_WINDOW;
    if (!this.#handler.onFrame(bytes[at + TYPE_AT]!, bytes[at + 4]!, streamId, bytes, at + FRAME_HEADER_BYTES, end)) {
      this.stop();
    }
  }

  #oversized(bytes: Buffer, at: number, length: number): void {
    this.stop();
    this.#handler.onOversized(bytes[at + TYPE_AT]!, bytes.readUInt32BE(at + 5) & MAX_WINDOW, length);
  }
}

function readLength(bytes: Buffer, at: number): number {
  return (bytes[at]! << 16) | (bytes[at + 1]! << 8) | bytes[at + 2]!;
}

/** Writes the nine bytes before a payload. */
export function writeFrameHeader(
  into: Buffer,
  at: number,
  length: number,
  type: number,
  flags: number,
  streamId: number,
): void {
  into[at] = length >>> 16;
  into[at + 1] = (length >>> 8) & 0xff;
  into[at + 2] = length & 0xff;
  into[at + TYPE_AT] = type;
  into[at + 4] = flags;
  into[at + 5] = streamId >>> 24;
  into[at + 6] = (streamId >>> 16) & 0xff;
  into[at + 7] = (streamId >>> 8) & 0xff;
  into[at + 8] = streamId & 0xff;
}

/**
 * gRPC on a stream of HTTP/2 ("gRPC over HTTP2", the gRPC specification): messages with a prefix of their length, a
 * deadline, compression of requests, and a status in trailers. Unary and server-streaming handlers get their one request
 * when the client has half-closed; others get each message as it comes.
 *
 * Hot path: a message that lies in one DATA frame is handed on as a view of what the socket brought.
 */
import { Buffer } from "node:buffer";
import type { X509Certificate } from "node:crypto";
import { type ZlibOptions, gunzipSync, inflateSync } from "node:zlib";
import {
  type CallStatus,
  type CancelCause,
  type EngineCall,
  type EngineHandler,
  type EngineOptions,
  REFUSAL_CODES,
  type Refusal,
  type RefusalKind,
  type RequestMetadata,
  type ResponseMetadata,
  causeOfLeaving,
} from "../engine.ts";
import type { Holder, UnreadBudget } from "../unread-budget.ts";
import type { Connection } from "./connection.ts";
import { DEFAULT_WINDOW, ErrorCode } from "./frames.ts";
import type { HeaderList } from "./header-list.ts";
import { type HeaderField, encodeField } from "./hpack.ts";
import { Framing, PREFIX_BYTES } from "./output.ts";
import type { RequestHolder, RequestShare } from "./request-budget.ts";
import { ACCEPT_ENCODING, RESPONSE_HEADERS, encodeHttpHeaders, encodeTrailers } from "./status.ts";
import { Stream } from "./stream.ts";
import { parseTimeout } from "./timeout.ts";

/** What all calls of an engine share. */
export interface CallServices {
  readonly handlers: ReadonlyMap<string, EngineHandler>;
  readonly maxReceiveMessageBytes: number;
  readonly maxMetadataBytes: number;
  /** How long a client may take to send the one request of a call, or a message of a stream once it has begun. */
  readonly requestLimitMs: number;
  readonly unread: UnreadBudget;
  readonly onError: (error: unknown) => void;
  readonly onRefused: EngineOptions["onRefused"];
  readonly onUnread: EngineOptions["onUnread"];
}

const INTERNAL = 13;
/** Beyond so many bytes that wait to be sent, `send` says no. */
const HIGH_WATER_BYTES = 256 * 1024;
const MIN_PART_BYTES = 256;
/** Node's timers do not go further. */
const MAX_TIMER_MS = 2 ** 31 - 1;
/** What a message that waits costs beside its bytes. */
const MESSAGE_BYTES = 256;
/** What an open call costs beside its metadata. */
const CALL_BYTES = 1024;
/** To unpack so much takes as long as a few frames that lead to nothing. */
const UNPACKED_BYTES_PER_COST = 4 * 1024;
/** What gzip and deflate make of a byte at the most. */
const MAX_RATIO = 1032;
/** Each character takes up to nine bytes of an answer: percent-encoded in its message, and once more in its details. */
const MAX_QUOTED = 64;
type Unpack = (bytes: Uint8Array, options: ZlibOptions) => Buffer;
/** By `grpc-encoding`. */
const UNPACK: ReadonlyMap<string, Unpack> = new Map<string, Unpack>([
  ["gzip", gunzipSync],
  ["deflate", inflateSync],
]);
const CONTENT_TYPE = /^application\/grpc(?:[+;]|$)/;
const NOTHING = Buffer.alloc(0);
const HTTP_TEXT = Buffer.from("This server speaks gRPC: POST with content-type application/grpc.\n");

/** A call that a client makes. */
export class Call extends Stream implements EngineCall, RequestMetadata, Holder, RequestHolder {
  path = "";
  deadlineMs: number | undefined;
  cancelled = false;
  onCancel: ((cause: CancelCause) => void) | undefined;
  onDrain: (() => void) | undefined;
  onMessage: ((message: Uint8Array) => void) | undefined;
  onHalfClose: (() => void) | undefined;
  unreadBytes = 0;
  /** Bytes of metadata and of requests that count against the budget, and those of them that are not complete. */
  heldBytes = 0;
  unfinishedBytes = 0;
  readonly #services: CallServices;
  readonly #share: RequestShare;
  #fields: readonly HeaderField[] = [];
  #handler: EngineHandler | undefined;
  #headers: Uint8Array = RESPONSE_HEADERS;
  #timer: NodeJS.Timeout | undefined;
  #unpackWith: Unpack | undefined;
  #isUnread = false;
  /** The request is no gRPC. */
  #isHttp = false;
  #isHandled = false;
  /** The handler has ended it, or nobody waits for it any more. */
  #isEnded = false;
  /** The request of a unary call. */
  #request: Buffer | undefined;
  /** The request did not come in one piece. */
  #isSlow = false;
  #isPaused = false;
  #isResuming = false;
  /** The client has ended its side; of a call with messages both ways: and its handler has not heard of it yet. */
  #isHalfClosed = false;
  /** Messages that came while reading was paused. */
  #waiting: Buffer[] = [];
  /** The beginning of a message that is not complete. */
  #part: Buffer | undefined;
  #partBytes = 0;
  /** When it began, on the monotonic clock, and what looks whether it takes too long. */
  #partBegan = 0;
  #partTimer: NodeJS.Timeout | undefined;
  #isOverHighWater = false;
  /** Once it is over: what it costs beside the bytes that wait for the client. */
  #restBytes = 0;

  constructor(connection: Connection, id: number, sendWindow: number, services: CallServices, share: RequestShare) {
    super(connection, id, sendWindow);
    this.#services = services;
    this.#share = share;
  }

  get metadata(): RequestMetadata {
    return this;
  }

  get peer(): string {
    return this.connection.peer;
  }

  get peerCertificate(): X509Certificate | undefined {
    return this.connection.certificate;
  }

  get(name: string): string | undefined {
    // Several fields of a name are as good as one that lists their values.
    if (name.endsWith("-bin")) return this.#first(name)?.split(",", 1)[0];
    let joined: string | undefined;
    for (const field of this.#fields) {
      if (field.name === name) joined = joined === undefined ? field.value : `${joined}, ${field.value}`;
    }
    return joined;
  }

  #first(name: string): string | undefined {
    for (const field of this.#fields) if (field.name === name) return field.value;
    return undefined;
  }

  // What the handler does.

  sendMetadata(metadata: ResponseMetadata): void {
    if (this.#isEnded || this.hasBegun) return;
    this.#headers = Buffer.concat([this.#headers, ...metadata.map(([name, value]) => encodeField(name, value))]);
    this.begin();
  }

  send(message: Uint8Array): boolean {
    if (this.#isEnded) return true;
    const before = this.backlog;
    this.write(Framing.plain, message);
    const more = this.backlog - before;
    if (more > 0) this.#services.unread.hold(this, more);
    if (this.#isEnded || this.backlog <= HIGH_WATER_BYTES) return true;
    this.#isOverHighWater = true;
    return false;
  }

  end(status: CallStatus): void {
    if (this.#isEnded) return;
    this.#over();
    this.#finish(status);
  }

  pause(): void {
    this.#isPaused = this.#handler?.kind === "bidi";
  }

  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    // From within a message that has waited: the loop that handed it on hands on the next one.
    if (this.#isResuming) return;
    this.#isResuming = true;
    while (!this.#isPaused && this.#waiting.length > 0) {
      const message = this.#waiting.shift()!;
      this.#count(-(message.length + MESSAGE_BYTES), 0);
      this.#guard(() => this.onMessage?.(message));
    }
    this.#isResuming = false;
    if (this.#isPaused || this.#isEnded) return;
    this.#partBegan = performance.now();
    this.#growWindow(this.#missing);
    if (this.#isHalfClosed) this.#halfClose();
  }

  // What the connection tells.

  protected override responseHeaders(): Uint8Array {
    return this.#headers;
  }

  override onRequest(headers: HeaderList): void {
    this.#fields = headers.fields;
    this.path = headers.path ?? "";
    if (headers.problem === "too_large") {
      const text = `request metadata has ${headers.bytes} bytes, at most ${this.#services.maxMetadataBytes} are accepted`;
      this.#refuse("metadata_too_large", text);
    } else if (headers.method !== "POST" || !isGrpc(this.#first("content-type"))) {
      this.#onHttp(headers);
    } else {
      this.#handler = this.#services.handlers.get(this.path);
      if (this.#handler === undefined) this.#refuse("unknown_method", `the server has no method ${quote(this.path)}`);
      else if (this.#hold(CALL_BYTES + headers.bytes, this.#handler.kind !== "bidi")) {
        if (this.#readDeadline() && this.#readEncoding()) this.#begin(this.#handler);
      }
    }
  }

  /** Answered at its end: clients such as curl take an error before it for a reason to send no more of it. */
  #onHttp({ method, bytes }: HeaderList): void {
    this.#isHttp = true;
    this.#headers = encodeHttpHeaders(method === "POST" ? 415 : 405);
    if (method === "HEAD") {
      // It has no content, and neither has its answer.
      this.#over();
      this.respond(this.#headers);
    } else if (method === "CONNECT") {
      // It waits for the answer before it sends anything.
      this.#respondHttp();
    } else if (this.#hold(CALL_BYTES + bytes)) this.connection.tellReadOver(this);
  }

  override onData(bytes: Buffer, start: number, end: number): void {
    if (this.#isHttp) {
      // Read up to a point, as whoever sends expects, and thrown away.
      if (this.receiveWindow < DEFAULT_WINDOW / 2) this.#respondHttp();
      return;
    }
    let at = start;
    if (this.#part !== undefined) at = this.#continuePart(bytes, at, end);
    while (at < end && !this.#isEnded) {
      const left = end - at;
      const size = left < PREFIX_BYTES ? Infinity : this.#sizeAt(bytes, at);
      if (size > left) {
        this.#beginPart(bytes, at, end, size);
        break;
      }
      this.#received(bytes, at, at + size);
      at += size;
    }
    if (!this.#isEnded && !this.#isPaused) this.#growWindow(0);
  }

  override onRemoteEnd(): void {
    if (this.#isEnded) return;
    this.#isHalfClosed = true;
    if (this.#isHttp) this.#respondHttp();
    else if (this.#part !== undefined) this.#refuse("malformed", "the request ends within a message");
    else if (!this.#isPaused) this.#halfClose();
  }

  override onSent(): void {
    const { backlog } = this;
    const kept = this.localEnded ? 0 : backlog + this.#restBytes;
    if (this.unreadBytes > kept) this.#services.unread.taken(this, this.unreadBytes - kept);
    if (!this.#isOverHighWater || backlog > HIGH_WATER_BYTES / 2) return;
    this.#isOverHighWater = false;
    this.#guard(() => this.onDrain?.());
  }

  override onKilled(): void {
    const { unreadBytes } = this;
    this.#services.unread.forget(this);
    if (this.#isEnded) return;
    if (this.connection.isGivenUp && !this.#isUnread) {
      this.#isUnread = true;
      this.#tellUnread(unreadBytes);
    }
    this.#cancel(this.#isUnread ? "unread" : causeOfLeaving(this.deadlineMs));
  }

  // What the budget of unread bytes asks.

  get isConnectionStuck(): boolean {
    return this.connection.isStuck;
  }

  /** Later: whoever sends right now is in the midst of something. */
  abort(bytes: number): void {
    this.#tellUnread(bytes);
    this.#isUnread = true;
    this.drop();
    setImmediate(() => {
      if (this.connection.isStuck) this.connection.giveUp();
      else this.connection.reset(this, ErrorCode.enhanceYourCalm);
    });
  }

  /** The handler of another call may be what is sending: what the hook throws is none of its business. */
  #tellUnread(bytes: number): void {
    try {
      this.#services.onUnread?.(this, bytes);
    } catch (error) {
      this.#services.onError(error);
    }
  }

  // What the budget of requests asks.

  makeRoom(): void {
    if (this.#isHttp) this.#respondHttp();
    else
      this.#refuse(
        "overloaded",
        `the server holds too many ${this.unfinishedBytes > 0 ? "unfinished requests" : "calls"}`,
      );
  }

  // The request.

  #begin(handler: EngineHandler): void {
    if (handler.kind === "bidi") {
      this.#startTimer(this.deadlineMs);
      this.#isHandled = true;
      this.#guard(() => handler.handle(this));
    } else this.connection.tellReadOver(this);
  }

  /** Bytes of the message that begins at `at`, with its prefix; Infinity for one that ends the call. */
  #sizeAt(bytes: Buffer, at: number): number {
    const length = bytes.readUInt32BE(at + 1);
    const max = this.#services.maxReceiveMessageBytes;
    if (length > max) {
      this.#refuse("message_too_large", `the message has ${length} bytes, at most ${max} are accepted`);
      return Infinity;
    }
    return PREFIX_BYTES + length;
  }

  #beginPart(bytes: Buffer, start: number, end: number, size: number): void {
    if (this.#isEnded) return;
    const have = end - start;
    this.#part = NOTHING;
    this.#partBytes = 0;
    this.#appendPart(bytes, start, end, size);
    if (this.#handler!.kind === "bidi") this.#watchPart();
    if (size !== Infinity && !this.#isPaused) this.#growWindow(size - have);
  }

  /** Takes what belongs to the message that has begun; returns where the next one does. */
  #continuePart(bytes: Buffer, start: number, end: number): number {
    let at = start;
    if (this.#partBytes < PREFIX_BYTES) {
      at = Math.min(end, start + PREFIX_BYTES - this.#partBytes);
      this.#appendPart(bytes, start, at, Infinity);
      if (this.#isEnded || this.#partBytes < PREFIX_BYTES) return at;
    }
    const size = this.#sizeAt(this.#part!, 0);
    if (size === Infinity) return end;
    const stop = Math.min(end, at + size - this.#partBytes);
    this.#appendPart(bytes, at, stop, size);
    if (this.#isEnded) return end;
    if (this.#partBytes < size) {
      if (!this.#isPaused) this.#growWindow(size - this.#partBytes);
      return stop;
    }
    const whole = this.#part!;
    this.#part = undefined;
    this.#count(-whole.length, -whole.length);
    this.#received(whole, 0, size);
    return stop;
  }

  /** Bytes to come of the message that has begun, as far as it has said. */
  get #missing(): number {
    if (this.#part === undefined || this.#partBytes < PREFIX_BYTES) return 0;
    return PREFIX_BYTES + this.#part.readUInt32BE(1) - this.#partBytes;
  }

  /** Room grows with what has come, not with what a prefix promises. */
  #appendPart(bytes: Buffer, start: number, end: number, size: number): void {
    const needed = this.#partBytes + end - start;
    if (needed > this.#part!.length) {
      const capacity = Math.min(size, Math.max(MIN_PART_BYTES, 2 * needed));
      if (!this.#hold(capacity - this.#part!.length)) return;
      // Not of the pool: a part of it would keep all of it.
      const larger = Buffer.allocUnsafeSlow(capacity);
      this.#part!.copy(larger, 0, 0, this.#partBytes);
      this.#part = larger;
    }
    bytes.copy(this.#part!, this.#partBytes, start, end);
    this.#partBytes = needed;
  }

  /** A message that has begun comes to its end in time. One timer for many, as most are there soon. */
  #watchPart(): void {
    this.#partBegan = this.connection.lastHeard;
    if (this.#partTimer === undefined && !this.#isEnded) this.#lookAtPartIn(this.#services.requestLimitMs);
  }

  #lookAtPartIn(ms: number): void {
    this.#partTimer = setTimeout(() => {
      this.#partTimer = undefined;
      if (this.#part === undefined) return;
      const limit = this.#services.requestLimitMs;
      // Paused, it is not the client who takes long.
      const left = this.#isPaused ? limit : this.#partBegan + limit - performance.now();
      if (left > 0) this.#lookAtPartIn(Math.ceil(left));
      else this.#refuse("too_slow", "a message took too long to arrive");
    }, ms);
  }

  /** A whole message with its prefix. */
  #received(bytes: Buffer, start: number, end: number): void {
    const flag = bytes[start]!;
    const message = flag === 0 ? keepable(bytes, start + PREFIX_BYTES, end) : this.#unpack(flag, bytes, start, end);
    if (message === undefined) return;
    if (this.#handler!.kind !== "bidi") {
      if (this.#request !== undefined) this.#refuse("wrong_count", "the method takes one message, not several");
      else if (this.#keep(message)) this.#awaitHalfClose(message);
    } else if (this.#isPaused) {
      if (this.#keep(message)) this.#waiting.push(ownBytes(message));
    } else if (!this.#isEnded) {
      try {
        this.onMessage?.(message);
      } catch (error) {
        this.#threw(error);
      }
    }
  }

  /** Whether there is room for a message that waits for its handler. */
  #keep(message: Buffer): boolean {
    return this.#hold(message.length + MESSAGE_BYTES, !this.#isHandled);
  }

  #awaitHalfClose(message: Buffer): void {
    this.#request = message;
    if (this.#isSlow) this.connection.tellReadOver(this);
  }

  /** Mostly a whole request comes with one read: only what waits longer is worth a timer, and a copy. */
  override onReadOver(): void {
    if (this.#isEnded || this.#isHalfClosed) return;
    if (this.#request !== undefined) this.#request = ownBytes(this.#request);
    if (this.#isSlow) return;
    this.#isSlow = true;
    const limit = Date.now() + this.#services.requestLimitMs;
    this.#startTimer(Math.min(limit, this.deadlineMs ?? Infinity));
  }

  /** False where there was no room: the call is over. */
  #hold(bytes: number, isUnfinished = true): boolean {
    this.#count(bytes, isUnfinished ? bytes : 0);
    return !this.#isEnded;
  }

  #count(bytes: number, unfinished: number): void {
    this.heldBytes += bytes;
    this.unfinishedBytes += unfinished;
    this.#share.count(this, bytes, unfinished);
  }

  #unpack(flag: number, bytes: Buffer, start: number, end: number): Buffer | undefined {
    const message = bytes.subarray(start + PREFIX_BYTES, end);
    if (flag !== 1 || this.#unpackWith === undefined) {
      this.#refuse("malformed", `a message is marked as compressed (${flag}), and grpc-encoding names nothing`);
      return undefined;
    }
    const maxOutputLength = this.#services.maxReceiveMessageBytes;
    try {
      const unpacked = this.#unpackWith(message, { maxOutputLength });
      if (!this.#mayUnpack(unpacked.length)) return undefined;
      return keepable(unpacked, 0, unpacked.length, unpacked.buffer.byteLength);
    } catch (error) {
      // How far it got is not told.
      if (!this.#mayUnpack(Math.min(maxOutputLength, MAX_RATIO * message.length))) return undefined;
      const isTooLarge = (error as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE";
      if (isTooLarge) this.#refuse("message_too_large", `the message has more than ${maxOutputLength} bytes`);
      else this.#refuse("malformed", "a message is not compressed as grpc-encoding says");
      return undefined;
    }
  }

  /** A few bytes make many, for which everybody waits; who sends more of such than is served loses the connection. */
  #mayUnpack(bytes: number): boolean {
    return this.connection.charge(Math.ceil(bytes / UNPACKED_BYTES_PER_COST));
  }

  #halfClose(): void {
    const handler = this.#handler!;
    if (handler.kind === "bidi") {
      this.#isHalfClosed = false;
      this.#guard(() => this.onHalfClose?.());
      return;
    }
    const request = this.#request;
    if (request === undefined) {
      this.#refuse("wrong_count", "the method takes one message, and none came");
      return;
    }
    this.#request = undefined;
    this.#count(-(request.length + MESSAGE_BYTES), -this.unfinishedBytes);
    if (this.#isSlow) clearTimeout(this.#timer);
    if (handler.kind === "server_streaming") this.#startTimer(this.deadlineMs);
    this.#isHandled = true;
    try {
      handler.handle(this, request);
    } catch (error) {
      this.#threw(error);
    }
  }

  /** Lets the client send as much as any call may, or what is left of a message that it has begun. */
  #growWindow(rest: number): void {
    if (this.remoteEnded) return;
    const { receiveWindow } = this;
    if (rest > receiveWindow) this.connection.grow(this, rest - receiveWindow);
    else if (receiveWindow < DEFAULT_WINDOW / 2) this.connection.grow(this, DEFAULT_WINDOW - receiveWindow);
  }

  // Its life.

  #readDeadline(): boolean {
    const timeout = this.#first("grpc-timeout");
    if (timeout === undefined) return true;
    const ms = parseTimeout(timeout);
    if (ms === undefined) {
      this.#refuse("malformed", `grpc-timeout: ${quote(timeout)} is no timeout`);
      return false;
    }
    this.deadlineMs = Date.now() + ms;
    return true;
  }

  #readEncoding(): boolean {
    const encoding = this.#first("grpc-encoding") ?? "identity";
    if (encoding === "identity") return true;
    this.#unpackWith = UNPACK.get(encoding);
    if (this.#unpackWith !== undefined) return true;
    this.#headers = Buffer.concat([RESPONSE_HEADERS, ACCEPT_ENCODING]);
    this.#refuse("unsupported_encoding", `grpc-encoding: ${quote(encoding)} is not supported`);
    return false;
  }

  #startTimer(endMs: number | undefined): void {
    if (endMs === undefined) return;
    const left = Math.max(0, endMs - Date.now());
    this.#timer = setTimeout(
      () => {
        if (Date.now() < endMs) this.#startTimer(endMs);
        else this.#tooLate();
      },
      Math.min(left, MAX_TIMER_MS),
    );
  }

  #tooLate(): void {
    if (this.#isHttp) {
      this.#respondHttp();
      return;
    }
    const isDeadline = this.deadlineMs !== undefined && Date.now() >= this.deadlineMs;
    if (isDeadline) this.#refuse("deadline", "the deadline passed");
    else this.#refuse("too_slow", "the request took too long to arrive");
  }

  /** Ends the call before, or instead of, its handler. */
  #refuse(kind: RefusalKind, message: string): void {
    if (this.#isEnded) return;
    this.#over();
    const { path, peer, openedAt } = this;
    const isHandled = this.#isHandled;
    const refusal: Refusal = { kind, code: REFUSAL_CODES[kind], message, path, peer, openedAt, isHandled };
    const status = this.#statusOf(refusal);
    this.#tellCancelled(kind === "deadline" ? "deadline" : refusal);
    this.#finish(status);
  }

  #statusOf(refusal: Refusal): CallStatus {
    const { code, message } = refusal;
    try {
      return this.#services.onRefused?.(refusal) ?? { code, message };
    } catch (error) {
      this.#services.onError(error);
      return { code, message };
    }
  }

  /** What is no gRPC gets an answer that its sender understands. */
  #respondHttp(): void {
    if (this.#isEnded) return;
    this.#over();
    this.write(Framing.none, HTTP_TEXT);
    this.finish(NOTHING);
    if (!this.localEnded) this.#waitForClient(NOTHING);
  }

  #finish(status: CallStatus): void {
    const trailers = encodeTrailers(status);
    if (this.hasBegun) this.finish(trailers);
    else this.respond(Buffer.concat([this.#headers, trailers]));
    if (!this.localEnded) this.#waitForClient(trailers);
  }

  /** It is over but for what the client has not room for, and may never have: it keeps no more than that, and it counts. */
  #waitForClient(trailers: Uint8Array): void {
    this.#fields = [];
    this.#headers = NOTHING;
    this.onCancel = this.onDrain = this.onMessage = this.onHalfClose = undefined;
    // It was aborted, and ends in a moment.
    if (this.backlog === 0) return;
    this.#restBytes = CALL_BYTES + this.path.length + trailers.length;
    this.#services.unread.hold(this, this.backlog + this.#restBytes - this.unreadBytes);
  }

  #cancel(cause: CancelCause): void {
    if (this.#isEnded) return;
    this.#over();
    this.#tellCancelled(cause);
  }

  #tellCancelled(cause: CancelCause): void {
    this.cancelled = true;
    try {
      this.onCancel?.(cause);
    } catch (error) {
      this.#services.onError(error);
    }
  }

  #over(): void {
    this.#isEnded = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#partTimer);
    this.#count(-this.heldBytes, -this.unfinishedBytes);
    this.#part = undefined;
    this.#waiting = [];
    this.#request = undefined;
  }

  /** A handler that throws shows nothing of why to the client. */
  #guard(run: () => void): void {
    if (this.#isEnded) return;
    try {
      run();
    } catch (error) {
      this.#threw(error);
    }
  }

  #threw(error: unknown): void {
    this.#services.onError(error);
    this.end({ code: INTERNAL, message: "the server failed" });
  }
}

/**
 * The message in `[start, end)`: a view, or a copy where it is small beside the `kept` bytes that a view of it would keep, as
 * a handler may keep its request as long as the call lasts.
 */
function keepable(bytes: Buffer, start: number, end: number, kept: number = bytes.length): Buffer {
  const length = end - start;
  if (length * MAX_SHARE >= kept) return bytes.subarray(start, end);
  if (length * MAX_SHARE > SLAB_BYTES) return ownBytes(bytes.subarray(start, end));
  if (slabUsed + length > slab.length) {
    slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
    slabUsed = 0;
  }
  const at = slabUsed;
  slabUsed += length;
  // Such as an acknowledgement: one by one they take half the time of a call.
  if (length <= SHORT_BYTES) for (let n = 0; n < length; n++) slab[at + n] = bytes[start + n]!;
  else bytes.copy(slab, at, start, end);
  return slab.subarray(at, slabUsed);
}

const SHORT_BYTES = 32;
const MAX_SHARE = 4;
const SLAB_BYTES = 8 * 1024;
/** Small requests one after the other: one that is kept for long keeps no more than this. */
let slab = NOTHING;
let slabUsed = 0;

/** A view keeps all that its socket read brought along, which may be a lot more than is counted; so would a pooled copy. */
function ownBytes(message: Buffer): Buffer {
  if (message.length >= message.buffer.byteLength / 2) return message;
  const copy = Buffer.allocUnsafeSlow(message.length);
  copy.set(message);
  return copy;
}

function isGrpc(contentType: string | undefined): boolean {
  return contentType === "application/grpc" || (contentType !== undefined && CONTENT_TYPE.test(contentType));
}

/** A text of the client in one of ours: of such a length that it makes no large answer out of a small request. */
function quote(text: string): string {
  return JSON.stringify(text.length > MAX_QUOTED ? `${text.slice(0, MAX_QUOTED)}…` : text);
}

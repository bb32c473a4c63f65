/**
 * One connection of HTTP/2 on the side that serves (RFC 9113): what a client may send when, flow control both ways, and
 * how it ends. It knows nothing of gRPC: the layer above makes its own {@link Stream}s.
 *
 * An offence against a stream resets the stream, one against the connection ends it with GOAWAY and the code that the
 * RFC names. Whatever costs us more than it costs the client is bounded: header blocks in bytes and frames, streams in
 * number, and by its {@link Patience} everything that no well-behaved client sends often.
 */
import { Buffer } from "node:buffer";
import type { X509Certificate } from "node:crypto";
import type { Socket } from "node:net";
import { performance } from "node:perf_hooks";
import { EndedStreams } from "./ended-streams.ts";
import {
  DEFAULT_WINDOW,
  ErrorCode,
  Flag,
  type FrameHandler,
  FrameReader,
  FrameType,
  MAX_FRAME_SIZE_LIMIT,
  MAX_FRAME_BYTES,
  MAX_WINDOW,
  PREFACE,
  Setting,
} from "./frames.ts";
import { HeaderList } from "./header-list.ts";
import { HpackDecoder, HpackError, NO_TABLE } from "./hpack.ts";
import { type Framing, Output, prefixBytes } from "./output.ts";
import { SequenceMap } from "../../../sequence-map.ts";
import type { Holder, UnreadBudget } from "../unread-budget.ts";
import { MAX_PATIENCE, Patience } from "./patience.ts";
import type { Stream } from "./stream.ts";

/** What a connection asks of the layer above, and its limits. */
export interface ConnectionOptions {
  readonly maxConcurrentStreams: number;
  /** Largest header list, as the RFC counts it. */
  readonly maxHeaderBytes: number;
  /** What the socket has not taken counts there, beside what the streams keep. */
  readonly unread: UnreadBudget;
  newStream(connection: Connection, id: number, sendWindow: number): Stream;
  /** Nothing can be received or sent any more. */
  onClosed(connection: Connection): void;
}

/** DATA of all streams together that may be on its way to us. */
const RECEIVE_WINDOW = 4 * 1024 * 1024;
const LINGER_MS = 1_000;
/** A client that was asked to leave and does not answer opens no more streams after so long. */
const LAST_CALL_MS = 5_000;
const MAX_CONTINUATIONS = 32;
/** From the first frame of a header block to its last, and from the first byte of a frame to its last, except of DATA. */
const BLOCK_LIMIT_MS = 10_000;
/** Gaps in the numbers of streams that are remembered, to tell what was never opened from what is closed. */
const MAX_GAPS = 128;
/** A call that is reset sooner is one that attackers open and reset; later ones are as many as may be open at a time. */
const RAPID_MS = 100;
/** DATA from this size on is worth the window update that it takes. */
const WORTH_BYTES = 1024;
/** What the socket may hold back of all but DATA, before a client that does not read is given up. */
const MAX_BACKLOG_BYTES = 4 * 1024 * 1024;
const HTTP1 = /^[A-Z]+ [^ \r\n]* HTTP\/1\.[01]\r?\n/;
const MAX_HTTP1_BYTES = 4096;
const HTTP1_ANSWER = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: text/plain\r\n\r\n";
const HTTP1_TEXT = "This port speaks gRPC, over HTTP/2 alone.\n";
const NO_BYTES = Buffer.alloc(0);

/** A connection from its first byte on. */
export class Connection implements FrameHandler, Holder {
  readonly socket: Socket;
  /** The client as `address:port`, which the socket no longer knows once it is closed. */
  readonly peer: string;
  /** The client's, where it showed one. */
  readonly certificate: X509Certificate | undefined;
  readonly #options: ConnectionOptions;
  readonly #output: Output;
  readonly #reader: FrameReader;
  readonly #decoder = new HpackDecoder();
  readonly #headers: HeaderList;
  readonly #streams = new SequenceMap<Stream>(2);
  readonly #patience = new Patience();
  /** In the order of their turns; those before `#turn` have had theirs. */
  #ready: Stream[] = [];
  #turn = 0;
  readonly #ended: EndedStreams;
  /** Streams that want to know when the current read is over. */
  #readOver: Stream[] = [];
  #prefaceSeen = 0;
  #http1 = "";
  #hasSettings = false;
  #hasAnnounced = false;
  #hasAnnouncedTable = false;
  #lastStreamId = 0;
  /** Ids that the client has passed over: first and last of each gap. */
  #skipped: [first: number, last: number][] = [];
  #sendWindow = DEFAULT_WINDOW;
  #receiveWindow = DEFAULT_WINDOW;
  #initialSendWindow = DEFAULT_WINDOW;
  /** A header block that is not complete. */
  #block: Buffer[] | undefined;
  #blockBytes = 0;
  #blockBegan = 0;
  #blockStream = 0;
  #blockFlags = 0;
  /** The frame that was not complete at the last tick, and at which tick it was seen first. */
  #unfinished = 0;
  #unfinishedSince = 0;
  /** Bytes that the kernel had taken at the last tick, where others waited behind them; else more than there will ever be. */
  #taken = Infinity;
  #isPumping = false;
  #isLeaving = false;
  /** It leaves, and its last stream is over: it ends when the client has shown that it has read all of it. */
  #isDone = false;
  #refusesStreams = false;
  #leftAt = 0;
  #isClosed = false;
  /** Frames for streams beyond this one are ignored: the client knows by GOAWAY that they were. */
  #lastAccepted = MAX_WINDOW;
  unreadBytes = 0;
  /** Bytes that the socket had taken when it was last looked at. */
  #passedOn = 0;
  /** It is cut, as its client does not read. */
  isGivenUp = false;
  /** Of the last sign of life. */
  lastHeard: number = performance.now();
  readonly openedAt: number = performance.now();
  /** When a ping was sent that has no answer yet, or when the client was last seen to read what was written before it. */
  pingedAt: number | undefined;

  constructor(socket: Socket, certificate: X509Certificate | undefined, options: ConnectionOptions) {
    this.socket = socket;
    this.peer = peerOf(socket);
    this.certificate = certificate;
    this.#options = options;
    this.#headers = new HeaderList(options.maxHeaderBytes);
    // All that are open may end at once, and those beyond, that were opened before the limit was known, as long as patience lasts.
    this.#ended = new EndedStreams(options.maxConcurrentStreams + MAX_PATIENCE / RESET_COST);
    this.#reader = new FrameReader(this);
    this.#output = new Output(
      socket,
      () => this.#pump(),
      () => this.#countUnread(),
    );
    socket.setNoDelay(true);
    socket.on("data", (chunk: Buffer) => this.#read(chunk));
    socket.on("error", () => undefined);
    socket.on("close", () => {
      options.unread.forget(this);
      this.#closed();
    });
  }

  /** The oldest first. */
  get openStreams(): Stream[] {
    return this.#streams.values();
  }

  get isEstablished(): boolean {
    return this.#hasSettings;
  }

  /** The client does not even read its socket. */
  get isStuck(): boolean {
    return this.#output.blocked;
  }

  // What the budget of unread bytes asks, of the connection by itself.

  get connection(): this {
    return this;
  }

  /** False where the client has read all of it since it was last counted. */
  get isConnectionStuck(): boolean {
    return this.socket.writableLength > 0;
  }

  /** Later: whoever sends right now is in the midst of something. */
  abort(): void {
    if (!this.isConnectionStuck || this.isGivenUp) return;
    this.isGivenUp = true;
    setImmediate(() => this.destroy());
  }

  /** Cuts it, as its client does not read. */
  giveUp(): void {
    this.isGivenUp = true;
    this.destroy();
  }

  /** That the socket takes something shows that the client reads, also where it was given more meanwhile. */
  #countUnread(): void {
    if (this.isGivenUp || this.socket.destroyed) return;
    const { unread } = this.#options;
    const { taken } = this.#output;
    const more = this.#output.unread - this.unreadBytes;
    if (taken > this.#passedOn && this.unreadBytes > 0) unread.taken(this, Math.max(0, -more));
    this.#passedOn = taken;
    if (more > 0) unread.hold(this, more);
  }

  // What streams send.

  /** Whether so many bytes of DATA can leave now, ahead of nobody who waits. */
  mayWrite(bytes: number): boolean {
    const isFirst = this.#turn === this.#ready.length;
    return bytes <= this.#sendWindow && bytes <= MAX_FRAME_BYTES && isFirst && !this.#output.blocked;
  }

  sendHeaders(streamId: number, flags: number, block: Uint8Array): void {
    if (this.#isClosed) return;
    const first = this.#hasAnnouncedTable ? NO_BYTES : NO_TABLE;
    this.#hasAnnouncedTable = true;
    this.#output.headers(flags, streamId, first, block);
  }

  sendMessage(streamId: number, framing: Framing, message: Uint8Array): void {
    this.#sendWindow -= prefixBytes(framing) + message.length;
    this.#patience.earn();
    this.#output.message(streamId, framing, message);
  }

  sendPart(streamId: number, framing: Framing, message: Uint8Array, from: number, length: number): void {
    this.#sendWindow -= length;
    // A window that is opened byte for byte is none that a client needs.
    if (length >= WORTH_BYTES) this.#patience.earn();
    this.#output.part(streamId, framing, message, from, length);
  }

  sendEmptyData(streamId: number): void {
    this.#output.frame(FrameType.data, Flag.endStream, streamId, NO_BYTES);
  }

  /** Tells the stream when all that came along with its bytes has been handled. */
  tellReadOver(stream: Stream): void {
    this.#readOver.push(stream);
  }

  /** It has something that could not be sent at once. */
  wantsToSend(stream: Stream): void {
    if (stream.isReady || this.#isClosed) return;
    stream.isReady = true;
    this.#ready.push(stream);
    if (this.#isPumping) return;
    // Without a window nobody has a turn, and those that have ended meanwhile would stay.
    if (this.#ready.length > MIN_READY + 2 * this.#streams.size) this.#sweep();
    setImmediate(() => this.#pump());
  }

  /** The stream has ended our side. A client that has not ended its own is told that nobody listens any more. */
  finished(stream: Stream): void {
    this.#patience.earn();
    if (!stream.remoteEnded) {
      this.#output.frame32(FrameType.rstStream, stream.id, ErrorCode.noError);
      this.#ended.add(stream.id, stream.receiveWindow);
      stream.remoteEnded = true;
    }
    this.#drop(stream);
  }

  /** Lets the client send more on a stream. */
  grow(stream: Stream, by: number): void {
    if (by <= 0 || this.#isClosed) return;
    stream.receiveWindow += by;
    this.#output.frame32(FrameType.windowUpdate, stream.id, by);
  }

  /** A stream has cost more than its bytes would. False: too often, and the connection is over. */
  charge(cost: number): boolean {
    return this.#tolerate(cost);
  }

  /** Ends a stream before its time. */
  reset(stream: Stream, code: ErrorCode): void {
    if (!this.#isClosed) {
      this.#output.frame32(FrameType.rstStream, stream.id, code);
      this.#ended.add(stream.id, stream.receiveWindow);
    }
    this.#drop(stream);
    stream.kill();
  }

  // Its life.

  /** Asks for a sign of life. */
  ping(now: number): void {
    if (this.#isClosed) return;
    this.#announce();
    this.pingedAt = now;
    this.#output.frame(FrameType.ping, 0, 0, KEEPALIVE);
  }

  /** Once a second. */
  tick(now: number): void {
    this.#patience.refill();
    this.#ended.sweep(now);
    this.#streams.compact();
    // Between its frames nothing else may be sent, an answer to our pings included.
    if (this.#block !== undefined && now - this.#blockBegan > BLOCK_LIMIT_MS) {
      this.#fail(ErrorCode.enhanceYourCalm, "a header block without end");
    }
    const { unfinished } = this.#reader;
    if (unfinished !== this.#unfinished) {
      this.#unfinished = unfinished;
      this.#unfinishedSince = now;
    } else if (unfinished !== 0 && now - this.#unfinishedSince > BLOCK_LIMIT_MS) {
      this.#fail(ErrorCode.enhanceYourCalm, "a frame without end");
    }
    if (this.#isLeaving && this.#lastAccepted === MAX_WINDOW && now - this.#leftAt > LAST_CALL_MS) this.#lastCall();
    this.#watchReading(now);
    if (this.unreadBytes > 0) this.#countUnread();
  }

  /**
   * A ping waits behind all that was written before it, for minutes where a client reads slowly. That the kernel, which was
   * full, takes more is a sign of life as well; what it takes while it has room is none.
   */
  #watchReading(now: number): void {
    const { writableLength } = this.socket;
    if (writableLength === 0 && this.#taken === Infinity) return;
    const { taken } = this.#output;
    if (taken > this.#taken && this.pingedAt !== undefined) this.pingedAt = now;
    this.#taken = writableLength > 0 ? taken : Infinity;
  }

  /**
   * Asks the client to open no more streams, and ends when the client has all of the last one. What it opens before it knows is still
   * served, or refused in a way that lets it try elsewhere: only when it has answered a ping its streams are numbered for
   * good.
   */
  leave(refusesStreams = false): void {
    this.#refusesStreams ||= refusesStreams;
    if (this.#isLeaving || this.#isClosed) return;
    this.#isLeaving = true;
    this.#leftAt = performance.now();
    this.#goaway(MAX_WINDOW, ErrorCode.noError, "");
    this.#output.frame(FrameType.ping, 0, 0, LAST_CALL);
    this.#endIfDone();
  }

  /** Cuts it. */
  destroy(): void {
    this.#output.flush();
    this.socket.destroy();
    this.#closed();
  }

  // What the client sends.

  #read(chunk: Buffer): void {
    if (this.#isClosed) return;
    this.lastHeard = performance.now();
    this.pingedAt = undefined;
    let at = 0;
    if (this.#prefaceSeen < PREFACE.length) {
      at = this.#readPreface(chunk);
      if (at < 0) return;
    }
    this.#reader.read(chunk, at);
    if (this.#readOver.length > 0) this.#endRead();
    if (this.#output.backlog > MAX_BACKLOG_BYTES) this.giveUp();
  }

  #endRead(): void {
    for (const stream of this.#readOver) stream.onReadOver();
    this.#readOver = [];
  }

  /** Where frames begin; -1 when there are none. */
  #readPreface(chunk: Buffer): number {
    const seen = this.#prefaceSeen;
    const length = Math.min(PREFACE.length - seen, chunk.length);
    if (this.#http1 === "" && chunk.compare(PREFACE, seen, seen + length, 0, length) === 0) {
      this.#prefaceSeen += length;
      if (this.#prefaceSeen === PREFACE.length) this.#announce();
      return length;
    }
    // The first bytes of the preface look like HTTP/1, and the other way round.
    this.#http1 += PREFACE.toString("latin1", 0, this.#http1 === "" ? seen : 0) + chunk.toString("latin1");
    if (HTTP1.test(this.#http1)) {
      this.socket.write(this.#http1.startsWith("HEAD ") ? HTTP1_ANSWER : HTTP1_ANSWER + HTTP1_TEXT);
      this.#close();
    } else if (this.#http1.length > MAX_HTTP1_BYTES || !MAYBE_HTTP1.test(this.#http1)) {
      this.#fail(ErrorCode.protocolError, "this is no HTTP/2");
    }
    return -1;
  }

  onOversized(type: number, streamId: number, length: number): void {
    this.#fail(ErrorCode.frameSizeError, `a frame of type ${type} on stream ${streamId} has ${length} bytes`);
  }

  onFrame(type: number, flags: number, streamId: number, bytes: Buffer, start: number, end: number): boolean {
    if (!this.#hasSettings && (type !== FrameType.settings || (flags & Flag.ack) !== 0)) {
      return this.#fail(ErrorCode.protocolError, "the first frame is no SETTINGS");
    }
    if (this.#block !== undefined && (type !== FrameType.continuation || streamId !== this.#blockStream)) {
      return this.#fail(ErrorCode.protocolError, "a header block is interrupted");
    }
    switch (type) {
      case FrameType.data:
        return this.#onData(flags, streamId, bytes, start, end);
      case FrameType.headers:
        return this.#onHeaders(flags, streamId, bytes, start, end);
      case FrameType.priority:
        return this.#onPriority(streamId, bytes, start, end);
      case FrameType.rstStream:
        return this.#onReset(streamId, end - start);
      case FrameType.settings:
        return this.#onSettings(flags, streamId, bytes, start, end);
      case FrameType.pushPromise:
        return this.#fail(ErrorCode.protocolError, "a client pushes");
      case FrameType.ping:
        return this.#onPing(flags, streamId, bytes, start, end);
      case FrameType.goaway:
        return this.#onGoaway(streamId, end - start);
      case FrameType.windowUpdate:
        return this.#onWindowUpdate(streamId, bytes, start, end);
      case FrameType.continuation:
        return this.#onContinuation(flags, bytes, start, end);
      default:
        // Unknown types are ignored (section 5.5).
        return this.#tolerate();
    }
  }

  #onData(flags: number, streamId: number, bytes: Buffer, start: number, end: number): boolean {
    if (streamId === 0) return this.#fail(ErrorCode.protocolError, "DATA on stream 0");
    const length = end - start;
    if (length > this.#receiveWindow) return this.#fail(ErrorCode.flowControlError, "more DATA than the window has");
    this.#receiveWindow -= length;
    if (this.#receiveWindow < RECEIVE_WINDOW / 2) this.#growWindow();
    const stream = this.#streams.get(streamId);
    if (stream === undefined) return this.#onLateData(streamId, length);
    let [from, to] = [start, end];
    if ((flags & Flag.padded) !== 0) {
      const padding = length === 0 ? length : bytes[start]!;
      if (padding >= length) return this.#fail(ErrorCode.protocolError, "more padding than DATA");
      [from, to] = [start + 1, end - padding];
    }
    if (stream.remoteEnded) return this.#offence(stream, ErrorCode.streamClosed);
    if (length > stream.receiveWindow) return this.#offence(stream, ErrorCode.flowControlError);
    stream.receiveWindow -= length;
    const ends = (flags & Flag.endStream) !== 0;
    if (stream.announced !== undefined) {
      stream.announced -= to - from;
      if (ends && stream.announced !== 0) return this.#offence(stream, ErrorCode.protocolError);
    }
    // Ahead of what it brings: a call that ends by it is over on both sides.
    stream.remoteEnded = ends;
    if (to > from) stream.onData(bytes, from, to);
    else if (!ends && !this.#onNoData(stream, length)) return false;
    return !ends || this.#remoteEnd(stream);
  }

  /**
   * DATA for a stream that is over. As much as its window allowed may have been on its way: that is no offence, in however
   * many frames, and no more than any stream may bring.
   */
  #onLateData(streamId: number, length: number): boolean {
    return (length > 0 && this.#ended.take(streamId, length)) || this.#onClosedStream(streamId, "DATA");
  }

  /** A frame of nothing, or of padding alone: what that took of the window nobody else gives back. */
  #onNoData(stream: Stream, padding: number): boolean {
    this.grow(stream, padding);
    return this.#tolerate();
  }

  #onHeaders(flags: number, streamId: number, bytes: Buffer, start: number, end: number): boolean {
    if (streamId === 0 || streamId % 2 === 0) {
      return this.#fail(ErrorCode.protocolError, `HEADERS on stream ${streamId}`);
    }
    let [from, to] = [start, end];
    if ((flags & Flag.padded) !== 0) {
      const padding = end > start ? bytes[start]! : 0;
      [from, to] = [start + 1, end - padding];
    }
    let dependsOn = -1;
    if ((flags & Flag.priority) !== 0) {
      if (to - from < 5) return this.#fail(ErrorCode.frameSizeError, "HEADERS are too short for their priority");
      dependsOn = bytes.readUInt32BE(from) & MAX_WINDOW;
      from += 5;
    }
    if (from > to) return this.#fail(ErrorCode.protocolError, "more padding than HEADERS");
    this.#blockStream = streamId;
    this.#blockFlags = flags | (dependsOn === streamId ? DEPENDS_ON_ITSELF : 0);
    if ((flags & Flag.endHeaders) !== 0) return this.#onBlock(bytes, from, to);
    this.#block = [bytes.subarray(from, to)];
    this.#blockBegan = this.lastHeard;
    this.#blockBytes = to - from;
    return true;
  }

  #onContinuation(flags: number, bytes: Buffer, start: number, end: number): boolean {
    const block = this.#block;
    if (block === undefined) return this.#fail(ErrorCode.protocolError, "CONTINUATION without HEADERS");
    block.push(bytes.subarray(start, end));
    this.#blockBytes += end - start;
    // One that is a little too large is still read, and its call refused; one that is far too large ends here.
    const continuations = block.length - 1;
    if (continuations > MAX_CONTINUATIONS || this.#blockBytes > 4 * this.#options.maxHeaderBytes + MAX_FRAME_BYTES) {
      return this.#fail(ErrorCode.enhanceYourCalm, "a header block without end");
    }
    if ((flags & Flag.endHeaders) === 0) return true;
    this.#block = undefined;
    return this.#onBlock(Buffer.concat(block), 0, this.#blockBytes);
  }

  /** A whole header block. It is read in any case, as later ones build on it. */
  #onBlock(bytes: Buffer, start: number, end: number): boolean {
    const streamId = this.#blockStream;
    const known = this.#streams.get(streamId);
    const headers = this.#headers;
    const isTrailers = streamId <= this.#lastStreamId;
    // The list still holds what the last block said.
    const isRead = headers.isTrailers === isTrailers && this.#decoder.isRepeated(bytes, start, end);
    if (!isRead && !this.#readBlock(bytes, start, end, isTrailers)) return false;
    const ends = (this.#blockFlags & Flag.endStream) !== 0;
    if (known !== undefined) return this.#onTrailers(known, ends);
    if (isTrailers) return this.#onOldStream(streamId);
    this.#skip(streamId);
    this.#lastStreamId = streamId;
    if (streamId > this.#lastAccepted) return this.#tolerate();
    if (this.#blockFlags >= DEPENDS_ON_ITSELF) return this.#refuse(streamId, ErrorCode.protocolError);
    if (this.#refusesStreams) {
      // The client does not know yet that we leave: no offence, however many come, and less work than to serve them.
      this.#turnAway(streamId, ErrorCode.refusedStream);
      return true;
    }
    if (this.#streams.size >= this.#options.maxConcurrentStreams) {
      return this.#refuse(streamId, ErrorCode.refusedStream);
    }
    // Also where it announces DATA (section 8.1.1), and there is none.
    if (headers.problem === "malformed" || (ends && (headers.contentLength ?? 0) !== 0)) {
      return this.#refuse(streamId, ErrorCode.protocolError);
    }
    const stream = this.#options.newStream(this, streamId, this.#initialSendWindow);
    stream.announced = headers.contentLength;
    stream.remoteEnded = ends;
    this.#streams.set(streamId, stream);
    stream.onRequest(headers);
    return !ends || this.#remoteEnd(stream);
  }

  #readBlock(bytes: Buffer, start: number, end: number, isTrailers: boolean): boolean {
    const headers = this.#headers;
    headers.begin(isTrailers);
    try {
      this.#decoder.decode(bytes, start, end, (field) => headers.add(field));
      return true;
    } catch (error) {
      if (!(error instanceof HpackError)) throw error;
      return this.#fail(ErrorCode.compressionError, error.message);
    }
  }

  /** A request on a stream that was passed over, or is closed. */
  #onOldStream(streamId: number): boolean {
    const wasSkipped = this.#skipped.some(([first, last]) => first <= streamId && streamId <= last);
    if (wasSkipped) return this.#fail(ErrorCode.protocolError, `stream ${streamId} after ${this.#lastStreamId}`);
    return this.#onClosedStream(streamId, "HEADERS");
  }

  #skip(streamId: number): void {
    if (streamId === this.#lastStreamId + 2 || streamId === 1) return;
    this.#skipped.push([this.#lastStreamId + 1, streamId - 1]);
    if (this.#skipped.length > MAX_GAPS) this.#skipped.shift();
  }

  #onTrailers(stream: Stream, ends: boolean): boolean {
    if (stream.remoteEnded) return this.#offence(stream, ErrorCode.streamClosed);
    const isWrong = this.#headers.problem === "malformed" || (stream.announced ?? 0) !== 0;
    if (!ends || isWrong) return this.#offence(stream, ErrorCode.protocolError);
    stream.remoteEnded = true;
    return this.#remoteEnd(stream);
  }

  #onPriority(streamId: number, bytes: Buffer, start: number, end: number): boolean {
    if (streamId === 0) return this.#fail(ErrorCode.protocolError, "PRIORITY on stream 0");
    const stream = this.#streams.get(streamId);
    if (end - start !== 5) {
      return this.#streamError(stream, streamId, ErrorCode.frameSizeError);
    }
    if ((bytes.readUInt32BE(start) & MAX_WINDOW) === streamId) {
      return this.#streamError(stream, streamId, ErrorCode.protocolError);
    }
    return this.#tolerate();
  }

  #onReset(streamId: number, length: number): boolean {
    if (length !== 4) return this.#fail(ErrorCode.frameSizeError, "RST_STREAM has not four bytes");
    if (streamId === 0 || this.#isIdle(streamId)) {
      return this.#fail(ErrorCode.protocolError, `RST_STREAM on stream ${streamId}, which is idle`);
    }
    const stream = this.#streams.get(streamId);
    if (stream === undefined) return this.#tolerate();
    // One after the other opened and reset costs us the whole call, and the client nothing.
    const isRapid = this.lastHeard - stream.openedAt < RAPID_MS;
    this.#drop(stream);
    stream.kill();
    return this.#tolerate(isRapid ? RESET_COST : 1);
  }

  #onSettings(flags: number, streamId: number, bytes: Buffer, start: number, end: number): boolean {
    const length = end - start;
    if (streamId !== 0) return this.#fail(ErrorCode.protocolError, "SETTINGS on a stream");
    if ((flags & Flag.ack) !== 0) {
      return length === 0 ? this.#tolerate() : this.#fail(ErrorCode.frameSizeError, "an acknowledgement with SETTINGS");
    }
    if (length % 6 !== 0) return this.#fail(ErrorCode.frameSizeError, "SETTINGS of a broken length");
    let initialWindow = this.#initialSendWindow;
    for (let at = start; at < end; at += 6) {
      const name = bytes.readUInt16BE(at);
      const value = bytes.readUInt32BE(at + 2);
      if (!this.#checkSetting(name, value)) return false;
      if (name === Setting.initialWindowSize) initialWindow = value;
    }
    if (!this.#tolerate(1 + length / 6) || !this.#moveWindows(initialWindow)) return false;
    this.#hasSettings = true;
    this.#output.frame(FrameType.settings, Flag.ack, 0, NO_BYTES);
    return true;
  }

  #checkSetting(name: number, value: number): boolean {
    if (name === Setting.initialWindowSize) {
      if (value > MAX_WINDOW) return this.#fail(ErrorCode.flowControlError, "an initial window that is too large");
    } else if (name === Setting.maxFrameSize) {
      if (value < MAX_FRAME_BYTES || value > MAX_FRAME_SIZE_LIMIT) {
        return this.#fail(ErrorCode.protocolError, `a largest frame of ${value} bytes`);
      }
    } else if (name === Setting.enablePush && value > 1) {
      return this.#fail(ErrorCode.protocolError, `a setting of ${value} for push`);
    }
    return true;
  }

  /** Once for a frame, whatever values it went through: a frame of thousands would move the windows of all streams as often. */
  #moveWindows(initialWindow: number): boolean {
    const by = initialWindow - this.#initialSendWindow;
    if (by === 0) return true;
    this.#initialSendWindow = initialWindow;
    if (!this.#tolerate(this.#streams.size / STREAMS_PER_COST)) return false;
    if (this.#streams.every((stream) => stream.moveSendWindow(by))) return true;
    return this.#fail(ErrorCode.flowControlError, "a window that is too large");
  }

  #onPing(flags: number, streamId: number, bytes: Buffer, start: number, end: number): boolean {
    if (streamId !== 0) return this.#fail(ErrorCode.protocolError, "PING on a stream");
    if (end - start !== 8) return this.#fail(ErrorCode.frameSizeError, "PING has not eight bytes");
    const payload = bytes.subarray(start, end);
    if ((flags & Flag.ack) === 0) this.#output.frame(FrameType.ping, Flag.ack, 0, payload);
    else if (this.#isDone && payload.equals(LAST_WORD)) this.#close();
    else if (this.#isLeaving && this.#lastAccepted === MAX_WINDOW && payload.equals(LAST_CALL)) this.#lastCall();
    return this.#tolerate();
  }

  #onGoaway(streamId: number, length: number): boolean {
    if (streamId !== 0) return this.#fail(ErrorCode.protocolError, "GOAWAY on a stream");
    if (length < 8) return this.#fail(ErrorCode.frameSizeError, "GOAWAY is too short");
    this.leave();
    return this.#tolerate();
  }

  #onWindowUpdate(streamId: number, bytes: Buffer, start: number, end: number): boolean {
    if (end - start !== 4) return this.#fail(ErrorCode.frameSizeError, "WINDOW_UPDATE has not four bytes");
    const by = bytes.readUInt32BE(start) & MAX_WINDOW;
    if (streamId === 0) {
      if (by === 0) return this.#fail(ErrorCode.protocolError, "a window that grows by nothing");
      this.#sendWindow += by;
      if (this.#sendWindow > MAX_WINDOW) return this.#fail(ErrorCode.flowControlError, "a window that is too large");
      this.#pump();
      return this.#tolerate();
    }
    if (this.#isIdle(streamId)) {
      return this.#fail(ErrorCode.protocolError, `WINDOW_UPDATE on stream ${streamId}, which is idle`);
    }
    const stream = this.#streams.get(streamId);
    if (stream === undefined) return this.#tolerate();
    if (by === 0) return this.#offence(stream, ErrorCode.protocolError);
    if (!stream.moveSendWindow(by)) return this.#offence(stream, ErrorCode.flowControlError);
    return this.#tolerate();
  }

  /** Tells a stream that the client has ended its side, where what came before has not ended it. */
  #remoteEnd(stream: Stream): boolean {
    if (!stream.localEnded) stream.onRemoteEnd();
    return !this.#isClosed;
  }

  /** A frame for a stream that is closed, or was never opened. */
  #onClosedStream(streamId: number, what: string): boolean {
    if (this.#isIdle(streamId)) {
      return this.#fail(ErrorCode.protocolError, `${what} on stream ${streamId}, which is idle`);
    }
    if (this.#ended.has(streamId) || streamId > this.#lastAccepted) return this.#tolerate();
    return this.#fail(ErrorCode.streamClosed, `${what} on stream ${streamId}, which is closed`);
  }

  #isIdle(streamId: number): boolean {
    return streamId > this.#lastStreamId || streamId % 2 === 0;
  }

  // Offences.

  /** Against the connection: it ends. Always false. */
  #fail(code: ErrorCode, text: string): false {
    if (this.#isClosed) return false;
    // Never more than was said before (section 6.8).
    this.#goaway(Math.min(this.#lastStreamId, this.#lastAccepted), code, text);
    this.#close();
    return false;
  }

  /** Against a stream: it is reset. */
  #offence(stream: Stream, code: ErrorCode): boolean {
    this.reset(stream, code);
    return this.#tolerate(RESET_COST);
  }

  #streamError(stream: Stream | undefined, streamId: number, code: ErrorCode): boolean {
    if (stream !== undefined) return this.#offence(stream, code);
    // A stream that is idle must not be reset (section 6.4): it may still be opened.
    if (this.#isIdle(streamId)) return this.#fail(code, `an offence on stream ${streamId}, which is idle`);
    return this.#refuse(streamId, code);
  }

  /** A stream that must not be. */
  #refuse(streamId: number, code: ErrorCode): boolean {
    this.#turnAway(streamId, code);
    return this.#tolerate(RESET_COST);
  }

  /** Resets a stream that does not exist. */
  #turnAway(streamId: number, code: ErrorCode): void {
    this.#output.frame32(FrameType.rstStream, streamId, code);
    this.#ended.add(streamId, DEFAULT_WINDOW);
  }

  /** Something that is allowed, but not without end. */
  #tolerate(cost = 1): boolean {
    if (this.#isClosed) return false;
    if (this.#patience.spend(cost)) return true;
    return this.#fail(ErrorCode.enhanceYourCalm, "too much of what leads to nothing");
  }

  // The rest.

  /** Before anything else of HTTP/2, but not before the client has shown that it speaks it. */
  #announce(): void {
    if (this.#hasAnnounced) return;
    this.#hasAnnounced = true;
    const settings = Buffer.alloc(12);
    settings.writeUInt16BE(Setting.maxConcurrentStreams, 0);
    settings.writeUInt32BE(this.#options.maxConcurrentStreams, 2);
    settings.writeUInt16BE(Setting.maxHeaderListSize, 6);
    settings.writeUInt32BE(this.#options.maxHeaderBytes, 8);
    this.#output.frame(FrameType.settings, 0, 0, settings);
    this.#growWindow();
  }

  #growWindow(): void {
    const by = RECEIVE_WINDOW - this.#receiveWindow;
    this.#receiveWindow = RECEIVE_WINDOW;
    this.#output.frame32(FrameType.windowUpdate, 0, by);
  }

  /** Sends of all that waits as much as windows and socket take, one frame of each stream after the other. */
  #pump(): void {
    if (this.#isPumping || this.#isClosed) return;
    this.#isPumping = true;
    while (this.#turn < this.#ready.length && this.#sendWindow > 0 && !this.#output.blocked) {
      const stream = this.#ready[this.#turn++]!;
      stream.isReady = false;
      if (!stream.sendSome(this.#sendWindow) || stream.isReady) continue;
      stream.isReady = true;
      this.#ready.push(stream);
    }
    if (this.#turn === this.#ready.length || this.#turn > Math.max(MIN_READY, this.#ready.length / 2)) this.#sweep();
    this.#isPumping = false;
  }

  /** Forgets who has had a turn or has ended. */
  #sweep(): void {
    this.#ready = this.#ready.slice(this.#turn).filter((stream) => !stream.localEnded);
    this.#turn = 0;
  }

  #drop(stream: Stream): void {
    this.#streams.delete(stream.id);
    this.#endIfDone();
  }

  #lastCall(): void {
    this.#lastAccepted = this.#lastStreamId;
    this.#goaway(this.#lastStreamId, ErrorCode.noError, "");
    this.#endIfDone();
  }

  /**
   * What the last streams have sent is with the socket or the kernel by now, not with the client: it is when the client
   * answers a ping that was sent behind it. Until then keepalive watches, and nothing may end the socket.
   */
  #endIfDone(): void {
    if (!this.#isLeaving || this.#isClosed || this.#streams.size > 0 || this.#lastAccepted === MAX_WINDOW) return;
    if (this.#isDone) return;
    this.#isDone = true;
    this.pingedAt ??= performance.now();
    this.#output.frame(FrameType.ping, 0, 0, LAST_WORD);
  }

  /** Ends the socket behind what was written, and whoever does not end it as well is cut off. */
  #close(): void {
    this.#output.flush();
    this.socket.end();
    setTimeout(() => this.socket.destroy(), LINGER_MS).unref();
    this.#closed();
  }

  #goaway(lastStreamId: number, code: ErrorCode, text: string): void {
    this.#announce();
    const payload = Buffer.alloc(8 + text.length);
    payload.writeUInt32BE(lastStreamId, 0);
    payload.writeUInt32BE(code, 4);
    payload.write(text, 8, "latin1");
    this.#output.frame(FrameType.goaway, 0, 0, payload);
  }

  #closed(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#reader.stop();
    this.#output.close();
    const streams = this.#streams.values();
    this.#streams.clear();
    this.#ready = [];
    this.#turn = 0;
    for (const stream of streams) stream.kill();
    this.#options.onClosed(this);
  }
}

function peerOf({ remoteAddress = "", remotePort = 0 }: Socket): string {
  return remoteAddress.includes(":") ? `[${remoteAddress}]:${remotePort}` : `${remoteAddress}:${remotePort}`;
}

const DEPENDS_ON_ITSELF = 0x100;
const RESET_COST = 10;
/** So many streams may wait for a turn before it is looked who of them is still there. */
const MIN_READY = 64;
/** Windows that move for the cost of a frame. */
const STREAMS_PER_COST = 64;
const KEEPALIVE = Buffer.from("keepaliv");
const LAST_CALL = Buffer.from("lastcall");
const LAST_WORD = Buffer.from("lastword");
const MAYBE_HTTP1 = /^[A-Z]+( [^\r\n]*(\r?\n?)?)?$/;

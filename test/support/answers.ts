/** What a server says on one connection, read as gRPC: header fields, messages and ends of streams, by stream. */
import { HpackDecoder } from "../../src/grpc/engine/native/hpack.ts";
import { ACK, CODES, END_HEADERS, END_STREAM, type Frame, PADDED, Type } from "./http2-peer.ts";

/** Name and value, as on the wire. */
export type Field = readonly [name: string, value: string];

/** A message as it came: still packed where it says so. */
export interface Message {
  readonly isCompressed: boolean;
  readonly bytes: Buffer;
}

/**
 * A point in what a server says: the first header fields of a stream, so many messages, or its end, by trailers or by a
 * reset. Stream 0 begins with the server's SETTINGS.
 */
export interface Milestone {
  readonly stream: number;
  readonly at: "begin" | "end" | number;
}

/** One stream as the server has answered it so far. */
export class Answer {
  /** The first header block, which in a response without messages may be all there is. */
  head: readonly Field[] | undefined;
  trailers: readonly Field[] | undefined;
  readonly messages: Message[] = [];
  /** END_STREAM came. */
  isEnded = false;
  /** The code of RST_STREAM. */
  reset: string | undefined;
  /** DATA that is no whole message: all of it, where the response is no gRPC. */
  rest: Buffer = Buffer.alloc(0);

  get isOver(): boolean {
    return this.isEnded || this.reset !== undefined;
  }

  addData(bytes: Buffer): void {
    this.rest = Buffer.concat([this.rest, bytes]);
    if (!isGrpc(this.head)) return;
    while (this.rest.length >= 5 && this.rest.length >= 5 + this.rest.readUInt32BE(1)) {
      const end = 5 + this.rest.readUInt32BE(1);
      this.messages.push({ isCompressed: this.rest[0] === 1, bytes: this.rest.subarray(5, end) });
      this.rest = this.rest.subarray(end);
    }
  }
}

function isGrpc(head: readonly Field[] | undefined): boolean {
  return (head ?? []).some(([name, value]) => name === "content-type" && value.startsWith("application/grpc"));
}

/** Reads the server's frames in order. */
export class Answers {
  readonly streams = new Map<number, Answer>();
  hasSettings = false;
  readonly #decoder = new HpackDecoder();
  #block: Buffer[] = [];
  #blockFlags = 0;

  add({ type, flags, streamId, payload }: Frame): void {
    if (type === Type.settings && (flags & ACK) === 0) this.hasSettings = true;
    if (streamId === 0) return;
    const answer = this.of(streamId);
    if (type === Type.data) {
      answer.addData(withoutPadding(flags, payload));
      answer.isEnded ||= (flags & END_STREAM) !== 0;
    } else if (type === Type.rstStream) {
      answer.reset = CODES[payload.readUInt32BE(0)] ?? "unknown";
    } else if (type === Type.headers || type === Type.continuation) {
      if (type === Type.headers) this.#blockFlags = flags;
      this.#block.push(withoutPadding(type === Type.headers ? flags : 0, payload));
      if ((flags & END_HEADERS) !== 0) this.#endBlock(answer);
    }
  }

  /** What was answered on a stream, if only nothing. */
  of(streamId: number): Answer {
    let answer = this.streams.get(streamId);
    if (answer === undefined) this.streams.set(streamId, (answer = new Answer()));
    return answer;
  }

  /** The farthest that the server has come; undefined where it has said nothing that counts. */
  milestone(stream: number): Milestone | undefined {
    if (stream === 0) return this.hasSettings ? { stream, at: "begin" } : undefined;
    const { head, messages, isOver } = this.of(stream);
    if (isOver) return { stream, at: "end" };
    return head === undefined ? undefined : { stream, at: messages.length || "begin" };
  }

  /** Whether the server has come so far. */
  hasReached({ stream, at }: Milestone): boolean {
    if (stream === 0) return this.hasSettings;
    const answer = this.of(stream);
    if (at === "begin") return answer.head !== undefined;
    return at === "end" ? answer.isOver : answer.messages.length >= at;
  }

  #endBlock(answer: Answer): void {
    const block = Buffer.concat(this.#block);
    const fields: Field[] = [];
    this.#block = [];
    this.#decoder.decode(block, 0, block.length, ({ name, value }) => fields.push([name, value]));
    if (answer.head === undefined) answer.head = fields;
    else answer.trailers = fields;
    answer.isEnded ||= (this.#blockFlags & END_STREAM) !== 0;
  }
}

function withoutPadding(flags: number, payload: Buffer): Buffer {
  return (flags & PADDED) === 0 ? payload : payload.subarray(1, payload.length - payload[0]!);
}

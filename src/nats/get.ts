/**
 * Hot path: reading a message by its subject or sequence. Two ways, as nats-server has them: a direct get is answered by
 * any replica, so it may be old where there are several, and cheap; asking through the API is answered by the leader.
 */
import { Buffer } from "node:buffer";
import { WindshiftError } from "../errors.ts";
import { LastText } from "../last-text.ts";
import { type JetStreamApi, parseReply } from "./api.ts";
import type { NatsConnection, NoReply, ReplyHandler } from "./connection.ts";
import { JetStreamCode, jetStreamCode, noReply } from "./errors.ts";
import { InFlightLimit, type Limited, type Limits } from "./in-flight-limit.ts";
import { HeaderLines, type NatsMessage, digitsBetween, headerValue, statusCode } from "./message.ts";

/** A message as it is stored. */
export interface StoredMessage {
  readonly sequence: bigint;
  readonly subject: string;
  /** RFC 3339 with nanoseconds: when JetStream stored it. */
  readonly time: string;
  /** The header block; undefined without headers. */
  readonly headers: Buffer | undefined;
  readonly payload: Buffer;
}

/** The time of a stored message as its deliveries say it: nanoseconds since the epoch, in digits. */
export function storedAtOf(time: string): string {
  const seconds = Math.floor(Date.parse(time) / 1000);
  const fraction = /\.(\d+)/.exec(time)?.[1] ?? "";
  return `${seconds}${fraction.padEnd(9, "0")}`;
}

/** Hears how a get ended: exactly one of the two, once. Undefined: there is no such message. */
export interface GetListener {
  onFound(message: StoredMessage | undefined): void;
  onFailed(error: WindshiftError): void;
}

/** How far a stream has come. */
export interface Progress {
  readonly lastSequence: bigint;
  /** It has no message. */
  readonly isEmpty: boolean;
  /** Most replicas have answered the leader just now, so no other one has come after it. */
  readonly isFollowed: boolean;
}

/** Replicas answer their leader every second, and look for another after four at the soonest. */
const FOLLOWED_NS = 2_000_000_000;
/**
 * What reads may bring at once, as far as their sizes can be foreseen: everything else that NATS sends waits behind it, and
 * who has 64 MiB to read is cut off.
 */
const IN_FLIGHT_BYTES = 4 * 1024 * 1024;
/** Until something is known. Then the size follows larger answers at once, and smaller ones slowly. */
const FIRST_GUESS_BYTES = 128 * 1024;
const FORGET_SHARE = 1 / 32;
const NO_PAYLOAD = new Uint8Array(0);

/** Questions to the leader of a stream. */
export type LeaderReader = Pick<Reader, "at" | "lastOf" | "firstAfter" | "progress" | "streamOf">;

/** The largest number below 2^64, where the sequences of nats-server end. */
const MAX_SEQUENCE = 2 ** 64 - 2 ** 11;
const at = (sequence: bigint): MessageQuery => ({ seq: Number(sequence) });
const lastOf = (subject: string): MessageQuery => ({ last_by_subj: subject });
const firstAfter = (subject: string, sequence: bigint): MessageQuery => ({
  seq: Math.min(Number(sequence) + 1, MAX_SEQUENCE),
  next_by_subj: subject,
});

/** Reads single messages of streams. */
export class Reader {
  readonly #api: JetStreamApi;
  readonly #connection: NatsConnection;
  readonly #limit: InFlightLimit;
  readonly #maxInFlight: number;
  /** Questions of those who are counted elsewhere: they wait their turn also where too many do. */
  readonly patient: LeaderReader = {
    at: async (stream, sequence, deadlineMs) => this.#ask(stream, at(sequence), deadlineMs, true),
    lastOf: async (stream, subject, deadlineMs) => this.#ask(stream, lastOf(subject), deadlineMs, true),
    firstAfter: async (stream, subject, sequence, deadlineMs) =>
      this.#ask(stream, firstAfter(subject, sequence), deadlineMs, true),
    progress: async (stream, deadlineMs) => this.progress(stream, deadlineMs),
    streamOf: async (subject, deadlineMs) => this.streamOf(subject, deadlineMs),
  };
  #answerBytes = FIRST_GUESS_BYTES;

  constructor(api: JetStreamApi, limits: Limits) {
    const { connection } = api;
    this.#api = api;
    this.#connection = connection;
    this.#maxInFlight = limits.maxInFlight;
    this.#limit = new InFlightLimit("reads", limits);
    this.#adapt();
    connection.listen({
      onConnected: () => undefined,
      onDisconnected: () =>
        this.#limit.refuseWaiting(noReply("not_sent", "to read", { write: false, repeatable: true })),
    });
  }

  /** What any replica finds. Only for streams with `allow_direct`. */
  direct(stream: string, query: MessageQuery, deadlineMs: number, listener: GetListener): void {
    this.#limit.enter(new Get(this, stream, query, true, deadlineMs, listener));
  }

  /** What the leader of the stream finds. */
  fromLeader(stream: string, query: MessageQuery, deadlineMs: number, listener: GetListener): void {
    this.#limit.enter(new Get(this, stream, query, false, deadlineMs, listener));
  }

  /** The message with this sequence as the leader of the stream has it. */
  async at(stream: string, sequence: bigint, deadlineMs: number): Promise<StoredMessage | undefined> {
    return this.#ask(stream, at(sequence), deadlineMs, false);
  }

  /** The last message of `subject` as the leader of the stream has it. */
  async lastOf(stream: string, subject: string, deadlineMs: number): Promise<StoredMessage | undefined> {
    return this.#ask(stream, lastOf(subject), deadlineMs, false);
  }

  /** The first message of `subject` after the one with this sequence, as the leader of the stream has it. */
  async firstAfter(
    stream: string,
    subject: string,
    sequence: bigint,
    deadlineMs: number,
  ): Promise<StoredMessage | undefined> {
    return this.#ask(stream, firstAfter(subject, sequence), deadlineMs, false);
  }

  /** How far the stream has come, as its leader has it. */
  async progress(stream: string, deadlineMs: number): Promise<Progress> {
    const { state, cluster } = await this.#api.streamInfo(stream, { deadlineMs });
    const others = cluster?.replicas ?? [];
    // What was never heard of has 0.
    const heard = others.filter(({ active }) => active > 0 && active < FOLLOWED_NS);
    const isFollowed = 2 * (1 + heard.length) > 1 + others.length;
    return { lastSequence: BigInt(state.last_seq), isEmpty: state.messages === 0, isFollowed };
  }

  /** The stream that collects `subject`, or undefined. */
  async streamOf(subject: string, deadlineMs: number): Promise<string | undefined> {
    return this.#api.streamOfSubject(subject, { deadlineMs });
  }

  async #ask(
    stream: string,
    query: MessageQuery,
    deadlineMs: number,
    isPatient: boolean,
  ): Promise<StoredMessage | undefined> {
    const { promise, resolve, reject } = Promise.withResolvers<StoredMessage | undefined>();
    const get = new Get(this, stream, query, false, deadlineMs, { onFound: resolve, onFailed: reject });
    get.isPatient = isPatient;
    this.#limit.enter(get);
    return promise;
  }

  /** @internal */
  send(get: Get): void {
    const left = get.deadlineMs - Date.now();
    const limit = this.#connection.options.requestTimeoutMs;
    const api = this.#connection.apiPrefix;
    get.deadlineFirst = left <= limit;
    if (left <= 0) {
      get.onNoReply("timeout");
      return;
    }
    const timeout = Math.min(left, limit);
    const { stream, query, isDirect } = get;
    if (isDirect && "last_by_subj" in query) {
      this.#connection.request(`${api}.DIRECT.GET.${stream}.${query.last_by_subj}`, "", NO_PAYLOAD, timeout, get);
    } else {
      const path = isDirect ? "DIRECT.GET" : "STREAM.MSG.GET";
      this.#connection.request(`${api}.${path}.${stream}`, "", Buffer.from(JSON.stringify(query)), timeout, get);
    }
  }

  /** @internal */
  answered(bytes: number): void {
    const guess = this.#answerBytes;
    this.#answerBytes = bytes > guess ? bytes : guess - (guess - bytes) * FORGET_SHARE;
    this.#adapt();
    this.left();
  }

  /** @internal */
  left(): void {
    this.#limit.leave();
  }

  #adapt(): void {
    this.#limit.maxInFlight = Math.max(1, Math.min(this.#maxInFlight, Math.floor(IN_FLIGHT_BYTES / this.#answerBytes)));
  }
}

/** What to ask for: the last message of a subject, the first one of it at or after a sequence, or that of a sequence. */
export type MessageQuery =
  | { readonly last_by_subj: string }
  | { readonly seq: number; readonly next_by_subj: string }
  | { readonly seq: number };

class Get implements Limited, ReplyHandler {
  readonly stream: string;
  readonly query: MessageQuery;
  readonly isDirect: boolean;
  readonly deadlineMs: number;
  readonly isWrite = false;
  readonly bytes = 0;
  isPatient = false;
  deadlineFirst = false;
  readonly #reader: Reader;
  readonly #listener: GetListener;

  constructor(
    reader: Reader,
    stream: string,
    query: MessageQuery,
    isDirect: boolean,
    deadlineMs: number,
    listener: GetListener,
  ) {
    this.#reader = reader;
    this.stream = stream;
    this.query = query;
    this.isDirect = isDirect;
    this.deadlineMs = deadlineMs;
    this.#listener = listener;
  }

  start(): void {
    this.#reader.send(this);
  }

  refuse(error: WindshiftError): void {
    this.#listener.onFailed(error);
  }

  onReply(reply: NatsMessage): void {
    this.#reader.answered(reply.size);
    let found: StoredMessage | undefined;
    try {
      found = this.isDirect ? readDirect(reply, this.stream) : readFromLeader(reply, this.stream);
    } catch (error) {
      if (error instanceof WindshiftError) this.#listener.onFailed(error);
      else this.#listener.onFailed(new WindshiftError("INTERNAL", "unreadable answer of JetStream", { cause: error }));
      return;
    }
    this.#listener.onFound(found);
  }

  onNoReply(why: NoReply): void {
    this.#reader.left();
    const request = { write: false, repeatable: true, deadlinePassed: this.deadlineFirst };
    this.#listener.onFailed(noReply(why, "to read", request, { stream: this.stream }));
  }
}

/**
 * A mirror with `mirror_direct` answers direct gets of its origin too, however far behind it is. What is not from the
 * stream itself counts as not found, which the caller settles with the leader.
 */
function readDirect(reply: NatsMessage, stream: string): StoredMessage | undefined {
  const status = statusCode(reply);
  if (status === 404) return undefined;
  if (status !== 0) {
    throw new WindshiftError(
      status === 503 ? "NO_LEADER" : "NATS_UNAVAILABLE",
      `stream ${JSON.stringify(stream)} does not answer direct gets (${status})`,
      { metadata: { stream }, retryAfterMs: 500 },
    );
  }
  let from = "";
  let subject = "";
  let sequence = 0n;
  let time = "";
  const lines = new HeaderLines(reply.headers!);
  while (lines.next()) {
    if (lines.is("nats-stream")) from = lines.read(decodeStream);
    else if (lines.is("nats-subject")) subject = lines.value;
    else if (lines.is("nats-sequence")) sequence = parseSequence(lines.value);
    else if (lines.is("nats-time-stamp")) time = lines.value;
  }
  if (from !== stream) return undefined;
  return { sequence, subject, time, headers: reply.headers, payload: reply.payload };
}

/** Many messages in a row are of the same stream. */
const lastStream = new LastText();

function decodeStream(block: Buffer, start: number, end: number): string {
  return lastStream.decode(block, start, end);
}

/** A bigint from a text takes several times as long as from a number. Throws on what is no number. */
function parseSequence(text: string): bigint {
  const number = digitsBetween(text, 0, text.length);
  return BigInt(Number.isSafeInteger(number) ? number : text);
}

interface MessageBody {
  readonly message: { subject: string; seq: number; hdrs?: string; data?: string; time: string };
}

function readFromLeader(reply: NatsMessage, stream: string): StoredMessage | undefined {
  try {
    const { message } = parseReply<MessageBody>(reply, { stream });
    return {
      sequence: BigInt(message.seq),
      subject: message.subject,
      time: message.time,
      headers: message.hdrs === undefined ? undefined : Buffer.from(message.hdrs, "base64"),
      payload: Buffer.from(message.data ?? "", "base64"),
    };
  } catch (error) {
    if (jetStreamCode(error) === JetStreamCode.noMessageFound) return undefined;
    throw error;
  }
}

/** The value of a header of a stored message, or undefined. */
export function storedHeader(message: StoredMessage, name: string): string | undefined {
  return headerValue(message, name);
}

/**
 * Plays a session of a client, frame for frame, to a server, and tells what came of it: for each stream what a gRPC
 * client makes of the answer, and how the connection fared. It waits where the client waited, and for windows that it
 * needs.
 */
import { createHash } from "node:crypto";
import type { Step } from "../recordings/recording.ts";
import { type Answer, Answers, type Field, type Milestone } from "../support/answers.ts";
import {
  ACK,
  DEFAULT_WINDOW,
  END_STREAM,
  type Frame,
  FrameReader,
  Http2Peer,
  INITIAL_WINDOW,
  PREFACE,
  Type,
  frame,
  windowUpdate,
} from "../support/http2-peer.ts";

/** What a client does on one connection. */
export interface Session {
  readonly steps: readonly Step[];
  /** Gives back what DATA takes of the windows, where the steps do not. */
  readonly grantsWindows: boolean;
}

/** One stream, as the client sees it. Names that end in `-bin` have their bytes in hexadecimal. */
export interface StreamOutcome {
  readonly httpStatus: string | undefined;
  readonly contentType: string | undefined;
  readonly metadata: readonly Field[];
  /** In hexadecimal; large ones by length and digest. */
  readonly messages: readonly string[];
  /** What came where messages should be and is none. */
  readonly rest: string;
  readonly status: string | undefined;
  /** Decoded. */
  readonly statusMessage: string;
  readonly trailers: readonly Field[];
  /** "left": by the client, which knows no more than what it had waited for. */
  readonly ending: "ended" | "left" | "open" | `reset with ${string}`;
}

/** What came of a session. */
export interface Outcome {
  readonly streams: Readonly<Record<number, StreamOutcome>>;
  /** Whether it still answers a PING behind all of it. */
  readonly connection: "stands" | "left by the client" | `ended with ${string}`;
}

const MAX_SHOWN = 32;

/** Plays a session to a server on a port of this machine. */
export async function play(session: Session, port: number): Promise<Outcome> {
  const peer = await Http2Peer.open(port);
  try {
    return await new Player(peer, session).play();
  } finally {
    peer.destroy();
  }
}

/** What the client did on a stream. */
interface Sent {
  hasEnded: boolean;
  hasReset: boolean;
  /** The farthest that it has waited for. */
  known: Milestone["at"] | undefined;
  data: number;
}

class Player {
  readonly #peer: Http2Peer;
  readonly #session: Session;
  readonly #answers = new Answers();
  readonly #sent = new Map<number, Sent>();
  readonly #client = new FrameReader();
  #seen = 0;
  #hasLeft = false;
  /** What the server grants, beyond what it grants each stream. */
  #connectionWindow = DEFAULT_WINDOW;
  #initialWindow = DEFAULT_WINDOW;
  readonly #granted = new Map<number, number>();

  constructor(peer: Http2Peer, session: Session) {
    this.#peer = peer;
    this.#session = session;
  }

  async play(): Promise<Outcome> {
    try {
      for (const step of this.#session.steps) {
        if ("send" in step) await this.#send(step.send);
        else await this.#await(step.await);
      }
      for (const [stream, { hasEnded, hasReset }] of this.#sent) {
        if (hasEnded && !hasReset) await this.#until(() => this.#answers.of(stream).isOver);
      }
      if (!this.#hasLeft) await this.#peer.roundTrip();
    } catch (error) {
      if (!this.#peer.isClosed) throw error;
    }
    this.#read();
    const streams = [...this.#sent].map(([id, sent]) => [id, outcomeOf(this.#answers.of(id), sent)] as const);
    return { streams: Object.fromEntries(streams), connection: this.#connection };
  }

  get #connection(): Outcome["connection"] {
    const { goaway, isClosed } = this.#peer;
    if (goaway !== undefined && goaway !== "NO_ERROR") return `ended with ${goaway}`;
    if (this.#hasLeft) return "left by the client";
    return isClosed ? `ended with ${goaway ?? "nothing"}` : "stands";
  }

  async #await(milestone: Milestone): Promise<void> {
    await this.#until(() => this.#answers.hasReached(milestone));
    this.#of(milestone.stream).known = milestone.at;
  }

  async #send(bytes: Buffer): Promise<void> {
    const isFirst = bytes.subarray(0, PREFACE.length).equals(PREFACE);
    let waiting: Buffer[] = isFirst ? [PREFACE] : [];
    for (const one of this.#client.read(isFirst ? bytes.subarray(PREFACE.length) : bytes)) {
      if (one.type === Type.data && !this.#hasRoom(one)) {
        this.#peer.send(...waiting);
        waiting = [];
        await this.#until(() => this.#hasRoom(one));
      }
      this.#note(one);
      waiting.push(frame(one.type, one.flags, one.streamId, one.payload));
    }
    this.#peer.send(...waiting);
  }

  #hasRoom({ streamId, payload }: Frame): boolean {
    const { data } = this.#of(streamId);
    const window = this.#initialWindow + (this.#granted.get(streamId) ?? 0) - data;
    // Nobody takes what is sent on a stream that is over.
    return payload.length <= this.#connectionWindow && (payload.length <= window || this.#answers.of(streamId).isOver);
  }

  #note({ type, flags, streamId, payload }: Frame): void {
    if (type === Type.goaway) this.#hasLeft = true;
    if (streamId === 0 || (type !== Type.data && type !== Type.headers && type !== Type.rstStream)) return;
    const sent = this.#of(streamId);
    if (type === Type.rstStream) {
      sent.hasReset = true;
    } else {
      sent.hasEnded ||= (flags & END_STREAM) !== 0;
    }
    if (type !== Type.data) return;
    sent.data += payload.length;
    this.#connectionWindow -= payload.length;
  }

  #of(stream: number): Sent {
    let sent = this.#sent.get(stream);
    if (sent === undefined) {
      sent = { hasEnded: false, hasReset: false, known: undefined, data: 0 };
      if (stream > 0) this.#sent.set(stream, sent);
    }
    return sent;
  }

  async #until(isSo: () => boolean): Promise<void> {
    await this.#peer.until(() => {
      this.#read();
      return isSo();
    });
  }

  /** Takes in what has come. */
  #read(): void {
    for (; this.#seen < this.#peer.received.length; this.#seen++) {
      const one = this.#peer.received[this.#seen]!;
      this.#answers.add(one);
      this.#onWindows(one);
      if (one.type === Type.data && one.payload.length > 0 && this.#session.grantsWindows) {
        this.#peer.send(windowUpdate(0, one.payload.length), windowUpdate(one.streamId, one.payload.length));
      }
    }
  }

  #onWindows({ type, flags, streamId, payload }: Frame): void {
    if (type === Type.windowUpdate) {
      const by = payload.readUInt32BE(0);
      if (streamId === 0) this.#connectionWindow += by;
      else this.#granted.set(streamId, (this.#granted.get(streamId) ?? 0) + by);
    } else if (type === Type.settings && (flags & ACK) === 0) {
      for (let at = 0; at < payload.length; at += 6) {
        if (payload.readUInt16BE(at) === INITIAL_WINDOW) this.#initialWindow = payload.readUInt32BE(at + 2);
      }
    }
  }
}

function outcomeOf(answer: Answer, { hasEnded, hasReset, known }: Sent): StreamOutcome {
  const isWhole = known === "end" || (hasEnded && !hasReset);
  const hasBegun = isWhole || known !== undefined;
  const [head, trailers] = hasBegun ? blocksOf(answer, isWhole) : [[], []];
  const messages = isWhole ? answer.messages : answer.messages.slice(0, typeof known === "number" ? known : 0);
  return {
    httpStatus: valueOf(head, ":status"),
    contentType: valueOf(head, "content-type"),
    metadata: customFields(head),
    messages: messages.map(({ isCompressed, bytes }) => `${isCompressed ? "packed " : ""}${shown(bytes)}`),
    rest: isWhole ? answer.rest.toString("latin1") : "",
    status: valueOf(trailers, "grpc-status"),
    statusMessage: decodeURIComponent(valueOf(trailers, "grpc-message") ?? ""),
    trailers: customFields(trailers),
    ending: endingOf(answer, isWhole),
  };
}

function shown(bytes: Buffer): string {
  if (bytes.length <= MAX_SHOWN) return bytes.toString("hex");
  return `${bytes.length} bytes, ${createHash("sha256").update(bytes).digest("base64")}`;
}

/** What begins a response, and what ends it; where both are one block, the fields of HTTP itself are the beginning. */
function blocksOf(
  { head = [], trailers = [], messages }: Answer,
  isWhole: boolean,
): [readonly Field[], readonly Field[]] {
  if (!isWhole) return [head, []];
  if (messages.length > 0 || trailers.length > 0 || valueOf(head, "grpc-status") === undefined) return [head, trailers];
  const ofHttp = ([name]: Field): boolean => name.startsWith(":") || name === "content-type";
  return [head.filter(ofHttp), head.filter((field) => !ofHttp(field))];
}

function endingOf({ isEnded, reset }: Answer, isWhole: boolean): StreamOutcome["ending"] {
  if (!isWhole) return "left";
  // Behind its end, a reset with NO_ERROR only tells a client that nobody listens to the rest of its request.
  if (isEnded && (reset === undefined || reset === "NO_ERROR")) return "ended";
  return reset === undefined ? "open" : `reset with ${reset}`;
}

function valueOf(fields: readonly Field[], name: string): string | undefined {
  return fields.find((field) => field[0] === name)?.[1];
}

const OF_GRPC = new Set([":status", "content-type", "grpc-status", "grpc-message"]);

/** By name; values of one name in their order. */
function customFields(fields: readonly Field[]): Field[] {
  return fields
    .filter(([name]) => !OF_GRPC.has(name))
    .map(([name, value]): Field => [name, name.endsWith("-bin") ? hexOf(value) : value])
    .toSorted(([a], [b]) => (a < b ? -1 : Number(a > b)));
}

/** Base64 with or without its padding. */
function hexOf(value: string): string {
  return Buffer.from(value, "base64").toString("hex");
}

/**
 * Valid sessions of gRPC from a seeded source: calls of all kinds, side by side on one connection, whose handlers do
 * what a {@link Plan} says. Frames are cut, padded and mixed as clients may do it.
 */
import { deflateSync, gzipSync } from "node:zlib";
import type { ResponseMetadata } from "../../src/grpc/engine/engine.ts";
import type { Random } from "../chaos/random.ts";
import type { Step } from "../recordings/recording.ts";
import {
  ACK,
  DEFAULT_WINDOW,
  END_HEADERS,
  END_STREAM,
  INITIAL_WINDOW,
  MAX_WINDOW,
  PADDED,
  PREFACE,
  Type,
  field,
  frame,
  message,
  reset,
  settings,
  windowUpdate,
} from "../support/http2-peer.ts";
import type { Session } from "./player.ts";
import { PLAN, PLANNED, type Plan } from "./service.ts";

/** A session, and what has to come of its calls. */
export interface MadeSession extends Session {
  /** Ids of plans whose calls begin and are then left by the client: a reset, or the end of the connection. */
  readonly left: readonly string[];
}

const MAX_FRAME = 16_384;
/** So many bytes of window and more: fewer are no client's. */
const WINDOWS = [1_000, 20_000, DEFAULT_WINDOW, 1 << 20] as const;
/** Far away, but not so far that grpc-js takes them for the past: it counts milliseconds in 32 bits. */
const TIMEOUTS = ["500H", "30000M", "3600S", "9999999m", "99999999u"] as const;
const TEXTS = [
  "",
  "plain",
  "100% of %41 %zz",
  "grüße, ☺ 😈",
  "\t\nlines\r\nand more\n",
  '"quoted", with \\',
  "x".repeat(3_000),
];
const VALUES = ["a", "two words", "a,b", 'key="value"; more', "~!@#$%^&*()", "y".repeat(500)];
const FAILURES = [1, 2, 3, 5, 7, 8, 9, 10, 13, 14, 16] as const;

/** The same seed makes the same session; `id` begins the ids of its plans. */
export function makeSession(random: Random, id: string): MadeSession {
  const left: string[] = [];
  const waiting = Array.from({ length: random.between(1, 8) }, (_, n) => new MadeCall(random, `${id}-${n}`));
  const open: Iterator<Step>[] = [];
  const steps: Step[] = [{ send: opening(random) }, { await: { stream: 0, at: "begin" } }];
  steps.push({ send: frame(Type.settings, ACK, 0) });
  for (let nextId = 1; waiting.length + open.length > 0;) {
    let calling = random.pick(open);
    if (waiting.length > 0 && (open.length === 0 || random.chance(0.3))) {
      const call = waiting.pop()!;
      if (call.isLeft) left.push(call.plan.id);
      // Its header fields come at once: streams are opened in the order of their numbers.
      open.push((calling = call.steps(nextId)));
      nextId += random.pick([2, 2, 2, 10]);
    }
    const { done, value } = calling.next();
    if (done === true) open.splice(open.indexOf(calling), 1);
    else steps.push(value);
  }
  return { steps, left, grantsWindows: true };
}

function opening(random: Random): Buffer {
  const window = random.pick(WINDOWS);
  const more = random.chance(0.5) ? [windowUpdate(0, MAX_WINDOW >> 1)] : [];
  return Buffer.concat([PREFACE, settings([INITIAL_WINDOW, window]), ...more]);
}

const PACK = { gzip: gzipSync, deflate: deflateSync } as const;

type Kind = keyof typeof PLANNED;

/** Whether a client leaves a call: by a reset behind what it waited for, with its connection, or by a reset at once. */
type Leaving = "never" | "later" | "disconnect" | "at once";

class MadeCall {
  readonly plan: Plan;
  readonly #random: Random;
  readonly #kind: Kind;
  readonly #leaving: Leaving;
  readonly #packing: keyof typeof PACK | undefined;
  /** Of the messages that it sends. */
  readonly #sizes: readonly number[];
  /** END_STREAM went along with the last message. */
  #hasEnded = false;

  constructor(random: Random, id: string) {
    this.#random = random;
    this.#kind = random.pick(["unary", "download", "talk", "talk"]);
    this.#leaving = this.#pickLeaving();
    this.#packing = random.chance(0.3) ? random.pick(["gzip", "deflate"]) : undefined;
    const count = this.#kind === "talk" ? random.between(0, 6) : 1;
    this.#sizes = Array.from({ length: count }, () => someSize(random));
    this.plan = this.#makePlan(id);
  }

  /** Its handler begins and is told that the client left. */
  get isLeft(): boolean {
    return this.#leaving === "later" || this.#leaving === "disconnect";
  }

  /** All that the client does, in its order; between them are those of other calls. */
  *steps(stream: number): Generator<Step, undefined> {
    const random = this.#random;
    const { plan } = this;
    const isEmpty = this.#sizes.length === 0 && this.#leaving === "never" && random.chance(0.5);
    yield { send: this.#headers(stream, isEmpty) };
    if (plan.head !== undefined && this.isLeft) yield { await: { stream, at: "begin" } };
    yield* this.#messages(stream);
    if (this.#leaving === "later" || this.#leaving === "at once") yield { send: reset(stream) };
    if (this.#leaving !== "never") return undefined;
    if (plan.endsAfter !== undefined) yield { await: { stream, at: "end" } };
    else if (!isEmpty && !this.#hasEnded) yield { send: frame(Type.data, END_STREAM, stream) };
    return undefined;
  }

  *#messages(stream: number): Generator<Step> {
    const random = this.#random;
    let replies = 0;
    for (const [index, size] of this.#sizes.entries()) {
      const isLast = index === this.#sizes.length - 1;
      this.#hasEnded = isLast && this.#leaving === "never" && this.plan.endsAfter === undefined && random.chance(0.5);
      for (const send of this.#frames(stream, this.#message(size), this.#hasEnded)) yield { send };
      if (this.#kind !== "talk" || (this.plan.endsAfter ?? Infinity) <= index + 1) continue;
      replies += this.plan.replies[index]!.length;
      if (replies > 0 && (this.isLeft || random.chance(0.5))) yield { await: { stream, at: replies } };
    }
  }

  #pickLeaving(): Leaving {
    const random = this.#random;
    // Only of these calls is it certain that their handlers have begun and not yet ended.
    if (this.#kind === "talk") return random.chance(0.3) ? random.pick(["later", "disconnect", "at once"]) : "never";
    return random.chance(0.1) ? "at once" : "never";
  }

  #makePlan(id: string): Plan {
    const random = this.#random;
    const isOk = random.chance(0.6);
    const rounds = this.#kind === "talk" ? this.#sizes.length + random.between(0, 1) : 1;
    const mostReplies = this.#kind === "unary" ? 1 : this.#kind === "download" ? 12 : 3;
    // A unary call answers with a message, or fails without one.
    const leastReplies = this.#kind === "unary" ? 1 : 0;
    const count = (): number => (this.#kind === "unary" && !isOk ? 0 : random.between(leastReplies, mostReplies));
    const replies = Array.from({ length: rounds }, () => Array.from({ length: count() }, () => someSize(random)));
    const endsEarly = this.#leaving === "never" && this.#sizes.length > 0 && random.chance(0.2);
    return {
      id,
      // One that is left shows by it that its handler has begun.
      ...(this.isLeft || random.chance(0.3) ? { head: someMetadata(random, "x-head") } : {}),
      replies,
      ...(this.#kind === "talk" && endsEarly ? { endsAfter: random.between(1, this.#sizes.length) } : {}),
      pauses: random.chance(0.2),
      code: isOk ? 0 : random.pick(FAILURES),
      message: isOk ? "" : random.pick(TEXTS),
      ...(!isOk && random.chance(0.5) ? { details: someBytes(random).toString("base64") } : {}),
      trailers: random.chance(0.5) ? someMetadata(random, "x-tail") : [],
    };
  }

  #headers(stream: number, ends: boolean): Buffer {
    const random = this.#random;
    const plan = Buffer.from(JSON.stringify(this.plan)).toString("base64");
    const fields = [
      Buffer.of(0x83),
      Buffer.of(0x86),
      someField(random, ":path", PLANNED[this.#kind]),
      someField(random, ":authority", "localhost"),
      someField(random, "content-type", random.pick(["application/grpc", "application/grpc+proto"])),
      someField(random, "te", "trailers"),
      someField(random, PLAN, random.chance(0.5) ? plan : plan.replace(/=+$/, "")),
    ];
    if (this.#packing !== undefined) fields.push(someField(random, "grpc-encoding", this.#packing));
    else if (random.chance(0.2)) fields.push(someField(random, "grpc-encoding", "identity"));
    if (random.chance(0.4)) fields.push(someField(random, "grpc-timeout", random.pick(TIMEOUTS)));
    while (random.chance(0.4)) fields.push(someField(random, "x-text", random.pick(VALUES)));
    if (random.chance(0.4)) fields.push(someField(random, "x-other", random.pick(VALUES)));
    while (random.chance(0.4)) fields.push(someField(random, "x-bytes-bin", someBytes(random).toString("base64")));
    const block = Buffer.concat(fields);
    const flags = ends ? END_STREAM : 0;
    if (random.chance(0.7) && block.length <= MAX_FRAME) return frame(Type.headers, flags | END_HEADERS, stream, block);
    const at = random.between(0, Math.min(block.length, MAX_FRAME));
    return Buffer.concat([
      frame(Type.headers, flags, stream, block.subarray(0, at)),
      frame(Type.continuation, END_HEADERS, stream, block.subarray(at)),
    ]);
  }

  #message(size: number): Buffer {
    const bytes = Buffer.alloc(size, someBytes(this.#random));
    // Also where messages may be packed, each says whether it is.
    if (this.#packing === undefined || this.#random.chance(0.2)) return message(bytes);
    return message(PACK[this.#packing](bytes), 1);
  }

  /** DATA in any sizes, some of it padded. */
  #frames(stream: number, bytes: Buffer, ends: boolean): Buffer[] {
    const random = this.#random;
    const most = random.pick([7, 1_000, MAX_FRAME - 256, MAX_FRAME - 256]);
    const least = Math.ceil(bytes.length / 100);
    const frames: Buffer[] = [];
    for (let at = 0; at < bytes.length;) {
      const length = Math.min(MAX_FRAME - 256, Math.max(least, random.between(1, most)), bytes.length - at);
      const part = bytes.subarray(at, (at += length));
      const flags = ends && at === bytes.length ? END_STREAM : 0;
      const padding = random.chance(0.1) ? random.between(0, 255) : undefined;
      if (padding === undefined) frames.push(frame(Type.data, flags, stream, part));
      else frames.push(frame(Type.data, flags | PADDED, stream, padded(part, padding)));
    }
    return random.chance(0.5) ? frames : [Buffer.concat(frames)];
  }
}

function padded(part: Buffer, padding: number): Buffer {
  return Buffer.concat([Buffer.of(padding), part, Buffer.alloc(padding)]);
}

function someField(random: Random, name: string, value: string): Buffer {
  return field(name, value, random.chance(0.3) ? 0x40 : 0);
}

function someSize(random: Random): number {
  return random.between(0, random.pick([0, 10, 500, 500, 20_000, random.chance(0.1) ? 150_000 : 20]));
}

function someBytes(random: Random): Buffer {
  return Buffer.from(Array.from({ length: random.between(1, 40) }, () => random.between(0, 255)));
}

/** Names may come twice, also those with bytes. */
function someMetadata(random: Random, prefix: string): ResponseMetadata {
  return Array.from({ length: random.between(1, 4) }, () => {
    const name = `${prefix}-${random.between(1, 3)}`;
    if (random.chance(0.4)) return [`${name}-bin`, someBytes(random).toString("base64")] as const;
    return [name, random.pick(VALUES)] as const;
  });
}

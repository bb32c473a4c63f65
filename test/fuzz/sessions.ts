/** What fuzzed clients send: random frames that know what HTTP/2 and gRPC look like, and recordings with changes. */
import { gzipSync } from "node:zlib";
import type { Random } from "../chaos/random.ts";
import {
  END_HEADERS,
  END_STREAM,
  PADDED,
  PREFACE,
  Type,
  field,
  frame,
  message,
  settings,
  u32,
} from "../support/http2-peer.ts";

/** A source of bytes: each call brings whole frames (or what is left of them); undefined at the end. */
export type Session = () => Buffer | undefined;

const PRIORITY = 0x20;
/** Of a header block in one frame. */
const MAX_BLOCK = 16_000;
const PATHS = ["/test/Echo", "/test/EchoAll", "/test/Play", "/test/Many", "/test/Nothing", "/"];
const SHORT_TIMEOUT = "1n";
const METADATA: readonly (readonly [string, string])[] = [
  ["x-some", "value"],
  ["x-some-bin", "AAEC"],
  ["grpc-timeout", "10S"],
  ["grpc-timeout", SHORT_TIMEOUT],
  ["grpc-timeout", "nonsense"],
  ["grpc-encoding", "gzip"],
  ["grpc-encoding", "snappy"],
  ["content-length", "5"],
  ["x-empty", ""],
  ["connection", "close"],
  ["X-Upper", "case"],
  [":path", "/late"],
];
const INTEGERS = [0, 1, 2, 5, 100, 16_383, 16_384, 16_385, 65_535, 65_536, 0x7fffffff, 0x80000000, 0xffffffff];

/** Frames in a session at most; how much of them is broken is drawn for each session, as few of such live long. */
const MAX_FRAMES = 3000;
const MALICE = [0, 0, 0.0005, 0.005, 0.05, 0.5];

/** Random frames from a seeded source. */
export function randomSession(random: Random, hasDeadlines: boolean): Session {
  const malice = random.pick(MALICE);
  const client = new RandomClient(random, malice, hasDeadlines);
  let left = random.between(1, MAX_FRAMES);
  let isFirst = true;
  return () => {
    if (left <= 0) return undefined;
    const frames: Buffer[] = isFirst && !random.chance(malice) ? [PREFACE, client.settings()] : [];
    isFirst = false;
    for (let i = random.between(1, 60); i > 0 && left > 0; i--) {
      left -= 1;
      const made = client.next();
      frames.push(random.chance(malice) ? mutate(random, made) : made);
    }
    return Buffer.concat(frames);
  };
}

/** A recording whose frames are dropped, doubled, swapped, changed, and mixed with others. */
export function mutatedSession(random: Random, recording: readonly Buffer[], hasDeadlines: boolean): Session {
  const malice = random.pick(MALICE);
  const client = new RandomClient(random, malice, hasDeadlines);
  let at = 0;
  return () => {
    if (at >= recording.length) return undefined;
    const frames: Buffer[] = [];
    for (let i = random.between(1, 60); i > 0 && at < recording.length; i--) {
      let made = recording[at++]!;
      if (random.chance(malice)) {
        const way = random.between(0, 5);
        if (way === 0) continue;
        if (way === 1) frames.push(made);
        else if (way === 2) frames.push(recording[random.between(0, recording.length - 1)]!);
        else if (way === 3) frames.push(client.next());
        else made = mutate(random, made);
      }
      frames.push(made);
    }
    return Buffer.concat(frames);
  };
}

/** A few bytes are others, missing, or too many. */
function mutate(random: Random, bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  switch (random.between(0, 6)) {
    case 0:
      copy[random.between(0, copy.length - 1)]! ^= 1 << random.between(0, 7);
      return copy;
    case 1:
      copy[random.between(0, copy.length - 1)] = random.between(0, 255);
      return copy;
    case 2:
      return copy.subarray(0, random.between(0, copy.length));
    case 3:
      return Buffer.concat([copy, randomBytes(random, random.between(1, 20))]);
    case 4:
      // Its length, right or wrong.
      if (copy.length >= 9) copy.writeUIntBE(random.between(0, 20), 0, 3);
      return copy;
    case 5:
      if (copy.length >= 9) copy[random.pick([3, 4])] = random.between(0, 255);
      return copy;
    default:
      if (copy.length >= 9) copy.writeUInt32BE(random.pick([0, 1, 2, 3, 5, 0x7fffffff, 0xffffffff]), 5);
      return copy;
  }
}

function randomBytes(random: Random, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  for (let at = 0; at < length; at++) bytes[at] = random.between(0, 255);
  return bytes;
}

const ZEROS = Buffer.alloc(40_000);
const PACKED = message(gzipSync(Buffer.alloc(3000)), 1);
const BROKEN = message(Buffer.from("no gzip"), 1);

/** A client that mostly does what clients do. */
class RandomClient {
  readonly #random: Random;
  /** How often it does what ends a connection. */
  readonly #malice: number;
  /** Opens its windows so little that they are always used up. */
  readonly #isStingy: boolean;
  readonly #metadata: typeof METADATA;
  #nextId = 1;
  #open: number[] = [];
  /** Frames that have to follow without another between them. */
  #following: Buffer[] = [];

  constructor(random: Random, malice: number, hasDeadlines: boolean) {
    this.#random = random;
    this.#malice = malice;
    this.#isStingy = random.chance(0.3);
    this.#metadata = hasDeadlines ? METADATA : METADATA.filter(([, value]) => value !== SHORT_TIMEOUT);
  }

  next(): Buffer {
    const following = this.#following.shift();
    if (following !== undefined) return following;
    const random = this.#random;
    if (random.chance(this.#malice)) return this.#wild();
    const way = this.#open.length === 0 ? 0 : random.next();
    if (way < 0.3) return this.#call();
    if (way < 0.6) return this.#data();
    if (way < 0.75) return frame(Type.windowUpdate, 0, this.#someStream(0.5), u32(this.#increment()));
    if (way < 0.82) return frame(Type.ping, random.chance(0.2) ? 1 : 0, 0, randomBytes(random, 8));
    if (way < 0.87) return frame(Type.rstStream, 0, this.#closeOne(), u32(random.between(0, 14)));
    if (way < 0.92) return frame(Type.priority, 0, this.#someStream(0), Buffer.concat([u32(0), Buffer.of(16)]));
    if (way < 0.95) return random.chance(0.5) ? this.settings() : frame(Type.settings, 1, 0);
    if (way < 0.99)
      return frame(random.between(10, 255), random.between(0, 255), this.#someStream(0.3), Buffer.alloc(9));
    return random.chance(0.02) ? frame(Type.goaway, 0, 0, Buffer.alloc(8 + random.between(0, 9))) : this.#call();
  }

  settings(): Buffer {
    const random = this.#random;
    const values: [number, number][] = [];
    if (this.#isStingy) values.push([4, random.pick([0, 1, 100])]);
    else if (random.chance(0.3)) values.push([4, random.pick([0, 1, 100, 65_535, 65_536, 1_000_000])]);
    if (random.chance(0.1)) values.push([5, random.pick([16_384, 16_777_215])]);
    if (random.chance(0.2)) values.push([random.pick([1, 3, 6, 8, 99]), random.pick([0, 1, 4096, 100_000])]);
    return settings(...values);
  }

  /** Any type with anything in it. */
  #wild(): Buffer {
    const random = this.#random;
    const length = random.chance(0.9) ? random.between(0, 30) : random.between(0, 20_000);
    return frame(random.between(0, 9), random.between(0, 255), this.#someStream(0.3), randomBytes(random, length));
  }

  #call(): Buffer {
    const random = this.#random;
    const isTrailers = this.#open.length > 0 && random.chance(0.05);
    const id = isTrailers ? this.#closeOne() : this.#nextId;
    if (!isTrailers) this.#nextId += random.chance(0.02) ? 4 : 2;
    const flags = isTrailers || random.chance(0.1) ? END_STREAM : 0;
    if ((flags & END_STREAM) === 0) this.#open.push(id);
    // The server has ended some of them, of which this client takes no notice.
    if (this.#open.length > 40) this.#open.splice(0, 20);
    const block = isTrailers ? field("x-trailer", "1") : this.#block();
    const way = random.next();
    if (way < 0.05) {
      const priority = Buffer.concat([u32(random.pick([0, 1])), Buffer.of(1)]);
      return this.#headers(flags | PRIORITY, id, priority, block, 0);
    }
    if (way < 0.1) {
      const padding = random.between(0, 50);
      return this.#headers(flags | PADDED, id, Buffer.of(padding), block, padding);
    }
    return this.#headers(flags, id, Buffer.alloc(0), block, 0);
  }

  /** HEADERS, which others follow where the block is cut into parts. */
  #headers(flags: number, id: number, before: Buffer, block: Buffer, padding: number): Buffer {
    const random = this.#random;
    const isCut = block.length > MAX_BLOCK || random.chance(0.08);
    const first = isCut ? random.between(0, Math.min(block.length, MAX_BLOCK)) : block.length;
    for (let at = first; isCut && at <= block.length;) {
      const length = Math.min(MAX_BLOCK, random.between(0, block.length - at));
      const isLast = at + length >= block.length || this.#following.length > 20;
      const part = block.subarray(at, isLast ? at + MAX_BLOCK : at + length);
      this.#following.push(frame(Type.continuation, isLast ? END_HEADERS : 0, id, part));
      if (isLast) break;
      at += length;
    }
    const payload = Buffer.concat([before, block.subarray(0, first), Buffer.alloc(padding)]);
    return frame(Type.headers, isCut ? flags : flags | END_HEADERS, id, payload);
  }

  #block(): Buffer {
    const random = this.#random;
    const fields = [
      Buffer.of(0x83),
      Buffer.of(0x86),
      field(":path", random.pick(PATHS), random.chance(0.3) ? 0x40 : 0),
    ];
    if (!random.chance(0.03)) fields.push(field("content-type", "application/grpc", random.chance(0.3) ? 0x40 : 0));
    while (random.chance(0.3)) fields.push(field(...random.pick(this.#metadata), random.chance(0.5) ? 0x40 : 0));
    if (random.chance(0.02))
      fields.push(field("x-long", "x".repeat(random.chance(0.1) ? 20_000 : random.between(0, 3000))));
    if (random.chance(this.#malice)) fields.push(Buffer.of(0x80 | random.between(1, 70)));
    if (random.chance(0.05)) fields.push(Buffer.of(0x80 | random.between(15, 61)));
    if (random.chance(0.05)) fields.unshift(Buffer.of(0x20 | random.between(0, 30)));
    if (random.chance(this.#malice)) fields.push(randomBytes(random, random.between(1, 40)));
    return Buffer.concat(fields);
  }

  #data(): Buffer {
    const random = this.#random;
    if (this.#open.length === 0) return this.#call();
    const ends = random.chance(0.4);
    const id = ends ? this.#closeOne() : random.pick(this.#open);
    let payload = this.#payload();
    let flags = ends ? END_STREAM : 0;
    if (random.chance(0.05)) {
      flags |= PADDED;
      const padding = random.between(0, 255);
      payload = Buffer.concat([Buffer.of(padding), payload, Buffer.alloc(padding)]);
    }
    return frame(Type.data, flags, id, payload.subarray(0, 16_384));
  }

  #payload(): Buffer {
    const random = this.#random;
    const way = random.next();
    if (way < 0.5) return message(ZEROS.subarray(0, random.between(0, 300)));
    if (way < 0.6)
      return Buffer.concat([message(ZEROS.subarray(0, 10)), message(ZEROS.subarray(0, random.between(0, 99)))]);
    if (way < 0.65) return message(ZEROS.subarray(0, random.between(0, 40_000)));
    if (way < 0.8) return ZEROS.subarray(0, random.between(0, random.chance(0.1) ? 16_384 : 200));
    if (way < 0.85) return random.chance(0.2) ? BROKEN : PACKED;
    if (way < 0.9) return message(ZEROS.subarray(0, 100)).subarray(0, random.between(0, 105));
    return Buffer.alloc(0);
  }

  #increment(): number {
    const random = this.#random;
    if (random.chance(this.#malice)) return random.pick(INTEGERS);
    if (this.#isStingy) return random.between(1, 300);
    return random.between(1, random.chance(0.5) ? 100 : 100_000);
  }

  #someStream(ofConnection: number): number {
    if (this.#random.chance(ofConnection)) return 0;
    return this.#open.length === 0 ? 1 : this.#random.pick(this.#open);
  }

  #closeOne(): number {
    if (this.#open.length === 0) return 1;
    const [id] = this.#open.splice(this.#random.between(0, this.#open.length - 1), 1);
    return id!;
  }
}

/**
 * Sessions of random clients and changed recordings, one after the other, fed to connections of the native engine. Each has to
 * end in one of two ways: the connection stands and answers a PING, or it was ended with a code that RFC 9113 names. On
 * the way all that comes back has to be correct HTTP/2 within the windows that were granted; afterwards nothing may be
 * held. Some sessions are played twice, cut into other pieces: the answers have to be the same.
 */
import { Random } from "../chaos/random.ts";
import { ping } from "../support/http2-peer.ts";
import { Service } from "./service.ts";
import { type Session, mutatedSession, randomSession } from "./sessions.ts";
import { Violation, Wire } from "./wire.ts";

/** What a run does and found. */
export interface Counts {
  frames: number;
  sessions: number;
  /** How connections ended, by the code of their GOAWAY; "open" are those that stood to the end of their session. */
  readonly endings: Map<string, number>;
}

export interface FuzzOptions {
  /** Names the run: below {@link LIMIT}, and no session of one seed is one of another. */
  readonly seed: number;
  /** The session to begin with; 0 is the first. */
  readonly from?: number;
  /** Stops after the session in which so many frames were reached. */
  readonly frames: number;
  /** Frames of real clients. */
  readonly recordings: readonly (readonly Buffer[])[];
  readonly onProgress?: (counts: Counts) => void;
}

/** What a session did wrong, with the flags that play it again. */
class Finding extends Error {}

/** Seeds, and sessions of a seed, are below: one number of 32 bits is the two of them. */
export const LIMIT = 2 ** 16;

/** Sets the choices about a session apart from those in it. */
const CONTENT = 0x9e3779b9;

const SESSION_LIMIT_MS = 60_000;
const PROGRESS_EVERY = 1000;
const MIB = 1024 * 1024;

/** Runs sessions until enough frames were fed. Throws a {@link Finding}. */
export async function fuzz({ seed, from = 0, frames, recordings, onProgress }: FuzzOptions): Promise<Counts> {
  const counts: Counts = { frames: 0, sessions: 0, endings: new Map() };
  const escaped: unknown[] = [];
  const onEscape = (error: unknown): void => void escaped.push(error);
  process.on("uncaughtException", onEscape);
  try {
    for (let session = from; counts.frames < frames; session++) {
      try {
        await runSession(mix(seed, session), recordings, counts);
        if (escaped.length > 0) throw escaped[0];
      } catch (error) {
        throw new Finding(`--seeds ${seed} --from ${session}: ${(error as Error).message}`, { cause: error });
      }
      counts.sessions += 1;
      if (counts.sessions % PROGRESS_EVERY === 0) onProgress?.(counts);
    }
  } finally {
    process.off("uncaughtException", onEscape);
  }
  return counts;
}

/** Plays a recording as it is; how its connection ended. */
export async function replay(recording: readonly Buffer[]): Promise<string> {
  const frames = recording.values();
  const style = { seed: 0, limit: 64 * MIB, stuck: 0 };
  const { ending } = await play(
    () => frames.next().value,
    style,
    (bytes) => [bytes],
  );
  return ending;
}

/**
 * The state that a session's source starts from. Neighbours are far apart, and as each step can be undone (the finisher of
 * MurmurHash3), two sessions never have the same.
 */
export function mix(seed: number, session: number): number {
  const isWithin = (value: number): boolean => Number.isInteger(value) && value >= 0 && value < LIMIT;
  if (!isWithin(seed) || !isWithin(session)) {
    throw new RangeError(`seed ${seed}, session ${session}: both are whole numbers below ${LIMIT}`);
  }
  let mixed = seed * LIMIT + session;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}

async function runSession(seed: number, recordings: readonly (readonly Buffer[])[], counts: Counts): Promise<void> {
  const random = new Random(seed);
  const isRandom = recordings.length === 0 || random.chance(0.7);
  const isTwice = random.chance(0.1);
  const recording = isRandom ? [] : random.pick(recordings);
  // Deadlines end calls when a clock says so: not twice at the same place.
  const open = (): Session => {
    const source = new Random(seed ^ CONTENT);
    return isRandom ? randomSession(source, !isTwice) : mutatedSession(source, recording, !isTwice);
  };
  const style = { limit: random.pick([MIB / 4, 64 * MIB]), stuck: isTwice ? 0 : random.pick([0, 0, 0.2]), seed };
  const first = await play(open(), style, (bytes) => [bytes]);
  counts.frames += first.frames;
  counts.endings.set(first.ending, (counts.endings.get(first.ending) ?? 0) + 1);
  if (!isTwice) return;
  const second = await play(open(), style, (bytes) => pieces(random, bytes));
  counts.frames += second.frames;
  if (second.transcript === first.transcript) return;
  throw new Violation(`in other pieces it is answered otherwise:\n${difference(first.transcript, second.transcript)}`);
}

interface Style {
  readonly seed: number;
  /** Of both budgets, in bytes. */
  readonly limit: number;
  /** How often the client stops reading. */
  readonly stuck: number;
}

interface Played {
  readonly frames: number;
  readonly ending: string;
  readonly transcript: string;
}

async function play(session: Session, style: Style, cut: (bytes: Buffer) => Buffer[]): Promise<Played> {
  const random = new Random(style.seed);
  const service = new Service(style.seed, style.limit);
  const wire = new Wire();
  const connection = service.connect(wire);
  const started = performance.now();
  for (let bytes = session(); bytes !== undefined && !isOver(wire); bytes = session()) {
    if (random.chance(style.stuck)) wire.isStuck = true;
    if (bytes.length > 0) wire.feed(bytes, cut(bytes));
    await turn();
    service.turn();
    if (wire.isStuck && random.chance(0.3)) wire.unstick();
    if (performance.now() - started > SESSION_LIMIT_MS) throw new Violation("a session takes more than a minute");
  }
  wire.unstick();
  await turn();
  if (!isOver(wire) && wire.isBetweenFrames) await probe(wire);
  const { frames, ending = wire.destroyed ? "cut" : "open", transcript } = wire;
  connection.destroy();
  await turn();
  await turn();
  service.verifyEnd();
  const { length: left } = connection.openStreams;
  if (left > 0) throw new Violation(`${left} streams stay`);
  return { frames, ending, transcript };
}

function isOver(wire: Wire): boolean {
  return wire.destroyed || wire.writableEnded || (wire.ending ?? "NO_ERROR") !== "NO_ERROR";
}

/** A connection that stands answers. */
async function probe(wire: Wire): Promise<void> {
  const before = wire.pingsAnswered;
  wire.feed(ping());
  for (let turns = 0; turns < 10 && wire.pingsAnswered === before && !isOver(wire); turns++) await turn();
  if (wire.pingsAnswered === before && !isOver(wire)) throw new Violation("a PING has no answer");
}

async function turn(): Promise<void> {
  await new Promise(setImmediate);
}

function pieces(random: Random, bytes: Buffer): Buffer[] {
  const cuts: Buffer[] = [];
  const most = random.pick([1, 10, 300, 20_000]);
  // Byte by byte only what is short.
  const least = Math.ceil(bytes.length / 20_000);
  for (let at = 0; at < bytes.length;) {
    const length = Math.max(least, random.between(1, most));
    cuts.push(bytes.subarray(at, at + length));
    at += length;
  }
  return cuts;
}

const SHOWN = 300;

function difference(first: string, second: string): string {
  let at = 0;
  while (at < first.length && first[at] === second[at]) at += 1;
  const from = Math.max(0, at - SHOWN / 3);
  return `${first.slice(from, from + SHOWN)}\n--\n${second.slice(from, from + SHOWN)}`;
}

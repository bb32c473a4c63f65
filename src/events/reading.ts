/**
 * One reading of a stream, forward: what is stored when it begins, and with `follow` what is stored from then on.
 *
 *     reading ──what was stored is sent──▶ over, or with `follow`: following ──limit, stream deleted──▶ over
 *
 * How far it has to go is the last sequence that the stream's leader had when it began. Who answers the walk may be behind
 * the leader: where it has nothing further before that, the leader is asked whether that is so, and believed only when it is
 * certain.
 */
import type { WindshiftError } from "../errors.ts";
import { lookTwice } from "../nats/certain-read.ts";
import type { Reader } from "../nats/get.ts";
import type { Walk, WalkHandler, WalkedMessage } from "../nats/walk.ts";
import { type StoredEvent, readWalkedEvent, storedAt } from "./event.ts";
import { isHidden } from "./hidden.ts";
import { type Timestamp, isBefore } from "./timestamp.ts";

/** Told about a reading. On the hot path: must not throw. */
export interface ReadListener {
  onEvent(event: StoredEvent): void;
  /** With `follow`: all that was stored when it began has been told; `lastId` is the stream's last one of then. */
  onCaughtUp(lastId: number): void;
  /** Nothing more comes; undefined: everything that was asked for came. Not called after `close`. */
  onEnded(error: WindshiftError | undefined): void;
}

/** A reading that goes on by itself until it has ended or is closed. */
export interface Reading {
  /** The client does not read: nothing further is asked for. */
  pause(): void;
  resume(): void;
  close(): void;
}

/** What to read, made up. */
export interface ReadRange {
  readonly stream: string;
  /** None: all. */
  readonly filters: readonly string[];
  /** The stream's last sequence when the reading began. */
  readonly last: number;
  /** Where it begins. */
  readonly from: number;
  /** Nothing that was stored earlier is wanted, whatever its sequence. */
  readonly since: Timestamp | undefined;
  /** Infinity for none. */
  readonly limit: number;
  readonly follow: boolean;
}

/** Before it asks the leader once more whether all has come. */
const MIN_LOOK_MS = 50;
const MAX_LOOK_MS = 2_000;
const DEADLINE_MS = 10_000;

/** A forward reading. */
export class ForwardReading implements Reading, WalkHandler {
  readonly #range: ReadRange;
  readonly #reader: Reader;
  readonly #listener: ReadListener;
  #walk: Walk | undefined;
  /** The last sequence that was met. */
  #position: number;
  #since: Timestamp | undefined;
  #left: number;
  #hasCaughtUp = false;
  #isOver = false;
  #isLooking = false;
  #isPaused = false;
  #lookMs = MIN_LOOK_MS;
  #timer: NodeJS.Timeout | undefined;

  constructor(range: ReadRange, reader: Reader, listener: ReadListener) {
    this.#range = range;
    this.#reader = reader;
    this.#listener = listener;
    this.#position = range.from - 1;
    this.#since = range.since;
    this.#left = range.limit;
  }

  /** Begins. Where there is something to walk through, `walk` begins that. */
  async start(walk: () => Promise<Walk>): Promise<void> {
    if (this.#position >= this.#range.last) this.#reached();
    if (this.#isOver) return;
    this.#walk = await walk();
    if (this.#isOver) this.#walk.close();
    else if (this.#isPaused) this.#walk.pause();
    this.#lookLater();
  }

  get wanted(): number {
    const { follow, last } = this.#range;
    return follow ? this.#left : Math.min(this.#left, last - this.#position);
  }

  pause(): void {
    this.#isPaused = true;
    this.#walk?.pause();
  }

  resume(): void {
    this.#isPaused = false;
    this.#walk?.resume();
  }

  close(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#walk?.close();
  }

  onMessage(sequence: number, time: string, message: WalkedMessage): void {
    if (this.#isOver) return;
    this.#position = sequence;
    this.#lookMs = MIN_LOOK_MS;
    if (sequence > this.#range.last) this.#reached();
    if (!this.#isOver && this.#isWanted(time)) this.#tell(readWalkedEvent(sequence, time, message));
    if (sequence >= this.#range.last) this.#reached();
  }

  onIdle(): void {
    if (!this.#hasCaughtUp && !this.#isOver) void this.#look();
  }

  onEnded(error: WindshiftError): void {
    this.#end(error);
  }

  #isWanted(time: string): boolean {
    if (this.#since === undefined) return true;
    if (isBefore(storedAt(time), this.#since)) return false;
    this.#since = undefined;
    return true;
  }

  #tell(event: StoredEvent): void {
    if (isHidden(event.subject, event.headers)) return;
    this.#listener.onEvent(event);
    this.#left -= 1;
    if (this.#left <= 0) this.#end(undefined);
  }

  /** What was stored at the beginning is behind us. */
  #reached(): void {
    if (this.#hasCaughtUp || this.#isOver) return;
    this.#hasCaughtUp = true;
    clearTimeout(this.#timer);
    if (this.#range.follow) this.#listener.onCaughtUp(this.#range.last);
    else this.#end(undefined);
  }

  #end(error: WindshiftError | undefined): void {
    if (this.#isOver) return;
    this.close();
    this.#listener.onEnded(error);
  }

  /** However it comes about that nothing more comes before the end: one looks. */
  #lookLater(): void {
    if (this.#hasCaughtUp || this.#isOver) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (this.#isPaused) this.#lookLater();
      else void this.#look();
    }, this.#lookMs);
    this.#lookMs = Math.min(MAX_LOOK_MS, this.#lookMs * 2);
  }

  /** Asks the leader whether anything that matches is stored between here and the end. */
  async #look(): Promise<void> {
    if (this.#isLooking) return;
    this.#isLooking = true;
    const position = this.#position;
    const isBehind = await this.#isLeft(position).catch(() => true);
    this.#isLooking = false;
    if (this.#isOver || this.#hasCaughtUp) return;
    if (isBehind) this.#lookLater();
    else this.#reached();
  }

  async #isLeft(position: number): Promise<boolean> {
    const { stream, last } = this.#range;
    const deadlineMs = Date.now() + DEADLINE_MS;
    const look = async (): Promise<bigint | undefined> => this.#next(position, deadlineMs);
    const next = await lookTwice(this.#reader, stream, BigInt(last), deadlineMs, look);
    return next !== undefined && next <= BigInt(last);
  }

  /** A sequence that proves whether anything is left: one that is, or for each filter one behind the end. */
  async #next(position: number, deadlineMs: number): Promise<bigint | undefined> {
    const { stream, filters, last } = this.#range;
    let behind: bigint | undefined;
    let isProven = true;
    for (const filter of filters.length === 0 ? [">"] : filters) {
      const next = await this.#reader.firstAfter(stream, filter, BigInt(position), deadlineMs);
      if (next === undefined) isProven = false;
      else if (next.sequence <= BigInt(last)) return next.sequence;
      else behind = next.sequence;
    }
    return isProven ? behind : undefined;
  }
}

/**
 * One reading of a stream from a place back to its start. JetStream goes forward only, so it is read in pieces, the last
 * one first, each of which is turned round. How long a piece is follows from how much was found in those before it.
 */
import type { WindshiftError } from "../errors.ts";
import type { StoredEvent } from "./event.ts";
import type { ReadListener, ReadRange, Reading } from "./reading.ts";

/** What to read, made up. */
export interface BackwardRange extends Pick<ReadRange, "stream" | "filters" | "limit"> {
  /** The stream's first sequence. */
  readonly first: number;
  /** Where it begins, to go down. */
  readonly to: number;
  /** Size of a message of the stream, on average. */
  readonly messageBytes: number;
}

/** What a piece may hold. */
const MAX_EVENTS = 500;
const MAX_BYTES = 1024 * 1024;
/** A piece with so many times as much is given up for a shorter one. */
const MAX_EXCESS = 4;
/** From an empty piece to the next. */
const GROWTH = 8;

/** A backward reading. */
export class BackwardReading implements Reading {
  readonly #range: BackwardRange;
  readonly #begin: (piece: ReadRange, listener: ReadListener) => Promise<Reading>;
  readonly #listener: ReadListener;
  /** Everything above was told. */
  #to: number;
  /** How many sequences the next piece has. */
  #length: number;
  #left: number;
  #piece: Piece | undefined;
  /** Of the piece at hand: what was not told, the next one last. */
  #waiting: StoredEvent[] = [];
  #isPaused = false;
  #isOver = false;

  /** `begin` begins to read one piece. */
  constructor(
    range: BackwardRange,
    begin: (piece: ReadRange, listener: ReadListener) => Promise<Reading>,
    listener: ReadListener,
  ) {
    this.#range = range;
    this.#begin = begin;
    this.#listener = listener;
    this.#to = range.to;
    this.#left = range.limit;
    const fitting = Math.ceil(MAX_BYTES / Math.max(1, range.messageBytes));
    this.#length = Math.min(MAX_EVENTS, fitting, range.limit);
  }

  /** Begins; rejects where the first piece cannot be read. */
  async start(): Promise<void> {
    await this.#next();
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    // What is being read will be told when it is there.
    if (this.#piece === undefined) this.#tell();
  }

  close(): void {
    this.#isOver = true;
    this.#piece?.close();
    this.#waiting = [];
  }

  async #next(): Promise<void> {
    const { stream, filters, first } = this.#range;
    if (this.#to < first) {
      this.#end(undefined);
      return;
    }
    const from = Math.max(first, this.#to - this.#length + 1);
    const range = { stream, filters, from, last: this.#to, since: undefined, limit: Infinity, follow: false };
    const piece = new Piece(from, (error) => this.#read(piece, error));
    this.#piece = piece;
    piece.reading = await this.#begin(range, piece);
    if (this.#isOver) piece.close();
  }

  /** A piece is there. */
  #read(piece: Piece, error: WindshiftError | undefined): void {
    if (this.#isOver || piece !== this.#piece) return;
    this.#piece = undefined;
    if (error !== undefined) {
      this.#end(error);
      return;
    }
    const count = piece.events.length;
    if (piece.isExcessive) {
      this.#length = Math.max(1, Math.floor(this.#length / GROWTH));
    } else {
      this.#to = piece.from - 1;
      this.#waiting = piece.events;
      if (piece.isCut) this.#length = Math.max(1, count);
      else if (count === 0) this.#length *= GROWTH;
      else if (count < MAX_EVENTS / 2 && piece.bytes < MAX_BYTES / 2) this.#length *= 2;
    }
    this.#tell();
  }

  #tell(): void {
    while (this.#waiting.length > 0 && !this.#isPaused && !this.#isOver) {
      this.#listener.onEvent(this.#waiting.pop()!);
      this.#left -= 1;
      if (this.#left <= 0) this.#end(undefined);
    }
    if (this.#waiting.length > 0 || this.#isPaused || this.#isOver) return;
    this.#next().catch((error: WindshiftError) => this.#end(error));
  }

  #end(error: WindshiftError | undefined): void {
    if (this.#isOver) return;
    this.close();
    this.#listener.onEnded(error);
  }
}

/** Gathers the events of one piece: the last ones, where there are too many. */
class Piece implements ReadListener {
  readonly #onRead: (error: WindshiftError | undefined) => void;
  events: StoredEvent[] = [];
  bytes = 0;
  /** All events from this sequence on are there. */
  from: number;
  /** There were more. */
  isCut = false;
  /** There are so many more that one had better begin further up. */
  isExcessive = false;
  #excess = 0;
  #reading: Reading | undefined;

  constructor(from: number, onRead: (error: WindshiftError | undefined) => void) {
    this.from = from;
    this.#onRead = onRead;
  }

  set reading(reading: Reading) {
    this.#reading = reading;
    if (this.isExcessive) reading.close();
  }

  onEvent(event: StoredEvent): void {
    // A copy: the piece may wait for its client, and is not to keep all that came along with it.
    this.events.push({ ...event, payload: Buffer.from(event.payload) });
    this.bytes += event.bytes;
    while (this.events.length > 1 && (this.events.length > MAX_EVENTS || this.bytes > MAX_BYTES)) {
      const { id, bytes } = this.events.shift()!;
      this.isCut = true;
      this.from = id + 1;
      this.bytes -= bytes;
      this.#excess += 1 / MAX_EVENTS + bytes / MAX_BYTES;
    }
    if (this.#excess <= MAX_EXCESS || this.isExcessive) return;
    this.isExcessive = true;
    this.close();
    this.#onRead(undefined);
  }

  onCaughtUp(): void {
    // Pieces have an end.
  }

  onEnded(error: WindshiftError | undefined): void {
    if (!this.isExcessive) this.#onRead(error);
  }

  close(): void {
    this.#reading?.close();
  }
}

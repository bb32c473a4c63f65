/** Reading events of a stream without a consumer that remembers anything. */
import type { StreamInfo } from "@nats-io/jetstream";
import { fieldError } from "../errors.ts";
import { checkName } from "../names.ts";
import type { ApiCall } from "../nats/api.ts";
import { ConsumerWalk, type WalkContext } from "../nats/consumer-walk.ts";
import { lookTwice } from "../nats/certain-read.ts";
import type { Reader, StoredMessage } from "../nats/get.ts";
import { GetWalk } from "../nats/get-walk.ts";
import type { Walk, WalkHandler, WalkSource } from "../nats/walk.ts";
import { BackwardReading } from "./backward-reading.ts";
import { checkFilters, matches } from "./filters.ts";
import { ForwardReading, type ReadListener, type ReadRange, type Reading } from "./reading.ts";
import type { StreamPointer } from "./stream-pointer.ts";
import { type Timestamp, isBefore, parseTimestamp } from "./timestamp.ts";

/** What to read. */
export interface ReadSpec {
  readonly stream: string;
  /** None: all. */
  readonly subjects: readonly string[];
  /** Undefined: the start, or the end where it goes backward. */
  readonly from: StreamPointer | undefined;
  /** 0: none. */
  readonly limit: bigint;
  readonly follow: boolean;
  readonly backward: boolean;
}

/** Reads streams. */
export class EventReader {
  readonly #context: WalkContext;
  readonly #reader: Reader;

  constructor(context: WalkContext, reader: Reader) {
    this.#context = context;
    this.#reader = reader;
  }

  /**
   * Begins to read; rejects where that cannot be. The listener may hear of events, and of the end, before it resolves.
   */
  async read(spec: ReadSpec, listener: ReadListener, call: ApiCall): Promise<Reading> {
    checkSpec(spec);
    return this.#context.api.inTurn(call, async () => this.#begin(spec, listener, call));
  }

  async #begin(spec: ReadSpec, listener: ReadListener, call: ApiCall): Promise<Reading> {
    const info = await this.#context.api.streamInfo(spec.stream, call);
    const limit = spec.limit === 0n ? Infinity : Number(spec.limit);
    return spec.backward
      ? this.#beginBackward(info, spec, limit, listener, call)
      : this.#beginForward(info, spec, limit, listener, call);
  }

  async #beginForward(
    info: StreamInfo,
    { stream, subjects: filters, from = { kind: "start" }, follow }: ReadSpec,
    limit: number,
    listener: ReadListener,
    call: ApiCall,
  ): Promise<Reading> {
    const first = await this.#resolve(info, from);
    const since = from.kind === "time" ? from.time : undefined;
    const range = { stream, filters, last: info.state.last_seq, from: first, since, limit, follow };
    const reading = new ForwardReading(range, this.#reader, listener);
    await reading.start(async () => this.#walk({ info, filters, from: first }, reading, call));
    return reading;
  }

  async #beginBackward(
    info: StreamInfo,
    { stream, subjects: filters, from = { kind: "end" } }: ReadSpec,
    limit: number,
    listener: ReadListener,
    call: ApiCall,
  ): Promise<Reading> {
    const { state } = info;
    const first = Math.max(1, state.first_seq);
    const to = Math.min(state.last_seq, await this.#resolveBackward(info, from));
    const messageBytes = state.bytes / Math.max(1, state.messages);
    let isFirst = true;
    const begin = async (piece: ReadRange, gatherer: ReadListener): Promise<ForwardReading> => {
      const firstCall = isFirst ? call : undefined;
      isFirst = false;
      const reading = new ForwardReading(piece, this.#reader, gatherer);
      await reading.start(async () => this.#walk({ info, filters, from: piece.from }, reading, firstCall));
      return reading;
    };
    const reading = new BackwardReading({ stream, filters, first, to, limit, messageBytes }, begin, listener);
    await reading.start();
    return reading;
  }

  /** A walk that begins now, or without a call that would hear of it, as soon as it can. */
  async #walk(source: WalkSource, handler: WalkHandler, call: ApiCall | undefined): Promise<Walk> {
    if (source.info.config.retention !== "limits") {
      return new GetWalk(
        { ...this.#context, reader: this.#reader },
        source,
        (subject) => source.filters.some((filter) => matches(filter, subject)),
        handler,
      );
    }
    if (call === undefined) return ConsumerWalk.beginSometime(this.#context, source, handler);
    return ConsumerWalk.begin(this.#context, source, handler, call);
  }

  /** The last sequence that is not behind the place. */
  async #resolveBackward(info: StreamInfo, from: StreamPointer): Promise<number> {
    const { first_seq: first, last_seq: last } = info.state;
    switch (from.kind) {
      case "start":
        return first;
      case "end":
        return last;
      case "offset":
        return Number(from.offset);
      case "time":
        return (await this.#firstSince(info.config.name, justAfter(from.time), first, last)) - 1;
    }
  }

  /** The first sequence that is not before the place. */
  async #resolve({ config, state }: StreamInfo, from: StreamPointer): Promise<number> {
    switch (from.kind) {
      case "start":
        return Math.max(1, state.first_seq);
      case "end":
        return state.last_seq + 1;
      case "offset":
        return Math.max(state.first_seq, Number(from.offset));
      case "time":
        return this.#firstSince(config.name, from.time, state.first_seq, state.last_seq);
    }
  }

  /** Of the messages from `first` to `last` the first one that was stored at that time or later; behind `last`: none. */
  async #firstSince(stream: string, time: Timestamp, first: number, last: number): Promise<number> {
    let [low, high] = [first, last + 1];
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      const met = await this.#firstFrom(stream, middle);
      const metAt = met === undefined ? undefined : parseTimestamp(met.time);
      if (metAt === undefined || !isBefore(metAt, time)) high = middle;
      else low = Number(met!.sequence) + 1;
    }
    return Math.max(1, low);
  }

  /** That there is none has to be certain: what comes later would be left out. */
  async #firstFrom(stream: string, sequence: number): Promise<StoredMessage | undefined> {
    const deadlineMs = Date.now() + DEADLINE_MS;
    const look = async (): Promise<StoredMessage | undefined> =>
      this.#reader.firstAfter(stream, ">", BigInt(sequence - 1), deadlineMs);
    return lookTwice(this.#reader, stream, BigInt(sequence), deadlineMs, look);
  }
}

const DEADLINE_MS = 10_000;

function justAfter({ seconds, nanos }: Timestamp): Timestamp {
  return nanos === 999_999_999 ? { seconds: seconds + 1, nanos: 0 } : { seconds, nanos: nanos + 1 };
}

function checkSpec({ stream, subjects, follow, backward }: ReadSpec): void {
  checkName("stream", stream);
  checkFilters("subjects", subjects);
  if (backward && follow) throw fieldError("CONFLICTING_FIELDS", "backward", "cannot be combined with follow");
}

/** Where in a stream a pointer leads, as a sequence. */
import { type StreamPointer } from "../events/stream-pointer.ts";
import { type Timestamp, parseTimestamp } from "../events/timestamp.ts";
import type { ApiCall, JetStreamApi } from "../nats/api.ts";
import type { Reader } from "../nats/get.ts";

/** A place in a stream. */
export interface Place {
  /** Of the first event from there on; beyond the end, of the one that will be. */
  readonly seq: number;
  readonly isStart: boolean;
  readonly isWorkQueue: boolean;
}

const DEFAULT_DEADLINE_MS = 30_000;

/** Where a pointer leads now. */
export async function placeOf(
  api: JetStreamApi,
  reader: Reader,
  stream: string,
  to: StreamPointer,
  call: ApiCall,
): Promise<Place> {
  const { state, config } = await api.streamInfo(stream, call);
  const isWorkQueue = config.retention === "workqueue";
  const end = state.last_seq + 1;
  switch (to.kind) {
    case "start":
      return { seq: 1, isStart: true, isWorkQueue };
    case "end":
      return { seq: end, isStart: false, isWorkQueue };
    case "offset":
      return { seq: Number(to.offset), isStart: false, isWorkQueue };
    case "time": {
      const { deadlineMs = Date.now() + DEFAULT_DEADLINE_MS } = call;
      const first = Math.max(1, state.first_seq);
      return { seq: await sequenceAt(reader, stream, to.time, first, end, deadlineMs), isStart: false, isWorkQueue };
    }
  }
}

/** The first sequence from `low` to `high` whose event was stored at that time or later; they are stored in order of time. */
async function sequenceAt(
  reader: Reader,
  stream: string,
  time: Timestamp,
  low: number,
  high: number,
  deadlineMs: number,
): Promise<number> {
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const found = await reader.firstAfter(stream, ">", BigInt(middle - 1), deadlineMs);
    const stored = found === undefined ? undefined : parseTimestamp(found.time);
    if (found === undefined || stored === undefined || !isBefore(stored, time)) high = middle;
    else low = Number(found.sequence) + 1;
  }
  return low;
}

function isBefore(a: Timestamp, b: Timestamp): boolean {
  return a.seconds < b.seconds || (a.seconds === b.seconds && a.nanos < b.nanos);
}

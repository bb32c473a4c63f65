import { expect, test } from "vitest";
import { BackwardReading } from "../../../src/events/backward-reading.ts";
import type { StoredEvent } from "../../../src/events/event.ts";
import type { ReadListener, ReadRange, Reading } from "../../../src/events/reading.ts";

const EVENTS = 300;
const HEADER_BYTES = 64 * 1024;

/** An event that has all its bytes in its headers. */
function eventOf(id: number): StoredEvent {
  return {
    id,
    subject: "s.a",
    headers: {} as StoredEvent["headers"],
    publishedAt: { seconds: 0, nanos: 0 },
    payload: Buffer.alloc(0),
    bytes: HEADER_BYTES,
  };
}

/** Reads events of a stream that has all of them, until it is closed. */
async function readForward({ from, last }: ReadRange, listener: ReadListener): Promise<Reading> {
  let isClosed = false;
  setImmediate(() => {
    for (let id = from; id <= last && !isClosed; id++) listener.onEvent(eventOf(id));
    if (!isClosed) listener.onEnded(undefined);
  });
  return { pause: () => undefined, resume: () => undefined, close: () => (isClosed = true) };
}

test("a piece holds no more than 1 MiB, headers included", async () => {
  const pieces: number[][] = [];
  await new Promise<void>((resolve, reject) => {
    // On average the messages of the stream are small.
    const range = { stream: "s", filters: [], limit: Infinity, first: 1, to: EVENTS, messageBytes: 1 };
    const begin = async (piece: ReadRange, listener: ReadListener): Promise<Reading> => {
      pieces.push([]);
      return readForward(piece, listener);
    };
    const reading = new BackwardReading(range, begin, {
      onEvent: ({ id }) => pieces.at(-1)!.push(id),
      onCaughtUp: () => undefined,
      onEnded: (error) => (error === undefined ? resolve() : reject(error)),
    });
    reading.start().catch(reject);
  });
  expect(pieces.flat()).toEqual(Array.from({ length: EVENTS }, (_, n) => EVENTS - n));
  expect(Math.max(...pieces.map(({ length }) => length)) * HEADER_BYTES).toBeLessThanOrEqual(1024 * 1024);
});

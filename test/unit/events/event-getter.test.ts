import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { EventGetter } from "../../../src/events/event-getter.ts";
import type { ReadListener, Reading } from "../../../src/events/reading.ts";
import type { StoredMessage } from "../../../src/nats/get.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** Published again for one consumer, so not shown. */
const HIDDEN: StoredMessage = {
  sequence: 2n,
  subject: "s.a",
  time: "2026-01-01T00:00:00Z",
  headers: Buffer.from("NATS/1.0\r\nWS-Replay-Consumer: s/c\r\n\r\n"),
  payload: Buffer.from("again"),
};

/** Gets the last event of a subject, within a second; `begin` is when the stream begins to be looked through. */
function getLast(begin: Promise<void>) {
  const ended: string[] = [];
  let isClosed = false;
  const listeners: ReadListener[] = [];
  const reading: Reading = { pause: () => undefined, resume: () => undefined, close: () => void (isClosed = true) };
  const getter = new EventGetter(
    { get: (_stream, _query, _deadlineMs, listener) => listener.onFound(HIDDEN) },
    {
      read: async (_spec, listener) => {
        listeners.push(listener);
        await begin;
        return reading;
      },
    },
  );
  getter.get("s", { kind: "last_of_subject", subject: "s.a" }, Date.now() + 1_000, {
    onEvent: ({ id }) => ended.push(`event ${id}`),
    onFailed: ({ reason }) => ended.push(reason),
  });
  return { ended, listener: listeners[0]!, isClosed: () => isClosed };
}

test("the last event that is shown is looked for no longer than the call lasts", async () => {
  const { ended, listener, isClosed } = getLast(Promise.resolve());
  await vi.advanceTimersByTimeAsync(999);
  expect({ ended, isClosed: isClosed() }).toEqual({ ended: [], isClosed: false });
  await vi.advanceTimersByTimeAsync(1);
  expect({ ended, isClosed: isClosed() }).toEqual({ ended: ["DEADLINE_EXCEEDED"], isClosed: true });
  listener.onEnded(undefined);
  expect(ended).toHaveLength(1);
});

test("what begins to be looked through later is closed at once", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  const { ended, isClosed } = getLast(promise);
  await vi.advanceTimersByTimeAsync(1_000);
  expect({ ended, isClosed: isClosed() }).toEqual({ ended: ["DEADLINE_EXCEEDED"], isClosed: false });
  resolve();
  await vi.advanceTimersByTimeAsync(0);
  expect(isClosed()).toBe(true);
});

test("what is found in time is the answer", async () => {
  const { ended, listener } = getLast(Promise.resolve());
  listener.onEnded(undefined);
  await vi.advanceTimersByTimeAsync(2_000);
  expect(ended).toEqual(["EVENT_NOT_FOUND"]);
});

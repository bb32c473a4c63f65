import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Reader, StoredMessage } from "../../../src/nats/get.ts";
import { RefusedWrite } from "../../../src/nats/refused-write.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

interface Seen {
  /** Sequence of the last message; 0: there is none. */
  readonly last: number;
  /** It is a deletion. */
  readonly isNone?: boolean;
  /** Of the whole stream. */
  readonly lastSequence?: number;
  readonly isFollowed?: boolean;
}

function refused(expected: bigint, seen: Seen, deadlineMs = Infinity): RefusedWrite {
  const { last, isNone = false, lastSequence = 100, isFollowed = true } = seen;
  const message = { sequence: BigInt(last) } as StoredMessage;
  const reader: Pick<Reader, "lastOf" | "progress"> = {
    lastOf: async () => (last === 0 ? undefined : message),
    progress: async () => ({ lastSequence: BigInt(lastSequence), isEmpty: false, isFollowed }),
  };
  return new RefusedWrite(reader as Reader, { stream: "s", subject: "a", expected, deadlineMs }, () => isNone);
}

/** Runs promises and timers until the look has ended. */
async function next(write: RefusedWrite, expected: bigint): Promise<bigint | undefined> {
  const result = write.next(expected);
  await vi.advanceTimersByTimeAsync(100);
  return result;
}

test.for<readonly [what: string, expected: bigint, seen: Seen, next: bigint | undefined]>([
  ["what was expected is there: again", 5n, { last: 5 }, 5n],
  ["something later is there: no", 5n, { last: 6 }, undefined],
  ["something later is there, whoever says so: no", 5n, { last: 6, lastSequence: 6, isFollowed: false }, undefined],
  ["something earlier, by a leader that has come further: no", 5n, { last: 4, isFollowed: false }, undefined],
  ["something earlier, by a leader with followers: no", 5n, { last: 4, lastSequence: 4 }, undefined],
  ["something earlier, by a leader without followers: again", 5n, { last: 4, lastSequence: 4, isFollowed: false }, 5n],
  ["nothing, by a leader without followers: again", 5n, { last: 0, lastSequence: 4, isFollowed: false }, 5n],
  ["nothing was expected, nothing is there: again", 0n, { last: 0 }, 0n],
  ["nothing was expected, a deletion is there: over it", 0n, { last: 7, isNone: true }, 7n],
  ["nothing was expected, something is there: no", 0n, { last: 7 }, undefined],
])("%s", async ([, expected, seen, result]) => {
  expect(await next(refused(expected, seen), expected)).toBe(result);
});

test("pauses grow to 50 ms, and no two writes keep step", async () => {
  const write = refused(5n, { last: 5 });
  const pauses: number[] = [];
  for (let attempt = 0; attempt < 10; attempt++) {
    const start = Date.now();
    const result = write.next(5n).then(() => pauses.push(Date.now() - start));
    await vi.advanceTimersToNextTimerAsync();
    await result;
  }
  expect(Math.max(...pauses.slice(0, 3))).toBeLessThanOrEqual(4);
  expect(Math.max(...pauses)).toBeLessThanOrEqual(50);
  expect(Math.min(...pauses.slice(6))).toBeGreaterThanOrEqual(24);
  expect(new Set(pauses).size).toBeGreaterThan(3);
});

test("a deletion is written over without a pause, and with one when that was refused too", async () => {
  const write = refused(0n, { last: 7, isNone: true });
  expect(await write.next(0n)).toBe(7n);
  const again = write.next(7n);
  await vi.advanceTimersByTimeAsync(0);
  expect(vi.getTimerCount()).toBe(1);
  await vi.advanceTimersByTimeAsync(10);
  expect(await again).toBe(7n);
});

test("it ends before the deadline, not stored, and may be repeated", async () => {
  const write = refused(5n, { last: 5 }, Date.now() + 200);
  const looks = async (): Promise<unknown> => {
    try {
      for (;;) await write.next(5n);
    } catch (error) {
      return error;
    }
  };
  const start = Date.now();
  let endedAt = 0;
  const end = looks().finally(() => {
    endedAt = Date.now();
  });
  await vi.advanceTimersByTimeAsync(1_000);
  expect(await end).toMatchObject({
    reason: "NO_LEADER",
    outcome: "not_stored",
    retryAfterMs: 500,
    metadata: { stream: "s" },
  });
  expect(endedAt - start).toBeLessThanOrEqual(200);
});

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { lookAfter, readStored } from "../../../src/nats/certain-read.ts";
import type { Progress, Reader, StoredMessage } from "../../../src/nats/get.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** Reads message 5; `answers` are what one look after the other finds, `first` is the first message of the stream. */
async function read(
  answers: readonly (bigint | undefined)[],
  { first, ...progress }: Partial<Progress> & { readonly first?: bigint } = {},
  patienceMs = 10_000,
): Promise<bigint | string | undefined> {
  const message = (sequence: bigint | undefined) =>
    sequence === undefined ? undefined : ({ sequence } as StoredMessage);
  const left = [...answers];
  const reader: Pick<Reader, "firstAfter" | "progress"> = {
    firstAfter: async (_stream, _subject, after) => message(after === 4n ? left.shift() : first),
    progress: async () => ({ lastSequence: 5n, isEmpty: false, isFollowed: true, ...progress }),
  };
  const result = readStored(reader as Reader, "s", 5n, Date.now() + patienceMs).then(
    (found) => found?.sequence,
    (error: { reason: string }) => error.reason,
  );
  await vi.runAllTimersAsync();
  expect(left).toEqual([]);
  return result;
}

test.for<readonly [what: string, Parameters<typeof read>, result: bigint | string | undefined]>([
  ["what is there is found", [[5n]], 5n],
  ["a later one in its place proves that it is gone", [[6n]], undefined],
  ["what was not there at the first look, and is at the second, is found", [[undefined, 5n]], 5n],
  ["a later one at the second look is a proof, too", [[undefined, 6n]], undefined],
  ["nothing twice, by a leader that reads others: gone", [[undefined, undefined], { first: 1n }], undefined],
  ["nothing twice, of a stream without messages: gone", [[undefined, undefined], { isEmpty: true }], undefined],
  ["nothing twice, by a leader that reads no others: nobody knows", [[undefined, undefined]], "NO_LEADER"],
  [
    "nothing twice, by a leader without followers: nobody knows",
    [[undefined, undefined], { first: 1n, isFollowed: false }],
    "NO_LEADER",
  ],
  [
    "nothing twice, by a leader that has not come so far: nobody knows",
    [[undefined, undefined], { first: 1n, lastSequence: 4n }],
    "NO_LEADER",
  ],
  [
    "nothing twice, in no time, by a leader that reads others: gone",
    [[undefined, undefined], { first: 1n }, 0],
    undefined,
  ],
  ["nothing at all, and no time for a second look: nobody knows", [[undefined], { isEmpty: true }, 2_000], "NO_LEADER"],
])("%s", async ([, parameters, result]) => {
  expect(await read(...parameters)).toBe(result);
});

test.for<readonly [what: string, progress: Partial<Progress>, looks: number, result: string | undefined]>([
  ["the stream has come no further: there is nothing", { lastSequence: 5n }, 1, undefined],
  ["the stream has no message: there is nothing", { isEmpty: true }, 1, undefined],
  ["the stream has come further: a second look", {}, 3, undefined],
  ["the leader is not followed: nobody knows", { lastSequence: 5n, isFollowed: false }, 3, "NO_LEADER"],
])("nothing is found after a sequence, and %s", async ([, progress, looks, result]) => {
  const reader: Pick<Reader, "firstAfter" | "progress"> = {
    firstAfter: async () => ({ sequence: 1n }) as StoredMessage,
    progress: async () => ({ lastSequence: 6n, isEmpty: false, isFollowed: true, ...progress }),
  };
  const look = vi.fn<() => Promise<string | undefined>>(async () => undefined);
  const found = await lookAfter(reader as Reader, "s", 5n, Date.now(), look).catch(
    ({ reason }: { reason: string }) => reason,
  );
  expect(found).toBe(result);
  expect(look).toHaveBeenCalledTimes(looks);
});

import { expect, test } from "vitest";
import {
  POLICY_KEY,
  type StoredPolicy,
  backoffNanoseconds,
  decodePolicy,
  encodePolicy,
  isLastAttempt,
  isSamePolicy,
  nextVersion,
  toPolicy,
} from "../../../src/events/delivery-policy.ts";

const FULL = { maxAttempts: 3, backoffMs: [0.5, 1000], deadLetterStream: "letters" };

test.for<StoredPolicy>([
  { policy: FULL, version: 1 },
  { policy: { maxAttempts: 0, backoffMs: [5], deadLetterStream: undefined }, version: 7 },
  { policy: undefined, version: 9 },
])("a policy is stored and read again: %o", (stored) => {
  expect(decodePolicy({ [POLICY_KEY]: encodePolicy(stored) })).toEqual(stored);
});

test.for([
  "",
  "null",
  "[]",
  "7",
  "{}",
  '{"version":-1}',
  '{"version":1,"max_attempts":"3"}',
  '{"version":1,"backoff_ms":[-1]}',
  '{"version":1,"backoff_ms":5}',
  '{"version":1,"dead_letter":5}',
])("what nobody wrote so is unreadable: %s", (text) => {
  expect(decodePolicy({ [POLICY_KEY]: text })).toBe("unreadable");
});

test("metadata without it says nothing", () => {
  expect([decodePolicy(undefined), decodePolicy({ other: "1" })]).toEqual([undefined, undefined]);
});

test("an empty policy is none, and an unset stream has the name of the consumer's own in it", () => {
  expect(toPolicy("orders", { backoffMs: [] })).toBeUndefined();
  expect(toPolicy("orders", { maxAttempts: 0, backoffMs: [] })).toBeUndefined();
  const policy = { maxAttempts: 0, backoffMs: [], deadLetterStream: "orders-dead-letters" };
  expect(toPolicy("orders", { backoffMs: [], deadLetter: {} })).toEqual(policy);
  expect(toPolicy("orders", { backoffMs: [], deadLetter: { stream: "" } })).toEqual(policy);
});

test("policies are the same when they say the same", () => {
  expect(isSamePolicy(FULL, { ...FULL })).toBe(true);
  expect(isSamePolicy(undefined, undefined)).toBe(true);
  expect(isSamePolicy(FULL, undefined)).toBe(false);
  expect(isSamePolicy(FULL, { ...FULL, backoffMs: [1000, 0.5] })).toBe(false);
});

test.for<readonly [what: string, maxAttempts: number, backoffMs: readonly number[], waitsMs: readonly number[]]>([
  ["by attempt, and the last repeats", 9, [0.5, 1_000], [0.5, 1_000, 1_000]],
  ["as it is named, also without a limit of attempts", 0, [5], [5, 5]],
  ["twice as long each time, up to a minute, where there is only a limit of attempts", 9, [], [1_000, 2_000, 4_000]],
  ["not at all where there is neither", 0, [], [0, 0]],
])("a rejected event waits %s", ([, maxAttempts, backoffMs, waitsMs]) => {
  const policy = { maxAttempts, backoffMs, deadLetterStream: undefined };
  const waits = waitsMs.map((_, index) => backoffNanoseconds(policy, index + 1) / 1e6);
  expect(waits).toEqual(waitsMs);
  const last = backoffNanoseconds(policy, 4_000_000_000) / 1e6;
  expect(last).toBe(backoffMs.length > 0 || maxAttempts === 0 ? waitsMs.at(-1) : 60_000);
});

test("versions grow, also past one that is ahead of this clock", () => {
  const ahead = Date.now() + 1_000_000;
  expect(nextVersion({ policy: undefined, version: ahead })).toBe(ahead + 1);
  expect(nextVersion(undefined)).toBeGreaterThan(1_700_000_000_000);
});

test("a reject waits as its attempt says, and the last back-off repeats", () => {
  const policy = { ...FULL, maxAttempts: 0, backoffMs: [0.5, 2, 1_000] };
  const waits = [1, 2, 3, 4, 100].map((attempt) => backoffNanoseconds(policy, attempt));
  expect(waits).toEqual([500_000, 2_000_000, 1_000_000_000, 1_000_000_000, 1_000_000_000]);
});

test.for([
  [3, 2, false],
  [3, 3, true],
  [3, 4, true],
  [0, 1_000, false],
] as const)("with %i attempts, number %i is the last one: %s", ([maxAttempts, attempt, isLast]) => {
  expect(isLastAttempt({ ...FULL, maxAttempts }, attempt)).toBe(isLast);
});

import { expect, test } from "vitest";
import {
  POLICY_KEY,
  type StoredPolicy,
  decodePolicy,
  encodePolicy,
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

test("versions grow, also past one that is ahead of this clock", () => {
  const ahead = Date.now() + 1_000_000;
  expect(nextVersion({ policy: undefined, version: ahead })).toBe(ahead + 1);
  expect(nextVersion(undefined)).toBeGreaterThan(1_700_000_000_000);
});

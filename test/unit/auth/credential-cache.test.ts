import { expect, test } from "vitest";
import { CredentialCache } from "../../../src/auth/credential-cache.ts";
import { ANONYMOUS } from "../../../src/auth/principal.ts";

const KIB = 1024;
const credential = { principal: ANONYMOUS, expiresAtMs: Infinity };

test("knows what was proved until it is told to forget", () => {
  const cache = new CredentialCache(100 * KIB);
  cache.set("a", credential);
  cache.set("b", credential);
  expect(cache.get("a")).toBe(credential);
  cache.delete("a");
  expect(cache.get("a")).toBeUndefined();
  cache.clear();
  expect(cache.get("b")).toBeUndefined();
});

test("is bounded in bytes, and keeps what is asked for", () => {
  const cache = new CredentialCache(20 * KIB);
  cache.set("kept", credential);
  for (let i = 0; i < 1000; i++) {
    cache.set(`once ${i}`, credential);
    expect(cache.get("kept")).toBe(credential);
    expect(cache.size).toBeLessThanOrEqual(21);
  }
  expect(cache.get("once 0")).toBeUndefined();
});

test("a text of many bytes takes the place of many others", () => {
  const cache = new CredentialCache(20 * KIB);
  for (let i = 0; i < 5; i++) cache.set(`small ${i}`, credential);
  for (let i = 0; i < 10; i++) cache.set(`${i}`.padEnd(9 * KIB), credential);
  expect(cache.size).toBeLessThanOrEqual(3);
});

import { expect, test } from "vitest";
import type { Entry } from "../../chaos/history.ts";
import { withStoredIds } from "../../chaos/original.ts";

const STORED = [
  { id: 11, key: "a", text: "a" },
  { id: 12, key: "b", text: "b" },
];

function event(sub: string, id: number, text: string, attempt = 1): Entry {
  return { t: 0, p: "p", e: "event", sub, id, key: text, text, attempt };
}

test("ids of deliveries become those of the stream, for each subscription by what it was given", () => {
  const entries: Entry[] = [
    event("s", 1, "b"),
    event("s", 2, "a"),
    { t: 1, p: "p", e: "settle", sub: "s", kind: "ack", ids: [1, 2] },
    { t: 2, p: "p", e: "confirmed", sub: "s", kind: "ack", ids: [1], invalid: [], failed: [2] },
    event("o", 3, "a", 2),
  ];
  expect(withStoredIds(entries, STORED)).toEqual([
    event("s", 12, "b"),
    event("s", 11, "a"),
    { t: 1, p: "p", e: "settle", sub: "s", kind: "ack", ids: [12, 11] },
    { t: 2, p: "p", e: "confirmed", sub: "s", kind: "ack", ids: [12], invalid: [], failed: [11] },
    event("o", 11, "a", 2),
  ]);
});

test("what was never given, and what is not stored, meets no stored event", () => {
  const settle: Entry = { t: 0, p: "p", e: "settle", sub: "s", kind: "ack", ids: [11] };
  const renamed = withStoredIds([event("s", 1, "nowhere"), settle], STORED);
  const known = new Set(STORED.map(({ id }) => id));
  for (const entry of renamed) {
    if (entry.e === "event") expect(known.has(entry.id)).toBe(false);
    if (entry.e === "settle") expect(entry.ids.some((id) => known.has(id))).toBe(false);
  }
});

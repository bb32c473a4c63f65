/** The judges of dead letters, schedules, readers and batches. */
import { expect, test } from "vitest";
import type { Evidence, Letters } from "../../chaos/checks/evidence.ts";
import type { Letter } from "../../chaos/cluster/admin.ts";
import { LETTERS } from "../../chaos/cluster/topology.ts";
import type { FaultRecord } from "../../chaos/faults/fault.ts";
import type { Happening, Kind } from "../../chaos/history.ts";
import { evidence, found, history } from "./made-up-runs.ts";

const OPEN: Happening[] = [
  { e: "subscribe", sub: "l", stream: "orders", consumer: LETTERS.consumer, window: 9, server: 0 },
  { e: "subscribed", sub: "l", timeoutMs: LETTERS.timeoutMs },
];
const STORED = { id: 1, key: "k1", text: "k1" };
const PUBLISHED: Happening[] = [
  { e: "publish", by: "p", key: "k1", retries: true },
  { e: "published", by: "p", key: "k1", id: 1 },
];

function event(attempt = 1): Happening {
  return { e: "event", sub: "l", id: 1, key: "k1", text: "k1", attempt };
}

function settled(kind: Kind): Happening[] {
  return [
    { e: "settle", sub: "l", kind, ids: [1] },
    { e: "confirmed", sub: "l", kind: kind === "terminate" ? "reject" : kind, ids: [1], invalid: [], failed: [] },
  ];
}

function letter(rest: Partial<Letter> = {}): Letter {
  return { id: 1, text: "k1", cause: "attempts", attempts: 3, ...rest };
}

function run(
  happenings: (Happening | number | Happening[])[],
  written: Letter[],
  rest: Partial<Letters> = {},
): Evidence {
  const letters = { written, pending: 0, unsettled: 0, terminations: new Map<number, number>(), ...rest };
  return evidence(history(PUBLISHED, OPEN, ...happenings), { consumers: [], stored: [STORED], letters });
}

const REJECTED: Happening = { e: "settle", sub: "l", kind: "terminate", ids: [1] };
const UNSTORED: Happening = { e: "confirmed", sub: "l", kind: "reject", ids: [], invalid: [], failed: [1] };

function left(atMs: number): Partial<Letters> {
  return { terminations: new Map([[1, atMs]]) };
}

const RETRIED = [event(1), settled("reject"), 250, event(2), settled("reject"), 600, event(3), settled("reject")];

test.each<[string, Evidence]>([
  ["an event that is acknowledged", run([event(), settled("ack")], [])],
  ["one that is rejected for good", run([event(), settled("terminate")], [letter({ cause: "rejected", attempts: 1 })])],
  ["one that is rejected until it is given up", run(RETRIED, [letter()])],
  ["one that nobody settles until it is given up", run([event(1), 2_000, event(2), 2_000, event(3)], [letter()])],
  [
    "one that is kept while its letter cannot be stored, and then rejected again",
    run(
      [event(), REJECTED, 3_000, UNSTORED, 1_000, settled("terminate")],
      [letter({ cause: "rejected", attempts: 1 })],
    ),
  ],
  ["one that left when its letter was stored", run(RETRIED, [letter({ atMs: 5_000.7 })], left(5_000))],
])("%s is in order", (_what, of) => {
  expect(found(of)).toEqual([]);
});

test.each<[string, Evidence]>([
  ["an event that nobody acknowledged", run([event()], [])],
  ["one that was rejected for good", run([event(), settled("terminate")], [])],
])("%s needs a letter", (_what, of) => {
  expect(found(of)).toEqual(["letters"]);
});

test.each<[string, Evidence]>([
  ["two letters of an event", run(RETRIED, [letter(), letter()])],
  ["a letter that holds something else", run(RETRIED, [letter({ text: "k2" })])],
  ["a letter of what nobody rejected for good", run([event(), 9], [letter({ cause: "rejected", attempts: 1 })])],
  ["a letter that tells of fewer attempts than there were", run(RETRIED, [letter({ attempts: 2 })])],
  ["a letter of what was acknowledged", run([event(), settled("ack")], [letter()])],
  ["an attempt beyond the limit", run([...RETRIED, 600, event(4)], [letter()])],
  ["an event that left before its letter was stored", run(RETRIED, [letter({ atMs: 5_001 })], left(5_000))],
  ["an event that was never settled, and has a letter", run(RETRIED, [letter()], { unsettled: 1 })],
  ["an event that was never delivered", run(RETRIED, [letter()], { pending: 1 })],
  ["a reject that is not paced", run([event(1), settled("reject"), 50, event(2), settled("ack")], [])],
])("%s is found", (_what, of) => {
  expect(found(of)).toEqual(["letters"]);
});

function scheduled(dueMs: number): Happening[] {
  return [
    { e: "schedule", by: "p", key: "k1", dueMs, dueT: 9_000 },
    { e: "scheduled", by: "p", key: "k1" },
  ];
}

const UNANSWERED: Happening = { e: "cancel", by: "p", key: "k1" };

function cancelled(isCancelled: boolean): Happening[] {
  return [
    { e: "cancel", by: "p", key: "k1" },
    { e: "cancel_done", by: "p", key: "k1", cancelled: isCancelled },
  ];
}

test.each<[string, Happening[], number[], string[]]>([
  ["an event that appears at its time", scheduled(5_000), [5_000], []],
  ["one that is taken back", [...scheduled(5_000), ...cancelled(true)], [], []],
  ["one that was there before it could be taken back", [...scheduled(5_000), ...cancelled(false)], [5_001], []],
  ["one that may have been taken back", [...scheduled(5_000), UNANSWERED, ...cancelled(false)], [], []],
  [
    "one that could not be taken back and does not appear",
    [...scheduled(5_000), ...cancelled(false)],
    [],
    ["schedules"],
  ],
  ["one that appears early", scheduled(5_000), [4_999], ["schedules"]],
  ["one that does not appear", scheduled(5_000), [], ["schedules"]],
  ["one that appears although it was taken back", [...scheduled(5_000), ...cancelled(true)], [5_000], ["schedules"]],
  ["one that appears twice", scheduled(5_000), [5_000, 6_000], ["stored twice", "schedules"]],
])("of schedules: %s", (_what, happenings, times, checks) => {
  const stored = times.map((atMs, index) => ({ id: index + 1, key: "k1", text: "k1", atMs }));
  expect(found(evidence(history(happenings), { consumers: [], stored }))).toEqual(checks);
});

test("a schedule that is accepted after its time fires then, and may find its stream full", () => {
  const entries = history([
    { e: "schedule", by: "p", key: "k1", dueMs: 100, dueT: 100 },
    { e: "scheduled", by: "p", key: "k1" },
  ]);
  const full = (start: number): FaultRecord => ({
    name: "stream_full",
    detail: "orders",
    effects: ["full"],
    start,
    end: start + 500,
  });
  expect(found(evidence(entries, { consumers: [], faults: [full(1_500)] }))).toEqual([]);
  expect(found(evidence(entries, { consumers: [], faults: [full(9_000)] }))).toEqual(["schedules"]);
});

function read(...ids: number[]): Happening[] {
  return [
    { e: "read", reader: "r", from: 1, server: 0 },
    ...ids.map((id): Happening => ({ e: "read_event", reader: "r", id, text: `k${id}` })),
  ];
}

test.each<[string, Happening[], string[]]>([
  ["everything, once and in order", read(1, 2, 3), []],
  ["everything, with two calls", [...read(1), ...read(2, 3)], []],
  ["less", read(1, 3), ["reads"]],
  ["not the end", read(1, 2), ["reads"]],
  ["one twice", [...read(1, 2), ...read(2, 3)], ["reads"]],
  ["them in another order", read(1, 3, 2), ["reads"]],
  ["something else", [...read(1, 2), { e: "read_event", reader: "r", id: 3, text: "k1" }], ["reads"]],
])("of readers: who reads %s", (_what, happenings, checks) => {
  const publishes = [1, 2, 3].flatMap((id): Happening[] => [
    { e: "publish", by: "p", key: `k${id}`, retries: true },
    { e: "published", by: "p", key: `k${id}`, id },
  ]);
  const end: Happening = { e: "client", phase: "stopped" };
  expect(found(evidence(history(publishes, happenings, end), { consumers: [] }))).toEqual(checks);
});

test("of readers: one that was killed need not read to the end", () => {
  const publishes = [1, 2].flatMap((id): Happening[] => [
    { e: "publish", by: "p", key: `k${id}`, retries: true },
    { e: "published", by: "p", key: `k${id}`, id },
  ]);
  expect(found(evidence(history(publishes, read(1)), { consumers: [] }))).toEqual([]);
});

test.each<[string, number[], string[]]>([
  ["all of it is stored", [1, 2], []],
  ["nothing of it is stored", [], []],
  ["a part of it is stored", [1], ["atomic"]],
])("of batches: %s", (_what, ids, checks) => {
  const happenings: Happening[] = [
    { e: "batch", by: "p", keys: ["k1", "k2"] },
    ...["k1", "k2"].flatMap((key): Happening[] => [
      { e: "publish", by: "p", key, retries: true },
      { e: "publish_failed", by: "p", key, code: "UNAVAILABLE", outcome: "unknown" },
    ]),
  ];
  const stored = ids.map((id) => ({ id, key: `k${id}`, text: `k${id}` }));
  const faults = [{ name: "nats_away", effects: [], start: 0, end: 60_000, detail: "" }];
  expect(found(evidence(history(happenings), { consumers: [], stored, faults }))).toEqual(checks);
});

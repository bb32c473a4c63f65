import { expect, test } from "vitest";
import { type DeadLetterOrigin, encodeLetter, encodeReplay, readLetter } from "../../../src/events/dead-letter.ts";

const ORIGIN: DeadLetterOrigin = {
  stream: "orders",
  consumer: "billing",
  id: 7n,
  subject: "orders.created",
  attempts: 3,
  cause: "attempts",
  reason: "no such\r\ncustomer",
  time: "2026-01-02T03:04:05Z",
};

const block = (...lines: string[]): Buffer => Buffer.from(`NATS/1.0\r\n${lines.join("\r\n")}\r\n\r\n`);
const linesOf = (headers: string): string[] => headers.trimEnd().split("\r\n").slice(1);
const message = (headers: string) => ({
  sequence: 4n,
  subject: "dead-letters.orders.billing.7",
  time: "2026-01-02T03:04:06Z",
  headers: Buffer.from(headers),
  payload: Buffer.from([0, 255, 1]),
});

test("the letter of a replayed event has nothing of that replay but the key", () => {
  const headers = block("WS-Idempotency-Key: key", "Nats-Msg-Id: replay", "WS-Replay-Consumer: a/b", "WS-Replay-Id: 3");
  const lines = linesOf(encodeLetter(headers, ORIGIN));
  expect(lines.filter((line) => /replay/i.test(line))).toEqual([]);
  expect(lines).toContain("WS-Dead-Letter-Idempotency-Key: key");
});

test("a letter has the event's headers but those of NATS, and what happened", () => {
  const headers = block(
    "WS-Data-Type: a.B",
    "ce-id: 1",
    "ce-ID: 2",
    "Nats-Msg-Id: key",
    "nats-ttl: 5s",
    "Nats-Rollup: all",
    "WS-Dead-Letter-Id: forged",
  );
  expect(linesOf(encodeLetter(headers, ORIGIN))).toEqual([
    "WS-Data-Type: a.B",
    "ce-id: 1",
    "ce-ID: 2",
    "WS-Dead-Letter-Stream: orders",
    "WS-Dead-Letter-Consumer: billing",
    "WS-Dead-Letter-Id: 7",
    "WS-Dead-Letter-Subject: orders.created",
    "WS-Dead-Letter-Attempts: 3",
    "WS-Dead-Letter-Cause: attempts",
    "WS-Dead-Letter-Reason: no such  customer",
    "WS-Dead-Letter-Time: 2026-01-02T03:04:05Z",
    "WS-Dead-Letter-Idempotency-Key: key",
    "Nats-Expected-Last-Subject-Sequence: 0",
  ]);
});

test("an event without headers has a letter, and no reason is no header", () => {
  const lines = linesOf(encodeLetter(undefined, { ...ORIGIN, reason: "\n" }));
  expect(lines.filter((line) => /Reason|Key/.test(line))).toEqual([]);
});

test("a letter is read as it was written", () => {
  const letter = readLetter(message(encodeLetter(block("Nats-Msg-Id: key", "WS-Data-Type: a.B"), ORIGIN)))!;
  const { event, ...rest } = letter;
  expect(rest).toEqual({ ...ORIGIN, reason: "no such  customer", sequence: 4n, idempotencyKey: "key", history: [] });
  expect(event).toMatchObject({ payload: Buffer.from([0, 255, 1]), headers: { dataType: "a.B" } });
});

test("what is no letter is not read as one", () => {
  expect(readLetter(message("NATS/1.0\r\nWS-Data-Type: a.B\r\n\r\n"))).toBeUndefined();
});

test("a replay carries what happened, and the next letter has both histories", () => {
  const first = encodeLetter(block("Nats-Msg-Id: key", "ce-id: 1"), ORIGIN);
  const replayed = encodeReplay({ headers: Buffer.from(first) }, ["WS-Replay-Consumer: orders/billing"]);
  expect(linesOf(replayed)).toEqual([
    "ce-id: 1",
    "WS-Dead-Letter-1-Id: 7",
    "WS-Dead-Letter-1-Attempts: 3",
    "WS-Dead-Letter-1-Cause: attempts",
    "WS-Dead-Letter-1-Reason: no such  customer",
    "WS-Dead-Letter-1-Time: 2026-01-02T03:04:05Z",
    "WS-Idempotency-Key: key",
    "WS-Replay-Consumer: orders/billing",
  ]);
  const again = { ...ORIGIN, id: 12n, attempts: 1, cause: "rejected" as const, reason: undefined };
  const second = encodeLetter(Buffer.from(replayed), again);
  expect(readLetter(message(second))).toMatchObject({
    id: 12n,
    cause: "rejected",
    idempotencyKey: "key",
    history: [{ id: 7n, attempts: 3, cause: "attempts", reason: "no such  customer" }],
  });
  const replayedAgain = linesOf(encodeReplay({ headers: Buffer.from(second) }, ["WS-Replay-Consumer: orders/billing"]));
  expect(replayedAgain.filter((line) => /Replay|-Id:/.test(line))).toEqual([
    "WS-Dead-Letter-1-Id: 7",
    "WS-Dead-Letter-2-Id: 12",
    "WS-Replay-Consumer: orders/billing",
  ]);
});

test("of many rounds the last five are kept", () => {
  let headers = block();
  for (let id = 1n; id <= 8n; id++) {
    const letter = encodeLetter(headers, { ...ORIGIN, id, reason: "r".repeat(1024) });
    headers = Buffer.from(encodeReplay({ headers: Buffer.from(letter) }, []));
  }
  const { history } = readLetter(message(encodeLetter(headers, { ...ORIGIN, id: 9n })))!;
  expect(history.map(({ id }) => id)).toEqual([4n, 5n, 6n, 7n, 8n]);
  expect(history[0]!.reason).toHaveLength(256);
});

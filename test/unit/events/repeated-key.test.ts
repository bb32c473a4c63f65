import { expect, test } from "vitest";
import type { PreparedEvent } from "../../../src/events/new-event.ts";
import { hasKey, withFreedKey } from "../../../src/events/repeated-key.ts";
import type { StoredMessage } from "../../../src/nats/get.ts";

function event(headers: string, key: string): PreparedEvent {
  const payload = new Uint8Array(10);
  return { subject: "a", headers, payload, key, expectedLastId: undefined, scope: "subject", isScheduled: false };
}

const BEGIN = "NATS/1.0\r\nWS-Data-Type: x\r\n";
const ID = /^Nats-Msg-Id: (ws-again\.7\.[\w-]{43})$/m;

test("an event whose key was freed has the same message id at each repeat, and its key for readers", () => {
  for (const key of ["k", "$&$1", "k".repeat(100)]) {
    const { headers } = withFreedKey(event(`${BEGIN}Nats-Msg-Id: ${key}\r\nx: y\r\n\r\n`, key), 7n, 1_000);
    const id = ID.exec(headers)?.[1];
    expect(headers).toBe(`${BEGIN}Nats-Msg-Id: ${id}\r\nWS-Idempotency-Key: ${key}\r\nx: y\r\n\r\n`);
    expect(withFreedKey(event(`${BEGIN}Nats-Msg-Id: ${key}\r\n\r\n`, key), 7n, 1_000).headers).toContain(id);
    expect(withFreedKey(event(`${BEGIN}Nats-Msg-Id: ${key}\r\n\r\n`, key), 8n, 1_000).headers).not.toContain(id);
  }
});

test("one that is scheduled keeps the line that it has for its key", () => {
  const block = `${BEGIN}Nats-Msg-Id: k\r\nNats-TTL: never\r\nWS-Idempotency-Key: k\r\n\r\n`;
  const { headers } = withFreedKey(event(block, "k"), 7n, 1_000);
  expect(headers).toBe(block.replace("Nats-Msg-Id: k", ID.exec(headers)![0]));
});

test("one that gets too large for NATS that way is refused", () => {
  const fits = event(`${BEGIN}Nats-Msg-Id: k\r\n\r\n`, "k");
  expect(() => withFreedKey(fits, 7n, 100)).toThrow(expect.objectContaining({ reason: "EVENT_TOO_LARGE" }));
});

test.for([
  ["Nats-Msg-Id: k", true],
  ["Nats-Msg-Id: other", false],
  ["Nats-Msg-Id: other\r\nWS-Idempotency-Key: k", true],
  ["Nats-Scheduler: place\r\nWS-Idempotency-Key: k", true],
  ["Nats-Msg-Id: other\r\nWS-Replay-Consumer: s/c\r\nWS-Idempotency-Key: k", false],
] as const)("stored with %j it has the key: %s", ([lines, has]) => {
  const message = { headers: Buffer.from(`NATS/1.0\r\n${lines}\r\n\r\n`) } as StoredMessage;
  expect(hasKey(message, "k")).toBe(has);
});

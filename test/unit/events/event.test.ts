import { describe, expect, test } from "vitest";
import { readEvent } from "../../../src/events/event.ts";
import type { NatsMessage } from "../../../src/nats/message.ts";

function delivered(reply: string, headers?: string): NatsMessage {
  return {
    subject: "orders.created",
    reply,
    headers: headers === undefined ? undefined : Buffer.from(headers),
    payload: Buffer.from("payload"),
    size: 0,
  };
}

const PLAIN = "$JS.ACK.orders.billing.3.42.57.1700000000123456789.7";

describe("where a delivery comes from is read from its reply subject", () => {
  test.for([
    ["of nine tokens", PLAIN],
    ["with domain and account", "$JS.ACK.hub.ACCHASH.orders.billing.3.42.57.1700000000123456789.7"],
    ["with domain, account and a random token", "$JS.ACK.hub.ACCHASH.orders.billing.3.42.57.1700000000123456789.7.x1Z"],
    ["without a domain but with an account", "$JS.ACK._.ACCHASH.orders.billing.3.42.57.1700000000123456789.7.x1Z"],
  ] as const)("%s", ([, reply]) => {
    expect(readEvent(delivered(reply))).toEqual({
      id: 42,
      subject: "orders.created",
      headers: {
        dataType: undefined,
        publishedAt: undefined,
        idempotencyKey: undefined,
        traceParent: undefined,
        traceState: undefined,
      },
      publishedAt: { seconds: 1_700_000_000, nanos: 123_456_789 },
      payload: Buffer.from("payload"),
      attempt: 3,
      ackSubject: reply,
      bytes: 0,
    });
  });
});

describe("an event was published", () => {
  test.for([
    ["when its header says", "WS-Published-Time: 2023-01-02T03:04:05.6Z\r\n", 1_672_628_645, 600_000_000],
    ["when JetStream stored it, without that header", "WS-Data-Type: a.B\r\n", 1_700_000_000, 123_456_789],
    [
      "when JetStream stored it, where the header is unreadable",
      "WS-Published-Time: x\r\n",
      1_700_000_000,
      123_456_789,
    ],
  ] as const)("%s", ([, lines, seconds, nanos]) => {
    expect(readEvent(delivered(PLAIN, `NATS/1.0\r\n${lines}\r\n`)).publishedAt).toEqual({ seconds, nanos });
  });
});

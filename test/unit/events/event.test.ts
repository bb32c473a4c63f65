import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readEvent, waitingBehind } from "../../../src/events/event.ts";
import type { NatsMessage } from "../../../src/nats/message.ts";
import { natsMessage } from "../nats/nats-message.ts";

function delivered(reply: string, headers?: string): NatsMessage {
  const block = headers === undefined ? undefined : Buffer.from(headers);
  return natsMessage({ subject: "orders.created", reply, headers: block, payload: Buffer.from("payload") });
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
      bytes: 7,
    });
  });
});

test("what was delivered before changes nothing", () => {
  const token = fc.constantFrom("1", "2", "12", "orders", "a-b");
  const count = fc.constantFrom("1", "7", "42", "9007199254740991");
  const domain = fc.option(fc.tuple(token, token), { nil: [] as const });
  const subject = fc
    .record({
      domain,
      source: fc.tuple(token, token),
      numbers: fc.tuple(count, count, count),
      pending: count,
      random: token,
    })
    .map(({ domain, source, numbers, pending, random }) => ({
      reply: [
        "$JS.ACK",
        ...domain,
        ...source,
        ...numbers,
        "1700000000123456789",
        pending,
        ...(domain.length > 0 ? [random] : []),
      ].join("."),
      attempt: Number(numbers[0]),
      id: Number(numbers[1]),
      waiting: Number(pending),
    }));
  const broken = fc.constantFrom(
    "",
    "$JS",
    "$JS.ACK",
    "$JS.ACK.1.2",
    "$JS.ACK.1.2.",
    "$JS.ACK.1.2.7",
    "$JS.ACK.orders.orders.x.1",
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(subject, broken), { maxLength: 20 }), (deliveries) => {
      for (const each of deliveries) {
        const reply = typeof each === "string" ? each : each.reply;
        const { attempt, id, publishedAt } = readEvent(delivered(reply));
        if (typeof each === "string") {
          expect(id + attempt).toBeNaN();
          continue;
        }
        expect({ attempt, id, waiting: waitingBehind(reply) }).toEqual({
          attempt: each.attempt,
          id: each.id,
          waiting: each.waiting,
        });
        expect(publishedAt).toEqual({ seconds: 1_700_000_000, nanos: 123_456_789 });
      }
    }),
  );
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

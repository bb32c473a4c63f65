import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type IncomingMessage, ProtocolError, ProtocolReader } from "../../../src/nats/protocol.ts";

interface Received {
  readonly sid: number;
  readonly subject: string;
  readonly reply: string;
  readonly headers: string | undefined;
  readonly payload: string;
  readonly size: number;
}

const OURS = [1, 22, 333];

function receive(chunks: readonly Buffer[]): { messages: Received[]; others: string } {
  const messages: Received[] = [];
  const kept: { sid: number; message: IncomingMessage }[] = [];
  let others = "";
  const handlers = new Map(OURS.map((sid) => [sid, (message: IncomingMessage) => void kept.push({ sid, message })]));
  const reader = new ProtocolReader({ handlers, other: (command) => (others += command.toString("latin1")) });
  for (const chunk of chunks) reader.read(chunk);
  // Read late: what was handed on stays valid.
  for (const { sid, message } of kept) {
    const { subject, reply, size } = message;
    const headers = message.headers?.toString("latin1");
    messages.push({ sid, subject, reply, headers, payload: message.payload.toString("latin1"), size });
  }
  return { messages, others };
}

function command({ sid, subject, reply, headers, payload }: Omit<Received, "size">): string {
  const target = `${subject} ${sid}${reply === "" ? "" : ` ${reply}`}`;
  if (headers === undefined) return `MSG ${target} ${payload.length}\r\n${payload}\r\n`;
  return `HMSG ${target} ${headers.length} ${headers.length + payload.length}\r\n${headers}${payload}\r\n`;
}

function splitAt(bytes: Buffer, ...at: number[]): Buffer[] {
  return [0, ...at].map((from, index) => bytes.subarray(from, at[index] ?? bytes.length));
}

const SESSION = [
  { sid: 1, subject: "a", reply: "", headers: undefined, payload: "" },
  { sid: 22, subject: "orders.created", reply: "$JS.ACK.s.c.1.2.3.4.5", headers: undefined, payload: "MSG x 1 1\r\n" },
  { sid: 333, subject: "b.c", reply: "1", headers: "NATS/1.0\r\nA: b\r\n\r\n", payload: "\r\n" },
  { sid: 1, subject: "_INBOX.x.17", reply: "", headers: "NATS/1.0 503\r\n\r\n", payload: "" },
];
const OTHERS = [
  "PING\r\n",
  "+OK\r\n",
  `INFO {"a":"MSG"}\r\n`,
  "MSG theirs 4 3\r\nabc\r\n",
  "-ERR 'Slow'\r\n",
  "PONG\r\n",
];
const TEXT = SESSION.map((message, n) => OTHERS[n]! + command(message)).join("") + OTHERS[4]! + OTHERS[5]!;
const WANTED = SESSION.map((message) => ({ ...message, size: sizeOf(message) }));

function sizeOf({ subject, reply, headers, payload }: Omit<Received, "size" | "sid">): number {
  return subject.length + reply.length + (headers?.length ?? 0) + payload.length;
}

describe("a session", () => {
  test("in one piece: our messages as they are, everything else whole and in order", () => {
    expect(receive([Buffer.from(TEXT)])).toEqual({ messages: WANTED, others: OTHERS.join("") });
  });

  test("byte for byte", () => {
    const chunks = [...Buffer.from(TEXT)].map((byte) => Buffer.from([byte]));
    expect(receive(chunks)).toEqual({ messages: WANTED, others: OTHERS.join("") });
  });

  test("split at every two places", () => {
    const bytes = Buffer.from(TEXT);
    for (let first = 1; first < bytes.length; first++) {
      for (let second = first + 1; second < Math.min(bytes.length, first + 40); second++) {
        expect(receive(splitAt(bytes, first, second)).messages, `split at ${first} and ${second}`).toEqual(WANTED);
      }
    }
  });

  test("with any byte changed: the message is another, or the connection is lost, nothing else", () => {
    const bytes = Buffer.from(TEXT);
    let lost = 0;
    for (let at = 0; at < bytes.length; at++) {
      for (const byte of [0, 10, 13, 32, 48, 57, 77, 255]) {
        const changed = Buffer.from(bytes);
        changed[at] = byte;
        try {
          const { messages } = receive([changed]);
          for (const message of messages) expect(message.size).toBe(sizeOf(message));
        } catch (error) {
          expect(error, `byte ${at} is ${byte}`).toBeInstanceOf(ProtocolError);
          lost += 1;
        }
      }
    }
    expect(lost).toBeGreaterThan(100);
  });

  test("cut off at any byte: no part of a message is handed on", () => {
    const bytes = Buffer.from(TEXT);
    for (let at = 0; at < bytes.length; at++) {
      const { messages } = receive([bytes.subarray(0, at)]);
      expect(messages).toEqual(WANTED.slice(0, messages.length));
    }
  });
});

describe("any messages", () => {
  const token = fc.stringMatching(/^[!-~]{1,12}$/);
  const message = fc.record({
    sid: fc.constantFrom(...OURS),
    subject: token,
    reply: fc.oneof(fc.constant(""), token),
    headers: fc.option(
      fc.string({ unit: "grapheme-ascii", maxLength: 30 }).map((text) => `NATS/1.0\r\n${text}\r\n\r\n`),
      { nil: undefined },
    ),
    payload: fc.oneof(
      fc.string({ unit: "grapheme-ascii", maxLength: 60 }),
      fc.nat(200_000).map((size) => "x".repeat(size)),
    ),
  });

  test("arrive as they were sent, however the socket cuts and joins them", () => {
    fc.assert(
      fc.property(fc.array(message, { maxLength: 8 }), fc.array(fc.nat(70_000), { maxLength: 12 }), (sent, sizes) => {
        const bytes = Buffer.from(sent.map((each) => command(each)).join(""), "latin1");
        const places: number[] = [];
        for (let at = 0, n = 0; at < bytes.length && n < sizes.length; n++) places.push((at += sizes[n]! + 1));
        const { messages, others } = receive(splitAt(bytes, ...places.filter((at) => at < bytes.length)));
        expect(messages).toEqual(sent.map((each) => ({ ...each, size: sizeOf(each) })));
        expect(others).toBe("");
      }),
      { numRuns: 200 },
    );
  });

  test("random bytes are never taken for one", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 64 }), { maxLength: 8 }), (chunks) => {
        try {
          expect(receive(chunks.map((chunk) => Buffer.from(chunk))).messages).toEqual([]);
        } catch (error) {
          expect(error).toBeInstanceOf(ProtocolError);
        }
      }),
    );
  });
});

describe("what nats-server does not send", () => {
  test.for([
    ["MSG a 1\r\n", "no size"],
    ["MSG a x 1\r\n", "a subscription that is no number"],
    ["MSG a 0 1\r\n", "subscription 0"],
    ["MSG  1 1\r\n", "no subject"],
    ["MSG a 1 -1\r\n", "a negative size"],
    ["MSG a 1 1x\r\n", "a size that is no number"],
    ["MSG a 1 1\nx\r\n", "a line without CR"],
    ["MSG a 1 1\r\nabc\r\n", "a payload that is longer than its size"],
    ["MSG a 1 999999999999\r\n", "a payload without bounds"],
    ["HMSG a 1 5\r\n", "one size of two"],
    ["HMSG a 1 5 4\r\n", "headers larger than the message"],
    ["HXSG a 1 1 1\r\n", "another command"],
    ["MXG a 1 1\r\n", "another command"],
    ["MSX a 1 1\r\n", "another command"],
    ["MSGa 1 1\r\n", "no blank"],
  ] as const)("%j: %s", ([text]) => {
    expect(() => receive([Buffer.from(text)])).toThrow(ProtocolError);
  });

  test("a line that does not end", () => {
    const chunks = Array.from({ length: 40 }, () => Buffer.alloc(64 * 1024, "x"));
    expect(() => receive([Buffer.from("INFO "), ...chunks])).toThrow("a line of NATS does not end");
    expect(() => receive([Buffer.from("MSG "), ...chunks])).toThrow("a line of NATS does not end");
  });
});

test("a number at the end of a subject", () => {
  const numbers: number[] = [];
  const handlers = new Map([[1, (message: IncomingMessage) => void numbers.push(message.numberInSubject(2))]]);
  const reader = new ProtocolReader({ handlers, other: () => undefined });
  for (const subject of ["x.0", "x.123456789", "x.", "x.1a", "x", "x.9007199254740991"]) {
    reader.read(Buffer.from(`MSG ${subject} 1 0\r\n\r\n`));
  }
  expect(numbers).toEqual([0, 123_456_789, NaN, NaN, NaN, 9_007_199_254_740_991]);
});

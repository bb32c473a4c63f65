import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { WindshiftError } from "../../../src/errors.ts";
import { JetStreamApi } from "../../../src/nats/api.ts";
import { type PublishAck, Publisher } from "../../../src/nats/publish.ts";
import { FakeConnection, nobody, refusal, reply } from "./fake-connection.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const STREAM_FULL = 10077;
const WRONG_LAST_SEQUENCE = 10071;
const DUPLICATE_IN_PROCESS = 10158;
const LAST_SEQUENCE_NOT_READY = 10163;
const STORED = reply({ stream: "s", seq: 7 });
const FOUND = reply({ streams: ["s"] });
const NOT_FOUND = reply({ streams: null });

/** A publisher that sends nothing, with one publish on its way. */
class Scene {
  readonly connection = new FakeConnection();
  readonly publisher = new Publisher(new JetStreamApi(this.connection.as, { maxInFlight: 1, maxWaiting: 1 }), {
    maxInFlight: 1,
    maxWaiting: 1,
  });
  /** How the publishes ended, in this order. */
  readonly ends: (PublishAck | WindshiftError)[] = [];

  publish({ deadlineMs = 30_000, repeatable = false } = {}): void {
    this.publisher.publish(
      { subject: "a.b", headers: "", payload: new Uint8Array(0), deadlineMs: Date.now() + deadlineMs, repeatable },
      { onStored: (ack) => this.ends.push(ack), onFailed: (error) => this.ends.push(error) },
    );
  }

  /** Lets promises and timers run for so long. */
  async pass(ms = 0): Promise<void> {
    await vi.advanceTimersByTimeAsync(ms);
  }
}

interface Case {
  readonly name: string;
  readonly request?: { readonly deadlineMs?: number; readonly repeatable?: boolean };
  readonly answer: (scene: Scene) => unknown;
  readonly end: object;
}

const UNKNOWN = { outcome: "unknown" };
const NOT_STORED = { outcome: "not_stored" };
const CASES: readonly Case[] = [
  {
    name: "an acknowledgement",
    answer: ({ connection }) => connection.take().handler.onReply(STORED),
    end: { stream: "s", sequence: 7n, duplicate: false },
  },
  {
    name: "a refusal",
    answer: ({ connection }) => connection.take().handler.onReply(refusal(STREAM_FULL)),
    end: { reason: "STREAM_FULL", ...NOT_STORED, retryAfterMs: undefined },
  },
  {
    name: "a refused condition",
    answer: ({ connection }) => connection.take().handler.onReply(refusal(WRONG_LAST_SEQUENCE)),
    end: { reason: "LAST_ID_MISMATCH", ...NOT_STORED, retryAfterMs: undefined },
  },
  {
    name: "no answer in time",
    answer: async (scene) => {
      scene.connection.take().handler.onNoReply("timeout");
      await scene.pass();
      scene.connection.take().handler.onReply(FOUND);
    },
    end: { reason: "NATS_UNAVAILABLE", ...UNKNOWN, retryAfterMs: undefined },
  },
  {
    name: "no answer in time, of a publish with a key",
    request: { repeatable: true },
    answer: async (scene) => {
      scene.connection.take().handler.onNoReply("timeout");
      await scene.pass();
      scene.connection.take().handler.onReply(FOUND);
    },
    end: { reason: "NATS_UNAVAILABLE", ...UNKNOWN, retryAfterMs: 500 },
  },
  {
    name: "no answer in time, and no stream",
    answer: async (scene) => {
      scene.connection.take().handler.onNoReply("timeout");
      await scene.pass();
      scene.connection.take().handler.onReply(NOT_FOUND);
    },
    end: { reason: "SUBJECT_NOT_BOUND", ...NOT_STORED },
  },
  {
    name: "no answer in time, and none to the question for the stream, which ends at the deadline",
    request: { deadlineMs: 7_000 },
    answer: async (scene) => {
      await scene.pass(5_000);
      scene.connection.take().handler.onNoReply("timeout");
      await scene.pass();
      const question = scene.connection.take();
      expect(question.timeoutMs).toBe(2_000);
      question.handler.onNoReply("timeout");
    },
    end: { reason: "NATS_UNAVAILABLE", ...UNKNOWN },
  },
  {
    name: "no answer until the deadline",
    request: { deadlineMs: 1_000 },
    answer: ({ connection }) => connection.take().handler.onNoReply("timeout"),
    end: { reason: "DEADLINE_EXCEEDED", ...UNKNOWN, retryAfterMs: undefined },
  },
  {
    name: "a broken connection",
    answer: ({ connection }) => connection.disconnect(),
    end: { reason: "NATS_UNAVAILABLE", ...UNKNOWN, retryAfterMs: undefined },
  },
  {
    name: "no connection",
    answer: ({ connection }) => connection.take().handler.onNoReply("not_sent"),
    end: { reason: "NATS_UNAVAILABLE", ...NOT_STORED, retryAfterMs: 500 },
  },
  {
    name: "no permission",
    answer: ({ connection }) => connection.take().handler.onNoReply("forbidden"),
    end: { reason: "PERMISSION_DENIED", ...NOT_STORED, retryAfterMs: undefined },
  },
  {
    name: "an answer of somebody else",
    answer: async (scene) => {
      scene.connection.take().handler.onReply(reply("thanks"));
      await scene.pass();
      scene.connection.take().handler.onReply(FOUND);
    },
    end: { reason: "NATS_UNAVAILABLE", ...UNKNOWN, retryAfterMs: undefined },
  },
  {
    name: "an answer of somebody else to a publish with a key",
    request: { repeatable: true },
    answer: async (scene) => {
      scene.connection.take().handler.onReply(reply("thanks"));
      await scene.pass();
      scene.connection.take().handler.onReply(FOUND);
    },
    end: { reason: "NATS_UNAVAILABLE", ...UNKNOWN, retryAfterMs: 500 },
  },
  {
    name: "nobody there, and no stream",
    answer: async (scene) => {
      scene.connection.take().handler.onReply(nobody());
      await scene.pass();
      scene.connection.take().handler.onReply(NOT_FOUND);
    },
    end: { reason: "SUBJECT_NOT_BOUND", ...NOT_STORED },
  },
  {
    name: "nobody there, and no answer to the question for the stream",
    answer: async (scene) => {
      scene.connection.take().handler.onReply(nobody());
      await scene.pass();
      scene.connection.take().handler.onNoReply("disconnected");
    },
    end: { reason: "NATS_UNAVAILABLE", ...NOT_STORED, retryAfterMs: 500 },
  },
  {
    name: "nobody there for a moment",
    answer: async (scene) => {
      scene.connection.take().handler.onReply(nobody());
      await scene.pass();
      scene.connection.take().handler.onReply(FOUND);
      await scene.pass(100);
      scene.connection.take().handler.onReply(STORED);
    },
    end: { sequence: 7n },
  },
  {
    name: "nobody there until the deadline",
    request: { deadlineMs: 150 },
    answer: async (scene) => {
      for (let attempt = 0; attempt < 2; attempt++) {
        scene.connection.take().handler.onReply(nobody());
        await scene.pass();
        scene.connection.take().handler.onReply(FOUND);
        await scene.pass(100);
      }
    },
    end: { reason: "NO_LEADER", ...NOT_STORED, retryAfterMs: 500 },
  },
  {
    name: "nobody there, then no connection",
    answer: async (scene) => {
      scene.connection.take().handler.onReply(nobody());
      await scene.pass();
      scene.connection.take().handler.onReply(FOUND);
      await scene.pass(100);
      scene.connection.take().handler.onNoReply("not_sent");
    },
    end: { reason: "NATS_UNAVAILABLE", ...NOT_STORED },
  },
  {
    name: "nobody there, then no answer",
    answer: async (scene) => {
      scene.connection.take().handler.onReply(nobody());
      await scene.pass();
      scene.connection.take().handler.onReply(FOUND);
      await scene.pass(100);
      scene.connection.take().handler.onNoReply("disconnected");
    },
    end: { reason: "NATS_UNAVAILABLE", ...UNKNOWN },
  },
  {
    name: "a leader that is not ready until the deadline",
    request: { deadlineMs: 50 },
    answer: ({ connection }) => connection.take().handler.onReply(refusal(LAST_SEQUENCE_NOT_READY)),
    end: { reason: "NO_LEADER", ...NOT_STORED, retryAfterMs: 500 },
  },
  {
    name: "another publish with the key in flight until the deadline",
    request: { deadlineMs: 50, repeatable: true },
    answer: ({ connection }) => connection.take().handler.onReply(refusal(DUPLICATE_IN_PROCESS)),
    end: { reason: "NO_LEADER", ...UNKNOWN, retryAfterMs: 500 },
  },
  {
    name: "another publish with the key in flight, then no connection",
    request: { repeatable: true },
    answer: async (scene) => {
      scene.connection.take().handler.onReply(refusal(DUPLICATE_IN_PROCESS));
      await scene.pass(100);
      scene.connection.take().handler.onNoReply("not_sent");
    },
    end: { reason: "NATS_UNAVAILABLE", ...UNKNOWN, retryAfterMs: 500 },
  },
  {
    name: "another publish with the key in flight, which is lost; then this one is refused",
    request: { repeatable: true },
    answer: async (scene) => {
      scene.connection.take().handler.onReply(refusal(DUPLICATE_IN_PROCESS));
      await scene.pass(100);
      scene.connection.take().handler.onReply(refusal(STREAM_FULL));
    },
    end: { reason: "STREAM_FULL", ...NOT_STORED },
  },
];

describe("what is known of a publish after", () => {
  test.for(CASES)("$name", async ({ request, answer, end }) => {
    const scene = new Scene();
    scene.publish(request);
    await answer(scene);
    await scene.pass();
    expect(scene.ends).toHaveLength(1);
    expect(scene.ends[0]).toMatchObject(end);
    expect({ inFlight: scene.publisher.inFlight, sent: scene.connection.sent }).toEqual({ inFlight: 0, sent: [] });
  });
});

describe("a publish that waits for its turn", () => {
  test("ends at its deadline, is not sent, and leaves the queue", async () => {
    const scene = new Scene();
    scene.publish();
    scene.publish({ deadlineMs: 200 });
    await scene.pass(199);
    expect({ ends: scene.ends, waiting: scene.publisher.waiting }).toEqual({ ends: [], waiting: 1 });
    await scene.pass(21);
    expect(scene.ends).toHaveLength(1);
    expect(scene.ends[0]).toMatchObject({ reason: "DEADLINE_EXCEEDED", ...NOT_STORED, retryAfterMs: 100 });
    expect(scene.publisher.waiting).toBe(0);
    scene.connection.take().handler.onReply(STORED);
    await scene.pass();
    expect({ sent: scene.connection.sent, ends: scene.ends.length }).toEqual({ sent: [], ends: 2 });
  });

  test("is not sent when its turn comes at its deadline", () => {
    const scene = new Scene();
    scene.publish();
    scene.publish({ deadlineMs: 200 });
    vi.setSystemTime(Date.now() + 200);
    scene.connection.take().handler.onReply(STORED);
    const late = scene.ends.find((end) => "reason" in end);
    expect(late).toMatchObject({ reason: "DEADLINE_EXCEEDED", ...NOT_STORED, retryAfterMs: 500 });
    expect(scene.connection.sent).toEqual([]);
  });

  test("is not stored when the connection breaks; that what was sent is, nobody knows", () => {
    const scene = new Scene();
    scene.publish();
    scene.publish({ repeatable: true });
    scene.connection.request = (...[, , , , handler]) => handler.onNoReply("not_sent");
    scene.connection.disconnect();
    const outcomes = scene.ends.map((end) => ("outcome" in end ? end.outcome : undefined));
    expect(new Set(outcomes)).toEqual(new Set(["not_stored", "unknown"]));
  });

  test("is refused where too many wait", () => {
    const scene = new Scene();
    for (let n = 0; n < 3; n++) scene.publish();
    expect(scene.ends).toHaveLength(1);
    expect(scene.ends[0]).toMatchObject({ reason: "OVERLOADED", ...NOT_STORED, retryAfterMs: 100 });
  });
});

test("publishes that are to be tried again count as waiting: a stream without a leader piles up no more of them", async () => {
  const scene = new Scene();
  scene.publish();
  scene.connection.take().handler.onReply(nobody());
  const question = scene.connection.take();
  scene.publish();
  scene.connection.take().handler.onReply(nobody());
  expect(scene.ends).toMatchObject([{ reason: "OVERLOADED", outcome: "not_stored", retryAfterMs: 100 }]);
  expect({ inFlight: scene.publisher.inFlight, waiting: scene.publisher.waiting }).toEqual({ inFlight: 0, waiting: 1 });
  question.handler.onReply(FOUND);
  await scene.pass(100);
  scene.connection.take().handler.onReply(STORED);
  expect(scene.ends.slice(1)).toMatchObject([{ stream: "s", sequence: 7n }]);
  expect({ inFlight: scene.publisher.inFlight, waiting: scene.publisher.waiting }).toEqual({ inFlight: 0, waiting: 0 });
});

test("every acknowledgement is read as JSON says, whatever came before it", () => {
  const stream = fc.constantFrom("orders", "ORDERS", "o", 'a"b', "a\\b", "ü");
  const seq = fc.oneof(
    fc.nat(20),
    fc.maxSafeInteger().filter((number) => number >= 0),
  );
  const more = fc.constantFrom("", ', "duplicate": true', ', "duplicate":false', ', "val":"1"', " ", "}", "x", '"');
  const domain = fc.constantFrom("", '"domain":"hub", ');
  const payload = fc
    .tuple(stream, domain, fc.constantFrom("", " "), seq, more)
    .map(
      ([name, where, blank, number, rest]) =>
        `{"stream":${JSON.stringify(name)},${where}"seq":${blank}${number}${rest}}`,
    );
  fc.assert(
    fc.property(fc.array(payload, { minLength: 1, maxLength: 8 }), (payloads) => {
      for (const text of payloads) {
        const scene = new Scene();
        scene.publish();
        scene.connection.take().handler.onReply({ ...STORED, payload: Buffer.from(text, "latin1") });
        let body: { stream: string; seq: number; duplicate?: boolean } | undefined;
        try {
          body = JSON.parse(text) as typeof body;
        } catch {
          body = undefined;
        }
        const end = body && { stream: body.stream, sequence: BigInt(body.seq), duplicate: body.duplicate === true };
        expect(scene.ends).toEqual(end === undefined ? [] : [end]);
      }
    }),
  );
});

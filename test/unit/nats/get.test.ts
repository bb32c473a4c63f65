import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { WindshiftError } from "../../../src/errors.ts";
import { JetStreamApi } from "../../../src/nats/api.ts";
import { Reader, type StoredMessage } from "../../../src/nats/get.ts";
import { FakeConnection, nobody, refusal, reply } from "./fake-connection.ts";
import { natsMessage } from "./nats-message.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const NO_MESSAGE_FOUND = 10037;
const LAST_SEQUENCE_NOT_READY = 10163;

class Scene {
  readonly connection = new FakeConnection();
  readonly reader = new Reader(new JetStreamApi(this.connection.as, { maxInFlight: 1, maxWaiting: 1 }), {
    maxInFlight: 1,
    maxWaiting: 1,
  });
  readonly ends: (StoredMessage | WindshiftError | undefined)[] = [];

  get(deadlineMs = 30_000): void {
    this.reader.fromLeader("s", { last_by_subj: "a" }, Date.now() + deadlineMs, {
      onFound: (message) => this.ends.push(message),
      onFailed: (error) => this.ends.push(error),
    });
  }
}

type Answer = (connection: FakeConnection) => void;
const FAILURES: readonly [name: string, answer: Answer, reason: string][] = [
  ["no answer in time", (connection) => connection.take().handler.onNoReply("timeout"), "NATS_UNAVAILABLE"],
  ["a broken connection", (connection) => connection.disconnect(), "NATS_UNAVAILABLE"],
  ["no connection", (connection) => connection.take().handler.onNoReply("not_sent"), "NATS_UNAVAILABLE"],
  ["nobody there", (connection) => connection.take().handler.onReply(nobody()), "NATS_UNAVAILABLE"],
  [
    "a leader that is not ready",
    (connection) => connection.take().handler.onReply(refusal(LAST_SEQUENCE_NOT_READY)),
    "NO_LEADER",
  ],
];

test.for(FAILURES)("%s may be asked again, and says nothing of an outcome", ([, answer, reason]) => {
  const scene = new Scene();
  scene.get();
  answer(scene.connection);
  expect(scene.ends).toHaveLength(1);
  expect(scene.ends[0]).toMatchObject({ reason, outcome: undefined, retryAfterMs: 500 });
});

test("an answer that is no JSON is an error, and harms no other read", () => {
  const scene = new Scene();
  scene.get();
  scene.connection.take().handler.onReply(reply("{"));
  scene.get();
  scene.connection.take().handler.onReply(refusal(NO_MESSAGE_FOUND));
  expect(scene.ends).toMatchObject([{ reason: "INTERNAL", outcome: undefined }, undefined]);
});

describe("a direct get", () => {
  function answered(sequence: string): Scene {
    const scene = new Scene();
    scene.reader.direct("s", { last_by_subj: "a" }, Date.now() + 30_000, {
      onFound: (message) => scene.ends.push(message),
      onFailed: (error) => scene.ends.push(error),
    });
    const block = `NATS/1.0\r\nNats-Stream: s\r\nNats-Subject: a\r\nNats-Sequence: ${sequence}\r\n\r\n`;
    scene.connection.take().handler.onReply(natsMessage({ headers: Buffer.from(block) }));
    return scene;
  }

  test.for([1n, 9n, 10n, 4_503_599_627_370_497n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 53n + 1n, 2n ** 64n - 1n])(
    "finds the message with sequence %s",
    (sequence) => {
      expect(answered(String(sequence)).ends).toMatchObject([{ sequence, subject: "a" }]);
    },
  );

  test.for(["1x", "x1", "1 2", "-"])("takes %s for no sequence", (sequence) => {
    expect(answered(sequence).ends).toMatchObject([{ reason: "INTERNAL" }]);
  });
});

describe("a read that waits for its turn", () => {
  test("ends at its deadline, is not sent, and leaves the queue", async () => {
    const scene = new Scene();
    scene.get();
    scene.get(200);
    await vi.advanceTimersByTimeAsync(220);
    expect(scene.ends).toMatchObject([{ reason: "DEADLINE_EXCEEDED", outcome: undefined, retryAfterMs: 100 }]);
    scene.connection.take().handler.onReply(refusal(NO_MESSAGE_FOUND));
    expect(scene.connection.sent).toEqual([]);
  });

  test("is not sent when its turn comes at its deadline", () => {
    const scene = new Scene();
    scene.get();
    scene.get(200);
    vi.setSystemTime(Date.now() + 200);
    scene.connection.take().handler.onReply(refusal(NO_MESSAGE_FOUND));
    expect(scene.ends.map((end) => (end as WindshiftError | undefined)?.reason)).toContain("DEADLINE_EXCEEDED");
    expect(scene.connection.sent).toEqual([]);
  });

  test("is refused where too many wait, and says nothing of an outcome", () => {
    const scene = new Scene();
    for (let n = 0; n < 3; n++) scene.get();
    expect(scene.ends).toMatchObject([{ reason: "OVERLOADED", outcome: undefined, retryAfterMs: 100 }]);
  });
});

test.for([
  ["by a majority", [1_000_000, 0], true],
  ["by nobody just now", [60_000_000_000, 3_000_000_000], false],
  ["by nobody ever", [0, 0], false],
  ["as the only one", [], true],
] as const)("a leader is followed %s: %j", async ([, active, isFollowed]) => {
  const scene = new Scene();
  const progress = scene.reader.progress("s", Date.now() + 1_000);
  const replicas = active.map((since) => ({ name: "n", current: true, active: since }));
  scene.connection.take().handler.onReply(reply({ state: { last_seq: 5, messages: 1 }, cluster: { replicas } }));
  expect(await progress).toEqual({ lastSequence: 5n, isEmpty: false, isFollowed });
});

test("a write to the API whose deadline has passed is not sent", async () => {
  const { connection } = new Scene();
  const update = new JetStreamApi(connection.as, { maxInFlight: 1, maxWaiting: 1 }).updateStream(
    { name: "s" },
    { deadlineMs: Date.now() },
  );
  await expect(update).rejects.toMatchObject({ reason: "DEADLINE_EXCEEDED", outcome: "not_stored", retryAfterMs: 500 });
  expect(connection.sent).toEqual([]);
});

test("fewer reads are in flight while answers are large, and more again while they are small", () => {
  const connection = new FakeConnection();
  const limits = { maxInFlight: 100, maxWaiting: 10_000 };
  const reader = new Reader(new JetStreamApi(connection.as, limits), limits);
  const ignore = { onFound: () => undefined, onFailed: () => undefined };
  for (let n = 0; n < 5_000; n++) reader.fromLeader("s", { last_by_subj: "a" }, Date.now() + 30_000, ignore);
  const inFlight = (): number => connection.sent.length;
  const answer = (size: number): void => {
    connection.take().handler.onReply({ ...refusal(NO_MESSAGE_FOUND), size });
  };
  expect(inFlight()).toBe(32);
  for (let n = 0; n < 28; n++) answer(1024 * 1024);
  expect(inFlight()).toBe(4);
  for (let n = 0; n < 200; n++) answer(100);
  expect(inFlight()).toBe(100);
  answer(8 * 1024 * 1024);
  for (let n = 0; n < 99; n++) answer(8 * 1024 * 1024);
  expect(inFlight()).toBe(1);
});

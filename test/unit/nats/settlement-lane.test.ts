import { beforeEach, describe, expect, test } from "vitest";
import type { NoReply, ReplyHandler } from "../../../src/nats/connection.ts";
import { SettlementLane } from "../../../src/nats/settlement-lane.ts";
import { FakeConnection, reply } from "./fake-connection.ts";

const ACK = Buffer.from("+ACK");

class Told implements ReplyHandler {
  readonly results: (NoReply | "reply")[] = [];

  onReply(): void {
    this.results.push("reply");
  }

  onNoReply(why: NoReply): void {
    this.results.push(why);
  }
}

let connection: FakeConnection;
let told: Told;

beforeEach(() => {
  connection = new FakeConnection();
  told = new Told();
});

function send(lane: SettlementLane, ...subjects: string[]): void {
  for (const subject of subjects) lane.send(subject, ACK, true, told);
}

describe("beside a single nats-server", () => {
  test("of those that leave together the last one asks, and its answer is that of all", () => {
    const lane = new SettlementLane(connection.as, false);
    send(lane, "a", "b", "c");
    expect(connection.sent).toEqual([]);
    connection.flush();
    expect(connection.published.map(({ subject }) => subject)).toEqual(["a", "b"]);
    expect(connection.sent.map(({ subject }) => subject)).toEqual(["c"]);
    expect(told.results).toEqual([]);
    connection.take().handler.onReply(reply(""));
    expect(told.results).toEqual(["reply", "reply", "reply"]);
  });

  test("those that leave later have an answer of their own", () => {
    const lane = new SettlementLane(connection.as, false);
    send(lane, "a");
    connection.flush();
    send(lane, "b");
    connection.flush();
    expect(connection.sent.map(({ subject }) => subject)).toEqual(["a", "b"]);
    connection.take().handler.onReply(reply(""));
    connection.take().handler.onNoReply("timeout");
    expect(told.results).toEqual(["reply", "timeout"]);
  });

  test("a write in the midst of them ends the group with the one that brought it about", () => {
    const lane = new SettlementLane(connection.as, false);
    send(lane, "a", "b");
    connection.onPublish = () => connection.flush();
    send(lane, "c");
    expect(connection.published.map(({ subject }) => subject)).toEqual(["a", "b"]);
    expect(connection.sent.map(({ subject }) => subject)).toEqual(["c"]);
  });

  test("no answer is that of all, too", () => {
    const lane = new SettlementLane(connection.as, false);
    send(lane, "a", "b");
    connection.flush();
    connection.disconnect();
    expect(told.results).toEqual(["disconnected", "disconnected"]);
  });

  test("one whose event came before an outage asks for itself", () => {
    const lane = new SettlementLane(connection.as, false);
    lane.send("old", ACK, false, told);
    send(lane, "a", "b");
    connection.flush();
    expect(connection.published.map(({ subject }) => subject)).toEqual(["a"]);
    expect(connection.sent.map(({ subject }) => subject)).toEqual(["old", "b"]);
  });

  test("after a refusal the answer is that of the last one alone", () => {
    const lane = new SettlementLane(connection.as, false);
    lane.send("a", ACK, true, told);
    const last = new Told();
    lane.send("b", ACK, true, last);
    connection.flush();
    connection.isAnsweredInOrder = false;
    connection.take().handler.onReply(reply(""));
    expect([told.results, last.results]).toEqual([["timeout"], ["reply"]]);
  });

  test("each hears of the answer, also when one of them throws", () => {
    const lane = new SettlementLane(connection.as, false);
    const broken = new Error("broken");
    const throwing: ReplyHandler = {
      onReply: () => {
        throw broken;
      },
      onNoReply: () => undefined,
    };
    lane.send("a", ACK, true, throwing);
    send(lane, "b");
    connection.flush();
    const { handler } = connection.take();
    expect(() => handler.onReply(reply(""))).toThrow(broken);
    expect(told.results).toEqual(["reply"]);
  });

  test("an answer on another connection is none", () => {
    const lane = new SettlementLane(connection.as, false);
    send(lane, "a", "b");
    connection.connects += 1;
    connection.flush();
    expect(connection.sent).toEqual([]);
    expect(told.results).toEqual(["disconnected", "disconnected"]);
  });
});

test.for([
  ["of a consumer that is replicated", true, true],
  ["where answers are not in order", false, false],
] as const)("%s each asks for itself", ([, isReplicated, isAnsweredInOrder]) => {
  connection.isAnsweredInOrder = isAnsweredInOrder;
  send(new SettlementLane(connection.as, isReplicated), "a", "b");
  expect(connection.published).toEqual([]);
  expect(connection.sent.map(({ subject }) => subject)).toEqual(["a", "b"]);
});

import type { ConsumerInfo } from "@nats-io/jetstream";
import { afterEach, describe, expect, onTestFinished, test } from "vitest";
import { WindshiftError } from "../../../src/errors.ts";
import type { JetStreamApi } from "../../../src/nats/api.ts";
import { Pull, PullMonitor, type PullSource } from "../../../src/nats/pull.ts";
import { FakeConnection } from "./fake-connection.ts";

const CREATED = "2026-01-01T00:00:00.5Z";
const LATER = "2026-01-01T00:00:01.5Z";
const SOURCE: PullSource = {
  stream: "s",
  consumer: "c",
  created: CREATED,
  isEphemeral: false,
  seenAt: CREATED,
  resetMark: undefined,
  group: undefined,
  maxBytes: 1_000,
  window: Infinity,
};
const CLUSTER = { name: "cluster", leader: "n1" };

let connection = new FakeConnection();
/** Questions whether the consumer is there, the oldest first. */
let answers: PromiseWithResolvers<ConsumerInfo>[] = [];
/** What the handler was told. */
let told: string[] = [];

afterEach(() => {
  connection = new FakeConnection();
  answers = [];
  told = [];
});

function open(source: Partial<PullSource> = {}): Pull {
  const consumerInfo = async (): Promise<ConsumerInfo> => {
    const answer = Promise.withResolvers<ConsumerInfo>();
    answers.push(answer);
    return answer.promise;
  };
  const api = { connection: connection.as, consumerInfo } as unknown as JetStreamApi;
  const monitor = new PullMonitor();
  const pull = new Pull(
    api,
    monitor,
    { ...SOURCE, ...source },
    {
      onMessage: () => undefined,
      onSurplus: () => told.push("surplus"),
      onReachable: () => undefined,
      onDoubt: () => told.push("doubt"),
      onGone: ({ reason }) => told.push(reason),
    },
  );
  onTestFinished(() => {
    pull.close();
    monitor[Symbol.dispose]();
  });
  return pull;
}

/** Answers the oldest question. */
async function answer(info: Partial<ConsumerInfo> | WindshiftError): Promise<void> {
  const { resolve, reject, promise } = answers.shift()!;
  if (info instanceof WindshiftError) reject(info);
  else resolve({ created: CREATED, ts: CREATED, config: {}, ...info } as ConsumerInfo);
  await promise.catch(() => undefined);
}

/** The connection was lost, and is there again. */
function reconnect(): void {
  connection.disconnect();
  connection.connect();
}

test("an answer from before a deletion does not count", async () => {
  const pull = open();
  pull.verify();
  pull.deleted();
  expect(answers).toHaveLength(2);
  await answer({});
  await answer(new WindshiftError("CONSUMER_NOT_FOUND", "it is gone"));
  expect(told).toEqual(["CONSUMER_NOT_FOUND"]);
});

describe("after an outage nothing counts as verified before the consumer was seen again", () => {
  test.for([
    ["a durable one", {}],
    ["an ephemeral one", { isEphemeral: true }],
  ] as const)("%s", async ([, source]) => {
    const pull = open(source);
    expect(pull.isVerified).toBe(true);
    reconnect();
    expect(pull.isVerified).toBe(false);
    await answer({});
    expect({ told, isVerified: pull.isVerified }).toEqual({ told: [], isVerified: true });
  });
});

describe("one that is stopped", () => {
  test("looks after its consumer until it is closed", async () => {
    const pull = open();
    const { epoch } = pull;
    await pull.stop();
    reconnect();
    expect(pull.epoch).toBeGreaterThan(epoch);
    expect(pull.isVerified).toBe(false);
    await answer({ created: LATER });
    expect(told).toEqual(["CONSUMER_NOT_FOUND"]);
  });

  test("asks for nothing", async () => {
    const pull = open();
    pull.grant(1, 0);
    await pull.stop();
    connection.flush();
    expect(connection.asked).toEqual([]);
  });

  test("and closed is never verified again", async () => {
    const pull = open();
    await pull.stop();
    pull.close();
    reconnect();
    expect({ questions: answers.length, isVerified: pull.isVerified }).toEqual({ questions: 0, isVerified: false });
  });
});

test("what comes to one that is closed is dropped", () => {
  const pull = open();
  pull.grant(1, 0);
  connection.flush();
  expect(connection.subscriptions.size).toBe(1);
  pull.close();
  expect(connection.subscriptions.size).toBe(0);
});

describe("one that was opened while its consumer had no leader", () => {
  const unknown = { created: undefined, seenAt: undefined };

  test("asks for nothing before it knows its consumer", async () => {
    const pull = open(unknown);
    pull.grant(1, 0);
    connection.flush();
    expect({ asked: connection.asked, isVerified: pull.isVerified }).toEqual({ asked: [], isVerified: false });
    await answer({ cluster: CLUSTER });
    connection.flush();
    expect({ asked: connection.asked.length, isVerified: pull.isVerified }).toEqual({ asked: 1, isVerified: true });
  });

  test("recognizes another one that was made later", async () => {
    const pull = open(unknown);
    await answer({ cluster: CLUSTER });
    pull.deleted();
    await answer({ created: LATER, cluster: CLUSTER });
    expect(told).toEqual(["CONSUMER_NOT_FOUND"]);
  });

  test("recognizes another one by its group", async () => {
    open({ ...unknown, group: "first" });
    await answer({ created: LATER, cluster: { ...CLUSTER, raft_group: "second" } });
    expect(told).toEqual(["CONSUMER_NOT_FOUND"]);
  });

  test("learns the group of its consumer", async () => {
    const pull = open(unknown);
    await answer({ cluster: { ...CLUSTER, raft_group: "first" } });
    pull.verify();
    await answer({ created: LATER, cluster: { ...CLUSTER, raft_group: "first" } });
    expect(told).toEqual([]);
    pull.verify();
    await answer({ cluster: { ...CLUSTER, raft_group: "second" } });
    expect(told).toEqual(["CONSUMER_NOT_FOUND"]);
  });
});

describe("an ephemeral consumer", () => {
  test("of a NATS that was restarted is the same, made anew as it is", async () => {
    const pull = open({ isEphemeral: true });
    pull.verify();
    await answer({ created: LATER, ts: LATER });
    expect({ told, isVerified: pull.isVerified }).toEqual({ told: [], isVerified: true });
  });

  test("of which a deletion was told is another one", async () => {
    const pull = open({ isEphemeral: true });
    pull.deleted();
    await answer({ created: LATER, ts: LATER });
    expect(told).toEqual(["CONSUMER_NOT_FOUND"]);
  });

  test("of another group is another one", async () => {
    const pull = open({ isEphemeral: true, group: "first" });
    pull.verify();
    await answer({ created: LATER, cluster: { ...CLUSTER, raft_group: "second" } });
    expect(told).toEqual(["CONSUMER_NOT_FOUND"]);
  });
});

test("a durable consumer with another time and no group is doubted, and believed", async () => {
  const pull = open();
  pull.verify();
  await answer({ created: LATER, cluster: CLUSTER });
  expect({ told, isVerified: pull.isVerified }).toEqual({ told: ["doubt"], isVerified: true });
});

import type { ConsumerInfo } from "@nats-io/jetstream";
import { expect, test } from "vitest";
import { WindshiftError } from "../../../src/errors.ts";
import type { JetStreamApi } from "../../../src/nats/api.ts";
import { Pull, type PullHandler, PullMonitor } from "../../../src/nats/pull.ts";
import { FakeConnection } from "./fake-connection.ts";

const CREATED = "2026-01-01T00:00:00.5Z";
const SOURCE = {
  stream: "s",
  consumer: "c",
  created: CREATED,
  seenAt: CREATED,
  resetMark: undefined,
  group: undefined,
  maxBytes: 1_000,
  window: Infinity,
};

test("an answer from before a deletion does not count", async () => {
  const answers: PromiseWithResolvers<ConsumerInfo>[] = [];
  const consumerInfo = async (): Promise<ConsumerInfo> => {
    const answer = Promise.withResolvers<ConsumerInfo>();
    answers.push(answer);
    return answer.promise;
  };
  const api = { connection: new FakeConnection().as, consumerInfo } as unknown as JetStreamApi;
  using monitor = new PullMonitor();
  const { promise: gone, resolve } = Promise.withResolvers<WindshiftError>();
  const handler: PullHandler = {
    onMessage: () => undefined,
    onSurplus: () => undefined,
    onReachable: () => undefined,
    onDoubt: () => undefined,
    onGone: resolve,
  };
  const pull = new Pull(api, monitor, SOURCE, handler);
  pull.verify();
  pull.deleted();
  expect(answers).toHaveLength(2);
  answers[0]!.resolve({ created: CREATED, ts: CREATED, config: {} } as ConsumerInfo);
  answers[1]!.reject(new WindshiftError("CONSUMER_NOT_FOUND", "it is gone"));
  expect(await gone).toMatchObject({ reason: "CONSUMER_NOT_FOUND" });
  await pull.close();
});

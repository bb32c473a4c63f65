import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { OpenSubscriptions } from "../../../src/events/open-subscriptions.ts";
import { Peers } from "../../../src/nats/peers.ts";
import { FakeConnection, reply } from "../nats/fake-connection.ts";

let connection: FakeConnection;
let open: OpenSubscriptions;

beforeEach(() => {
  vi.useFakeTimers();
  connection = new FakeConnection();
  open = new OpenSubscriptions(new Peers(connection.as), "here");
});
afterEach(() => vi.useRealTimers());

/** What servers answer, each so long after the one before. */
async function answer(...answers: readonly (readonly [afterMs: number, body: object])[]): Promise<void> {
  for (const [afterMs, body] of answers) {
    await vi.advanceTimersByTimeAsync(afterMs);
    connection.subscriptions.get("inbox")?.(reply(body));
  }
  await vi.advanceTimersByTimeAsync(1_000);
}

test("a reset waits for a server that is slow to end its subscriptions", async () => {
  const ended = open.beginReset("s", "c");
  await answer([1, { server: "here", ended: 0 }], [400, { server: "slow", ended: 2 }]);
  expect(await ended).toBe(2);
});

test("a report does not wait for a server that is slow", async () => {
  const report = open.report("s", "c");
  await answer([1, { server: "here", subscriptions: [] }], [90, { server: "other", subscriptions: [] }]);
  expect(await report).toMatchObject({ servers: 2 });
  const other = open.report("s", "c");
  await answer([1, { server: "here", subscriptions: [] }], [400, { server: "slow", subscriptions: [] }]);
  expect(await other).toMatchObject({ servers: 1 });
});

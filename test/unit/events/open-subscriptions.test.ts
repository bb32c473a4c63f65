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

function ended(server: string, count: number): object {
  return { server, ended: count, isRefused: false };
}

/** What this server answers when another one says that it resets the consumer, or has done. */
async function announced(server: string, isOver = false): Promise<unknown> {
  const notice = { ...reply({ server, stream: "s", consumer: "c", isOver }), reply: "elsewhere" };
  connection.subscriptions.get("$WINDSHIFT._.consumer-resets")?.(notice);
  return JSON.parse(connection.published.at(-1)!.payload);
}

test("a reset waits for a server that is slow to end its subscriptions", async () => {
  const reset = open.beginReset("s", "c");
  await answer([1, ended("here", 0)], [400, ended("slow", 2)]);
  expect(await reset).toBe(2);
});

test("a report does not wait for a server that is slow", async () => {
  const report = open.report("s", "c");
  await answer([1, { server: "here", subscriptions: [] }], [90, { server: "other", subscriptions: [] }]);
  expect(await report).toMatchObject({ servers: 2 });
  const other = open.report("s", "c");
  await answer([1, { server: "here", subscriptions: [] }], [400, { server: "slow", subscriptions: [] }]);
  expect(await other).toMatchObject({ servers: 1 });
});

test("of two servers that begin to reset at once, the one whose name comes first goes first", async () => {
  const first = open.beginReset("s", "c");
  expect(await announced("later")).toEqual({ server: "here", ended: 0, isRefused: true });
  await answer([1, ended("here", 0)], [1, ended("later", 1)]);
  expect(await first).toBe(1);
  await ending();
  const second = open.beginReset("s", "c").catch((error: unknown) => error);
  expect(await announced("before")).toEqual({ server: "here", ended: 0, isRefused: false });
  await answer([1, ended("here", 0)], [1, { server: "before", ended: 0, isRefused: true }]);
  expect(await second).toMatchObject({ reason: "CONSUMER_RESET" });
  // The other one is at it, until it says that it is not.
  expect(() => open.refuseDuringReset("s", "c")).toThrow("set to another place");
  await announced("another", true);
  expect(() => open.refuseDuringReset("s", "c")).toThrow("set to another place");
  await announced("before", true);
  expect(() => open.refuseDuringReset("s", "c")).not.toThrow();
  // Nothing of the own one is left.
  expect(await announced("later")).toMatchObject({ isRefused: false });
});

test("a reset that all have granted is not interrupted", async () => {
  const reset = open.beginReset("s", "c");
  await answer([1, ended("here", 0)]);
  await reset;
  expect(await announced("before")).toMatchObject({ isRefused: true });
  await ending();
  expect(await announced("before")).toMatchObject({ isRefused: false });
});

test("who gives way tells the others, and keeps nobody away from then on", async () => {
  const reset = open.beginReset("s", "c").catch((error: unknown) => error);
  await answer([1, ended("here", 0)], [1, { server: "unheard", ended: 0, isRefused: true }]);
  expect(await reset).toMatchObject({ reason: "CONSUMER_RESET" });
  const said = connection.asked.map(({ payload }) => JSON.parse(payload) as { isOver: boolean });
  expect(said.map(({ isOver }) => isOver)).toEqual([false, true]);
  expect(() => open.refuseDuringReset("s", "c")).not.toThrow();
});

async function ending(): Promise<void> {
  const over = open.endReset("s", "c");
  await answer([1, ended("here", 0)]);
  await over;
}

/** What a subscription that asked for status updates is told, and when. */
import { describe, expect } from "vitest";
import { SubscriptionStatus_State as State } from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { Link } from "../chaos/proxy.ts";
import type { Client, EventsCall } from "../support/client.ts";
import { type Source, Worker, consumerState, createSource, publishMany } from "../support/consuming.ts";
import { test } from "../support/fixtures.ts";
import { startNats } from "../support/nats.ts";
import { startWindshift } from "../support/windshift.ts";

const PATIENT = { timeout: 30_000 };
/** What the contract allows until a subscription that lost NATS is told so. */
const TOLD_IN_TIME = { timeout: 10_000 };

async function subscribe(client: Client, { stream, consumer }: Source, window?: bigint): Promise<EventsCall> {
  return client.subscribe(stream, consumer, window, { statusUpdates: true });
}

const NAMES = new Map<State, string>(Object.entries(State).map(([name, state]) => [state, name]));

/** Everything that came, in order: ids of events, names of states. */
function told({ received }: EventsCall): (string | bigint)[] {
  return received.flatMap(({ response }): (string | bigint)[] => {
    if (response.case === "event") return [response.value.id];
    if (response.case === "status") return [NAMES.get(response.value.state) ?? "?"];
    return response.case === "subscribed" ? ["SUBSCRIBED"] : [];
  });
}

const BEGIN = ["SUBSCRIBED", "ACTIVE"];

describe("a subscription", () => {
  test("is told nothing unless it asks", async ({ client }) => {
    const source = await createSource(client, { events: 1 });
    const call = await client.subscribe(source.stream, source.consumer);
    await call.ackNow((await call.event()).id);
    expect(told(call)).toEqual(["SUBSCRIBED", 1n]);
    await call.cancel();
  });

  test("is active at once, and has caught up where nothing waits", async ({ client }) => {
    const source = await createSource(client);
    const call = await subscribe(client, source);
    await expect.poll(() => told(call)).toEqual([...BEGIN, "CAUGHT_UP"]);
    await call.cancel();
  });

  test("has caught up behind the last event, once, and again after more were waiting", async ({ client, jsm }) => {
    const source = await createSource(client, { events: 3 });
    const call = await subscribe(client, source, 2n);
    await expect.poll(() => told(call)).toEqual([...BEGIN, 1n, 2n]);
    call.ack(1n);
    await expect.poll(() => told(call)).toEqual([...BEGIN, 1n, 2n, 3n, "CAUGHT_UP"]);
    call.ack(2n, 3n);
    await expect.poll(() => consumerState(jsm, source)).toMatchObject({ held: 0 });
    await publishMany(client, source.subject, 1);
    await expect.poll(() => told(call)).toHaveLength(7);
    await publishMany(client, source.subject, 4);
    await expect.poll(() => told(call).slice(6)).toEqual([4n, 5n]);
    call.ack(4n, 5n);
    await expect.poll(() => told(call).slice(8)).toEqual([6n, 7n]);
    call.ack(6n, 7n);
    await expect.poll(() => told(call).slice(10)).toEqual([8n, "CAUGHT_UP"]);
    await call.cancel();
  });

  test("has caught up when another subscription took the last event", async ({ client }) => {
    const source = await createSource(client, { events: 2 });
    const call = await subscribe(client, source, 1n);
    await expect.poll(() => told(call)).toEqual([...BEGIN, 1n]);
    const other = await client.subscribe(source.stream, source.consumer, 1n);
    expect((await other.event()).id).toBe(2n);
    await expect.poll(() => told(call), PATIENT).toEqual([...BEGIN, 1n, "CAUGHT_UP"]);
    await call.cancel();
    await other.cancel();
  });
});

describe("while NATS is away", () => {
  test("a subscription is disconnected, and active again before events go on", async () => {
    await using nats = await startNats();
    await using windshift = await startWindshift(nats.url);
    const source = await createSource(windshift.client);
    const call = await subscribe(windshift.client, source);
    await expect.poll(() => told(call)).toEqual([...BEGIN, "CAUGHT_UP"]);
    await nats.stop();
    await expect.poll(() => told(call), TOLD_IN_TIME).toEqual([...BEGIN, "CAUGHT_UP", "DISCONNECTED"]);
    await nats.restart();
    await expect.poll(() => told(call), PATIENT).toEqual([...BEGIN, "CAUGHT_UP", "DISCONNECTED", "ACTIVE"]);
    const worker = new Worker(call);
    await publishMany(windshift.client, source.subject, 1);
    await expect.poll(() => worker.acked.size, PATIENT).toBe(1);
    expect(told(call).slice(5)).toEqual([1n]);
    await call.cancel();
  });

  test.for([false, true])("a silent NATS is noticed (ephemeral: %s)", async (ephemeral) => {
    await using nats = await startNats();
    await using link = await Link.open("server–NATS", () => nats.port);
    await using windshift = await startWindshift(`nats://127.0.0.1:${link.port}`);
    const source = await createSource(windshift.client, { ephemeral });
    const call = await subscribe(windshift.client, source);
    await expect.poll(() => told(call)).toEqual([...BEGIN, "CAUGHT_UP"]);
    link.blackHole();
    await expect.poll(() => told(call), TOLD_IN_TIME).toEqual([...BEGIN, "CAUGHT_UP", "DISCONNECTED"]);
    link.heal();
    await expect.poll(() => told(call), PATIENT).toEqual([...BEGIN, "CAUGHT_UP", "DISCONNECTED", "ACTIVE"]);
    await call.cancel();
  });
});

test("a server that leaves says so first, and takes what its clients settle", async ({ nats, jsm }) => {
  await using windshift = await startWindshift(nats.url, { SHUTDOWN_GRACE: "20s" });
  const { client } = windshift;
  const source = await createSource(client, { events: 1 });
  const call = await subscribe(client, source);
  await expect.poll(() => told(call)).toEqual([...BEGIN, 1n, "CAUGHT_UP"]);
  const stopped = windshift.daemon[Symbol.asyncDispose]();
  await expect.poll(() => told(call)).toEqual([...BEGIN, 1n, "CAUGHT_UP", "DRAINING"]);
  call.ack(1n);
  expect(await call.ended).toMatchObject({ status: "UNAVAILABLE", reason: "SERVER_DRAINING" });
  await stopped;
  expect(await consumerState(jsm, source)).toMatchObject({ held: 0, waiting: 0 });
});

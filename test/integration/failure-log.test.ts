/** The log and the metrics of events that fail. */
import type { JetStreamManager } from "@nats-io/jetstream";
import { describe, expect } from "vitest";
import { AdminClient } from "../support/admin-client.ts";
import type { Client } from "../support/client.ts";
import type { Source } from "../support/consuming.ts";
import { type Policy, createFailing, until } from "../support/failing.ts";
import { test } from "../support/fixtures.ts";
import { type Windshift, startWindshift } from "../support/windshift.ts";

const TRACE_ID = "0af7651916cd43dd8448eb211c80319c";

/** Publishes an event that has a trace, and a payload that nobody shall see. */
async function publishTraced(client: Client, { subject }: Source): Promise<bigint> {
  const request = { subject, data: { typeUrl: "", value: Buffer.from("secret payload") } };
  const metadata = { traceparent: `00-${TRACE_ID}-b7ad6b7169203331-01` };
  return (await client.publishEvent(request, { metadata })).id;
}

/** Samples of a metric that name a stream. */
async function samples(healthPort: number, name: string, stream: string): Promise<string[]> {
  const response = await fetch(`http://127.0.0.1:${healthPort}/metrics`);
  const lines = (await response.text()).split("\n");
  return lines.filter((line) => line.startsWith(name) && line.includes(`"${stream}"`));
}

describe("the log", () => {
  test("has a line for a rejected event, with its trace and the reason, and without its payload", async ({
    windshift,
    client,
  }) => {
    const source = await createFailing(client, undefined);
    const call = await client.subscribe(source.stream, "c");
    const id = await publishTraced(client, source);
    await call.event();
    call.send({ case: "reject", value: { ids: [id], reason: "no such customer" } });
    await call.confirmation();
    const lines = windshift.log.filter((line) => line["stream"] === source.stream);
    expect(lines).toEqual([
      expect.objectContaining({
        level: "warn",
        failure: "rejected",
        consumer: "c",
        subject: source.subject,
        id: Number(id),
        attempt: 1,
        cause: "rejected",
        reason: "no such customer",
        trace_id: TRACE_ID,
      }),
    ]);
    expect(JSON.stringify(windshift.log)).not.toContain("secret");
    await call.cancel();
  });

  test("has a line for each event that was not settled in time", async ({ windshift, client }) => {
    const source = await createFailing(client, undefined, 200);
    const call = await client.subscribe(source.stream, "c");
    const id = await publishTraced(client, source);
    await until(
      () => windshift.log.filter((line) => line["failure"] === "timed_out" && line["id"] === Number(id)).length > 1,
    );
    const lines = windshift.log.filter((line) => line["stream"] === source.stream);
    const line = { level: "warn", consumer: "c", subject: source.subject, cause: "timed_out", trace_id: TRACE_ID };
    expect(lines.slice(0, 2)).toMatchObject([
      { ...line, attempt: 1 },
      { ...line, attempt: 2 },
    ]);
    expect(JSON.stringify(lines)).not.toContain("secret");
    await call.cancel();
  });

  test("has a line for each event that became a dead letter", async ({ windshift, client }) => {
    const source = await createFailing(client, { maxAttempts: 2, deadLetter: {} });
    const call = await client.subscribe(source.stream, "c");
    for (const permanently of [true, false]) {
      const id = await publishTraced(client, source);
      for (const reason of permanently ? ["at once"] : ["first", "second"]) {
        while ((await call.event()).id !== id);
        call.send({ case: "reject", value: { ids: [id], permanently, reason } });
        expect((await call.confirmation()).ids).toEqual([id]);
      }
    }
    const lines = windshift.log.filter(
      (line) => line["stream"] === source.stream && line["failure"] === "dead_lettered",
    );
    const line = {
      level: "warn",
      consumer: "c",
      subject: source.subject,
      deadLetters: `${source.stream}-dead-letters`,
      trace_id: TRACE_ID,
    };
    expect(lines).toMatchObject([
      { ...line, id: 1, attempt: 1, cause: "rejected", reason: "at once" },
      { ...line, id: 2, attempt: 2, cause: "attempts", reason: "second" },
    ]);
    expect(JSON.stringify(windshift.log)).not.toContain("secret");
    await call.cancel();
  });

  test("says of a flood how much was left out, also when nothing follows", async ({ windshift, client }) => {
    const source = await createFailing(client, { maxAttempts: 1 });
    const call = await client.subscribe(source.stream, "c", 100n);
    const quiet = await createFailing(client, { maxAttempts: 1 });
    const other = await client.subscribe(quiet.stream, "c");
    await Promise.all(Array.from({ length: 100 }, async () => client.publish(source.subject)));
    const events = await call.take(100);
    call.send({ case: "reject", value: { ids: events.map(({ id }) => id) } });
    await call.confirmation();
    // The lines of another consumer are not left out for it.
    const id = await client.publish(quiet.subject);
    await other.event();
    other.send({ case: "reject", value: { ids: [id] } });
    await other.confirmation();
    expect(windshift.log.filter((line) => line["stream"] === quiet.stream)).toHaveLength(1);
    const lines = (): Record<string, unknown>[] => windshift.log.filter((line) => line["stream"] === source.stream);
    await until(() => lines().some((line) => line["leftOut"] !== undefined));
    const written = lines().filter((line) => line["id"] !== undefined).length;
    const leftOut = lines().reduce((sum, line) => sum + Number(line["leftOut"] ?? 0), 0);
    expect(written + leftOut).toBe(100);
    expect(written).toBeLessThan(100);
    await call.cancel();
    await other.cancel();
  });
});

test("an event that is given up once more while its letter is there has a line and a number, too", async ({ nats }) => {
  await using server = await startWindshift(nats.url);
  const { client } = server;
  const source = await createFailing(client, { deadLetter: {} });
  const admin = new AdminClient(client);
  const id = await client.publish(source.subject);
  for (let time = 0; time < 2; time++) {
    const call = await client.subscribe(source.stream, "c");
    await call.event();
    call.send({ case: "reject", value: { ids: [id], permanently: true, reason: `time ${time}` } });
    await call.confirmation();
    await call.cancel();
    const from = { pointer: { case: "start" as const, value: true } };
    await admin.resetConsumer({ stream: source.stream, id: "c", to: from });
  }
  const lines = server.log.filter((line) => line["failure"] === "dead_lettered");
  expect(lines).toMatchObject([{ reason: "time 0" }, { reason: "time 1", known: true }]);
  expect(lines[0]).not.toHaveProperty("known");
  const letters = await samples(server.daemon.healthPort, "windshift_dead_letters_total", source.stream);
  expect(letters.some((line) => /windshift_result="known".* 1$/.test(line))).toBe(true);
});

describe("metrics count", () => {
  /** Values of a metric's samples of a stream: cause, result where there is one, and the number. */
  async function counted({ daemon }: Windshift, name: string, stream: string): Promise<unknown[][]> {
    const lines = await samples(daemon.healthPort, name, stream);
    return lines.map((line) => {
      expect(line).toMatch(/consumer[^,]*="c"/);
      const labels = ["cause", "result"].flatMap((label) => new RegExp(`${label}="(\\w+)"`).exec(line)?.[1] ?? []);
      return [...labels, Number(line.slice(line.lastIndexOf(" ")))];
    });
  }

  test("rejects", async ({ nats }) => {
    await using server = await startWindshift(nats.url);
    const source = await createFailing(server.client, undefined);
    const call = await server.client.subscribe(source.stream, "c");
    const id = await server.client.publish(source.subject);
    for (let attempt = 0; attempt < 2; attempt++) {
      while ((await call.event()).id !== id);
      call.send({ case: "reject", value: { ids: [id] } });
      await call.confirmation();
    }
    expect(await counted(server, "windshift_failures_total", source.stream)).toEqual([["rejected", 2]]);
    await call.cancel();
  });

  test("events that were not settled in time", async ({ nats }) => {
    await using server = await startWindshift(nats.url);
    const source = await createFailing(server.client, { maxAttempts: 1 }, 200);
    const call = await server.client.subscribe(source.stream, "c");
    await server.client.publish(source.subject);
    await until(async () => (await counted(server, "windshift_dead_letters_total", source.stream)).length > 0);
    expect(await counted(server, "windshift_failures_total", source.stream)).toEqual([["timed_out", 1]]);
    expect(await counted(server, "windshift_dead_letters_total", source.stream)).toEqual([["attempts", "dropped", 1]]);
    await call.cancel();
  });

  test.for<[string, Policy, (jsm: JetStreamManager, source: Source) => Promise<unknown>, boolean]>([
    ["stored", { maxAttempts: 1, deadLetter: {} }, async () => undefined, true],
    ["dropped", { maxAttempts: 1 }, async () => undefined, true],
    ["lost", { maxAttempts: 1, deadLetter: {} }, async (jsm, { stream }) => jsm.streams.deleteMessage(stream, 1), true],
    [
      "failed",
      { maxAttempts: 1, deadLetter: {} },
      async (jsm, { stream }) => jsm.streams.update(`${stream}-dead-letters`, { max_msg_size: 1 }),
      false,
    ],
  ])("events that were given up: %s", async ([result, policy, prepare, isDone], { nats, jsm }) => {
    await using server = await startWindshift(nats.url);
    const source = await createFailing(server.client, policy);
    const call = await server.client.subscribe(source.stream, "c");
    const id = await server.client.publish(source.subject);
    await call.event();
    await prepare(jsm, source);
    call.send({ case: "reject", value: { ids: [id] } });
    expect((await call.confirmation()).ids).toEqual(isDone ? [id] : []);
    expect(await counted(server, "windshift_dead_letters_total", source.stream)).toEqual([["attempts", result, 1]]);
    await call.cancel();
  });
});

/** The log and the metrics of events that fail. */
import { describe, expect } from "vitest";
import { AdminClient } from "../support/admin-client.ts";
import { createFailing, until } from "../support/failing.ts";
import { test } from "../support/fixtures.ts";
import { startWindshift } from "../support/windshift.ts";

const TRACE_ID = "0af7651916cd43dd8448eb211c80319c";

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
    const request = { subject: source.subject, data: { typeUrl: "", value: Buffer.from("secret payload") } };
    const { id } = await client.publishEvent(request, {
      metadata: { traceparent: `00-${TRACE_ID}-b7ad6b7169203331-01` },
    });
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
    const id = await client.publish(source.subject);
    await until(
      () => windshift.log.filter((line) => line["failure"] === "timed_out" && line["id"] === Number(id)).length > 1,
    );
    const attempts = windshift.log.filter((line) => line["stream"] === source.stream).map((line) => line["attempt"]);
    expect(attempts.slice(0, 2)).toEqual([1, 2]);
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

test("metrics count failures, and what was given up, by cause and result", async ({ nats }) => {
  await using server = await startWindshift(nats.url);
  const { client } = server;
  const source = await createFailing(client, { maxAttempts: 2, deadLetter: {} });
  const call = await client.subscribe(source.stream, "c");
  const id = await client.publish(source.subject);
  for (const attempt of [1n, 2n]) {
    expect((await call.event()).deliveryAttempt).toBe(attempt);
    call.send({ case: "reject", value: { ids: [id] } });
    await call.confirmation();
  }
  const failures = await samples(server.daemon.healthPort, "windshift_failures_total", source.stream);
  expect(failures).toHaveLength(1);
  expect(failures[0]).toMatch(/windshift_cause="rejected".* 1$/);
  const letters = await samples(server.daemon.healthPort, "windshift_dead_letters_total", source.stream);
  expect(letters).toHaveLength(1);
  expect(letters[0]).toMatch(/windshift_cause="attempts".*windshift_result="stored".* 1$/);
  await call.cancel();
});

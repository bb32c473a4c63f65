/** Scheduled events: when they appear, that they appear once, and how they are taken back. */
import { randomUUID } from "node:crypto";
import type { JetStreamManager } from "@nats-io/jetstream";
import { describe, expect } from "vitest";
import { scheduleSubject } from "../../src/events/schedule.ts";
import { ExpectedLastIdScope } from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { type Client, failure, textOf } from "../support/client.ts";
import { findNothing, refuseOverAnother } from "../support/false-answers.ts";
import { test, uniqueName } from "../support/fixtures.ts";
import { startNats } from "../support/nats.ts";
import { consume, count, ensureStream, header } from "../support/publishing.ts";
import { startWindshift } from "../support/windshift.ts";

const TIMEOUT = { timeout: 20_000, interval: 50 };

/** So many seconds from now. */
function inSeconds(seconds: number): { seconds: bigint; nanos: number } {
  const ms = Date.now() + Math.round(seconds * 1000);
  return { seconds: BigInt(Math.floor(ms / 1000)), nanos: (ms % 1000) * 1_000_000 };
}

async function scheduling(client: Client, name = uniqueName()): Promise<string> {
  return ensureStream(client, { name, allowScheduling: true });
}

/** Messages under a subject. */
async function under(jsm: JetStreamManager, stream: string, subject: string): Promise<number> {
  const { state } = await jsm.streams.info(stream, { subjects_filter: subject });
  return Object.values(state.subjects ?? {}).reduce((sum, number) => sum + number, 0);
}

async function waiting(jsm: JetStreamManager, stream: string): Promise<number> {
  return under(jsm, stream, "ws-schedules.>");
}

describe("a scheduled event", () => {
  test("appears on its subject at its time, with all that it has", async ({ client, jsm }) => {
    const stream = await scheduling(client);
    const deliverAt = inSeconds(1.5);
    const rest = {
      deliverAt,
      timestamp: { seconds: 1n, nanos: 5 },
      idempotencyKey: "k",
      attributes: { a: "b" },
      timeToLive: { seconds: 60n },
    };
    expect(await client.publish(`${stream}.a`, "later", rest)).toBe(0n);
    expect(await client.publish(`${stream}.a`, "now")).toBe(2n);
    const [now, later] = await consume(client, stream, 2);
    expect(textOf(now!.data)).toBe("now");
    expect(Date.now()).toBeGreaterThanOrEqual(Number(deliverAt.seconds) * 1000);
    expect(later).toMatchObject({ id: 3n, subject: `${stream}.a`, deliveryAttempt: 1n });
    expect(textOf(later!.data)).toBe("later");
    expect(later!.headers).toMatchObject({
      idempotencyKey: "k",
      attributes: { a: "b" },
      timestamp: { seconds: 1n, nanos: 5 },
    });
    expect(await header(jsm, stream, 3n, "Nats-TTL")).toBe("60s");
    expect(await waiting(jsm, stream)).toBe(0);
    expect(await count(jsm, stream)).toBe(2);
  });

  test("in the past appears at once", async ({ client, jsm }) => {
    const stream = await scheduling(client);
    for (const deliverAt of [{ seconds: -62_135_596_800n }, { seconds: 0n }, inSeconds(-1)]) {
      expect(await client.publish(`${stream}.a`, "x", { deliverAt })).toBe(0n);
    }
    await expect.poll(async () => under(jsm, stream, `${stream}.>`), TIMEOUT).toBe(3);
  });

  test("waits while events as old as it are removed", async ({ client, jsm }) => {
    const stream = await ensureStream(client, {
      allowScheduling: true,
      retentionPolicy: { maxAge: { seconds: 1n } },
    });
    await client.publish(`${stream}.a`, "short", {});
    await client.publish(`${stream}.b`, "later", { deliverAt: inSeconds(3600) });
    await expect.poll(async () => count(jsm, stream), TIMEOUT).toBe(1);
    expect(await waiting(jsm, stream)).toBe(1);
  });

  test("may be 100 years ahead, or at the end of the time that NATS knows", async ({ client, jsm }) => {
    const stream = await scheduling(client);
    for (const deliverAt of [inSeconds(100 * 365.25 * 86_400), { seconds: 9_214_646_400n }]) {
      expect(await client.publish(`${stream}.a`, "x", { deliverAt })).toBe(0n);
    }
    expect(await waiting(jsm, stream)).toBe(2);
    expect(await header(jsm, stream, 2n, "Nats-Schedule")).toBe("@at 2262-01-01T00:00:00Z");
  });

  test.for<[what: string, deliverAt: { seconds: bigint; nanos?: number }, message: string]>([
    [
      "after 2262-01-01",
      { seconds: 9_214_646_400n, nanos: 1 },
      "deliver_at: 2262-01-01T00:00:00.000000001Z is later than 2262-01-01",
    ],
    ["in the year 9999", { seconds: 253_402_300_799n }, "deliver_at: 9999-12-31T23:59:59Z is later than 2262-01-01"],
    ["at no time", { seconds: 1n, nanos: -1 }, "deliver_at: 1 s and -1 ns is not a time in the years 1 to 9999"],
  ])("%s is refused", async ([, deliverAt, message], { client, jsm }) => {
    const stream = await scheduling(client);
    const error = await failure(client.publish(`${stream}.a`, "x", { deliverAt }));
    expect(error).toMatchObject({ status: "INVALID_ARGUMENT", reason: "INVALID_VALUE", fields: ["deliver_at"] });
    expect(error.message).toBe(message);
    expect(await count(jsm, stream)).toBe(0);
  });

  test.for([60, -60])("%i s ahead is refused by a stream that does not allow it", async (seconds, { client, jsm }) => {
    const stream = await ensureStream(client);
    const error = await failure(client.publish(`${stream}.a`, "x", { deliverAt: inSeconds(seconds) }));
    expect(error).toMatchObject({
      status: "FAILED_PRECONDITION",
      reason: "NOT_ENABLED",
      metadata: { stream, subject: `${stream}.a`, outcome: "not_stored" },
    });
    expect(error.message).toBe(`deliver_at: stream "${stream}" does not allow it; ensure it with allow_scheduling`);
    expect(await count(jsm, stream)).toBe(0);
  });

  test("for a subject that no stream collects is NOT_FOUND", async ({ client }) => {
    const error = await failure(client.publish(`${uniqueName("nowhere")}.a`, "x", { deliverAt: inSeconds(60) }));
    expect(error).toMatchObject({
      status: "NOT_FOUND",
      reason: "SUBJECT_NOT_BOUND",
      metadata: { outcome: "not_stored" },
    });
  });

  test("is not delivered before its time, nor read by its place", async ({ client }) => {
    const stream = await scheduling(client);
    await client.publish(`${stream}.a`, "later", { deliverAt: inSeconds(3600) });
    await client.publish(`${stream}.a`, "now");
    const [event] = await consume(client, stream, 1);
    expect(textOf(event!.data)).toBe("now");
    expect(await failure(client.getEvent({ stream, event: { case: "id", value: 1n } }))).toMatchObject({
      status: "NOT_FOUND",
    });
  });

  test("comes with other events of a publish stream and of PublishEvents", async ({ client, jsm }) => {
    const stream = await scheduling(client);
    const call = client.publishStream();
    call.publish(1n, `${stream}.a`, "1", { deliverAt: inSeconds(3600) });
    call.publish(2n, `${stream}.a`, "2");
    expect(await call.finish()).toBeUndefined();
    expect(call.results.get(1n)).toBe(0n);
    expect(call.results.get(2n)).toBeTypeOf("bigint");
    expect(await waiting(jsm, stream)).toBe(1);
  });
});

describe("expected_last_id", () => {
  test("is checked when an event is scheduled, with the subject that it will appear on", async ({ client }) => {
    const stream = await scheduling(client);
    const deliverAt = inSeconds(3600);
    const first = await client.publish(`${stream}.a`);
    const error = await failure(client.publish(`${stream}.a`, "x", { deliverAt, expectedLastId: 0n }));
    expect(error).toMatchObject({ status: "FAILED_PRECONDITION", reason: "LAST_ID_MISMATCH" });
    expect(await client.publish(`${stream}.a`, "x", { deliverAt, expectedLastId: first })).toBe(0n);
    expect(await client.publish(`${stream}.b`, "x", { deliverAt, expectedLastId: 0n })).toBe(0n);
  });

  test("of the stream is checked when an event is scheduled", async ({ client, jsm }) => {
    const stream = await scheduling(client);
    const rest = { deliverAt: inSeconds(3600), expectedLastIdScope: ExpectedLastIdScope.STREAM };
    const first = await client.publish(`${stream}.a`);
    const last = await client.publish(`${stream}.b`);
    for (const wrong of [0n, first]) {
      const error = await failure(client.publish(`${stream}.a`, "x", { ...rest, expectedLastId: wrong }));
      expect(error).toMatchObject({ status: "FAILED_PRECONDITION", reason: "LAST_ID_MISMATCH" });
    }
    expect(await client.publish(`${stream}.a`, "x", { ...rest, expectedLastId: last })).toBe(0n);
    expect(await waiting(jsm, stream)).toBe(1);
  });

  test("does not refuse the repeat of an event that waits, or has appeared", async ({ client, jsm }) => {
    const stream = await scheduling(client);
    const rest = { deliverAt: inSeconds(1), expectedLastId: 0n, idempotencyKey: "k" };
    for (let n = 0; n < 2; n++) expect(await client.publish(`${stream}.a`, "x", rest)).toBe(0n);
    await expect.poll(async () => under(jsm, stream, `${stream}.a`), TIMEOUT).toBe(1);
    expect(await client.publish(`${stream}.a`, "x", rest)).toBe(0n);
    await client.publish(`${stream}.a`, "another");
    expect(await client.publish(`${stream}.a`, "x", rest)).toBe(0n);
    expect(await waiting(jsm, stream)).toBe(0);
    for (const wrong of [
      { ...rest, idempotencyKey: "other" },
      { ...rest, idempotencyKey: "third", expectedLastId: 2n ** 64n - 1n },
    ]) {
      const error = await failure(client.publish(`${stream}.a`, "x", wrong));
      expect(error).toMatchObject({ reason: "LAST_ID_MISMATCH" });
    }
  });

  test.for([3, 4, 5])(
    "does not refuse the repeat of an event that waits although look %i finds nothing",
    async (after, { client }) => {
      const stream = await scheduling(client);
      const rest = { deliverAt: inSeconds(3600), expectedLastId: 0n, idempotencyKey: "k" };
      expect(await client.publish(`${stream}.a`, "x", rest)).toBe(0n);
      await client.publish(`${stream}.a`, "another");
      using _ = findNothing(stream, { times: 1, after: after - 1 });
      expect(await client.publish(`${stream}.a`, "x", rest)).toBe(0n);
    },
  );
});

describe("a key", () => {
  test("that comes again schedules once, while the event waits and after it has appeared", async ({ client, jsm }) => {
    const stream = await scheduling(client);
    const publish = async () => client.publish(`${stream}.a`, "x", { deliverAt: inSeconds(1), idempotencyKey: "k" });
    for (let n = 0; n < 3; n++) expect(await publish()).toBe(0n);
    expect(await waiting(jsm, stream)).toBe(1);
    await expect.poll(async () => under(jsm, stream, `${stream}.a`), TIMEOUT).toBe(1);
    expect(await publish()).toBe(0n);
    await client.publish(`${stream}.a`, "another");
    expect(await publish()).toBe(0n);
    expect(await waiting(jsm, stream)).toBe(0);
  });

  test("of an event that waits for another subject is refused, and that one appears", async ({ client, jsm }) => {
    const stream = await scheduling(client);
    const rest = { deliverAt: inSeconds(2), idempotencyKey: "k" };
    await client.publish(`${stream}.a`, "first", rest);
    expect(await failure(client.publish(`${stream}.b`, "second", rest))).toMatchObject({
      status: "ALREADY_EXISTS",
      reason: "EVENT_EXISTS",
    });
    await expect.poll(async () => under(jsm, stream, `${stream}.a`), TIMEOUT).toBe(1);
    expect(await under(jsm, stream, `${stream}.b`)).toBe(0);
  });

  test("that comes again after NATS has started anew does not bring the event again", async () => {
    await using nats = await startNats();
    await using windshift = await startWindshift(nats.url);
    const { client } = windshift;
    const stream = await scheduling(client);
    const publish = async () => client.publish(`${stream}.a`, "x", { deliverAt: inSeconds(0.5), idempotencyKey: "k" });
    await publish();
    expect(await consume(client, stream, 1)).toHaveLength(1);
    await nats.restart();
    await expect
      .poll(
        async () =>
          publish().then(
            (id) => id,
            () => undefined,
          ),
        TIMEOUT,
      )
      .toBe(0n);
    const sure = await client.publish(`${stream}.b`, "sure");
    const { id } = await client.ensureConsumer({
      stream,
      subjects: [`${stream}.>`],
      from: { pointer: { case: "start", value: true } },
    });
    const call = await client.subscribe(stream, id);
    expect((await call.take(2)).map((event) => event.id)).toEqual([2n, sure]);
    expect(sure).toBe(3n);
    await call.cancel();
  });

  test("of other alphabets and any length finds its event", async ({ client }) => {
    const stream = await scheduling(client);
    for (const idempotencyKey of [" 注文 ü\n1 ", "k".repeat(8192), "a.b.*.>"]) {
      await client.publish(`${stream}.a`, "x", { deliverAt: inSeconds(3600), idempotencyKey });
      expect(await client.cancelScheduledEvent({ stream, idempotencyKey })).toMatchObject({ cancelled: true });
    }
  });
});

describe("CancelScheduledEvent", () => {
  test("takes back an event that waits, once", async ({ client, jsm }) => {
    const stream = await scheduling(client);
    const names = { stream, idempotencyKey: "k" };
    await client.publish(`${stream}.a`, "x", { deliverAt: inSeconds(2), idempotencyKey: "k" });
    await client.publish(`${stream}.b`, "x", { deliverAt: inSeconds(2), idempotencyKey: "other" });
    expect(await client.cancelScheduledEvent(names)).toMatchObject({ cancelled: true });
    expect(await client.cancelScheduledEvent(names)).toMatchObject({ cancelled: false });
    await expect.poll(async () => under(jsm, stream, `${stream}.b`), TIMEOUT).toBe(1);
    expect(await under(jsm, stream, `${stream}.a`)).toBe(0);
  });

  test("says false for a key that nobody scheduled with, and after the event has appeared", async ({ client, jsm }) => {
    const stream = await scheduling(client);
    expect(await client.cancelScheduledEvent({ stream, idempotencyKey: "k" })).toMatchObject({ cancelled: false });
    await client.publish(`${stream}.a`, "x", { idempotencyKey: "now" });
    expect(await client.cancelScheduledEvent({ stream, idempotencyKey: "now" })).toMatchObject({ cancelled: false });
    await client.publish(`${stream}.a`, "x", { deliverAt: inSeconds(0.5), idempotencyKey: "k" });
    await expect.poll(async () => under(jsm, stream, `${stream}.a`), TIMEOUT).toBe(2);
    expect(await client.cancelScheduledEvent({ stream, idempotencyKey: "k" })).toMatchObject({ cancelled: false });
  });

  test("says false for a stream that schedules nothing", async ({ client }) => {
    const stream = await ensureStream(client);
    expect(await client.cancelScheduledEvent({ stream, idempotencyKey: "k" })).toMatchObject({ cancelled: false });
  });

  test("lets the same key be scheduled again", async ({ client, jsm }) => {
    const stream = await scheduling(client);
    const names = { stream, idempotencyKey: "k" };
    for (let n = 0; n < 3; n++) {
      await client.publish(`${stream}.a`, `${n}`, { deliverAt: inSeconds(3600), idempotencyKey: "k" });
      expect(await client.cancelScheduledEvent(names)).toMatchObject({ cancelled: true });
    }
    for (let n = 0; n < 2; n++) {
      await client.publish(`${stream}.a`, "last", { deliverAt: inSeconds(0.5), idempotencyKey: "k" });
    }
    await expect.poll(async () => under(jsm, stream, `${stream}.a`), TIMEOUT).toBe(1);
    expect(textOf((await consume(client, stream, 1))[0]!.data)).toBe("last");
    expect(await waiting(jsm, stream)).toBe(0);
  });

  test("and its event agree on what became of it, whenever it comes", async ({ client, jsm }) => {
    const stream = await scheduling(client);
    const events = Array.from({ length: 40 }, (_, n) => ({ key: randomUUID(), at: inSeconds(6 + n / 20) }));
    await Promise.all(
      events.map(async ({ key, at }) =>
        client.publish(`${stream}.${key}`, "x", { deliverAt: at, idempotencyKey: key }),
      ),
    );
    const cancelled = await Promise.all(
      events.map(async ({ key, at }, n) => {
        // Some long before, most around the last half second before its time, some long after it.
        const lead = n % 10 === 0 ? 5_000 : n % 10 === 9 ? -1_500 : 800 - (n % 10) * 90;
        const time = Number(at.seconds) * 1000 + at.nanos / 1e6 - lead;
        await expect.poll(() => Date.now() >= time, { timeout: 20_000, interval: 10 }).toBe(true);
        return (await client.cancelScheduledEvent({ stream, idempotencyKey: key })).cancelled;
      }),
    );
    expect(new Set(cancelled)).toEqual(new Set([true, false]));
    const appear = events.filter((_, n) => !cancelled[n]).map(({ key }) => `${stream}.${key}`);
    await expect.poll(async () => under(jsm, stream, `${stream}.>`), TIMEOUT).toBe(appear.length);
    const delivered = await consume(client, stream, appear.length);
    expect(delivered.map(({ subject }) => subject).toSorted()).toEqual(appear.toSorted());
  });

  test("leaves an event alone whose time is past and that is there for a moment only", async ({ client, jsm }) => {
    const stream = await scheduling(client);
    await client.publish(`${stream}.a`, "x", { deliverAt: { seconds: 1n }, idempotencyKey: "k" });
    expect(await client.cancelScheduledEvent({ stream, idempotencyKey: "k" })).toMatchObject({ cancelled: false });
    await expect.poll(async () => under(jsm, stream, `${stream}.a`), TIMEOUT).toBe(1);
  });

  test("takes back an event although its leader, which gives up, finds nothing", async ({ client }) => {
    const stream = await scheduling(client);
    await client.publish(`${stream}.a`, "x", { deliverAt: inSeconds(3600), idempotencyKey: "k" });
    using _ = findNothing(stream, { times: 1 });
    expect(await client.cancelScheduledEvent({ stream, idempotencyKey: "k" })).toMatchObject({ cancelled: true });
  });

  describe("refused because of what is still on its way", () => {
    test("tries again until that is stored or lost", async ({ client, jsm }) => {
      const stream = await scheduling(client);
      await client.publish(`${stream}.a`, "x", { deliverAt: inSeconds(3600), idempotencyKey: "k" });
      using _ = refuseOverAnother(stream, scheduleSubject(stream, "k"), { times: 10 });
      expect(await client.cancelScheduledEvent({ stream, idempotencyKey: "k" })).toMatchObject({ cancelled: true });
      expect(await under(jsm, stream, `${stream}.a`)).toBe(0);
    });

    test("says that nobody knows, at the end of its time", async () => {
      await using nats = await startNats();
      await using windshift = await startWindshift(nats.url, { GRPC_REQUEST_TIMEOUT: "1s" });
      const { client } = windshift;
      const stream = await scheduling(client);
      await client.publish(`${stream}.a`, "x", { deliverAt: inSeconds(3600), idempotencyKey: "k" });
      using _ = refuseOverAnother(stream, scheduleSubject(stream, "k"), { times: Infinity });
      const error = await failure(client.cancelScheduledEvent({ stream, idempotencyKey: "k" }));
      expect(["UNAVAILABLE", "DEADLINE_EXCEEDED"]).toContain(error.status);
      expect(error.retryAfterMs).toBeGreaterThan(0);
    });
  });

  test.for([
    [{ stream: "" }, "MISSING_FIELD", "stream"],
    [{ stream: "a b" }, "INVALID_NAME", "stream"],
    [{ idempotencyKey: "" }, "MISSING_FIELD", "idempotency_key"],
    [{ idempotencyKey: " \n" }, "MISSING_FIELD", "idempotency_key"],
    [{ idempotencyKey: "k".repeat(8193) }, "INVALID_VALUE", "idempotency_key"],
  ] as const)("refuses %j", async ([wrong, reason, field], { client }) => {
    const request = { stream: "s", idempotencyKey: "k", ...wrong };
    expect(await failure(client.cancelScheduledEvent(request))).toMatchObject({
      status: "INVALID_ARGUMENT",
      reason,
      fields: [field],
    });
  });

  test("of a stream that does not exist is NOT_FOUND", async ({ client }) => {
    const error = await failure(client.cancelScheduledEvent({ stream: uniqueName("none"), idempotencyKey: "k" }));
    expect(error).toMatchObject({ status: "NOT_FOUND", reason: "STREAM_NOT_FOUND" });
  });
});

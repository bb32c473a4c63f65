/** `AdminService.ResetConsumer`. */
import { AckPolicy, DeliverPolicy, type JetStreamManager, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { describe, expect } from "vitest";
import { Link } from "../chaos/proxy.ts";
import { AdminClient } from "../support/admin-client.ts";
import { type CallError, failure } from "../support/client.ts";
import { type Source, createSource, duration, publishMany } from "../support/consuming.ts";
import { createFailing, holdLetters, setPolicy, until } from "../support/failing.ts";
import { test as base } from "../support/fixtures.ts";
import { startNats } from "../support/nats.ts";
import { SettlementTap } from "../support/settlement-tap.ts";
import { type Windshift, startWindshift } from "../support/windshift.ts";

/** A second server on the same NATS. */
const test = base.extend<{ $file: { other: Windshift }; $test: { admin: AdminClient } }>({
  other: [
    async ({ nats }, use) => {
      await using other = await startWindshift(nats.url);
      await use(other);
    },
    { scope: "file" },
  ],
  admin: async ({ client }, use) => {
    await use(new AdminClient(client));
  },
});

const START = { pointer: { case: "start" as const, value: true } };
const END = { pointer: { case: "end" as const, value: true } };

const LONG_NS = 600_000_000_000;
const OFFSET_2 = offset(2n);

function offset(id: bigint) {
  return { pointer: { case: "offset" as const, value: id } };
}

/** Events from where the consumer is, each for the first time, until there are no more. */
async function drain({ client }: Windshift, { stream, consumer }: Source, count: number): Promise<bigint[]> {
  const call = await client.subscribe(stream, consumer);
  const events = await call.take(count);
  for (const { id } of events) await call.ackNow(id);
  await call.cancel();
  expect(events.map(({ deliveryAttempt }) => deliveryAttempt)).toEqual(events.map(() => 1n));
  return events.map(({ id }) => id);
}

/** The client of event 1 that subscribes now is the only one that settles it, while its letter of before is written. */
async function settlesAlone({ client, log }: Windshift, source: Source, tap: SettlementTap): Promise<void> {
  const { stream, consumer } = source;
  const fresh = await client.subscribe(stream, consumer, 1n);
  expect(await fresh.event()).toMatchObject({ id: 1n, deliveryAttempt: 1n });
  const isOver = /^dead_letter(ed|_failed)$/;
  await until(() => log.some((line) => line["stream"] === stream && isOver.test(String(line["failure"]))));
  await fresh.ackNow(1n);
  expect(tap.told.filter(({ what }) => what !== "+WPI")).toEqual([{ id: 1n, what: "+ACK" }]);
  await fresh.cancel();
}

describe("where NATS sets it back", () => {
  test("everything is delivered again from the start, as if for the first time", async ({
    client,
    admin,
    windshift,
  }) => {
    const source = await createSource(client, { events: 5 });
    const { stream, consumer: id } = source;
    expect(await drain(windshift, source, 5)).toHaveLength(5);
    await expect.poll(async () => (await admin.getConsumer({ stream, id })).consumer?.state?.settledId).toBe(5n);
    const answer = await admin.resetConsumer({ stream, id, to: START });
    expect(answer).toMatchObject({ recreated: false, previousSettledId: 5n, forgotten: 0n, endedSubscriptions: 0 });
    expect(answer.consumer).toMatchObject({ stream, id, state: { pending: 5n, inFlight: 0n, settledId: 0n } });
    expect(await drain(windshift, source, 5)).toEqual([1n, 2n, 3n, 4n, 5n]);
    expect(windshift.log).toContainEqual(
      expect.objectContaining({
        level: "info",
        msg: "a consumer was reset",
        stream,
        consumer: id,
        previousSettledId: 5,
      }),
    );
  });

  test("nothing before an id is delivered, and what follows is", async ({ client, admin, windshift }) => {
    const source = await createSource(client, { events: 5 });
    const { stream, consumer: id } = source;
    expect(await admin.resetConsumer({ stream, id, to: offset(4n) })).toMatchObject({
      recreated: false,
      consumer: { state: { pending: 2n, settledId: 3n } },
    });
    expect(await drain(windshift, source, 2)).toEqual([4n, 5n]);
  });

  test("at the end only new events are delivered", async ({ client, admin, windshift }) => {
    const source = await createSource(client, { events: 5 });
    const { stream, consumer: id, subject } = source;
    expect(await admin.resetConsumer({ stream, id, to: END })).toMatchObject({ consumer: { state: { pending: 0n } } });
    await client.publish(subject);
    expect(await drain(windshift, source, 1)).toEqual([6n]);
  });

  test("at a time it begins with the first event that was stored then or later", async ({
    client,
    admin,
    jsm,
    windshift,
  }) => {
    const source = await createSource(client);
    const { stream, consumer: id, subject } = source;
    for (let n = 0; n < 7; n++) await client.publish(subject);
    for (const seq of [2, 5]) await jsm.streams.deleteMessage(stream, seq);
    const { time } = (await jsm.streams.getMessage(stream, { seq: 4 }))!;
    const stored = timestampFromMs(time.getTime());
    const at = async (to: object) => {
      const answer = await admin.resetConsumer({
        stream,
        id,
        to: { pointer: { case: "time", value: { ...stored, ...to } } },
      });
      return Number(answer.consumer!.state!.settledId) + 1;
    };
    // To the millisecond that the client library knows, the fourth and its neighbours may be alike.
    expect(await at({})).toBeLessThanOrEqual(4);
    expect(await at({ seconds: stored.seconds - 3600n })).toBe(1);
    expect(await at({ seconds: stored.seconds + 3600n })).toBe(8);
    const { pointer } = await nanosecondsOf(jsm, stream, 6);
    const answer = await admin.resetConsumer({ stream, id, to: { pointer } });
    expect(answer.consumer?.state).toMatchObject({ pending: 2n });
    expect(await drain(windshift, source, 2)).toEqual([6n, 7n]);
  });

  test("events in flight are forgotten, and the answer says how many", async ({ client, admin, windshift }) => {
    const source = await createSource(client, { events: 5 });
    const { stream, consumer: id } = source;
    const call = await client.subscribe(stream, id, 3n);
    await call.take(3);
    const answer = await admin.resetConsumer({ stream, id, to: offset(2n) });
    expect(answer).toMatchObject({ forgotten: 3n, endedSubscriptions: 1, previousSettledId: 0n });
    expect(await call.ended).toMatchObject({ status: "ABORTED", reason: "CONSUMER_RESET" });
    expect(await drain(windshift, source, 4)).toEqual([2n, 3n, 4n, 5n]);
  });
});

/** The time at which an event was stored, to the nanosecond. */
async function nanosecondsOf({ streams }: JetStreamManager, stream: string, seq: number) {
  const { timestamp } = (await streams.getMessage(stream, { seq }))!;
  const [, fraction = "0"] = /\.(\d+)/.exec(timestamp) ?? [];
  const seconds = BigInt(Math.floor(Date.parse(timestamp) / 1000));
  return { pointer: { case: "time" as const, value: { seconds, nanos: Number(fraction.padEnd(9, "0")) } } };
}

describe("where NATS refuses", () => {
  test("a consumer of new events is made again with its settings, under its name", async ({
    client,
    admin,
    jsm,
    windshift,
  }) => {
    const { stream, subject } = await createSource(client);
    const policy = { maxAttempts: 7, backoff: [duration(1000)], deadLetter: {} };
    await client.ensureConsumer({
      stream,
      name: "new",
      subjects: [`${stream}.>`],
      processingTimeout: duration(77_000),
      deliveryPolicy: policy,
      maxProcessingEvents: 9n,
      inactiveThreshold: duration(3_600_000),
    });
    await publishMany(client, subject, 4);
    const before = (await jsm.consumers.info(stream, "new")).config;
    const shown = (await admin.getConsumer({ stream, id: "new" })).consumer!.configuration!;
    const answer = await admin.resetConsumer({ stream, id: "new", to: offset(3n) });
    expect(answer).toMatchObject({ recreated: true, consumer: { id: "new", state: { pending: 2n, settledId: 2n } } });
    const { config: after } = await jsm.consumers.info(stream, "new");
    const { opt_start_seq, ...rest } = after;
    expect(opt_start_seq).toBe(3);
    const mark = { "windshift.reset": expect.any(String) as unknown };
    expect(rest).toEqual({
      ...before,
      deliver_policy: DeliverPolicy.StartSequence,
      metadata: { ...before.metadata, ...mark },
    });
    const now = (await admin.getConsumer({ stream, id: "new" })).consumer!.configuration!;
    expect({ ...now, from: undefined }).toEqual({ ...shown, from: undefined });
    expect(await drain(windshift, { stream, consumer: "new", subject }, 2)).toEqual([3n, 4n]);
    // Nothing is left of what was kept meanwhile.
    expect((await jsm.streams.info(stream)).config.metadata).not.toHaveProperty(["windshift.reset-settings.new"]);
  });

  test.for([
    ["the start", START, [1n, 2n, 3n, 4n, 5n]],
    ["an id before where it began", offset(2n), [2n, 3n, 4n, 5n]],
    ["an id behind where it began", offset(5n), [5n]],
  ] as const)("%s is reached, wherever the consumer began", async ([, to, ids], { client, admin, windshift }) => {
    const { stream, subject } = await createSource(client, { events: 5 });
    await client.ensureConsumer({ stream, name: "late", subjects: [`${stream}.>`], from: offset(4n) });
    const { recreated } = await admin.resetConsumer({ stream, id: "late", to });
    expect(recreated).toBe(ids[0] < 4n);
    expect(await drain(windshift, { stream, consumer: "late", subject }, ids.length)).toEqual(ids);
  });

  test("nothing that is published meanwhile is lost at the end", async ({ client, admin, windshift }) => {
    const { stream, subject } = await createSource(client, { events: 3 });
    await client.ensureConsumer({ stream, name: "new", subjects: [`${stream}.>`] });
    const [answer] = await Promise.all([
      admin.resetConsumer({ stream, id: "new", to: END }),
      publishMany(client, subject, 20),
    ]);
    expect(answer.recreated).toBe(true);
    const first = answer.consumer!.state!.settledId + 1n;
    const expected = Array.from({ length: 24 - Number(first) }, (_, index) => first + BigInt(index));
    expect(await drain(windshift, { stream, consumer: "new", subject }, expected.length)).toEqual(expected);
  });

  test("an ephemeral consumer keeps its id, and a paused one stays paused", async ({ client, admin }) => {
    const { stream } = await createSource(client, { events: 2 });
    const { id } = await client.ensureConsumer({ stream, subjects: [`${stream}.>`] });
    const until = timestampFromMs(Date.now() + 3_600_000);
    await admin.pauseConsumer({ stream, id, until });
    const { consumer, recreated } = await admin.resetConsumer({ stream, id, to: START });
    expect(recreated).toBe(true);
    expect(consumer).toMatchObject({ id, pausedUntil: until, state: { pending: 2n } });
    expect(consumer?.configuration?.name).toBeUndefined();
  });

  test.for([
    ["set back", "c", START],
    ["made again", "new", offset(2n)],
  ] as const)(
    "one that is edited while the servers are asked is %s as it is then",
    async ([, id, to], { client, admin, natsClient, jsm }) => {
      const { stream } = await createSource(client, { events: 3 });
      await client.ensureConsumer({ stream, name: "new", subjects: [`${stream}.>`] });
      const edited: Promise<unknown>[] = [];
      const watching = natsClient.subscribe("$WINDSHIFT._.consumer-resets", {
        callback: (_error, message) => {
          const { stream: its, isOver } = message.json<{ stream: string; isOver: boolean }>();
          if (its === stream && !isOver) edited.push(jsm.consumers.update(stream, id, { max_ack_pending: 7 }));
        },
      });
      await natsClient.flush();
      await admin.resetConsumer({ stream, id, to });
      expect(await Promise.all(edited)).toHaveLength(1);
      expect((await jsm.consumers.info(stream, id)).config.max_ack_pending).toBe(7);
      watching.unsubscribe();
    },
  );

  test("one that somebody makes in between gives way", async ({ client, admin, natsClient, jsm, windshift }) => {
    const { stream, subject } = await createSource(client, { events: 3 });
    await client.ensureConsumer({ stream, name: "new", subjects: [`${stream}.>`] });
    const made: Promise<unknown>[] = [];
    const watching = natsClient.subscribe(`$JS.EVENT.ADVISORY.CONSUMER.DELETED.${stream}.new`, {
      max: 1,
      callback: () => {
        const config = { durable_name: "new", ack_policy: AckPolicy.Explicit };
        made.push(jsm.consumers.add(stream, config).catch(() => undefined));
      },
    });
    await natsClient.flush();
    const { recreated } = await admin.resetConsumer({ stream, id: "new", to: offset(3n) });
    await watching.closed;
    await Promise.all(made);
    expect(recreated).toBe(true);
    expect(await drain(windshift, { stream, consumer: "new", subject }, 1)).toEqual([3n]);
  });
});

describe("subscriptions", () => {
  test("end with ABORTED on all servers, full ones too", async ({ client, admin, other }) => {
    const { stream, consumer: id } = await createSource(client, { events: 6 });
    const here = await client.subscribe(stream, id, 2n);
    await here.take(2);
    const there = await other.client.subscribe(stream, id, 2n);
    await there.take(2);
    expect(await admin.resetConsumer({ stream, id, to: END })).toMatchObject({ endedSubscriptions: 2 });
    for (const call of [here, there]) {
      const error = (await call.ended) as CallError;
      expect(error).toMatchObject({
        status: "ABORTED",
        reason: "CONSUMER_RESET",
        metadata: { stream, consumer: id },
        retryAfterMs: 100,
      });
    }
    const again = await other.client.subscribe(stream, id);
    await again.cancel();
  });

  test("to other consumers go on", async ({ client, admin, other }) => {
    const { stream, consumer: id, subject } = await createSource(client, { events: 1 });
    await client.ensureConsumer({ stream, name: "bystander", subjects: [`${stream}.>`], from: START });
    const call = await other.client.subscribe(stream, "bystander");
    await call.take(1);
    await admin.resetConsumer({ stream, id, to: START });
    await client.publish(subject);
    expect(await call.event()).toMatchObject({ id: 2n });
    await call.cancel();
  });

  test("what they held is not handed back over what is delivered anew", async ({ client, admin, jsm, windshift }) => {
    const source = await createSource(client, { events: 3 });
    const { stream, consumer: id } = source;
    const old = await client.subscribe(stream, id);
    await old.take(3);
    await admin.resetConsumer({ stream, id, to: START });
    await old.ended;
    expect(await drain(windshift, source, 3)).toEqual([1n, 2n, 3n]);
    await expect.poll(async () => (await jsm.consumers.info(stream, id)).ack_floor.stream_seq).toBe(3);
    expect((await jsm.consumers.info(stream, id)).num_redelivered).toBe(0);
  });

  test("of a server that was cut off meanwhile hand nothing back when it is there again", async ({
    nats,
    client,
    admin,
    natsClient,
  }) => {
    const source = await createSource(client, { events: 3 });
    const { stream, consumer: id } = source;
    await using link = await Link.open("to NATS", () => nats.port);
    await using server = await startWindshift(`nats://127.0.0.1:${link.port}`);
    const old = await server.client.subscribe(stream, id);
    await old.take(3);
    link.refuse();
    await admin.resetConsumer({ stream, id, to: START });
    const fresh = await client.subscribe(stream, id);
    await fresh.take(3);
    using tap = await SettlementTap.open(natsClient, source);
    link.heal();
    expect(await old.ended).toMatchObject({ status: "ABORTED", reason: "CONSUMER_RESET" });
    // What it had to say before that has come to NATS.
    await server.client.publish(source.subject);
    await natsClient.flush();
    expect(tap.told).toEqual([]);
    await fresh.cancel();
  });

  test.for([
    ["whose client is there", false],
    ["whose client has left", true],
  ] as const)(
    "with a reject that waits for its letter, %s, settle nothing that is delivered anew",
    async ([, hasLeft], { client, admin, jsm, natsClient, windshift }) => {
      const source = await createFailing(client, { deadLetter: {} });
      const { stream, consumer: id, subject } = source;
      using tap = await SettlementTap.open(natsClient, source);
      const old = await client.subscribe(stream, id);
      await client.publish(subject, "bad");
      await old.event();
      {
        await using _letters = await holdLetters(jsm, source);
        old.send({ case: "reject", value: { ids: [1n], permanently: true } });
        await until(() => tap.told.length > 0);
        if (hasLeft) await old.cancel();
        const { endedSubscriptions } = await admin.resetConsumer({ stream, id, to: START });
        expect(endedSubscriptions).toBe(hasLeft ? 0 : 1);
      }
      await settlesAlone(windshift, source, tap);
    },
  );

  test("with an event that nobody shall see any more settle nothing that is delivered anew", async ({
    client,
    admin,
    jsm,
    natsClient,
    windshift,
  }) => {
    const source = await createFailing(client, { maxAttempts: 1, deadLetter: {} }, 1_000);
    const { stream, consumer: id, subject } = source;
    using tap = await SettlementTap.open(natsClient, source);
    const old = await client.subscribe(stream, id);
    await client.publish(subject, "slow");
    await old.event();
    {
      await using _letters = await holdLetters(jsm, source);
      await until(() => tap.told.length > 0);
      await admin.resetConsumer({ stream, id, to: START });
      await jsm.consumers.update(stream, id, { ack_wait: LONG_NS });
    }
    await settlesAlone(windshift, source, tap);
  });

  test("to a stream that is made anew settle nothing of it by a letter that was under way", async ({
    client,
    admin,
    jsm,
    natsClient,
    windshift,
  }) => {
    const source = await createFailing(client, { deadLetter: {} });
    const { stream, consumer: id, subject } = source;
    using tap = await SettlementTap.open(natsClient, source);
    const old = await client.subscribe(stream, id);
    await client.publish(subject, "bad");
    await old.event();
    {
      await using _letters = await holdLetters(jsm, source);
      old.send({ case: "reject", value: { ids: [1n], permanently: true } });
      await until(() => tap.told.length > 0);
      await admin.deleteStream({ stream });
      expect(await old.ended).toMatchObject({ status: "NOT_FOUND" });
      await client.ensureStream({ name: stream, source: { case: "subjects", value: { subjects: [`${stream}.>`] } } });
      await setPolicy(client, source, undefined);
      await client.publish(subject, "good");
    }
    await settlesAlone(windshift, source, tap);
  });

  test("a new one waits while a server says that it resets, and no longer", async ({
    client,
    admin,
    natsClient,
    jsm,
  }) => {
    const { stream, consumer } = await createSource(client);
    const notice = { server: "elsewhere", stream, consumer };
    await natsClient.request("$WINDSHIFT._.consumer-resets", JSON.stringify({ ...notice, isOver: false }));
    await expect
      .poll(async () => failure(client.subscribe(stream, consumer)).catch(() => undefined))
      .toMatchObject({ status: "ABORTED", reason: "CONSUMER_RESET" });
    // The reset would undo the one, and the other undo the reset.
    const changes = [
      client.ensureConsumer({
        stream,
        name: consumer,
        subjects: [`${stream}.other`],
        deliveryPolicy: { deadLetter: {} },
      }),
      client.deleteConsumer({ stream, id: consumer }),
      admin.pauseConsumer({ stream, id: consumer, until: timestampFromMs(Date.now() + 60_000) }),
      admin.resumeConsumer({ stream, id: consumer }),
    ];
    for (const error of await Promise.all(changes.map(failure))) {
      expect(error).toMatchObject({ status: "ABORTED", reason: "CONSUMER_RESET", retryAfterMs: 100 });
    }
    expect((await jsm.consumers.info(stream, consumer)).config.filter_subject).toBe(`${stream}.>`);
    await expect(jsm.streams.info(`${stream}-dead-letters`)).rejects.toThrow("not found");
    natsClient.publish("$WINDSHIFT._.consumer-resets", JSON.stringify({ ...notice, isOver: true }));
    await natsClient.flush();
    await expect
      .poll(async () => {
        try {
          await (await client.subscribe(stream, consumer)).cancel();
          return "open";
        } catch (error) {
          return (error as CallError).status;
        }
      })
      .toBe("open");
  });

  test("of two resets at once one is done, and the other one may come again", async ({ client, admin, other }) => {
    const { stream, consumer: id } = await createSource(client, { events: 3 });
    const otherAdmin = new AdminClient(other.client);
    const results = await Promise.allSettled([
      admin.resetConsumer({ stream, id, to: START }),
      otherAdmin.resetConsumer({ stream, id, to: END }),
    ]);
    for (const result of results) {
      if (result.status === "rejected") {
        expect(result.reason).toMatchObject({ status: "ABORTED", reason: "CONSUMER_RESET", retryAfterMs: 100 });
      }
    }
    expect(results.map(({ status }) => status)).toContain("fulfilled");
    await expect
      .poll(async () => failure(otherAdmin.resetConsumer({ stream, id, to: OFFSET_2 })).catch(() => "done"))
      .toBe("done");
    expect(await otherAdmin.getConsumer({ stream, id })).toMatchObject({ consumer: { state: { settledId: 1n } } });
  });

  test("a reset gives way to that of a server that has begun before", async ({ client, admin, natsClient }) => {
    const { stream, consumer: id } = await createSource(client, { events: 3 });
    const elsewhere = natsClient.subscribe("$WINDSHIFT._.consumer-resets", {
      callback: (_error, message) => {
        const { stream: its } = message.json<{ stream: string }>();
        if (its === stream) message.respond(JSON.stringify({ server: "elsewhere", ended: 0, isRefused: true }));
      },
    });
    await natsClient.flush();
    const error = await failure(admin.resetConsumer({ stream, id, to: END }));
    expect(error).toMatchObject({ status: "ABORTED", reason: "CONSUMER_RESET", retryAfterMs: 100 });
    elsewhere.unsubscribe();
    expect(await admin.getConsumer({ stream, id })).toMatchObject({ consumer: { state: { pending: 3n } } });
  });

  test("one that was cut off from NATS during a reset ends when it is back", async () => {
    await using nats = await startNats();
    await using windshift = await startWindshift(nats.url);
    const { client } = windshift;
    const { stream, consumer } = await createSource(client, { events: 2 });
    const call = await client.subscribe(stream, consumer, 1n);
    await call.take(1);
    await markReset(nats.url, stream, consumer);
    await nats.stop();
    await nats.restart();
    expect(await call.ended).toMatchObject({ status: "ABORTED", reason: "CONSUMER_RESET" });
  });
});

/** Leaves in the consumer's metadata what a reset leaves there, without a word to any server. */
async function markReset(url: string, stream: string, consumer: string): Promise<void> {
  const connection = await connect({ servers: url });
  const { consumers } = await jetstreamManager(connection);
  await consumers.update(stream, consumer, { metadata: { "windshift.reset": "another" } });
  await connection.close();
}

describe("a reset that was interrupted after the deletion", () => {
  test("is seen, and the next one goes on from what is kept", async ({ client, admin, jsm, windshift }) => {
    const { stream, subject } = await createSource(client, { events: 3 });
    await client.ensureConsumer({
      stream,
      name: "lost",
      subjects: [`${stream}.a`],
      processingTimeout: duration(55_000),
    });
    const { config } = await jsm.consumers.info(stream, "lost");
    const settings = { "windshift.reset-settings.lost": JSON.stringify(config) };
    await jsm.streams.update(stream, {
      metadata: { ...(await jsm.streams.info(stream)).config.metadata, ...settings },
    });
    expect((await admin.getStream({ stream })).interruptedResets).toEqual([]);
    await jsm.consumers.delete(stream, "lost");
    expect((await admin.getStream({ stream })).interruptedResets).toEqual(["lost"]);
    const answer = await admin.resetConsumer({ stream, id: "lost", to: offset(2n) });
    expect(answer).toMatchObject({ recreated: true, forgotten: 0n, consumer: { id: "lost", state: { pending: 2n } } });
    expect(answer.consumer?.configuration).toMatchObject({
      subjects: [`${stream}.a`],
      processingTimeout: { seconds: 55n },
    });
    expect((await admin.getStream({ stream })).interruptedResets).toEqual([]);
    expect(await drain(windshift, { stream, consumer: "lost", subject }, 2)).toEqual([2n, 3n]);
  });

  test("is over with DeleteConsumer: nothing makes the consumer again", async ({ client, admin, jsm }) => {
    const { stream, consumer: id } = await createSource(client);
    const { config } = await jsm.consumers.info(stream, id);
    await jsm.streams.update(stream, { metadata: { [`windshift.reset-settings.${id}`]: JSON.stringify(config) } });
    await jsm.consumers.delete(stream, id);
    expect((await admin.getStream({ stream })).interruptedResets).toEqual([id]);
    const gone = { status: "NOT_FOUND", reason: "CONSUMER_NOT_FOUND" };
    expect(await failure(client.deleteConsumer({ stream, id }))).toMatchObject(gone);
    expect((await admin.getStream({ stream })).interruptedResets).toEqual([]);
    expect(await failure(admin.resetConsumer({ stream, id, to: START }))).toMatchObject(gone);
  });

  test("settings that nobody can read count as none", async ({ client, admin, jsm }) => {
    const { stream } = await createSource(client);
    await jsm.streams.update(stream, { metadata: { "windshift.reset-settings.x": "{" } });
    expect(await failure(admin.resetConsumer({ stream, id: "x", to: START }))).toMatchObject({
      reason: "CONSUMER_NOT_FOUND",
    });
  });
});

describe("bad input", () => {
  test.for([
    ["no place", undefined, "to", "MISSING_FIELD"],
    ["an empty place", {}, "to", "MISSING_FIELD"],
    ["id 0", offset(0n), "to.offset", "INVALID_VALUE"],
    ["an id that no event can have", offset(2n ** 60n), "to.offset", "INVALID_VALUE"],
    [
      "a time beyond the year 9999",
      { pointer: { case: "time" as const, value: { seconds: 253_402_300_800n, nanos: 0 } } },
      "to.time",
      "INVALID_VALUE",
    ],
  ] as const)("%s is refused", async ([, to, field, reason], { admin }) => {
    const request = { stream: "s", id: "c", ...(to === undefined ? {} : { to }) };
    expect(await failure(admin.resetConsumer(request))).toMatchObject({
      status: "INVALID_ARGUMENT",
      reason,
      fields: [field],
    });
  });

  test("missing ones, bad names, and what Events cannot use are refused", async ({ client, admin, jsm }) => {
    const { stream } = await createSource(client);
    await jsm.consumers.add(stream, { durable_name: "all", ack_policy: AckPolicy.All });
    expect(await failure(admin.resetConsumer({ stream, id: "nobody", to: START }))).toMatchObject({
      status: "NOT_FOUND",
      reason: "CONSUMER_NOT_FOUND",
    });
    expect(await failure(admin.resetConsumer({ stream: "nowhere", id: "c", to: START }))).toMatchObject({
      reason: "STREAM_NOT_FOUND",
    });
    expect(await failure(admin.resetConsumer({ stream: "a b", id: "c", to: START }))).toMatchObject({
      fields: ["stream"],
    });
    expect(await failure(admin.resetConsumer({ stream, id: "", to: START }))).toMatchObject({ fields: ["id"] });
    expect(await failure(admin.resetConsumer({ stream, id: "all", to: START }))).toMatchObject({
      status: "FAILED_PRECONDITION",
    });
  });
});

/** Dead letters: what is given up is stored first, as it was, and once. */
import { type JetStreamManager, RetentionPolicy, jetstream } from "@nats-io/jetstream";
import { type NatsConnection, headers as natsHeaders } from "@nats-io/nats-core";
import { describe, expect } from "vitest";
import { encodeLetter } from "../../src/events/dead-letter.ts";
import { storedAtOf } from "../../src/nats/get.ts";
import { SUBJECTS_LOCK } from "../../src/nats/own-consumers.ts";
import { type Client, type EventsCall, failure } from "../support/client.ts";
import { type Source, confirmed, consumerState, duration } from "../support/consuming.ts";
import { createFailing, letterCount, letterOf, setPolicy, until } from "../support/failing.ts";
import { openDeadLetters } from "../support/dead-letters.ts";
import { test, uniqueName } from "../support/fixtures.ts";
import { ask, startNats } from "../support/nats.ts";
import { SettlementTap } from "../support/settlement-tap.ts";
import { findNothing } from "../support/false-answers.ts";
import { Link } from "../chaos/proxy.ts";
import { type Windshift, startWindshift } from "../support/windshift.ts";

/** That JetStream takes. */
const MAX_HEADER_BYTES = 65_535;
const RFC_3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/;

describe("an event that is rejected permanently", () => {
  test("is a dead letter before the client hears of it", async ({ client, jsm }) => {
    const source = await createFailing(client, { deadLetter: {} });
    const call = await client.subscribe(source.stream, "c");
    const id = await client.publish(source.subject, "bad", {
      idempotencyKey: "key",
      attributes: { "ce-type": "x", other: "ü" },
    });
    await call.event();
    call.send({ case: "reject", value: { ids: [id], permanently: true, reason: "no such\ncustomer" } });
    expect(await call.confirmation()).toEqual(confirmed({ ids: [id] }));
    expect(await letterCount(jsm, source)).toBe(1);
    const letter = await letterOf(jsm, source, id);
    const event = await jsm.streams.getMessage(source.stream, { seq: Number(id) });
    expect(letter.data).toEqual(event!.data);
    for (const name of ["WS-Data-Type", "WS-Published-Time", "ce-type", "other"]) {
      expect(letter.header.get(name)).toBe(event!.header.get(name));
    }
    const value = (name: string): string => letter.header.get(`WS-Dead-Letter-${name}`);
    expect(letter.header.keys().filter((name) => name.startsWith("Nats-"))).toEqual([
      "Nats-Expected-Last-Subject-Sequence",
    ]);
    expect({
      stream: value("Stream"),
      consumer: value("Consumer"),
      id: value("Id"),
      subject: value("Subject"),
      attempts: value("Attempts"),
      cause: value("Cause"),
      reason: value("Reason"),
      key: value("Idempotency-Key"),
    }).toEqual({
      stream: source.stream,
      consumer: "c",
      id: String(id),
      subject: source.subject,
      attempts: "1",
      cause: "rejected",
      reason: "no such customer",
      key: "key",
    });
    expect(value("Time")).toMatch(RFC_3339);
    expect(await consumerState(jsm, source)).toMatchObject({ held: 0, waiting: 0 });
    await call.cancel();
  });

  test("stays held when its letter cannot be stored, and can be rejected again", async ({
    windshift,
    client,
    jsm,
    natsClient,
  }) => {
    const source = await createFailing(client, { deadLetter: {} });
    const letters = `${source.stream}-dead-letters`;
    await jsm.streams.update(letters, { max_msgs: 1 });
    await storeOtherLetter(natsClient, source.stream);
    const call = await client.subscribe(source.stream, "c", 1n);
    const id = await client.publish(source.subject, "bad");
    await call.event();
    const reject = { ids: [id], permanently: true };
    call.send({ case: "reject", value: reject });
    expect(await call.confirmation()).toEqual(confirmed({ temporaryFailedIds: [id] }));
    expect(windshift.log).toContainEqual(
      expect.objectContaining({ failure: "dead_letter_failed", stream: source.stream, id: Number(id) }),
    );
    await jsm.streams.update(letters, { max_msgs: 2 });
    call.send({ case: "reject", value: reject });
    expect(await call.confirmation()).toEqual(confirmed({ ids: [id] }));
    await letterOf(jsm, source, id);
    await call.cancel();
  });

  test("goes to nobody else while its letter waits, and can be rejected again when that fails", async ({
    client,
    jsm,
  }) => {
    const source = await createFailing(client, { deadLetter: {} }, 1_000);
    const letters = `${source.stream}-dead-letters`;
    const { config } = await jsm.streams.info(letters);
    // Its letters have no place until the subject is back, which somebody is about to do, and takes long.
    await jsm.streams.update(letters, { subjects: ["dead-letters.elsewhere"] });
    await jsm.consumers.add(letters, { durable_name: SUBJECTS_LOCK, ack_policy: "none" });
    const call = await client.subscribe(source.stream, "c", 1n);
    const id = await client.publish(source.subject, "bad");
    await call.event();
    const other = await client.subscribe(source.stream, "c");
    const reject = { ids: [id], permanently: true };
    call.send({ case: "reject", value: reject });
    expect(await call.confirmation()).toEqual(confirmed({ temporaryFailedIds: [id] }));
    await jsm.streams.update(letters, { subjects: config.subjects });
    call.send({ case: "reject", value: reject });
    expect(await call.confirmation()).toEqual(confirmed({ ids: [id] }));
    const { delivered } = await jsm.consumers.info(source.stream, "c");
    expect(delivered.consumer_seq).toBe(1);
    await letterOf(jsm, source, id);
    await other.cancel();
    await call.cancel();
  });

  test("without dead letters is dropped, with a line", async ({ windshift, client, jsm }) => {
    const source = await createFailing(client, { maxAttempts: 5 });
    const call = await client.subscribe(source.stream, "c");
    const id = await client.publish(source.subject, "bad");
    await call.event();
    call.send({ case: "reject", value: { ids: [id], permanently: true, reason: "why" } });
    expect(await call.confirmation()).toEqual(confirmed({ ids: [id] }));
    expect(windshift.log).toContainEqual(
      expect.objectContaining({ failure: "dropped", stream: source.stream, cause: "rejected", reason: "why" }),
    );
    expect(await consumerState(jsm, source)).toMatchObject({ held: 0 });
    await call.cancel();
  });
});

describe("an event whose attempts run out", () => {
  test("by rejects goes to the dead letters with the last one", async ({ client, jsm }) => {
    const source = await createFailing(client, { maxAttempts: 2, deadLetter: {} });
    const call = await client.subscribe(source.stream, "c");
    const id = await client.publish(source.subject, "bad");
    await call.event();
    call.send({ case: "reject", value: { ids: [id], reason: "first" } });
    await call.confirmation();
    expect((await call.event()).deliveryAttempt).toBe(2n);
    // Nothing new is said: the last reason is the one before.
    call.send({ case: "reject", value: { ids: [id] } });
    expect(await call.confirmation()).toEqual(confirmed({ ids: [id] }));
    const letter = await letterOf(jsm, source, id);
    expect(letter.header.get("WS-Dead-Letter-Cause")).toBe("attempts");
    expect(letter.header.get("WS-Dead-Letter-Attempts")).toBe("2");
    expect(letter.header.get("WS-Dead-Letter-Reason")).toBe("first");
    expect(await consumerState(jsm, source)).toMatchObject({ held: 0, waiting: 0 });
    await call.cancel();
  });

  test("by a reject with a delay goes to the dead letters at once", async ({ client, jsm }) => {
    const source = await createFailing(client, { maxAttempts: 1, deadLetter: {} });
    const call = await client.subscribe(source.stream, "c");
    const id = await client.publish(source.subject, "bad");
    await call.event();
    call.send({ case: "reject", value: { ids: [id], delay: duration(3_600_000) } });
    expect(await call.confirmation()).toEqual(confirmed({ ids: [id] }));
    expect((await letterOf(jsm, source, id)).header.get("WS-Dead-Letter-Cause")).toBe("attempts");
    expect(await consumerState(jsm, source)).toMatchObject({ held: 0 });
    await call.cancel();
  });

  test("by timeouts is caught at its next delivery, which no client sees", async ({ nats, windshift, client, jsm }) => {
    const source = await createFailing(client, { maxAttempts: 2, deadLetter: {} }, 300);
    await using other = await startWindshift(nats.url);
    const calls = [await client.subscribe(source.stream, "c"), await other.client.subscribe(source.stream, "c")];
    const id = await client.publish(source.subject, "slow");
    const letter = await letterOf(jsm, source, id);
    expect(letter.header.get("WS-Dead-Letter-Cause")).toBe("attempts");
    expect(letter.header.get("WS-Dead-Letter-Attempts")).toBe("2");
    expect(letter.data).toEqual((await jsm.streams.getMessage(source.stream, { seq: Number(id) }))!.data);
    await until(async () => (await consumerState(jsm, source)).held === 0);
    const log = [...windshift.log, ...other.log];
    expect(log.filter((line) => line["failure"] === "timed_out" && line["stream"] === source.stream)).toHaveLength(2);
    const attempts = calls.flatMap(({ received }) =>
      received.flatMap(({ response }) => (response.case === "event" ? [response.value.deliveryAttempt] : [])),
    );
    expect(new Set(attempts)).toEqual(new Set([1n, 2n]));
    expect(attempts).toHaveLength(2);
    for (const call of calls) await call.cancel();
  });

  test("without dead letters is dropped, and makes room in the window", async ({ windshift, client, jsm }) => {
    const source = await createFailing(client, { maxAttempts: 1 }, 200);
    const call = await client.subscribe(source.stream, "c", 1n);
    const first = await client.publish(source.subject, "slow");
    const second = await client.publish(source.subject, "next");
    expect((await call.event()).id).toBe(first);
    expect((await call.event()).id).toBe(second);
    await call.ackNow(second);
    await until(() => windshift.log.some((line) => line["failure"] === "dropped" && line["stream"] === source.stream));
    await until(async () => (await consumerState(jsm, source)).held === 0);
    await call.cancel();
  });

  test("stays while its letter cannot be stored, and others are delivered meanwhile", async ({
    client,
    jsm,
    natsClient,
  }) => {
    const source = await createFailing(client, { maxAttempts: 1, deadLetter: {} }, 200);
    const letters = `${source.stream}-dead-letters`;
    await jsm.streams.update(letters, { max_msgs: 1 });
    await storeOtherLetter(natsClient, source.stream);
    const call = await client.subscribe(source.stream, "c", 1n);
    const id = await client.publish(source.subject, "slow");
    await call.event();
    const next = await client.publish(source.subject, "next");
    expect((await call.event()).id).toBe(next);
    await call.ackNow(next);
    expect(await letterCount(jsm, source)).toBe(1);
    await jsm.streams.update(letters, { max_msgs: -1 });
    const letter = await letterOf(jsm, source, id);
    // The server's own tries are not counted.
    expect(letter.header.get("WS-Dead-Letter-Attempts")).toBe("1");
    await until(async () => (await consumerState(jsm, source)).held === 0);
    await call.cancel();
  });

  test("is tried again after a second, then after two, while its letter cannot be stored", async ({
    client,
    jsm,
    natsClient,
  }) => {
    const source = await createFailing(client, { maxAttempts: 1, deadLetter: {} }, 200);
    await jsm.streams.update(`${source.stream}-dead-letters`, { max_msgs: 1 });
    await storeOtherLetter(natsClient, source.stream);
    using tap = await SettlementTap.open(natsClient, source);
    const call = await client.subscribe(source.stream, "c");
    const id = await client.publish(source.subject, "slow");
    await until(() => tap.delays(id).length > 1);
    expect(tap.delays(id)).toEqual([1_000, 2_000]);
    await call.cancel();
  });

  test("has them counted over servers, rejects, timeouts and a restart of NATS", async () => {
    const MAX_ATTEMPTS = 6;
    await using nats = await startNats();
    await using one = await startWindshift(nats.url);
    await using two = await startWindshift(nats.url);
    const source = await createFailing(one.client, { maxAttempts: MAX_ATTEMPTS, deadLetter: {} }, 500);
    const id = await one.client.publish(source.subject, "bad");
    const seen: { readonly attempt: bigint; readonly server: Windshift; readonly isRejected: boolean }[] = [];
    const letters = async (): Promise<number> => ask(nats, async (jsm) => letterCount(jsm, source));
    // One server after the other has the event once or more; what a subscription hands back as it leaves counts, too.
    for (let turn = 0; (await letters()) === 0; turn++) {
      const server = turn % 2 === 0 ? one : two;
      const isRejected = turn % 4 < 2;
      const call = await server.client.subscribe(source.stream, "c", 1n);
      await until(async () => call.received.length > 1 || (await letters()) > 0);
      const first = call.received[1]?.response;
      if (first?.case === "event") {
        seen.push({ attempt: first.value.deliveryAttempt, server, isRejected });
        // With a delay, it does not come to this one again.
        if (isRejected) call.send({ case: "reject", value: { ids: [id], delay: duration(500) } });
        await until(() => server.log.some((line) => isOf(line, first.value.deliveryAttempt)));
      }
      await call.cancel();
      if (turn > 0) continue;
      await nats.restart();
      for (const { client } of [one, two]) await until(async () => answers(client));
    }
    const attempts = seen.map(({ attempt }) => Number(attempt));
    expect(attempts).toEqual([...new Set(attempts)].toSorted((a, b) => a - b));
    expect(attempts[0]).toBe(1);
    expect(attempts.at(-1)).toBeLessThanOrEqual(MAX_ATTEMPTS);
    expect(new Set(seen.map(({ server }) => server)).size).toBe(2);
    expect(new Set(seen.map(({ isRejected }) => isRejected)).size).toBe(2);
    const { header } = await ask(nats, async (jsm) => letterOf(jsm, source, id));
    expect(header.get("WS-Dead-Letter-Cause")).toBe("attempts");
    expect(Number(header.get("WS-Dead-Letter-Attempts"))).toBeGreaterThanOrEqual(MAX_ATTEMPTS);

    function isOf(line: Record<string, unknown>, attempt: bigint): boolean {
      return line["stream"] === source.stream && line["failure"] !== undefined && line["attempt"] === Number(attempt);
    }

    async function answers(client: Client): Promise<boolean> {
      return client.getEvent({ stream: source.stream, event: { case: "id", value: id } }).then(
        () => true,
        () => false,
      );
    }
  });

  test("under a policy that is younger has the attempts in its letter that clients saw", async ({
    windshift,
    client,
    jsm,
    natsClient,
  }) => {
    const source = await createFailing(client, undefined);
    const id = await client.publish(source.subject, "bad");
    const first = await client.subscribe(source.stream, "c");
    for (const attempt of [1n, 2n, 3n]) {
      expect((await first.event()).deliveryAttempt).toBe(attempt);
      if (attempt === 3n) break;
      first.send({ case: "reject", value: { ids: [id] } });
      await first.confirmation();
    }
    await setPolicy(client, source, { maxAttempts: 1, deadLetter: {} });
    const letters = `${source.stream}-dead-letters`;
    await jsm.streams.update(letters, { max_msgs: 1 });
    await storeOtherLetter(natsClient, source.stream);
    const second = await client.subscribe(source.stream, "c");
    // Hands it back.
    await first.cancel();
    const failures = () => windshift.log.filter((line) => line["failure"] === "dead_letter_failed");
    await until(() => failures().filter((line) => line["stream"] === source.stream).length >= 2);
    await jsm.streams.update(letters, { max_msgs: -1 });
    // The server's own tries are not counted.
    expect((await letterOf(jsm, source, id)).header.get("WS-Dead-Letter-Attempts")).toBe("3");
    await second.cancel();
  });

  test("while its last ack is under way is not given up", async ({ nats, client, jsm }) => {
    const source = await createFailing(client, { maxAttempts: 1, deadLetter: {} }, 1_000);
    await using link = await Link.open("server to NATS", () => Number(new URL(nats.url).port));
    await using server = await startWindshift(`nats://127.0.0.1:${link.port}`);
    const call = await server.client.subscribe(source.stream, "c");
    const id = await client.publish(source.subject, "slow");
    await call.event();
    link.blackHole("up");
    call.send({ case: "ack", value: { ids: [id] } });
    await until(async () => (await jsm.consumers.info(source.stream, "c")).delivered.consumer_seq === 2);
    link.heal();
    expect(await call.confirmation()).toEqual(confirmed({ ids: [id] }));
    // What the server would have sent about it has arrived before this.
    const next = await server.client.publish(source.subject, "next");
    expect((await call.event()).id).toBe(next);
    await call.ackNow(next);
    await until(async () => (await consumerState(jsm, source)).held === 0);
    expect(await letterCount(jsm, source)).toBe(0);
    await call.cancel();
  });

  test("while its last ack is under way from another subscription is not given up", async ({ nats, client, jsm }) => {
    const source = await createFailing(client, { maxAttempts: 1, deadLetter: {} }, 1_000);
    await using link = await Link.open("server to NATS", () => Number(new URL(nats.url).port));
    await using server = await startWindshift(`nats://127.0.0.1:${link.port}`);
    const first = await server.client.subscribe(source.stream, "c", 1n);
    const id = await client.publish(source.subject, "slow");
    await first.event();
    // The first one holds all that it may, so that the next delivery goes to this one.
    const second = await server.client.subscribe(source.stream, "c");
    await until(async () => (await jsm.consumers.info(source.stream, "c")).num_waiting === 1);
    link.blackHole("up");
    first.send({ case: "ack", value: { ids: [id] } });
    await until(async () => (await jsm.consumers.info(source.stream, "c")).delivered.consumer_seq === 2);
    link.heal();
    expect(await first.confirmation()).toEqual(confirmed({ ids: [id] }));
    // What the server would have sent about it has arrived before this.
    await server.client.publish(source.subject, "next");
    expect(await letterCount(jsm, source)).toBe(0);
    await first.cancel();
    await second.cancel();
  });

  test("is not written twice when its letter is there already, or about to be", async ({
    windshift,
    client,
    jsm,
    natsClient,
  }) => {
    const source = await createFailing(client, { maxAttempts: 1, deadLetter: {} }, 200);
    const id = await client.publish(source.subject, "slow");
    const event = await jsm.streams.getMessage(source.stream, { seq: Number(id) });
    // What a server has left that was killed between the two.
    const headers = natsHeaders();
    headers.set("WS-Dead-Letter-Subject", source.subject);
    headers.set("WS-Published-Time", event!.header.get("WS-Published-Time"));
    const { seq } = await jetstream(natsClient).publish(`dead-letters.${source.stream}.c.${id}`, event!.data, {
      headers,
    });
    // What it is refused for is not applied yet.
    using _ = findNothing(`${source.stream}-dead-letters`, { times: 1 });
    const call = await client.subscribe(source.stream, "c");
    await call.event();
    await until(async () => (await consumerState(jsm, source)).held === 0);
    const letter = await letterOf(jsm, source, id);
    expect(letter.seq).toBe(seq);
    const failures = windshift.log.filter((line) => line["failure"] === "dead_letter_failed");
    expect(failures.filter((line) => line["stream"] === source.stream)).toEqual([]);
    expect(await letterCount(jsm, source)).toBe(1);
    await call.cancel();
  });

  test("is not lost to a letter of another event with its id", async ({ windshift, client, jsm, natsClient }) => {
    const source = await createFailing(client, { deadLetter: {} });
    const call = await client.subscribe(source.stream, "c");
    const id = await client.publish(source.subject, "bad");
    await call.event();
    await jetstream(natsClient).publish(`dead-letters.${source.stream}.c.${id}`, "of a stream that was there before");
    call.send({ case: "reject", value: { ids: [id], permanently: true } });
    expect(await call.confirmation()).toEqual(confirmed({ temporaryFailedIds: [id] }));
    expect(windshift.log).toContainEqual(
      expect.objectContaining({ failure: "dead_letter_failed", stream: source.stream, id: Number(id) }),
    );
    expect(await letterCount(jsm, source)).toBe(1);
    await call.cancel();
  });
});

describe("an event", () => {
  const KINDS: Record<string, (client: Client, jsm: JetStreamManager, origin: Source) => Promise<Source>> = {
    "a mirror": async (client, _, { stream: name, subject }) => {
      const stream = uniqueName();
      await client.ensureStream({ name: stream, source: { case: "mirror", value: { name } } });
      return { stream, subject, consumer: "c" };
    },
    "an aggregate": async (client, _, { stream: name, subject }) => {
      const stream = uniqueName();
      await client.ensureStream({ name: stream, source: { case: "aggregate", value: { sources: [{ name }] } } });
      return { stream, subject, consumer: "c" };
    },
    "a work queue of NATS tools": async (_, jsm) => addStream(jsm, RetentionPolicy.Workqueue),
    "a stream of NATS tools that keeps what is wanted": async (_, jsm) => addStream(jsm, RetentionPolicy.Interest),
  };

  async function addStream(jsm: JetStreamManager, retention: RetentionPolicy): Promise<Source> {
    const stream = uniqueName();
    await jsm.streams.add({ name: stream, subjects: [`${stream}.>`], retention });
    return { stream, subject: `${stream}.a`, consumer: "c" };
  }

  test.for(Object.keys(KINDS))("of %s can be a dead letter", async (kind, { client, jsm }) => {
    const source = await KINDS[kind]!(client, jsm, await createFailing(client, undefined));
    await client.ensureConsumer({
      stream: source.stream,
      name: "c",
      subjects: [">"],
      from: { pointer: { case: "start", value: true } },
      deliveryPolicy: { deadLetter: {} },
    });
    const call = await client.subscribe(source.stream, "c");
    await client.publish(source.subject, "bad");
    const { id } = await call.event();
    call.send({ case: "reject", value: { ids: [id], permanently: true } });
    expect(await call.confirmation()).toEqual(confirmed({ ids: [id] }));
    const letter = await letterOf(jsm, source, id);
    expect(letter.header.get("WS-Dead-Letter-Subject")).toBe(source.subject);
    expect(Buffer.from(letter.data).toString()).toContain("bad");
    expect(await consumerState(jsm, source)).toMatchObject({ held: 0, waiting: 0 });
    await call.cancel();
  });

  test("that two servers give up at once has one letter", async ({ nats, client, jsm }) => {
    const COUNT = 50;
    const source = await createFailing(client, { deadLetter: {} });
    await using one = await openDeadLetters(nats.url);
    await using two = await openDeadLetters(nats.url);
    const time = new Date().toISOString();
    for (let n = 0; n < COUNT; n++) {
      const id = await client.publish(source.subject, `event ${n}`);
      const origin = { ...source, id, attempts: 1, cause: "rejected", reason: undefined, time } as const;
      const { timestamp } = (await jsm.streams.getMessage(source.stream, { seq: Number(id) }))!;
      const write = async ({ writer }: typeof one) =>
        writer.write(`${source.stream}-dead-letters`, origin, storedAtOf(timestamp), undefined);
      const written = await Promise.all([write(one), write(two)]);
      expect(written.toSorted()).toEqual(["known", "stored"]);
    }
    expect(await letterCount(jsm, source)).toBe(COUNT);
  });
});

test("a stream for dead letters that is gone is made again", async ({ client, jsm }) => {
  const source = await createFailing(client, { deadLetter: {} });
  await jsm.streams.delete(`${source.stream}-dead-letters`);
  const call = await client.subscribe(source.stream, "c");
  const id = await client.publish(source.subject, "bad");
  await call.event();
  call.send({ case: "reject", value: { ids: [id], permanently: true } });
  expect(await call.confirmation()).toEqual(confirmed({ ids: [id] }));
  await letterOf(jsm, source, id);
  await call.cancel();
});

test("a stream for dead letters that cannot be reached holds up its own letters alone, and none for long", async ({
  windshift,
  client,
  jsm,
}) => {
  const [source, other] = [
    await createFailing(client, { deadLetter: {} }),
    await createFailing(client, { deadLetter: {} }),
  ];
  const letters = `${source.stream}-dead-letters`;
  // Its letters have no place until the subject is back, which somebody is about to do, and never does.
  await jsm.streams.update(letters, { subjects: ["dead-letters.elsewhere"] });
  await jsm.consumers.add(letters, { durable_name: SUBJECTS_LOCK, ack_policy: "none" });
  const call = await client.subscribe(source.stream, "c", 500n);
  const ids = await Promise.all(Array.from({ length: 500 }, () => client.publish(source.subject, "bad")));
  await call.take(500);
  call.send({ case: "reject", value: { ids, permanently: true } });
  const free = await client.subscribe(other.stream, "c");
  const id = await client.publish(other.subject, "bad");
  await free.event();
  free.send({ case: "reject", value: { ids: [id], permanently: true } });
  expect(await free.confirmation()).toEqual(confirmed({ ids: [id] }));
  const hasFailed = windshift.log.some((line) => line["stream"] === source.stream && line["failure"] !== undefined);
  expect(hasFailed).toBe(false);
  // One after the other they would take longer than this test may.
  expect((await call.confirmation()).temporaryFailedIds).toHaveLength(500);
  await free.cancel();
  await call.cancel();
});

test("many events are given up at once, each with its letter", async ({ client, jsm }) => {
  const source = await createFailing(client, { maxAttempts: 1, deadLetter: {} });
  const call = await client.subscribe(source.stream, "c", 300n);
  const ids = await Promise.all(Array.from({ length: 300 }, (_, n) => client.publish(source.subject, `event ${n}`)));
  await call.take(300);
  call.send({ case: "reject", value: { ids } });
  const { ids: done } = await call.confirmation();
  expect(done).toHaveLength(300);
  expect(new Set(done)).toEqual(new Set(ids));
  expect(await letterCount(jsm, source)).toBe(300);
  expect(await consumerState(jsm, source)).toMatchObject({ held: 0 });
  await call.cancel();
});

test("an event that has left its stream can be no letter, and does not come again", async ({
  windshift,
  client,
  jsm,
}) => {
  const source = await createFailing(client, { deadLetter: {} });
  const call = await client.subscribe(source.stream, "c");
  const id = await client.publish(source.subject, "bad");
  await call.event();
  await jsm.streams.deleteMessage(source.stream, Number(id));
  call.send({ case: "reject", value: { ids: [id], permanently: true } });
  expect(await call.confirmation()).toEqual(confirmed({ ids: [id] }));
  expect(windshift.log).toContainEqual(
    expect.objectContaining({ failure: "dead_letter_lost", stream: source.stream, id: Number(id) }),
  );
  await call.cancel();
});

test("an event that its stream does not find once is not taken for one that left it", async ({ client, jsm }) => {
  const source = await createFailing(client, { deadLetter: {} });
  const call = await client.subscribe(source.stream, "c");
  const id = await client.publish(source.subject, "bad");
  await call.event();
  using _ = findNothing(source.stream, { times: 1 });
  call.send({ case: "reject", value: { ids: [id], permanently: true } });
  expect(await call.confirmation()).toEqual(confirmed({ ids: [id] }));
  expect((await letterOf(jsm, source, id)).header.get("WS-Dead-Letter-Subject")).toBe(source.subject);
  await call.cancel();
});

test("an event that its stream does not find, nor anything else, stays", async ({ windshift, client, jsm }) => {
  const source = await createFailing(client, { deadLetter: {} });
  const call = await client.subscribe(source.stream, "c");
  const id = await client.publish(source.subject, "bad");
  await call.event();
  const reject = { ids: [id], permanently: true };
  {
    using _ = findNothing(source.stream, { times: Infinity });
    call.send({ case: "reject", value: reject });
    expect(await call.confirmation()).toEqual(confirmed({ temporaryFailedIds: [id] }));
  }
  expect(windshift.log.filter((line) => line["stream"] === source.stream)).toMatchObject([
    { failure: "dead_letter_failed" },
  ]);
  expect(await consumerState(jsm, source)).toMatchObject({ held: 1 });
  call.send({ case: "reject", value: reject });
  expect(await call.confirmation()).toEqual(confirmed({ ids: [id] }));
  await letterOf(jsm, source, id);
  await call.cancel();
});

test("a letter that would be larger than NATS accepts goes without its reason, else its event stays", async ({
  windshift,
  client,
  jsm,
  natsClient,
}) => {
  const source = await createFailing(client, { deadLetter: {} });
  const call = await client.subscribe(source.stream, "c");
  const origin = { ...source, id: 1n, attempts: 1, cause: "rejected", time: new Date().toISOString() } as const;
  const room = natsClient.info!.max_payload - encodeLetter(undefined, { ...origin, reason: undefined }).length;
  const js = jetstream(natsClient);
  for (const payload of [Buffer.alloc(room), Buffer.alloc(room + 1)]) {
    const id = BigInt((await js.publish(source.subject, payload)).seq);
    await call.event();
    call.send({ case: "reject", value: { ids: [id], permanently: true, reason: "why" } });
    const isStored = payload.length === room;
    expect(await call.confirmation()).toEqual(confirmed(isStored ? { ids: [id] } : { temporaryFailedIds: [id] }));
  }
  const letter = await letterOf(jsm, source, 1n);
  expect(letter.data).toHaveLength(room);
  expect(letter.header.has("WS-Dead-Letter-Reason")).toBe(false);
  expect(await letterCount(jsm, source)).toBe(1);
  expect(await consumerState(jsm, source)).toMatchObject({ held: 1 });
  expect(windshift.log).toContainEqual(
    expect.objectContaining({
      failure: "dead_letter_failed",
      stream: source.stream,
      id: 2,
      err: expect.objectContaining({ reason: "EVENT_TOO_LARGE" }) as unknown,
    }),
  );
  await call.cancel();
});

describe("a letter goes without its reason", () => {
  /** What has no room for a reason: a plain event, its header, and the letter's bytes without one. */
  function letterBytes(source: Source, header: string): number {
    const origin = { ...source, id: 1n, attempts: 1, cause: "rejected", reason: undefined } as const;
    const own = Buffer.from(`NATS/1.0\r\nx-own: ${header}\r\n\r\n`);
    return encodeLetter(own, { ...origin, time: new Date().toISOString() }).length;
  }

  async function giveUp(client: Client, nats: NatsConnection, source: Source, header: string): Promise<void> {
    const headers = natsHeaders();
    headers.set("x-own", header);
    await jetstream(nats).publish(source.subject, "bad", { headers });
    const call = await client.subscribe(source.stream, "c");
    await rejectNext(call, { permanently: true, reason: "why" });
    await call.cancel();
  }

  test("where JetStream takes no longer headers", async ({ client, jsm, natsClient }) => {
    const source = await createFailing(client, { deadLetter: {} });
    const header = "x".repeat(MAX_HEADER_BYTES - letterBytes(source, ""));
    await giveUp(client, natsClient, source, header);
    const letter = await letterOf(jsm, source, 1n);
    expect(letter.header.get("x-own")).toBe(header);
    expect(letter.header.has("WS-Dead-Letter-Reason")).toBe(false);
  });

  test("where its stream takes no larger ones", async ({ client, jsm, natsClient }) => {
    const source = await createFailing(client, { deadLetter: {} });
    const bytes = letterBytes(source, "own") + "bad".length;
    await jsm.streams.update(`${source.stream}-dead-letters`, { max_msg_size: bytes });
    await giveUp(client, natsClient, source, "own");
    expect((await letterOf(jsm, source, 1n)).header.has("WS-Dead-Letter-Reason")).toBe(false);
  });
});

test("a payload is kept bit for bit", async ({ client, jsm, natsClient }) => {
  const source = await createFailing(client, { deadLetter: {} });
  const call = await client.subscribe(source.stream, "c");
  const payload = Buffer.from(Array.from({ length: 100_000 }, (_, n) => (n * 31) % 256));
  const { seq } = await jetstream(natsClient).publish(source.subject, payload);
  await call.event();
  call.send({ case: "reject", value: { ids: [BigInt(seq)], permanently: true } });
  await call.confirmation();
  expect(Buffer.from((await letterOf(jsm, source, BigInt(seq))).data).equals(payload)).toBe(true);
  await call.cancel();
});

test("a reason may have 1,024 characters, whatever their bytes, and no more", async ({ client, jsm }) => {
  const source = await createFailing(client, { deadLetter: {} });
  const call = await client.subscribe(source.stream, "c");
  const id = await client.publish(source.subject, "bad");
  await call.event();
  call.send({ case: "reject", value: { ids: [id], permanently: true, reason: "😀".repeat(1024) } });
  expect(await call.confirmation()).toEqual(confirmed({ ids: [id] }));
  expect((await letterOf(jsm, source, id)).header.get("WS-Dead-Letter-Reason")).toBe("😀".repeat(1024));
  call.send({ case: "reject", value: { ids: [1n], reason: "x".repeat(1025) } });
  const error = await failure(call.next());
  expect(error).toMatchObject({ status: "INVALID_ARGUMENT", fields: ["reject.reason"] });
});

test("a letter has no reason from before an ack", async ({ client, jsm }) => {
  const source = await createFailing(client, { deadLetter: {} });
  const call = await client.subscribe(source.stream, "c");
  const id = await client.publish(source.subject);
  await rejectNext(call, { reason: "old" });
  await call.event();
  await call.ackNow(id);
  await call.cancel();
  // It comes again, and is given up without a word.
  await jsm.consumers.delete(source.stream, "c");
  await setPolicy(client, source, { deadLetter: {} });
  const again = await client.subscribe(source.stream, "c");
  await rejectNext(again, { permanently: true });
  expect((await letterOf(jsm, source, id)).header.get("WS-Dead-Letter-Reason")).toBe("");
  await again.cancel();
});

test("a letter has no reason of the event that had its id before its stream was made anew", async ({ client, jsm }) => {
  const source = await createFailing(client, { deadLetter: {} });
  const call = await client.subscribe(source.stream, "c");
  const id = await client.publish(source.subject);
  await rejectNext(call, { reason: "old" });
  await call.cancel();
  await jsm.streams.delete(source.stream);
  const subjects = { case: "subjects" as const, value: { subjects: [`${source.stream}.>`] } };
  await client.ensureStream({ name: source.stream, source: subjects });
  await setPolicy(client, source, { deadLetter: {} });
  const again = await client.subscribe(source.stream, "c");
  expect(await client.publish(source.subject)).toBe(id);
  await rejectNext(again, { permanently: true });
  expect((await letterOf(jsm, source, id)).header.get("WS-Dead-Letter-Reason")).toBe("");
  await again.cancel();
});

test("a letter has nothing of another event that has its id since its stream was made anew", async ({
  windshift,
  client,
  jsm,
}) => {
  const source = await createFailing(client, { deadLetter: {} });
  const { stream } = source;
  const call = await client.subscribe(stream, "c");
  await client.publish(source.subject, "bad");
  await call.event();
  // Its leader finds nothing at first; it is asked again after a while.
  using _away = findNothing(stream, { times: 2 });
  call.send({ case: "reject", value: { ids: [1n], permanently: true } });
  await jsm.streams.delete(stream);
  const subjects = { case: "subjects" as const, value: { subjects: [`${stream}.>`] } };
  await client.ensureStream({ name: stream, source: subjects });
  await client.publish(source.subject, "good");
  const failures = () => windshift.log.flatMap((line) => (line["stream"] === stream ? [line["failure"]] : []));
  await until(() => failures().length > 0);
  expect(failures()).toEqual(["dead_letter_failed"]);
  expect(await letterCount(jsm, source)).toBe(0);
});

test("a policy that is taken away gives nothing up any more", async ({ client, jsm }) => {
  const source = await createFailing(client, { maxAttempts: 1, deadLetter: {} });
  await setPolicy(client, source, {});
  const call = await client.subscribe(source.stream, "c");
  const id = await client.publish(source.subject, "bad");
  for (const attempt of [1n, 2n, 3n]) {
    expect((await call.event()).deliveryAttempt).toBe(attempt);
    call.send({ case: "reject", value: { ids: [id] } });
    await call.confirmation();
  }
  expect(await letterCount(jsm, source)).toBe(0);
  await call.cancel();
});

/** Rejects the next event that comes. */
async function rejectNext(call: EventsCall, how: { permanently?: boolean; reason?: string }): Promise<void> {
  const { id } = await call.event();
  call.send({ case: "reject", value: { ids: [id], ...how } });
  expect(await call.confirmation()).toEqual(confirmed({ ids: [id] }));
}

/** Fills a place in the stream for dead letters. */
async function storeOtherLetter(natsClient: NatsConnection, stream: string): Promise<void> {
  await jetstream(natsClient).publish(`dead-letters.${stream}.c.0`, "of another event");
}

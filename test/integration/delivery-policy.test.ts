/** Delivery policies: how they are asked for, kept, changed and removed, and what they do to events that fail. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { AckPolicy, type ConsumerConfig, type JetStreamManager } from "@nats-io/jetstream";
import { describe, expect } from "vitest";
import type { DeliveryPolicySchema, EventsResponse } from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { SUBJECTS_LOCK } from "../../src/nats/own-consumers.ts";
import { type Client, type EventsCall, failure } from "../support/client.ts";
import { consumerState, duration } from "../support/consuming.ts";
import { createFailing, letterOf, setPolicy, until } from "../support/failing.ts";
import { test, uniqueName } from "../support/fixtures.ts";
import { SettlementTap } from "../support/settlement-tap.ts";
import { startWindshift } from "../support/windshift.ts";

type Policy = MessageInitShape<typeof DeliveryPolicySchema>;

const KEY = "windshift.delivery-policy";
const FULL: Policy = { maxAttempts: 5, backoff: [duration(100), duration(1_500)], deadLetter: {} };

async function ensureStream(client: Client): Promise<string> {
  const name = uniqueName();
  await client.ensureStream({ name, source: { case: "subjects", value: { subjects: [`${name}.>`] } } });
  return name;
}

async function configOf(jsm: JetStreamManager, stream: string, consumer = "c"): Promise<ConsumerConfig> {
  return (await jsm.consumers.info(stream, consumer)).config;
}

/** The policy as it is stored, without its version. */
async function storedPolicy(jsm: JetStreamManager, stream: string): Promise<object | undefined> {
  const text = (await configOf(jsm, stream)).metadata?.[KEY];
  if (text === undefined) return undefined;
  const { version: _, ...policy } = JSON.parse(text) as { version: number };
  return policy;
}

describe("the policy of a consumer", () => {
  test("is kept in its metadata", async ({ client, jsm }) => {
    const stream = await ensureStream(client);
    await client.ensureConsumer({ stream, name: "c", subjects: [`${stream}.>`], deliveryPolicy: FULL });
    expect(await storedPolicy(jsm, stream)).toEqual({
      max_attempts: 5,
      backoff_ms: [100, 1500],
      dead_letter: `${stream}-dead-letters`,
    });
  });

  test("stays when the consumer is ensured without one, beside metadata of others", async ({ client, jsm }) => {
    const stream = await ensureStream(client);
    const request = { stream, name: "c", subjects: [`${stream}.>`] };
    await client.ensureConsumer({ ...request, deliveryPolicy: { maxAttempts: 3 } });
    const { metadata } = await configOf(jsm, stream);
    await jsm.consumers.update(stream, "c", { metadata: { ...metadata, owner: "us" } });
    await client.ensureConsumer({ ...request, subjects: [`${stream}.b`] });
    expect(await storedPolicy(jsm, stream)).toEqual({ max_attempts: 3 });
    await client.ensureConsumer({ ...request, deliveryPolicy: { maxAttempts: 4 } });
    expect(await storedPolicy(jsm, stream)).toEqual({ max_attempts: 4 });
    expect((await configOf(jsm, stream)).metadata).toMatchObject({ owner: "us" });
  });

  test("is removed by an empty one", async ({ client, jsm }) => {
    const stream = await ensureStream(client);
    const request = { stream, name: "c", subjects: [`${stream}.>`] };
    await client.ensureConsumer({ ...request, deliveryPolicy: FULL });
    await client.ensureConsumer({ ...request, deliveryPolicy: {} });
    expect(await storedPolicy(jsm, stream)).toEqual({});
  });

  test("asked for again changes nothing", async ({ client, jsm }) => {
    const stream = await ensureStream(client);
    const request = { stream, name: "c", subjects: [`${stream}.>`], deliveryPolicy: FULL };
    await client.ensureConsumer(request);
    const { metadata } = await configOf(jsm, stream);
    await client.ensureConsumer(request);
    expect((await configOf(jsm, stream)).metadata).toEqual(metadata);
  });

  test("takes the place of JetStream's own limit of deliveries, also one that is set later", async ({
    client,
    jsm,
  }) => {
    const stream = await ensureStream(client);
    const ackWait = { ack_wait: 200_000_000, max_deliver: 1 };
    await jsm.consumers.add(stream, { durable_name: "c", ack_policy: "explicit", deliver_policy: "all", ...ackWait });
    const request = { stream, name: "c", subjects: [`${stream}.>`], processingTimeout: duration(200) };
    await client.ensureConsumer(request);
    expect(await configOf(jsm, stream)).toMatchObject({ max_deliver: 1 });
    await client.ensureConsumer({ ...request, deliveryPolicy: { maxAttempts: 2, deadLetter: {} } });
    expect(await configOf(jsm, stream)).toMatchObject({ max_deliver: -1 });
    const call = await client.subscribe(stream, "c");
    const id = await client.publish(`${stream}.a`);
    await letterOf(jsm, { stream, consumer: "c", subject: `${stream}.a` }, id);
    await jsm.consumers.update(stream, "c", { max_deliver: 1 });
    await until(async () => (await configOf(jsm, stream)).max_deliver === -1);
    await jsm.consumers.update(stream, "c", { max_deliver: 1 });
    await client.ensureConsumer(request);
    expect(await configOf(jsm, stream)).toMatchObject({ max_deliver: -1 });
    await call.cancel();
  });

  test("that nobody can read is replaced", async ({ client, jsm }) => {
    const stream = await ensureStream(client);
    const request = { stream, name: "c", subjects: [`${stream}.>`] };
    await client.ensureConsumer(request);
    await jsm.consumers.update(stream, "c", { metadata: { [KEY]: "{" } });
    await client.ensureConsumer({ ...request, deliveryPolicy: { maxAttempts: 3 } });
    expect(await storedPolicy(jsm, stream)).toEqual({ max_attempts: 3 });
  });

  test("without dead letters may be that of a consumer without a name", async ({ client, jsm }) => {
    const stream = await ensureStream(client);
    const { id } = await client.ensureConsumer({
      stream,
      subjects: [`${stream}.>`],
      deliveryPolicy: { maxAttempts: 3 },
    });
    expect((await configOf(jsm, stream, id)).metadata?.[KEY]).toContain('"max_attempts":3');
  });

  test.for<[string, Policy, string, string?]>([
    ["a negative back-off", { backoff: [duration(1), { seconds: -1n }] }, "delivery_policy.backoff[1]"],
    ["too many back-offs", { backoff: Array.from({ length: 101 }, () => duration(1)) }, "delivery_policy.backoff"],
    ["a stream that is no name", { deadLetter: { stream: "a b" } }, "delivery_policy.dead_letter.stream"],
    ["dead letters without a name", { deadLetter: {} }, "delivery_policy.dead_letter", ""],
  ])("with %s is refused", async ([, deliveryPolicy, field, name = "c"], { client }) => {
    const stream = await ensureStream(client);
    const error = await failure(client.ensureConsumer({ stream, name, subjects: [`${stream}.>`], deliveryPolicy }));
    expect(error).toMatchObject({ status: "INVALID_ARGUMENT", fields: [field] });
  });

  test("with the consumer's own stream for dead letters is refused", async ({ client }) => {
    const stream = await ensureStream(client);
    const deliveryPolicy = { deadLetter: { stream } };
    const request = { stream, name: "c", subjects: [`${stream}.>`], deliveryPolicy };
    const field = "delivery_policy.dead_letter.stream";
    expect(await failure(client.ensureConsumer(request))).toMatchObject({
      status: "INVALID_ARGUMENT",
      fields: [field],
    });
  });
});

describe("the stream for dead letters", () => {
  test("is made with the storage and replicas of the consumer's stream, and refuses when it is full", async ({
    client,
    jsm,
  }) => {
    const stream = uniqueName();
    await client.ensureStream({
      name: stream,
      source: { case: "subjects", value: { subjects: [`${stream}.>`] } },
      storage: { type: 2 },
    });
    await client.ensureConsumer({ stream, name: "c", subjects: [`${stream}.>`], deliveryPolicy: { deadLetter: {} } });
    const { config } = await jsm.streams.info(`${stream}-dead-letters`);
    expect(config).toMatchObject({
      subjects: [`dead-letters.${stream}.c.*`],
      storage: "memory",
      num_replicas: 1,
      discard: "new",
      retention: "limits",
    });
  });

  test("is shared by consumers that are ensured on two servers at once", async ({ nats, client, jsm }) => {
    const stream = await ensureStream(client);
    await using other = await startWindshift(nats.url);
    const names = Array.from({ length: 12 }, (_, index) => `c${index}`);
    await Promise.all(
      names.map(async (name, index) =>
        (index % 2 === 0 ? client : other.client).ensureConsumer({
          stream,
          name,
          subjects: [`${stream}.>`],
          deliveryPolicy: { deadLetter: { stream: `${stream}-letters` } },
        }),
      ),
    );
    const { config } = await jsm.streams.info(`${stream}-letters`);
    expect(config.subjects.toSorted()).toEqual(names.map((name) => `dead-letters.${stream}.${name}.*`).toSorted());
    expect(await jsm.consumers.list(`${stream}-letters`).next()).toEqual([]);
  });

  /** Another server is about to change the subjects of the stream, and does not come to its end. */
  async function lock(jsm: JetStreamManager, letters: string): Promise<AsyncDisposable> {
    await jsm.consumers.add(letters, { durable_name: SUBJECTS_LOCK, ack_policy: AckPolicy.None });
    return { [Symbol.asyncDispose]: async () => void (await jsm.consumers.delete(letters, SUBJECTS_LOCK)) };
  }

  test("takes in all consumers at once that wait for it", async ({ client, jsm, natsClient }) => {
    const { stream } = await createFailing(client, { deadLetter: {} });
    const letters = `${stream}-dead-letters`;
    const asked: string[] = [];
    const subscription = natsClient.subscribe("$JS.API.>", { callback: (_, { subject }) => void asked.push(subject) });
    await natsClient.flush();
    const count = (what: string): number => asked.filter((subject) => subject === `$JS.API.${what}`).length;
    const lockings = (): number => count(`CONSUMER.CREATE.${letters}.${SUBJECTS_LOCK}`);
    const names = Array.from({ length: 50 }, (_, n) => `c${n}`);
    let ensured: Promise<unknown>;
    {
      await using _ = await lock(jsm, letters);
      asked.length = 0;
      ensured = Promise.all(
        names.map(async (name) =>
          client.ensureConsumer({ stream, name, subjects: [`${stream}.>`], deliveryPolicy: { deadLetter: {} } }),
        ),
      );
      await until(() => count(`STREAM.INFO.${letters}`) >= names.length);
      // The last one has its answer, and waits.
      const before = lockings();
      await until(() => lockings() > before + 2);
    }
    await ensured;
    subscription.unsubscribe();
    const wanted = ["c", ...names].map((name) => `dead-letters.${stream}.${name}.*`);
    expect((await jsm.streams.info(letters)).config.subjects.toSorted()).toEqual(wanted.toSorted());
    expect(count(`STREAM.UPDATE.${letters}`)).toBeLessThanOrEqual(3);
  });

  test("that others change on and on takes nobody in, which may be tried again", async ({ client, jsm }) => {
    const { stream } = await createFailing(client, { deadLetter: {} });
    const request = { stream, name: "d", subjects: [`${stream}.>`], deliveryPolicy: { deadLetter: {} } };
    {
      await using _ = await lock(jsm, `${stream}-dead-letters`);
      const error = await failure(client.ensureConsumer(request));
      expect(error).toMatchObject({ status: "RESOURCE_EXHAUSTED", reason: "OVERLOADED" });
      expect(error.retryAfterMs).toBeGreaterThan(0);
      expect(error.message).toContain(`${stream}-dead-letters`);
    }
    await client.ensureConsumer(request);
  });

  test("takes in one beside another that it cannot take in", async ({ client, jsm, natsClient }) => {
    const { stream } = await createFailing(client, { deadLetter: {} });
    const letters = `${stream}-dead-letters`;
    await jsm.streams.add({ name: `${stream}-taken`, subjects: [`dead-letters.${stream}.d.*`] });
    await natsClient.request(`dead-letters.${stream}.d.1`, "of others");
    const ensure = async (name: string): Promise<unknown> =>
      client.ensureConsumer({ stream, name, subjects: [`${stream}.>`], deliveryPolicy: { deadLetter: {} } });
    let outcomes: Promise<PromiseSettledResult<unknown>[]>;
    {
      await using _ = await lock(jsm, letters);
      outcomes = Promise.allSettled(["d", "e", "f", "g"].map(ensure));
    }
    expect((await outcomes).map(({ status }) => status)).toEqual(["rejected", "fulfilled", "fulfilled", "fulfilled"]);
  });

  test("is not made for a consumer that cannot be ensured", async ({ client, jsm }) => {
    const stream = await ensureStream(client);
    await jsm.consumers.add(stream, { durable_name: "c", ack_policy: "all" });
    const request = { stream, name: "c", subjects: [`${stream}.>`], deliveryPolicy: { deadLetter: {} } };
    expect(await failure(client.ensureConsumer(request))).toMatchObject({ reason: "CONFIGURATION_REFUSED" });
    await expect(jsm.streams.info(`${stream}-dead-letters`)).rejects.toThrow("not found");
  });

  test("has no consumer with dead letters itself", async ({ client }) => {
    const source = await createFailing(client, { deadLetter: {} });
    const stream = `${source.stream}-dead-letters`;
    const request = { stream, name: "reader", subjects: [">"], deliveryPolicy: { maxAttempts: 3 } };
    await client.ensureConsumer(request);
    const error = await failure(client.ensureConsumer({ ...request, deliveryPolicy: { deadLetter: {} } }));
    expect(error).toMatchObject({ status: "FAILED_PRECONDITION", reason: "CONFIGURATION_REFUSED" });
    expect(error.message).toContain(stream);
  });

  test.for(["mirror", "aggregate"] as const)(
    "has no consumer with dead letters in a %s of it either",
    async (kind, { client }) => {
      const source = await createFailing(client, { deadLetter: {} });
      const letters = `${source.stream}-dead-letters`;
      const [name, copy] = [
        uniqueName(),
        { name: letters, from: { pointer: { case: "start" as const, value: true } } },
      ];
      const value = kind === "mirror" ? copy : { sources: [copy] };
      await client.ensureStream({ name, source: { case: kind, value } as never });
      const request = { stream: name, name: "reader", subjects: [">"] };
      await client.ensureConsumer(request);
      const error = await failure(client.ensureConsumer({ ...request, deliveryPolicy: { deadLetter: {} } }));
      expect(error).toMatchObject({ status: "FAILED_PRECONDITION", reason: "CONFIGURATION_REFUSED" });
      expect(error.message).toContain(letters);
    },
  );

  test("cannot be one that collects something else", async ({ client }) => {
    const stream = await ensureStream(client);
    const taken = await ensureStream(client);
    const deliveryPolicy = { deadLetter: { stream: taken } };
    const request = { stream, name: "c", subjects: [`${stream}.>`], deliveryPolicy };
    expect(await failure(client.ensureConsumer(request))).toMatchObject({ status: "FAILED_PRECONDITION" });
    // The stream is looked at before the policy is stored.
    expect(await failure(client.subscribe(stream, "c"))).toMatchObject({ reason: "CONSUMER_NOT_FOUND" });
  });

  test("lets go of a consumer that is deleted, but not of its letters", async ({ client, jsm, natsClient }) => {
    const stream = await ensureStream(client);
    const letters = `${stream}-dead-letters`;
    for (const name of ["a", "b", "c"]) {
      await client.ensureConsumer({ stream, name, subjects: [`${stream}.>`], deliveryPolicy: { deadLetter: {} } });
    }
    await natsClient.request(`dead-letters.${stream}.b.7`, "a letter");
    await client.deleteConsumer({ stream, id: "a" });
    await client.deleteConsumer({ stream, id: "b" });
    const { config } = await jsm.streams.info(letters);
    expect(config.subjects).toEqual([`dead-letters.${stream}.b.*`, `dead-letters.${stream}.c.*`]);
  });

  test("can be changed while no letter is left in the old one", async ({ client, jsm, natsClient }) => {
    const stream = await ensureStream(client);
    const request = (name: string, letters: string) => ({
      stream,
      name,
      subjects: [`${stream}.>`],
      deliveryPolicy: { deadLetter: { stream: `${stream}-${letters}` } },
    });
    await client.ensureConsumer(request("a", "old"));
    await client.ensureConsumer(request("b", "old"));
    await client.ensureConsumer(request("a", "new"));
    expect((await jsm.streams.info(`${stream}-new`)).config.subjects).toEqual([`dead-letters.${stream}.a.*`]);
    expect((await jsm.streams.info(`${stream}-old`)).config.subjects).toEqual([`dead-letters.${stream}.b.*`]);
    await natsClient.request(`dead-letters.${stream}.a.7`, "a letter");
    const error = await failure(client.ensureConsumer(request("a", "third")));
    expect(error).toMatchObject({ status: "FAILED_PRECONDITION", reason: "SUBJECT_OVERLAP" });

    // Also where that has no other, which stays, and can be used again.
    const subjects = async (letters: string) => (await jsm.streams.info(`${stream}-${letters}`)).config.subjects;
    await client.ensureConsumer(request("b", "fourth"));
    expect(await subjects("fourth")).toEqual([`dead-letters.${stream}.b.*`]);
    expect(await subjects("old")).toEqual([`dead-letters.${stream}-old`]);
    await client.ensureConsumer(request("c", "old"));
    expect(await subjects("old")).toEqual([`dead-letters.${stream}.c.*`]);
  });

  test("can be another one for a consumer that was deleted, and is made again", async ({ client, jsm }) => {
    const { stream } = await createFailing(client, { deadLetter: {} });
    await client.deleteConsumer({ stream, id: "c" });
    await setPolicy(client, { stream, consumer: "c", subject: "" }, { deadLetter: { stream: `${stream}-new` } });
    expect((await jsm.streams.info(`${stream}-new`)).config.subjects).toEqual([`dead-letters.${stream}.c.*`]);
  });

  test("that is there already costs no second look at the consumer", async ({ client, natsClient }) => {
    const source = await createFailing(client, { deadLetter: {} });
    let questions = 0;
    const subscription = natsClient.subscribe(`$JS.API.CONSUMER.INFO.${source.stream}.c`, {
      callback: () => void (questions += 1),
    });
    await natsClient.flush();
    await setPolicy(client, source, { deadLetter: {} });
    await natsClient.flush();
    subscription.unsubscribe();
    expect(questions).toBe(1);
  });
});

describe("the time without a subscriber", () => {
  test("is taken from the request, and kept without", async ({ client, jsm }) => {
    const stream = await ensureStream(client);
    const request = { stream, name: "c", subjects: [`${stream}.>`] };
    await client.ensureConsumer({ ...request, inactiveThreshold: duration(60_000) });
    expect((await configOf(jsm, stream)).inactive_threshold).toBe(60_000_000_000);
    await client.ensureConsumer(request);
    expect((await configOf(jsm, stream)).inactive_threshold).toBe(60_000_000_000);
    await client.ensureConsumer({ ...request, inactiveThreshold: duration(1_000) });
    expect((await configOf(jsm, stream)).inactive_threshold).toBe(1_000_000_000);
  });

  test.for([0, 999])("of %i ms is refused", async (ms, { client }) => {
    const stream = await ensureStream(client);
    const request = { stream, name: "c", subjects: [`${stream}.>`], inactiveThreshold: duration(ms) };
    const error = await failure(client.ensureConsumer(request));
    expect(error).toMatchObject({ status: "INVALID_ARGUMENT", fields: ["inactive_threshold"] });
  });
});

describe("the back-off", () => {
  test("paces rejects without a delay by attempt, and the last repeats", async ({ client, natsClient }) => {
    const source = await createFailing(client, { backoff: [duration(1), duration(20), duration(300)] });
    using tap = await SettlementTap.open(natsClient, source);
    const call = await client.subscribe(source.stream, "c");
    const id = await client.publish(source.subject);
    let rejectedAt = 0;
    for (let attempt = 1n; attempt <= 5n; attempt++) {
      await until(() => call.received.some(({ response }) => isAttempt(response, attempt)));
      // JetStream keeps to it.
      if (attempt > 3n) expect(performance.now() - rejectedAt).toBeGreaterThan(290);
      rejectedAt = performance.now();
      call.send({ case: "reject", value: { ids: [id] } });
    }
    await until(() => tap.delays(id).length === 5);
    expect(tap.delays(id)).toEqual([1, 20, 300, 300, 300]);
    await call.cancel();

    function isAttempt(response: EventsResponse["response"], attempt: bigint): boolean {
      return response.case === "event" && response.value.deliveryAttempt === attempt;
    }
  });

  test("is there also where only attempts are limited, so that rejects do not use them up at once", async ({
    client,
  }) => {
    const source = await createFailing(client, { maxAttempts: 3 });
    const call = await client.subscribe(source.stream, "c");
    const id = await client.publish(source.subject);
    await call.event();
    const start = performance.now();
    call.send({ case: "reject", value: { ids: [id] } });
    await call.confirmation();
    expect((await call.event()).deliveryAttempt).toBe(2n);
    expect(performance.now() - start).toBeGreaterThan(990);
    await call.cancel();
  });

  test("gives way to the delay that a client names", async ({ client }) => {
    const source = await createFailing(client, { backoff: [duration(3_600_000)] });
    const call = await client.subscribe(source.stream, "c");
    const id = await client.publish(source.subject);
    await call.event();
    call.send({ case: "reject", value: { ids: [id], delay: duration(1) } });
    await call.confirmation();
    expect((await call.event()).deliveryAttempt).toBe(2n);
    await call.cancel();
  });

  test("keeps a place in the consumer's own limit while an event waits", async ({ client, jsm }) => {
    const source = await createFailing(client, { backoff: [duration(3_600_000)] });
    const call = await client.subscribe(source.stream, "c");
    const id = await client.publish(source.subject);
    await call.event();
    call.send({ case: "reject", value: { ids: [id] } });
    await call.confirmation();
    expect(await consumerState(jsm, source)).toMatchObject({ held: 1 });
    await call.cancel();
  });
});

describe("a changed policy", () => {
  /** Publishes an event, which `call` gets and rejects. */
  async function rejectOne(client: Client, call: EventsCall, subject: string): Promise<bigint> {
    const id = await client.publish(subject);
    while ((await call.event()).id !== id);
    call.send({ case: "reject", value: { ids: [id] } });
    await call.confirmation();
    return id;
  }

  const HOUR = { backoff: [duration(3_600_000)] };

  test.for<[string, Policy, Policy, boolean, string]>([
    ["attempts, limited", {}, { maxAttempts: 1 }, false, "+TERM"],
    ["attempts, not limited any more", { maxAttempts: 1 }, {}, false, "-NAK"],
    ["a back-off", {}, HOUR, false, '-NAK {"delay":3600000000000}'],
    ["no back-off any more", HOUR, {}, false, "-NAK"],
    ["dead letters", {}, { deadLetter: {} }, true, "a letter"],
    ["no dead letters any more", { deadLetter: {} }, {}, true, "no letter"],
  ])("applies to open subscriptions on all servers within 5 s: %s", async (row, { nats, client, natsClient }) => {
    const [, before, after, permanently, effect] = row;
    const source = await createFailing(client, before);
    await using other = await startWindshift(nats.url);
    const calls = [
      await client.subscribe(source.stream, "c", 2n),
      await other.client.subscribe(source.stream, "c", 2n),
    ];
    using tap = await SettlementTap.open(natsClient, source);
    const letters = new Set<bigint>();
    const subscription = natsClient.subscribe(`dead-letters.${source.stream}.c.*`, {
      callback: (_, { subject }) => void letters.add(BigInt(subject.slice(subject.lastIndexOf(".") + 1))),
    });
    await natsClient.flush();
    const rejectedBy = new Map<bigint, number>();
    const handled = calls.map(() => 0);
    /** Rejects whatever came; true when all servers treat events as the new policy says. */
    const isApplied = (): boolean => {
      for (const [server, call] of calls.entries()) {
        for (; handled[server]! < call.received.length; handled[server]!++) {
          const { response } = call.received[handled[server]!]!;
          if (response.case !== "event") continue;
          rejectedBy.set(response.value.id, server);
          call.send({ case: "reject", value: { ids: [response.value.id], permanently } });
        }
      }
      return calls.every((_, server) => {
        const told = tap.told.findLast(({ id, what }) => rejectedBy.get(id) === server && what !== "+WPI");
        if (told === undefined) return false;
        if (permanently) return letters.has(told.id) === (effect === "a letter");
        return told.what === effect;
      });
    };
    await setPolicy(client, source, after);
    const start = performance.now();
    await until(async () => {
      await client.publish(source.subject);
      return isApplied();
    });
    expect(performance.now() - start).toBeLessThan(5_000);
    subscription.unsubscribe();
    for (const call of calls) await call.cancel();
  });

  test("is put back when an update of others wiped it, and holds meanwhile", async ({ windshift, client, jsm }) => {
    const source = await createFailing(client, { maxAttempts: 1 });
    const call = await client.subscribe(source.stream, "c");
    const stored = await storedPolicy(jsm, source.stream);
    await jsm.consumers.update(source.stream, "c", { metadata: { owner: "us" }, ack_wait: 7_000_000_000 });
    expect(await storedPolicy(jsm, source.stream)).toBeUndefined();
    await rejectOne(client, call, source.subject);
    expect(await consumerState(jsm, source)).toMatchObject({ held: 0 });
    await until(async () => (await storedPolicy(jsm, source.stream)) !== undefined);
    expect(await storedPolicy(jsm, source.stream)).toEqual(stored);
    expect(await configOf(jsm, source.stream)).toMatchObject({ metadata: { owner: "us" }, ack_wait: 7_000_000_000 });
    expect(windshift.log).toContainEqual(
      expect.objectContaining({ stream: source.stream, msg: expect.stringContaining("put back") as string }),
    );
    await call.cancel();
  });

  test("that was wiped is put back also while subscriptions open and close all the time", async ({ client, jsm }) => {
    const source = await createFailing(client, { maxAttempts: 1 });
    const call = await client.subscribe(source.stream, "c");
    const stored = await storedPolicy(jsm, source.stream);
    await jsm.consumers.update(source.stream, "c", { metadata: { owner: "us" } });
    await until(async () => {
      await (await client.subscribe(source.stream, "c")).cancel();
      return (await storedPolicy(jsm, source.stream)) !== undefined;
    });
    expect(await storedPolicy(jsm, source.stream)).toEqual(stored);
    await call.cancel();
  });

  test("that cannot be read counts as none, with a warning", async ({ windshift, client, jsm }) => {
    const source = await createFailing(client, { maxAttempts: 1 });
    await jsm.consumers.update(source.stream, "c", { metadata: { [KEY]: "no JSON" } });
    const call = await client.subscribe(source.stream, "c");
    await rejectOne(client, call, source.subject);
    expect((await call.event()).deliveryAttempt).toBe(2n);
    expect(windshift.log).toContainEqual(
      expect.objectContaining({ stream: source.stream, msg: expect.stringContaining("cannot be read") as string }),
    );
    await call.cancel();
  });

  test("is asked for once for all subscriptions of a consumer", async ({ client, jsm, natsClient }) => {
    const source = await createFailing(client, { maxAttempts: 3 });
    const calls = await Promise.all(Array.from({ length: 20 }, async () => client.subscribe(source.stream, "c")));
    let questions = 0;
    const subscription = natsClient.subscribe(`$JS.API.CONSUMER.INFO.${source.stream}.c`, {
      callback: () => void (questions += 1),
    });
    await natsClient.flush();
    await setPolicy(client, source, { maxAttempts: 1 });
    const before = questions;
    await until(() => questions > before + 1);
    // Two rounds of questions, not two for each of the calls.
    expect(questions - before).toBeLessThan(5);
    subscription.unsubscribe();
    for (const call of calls) await call.cancel();
    expect(await consumerState(jsm, source)).toMatchObject({ held: 0 });
  });
});

/** EnsureConsumer and DeleteConsumer: what they make, change, keep and remove. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { AckPolicy, type ConsumerConfig, type JetStreamManager } from "@nats-io/jetstream";
import { describe, expect } from "vitest";
import type {
  EnsureConsumerRequestSchema,
  StreamPointerSchema,
} from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { type Client, failure } from "../support/client.ts";
import { test, uniqueName } from "../support/fixtures.ts";

type Request = MessageInitShape<typeof EnsureConsumerRequestSchema>;
type Pointer = MessageInitShape<typeof StreamPointerSchema>["pointer"];

const SECOND = 1_000_000_000;
const HOUR = 3600 * SECOND;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const START: Request["from"] = { pointer: { case: "start", value: true } };

const duration = (seconds: number, nanos = 0) => ({ seconds: BigInt(seconds), nanos });

/** A stream with the events `.a`, `.b`, `.a`, `.c`, which get the ids 1 to 4. */
async function ensureFilled(client: Client): Promise<string> {
  const name = uniqueName();
  await client.ensureStream({ name, source: { case: "subjects", value: { subjects: [`${name}.>`] } } });
  for (const token of ["a", "b", "a", "c"]) await client.publish(`${name}.${token}`, token);
  return name;
}

async function configOf(jsm: JetStreamManager, stream: string, consumer: string): Promise<ConsumerConfig> {
  return (await jsm.consumers.info(stream, consumer)).config;
}

/** Ids of the next events that the consumer delivers. */
async function deliveries(client: Client, stream: string, consumer: string, count: number): Promise<bigint[]> {
  const call = await client.subscribe(stream, consumer);
  const events = await call.take(count);
  await call.cancel();
  return events.map(({ id }) => id);
}

/** When JetStream stored an event. */
async function storedAt(jsm: JetStreamManager, stream: string, seq: number) {
  const found = await jsm.streams.getMessage(stream, { seq });
  const [, fraction = ""] = /\.(\d+)Z$/.exec(found!.timestamp) ?? [];
  return duration(Math.floor(Date.parse(found!.timestamp) / 1000), Number(fraction.padEnd(9, "0")));
}

const DEFAULTS = {
  deliver_policy: "new",
  ack_policy: "explicit",
  ack_wait: 30 * SECOND,
  max_deliver: -1,
  replay_policy: "instant",
  max_ack_pending: -1,
};

describe("a new consumer", () => {
  test("with a name is durable, and is removed after 30 days without a subscriber", async ({ client, jsm }) => {
    const stream = await ensureFilled(client);
    const { id } = await client.ensureConsumer({ stream, name: "mine", subjects: [`${stream}.a`] });
    expect(id).toBe("mine");
    expect(await configOf(jsm, stream, id)).toMatchObject({
      ...DEFAULTS,
      durable_name: "mine",
      name: "mine",
      filter_subject: `${stream}.a`,
      inactive_threshold: 30 * 24 * HOUR,
    });
  });

  test.for([
    ["without a name", {}],
    ["with an empty name", { name: "" }],
  ] as const)(
    "%s is ephemeral, and is removed after 1 hour without a subscriber",
    async ([, rest], { client, jsm }) => {
      const stream = await ensureFilled(client);
      const request = { stream, subjects: [`${stream}.a`], ...rest };
      const { id } = await client.ensureConsumer(request);
      expect(id).toMatch(UUID);
      const config = await configOf(jsm, stream, id);
      expect(config).toMatchObject({ ...DEFAULTS, name: id, inactive_threshold: HOUR });
      expect(config).not.toHaveProperty("durable_name");

      const { id: another } = await client.ensureConsumer(request);
      expect(another).not.toBe(id);
    },
  );

  test("may have a name of 255 characters, and a filter of 1024", async ({ client, jsm }) => {
    const stream = await ensureFilled(client);
    const name = "n".repeat(255);
    const filter = `${stream}.`.padEnd(1024, "f");
    await client.ensureConsumer({ stream, name, subjects: [filter] });
    expect(await configOf(jsm, stream, name)).toMatchObject({ name, filter_subject: filter });
    await client.deleteConsumer({ stream, id: name });
  });

  const timeouts: [timeout: string, request: Partial<Pick<Request, "processingTimeout">>, ackWait: number][] = [
    ["left out", {}, 30 * SECOND],
    ["of 0", { processingTimeout: {} }, 30 * SECOND],
    ["of 1 ms", { processingTimeout: duration(0, 1_000_000) }, SECOND / 1000],
    ["of 5 s", { processingTimeout: duration(5) }, 5 * SECOND],
    ["that is no whole number of milliseconds", { processingTimeout: duration(4, 517_792_156) }, 4_517_792_156],
    ["of a day", { processingTimeout: duration(86_400) }, 24 * HOUR],
  ];
  test.for(timeouts)("has a processing timeout %s", async ([, rest, ackWait], { client, jsm }) => {
    const stream = await ensureFilled(client);
    const { id } = await client.ensureConsumer({ stream, subjects: [">"], ...rest });
    expect((await configOf(jsm, stream, id)).ack_wait).toBe(ackWait);

    const call = client.events();
    call.send({ case: "subscribe", value: { stream, consumer: id } });
    expect((await call.next()).response).toMatchObject({
      case: "subscribed",
      value: { processingTimeout: duration(Math.floor(ackWait / SECOND), ackWait % SECOND) },
    });
    await call.cancel();
  });

  const filters: [filters: string, tokens: string[], ids: bigint[]][] = [
    ["one subject", ["a"], [1n, 3n]],
    ["several subjects", ["a", "c"], [1n, 3n, 4n]],
    ["a wildcard for one token", ["*"], [1n, 2n, 3n, 4n]],
    ["a wildcard for all that follow", [">"], [1n, 2n, 3n, 4n]],
    ["a subject outside of the stream", ["b", "a.b.c"], [2n]],
  ];
  test.for(filters)("delivers the events of %s", async ([, tokens, ids], { client, jsm }) => {
    const stream = await ensureFilled(client);
    const subjects = tokens.map((token) => `${stream}.${token}`);
    const { id } = await client.ensureConsumer({ stream, name: "c", subjects, from: START });
    expect(await configOf(jsm, stream, id)).toMatchObject(
      subjects.length === 1 ? { filter_subject: subjects[0] } : { filter_subjects: subjects },
    );
    expect(await deliveries(client, stream, id, ids.length)).toEqual(ids);
    expect((await jsm.consumers.info(stream, id)).num_pending).toBe(0);
  });

  test.for([">", "*.a", "*.*"])("may have a filter that begins with a wildcard: %s", async (filter, { client }) => {
    const stream = await ensureFilled(client);
    const { id } = await client.ensureConsumer({ stream, subjects: [filter], from: START });
    expect(await deliveries(client, stream, id, 1)).toEqual([1n]);
  });

  const places: [from: string, pointer: Pointer | "unset" | "time of the third", policy: object, ids: bigint[]][] = [
    ["without a place", "unset", { deliver_policy: "new" }, [5n]],
    ["at an empty place", undefined, { deliver_policy: "new" }, [5n]],
    ["at the end", { case: "end", value: true }, { deliver_policy: "new" }, [5n]],
    ["at the end, said with false", { case: "end", value: false }, { deliver_policy: "new" }, [5n]],
    ["at id 0, which is the end", { case: "offset", value: 0n }, { deliver_policy: "new" }, [5n]],
    ["at the start", { case: "start", value: true }, { deliver_policy: "all" }, [1n, 2n, 3n, 4n, 5n]],
    ["at the start, said with false", { case: "start", value: false }, { deliver_policy: "all" }, [1n, 2n, 3n, 4n, 5n]],
    [
      "at an id",
      { case: "offset", value: 3n },
      { deliver_policy: "by_start_sequence", opt_start_seq: 3 },
      [3n, 4n, 5n],
    ],
    [
      "at an id to come",
      { case: "offset", value: 5n },
      { deliver_policy: "by_start_sequence", opt_start_seq: 5 },
      [5n],
    ],
    ["at a time", "time of the third", { deliver_policy: "by_start_time" }, [3n, 4n, 5n]],
    [
      "at an empty time",
      { case: "time", value: {} },
      { deliver_policy: "by_start_time", opt_start_time: "1970-01-01T00:00:00Z" },
      [1n, 2n, 3n, 4n, 5n],
    ],
    [
      "before 1970",
      { case: "time", value: { seconds: -1n, nanos: 120_000_000 } },
      { deliver_policy: "by_start_time", opt_start_time: "1969-12-31T23:59:59.12Z" },
      [1n, 2n, 3n, 4n, 5n],
    ],
    [
      "at the first moment of the year 1",
      { case: "time", value: { seconds: -62_135_596_800n } },
      { deliver_policy: "by_start_time" },
      [1n, 2n, 3n, 4n, 5n],
    ],
    // NATS would take it for 2084.
    [
      "in the year 1500",
      { case: "time", value: { seconds: -14_831_769_600n } },
      { deliver_policy: "by_start_time" },
      [1n, 2n, 3n, 4n, 5n],
    ],
  ];
  test.for(places)("begins %s", async ([, pointer, policy, ids], { client, jsm }) => {
    const stream = await ensureFilled(client);
    let from: Request["from"];
    if (pointer === undefined) from = {};
    else if (pointer === "time of the third")
      from = { pointer: { case: "time", value: await storedAt(jsm, stream, 3) } };
    else if (pointer !== "unset") from = { pointer };
    const { id } = await client.ensureConsumer({ stream, subjects: [">"], ...(from === undefined ? {} : { from }) });
    expect(await configOf(jsm, stream, id)).toMatchObject(policy);
    await client.publish(`${stream}.b`);
    expect(await deliveries(client, stream, id, ids.length)).toEqual(ids);
  });

  test("that begins in the year 9999 waits for it", async ({ client, jsm }) => {
    const stream = await ensureFilled(client);
    const value = { seconds: 253_402_300_799n, nanos: 999_999_999 };
    const from = { pointer: { case: "time" as const, value } };
    const { id } = await client.ensureConsumer({ stream, subjects: [">"], from });
    expect((await jsm.consumers.info(stream, id)).num_pending).toBe(0);
  });

  test("of a removed first id begins with the first that is left", async ({ client, jsm }) => {
    const stream = await ensureFilled(client);
    await jsm.streams.purge(stream, { seq: 3 });
    const from = { pointer: { case: "offset" as const, value: 1n } };
    const { id } = await client.ensureConsumer({ stream, subjects: [">"], from });
    expect(await deliveries(client, stream, id, 2)).toEqual([3n, 4n]);
  });
});

describe("ensuring an existing consumer", () => {
  /** How a consumer says which subjects it wants; NATS tools and the Go library use the list also for one. */
  const forms: [form: string, config: (subjects: string[]) => Partial<ConsumerConfig>][] = [
    ["the field for one", ([subject]) => ({ filter_subject: subject! })],
    ["the list", (subjects) => ({ filter_subjects: subjects })],
  ];
  const changes: [before: string[], after: string[], ids: bigint[]][] = [
    [["a"], ["a"], [1n, 3n]],
    [["a"], ["b"], [2n]],
    [["a"], ["a", "c"], [1n, 3n, 4n]],
    [["a", "c"], ["a"], [1n, 3n]],
    [
      ["a", "c"],
      ["c", "b"],
      [2n, 4n],
    ],
    [["a", "c"], [">"], [1n, 2n, 3n, 4n]],
    [[">"], ["a", "b"], [1n, 2n, 3n]],
  ];
  test.for(changes)("changes its subjects from %s to %s", async ([before, after, ids], { client, jsm }) => {
    const stream = await ensureFilled(client);
    const request = (tokens: string[]) => ({
      stream,
      name: "c",
      subjects: tokens.map((token) => `${stream}.${token}`),
      from: START,
    });
    await client.ensureConsumer(request(before));
    await client.ensureConsumer(request(after));
    const { subjects } = request(after);
    expect(await configOf(jsm, stream, "c")).toMatchObject(
      subjects.length === 1 ? { filter_subject: subjects[0] } : { filter_subjects: subjects },
    );
    expect(await deliveries(client, stream, "c", ids.length)).toEqual(ids);
  });

  const foreign = changes.flatMap(([before, after, ids]) =>
    forms
      .slice(before.length - 1)
      .map(([form, config]) => ({ before, after, ids, form: before.length > 1 ? "the list" : form, config })),
  );
  test.for(foreign)(
    "changes the subjects of one that NATS tools made with $form from $before to $after",
    async ({ before, after, ids, config }, { client, jsm }) => {
      const stream = await ensureFilled(client);
      await jsm.consumers.add(stream, {
        durable_name: "c",
        ack_policy: AckPolicy.Explicit,
        ...config(before.map((token) => `${stream}.${token}`)),
      });
      const subjects = after.map((token) => `${stream}.${token}`);
      await client.ensureConsumer({ stream, name: "c", subjects });
      const made = await configOf(jsm, stream, "c");
      expect(made.filter_subjects ?? [made.filter_subject]).toEqual(subjects);
      expect(await deliveries(client, stream, "c", ids.length)).toEqual(ids);
    },
  );

  test("gives subjects to one that had none", async ({ client, jsm }) => {
    const stream = await ensureFilled(client);
    await jsm.consumers.add(stream, { durable_name: "c", ack_policy: AckPolicy.Explicit });
    await client.ensureConsumer({ stream, name: "c", subjects: [`${stream}.b`] });
    expect(await configOf(jsm, stream, "c")).toMatchObject({ filter_subject: `${stream}.b` });
  });

  test("changes its processing timeout, which falls back to 30 s when it is left out", async ({ client, jsm }) => {
    const stream = await ensureFilled(client);
    const request = { stream, name: "c", subjects: [">"] };
    const ackWait = async () => (await configOf(jsm, stream, "c")).ack_wait;
    await client.ensureConsumer({ ...request, processingTimeout: duration(5) });
    expect(await ackWait()).toBe(5 * SECOND);
    await client.ensureConsumer({ ...request, processingTimeout: duration(4, 517_792_156) });
    expect(await ackWait()).toBe(4_517_792_156);
    await client.ensureConsumer(request);
    expect(await ackWait()).toBe(30 * SECOND);
  });

  test("ignores from", async ({ client, jsm }) => {
    const stream = await ensureFilled(client);
    const request = { stream, name: "c", subjects: [">"] };
    await client.ensureConsumer({ ...request, from: START });
    for (const pointer of [
      { case: "end", value: true },
      { case: "offset", value: 3n },
      { case: "time", value: { seconds: 1n } },
    ] as const) {
      await client.ensureConsumer({ ...request, from: { pointer }, processingTimeout: duration(10) });
      expect((await configOf(jsm, stream, "c")).deliver_policy).toBe("all");
    }
  });

  test("keeps what it remembers", async ({ client }) => {
    const stream = await ensureFilled(client);
    await client.ensureConsumer({ stream, name: "c", subjects: [">"], from: START });
    const call = await client.subscribe(stream, "c", 1n);
    await call.ackNow((await call.event()).id);
    await call.cancel();
    await client.ensureConsumer({ stream, name: "c", subjects: [`${stream}.b`, `${stream}.c`], from: START });
    expect(await deliveries(client, stream, "c", 2)).toEqual([2n, 4n]);
  });

  test("keeps settings that others made", async ({ client, jsm }) => {
    const stream = await ensureFilled(client);
    const settings = {
      description: "made by hand",
      max_deliver: 7,
      max_ack_pending: 11,
      metadata: { team: "orders" },
      inactive_threshold: 2 * HOUR,
      max_waiting: 9,
    };
    await jsm.consumers.add(stream, {
      durable_name: "c",
      ack_policy: AckPolicy.Explicit,
      filter_subject: `${stream}.a`,
      ...settings,
    });
    await client.ensureConsumer({ stream, name: "c", subjects: [`${stream}.b`], processingTimeout: duration(10) });
    expect(await configOf(jsm, stream, "c")).toMatchObject({ ...settings, ack_wait: 10 * SECOND });
  });

  test("changes the limit of unsettled events, or keeps it", async ({ client, jsm }) => {
    const stream = await ensureFilled(client);
    const limitAfter = async (maxProcessingEvents?: bigint) => {
      await client.ensureConsumer({ stream, name: "c", subjects: [">"], maxProcessingEvents });
      return (await configOf(jsm, stream, "c")).max_ack_pending;
    };
    expect(await limitAfter(7n)).toBe(7);
    expect(await limitAfter()).toBe(7);
    expect(await limitAfter(5000n)).toBe(5000);
    expect(await limitAfter(0n)).toBe(-1);
    expect(await limitAfter(2n ** 40n)).toBe(2 ** 40);
    expect(await limitAfter(2n ** 63n)).toBe(-1);
    expect(await limitAfter(1n)).toBe(1);
    expect(await limitAfter(2n ** 64n - 1n)).toBe(-1);
  });

  test("keeps one alive for ever that was made so", async ({ client, jsm }) => {
    const stream = await ensureFilled(client);
    await jsm.consumers.add(stream, { durable_name: "c", ack_policy: AckPolicy.Explicit });
    await client.ensureConsumer({ stream, name: "c", subjects: [">"], processingTimeout: duration(10) });
    expect(await configOf(jsm, stream, "c")).not.toHaveProperty("inactive_threshold");
  });

  test("works on an ephemeral one by its id", async ({ client, jsm }) => {
    const stream = await ensureFilled(client);
    const { id } = await client.ensureConsumer({ stream, subjects: [`${stream}.a`] });
    const again = { stream, name: id, subjects: [`${stream}.b`] };
    expect((await client.ensureConsumer(again)).id).toBe(id);
    const config = await configOf(jsm, stream, id);
    expect(config).toMatchObject({ filter_subject: `${stream}.b`, inactive_threshold: HOUR });
    expect(config).not.toHaveProperty("durable_name");
  });

  test("many times at once succeeds", async ({ client, windshift, jsm }) => {
    const stream = await ensureFilled(client);
    const other = windshift.connect();
    const answers = await Promise.all(
      Array.from({ length: 10 }, async (_, index) =>
        (index % 2 === 0 ? client : other).ensureConsumer({
          stream,
          name: "c",
          subjects: [`${stream}.a`],
          processingTimeout: duration(1 + index),
        }),
      ),
    );
    expect(new Set(answers.map(({ id }) => id))).toEqual(new Set(["c"]));
    const { ack_wait: wait } = await configOf(jsm, stream, "c");
    expect(wait! % SECOND).toBe(0);
    expect(wait! / SECOND).toBeLessThanOrEqual(10);
  });

  const unusable: [kind: string, config: Partial<ConsumerConfig>, says: string][] = [
    ["pushes its events", { deliver_subject: "somewhere", ack_policy: AckPolicy.Explicit }, "pushes its events"],
    ["needs no acknowledgement", { ack_policy: AckPolicy.None }, 'acknowledgement policy "none"'],
    ["acknowledges all before", { ack_policy: AckPolicy.All }, 'acknowledgement policy "all"'],
    ["leaves payloads out", { ack_policy: AckPolicy.Explicit, headers_only: true }, "delivers headers only"],
  ];
  test.for(unusable)("refuses one that %s", async ([, config, says], { client, jsm }) => {
    const stream = await ensureFilled(client);
    await jsm.consumers.add(stream, { durable_name: "c", ...config });
    const before = await configOf(jsm, stream, "c");
    const error = await failure(client.ensureConsumer({ stream, name: "c", subjects: [`${stream}.a`] }));
    expect(error).toMatchObject({
      status: "FAILED_PRECONDITION",
      reason: "CONFIGURATION_REFUSED",
      metadata: { stream, consumer: "c" },
    });
    expect(error.message).toContain(`name: consumer "c"`);
    expect(error.message).toContain(says);
    expect(await configOf(jsm, stream, "c")).toEqual(before);
  });
});

describe("deleting a consumer", () => {
  test.for([
    ["a durable one", { name: "c" }],
    ["an ephemeral one", {}],
  ] as const)("removes %s", async ([, name], { client, jsm }) => {
    const stream = await ensureFilled(client);
    const { id } = await client.ensureConsumer({ stream, subjects: [">"], ...name });
    await client.deleteConsumer({ stream, id });
    await expect(jsm.consumers.info(stream, id)).rejects.toThrow("consumer not found");
  });

  test("lets it be made again, with nothing remembered", async ({ client }) => {
    const stream = await ensureFilled(client);
    const request = { stream, name: "c", subjects: [">"], from: START };
    await client.ensureConsumer(request);
    const call = await client.subscribe(stream, "c", 1n);
    await call.ackNow((await call.event()).id);
    await call.cancel();
    await client.deleteConsumer({ stream, id: "c" });
    await client.ensureConsumer(request);
    expect(await deliveries(client, stream, "c", 1)).toEqual([1n]);
  });

  test("works on one that NATS tools made", async ({ client, jsm }) => {
    const stream = await ensureFilled(client);
    await jsm.consumers.add(stream, { durable_name: "c", deliver_subject: "somewhere", ack_policy: AckPolicy.None });
    await client.deleteConsumer({ stream, id: "c" });
    await expect(jsm.consumers.info(stream, "c")).rejects.toThrow("consumer not found");
  });
});

describe("what does not exist is NOT_FOUND", () => {
  const calls: [call: string, run: (client: Client, stream: string) => Promise<unknown>, reason: string][] = [
    [
      "a durable consumer of no stream",
      async (client) => client.ensureConsumer({ stream: "nowhere", name: "c", subjects: [">"] }),
      "STREAM_NOT_FOUND",
    ],
    [
      "an ephemeral consumer of no stream",
      async (client) => client.ensureConsumer({ stream: "nowhere", subjects: [">"] }),
      "STREAM_NOT_FOUND",
    ],
    [
      "deleting a consumer of no stream",
      async (client) => client.deleteConsumer({ stream: "nowhere", id: "c" }),
      "STREAM_NOT_FOUND",
    ],
    [
      "deleting no consumer",
      async (client, stream) => client.deleteConsumer({ stream, id: "nobody" }),
      "CONSUMER_NOT_FOUND",
    ],
    ["subscribing to no stream", async (client) => client.subscribe("nowhere", "c"), "STREAM_NOT_FOUND"],
    [
      "subscribing to no consumer",
      async (client, stream) => (await client.subscribe(stream, "nobody")).next(),
      "CONSUMER_NOT_FOUND",
    ],
  ];
  test.for(calls)("%s", async ([, run, reason], { client }) => {
    const stream = await ensureFilled(client);
    const error = await failure(run(client, stream));
    expect(error).toMatchObject({ status: "NOT_FOUND", reason, domain: "windshift", retryAfterMs: undefined });
    expect(error.metadata).toMatchObject({ stream: reason === "STREAM_NOT_FOUND" ? "nowhere" : stream });
    if (reason === "CONSUMER_NOT_FOUND") expect(error.metadata).toMatchObject({ consumer: "nobody" });
    expect(error.message).toContain(reason === "STREAM_NOT_FOUND" ? "nowhere" : "nobody");
  });
});

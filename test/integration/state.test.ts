/** The four calls of `StateService`, on stores made here and on buckets made by NATS tools. */
import { create, toBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { type JetStreamManager, StorageType, type StreamConfig } from "@nats-io/jetstream";
import { type NatsConnection, headers } from "@nats-io/nats-core";
import { describe, expect } from "vitest";
import { type Client, failure, textOf, textValue } from "../support/client.ts";
import { test, uniqueName } from "../support/fixtures.ts";
import { type NatsServer, startNats } from "../support/nats.ts";
import { startWindshift } from "../support/windshift.ts";

const MAX_PAYLOAD = 1024 * 1024;

/** A store of its own; returns its name. */
async function newStore(client: Client): Promise<string> {
  const store = uniqueName("store");
  await client.ensureStore({ store });
  return store;
}

/** A bucket as NATS tools make them. */
async function newBucket(jsm: JetStreamManager, config: Partial<StreamConfig> = {}): Promise<string> {
  const store = uniqueName("bucket");
  await jsm.streams.add({
    name: `KV_${store}`,
    subjects: [`$KV.${store}.>`],
    max_msgs_per_subject: 1,
    allow_rollup_hdrs: true,
    allow_direct: true,
    ...config,
  });
  return store;
}

/** Writes to a bucket as NATS tools do. */
async function put(
  nats: NatsConnection,
  store: string,
  key: string,
  payload: Uint8Array | string,
  lines: Record<string, string> = {},
): Promise<number> {
  const block = headers();
  for (const [name, value] of Object.entries(lines)) block.set(name, value);
  const reply = await nats.request(`$KV.${store}.${key}`, payload, { headers: block, timeout: 10_000 });
  const { seq } = reply.json<{ seq?: number }>();
  if (seq === undefined) throw new Error(reply.string());
  return seq;
}

function marshalled(text: string): Uint8Array {
  return toBinary(AnySchema, textValue(text));
}

const DELETED = { "KV-Operation": "DEL" };
const PURGED = { "KV-Operation": "PURGE", "Nats-Rollup": "sub" };
const EXPIRED = { "Nats-Marker-Reason": "MaxAge" };

const MISSING = { revision: 0n };

describe("EnsureStore", () => {
  test("makes a bucket that keeps the last value of each key, on disk, for ever", async ({ client, jsm }) => {
    const store = await newStore(client);
    const { config } = await jsm.streams.info(`KV_${store}`);
    expect(config).toMatchObject({
      subjects: [`$KV.${store}.>`],
      max_msgs_per_subject: 1,
      max_age: 0,
      max_bytes: -1,
      max_msg_size: -1,
      storage: StorageType.File,
      num_replicas: 1,
      discard: "new",
      allow_direct: true,
      allow_rollup_hdrs: true,
      deny_delete: true,
    });
  });

  test("again changes nothing, and keeps the values", async ({ client, jsm }) => {
    const store = await newStore(client);
    await client.set({ store, key: "a", value: textValue("1") });
    const before = await jsm.streams.info(`KV_${store}`);
    await client.ensureStore({ store });
    expect((await jsm.streams.info(`KV_${store}`)).config).toEqual(before.config);
    expect(textOf((await client.get({ store, key: "a" })).value)).toBe("1");
  });

  test("by many at once makes one", async ({ client }) => {
    const store = uniqueName("store");
    await Promise.all(Array.from({ length: 20 }, () => client.ensureStore({ store })));
    expect(await client.get({ store, key: "a" })).toMatchObject(MISSING);
  });

  test("takes a bucket with other settings as it is", async ({ client, jsm }) => {
    const store = await newBucket(jsm, {
      max_msgs_per_subject: 5,
      storage: StorageType.Memory,
      description: "made by hand",
      allow_direct: false,
    });
    const before = await jsm.streams.info(`KV_${store}`);
    await client.ensureStore({ store });
    expect((await jsm.streams.info(`KV_${store}`)).config).toEqual(before.config);
  });

  test("makes a store again that NATS tools have deleted", async ({ client, jsm }) => {
    const store = await newStore(client);
    await client.set({ store, key: "a", value: textValue("1") });
    await client.get({ store, key: "a" });
    await jsm.streams.delete(`KV_${store}`);
    await client.ensureStore({ store });
    expect(await client.get({ store, key: "a" })).toMatchObject(MISSING);
    expect((await client.set({ store, key: "a", value: textValue("2") })).revision).toBe(1n);
  });

  test("is refused where another stream has the subjects", async ({ client, jsm }) => {
    const store = uniqueName("store");
    await jsm.streams.add({ name: uniqueName(), subjects: [`$KV.${store}.x`] });
    expect(await failure(client.ensureStore({ store }))).toMatchObject({
      status: "FAILED_PRECONDITION",
      reason: "SUBJECT_OVERLAP",
      metadata: { store },
    });
  });
});

describe("Get", () => {
  test("returns what was set, with its revision and time to the nanosecond", async ({ client, jsm }) => {
    const store = await newStore(client);
    const { revision } = await client.set({ store, key: "a", value: textValue("hello") });
    const { time } = (await jsm.streams.getMessage(`KV_${store}`, { seq: Number(revision) }))!;
    const found = await client.get({ store, key: "a" });
    expect(found.revision).toBe(revision);
    expect(textOf(found.value)).toBe("hello");
    const { timestamp } = (await jsm.streams.getMessage(`KV_${store}`, { seq: Number(revision) }))!;
    expect(found.lastUpdated?.seconds).toBe(BigInt(Math.floor(time.getTime() / 1000)));
    const fraction = /\.(\d+)/.exec(timestamp)?.[1] ?? "";
    expect(found.lastUpdated?.nanos).toBe(Number(fraction.padEnd(9, "0")));
  });

  test("keeps an Any of any type, and an empty one", async ({ client }) => {
    const store = await newStore(client);
    const odd = create(AnySchema, { typeUrl: "example.com/ünïcode", value: Uint8Array.from([0, 255]) });
    const empty = create(AnySchema, {});
    await client.set({ store, key: "odd", value: odd });
    await client.set({ store, key: "empty", value: empty });
    for (const [key, value] of Object.entries({ odd, empty })) {
      const found = (await client.get({ store, key })).value!;
      expect(Buffer.from(toBinary(AnySchema, found))).toEqual(Buffer.from(toBinary(AnySchema, value)));
    }
  });

  test("of a key that was never set is no error", async ({ client }) => {
    const store = await newStore(client);
    const found = await client.get({ store, key: "never" });
    expect(found).toMatchObject(MISSING);
    expect({ value: found.value, time: found.lastUpdated }).toEqual({ value: undefined, time: undefined });
  });

  test("of a deleted key is no error", async ({ client }) => {
    const store = await newStore(client);
    await client.set({ store, key: "a", value: textValue("1") });
    await client.delete({ store, key: "a" });
    const found = await client.get({ store, key: "a" });
    expect(found).toMatchObject(MISSING);
    expect({ value: found.value, time: found.lastUpdated }).toEqual({ value: undefined, time: undefined });
  });

  test.for([
    ["deleted", DELETED],
    ["purged", PURGED],
    ["expired", EXPIRED],
  ] as const)("of a key that others have %s is no error", async ([, lines], { client, natsClient }) => {
    const store = await newStore(client);
    await client.set({ store, key: "a", value: textValue("1") });
    await put(natsClient, store, "a", "", lines);
    expect(await client.get({ store, key: "a" })).toMatchObject(MISSING);
  });

  test.for([
    ["with direct gets", true],
    ["without", false],
  ] as const)("is never old, on a bucket %s", async ([, allow_direct], { client, jsm }) => {
    const store = await newBucket(jsm, { allow_direct });
    for (let i = 0; i < 50; i++) {
      const { revision } = await client.set({ store, key: "a", value: textValue(String(i)) });
      const found = await client.get({ store, key: "a" });
      expect({ revision: found.revision, text: textOf(found.value) }).toEqual({ revision, text: String(i) });
    }
  });

  test.for([
    ["a text", "hello"],
    ["half an Any", Uint8Array.from([10, 200])],
    ["an Any whose type is not UTF-8", Uint8Array.from([10, 1, 255])],
  ] as const)("of %s that somebody else stored is an error", async ([, payload], { client, natsClient }) => {
    const store = await newStore(client);
    await put(natsClient, store, "a", payload);
    const error = await failure(client.get({ store, key: "a" }));
    expect(error).toMatchObject({ status: "DATA_LOSS", reason: "VALUE_UNREADABLE", metadata: { store, key: "a" } });
    expect(error.message).toContain(`key "a" in store "${store}"`);
  });

  test("does not ask a mirror that answers for its origin but has what the origin has not", async ({
    client,
    jsm,
    natsClient,
  }) => {
    const store = await newBucket(jsm, { max_msgs_per_subject: 5 });
    const first = await put(natsClient, store, "a", marshalled("current"));
    const mirror = uniqueName("mirror");
    await jsm.streams.add({ name: mirror, mirror: { name: `KV_${store}` }, mirror_direct: true, allow_direct: true });
    const gone = await put(natsClient, store, "a", marshalled("gone"));
    await put(natsClient, store, "b", marshalled("gone"));
    await expect.poll(async () => (await jsm.streams.info(mirror)).state.messages).toBe(3);
    // Deletions of messages are not mirrored.
    await jsm.streams.deleteMessage(`KV_${store}`, gone);
    await jsm.streams.purge(`KV_${store}`, { filter: `$KV.${store}.b` });
    const answers = await Promise.all(
      Array.from({ length: 40 }, async () => {
        const [a, b] = await Promise.all([client.get({ store, key: "a" }), client.get({ store, key: "b" })]);
        return `${textOf(a.value)} ${a.revision} ${b.revision}`;
      }),
    );
    expect(new Set(answers)).toEqual(new Set([`current ${first} 0`]));
  });
});

describe("Set", () => {
  test("returns revisions that rise over the whole store", async ({ client }) => {
    const store = await newStore(client);
    const revisions: bigint[] = [];
    for (const key of ["a", "b", "a"]) {
      revisions.push((await client.set({ store, key, value: textValue("x") })).revision);
    }
    expect(revisions).toEqual([1n, 2n, 3n]);
    expect((await client.get({ store, key: "a" })).revision).toBe(3n);
    expect((await client.get({ store, key: "b" })).revision).toBe(2n);
  });

  test("stores what the original stores: the marshalled Any, without headers", async ({ client, jsm }) => {
    const store = await newStore(client);
    await client.set({ store, key: "a.b.c", value: textValue("hello") });
    const message = (await jsm.streams.getMessage(`KV_${store}`, { last_by_subj: `$KV.${store}.a.b.c` }))!;
    expect(Buffer.from(message.data)).toEqual(Buffer.from(marshalled("hello")));
    expect([...message.header.keys()]).toEqual([]);
  });

  describe("with create_only", () => {
    const createOnly = true;

    test("writes a key that was never set, and no key that exists", async ({ client }) => {
      const store = await newStore(client);
      await client.set({ store, key: "a", value: textValue("1"), createOnly });
      const error = await failure(client.set({ store, key: "a", value: textValue("2"), createOnly }));
      expect(error).toMatchObject({
        status: "ALREADY_EXISTS",
        reason: "KEY_EXISTS",
        metadata: { store, key: "a", outcome: "not_stored" },
      });
      expect(error.message).toContain(`key "a" in store "${store}"`);
      expect(textOf((await client.get({ store, key: "a" })).value)).toBe("1");
    });

    test.for([
      ["deleted", DELETED],
      ["purged", PURGED],
      ["expired", EXPIRED],
    ] as const)("writes a key that was %s", async ([, lines], { client, natsClient }) => {
      const store = await newStore(client);
      await client.set({ store, key: "a", value: textValue("1") });
      await put(natsClient, store, "a", "", lines);
      const { revision } = await client.set({ store, key: "a", value: textValue("2"), createOnly });
      const found = await client.get({ store, key: "a" });
      expect({ revision: found.revision, text: textOf(found.value) }).toEqual({ revision, text: "2" });
    });

    test.for([
      ["a new key", false],
      ["a deleted key", true],
    ] as const)("lets exactly one of many win %s", async ([, deleted], { client, windshift }) => {
      const store = await newStore(client);
      const other = windshift.connect();
      if (deleted) {
        await client.set({ store, key: "a", value: textValue("old") });
        await client.delete({ store, key: "a" });
      }
      const results = await Promise.allSettled(
        Array.from({ length: 40 }, async (_, i) =>
          (i % 2 === 0 ? client : other).set({ store, key: "a", value: textValue(String(i)), createOnly }),
        ),
      );
      const winners = results.flatMap((result, i) => (result.status === "fulfilled" ? [String(i)] : []));
      const reasons = results.flatMap((result) => (result.status === "rejected" ? [result.reason.reason] : []));
      expect(winners).toHaveLength(1);
      expect(new Set(reasons)).toEqual(new Set(["KEY_EXISTS"]));
      expect(textOf((await client.get({ store, key: "a" })).value)).toBe(winners[0]);
    });

    test("false is no condition", async ({ client }) => {
      const store = await newStore(client);
      await client.set({ store, key: "a", value: textValue("1") });
      await client.set({ store, key: "a", value: textValue("2"), createOnly: false });
      expect(textOf((await client.get({ store, key: "a" })).value)).toBe("2");
    });
  });

  describe("with last_revision", () => {
    test("writes over that revision alone", async ({ client }) => {
      const store = await newStore(client);
      const { revision } = await client.set({ store, key: "a", value: textValue("1") });
      await client.set({ store, key: "b", value: textValue("other") });
      const { revision: next } = await client.set({ store, key: "a", value: textValue("2"), lastRevision: revision });
      const error = await failure(client.set({ store, key: "a", value: textValue("3"), lastRevision: revision }));
      expect(error).toMatchObject({
        status: "FAILED_PRECONDITION",
        reason: "REVISION_MISMATCH",
        metadata: { store, key: "a", outcome: "not_stored" },
      });
      expect(error.message).toContain(`${revision} is not the revision of key "a"`);
      const found = await client.get({ store, key: "a" });
      expect({ revision: found.revision, text: textOf(found.value) }).toEqual({ revision: next, text: "2" });
    });

    test("0 writes a key that was never set, or was deleted", async ({ client, natsClient }) => {
      const store = await newStore(client);
      for (const lines of [undefined, DELETED, PURGED]) {
        if (lines !== undefined) await put(natsClient, store, "a", "", lines);
        const { revision } = await client.set({ store, key: "a", value: textValue("x"), lastRevision: 0n });
        expect((await client.get({ store, key: "a" })).revision).toBe(revision);
      }
    });

    test("0 writes no key that exists", async ({ client }) => {
      const store = await newStore(client);
      await client.set({ store, key: "a", value: textValue("1") });
      expect(await failure(client.set({ store, key: "a", value: textValue("2"), lastRevision: 0n }))).toMatchObject({
        status: "FAILED_PRECONDITION",
        reason: "REVISION_MISMATCH",
      });
    });

    test.for([1n, 2n ** 53n + 1n, 2n ** 64n - 1n].map(String))(
      "%s of a key that does not exist is refused",
      async (revision, { client }) => {
        const store = await newStore(client);
        const call = client.set({ store, key: "a", value: textValue("1"), lastRevision: BigInt(revision) });
        const error = await failure(call);
        expect(error).toMatchObject({ status: "FAILED_PRECONDITION", reason: "REVISION_MISMATCH" });
        expect(error.message).toContain(revision);
      },
    );

    test("many counters that add one at once lose nothing", async ({ client, windshift }) => {
      const store = await newStore(client);
      const clients = [client, windshift.connect(), windshift.connect(), windshift.connect()];
      const perClient = 15;
      const add = async (own: Client): Promise<void> => {
        for (;;) {
          const { revision, value } = await own.get({ store, key: "counter" });
          const next = textValue(String(Number(textOf(value) ?? "0") + 1));
          try {
            await own.set({ store, key: "counter", value: next, lastRevision: revision });
            return;
          } catch (error) {
            expect(error).toMatchObject({ reason: "REVISION_MISMATCH" });
          }
        }
      };
      await Promise.all(
        clients.map(async (own) => {
          for (let i = 0; i < perClient; i++) await add(own);
        }),
      );
      expect(textOf((await client.get({ store, key: "counter" })).value)).toBe(String(clients.length * perClient));
    });
  });

  test("create_only excludes last_revision", async ({ client }) => {
    const store = await newStore(client);
    const call = client.set({ store, key: "a", value: textValue("1"), createOnly: true, lastRevision: 0n });
    expect(await failure(call)).toMatchObject({
      status: "INVALID_ARGUMENT",
      reason: "CONFLICTING_FIELDS",
      fields: ["create_only"],
    });
  });
});

describe("Delete", () => {
  test("leaves no value, and a marker that other tools understand", async ({ client, jsm }) => {
    const store = await newStore(client);
    await client.set({ store, key: "a", value: textValue("1") });
    await client.delete({ store, key: "a" });
    const message = (await jsm.streams.getMessage(`KV_${store}`, { last_by_subj: `$KV.${store}.a` }))!;
    expect(message.header.get("KV-Operation")).toBe("DEL");
    expect(message.data).toHaveLength(0);
  });

  test("of a key that does not exist succeeds, again and again", async ({ client }) => {
    const store = await newStore(client);
    await client.delete({ store, key: "a" });
    await client.delete({ store, key: "a" });
    expect(await client.get({ store, key: "a" })).toMatchObject(MISSING);
  });

  test("with last_revision deletes that revision alone", async ({ client }) => {
    const store = await newStore(client);
    const { revision } = await client.set({ store, key: "a", value: textValue("1") });
    const error = await failure(client.delete({ store, key: "a", lastRevision: revision + 1n }));
    expect(error).toMatchObject({
      status: "FAILED_PRECONDITION",
      reason: "REVISION_MISMATCH",
      metadata: { store, key: "a", outcome: "not_stored" },
    });
    expect((await client.get({ store, key: "a" })).revision).toBe(revision);
    await client.delete({ store, key: "a", lastRevision: revision });
    expect(await client.get({ store, key: "a" })).toMatchObject(MISSING);
  });

  test("with last_revision 0 deletes nothing that is there", async ({ client }) => {
    const store = await newStore(client);
    await client.delete({ store, key: "a", lastRevision: 0n });
    const { revision } = await client.set({ store, key: "a", value: textValue("1") });
    expect(await failure(client.delete({ store, key: "a", lastRevision: 0n }))).toMatchObject({
      status: "FAILED_PRECONDITION",
      reason: "REVISION_MISMATCH",
    });
    expect((await client.get({ store, key: "a" })).revision).toBe(revision);
    await client.delete({ store, key: "a" });
    await client.delete({ store, key: "a", lastRevision: 0n });
    expect(await client.get({ store, key: "a" })).toMatchObject(MISSING);
  });
});

describe("keys", () => {
  test.for(["a", "a.b", "customers.42.name", "A-b_C.9", "a".repeat(1024)])(
    "%s is a key of its own",
    async (key, { client }) => {
      const store = await newStore(client);
      await client.set({ store, key, value: textValue("1") });
      await client.set({ store, key: "other.key", value: textValue("2") });
      expect(textOf((await client.get({ store, key })).value)).toBe("1");
      await client.delete({ store, key });
      expect(await client.get({ store, key })).toMatchObject(MISSING);
      expect(textOf((await client.get({ store, key: "other.key" })).value)).toBe("2");
    },
  );

  test("a key does not hide those below it", async ({ client }) => {
    const store = await newStore(client);
    await client.set({ store, key: "a", value: textValue("1") });
    await client.set({ store, key: "a.b", value: textValue("2") });
    await client.delete({ store, key: "a" });
    expect(textOf((await client.get({ store, key: "a.b" })).value)).toBe("2");
  });
});

describe("a bucket that NATS tools made", () => {
  test.for([
    ["with a history", { max_msgs_per_subject: 5 }],
    ["in memory", { storage: StorageType.Memory }],
    ["without direct gets", { allow_direct: false }],
    ["with an age limit", { max_age: 3_600_000_000_000 }],
  ] as const)("%s does all that a store of our own does", async ([, config], { client, jsm, natsClient }) => {
    const store = await newBucket(jsm, config);
    const first = await put(natsClient, store, "a", marshalled("theirs"));
    const found = await client.get({ store, key: "a" });
    expect({ revision: found.revision, text: textOf(found.value) }).toEqual({
      revision: BigInt(first),
      text: "theirs",
    });

    const { revision } = await client.set({ store, key: "a", value: textValue("ours"), lastRevision: BigInt(first) });
    const stored = (await jsm.streams.getMessage(`KV_${store}`, { last_by_subj: `$KV.${store}.a` }))!;
    expect({ seq: BigInt(stored.seq), data: Buffer.from(stored.data) }).toEqual({
      seq: revision,
      data: Buffer.from(marshalled("ours")),
    });
    expect(await failure(client.set({ store, key: "a", value: textValue("x"), createOnly: true }))).toMatchObject({
      reason: "KEY_EXISTS",
    });

    await client.delete({ store, key: "a", lastRevision: revision });
    await client.set({ store, key: "a", value: textValue("again"), createOnly: true });
    await client.delete({ store, key: "a" });
    await client.set({ store, key: "a", value: textValue("once more"), lastRevision: 0n });
    expect(textOf((await client.get({ store, key: "a" })).value)).toBe("once more");
  });

  test("with a largest value accepts it, and nothing larger", async ({ client, jsm }) => {
    const store = await newBucket(jsm, { max_msg_size: 100 });
    const value = (size: number) => create(AnySchema, { value: new Uint8Array(size - 2) });
    await client.set({ store, key: "a", value: value(100) });
    const error = await failure(client.set({ store, key: "a", value: value(101) }));
    expect(error).toMatchObject({
      status: "RESOURCE_EXHAUSTED",
      reason: "VALUE_TOO_LARGE",
      metadata: { store, key: "a", outcome: "not_stored" },
    });
    expect(error.message).toContain(`key "a"`);
    expect((await client.get({ store, key: "a" })).value?.value).toHaveLength(98);
  });

  test("that is full says so, and names itself", async ({ client, jsm }) => {
    const store = await newBucket(jsm, { max_bytes: 1000, discard: "new" as StreamConfig["discard"] });
    const value = create(AnySchema, { value: new Uint8Array(500) });
    await client.set({ store, key: "a", value });
    const error = await failure(client.set({ store, key: "b", value }));
    expect(error).toMatchObject({
      status: "RESOURCE_EXHAUSTED",
      reason: "STREAM_FULL",
      metadata: { store, key: "b", outcome: "not_stored" },
    });
    expect(error.message).toContain(`store "${store}"`);
  });
});

describe("the size of a value", () => {
  /** An Any of `size` bytes when marshalled. */
  const sized = (size: number) => {
    const value = new Uint8Array(
      size - toBinary(AnySchema, create(AnySchema, { value: new Uint8Array(size) })).length + size,
    );
    return create(AnySchema, { value });
  };

  test("may be all that NATS accepts", async ({ client }) => {
    const store = await newStore(client);
    await client.set({ store, key: "a", value: sized(MAX_PAYLOAD) });
    expect((await client.get({ store, key: "a" })).value?.value).toHaveLength(MAX_PAYLOAD - 4);
  });

  test.for([
    ["one byte more", MAX_PAYLOAD + 1, {}],
    ["a condition that leaves no room", MAX_PAYLOAD, { createOnly: true }],
    ["far more", 3 * MAX_PAYLOAD, {}],
  ] as const)("is refused with %s, and the connection to NATS lives", async ([, size, condition], { client }) => {
    const store = await newStore(client);
    const error = await failure(client.set({ store, key: "a", value: sized(size), ...condition }));
    expect(error).toMatchObject({
      status: "RESOURCE_EXHAUSTED",
      reason: "VALUE_TOO_LARGE",
      metadata: { store, key: "a", outcome: "not_stored" },
    });
    expect(error.message).toContain(`${size} bytes`);
    expect(await client.get({ store, key: "a" })).toMatchObject(MISSING);
  });
});

type Call = [name: string, call: (client: Client, store: string) => Promise<unknown>];
const CALLS: Call[] = [
  ["Get", (client, store) => client.get({ store, key: "a" })],
  ["Set", (client, store) => client.set({ store, key: "a", value: textValue("1") })],
  ["Set with create_only", (client, store) => client.set({ store, key: "a", value: textValue("1"), createOnly: true })],
  [
    "Set with last_revision",
    (client, store) => client.set({ store, key: "a", value: textValue("1"), lastRevision: 7n }),
  ],
  ["Delete", (client, store) => client.delete({ store, key: "a" })],
  ["Delete with last_revision", (client, store) => client.delete({ store, key: "a", lastRevision: 0n })],
];

describe("a store that does not exist", () => {
  test.for(CALLS)("is NOT_FOUND for %s", async ([, call], { client }) => {
    const store = uniqueName("none");
    const error = await failure(call(client, store));
    expect(error).toMatchObject({ status: "NOT_FOUND", reason: "STORE_NOT_FOUND", metadata: { store } });
    expect(error.message).toContain(`"${store}"`);
  });

  test.for(CALLS)("is NOT_FOUND for %s as soon as it is deleted underneath", async ([, call], { client, jsm }) => {
    const store = await newStore(client);
    await client.set({ store, key: "a", value: textValue("1") });
    await client.get({ store, key: "a" });
    await jsm.streams.delete(`KV_${store}`);
    expect(await failure(call(client, store))).toMatchObject({ status: "NOT_FOUND", reason: "STORE_NOT_FOUND" });
  });

  test("is NOT_FOUND as soon as one without direct gets is deleted underneath", async ({ client, jsm }) => {
    const store = await newBucket(jsm, { allow_direct: false });
    expect(await client.get({ store, key: "a" })).toMatchObject(MISSING);
    await jsm.streams.delete(`KV_${store}`);
    expect(await failure(client.get({ store, key: "a" }))).toMatchObject({ reason: "STORE_NOT_FOUND" });
  });

  test("exists as soon as NATS tools have made it", async ({ client, jsm }) => {
    const store = await newBucket(jsm);
    await jsm.streams.delete(`KV_${store}`);
    await failure(client.get({ store, key: "a" }));
    await jsm.streams.add({ name: `KV_${store}`, subjects: [`$KV.${store}.>`], allow_direct: false });
    expect(await client.get({ store, key: "a" })).toMatchObject(MISSING);
  });

  test("loses its settings with its name: made again without direct gets, it is read as it is now", async ({
    client,
    jsm,
  }) => {
    const store = await newStore(client);
    await client.set({ store, key: "a", value: textValue("1") });
    await client.get({ store, key: "a" });
    await jsm.streams.delete(`KV_${store}`);
    await jsm.streams.add({ name: `KV_${store}`, subjects: [`$KV.${store}.>`], allow_direct: false });
    await client.set({ store, key: "a", value: textValue("2") });
    expect(textOf((await client.get({ store, key: "a" })).value)).toBe("2");
  });
});

describe("without NATS", () => {
  /** Stops NATS from answering, with its connections open. */
  async function pause({ pid }: NatsServer, client: Client): Promise<void> {
    process.kill(pid, "SIGSTOP");
    const probe = async () => failure(client.get({ store: "none", key: "a" }, { deadlineMs: 100 }));
    await expect.poll(async () => (await probe()).status).toBe("DEADLINE_EXCEEDED");
  }

  const WRITES = [...CALLS.slice(1), ["EnsureStore", (client, store) => client.ensureStore({ store })] as Call];

  test("every call is UNAVAILABLE, and writes say that nothing was stored", async () => {
    await using nats = await startNats();
    await using windshift = await startWindshift(nats.url);
    const { client } = windshift;
    await client.ensureStore({ store: "s" });
    await nats.stop();
    await expect
      .poll(async () => (await failure(client.get({ store: "s", key: "a" }))).message)
      .toMatch("not connected");
    for (const [name, call] of WRITES) {
      const error = await failure(call(client, "s"));
      expect({ name, status: error.status, reason: error.reason }).toEqual({
        name,
        status: "UNAVAILABLE",
        reason: "NATS_UNAVAILABLE",
      });
      expect({ name, outcome: error.metadata["outcome"] }).toEqual({ name, outcome: "not_stored" });
      expect(error.retryAfterMs).toBeGreaterThan(0);
    }
    const read = await failure(client.get({ store: "s", key: "a" }));
    expect(read).toMatchObject({ status: "UNAVAILABLE", reason: "NATS_UNAVAILABLE" });
    expect(read.retryAfterMs).toBeGreaterThan(0);

    await nats.restart();
    await expect.poll(async () => client.get({ store: "s", key: "a" }).catch(() => undefined)).toMatchObject(MISSING);
  });

  test("a write whose answer does not come may have been stored, and no repeat is advised", async () => {
    await using nats = await startNats();
    await using windshift = await startWindshift(nats.url, { NATS_REQUEST_TIMEOUT: "200ms" });
    const { client } = windshift;
    await client.ensureStore({ store: "s" });
    await pause(nats, client);
    for (const [name, call] of CALLS.slice(1)) {
      const error = await failure(call(client, "s"));
      expect({ name, status: error.status, outcome: error.metadata["outcome"], retry: error.retryAfterMs }).toEqual({
        name,
        status: "UNAVAILABLE",
        outcome: "unknown",
        retry: undefined,
      });
    }
    const read = await failure(client.get({ store: "s", key: "a" }));
    expect({ status: read.status, outcome: read.metadata["outcome"] }).toEqual({
      status: "UNAVAILABLE",
      outcome: undefined,
    });
    expect(read.retryAfterMs).toBeGreaterThan(0);
  });

  test("EnsureStore, which asks before it writes, says that nothing was stored", async () => {
    await using nats = await startNats();
    await using windshift = await startWindshift(nats.url, { NATS_REQUEST_TIMEOUT: "200ms" });
    const { client } = windshift;
    await pause(nats, client);
    const error = await failure(client.ensureStore({ store: "s" }));
    expect(error).toMatchObject({ status: "UNAVAILABLE", metadata: { outcome: "not_stored" }, retryAfterMs: 500 });
  });

  test("a Get that waits for what is known of its store ends at its deadline", async () => {
    await using nats = await startNats();
    await using windshift = await startWindshift(nats.url, { GRPC_REQUEST_TIMEOUT: "300ms" });
    const { client } = windshift;
    await pause(nats, client);
    const start = performance.now();
    const error = await failure(client.get({ store: "s", key: "a" }));
    expect(error).toMatchObject({ status: "DEADLINE_EXCEEDED", retryAfterMs: 500 });
    expect(error.metadata).toEqual({ store: "s" });
    expect(performance.now() - start).toBeLessThan(1_000);
  });

  test("the deadline of one Get is not that of another that waits for the same store", async () => {
    await using nats = await startNats();
    await using windshift = await startWindshift(nats.url);
    const { client } = windshift;
    await client.ensureStore({ store: "s" });
    await pause(nats, client);
    const impatient = failure(client.get({ store: "s", key: "a" }, { deadlineMs: 100 }));
    const patient = client.get({ store: "s", key: "a" });
    expect(await impatient).toMatchObject({ status: "DEADLINE_EXCEEDED" });
    // By then the server has given up the first one as well.
    await failure(client.get({ store: "other", key: "a" }, { deadlineMs: 300 }));
    process.kill(nats.pid, "SIGCONT");
    expect(await patient).toMatchObject(MISSING);
  });
});

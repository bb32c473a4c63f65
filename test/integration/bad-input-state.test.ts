/** Every field of every message of `StateService`, wrong: the code, the reason, the field's path, and the value. */
import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect } from "vitest";
import {
  DeleteRequestSchema,
  GetRequestSchema,
  SetRequestSchema,
} from "../../src/gen/windshift/state/v1alpha1/state_pb.ts";
import { CallError, type Client, STATE, failure, textOf, textValue } from "../support/client.ts";
import { test, uniqueName } from "../support/fixtures.ts";

const WRONG_STORES = [
  "a b",
  "a.b",
  "a/b",
  "a=b",
  "*",
  ">",
  "$KV",
  "é",
  "名",
  "a\n",
  "a\0",
  " ",
  "a".repeat(253),
  "KV bucket",
  "x".repeat(5000),
];
const WRONG_KEYS = [
  "a b",
  "a..b",
  ".a",
  "a.",
  ".",
  "a.*",
  "*",
  ">",
  "a.>",
  "a/b",
  "a=b",
  "é",
  "a\r\nb",
  "a\0",
  "a".repeat(1025),
  "$KV.x.y",
  "x ".repeat(5000),
];

const METHODS: [name: string, call: (client: Client, store: string, key: string) => Promise<unknown>][] = [
  ["Get", (client, store, key) => client.get({ store, key })],
  ["Set", (client, store, key) => client.set({ store, key, value: textValue("1") })],
  ["Delete", (client, store, key) => client.delete({ store, key })],
];

/** What a message shows of a value. */
function shown(value: string): string {
  return JSON.stringify(value.length > 100 ? `${value.slice(0, 100)}…` : value);
}

describe.for([...METHODS, ["EnsureStore", (client: Client, store: string) => client.ensureStore({ store })] as const])(
  "store of %s",
  ([, call]) => {
    test.for(WRONG_STORES.map((store) => [shown(store), store] as const))("%s", async ([text, store], { client }) => {
      const error = await failure(call(client, store, "a"));
      expect(error).toMatchObject({ status: "INVALID_ARGUMENT", reason: "INVALID_NAME", fields: ["store"] });
      expect(error.domain).toBe("windshift");
      expect(error.message).toContain(`store: ${text}`);
    });

    test("missing", async ({ client }) => {
      const error = await failure(call(client, "", "a"));
      expect(error).toMatchObject({ status: "INVALID_ARGUMENT", reason: "MISSING_FIELD", fields: ["store"] });
      expect(error.message).toBe("store: is required");
    });
  },
);

describe.for(METHODS)("key of %s", ([, call]) => {
  test.for(WRONG_KEYS.map((key) => [shown(key), key] as const))("%s", async ([text, key], { client }) => {
    const error = await failure(call(client, "s", key));
    expect(error).toMatchObject({ status: "INVALID_ARGUMENT", reason: "INVALID_KEY", fields: ["key"] });
    expect(error.message).toContain(`key: ${text}`);
  });

  test("missing", async ({ client }) => {
    const error = await failure(call(client, "s", ""));
    expect(error).toMatchObject({ status: "INVALID_ARGUMENT", reason: "MISSING_FIELD", fields: ["key"] });
    expect(error.message).toBe("key: is required");
  });
});

describe("names of the greatest length", () => {
  test("are accepted", async ({ client }) => {
    const store = "s".repeat(252);
    const key = "k".repeat(1024);
    await client.ensureStore({ store });
    const { revision } = await client.set({ store, key, value: textValue("1") });
    expect(await client.get({ store, key })).toMatchObject({ revision });
    await client.delete({ store, key, lastRevision: revision });
  });
});

describe("fields of SetRequest beside its names", () => {
  test("value missing", async ({ client }) => {
    const error = await failure(client.set({ store: "s", key: "a" }));
    expect(error).toMatchObject({ status: "INVALID_ARGUMENT", reason: "MISSING_FIELD", fields: ["value"] });
    expect(error.message).toBe("value: is required");
  });

  test.for(["0", "1", "18446744073709551615"])("create_only with last_revision %s", async (revision, { client }) => {
    const conditions = { createOnly: true, lastRevision: BigInt(revision) };
    const error = await failure(client.set({ store: "s", key: "a", value: textValue("1"), ...conditions }));
    expect(error).toMatchObject({
      status: "INVALID_ARGUMENT",
      reason: "CONFLICTING_FIELDS",
      fields: ["create_only"],
      message: "create_only: cannot be combined with last_revision",
    });
  });
});

describe("a last_revision that no key ever has", () => {
  test.for(["9007199254740991", "9007199254740993", "9223372036854775808", "18446744073709551615"])(
    "%s is a mismatch like any other",
    async (revision, { client }) => {
      const store = uniqueName("store");
      await client.ensureStore({ store });
      await client.set({ store, key: "a", value: textValue("1") });
      const lastRevision = BigInt(revision);
      for (const call of [
        async () => client.set({ store, key: "a", value: textValue("2"), lastRevision }),
        async () => client.delete({ store, key: "a", lastRevision }),
      ]) {
        const error = await failure(call());
        expect(error).toMatchObject({ status: "FAILED_PRECONDITION", reason: "REVISION_MISMATCH", fields: [] });
        expect(error.message).toContain(revision);
      }
    },
  );
});

const GARBAGE: [what: string, bytes: number[]][] = [
  ["a length beyond the end", [10, 100, 97]],
  ["a field with number 0", [0, 1]],
  ["a number without an end", [40, 255, 255]],
  ["text that is not UTF-8", [10, 2, 0xc3, 0x28]],
  ["a wire type that does not exist", [15]],
  ["a group without an end", [11]],
  ["an end of a group that did not begin", [12]],
];

describe.for(["EnsureStore", "Get", "Set", "Delete"])("garbage in place of a request of %s", (method) => {
  test.for(GARBAGE)("%s", async ([, bytes], { client }) => {
    const error = await failure(client.raw(STATE + method, Uint8Array.from(bytes)));
    expect(error).toMatchObject({ status: "INVALID_ARGUMENT", reason: "MALFORMED_MESSAGE" });
    expect(error.message).toContain(`windshift.state.v1alpha1.StateService/${method}`);
  });

  test("any bytes are answered, never with INTERNAL or UNKNOWN", async ({ client }) => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 60 }), async (bytes) => {
        const answer: unknown = await client.raw(STATE + method, bytes).catch((error: unknown) => error);
        if (!(answer instanceof CallError)) return;
        expect(["INVALID_ARGUMENT", "NOT_FOUND"]).toContain(answer.status);
        expect(answer.domain).toBe("windshift");
      }),
    );
  });
});

test("fields that the server does not know are passed over", async ({ client }) => {
  const store = uniqueName("store");
  await client.ensureStore({ store });
  const unknown = Uint8Array.from([0xfa, 0x07, 3, 1, 2, 3]);
  const request = toBinary(SetRequestSchema, create(SetRequestSchema, { store, key: "a", value: textValue("1") }));
  await client.raw(`${STATE}Set`, Buffer.concat([unknown, request, unknown]));
  const get = toBinary(GetRequestSchema, create(GetRequestSchema, { store, key: "a" }));
  expect((await client.raw(`${STATE}Get`, Buffer.concat([get, unknown]))).length).toBeGreaterThan(0);
  const remove = toBinary(DeleteRequestSchema, create(DeleteRequestSchema, { store, key: "a" }));
  await client.raw(`${STATE}Delete`, Buffer.concat([unknown, remove]));
  expect(await client.get({ store, key: "a" })).toMatchObject({ revision: 0n });
});

test("none of it harms another call", async ({ client, windshift }) => {
  const store = uniqueName("store");
  await client.ensureStore({ store });
  const bad = windshift.connect();
  const calls = Array.from({ length: 50 }, async (_, i) => {
    await failure(bad.raw(`${STATE}Set`, Uint8Array.from([10, 100, 97])));
    await failure(bad.set({ store, key: "a..b", value: textValue("1") }));
    await client.set({ store, key: `k${i}`, value: textValue("1") });
  });
  await Promise.all(calls);
  expect(textOf((await client.get({ store, key: "k49" })).value)).toBe("1");
});

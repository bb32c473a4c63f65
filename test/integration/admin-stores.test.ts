/** `AdminService`: stores. */
import { StorageType as NatsStorage } from "@nats-io/jetstream";
import { describe, expect } from "vitest";
import { EnsureStreamRequest_StorageType as StorageType } from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { AdminClient, allPages } from "../support/admin-client.ts";
import { failure, textValue } from "../support/client.ts";
import { test as base, uniqueName } from "../support/fixtures.ts";

const test = base.extend<{ $test: { admin: AdminClient } }>({
  admin: async ({ client }, use) => {
    await use(new AdminClient(client));
  },
});

async function listStores(admin: AdminClient, pageSize = 1000) {
  return allPages(async (pageToken) => {
    const { stores: entries, nextPageToken } = await admin.listStores({ pageSize, pageToken });
    return { entries, nextPageToken };
  });
}

describe("ListStores", () => {
  test("lists stores alone, by their own names, once and in order", async ({ client, admin, jsm }) => {
    for (const store of ["s-b", "s-a", "s-c"]) await client.ensureStore({ store });
    for (const name of ["KV_fake", "KV_", "KU", "KW"]) {
      await jsm.streams.add({ name, subjects: [`fake.${name}.>`] });
    }
    const all = (await listStores(admin)).map(({ name }) => name);
    expect(all.filter((name) => name.startsWith("s-"))).toEqual(["s-a", "s-b", "s-c"]);
    expect(all).not.toContain("fake");
    expect(all).not.toContain("");
    for (const size of [1, 2]) expect((await listStores(admin, size)).map(({ name }) => name)).toEqual(all);
  });

  test("tells what a store keeps", async ({ client, admin }) => {
    const store = uniqueName("store");
    await client.ensureStore({ store });
    const find = async () => (await listStores(admin)).find(({ name }) => name === store);
    expect(await find()).toMatchObject({ entries: 0n, keys: 0n, bytes: 0n, lastRevision: 0n });
    for (const key of ["a", "b", "a"]) await client.set({ store, key, value: textValue("1") });
    const found = (await find())!;
    expect(found).toMatchObject({ entries: 2n, keys: 2n, lastRevision: 3n, history: 1, allowTimeToLive: false });
    expect(found.bytes).toBeGreaterThan(0n);
    expect(found.storage).toMatchObject({ type: StorageType.FILE, replicas: 1 });
    expect([found.maxAge, found.maxBytes, found.maxValueSize, found.error]).toEqual(Array(4).fill(undefined));
    expect(found.created).toBeDefined();
  });

  test("tells of a store that another tool has made", async ({ admin, jsm }) => {
    const store = uniqueName("store");
    await jsm.streams.add({
      name: `KV_${store}`,
      subjects: [`$KV.${store}.>`],
      max_msgs_per_subject: 8,
      max_age: 60_000_000_000,
      max_bytes: 100_000,
      max_msg_size: 1000,
      storage: NatsStorage.Memory,
      allow_msg_ttl: true,
      allow_rollup_hdrs: true,
    });
    const found = (await listStores(admin)).find(({ name }) => name === store);
    expect(found).toMatchObject({
      history: 8,
      maxAge: { seconds: 60n, nanos: 0 },
      maxBytes: 100_000n,
      maxValueSize: 1000,
      allowTimeToLive: true,
      storage: { type: StorageType.MEMORY, replicas: 1 },
    });
  });

  test("a page token of another list is refused", async ({ client, admin }) => {
    for (const name of ["t1", "t2"]) {
      await client.ensureStream({ name, source: { case: "subjects", value: { subjects: [`${name}.>`] } } });
    }
    const { nextPageToken } = await admin.listStreams({ pageSize: 1 });
    expect(await failure(admin.listStores({ pageToken: nextPageToken }))).toMatchObject({
      status: "INVALID_ARGUMENT",
      fields: ["page_token"],
    });
  });
});

describe("DeleteStore", () => {
  test("removes the store, says what it was, and writes it down", async ({ client, admin, windshift }) => {
    const store = uniqueName("store");
    await client.ensureStore({ store });
    await client.set({ store, key: "k", value: textValue("v") });
    const { store: deleted } = await admin.deleteStore({ store });
    expect(deleted).toMatchObject({ name: store, entries: 1n, keys: 1n, lastRevision: 1n });
    expect(await failure(client.set({ store, key: "k", value: textValue("v") }))).toMatchObject({
      reason: "STORE_NOT_FOUND",
    });
    expect(windshift.log).toContainEqual(
      expect.objectContaining({ level: "info", msg: "a store was deleted", store, entries: 1, lastRevision: 1 }),
    );
  });

  test("refuses a missing one, a bad name, and a stream that keeps no store", async ({ admin, jsm }) => {
    await jsm.streams.add({ name: "KV_plain", subjects: ["plain.>"] });
    for (const store of ["nowhere", "plain"]) {
      expect(await failure(admin.deleteStore({ store }))).toMatchObject({
        status: "NOT_FOUND",
        reason: "STORE_NOT_FOUND",
        metadata: { store },
      });
    }
    expect((await jsm.streams.info("KV_plain")).config.name).toBe("KV_plain");
    for (const store of ["", "a b", "a".repeat(253)]) {
      expect(await failure(admin.deleteStore({ store }))).toMatchObject({
        status: "INVALID_ARGUMENT",
        fields: ["store"],
      });
    }
  });
});

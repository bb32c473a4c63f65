/** Times to live of single events: what is stored, when it is gone, and what a stream has to allow. */
import { describe, expect } from "vitest";
import { failure } from "../support/client.ts";
import { test } from "../support/fixtures.ts";
import { count, ensureStream, header } from "../support/publishing.ts";

describe("time_to_live", () => {
  test("removes the event after that time, and no other one", async ({ client, jsm }) => {
    const stream = await ensureStream(client, { allowTimeToLive: true });
    await client.publish(`${stream}.a`, "short", { timeToLive: { seconds: 1n } });
    const kept = await client.publish(`${stream}.a`, "long", { timeToLive: { seconds: 3600n } });
    await client.publish(`${stream}.a`);
    await expect.poll(async () => count(jsm, stream), { timeout: 20_000, interval: 100 }).toBe(2);
    expect((await jsm.streams.info(stream)).state.first_seq).toBe(Number(kept));
  });

  test.for<[given: string, timeToLive: { seconds: bigint; nanos?: number }, stored: string]>([
    ["1 s", { seconds: 1n }, "1s"],
    ["a minute", { seconds: 60n }, "60s"],
    ["1.5 s", { seconds: 1n, nanos: 500_000_000 }, "2s"],
    ["a nanosecond more than 1 s", { seconds: 1n, nanos: 1 }, "2s"],
    ["292 years", { seconds: 9_223_372_036n, nanos: 800_000_000 }, "9223372036s"],
  ])("of %s is kept in whole seconds, rounded up", async ([, timeToLive, stored], { client, jsm }) => {
    const stream = await ensureStream(client, { allowTimeToLive: true });
    await client.publish(`${stream}.a`, "x", { timeToLive });
    expect(await header(jsm, stream, 1n, "Nats-TTL")).toBe(stored);
  });

  test.for<[given: string, timeToLive: { seconds: bigint; nanos?: number }, message: string]>([
    ["zero", { seconds: 0n }, "time_to_live: 0 ms is less than 1 s"],
    ["below 1 s", { seconds: 0n, nanos: 999_000_000 }, "time_to_live: 999 ms is less than 1 s"],
    ["negative", { seconds: -5n }, "time_to_live: -5 s and 0 ns is negative"],
    ["beyond 292 years", { seconds: 9_223_372_037n }, "time_to_live: 9223372037 s and 0 ns is longer than 292 years"],
    ["no duration", { seconds: 1n, nanos: -1 }, "time_to_live: 1 s and -1 ns is not a valid duration"],
  ])("that is %s is refused", async ([, timeToLive, message], { client, jsm }) => {
    const stream = await ensureStream(client, { allowTimeToLive: true });
    const error = await failure(client.publish(`${stream}.a`, "x", { timeToLive }));
    expect(error).toMatchObject({ status: "INVALID_ARGUMENT", reason: "INVALID_VALUE", fields: ["time_to_live"] });
    expect(error.message).toBe(message);
    expect(await count(jsm, stream)).toBe(0);
  });

  test("is refused by a stream that does not allow it", async ({ client, jsm }) => {
    const stream = await ensureStream(client);
    const error = await failure(client.publish(`${stream}.a`, "x", { timeToLive: { seconds: 5n } }));
    expect(error).toMatchObject({
      status: "FAILED_PRECONDITION",
      reason: "NOT_ENABLED",
      metadata: { subject: `${stream}.a`, outcome: "not_stored" },
    });
    expect(error.message).toMatch(/^time_to_live: the stream does not allow it; ensure it with allow_time_to_live/);
    expect(await count(jsm, stream)).toBe(0);
    await ensureStream(client, { name: stream, allowTimeToLive: true });
    expect(await client.publish(`${stream}.a`, "x", { timeToLive: { seconds: 5n } })).toBe(1n);
  });
});

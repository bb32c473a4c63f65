/** Attributes: what a publisher gives along with an event, and what its readers get of it. */
import { headers as natsHeaders } from "@nats-io/nats-core";
import { describe, expect } from "vitest";
import { type CallError, failure } from "../support/client.ts";
import { test } from "../support/fixtures.ts";
import { consume, count, ensureStream, header } from "../support/publishing.ts";

describe("attributes", () => {
  test("come back with the event", async ({ client }) => {
    const stream = await ensureStream(client);
    const attributes = { "ce-id": "1", "ce-source": "/orders", Tenant: "größe 🙂", empty: "" };
    await client.publish(`${stream}.a`, "x", { attributes });
    await client.publish(`${stream}.a`);
    const [first, second] = await consume(client, stream, 2);
    expect(first!.headers!.attributes).toEqual(attributes);
    expect(second!.headers!.attributes).toEqual({});
  });

  test("are stored as headers under their own names", async ({ client, jsm }) => {
    const stream = await ensureStream(client);
    await client.publish(`${stream}.a`, "x", { attributes: { "ce-type": "order.created" }, idempotencyKey: "k" });
    expect(await header(jsm, stream, 1n, "ce-type")).toBe("order.created");
    expect(await header(jsm, stream, 1n, "Nats-Msg-Id")).toBe("k");
  });

  test("lose the blanks at the ends of their values", async ({ client }) => {
    const stream = await ensureStream(client);
    await client.publish(`${stream}.a`, "x", { attributes: { a: "  b c  ", tabs: "\t b\tc\t" } });
    const [event] = await consume(client, stream, 1);
    expect(event!.headers!.attributes).toEqual({ a: "b c", tabs: "b\tc" });
  });

  const most = { name: "v".repeat(16 * 1024 - 4) };
  test.for<[what: string, attributes: Record<string, string>]>([
    ["of every visible character", { "!\"#$%&'()*+,-./09;<=>?@AZ[\\]^_`az{|}~": "x" }],
    ["with names of 256 characters", { ["n".repeat(256)]: "x" }],
    ["that only look reserved", { natsy: "1", "x-nats-y": "2", wsa: "3", nats: "4", ws: "5" }],
    ["called as names that JavaScript has", { constructor: "1", toString: "2" }],
    ["of 16 KiB in all", most],
  ])("%s are kept", async ([, attributes], { client }) => {
    const stream = await ensureStream(client);
    await client.publish(`${stream}.a`, "x", { attributes });
    const [event] = await consume(client, stream, 1);
    expect({ ...event!.headers!.attributes }).toEqual(attributes);
  });

  test.for<[what: string, attributes: Record<string, string>, message: string | RegExp]>([
    ["an empty name", { "": "x" }, /^attributes: "" is no name/],
    ["a name with a colon", { "a:b": "x" }, /^attributes: "a:b" is no name/],
    ["a name with a blank", { "a b": "x" }, /^attributes: "a b" is no name/],
    ["a name with a line break", { "a\r\nNats-Rollup": "all" }, /^attributes: "a\\r\\nNats-Rollup" is no name/],
    ["a name beyond ASCII", { größe: "x" }, /^attributes: "größe" is no name/],
    ["a name of 257 characters", { ["n".repeat(257)]: "x" }, /is no name: it must have 1 to 256/],
    [
      "a name of NATS",
      { "Nats-Rollup": "all" },
      'attributes: "Nats-Rollup" is reserved: it begins with "Nats-" or "WS-"',
    ],
    ["a name of NATS in another case", { "nATS-ttl": "1s" }, /"nATS-ttl" is reserved/],
    ["a name of this server", { "ws-data-type": "evil" }, /"ws-data-type" is reserved/],
    ["a value with a line break", { a: "x\r\nNats-Rollup: all" }, /^attributes: the value of "a" has a line break/],
    ...["\0", "\b", "\n", "\v", "\r", "\x1f", "\x7f"].map((character): [string, Record<string, string>, RegExp] => [
      `a value with the control character ${JSON.stringify(character)}`,
      { a: `x${character}y` },
      /^attributes: the value of "a" has a line break or another control character/,
    ]),
    [
      "names that differ by case",
      { Tenant: "1", tenant: "2" },
      'attributes: "Tenant" and "tenant" differ only by case',
    ],
    ["more than 16 KiB", { ...most, x: "" }, "attributes: have 16385 bytes in all, at most 16384 may be"],
    ["more than 16 KiB of other alphabets", { a: "ü".repeat(8192) }, /^attributes: have 16385 bytes/],
  ])("with %s are refused", async ([, attributes, message], { client, jsm }) => {
    const stream = await ensureStream(client);
    const error: CallError = await failure(client.publish(`${stream}.a`, "x", { attributes }));
    expect(error).toMatchObject({ status: "INVALID_ARGUMENT", reason: "INVALID_VALUE", fields: ["attributes"] });
    expect(error.message).toMatch(message);
    expect(await count(jsm, stream)).toBe(0);
  });

  test("are what plain NATS tools set as headers, the first value of each, without those of NATS and ours", async ({
    client,
    natsClient,
  }) => {
    const stream = await ensureStream(client);
    const set = natsHeaders();
    for (const [name, value] of [
      ["Tenant", "first"],
      ["Tenant", "second"],
      ["Nats-Msg-Id", "key"],
      ["WS-Unknown", "x"],
      ["B", "c"],
    ] as const) {
      set.append(name, value);
    }
    natsClient.publish(`${stream}.a`, "plain", { headers: set });
    await natsClient.flush();
    const [event] = await consume(client, stream, 1);
    expect(event!.headers).toMatchObject({ idempotencyKey: "key", attributes: { Tenant: "first", B: "c" } });
  });
});

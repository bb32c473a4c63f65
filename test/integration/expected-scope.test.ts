/** expected_last_id of a whole stream. */
import { describe, expect } from "vitest";
import { ExpectedLastIdScope } from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { type Client, failure } from "../support/client.ts";
import { test } from "../support/fixtures.ts";
import { count, ensureStream } from "../support/publishing.ts";

const { STREAM, SUBJECT, UNSPECIFIED } = ExpectedLastIdScope;

async function publish(
  client: Client,
  subject: string,
  expectedLastId: bigint,
  expectedLastIdScope: ExpectedLastIdScope,
  idempotencyKey?: string,
): Promise<bigint> {
  return client.publish(subject, "x", {
    expectedLastId,
    expectedLastIdScope,
    ...(idempotencyKey === undefined ? {} : { idempotencyKey }),
  });
}

describe("an expected id of the stream", () => {
  test("is compared with its last event, of whatever subject", async ({ client, jsm }) => {
    const stream = await ensureStream(client);
    const [a, b] = [`${stream}.a`, `${stream}.b`];
    expect(await publish(client, a, 0n, STREAM)).toBe(1n);
    expect(await publish(client, b, 1n, STREAM)).toBe(2n);
    for (const wrong of [0n, 1n, 3n, 2n ** 64n - 1n]) {
      const error = await failure(publish(client, a, wrong, STREAM));
      expect(error).toMatchObject({
        status: "FAILED_PRECONDITION",
        reason: "LAST_ID_MISMATCH",
        metadata: { stream, subject: a, outcome: "not_stored" },
      });
      expect(error.message).toBe(`expected_last_id: ${wrong} is not the id of the last event of stream "${stream}"`);
    }
    expect(await publish(client, a, 2n, STREAM)).toBe(3n);
    expect(await count(jsm, stream)).toBe(3);
  });

  test("holds also where the last event is gone", async ({ client, jsm }) => {
    const stream = await ensureStream(client);
    await client.publish(`${stream}.a`);
    await client.publish(`${stream}.a`);
    await jsm.streams.purge(stream);
    expect(await failure(publish(client, `${stream}.a`, 0n, STREAM))).toMatchObject({ reason: "LAST_ID_MISMATCH" });
    expect(await publish(client, `${stream}.a`, 2n, STREAM)).toBe(3n);
  });

  test("lets one of many through", async ({ client, jsm }) => {
    const stream = await ensureStream(client);
    const calls = Array.from({ length: 20 }, async (_, n) => publish(client, `${stream}.${n}`, 0n, STREAM));
    const results = await Promise.allSettled(calls);
    expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    expect(await count(jsm, stream)).toBe(1);
  });

  test("with a key: a repeat returns the first id, also after others", async ({ client, jsm }) => {
    const stream = await ensureStream(client);
    expect(await publish(client, `${stream}.a`, 0n, STREAM, "k")).toBe(1n);
    expect(await publish(client, `${stream}.a`, 0n, STREAM, "k")).toBe(1n);
    await client.publish(`${stream}.b`);
    expect(await publish(client, `${stream}.a`, 0n, STREAM, "k")).toBe(1n);
    expect(await count(jsm, stream)).toBe(2);
  });

  test.for([SUBJECT, UNSPECIFIED])("is one of the subject with scope %i", async (scope, { client }) => {
    const stream = await ensureStream(client);
    await client.publish(`${stream}.a`);
    expect(await publish(client, `${stream}.b`, 0n, scope)).toBe(2n);
    const error = await failure(publish(client, `${stream}.a`, 2n, scope));
    expect(error.message).toBe(`expected_last_id: 2 is not the id of the last event of "${stream}.a"`);
  });

  test.for([
    [
      "the stream without an id",
      { expectedLastIdScope: STREAM },
      "CONFLICTING_FIELDS",
      "expected_last_id_scope: needs expected_last_id",
    ],
    [
      "the subject without an id",
      { expectedLastIdScope: SUBJECT },
      "CONFLICTING_FIELDS",
      "expected_last_id_scope: needs expected_last_id",
    ],
    [
      "a scope that does not exist",
      { expectedLastIdScope: 3 as ExpectedLastIdScope, expectedLastId: 0n },
      "INVALID_VALUE",
      "expected_last_id_scope: 3 is no scope",
    ],
  ] as const)("is refused as %s", async ([, wrong, reason, message], { client, jsm }) => {
    const stream = await ensureStream(client);
    const error = await failure(client.publish(`${stream}.a`, "x", wrong));
    expect(error).toMatchObject({ status: "INVALID_ARGUMENT", reason, fields: ["expected_last_id_scope"] });
    expect(error.message).toBe(message);
    expect(await count(jsm, stream)).toBe(0);
  });
});

/** PublishEvents: several events with one call, each stored or refused by itself. */
import { describe, expect } from "vitest";
import type { PublishEventsResponse } from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { CallError, failure, textOf, textValue } from "../support/client.ts";
import { test, uniqueName } from "../support/fixtures.ts";
import { consume, count, ensureStream, header } from "../support/publishing.ts";
import { startWindshift } from "../support/windshift.ts";

/** Ids and errors of a response, in its order. */
function resultsOf({ results }: PublishEventsResponse): unknown[] {
  return results.map(({ result }) => (result.case === "error" ? CallError.of(result.value) : result.value));
}

describe("PublishEvents", () => {
  test("stores events in their order, and answers with their ids", async ({ client }) => {
    const stream = await ensureStream(client);
    const events = ["1", "2", "3"].map((text) => ({ subject: `${stream}.a`, data: textValue(text) }));
    expect(resultsOf(await client.publishEvents({ events }))).toEqual([1n, 2n, 3n]);
    expect((await consume(client, stream, 3)).map(({ data }) => textOf(data))).toEqual(["1", "2", "3"]);
  });

  test("stores events of several streams", async ({ client }) => {
    const [one, two] = [await ensureStream(client), await ensureStream(client)];
    const events = [one, two, one].map((stream) => ({ subject: `${stream}.a`, data: textValue("x") }));
    expect(resultsOf(await client.publishEvents({ events, atomic: false }))).toEqual([1n, 1n, 2n]);
  });

  test("stores what it can, and says of each other one why it could not", async ({ client, jsm }) => {
    const stream = await ensureStream(client, { maxEventSize: 1000 });
    const data = textValue("x");
    const subject = `${stream}.a`;
    const results = resultsOf(
      await client.publishEvents({
        events: [
          { subject, data, idempotencyKey: "k" },
          { subject: "*", data },
          { subject },
          { subject: `${uniqueName("nowhere")}.a`, data },
          { subject, data: textValue("x".repeat(2000)) },
          { subject, data, expectedLastId: 9n },
          { subject, data, attributes: { "a b": "c" } },
          { subject, data, idempotencyKey: "k" },
          { subject, data, expectedLastId: 1n },
        ],
      }),
    );
    expect(results).toMatchObject([
      1n,
      { status: "INVALID_ARGUMENT", reason: "INVALID_SUBJECT", fields: ["subject"] },
      { status: "INVALID_ARGUMENT", reason: "MISSING_FIELD", fields: ["data"] },
      { status: "NOT_FOUND", reason: "SUBJECT_NOT_BOUND" },
      { status: "RESOURCE_EXHAUSTED", reason: "EVENT_TOO_LARGE" },
      { status: "FAILED_PRECONDITION", reason: "LAST_ID_MISMATCH" },
      { status: "INVALID_ARGUMENT", reason: "INVALID_VALUE", fields: ["attributes"] },
      1n,
      2n,
    ]);
    expect(await count(jsm, stream)).toBe(2);
  });

  test("stores 10,000 events with one call", async ({ client, jsm }) => {
    const stream = await ensureStream(client);
    const data = textValue("x");
    const events = Array.from({ length: 10_000 }, () => ({ subject: `${stream}.a`, data }));
    const { results } = await client.publishEvents({ events });
    expect(results.every(({ result }, index) => result.value === BigInt(index + 1))).toBe(true);
    expect(await count(jsm, stream)).toBe(10_000);
  });

  test("answers 10,000 events that are not valid", async ({ client }) => {
    const events = Array.from({ length: 10_000 }, () => ({ subject: "" }));
    const { results } = await client.publishEvents({ events });
    expect(results.every(({ result }) => result.case === "error")).toBe(true);
    expect(results).toHaveLength(10_000);
  });

  test.for([
    [0, "MISSING_FIELD", "events: must have at least one event"],
    [10_001, "INVALID_VALUE", "events: has 10001 events, at most 10000 may be"],
  ] as const)("refuses %i events", async ([length, reason, message], { client, jsm }) => {
    const stream = await ensureStream(client);
    const data = textValue("x");
    const events = Array.from({ length }, () => ({ subject: `${stream}.a`, data }));
    const error = await failure(client.publishEvents({ events }));
    expect(error).toMatchObject({ status: "INVALID_ARGUMENT", reason, fields: ["events"] });
    expect(error.message).toBe(message);
    expect(await count(jsm, stream)).toBe(0);
  });

  test("waits for its turn on a server that is full", async ({ nats }) => {
    await using windshift = await startWindshift(nats.url, {
      NATS_PUBLISH_ASYNC_MAX_PENDING: "2",
      PUBLISH_QUEUE_LIMIT: "1",
    });
    const stream = await ensureStream(windshift.client, { name: uniqueName() });
    const events = Array.from({ length: 500 }, () => ({ subject: `${stream}.a`, data: textValue("x") }));
    const responses = await Promise.all([1, 2, 3].map(async () => windshift.client.publishEvents({ events })));
    for (const response of responses) {
      const ids = resultsOf(response);
      expect(ids.filter((id) => typeof id !== "bigint")).toEqual([]);
      expect(ids).toEqual(ids.toSorted((a, b) => Number((a as bigint) - (b as bigint))));
    }
  });

  test("gives each event the trace of the call", async ({ client, jsm }) => {
    const stream = await ensureStream(client);
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const events = [1, 2].map(() => ({ subject: `${stream}.a`, data: textValue("x") }));
    await client.publishEvents({ events }, { metadata: { traceparent } });
    for (const id of [1n, 2n]) expect(await header(jsm, stream, id, "WS-Trace-Parent")).toBe(traceparent);
  });
});

/** One trace from the publisher's call to the consumer. */
import { expect } from "vitest";
import type { Client } from "../support/client.ts";
import { test, uniqueName } from "../support/fixtures.ts";
import { startOtlpReceiver } from "../support/otlp-receiver.ts";
import { startWindshift } from "../support/windshift.ts";

const TRACE_ID = "0af7651916cd43dd8448eb211c80319c";
const SPAN_ID = "b7ad6b7169203331";
const METADATA = { traceparent: `00-${TRACE_ID}-${SPAN_ID}-01`, tracestate: "vendor=value" };

/** Publishes within the trace and returns the event as its consumer gets it. */
async function roundTrip(client: Client) {
  const stream = uniqueName("trace");
  await client.ensureStream({ name: stream, source: { case: "subjects", value: { subjects: [`${stream}.>`] } } });
  const { id: consumer } = await client.ensureConsumer({ stream, name: "c", subjects: [`${stream}.>`] });
  await client.publishEvent({ subject: `${stream}.a`, data: { typeUrl: "x/a.B" } }, { metadata: METADATA });
  const call = await client.subscribe(stream, consumer);
  const event = await call.event();
  await call.ackNow(event.id);
  await call.cancel();
  return { stream, headers: event.headers! };
}

test("without a collector the publisher's trace context reaches the consumer as it was", async ({ client, jsm }) => {
  const { stream, headers } = await roundTrip(client);
  expect(headers).toMatchObject({ traceParent: METADATA.traceparent, traceState: METADATA.tracestate });
  const stored = await jsm.streams.getMessage(stream, { last_by_subj: `${stream}.a` });
  expect(stored!.header.get("WS-Trace-Parent")).toBe(METADATA.traceparent);
  expect(stored!.header.get("WS-Trace-State")).toBe(METADATA.tracestate);
});

test("with a collector call, publish and delivery are spans of the publisher's trace", async ({ nats, jsm }) => {
  await using receiver = await startOtlpReceiver();
  const windshift = await startWindshift(nats.url, { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.endpoint });
  const { stream, headers } = await roundTrip(windshift.client);
  await windshift[Symbol.asyncDispose]();

  const stored = await jsm.streams.getMessage(stream, { last_by_subj: `${stream}.a` });
  const storedParent = stored!.header.get("WS-Trace-Parent");
  const spanIds = [storedParent, headers.traceParent!].map((parent) => {
    const [, traceId, spanId] = parent.split("-");
    expect(traceId).toBe(TRACE_ID);
    return spanId!;
  });
  // The stored parent is the publish span, the delivered one that of the delivery.
  expect(new Set([SPAN_ID, ...spanIds]).size).toBe(3);
  const bodies = Buffer.concat(receiver.traces.map(({ body }) => body));
  for (const id of [TRACE_ID, SPAN_ID, ...spanIds]) expect(bodies.includes(Buffer.from(id, "hex"))).toBe(true);
  for (const name of ["windshift.events.v1alpha1.EventsService/PublishEvent", `deliver ${stream}`]) {
    expect(bodies.includes(name)).toBe(true);
  }
  const metrics = Buffer.concat(receiver.metrics.map(({ body }) => body));
  expect(metrics.includes("messaging.client.consumed.messages")).toBe(true);
});

test("a malformed traceparent is not carried", async ({ client }) => {
  const stream = uniqueName("trace");
  await client.ensureStream({ name: stream, source: { case: "subjects", value: { subjects: [`${stream}.>`] } } });
  await client.ensureConsumer({ stream, name: "c", subjects: [`${stream}.>`] });
  const metadata = { traceparent: "00-xyz-1-01", tracestate: "a=b" };
  await client.publishEvent({ subject: `${stream}.a`, data: { typeUrl: "" } }, { metadata });
  const call = await client.subscribe(stream, "c");
  const { headers } = await call.event();
  expect(headers?.traceParent).toBeUndefined();
  expect(headers?.traceState).toBeUndefined();
  await call.cancel();
});

test("a failed call leaves one line with its method, code and trace, and no payload", async ({ windshift, client }) => {
  const secret = "do-not-log-me";
  await client
    .publishEvent(
      { subject: "nobody.listens", data: { typeUrl: "x/a.B", value: Buffer.from(secret) } },
      { metadata: METADATA },
    )
    .catch(() => undefined);
  const lines = windshift.log.filter((line) => line["reason"] === "SUBJECT_NOT_BOUND");
  expect(lines).toHaveLength(1);
  expect(lines[0]).toMatchObject({
    level: "info",
    method: "windshift.events.v1alpha1.EventsService/PublishEvent",
    code: "NOT_FOUND",
    trace_id: TRACE_ID,
  });
  expect(JSON.stringify(windshift.log)).not.toContain(secret);
});

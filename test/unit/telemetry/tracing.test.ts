import { SpanKind, SpanStatusCode } from "@opentelemetry/api";
import { emptyResource } from "@opentelemetry/resources";
import { InMemorySpanExporter, type ReadableSpan, SimpleSpanProcessor, TracerProvider } from "@opentelemetry/sdk-trace";
import { describe, expect, test } from "vitest";
import { createSampler } from "../../../src/telemetry/sdk.ts";
import { NO_TRACE } from "../../../src/telemetry/trace-context.ts";
import { SPANS, Tracing } from "../../../src/telemetry/tracing.ts";

const TRACE = "0af7651916cd43dd8448eb211c80319c";
const PARENT = { traceParent: `00-${TRACE}-b7ad6b7169203331-01`, traceState: "vendor=1" };
const UNSAMPLED = { traceParent: `00-${TRACE}-b7ad6b7169203331-00` };
const EVENT = { stream: "orders", consumer: "billing", subject: "orders.created", id: 7n, attempt: 2n };

function startTracing(sampler = "parentbased_always_on", ratio = 1): { tracing: Tracing; spans: () => ReadableSpan[] } {
  const exporter = new InMemorySpanExporter();
  const spanProcessors = [new SimpleSpanProcessor({ exporter })];
  const provider = new TracerProvider({
    resource: emptyResource(),
    sampler: createSampler(sampler, ratio),
    spanProcessors,
  });
  return { tracing: new Tracing(provider.getTracer("test")), spans: () => exporter.getFinishedSpans() };
}

describe("without a tracer", () => {
  test("nothing is begun", () => {
    const tracing = new Tracing();
    expect(tracing.enabled).toBe(false);
    expect(tracing.startCall("a.B/C", "127.0.0.1:1", PARENT)).toBeUndefined();
    expect(tracing.startPublish("a", PARENT)).toBeUndefined();
    expect(tracing.startDelivery(EVENT, PARENT)).toBeUndefined();
    expect(tracing.startSettlement("ack", { ...EVENT, count: 1 }, PARENT)).toBeUndefined();
  });
});

describe("a span", () => {
  test("belongs to the trace of its parent and can be one itself", () => {
    const { tracing, spans } = startTracing();
    const publish = tracing.startPublish("orders.created", PARENT);
    expect(publish).toMatchObject({ traceId: TRACE, traceState: "vendor=1" });
    expect(publish?.traceParent).toBe(`00-${TRACE}-${publish?.spanId}-01`);
    const delivery = tracing.startDelivery(EVENT, publish ?? NO_TRACE);
    delivery?.end();
    publish?.end();
    expect(spans().map((span) => span.parentSpanContext?.spanId)).toEqual([publish?.spanId, "b7ad6b7169203331"]);
  });

  test.each([
    ["without a parent", NO_TRACE],
    ["with a parent that is none", { traceParent: "x" }],
  ])("%s begins a trace", (_, parent) => {
    const { tracing, spans } = startTracing();
    tracing.startPublish("a", parent)?.end();
    expect(spans()[0]?.parentSpanContext).toBeUndefined();
  });

  test("of a trace that is not recorded still has a place to pass on", () => {
    const { tracing, spans } = startTracing();
    const span = tracing.startPublish("a", UNSAMPLED);
    span?.set("x", 1);
    span?.end();
    expect(span?.traceParent).toMatch(new RegExp(`^00-${TRACE}-[0-9a-f]{16}-00$`));
    expect(spans()).toEqual([]);
  });

  test("of a call has its method, client and status", () => {
    const { tracing, spans } = startTracing();
    tracing.startCall("a.B/C", "[::1]:5000", PARENT)?.endCall(0);
    tracing.startCall("a.B/C", "10.0.0.1:5000", PARENT)?.endCall(5);
    tracing.startCall("a.B/C", "10.0.0.1:5000", PARENT)?.endCall(14);
    const [ok, missing, away] = spans();
    expect(ok).toMatchObject({ name: "a.B/C", kind: SpanKind.SERVER, status: { code: SpanStatusCode.UNSET } });
    expect(ok?.attributes).toEqual({
      "rpc.system.name": "grpc",
      "rpc.method": "a.B/C",
      "client.address": "[::1]",
      "rpc.status_code": "OK",
    });
    expect(missing).toMatchObject({ status: { code: SpanStatusCode.UNSET } });
    expect(away).toMatchObject({
      status: { code: SpanStatusCode.ERROR },
      attributes: { "rpc.status_code": "UNAVAILABLE", "error.type": "UNAVAILABLE" },
    });
  });

  test("of an event has its stream, subject and id", () => {
    const { tracing, spans } = startTracing();
    const publish = tracing.startPublish("orders.created", PARENT);
    publish?.set("messaging.destination.name", "orders");
    publish?.set("messaging.message.id", "7");
    publish?.end();
    tracing.startDelivery(EVENT, PARENT)?.end();
    tracing.startSettlement("reject", { ...EVENT, count: 3 }, PARENT)?.fail("NATS_UNAVAILABLE", "no answer");
    expect(spans()).toMatchObject([
      { name: "publish", kind: SpanKind.PRODUCER, attributes: { "windshift.subject": "orders.created" } },
      {
        name: "deliver orders",
        kind: SpanKind.CONSUMER,
        attributes: { "messaging.message.id": "7", "windshift.delivery_attempt": 2 },
      },
      {
        name: "reject orders",
        kind: SpanKind.CLIENT,
        status: { code: SpanStatusCode.ERROR, message: "no answer" },
        attributes: { "messaging.batch.message_count": 3, "error.type": "NATS_UNAVAILABLE" },
      },
    ]);
  });

  test("has no attribute that is not listed", () => {
    const { tracing, spans } = startTracing();
    tracing.startCall("a.B/C", "10.0.0.1:5000", PARENT)?.endCall(13);
    tracing.startPublish("a", PARENT)?.fail("STREAM_FULL");
    tracing.startDelivery(EVENT, PARENT)?.fail("SLOW_CLIENT");
    tracing.startSettlement("ack", { ...EVENT, count: 1 }, PARENT)?.end();
    for (const [index, span] of spans().entries()) {
      const listed = SPANS[index]?.attributes;
      for (const attribute of Object.keys(span.attributes)) expect(listed).toContain(attribute);
    }
    expect(spans()).toHaveLength(SPANS.length);
  });
});

test.each([
  ["always_on", 1, UNSAMPLED, 1],
  ["always_off", 1, PARENT, 0],
  ["traceidratio", 0, PARENT, 0],
  ["traceidratio", 1, UNSAMPLED, 1],
  ["parentbased_always_on", 1, UNSAMPLED, 0],
  ["parentbased_always_on", 1, NO_TRACE, 1],
  ["parentbased_always_off", 1, PARENT, 1],
  ["parentbased_always_off", 1, NO_TRACE, 0],
  ["parentbased_traceidratio", 0, NO_TRACE, 0],
  ["parentbased_traceidratio", 0, PARENT, 1],
])("the sampler %s with %d and parent %o records %d", (name, ratio, parent, expected) => {
  const { tracing, spans } = startTracing(name, ratio);
  tracing.startPublish("a", parent)?.end();
  expect(spans()).toHaveLength(expected);
});

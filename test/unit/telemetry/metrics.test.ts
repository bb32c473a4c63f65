import { describe, expect, onTestFinished, test } from "vitest";
import type { Sample } from "../../../src/telemetry/instruments.ts";
import { EPHEMERAL, Metrics, OTHER_METHOD } from "../../../src/telemetry/metrics.ts";

function startMetrics(): Metrics {
  const metrics = new Metrics();
  onTestFinished(() => metrics.stop());
  return metrics;
}

function collect(metrics: Metrics, name: string): Sample[] {
  const instrument = metrics.instruments.find(({ definition }) => definition.name === name);
  if (instrument === undefined) throw new Error(`there is no ${name}`);
  return instrument.collect();
}

describe("calls", () => {
  test("are counted by method and status, with their duration", () => {
    const metrics = startMetrics();
    const method = metrics.rpc("a.B/C");
    method.record(0, 0.002);
    method.record(0, 0.004);
    method.record(5, 0.001);
    metrics.rpc("a.B/C").record(14, 1);
    const common = { "rpc.system.name": "grpc", "rpc.method": "a.B/C" };
    expect(collect(metrics, "rpc.server.call.duration")).toMatchObject([
      { labels: { ...common, "rpc.status_code": "OK" }, value: { count: 2, sum: 0.006, min: 0.002, max: 0.004 } },
      { labels: { ...common, "rpc.status_code": "NOT_FOUND" }, value: { count: 1 } },
      { labels: { ...common, "rpc.status_code": "UNAVAILABLE", "error.type": "UNAVAILABLE" }, value: { count: 1 } },
    ]);
  });

  test("only the server's faults have an error type", () => {
    const metrics = startMetrics();
    metrics.rpc(OTHER_METHOD).record(5, 1);
    expect(collect(metrics, "rpc.server.call.duration")[0]?.labels).not.toHaveProperty("error.type");
  });
});

test("publishes are counted by stream and result", () => {
  const metrics = startMetrics();
  const orders = metrics.publishes("orders");
  orders.stored.add(2);
  orders.duplicates.add(1);
  orders.failed("STREAM_FULL").add(1);
  orders.failed("STREAM_FULL").add(1);
  metrics.publishes().failed("SUBJECT_NOT_BOUND").add(1);
  const samples = collect(metrics, "messaging.client.sent.messages").filter(({ value }) => value !== 0);
  const common = { "messaging.system.name": "nats", "messaging.operation.name": "publish" };
  const stream = { ...common, "messaging.destination.name": "orders" };
  expect(samples).toEqual([
    { labels: { ...stream, "windshift.result": "stored" }, value: 2 },
    { labels: { ...stream, "windshift.result": "duplicate" }, value: 1 },
    { labels: { ...stream, "windshift.result": "failed", "error.type": "STREAM_FULL" }, value: 2 },
    { labels: { ...common, "windshift.result": "failed", "error.type": "SUBJECT_NOT_BOUND" }, value: 1 },
  ]);
});

describe("a consumer", () => {
  const labels = { "messaging.destination.name": "orders", "messaging.consumer.group.name": "billing" };

  test("counts deliveries, settlements and what is open", () => {
    const metrics = startMetrics();
    const billing = metrics.consumer("orders", "billing");
    billing.deliveries.add(3);
    billing.redeliveries.add(1);
    billing.subscriptions.add(1);
    billing.unsettled.add(3);
    billing.unsettled.add(-1);
    billing.settlements("ack", "confirmed").add(1);
    billing.settlements("reject", "invalid").add(1);
    expect(metrics.consumer("orders", "billing")).toBe(billing);
    expect(collect(metrics, "messaging.client.consumed.messages")).toMatchObject([{ labels, value: 3 }]);
    expect(collect(metrics, "windshift.redeliveries")).toEqual([{ labels, value: 1 }]);
    expect(collect(metrics, "windshift.subscriptions")).toEqual([{ labels, value: 1 }]);
    expect(collect(metrics, "windshift.unsettled")).toEqual([{ labels, value: 2 }]);
    expect(collect(metrics, "windshift.settlements")).toEqual([
      { labels: { ...labels, "messaging.operation.name": "ack", "windshift.result": "confirmed" }, value: 1 },
      { labels: { ...labels, "messaging.operation.name": "reject", "windshift.result": "invalid" }, value: 1 },
    ]);
  });

  test("has one handle for each kind and result", () => {
    const billing = startMetrics().consumer("orders", "billing");
    expect(billing.settlements("ping", "failed")).toBe(billing.settlements("ping", "failed"));
    expect(billing.settlements("ping", "failed")).not.toBe(billing.settlements("terminate", "failed"));
  });

  test("in any number takes bounded memory", () => {
    const metrics = startMetrics();
    for (let i = 0; i < 5000; i++) metrics.consumer("orders", `c${i}`).deliveries.add(1);
    const samples = collect(metrics, "messaging.client.consumed.messages");
    expect(samples).toHaveLength(2001);
    expect(samples.at(-1)).toEqual({ labels: { "otel.metric.overflow": true }, value: 3000 });
    expect(metrics.consumer("a", "x")).toBe(metrics.consumer("b", "y"));
  });

  test("without a name shares its series with the others of its stream", () => {
    const metrics = startMetrics();
    expect(metrics.consumer("orders", EPHEMERAL)).toBe(metrics.consumer("orders", EPHEMERAL));
  });
});

test("the state of NATS and of publishing is reported", () => {
  const metrics = startMetrics();
  expect(collect(metrics, "windshift.nats.connected")).toEqual([]);
  expect(collect(metrics, "windshift.publishes.in_flight")).toEqual([{ labels: {}, value: 0 }]);
  metrics.natsConnected.set(1);
  metrics.natsRoundTrip.set(0.0004);
  metrics.natsReconnects.add(1);
  metrics.publishesInFlight.add(2);
  metrics.publishesWaiting.add(3);
  const values = ["nats.connected", "nats.round_trip", "nats.reconnects", "publishes.in_flight", "publishes.waiting"];
  expect(values.map((name) => collect(metrics, `windshift.${name}`)[0]?.value)).toEqual([1, 0.0004, 1, 2, 3]);
});

test("counting is one addition on a plain field", () => {
  const { deliveries } = startMetrics().consumer("orders", "billing");
  deliveries.value = 41;
  deliveries.add(1);
  expect(deliveries.value).toBe(42);
});

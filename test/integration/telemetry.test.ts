import { execFileSync } from "node:child_process";
import { describe, expect, test, vi } from "vitest";
import { readConfig } from "../../src/config/config.ts";
import type { Environment } from "../../src/config/env.ts";
import { createLogger } from "../../src/telemetry/logger.ts";
import { type Telemetry, startTelemetry } from "../../src/telemetry/telemetry.ts";
import { startOtlpReceiver } from "../support/otlp-receiver.ts";

const TRACE = "0af7651916cd43dd8448eb211c80319c";
const PARENT = { traceParent: `00-${TRACE}-b7ad6b7169203331-01` };

/** Telemetry as the daemon would start it in `env`, and what it logs. */
async function start(env: Environment, flushTimeoutMs = 30_000): Promise<{ telemetry: Telemetry; lines: string[] }> {
  const lines: string[] = [];
  const logger = createLogger({
    level: "info",
    development: false,
    destination: { write: (line) => lines.push(line) },
  });
  return {
    telemetry: await startTelemetry(readConfig(env).telemetry, logger, { version: "1.2.3", flushTimeoutMs }),
    lines,
  };
}

/** Those of the texts that are not in the body. */
function missing(body: Buffer | undefined, texts: readonly string[]): string[] {
  return texts.filter((text) => body?.includes(text) !== true);
}

describe("with a collector", () => {
  test("spans and metrics arrive, at the latest when the server stops", async () => {
    await using receiver = await startOtlpReceiver();
    const { telemetry } = await start({
      OTEL_EXPORTER_OTLP_ENDPOINT: receiver.endpoint,
      OTEL_EXPORTER_OTLP_HEADERS: "api-key=s3cret",
      OTEL_RESOURCE_ATTRIBUTES: "deployment.environment.name=testing",
      OTEL_SERVICE_NAME: "my-windshift",
    });
    expect(telemetry.tracingEnabled).toBe(true);
    telemetry.tracing.startPublish("orders.created", PARENT)?.end();
    telemetry.metrics.consumer("orders", "billing").deliveries.add(1);
    telemetry.metrics.rpc("a.B/C").record(0, 0.001);
    await telemetry[Symbol.asyncDispose]();

    const [spans] = receiver.traces;
    expect(
      missing(spans?.body, ["publish", "windshift.subject", "orders.created", "my-windshift", "1.2.3", "testing"]),
    ).toEqual([]);
    expect(spans?.body.includes(Buffer.from(TRACE, "hex"))).toBe(true);
    const [metrics] = receiver.metrics;
    const texts = ["messaging.client.consumed.messages", "rpc.server.call.duration", "billing", "my-windshift"];
    expect(missing(metrics?.body, texts)).toEqual([]);
    for (const sent of [spans, metrics]) expect(sent?.header("api-key")).toBe("s3cret");
  });

  test("a bare number is seconds, though the exporters would read it as milliseconds", async () => {
    await using receiver = await startOtlpReceiver();
    const env = {
      OTEL_EXPORTER_OTLP_ENDPOINT: receiver.endpoint,
      OTEL_EXPORTER_OTLP_TIMEOUT: "600",
      OTEL_EXPORTER_OTLP_METRICS_TIMEOUT: "900",
      OTEL_METRIC_EXPORT_INTERVAL: "999",
      OTEL_METRIC_EXPORT_TIMEOUT: "999",
    };
    for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value);
    const { telemetry } = await start(env);
    vi.unstubAllEnvs();
    telemetry.tracing.startPublish("a", PARENT)?.end();
    await telemetry[Symbol.asyncDispose]();
    expect(receiver.traces[0]?.timeoutMs).toSatisfy((ms: number) => ms > 300_000 && ms <= 600_000);
    expect(receiver.metrics[0]?.timeoutMs).toSatisfy((ms: number) => ms > 600_000 && ms <= 900_000);
  });

  test("metrics are sent at every interval", async () => {
    await using receiver = await startOtlpReceiver();
    const { telemetry } = await start({
      OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: receiver.endpoint,
      OTEL_METRIC_EXPORT_INTERVAL: "20ms",
    });
    await expect.poll(() => receiver.metrics.length, { timeout: 30_000 }).toBeGreaterThan(2);
    expect(telemetry.tracingEnabled).toBe(false);
    await telemetry[Symbol.asyncDispose]();
    expect(receiver.traces).toEqual([]);
  });

  test("spans and metrics may go to different ones", async () => {
    await using all = await startOtlpReceiver();
    await using traces = await startOtlpReceiver();
    const { telemetry } = await start({
      OTEL_EXPORTER_OTLP_ENDPOINT: all.endpoint,
      OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: traces.endpoint,
    });
    telemetry.tracing.startPublish("a", PARENT)?.end();
    await telemetry[Symbol.asyncDispose]();
    expect([all.traces.length, all.metrics.length]).toEqual([0, 1]);
    expect([traces.traces.length, traces.metrics.length]).toEqual([1, 0]);
  });

  test("nothing arrives when OpenTelemetry is disabled", async () => {
    await using receiver = await startOtlpReceiver();
    const { telemetry } = await start({
      OTEL_EXPORTER_OTLP_ENDPOINT: receiver.endpoint,
      OTEL_TRACING_LOG: "true",
      OTEL_SDK_DISABLED: "true",
    });
    expect(telemetry.tracingEnabled).toBe(false);
    expect(await telemetry.renderPrometheus()).toContain("process_memory_usage_bytes");
    await telemetry[Symbol.asyncDispose]();
    expect([receiver.traces, receiver.metrics]).toEqual([[], []]);
  });
});

describe("with a collector in trouble", () => {
  test("one that never answers does not hold up the end", async () => {
    await using receiver = await startOtlpReceiver({ answers: false });
    const env = { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.endpoint, OTEL_EXPORTER_OTLP_TIMEOUT: "1h" };
    const { telemetry, lines } = await start(env, 50);
    telemetry.tracing.startPublish("a", PARENT)?.end();
    await telemetry[Symbol.asyncDispose]();
    expect(lines.join("")).toContain("telemetry was not sent in time");
  });

  test("one that is away is a warning in the log", async () => {
    const { telemetry, lines } = await start({
      // Port 1 of this machine: nobody listens there.
      OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: "http://127.0.0.1:1",
      OTEL_METRIC_EXPORT_INTERVAL: "20ms",
      OTEL_EXPORTER_OTLP_TIMEOUT: "1s",
    });
    await expect.poll(() => lines.length, { timeout: 30_000 }).toBeGreaterThan(0);
    await telemetry[Symbol.asyncDispose]();
    expect(JSON.parse(lines[0] ?? "")).toMatchObject({ level: "warn", msg: "telemetry has a problem" });
  });
});

describe("without a collector", () => {
  test("spans are not even begun, and metrics are counted", async () => {
    const { telemetry } = await start({});
    expect(telemetry.tracingEnabled).toBe(false);
    expect(telemetry.tracing.startPublish("a", PARENT)).toBeUndefined();
    const carrier = new Map([["traceparent", PARENT.traceParent]]);
    expect(telemetry.readTraceContext(carrier).traceParent).toBe(PARENT.traceParent);
    telemetry.metrics.publishes("orders").stored.add(2);
    telemetry.metrics.rpc("a.B/C").record(14, 0.7);
    const text = await telemetry.renderPrometheus();
    expect(text).toMatch(
      /^messaging_client_sent_messages_total\{.*messaging_destination_name="orders",windshift_result="stored"\} 2$/m,
    );
    expect(text).toMatch(/^rpc_server_call_duration_seconds_bucket\{.*rpc_status_code="UNAVAILABLE".*le="0.75"\} 1$/m);
    expect(text).toMatch(/^rpc_server_call_duration_seconds_count\{.*error_type="UNAVAILABLE"\} 1$/m);
    expect(text).toMatch(/^target_info\{.*service_name="windshift"/m);
    // The next scrape sees what was counted since.
    telemetry.metrics.publishes("orders").stored.add(1);
    expect(await telemetry.renderPrometheus()).toMatch(/windshift_result="stored"\} 3$/m);
    await telemetry[Symbol.asyncDispose]();
  });

  test("spans go to the log with OTEL_TRACING_LOG", async () => {
    const { telemetry, lines } = await start({ OTEL_TRACING_LOG: "true" });
    expect(telemetry.tracingEnabled).toBe(true);
    const span = telemetry.tracing.startPublish("orders.created", PARENT);
    span?.fail("STREAM_FULL", "no room");
    await telemetry[Symbol.asyncDispose]();
    expect(lines.map((line) => JSON.parse(line) as object)).toEqual([
      {
        level: "info",
        time: expect.any(String),
        msg: "span",
        span: "publish",
        kind: "producer",
        traceId: TRACE,
        spanId: span?.spanId,
        parentSpanId: "b7ad6b7169203331",
        durationMs: expect.any(Number),
        failed: "no room",
        attributes: expect.objectContaining({ "windshift.subject": "orders.created", "error.type": "STREAM_FULL" }),
      },
    ]);
  });

  test("no SDK is loaded", () => {
    const script = `
      import { registerHooks } from "node:module";
      const loaded = [];
      registerHooks({ resolve: (name, context, next) => (loaded.push(name), next(name, context)) });
      const { readConfig } = await import("./src/config/config.ts");
      const { createLogger } = await import("./src/telemetry/logger.ts");
      const { startTelemetry } = await import("./src/telemetry/telemetry.ts");
      const logger = createLogger({ level: "info", development: false });
      const telemetry = await startTelemetry(readConfig({}).telemetry, logger, { version: "0" });
      await telemetry[Symbol.asyncDispose]();
      console.log(JSON.stringify(loaded.filter((name) => /^(@opentelemetry|@grpc|pino-pretty)/.test(name))));
    `;
    const root = new URL("../..", import.meta.url);
    const output = execFileSync(process.execPath, ["--input-type=module", "-e", script], {
      cwd: root,
      encoding: "utf8",
    });
    expect(new Set(JSON.parse(output) as string[])).toEqual(new Set(["@opentelemetry/api"]));
  });
});

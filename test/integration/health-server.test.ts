import { once } from "node:events";
import { connect } from "node:net";
import { describe, expect, test } from "vitest";
import { type HealthServer, type HealthServerOptions, startHealthServer } from "../../src/health/server.ts";

function start(options: Partial<HealthServerOptions> = {}): Promise<HealthServer> {
  return startHealthServer({ host: "127.0.0.1", port: 0, checks: [], ...options });
}

async function get(server: HealthServer, path: string, init?: RequestInit): Promise<Response> {
  return fetch(`http://127.0.0.1:${server.port}${path}`, init);
}

describe("/healthz", () => {
  test("is well while the event loop turns, whatever the checks say", async () => {
    await using server = await start({ checks: [{ name: "nats", check: () => "away" }] });
    const response = await get(server, "/healthz");
    expect(response.status).toBe(200);
    expect(response.headers.get("cache-control")).toBe("no-store");
    expect(await response.json()).toEqual({ status: "ok" });
  });

  test("answers HEAD too", async () => {
    await using server = await start();
    const response = await get(server, "/healthz", { method: "HEAD" });
    expect([response.status, await response.text()]).toEqual([200, ""]);
  });
});

describe("/readyz", () => {
  test("is ready when every check is fine", async () => {
    await using server = await start({
      checks: [
        { name: "now", check: () => undefined },
        { name: "soon", check: () => Promise.resolve(undefined) },
      ],
    });
    const response = await get(server, "/readyz");
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({
      status: "ready",
      checks: [
        { name: "now", ok: true },
        { name: "soon", ok: true },
      ],
    });
  });

  test("says for each check that is not fine why", async () => {
    await using server = await start({
      checkTimeoutMs: 20,
      checks: [
        { name: "fine", check: () => undefined },
        { name: "draining", check: () => "the server is stopping" },
        { name: "away", check: () => Promise.resolve("NATS is not connected") },
        {
          name: "thrown",
          check: () => {
            throw new Error("boom");
          },
        },
        { name: "rejected", check: () => Promise.reject(new Error("bang")) },
        { name: "silent", check: () => new Promise(() => {}) },
      ],
    });
    const response = await get(server, "/readyz");
    expect(response.status).toBe(503);
    expect(await response.json()).toEqual({
      status: "not ready",
      checks: [
        { name: "fine", ok: true },
        { name: "draining", ok: false, reason: "the server is stopping" },
        { name: "away", ok: false, reason: "NATS is not connected" },
        { name: "thrown", ok: false, reason: "boom" },
        { name: "rejected", ok: false, reason: "bang" },
        { name: "silent", ok: false, reason: "no answer within 20 ms" },
      ],
    });
  });

  test("asks anew each time", async () => {
    let reason: string | undefined = "not yet";
    await using server = await start({ checks: [{ name: "nats", check: () => reason }] });
    expect((await get(server, "/readyz")).status).toBe(503);
    reason = undefined;
    expect((await get(server, "/readyz")).status).toBe(200);
  });

  test("survives a check that fails after it was given up", async () => {
    const late = Promise.withResolvers<string>();
    await using server = await start({ checkTimeoutMs: 20, checks: [{ name: "late", check: () => late.promise }] });
    expect((await get(server, "/readyz")).status).toBe(503);
    late.reject(new Error("too late"));
    expect((await get(server, "/healthz")).status).toBe(200);
  });
});

describe("/metrics", () => {
  test("is the text for Prometheus", async () => {
    await using server = await start({ renderMetrics: () => Promise.resolve("up 1\n") });
    const response = await get(server, "/metrics");
    expect(response.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
    expect(await response.text()).toBe("up 1\n");
  });

  test("says so when it cannot be made", async () => {
    await using server = await start({ renderMetrics: () => Promise.reject(new Error("broken")) });
    const response = await get(server, "/metrics");
    expect([response.status, await response.json()]).toEqual([500, { error: "Error: broken" }]);
  });
});

test.each([
  ["GET", "/"],
  ["GET", "/metrics"],
  ["POST", "/healthz"],
])("%s %s is not there", async (method, path) => {
  await using server = await start();
  const response = await get(server, path, { method });
  expect([response.status, await response.json()]).toEqual([404, { error: `there is no ${method} ${path}` }]);
});

test("a port that is taken is an error", async () => {
  await using server = await start();
  await expect(start({ port: server.port })).rejects.toThrow(/EADDRINUSE/);
});

test("stopping closes connections that a probe keeps open", async () => {
  const server = await start();
  const socket = connect(server.port, "127.0.0.1");
  socket.write("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
  await once(socket, "data");
  const closed = once(socket, "close");
  await server[Symbol.asyncDispose]();
  await closed;
});

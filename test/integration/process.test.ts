/** The daemon as its operator meets it: arguments, exit codes, signals, crashes. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test as base, vi } from "vitest";
import { VERSION } from "../../src/version.ts";
import { Client } from "../support/client.ts";
import { spawnDaemon } from "../support/daemon-process.ts";
import { startNats } from "../support/nats.ts";
import { startWindshift } from "../support/windshift.ts";

const OK = { code: 0, signal: null };
const FAILED = { code: 1, signal: null };
const USAGE = { code: 64, signal: null };
const CONFIG = { code: 78, signal: null };
const STREAM = { name: "orders", source: { case: "subjects" as const, value: { subjects: ["orders.>"] } } };

const CONSUMER = { stream: "orders", name: "c", subjects: ["orders.>"] };

const test = base.extend<{ dataDir: string }>({
  dataDir: async ({}, use) => {
    const folder = await mkdtemp(join(tmpdir(), "windshift-process-"));
    await use(join(folder, "data"));
    await rm(folder, { recursive: true, force: true });
  },
});

describe("the arguments", () => {
  test("--version prints the version", async () => {
    await using daemon = spawnDaemon({ args: ["--version"] });
    expect(await daemon.exited).toEqual(OK);
    expect(daemon.stdout).toBe(`${VERSION}\n`);
  });

  test("--help names every argument", async () => {
    await using daemon = spawnDaemon({ args: ["--help"] });
    expect(await daemon.exited).toEqual(OK);
    for (const argument of ["--print-config", "--version", "--help", "policy check"])
      expect(daemon.stdout).toContain(argument);
  });

  test("--print-config shows what is in force and hides secrets", async () => {
    const env = { NATS_URL: "nats://a:4222", NATS_TOKEN: "tell-nobody", GRPC_PORT: "9000", LOG_LEVEL: "warn" };
    await using daemon = spawnDaemon({ args: ["--print-config"], env });
    expect(await daemon.exited).toEqual(OK);
    expect(daemon.stdout).toMatch(/^GRPC_PORT=9000 +# set$/m);
    expect(daemon.stdout).toMatch(/^NATS_TOKEN=\(hidden\) +# set$/m);
    expect(daemon.stdout).toMatch(/^NATS_REQUEST_TIMEOUT=5s +# default$/m);
    expect(daemon.stdout + daemon.stderr).not.toContain("tell-nobody");
  });

  test("policy check explains a decision, and its exit code tells it", async ({ dataDir }) => {
    const policy = `${dataDir}.yaml`;
    await writeFile(policy, "version: 1\nrules: [{ name: all, for: everyone, allow: everything }]\n");
    const args = ["policy", "check", "--policy", policy, "--as", "ann", "publish", "orders.created"];
    await using allowed = spawnDaemon({ args });
    expect(await allowed.exited).toEqual(OK);
    expect(allowed.stdout).toContain('allowed: "ann" may publish "orders.created": allowed by rule all\n');
    await using wrong = spawnDaemon({ args: ["policy", "check"] });
    expect(await wrong.exited).toEqual({ code: 2, signal: null });
    expect(wrong.stderr).toContain("--policy is required");
  });

  test("loading the program leaves the space for new objects as it shall be", async () => {
    const tell = `
      import { getHeapSpaceStatistics } from "node:v8";
      process.on("exit", () => {
        const { space_size: size } = getHeapSpaceStatistics().find((space) => space.space_name === "new_space");
        process.stderr.write("new space: " + size / 1024 / 1024 + " MiB");
      });`;
    const nodeArgs = ["--import", `data:text/javascript,${encodeURIComponent(tell)}`];
    await using daemon = spawnDaemon({ args: ["--version"], nodeArgs });
    expect(await daemon.exited).toEqual(OK);
    expect(daemon.stderr).toBe("new space: 16 MiB");
  });

  test("an unknown one is refused with the help", async () => {
    await using daemon = spawnDaemon({ args: ["--prot", "80"] });
    expect(await daemon.exited).toEqual(USAGE);
    expect(daemon.stderr).toMatch(/^windshift: unknown argument "--prot"\n/);
    expect(daemon.stderr).toContain("Usage: windshift");
  });
});

describe("a start", () => {
  test("without NATS_URL serves on a nats-server of its own", async ({ dataDir }) => {
    await using daemon = spawnDaemon({ env: { NATS_DATA_DIR: dataDir } });
    const { grpc, health } = await daemon.serving();
    expect(daemon.log).toContainEqual(expect.objectContaining({ level: "info", dataDir, pid: expect.any(Number) }));
    using client = new DisposableClient(grpc);
    await client.ensureStream(STREAM);
    expect(await client.publish("orders.a")).toBe(1n);
    expect((await fetch(`http://${health}/readyz`)).status).toBe(200);
    daemon.kill("SIGTERM");
    expect(await daemon.exited).toEqual(OK);
    expect(daemon.stderr).toBe("");
  });

  test("under load makes no new objects among the old ones", async ({ dataDir }) => {
    const nodeArgs = ["--trace-pretenuring-statistics", "--max-semi-space-size=1"];
    await using daemon = spawnDaemon({ nodeArgs, env: { NATS_DATA_DIR: dataDir } });
    const { grpc } = await daemon.serving();
    using client = new DisposableClient(grpc);
    await client.ensureStream(STREAM);
    const { length } = daemon.stdout;
    for (let burst = 0; burst < 20; burst++) {
      await Promise.all(Array.from({ length: 100 }, async () => client.publish("orders.a")));
    }
    expect(daemon.stdout.slice(length)).not.toContain("pretenuring");
  });

  test("with wrong variables tells all of them in one message", async () => {
    const env = { GRPC_PORT: "http", SHUTDOWN_GRACE: "-1s", NATS_URL: "", LOG_LEVEL: "loud" };
    await using daemon = spawnDaemon({ env });
    expect(await daemon.exited).toEqual(CONFIG);
    for (const variable of Object.keys(env)) expect(daemon.stderr).toContain(variable);
    expect(daemon.stderr).toMatch(/^windshift: /);
    expect(daemon.stderr).not.toContain("    at ");
    expect(daemon.stdout).toBe("");
  });

  test.for(["GRPC", "HEALTH"])("on a port in use names %s_PORT", async (prefix, { dataDir }) => {
    const squatter = createServer();
    await once(squatter.listen(0, "127.0.0.1"), "listening");
    const { port } = squatter.address() as AddressInfo;
    await using daemon = spawnDaemon({ env: { NATS_DATA_DIR: dataDir, [`${prefix}_PORT`]: String(port) } });
    expect(await daemon.exited).toEqual(FAILED);
    squatter.close();
    expect(daemon.stderr).toContain(
      `windshift: ${prefix}_PORT=${port}, ${prefix}_HOST=127.0.0.1: port ${port} of 127.0.0.1 is in use by another process\n`,
    );
  });

  test("on an address of another machine names the variables", async ({ dataDir }) => {
    await using daemon = spawnDaemon({ env: { NATS_DATA_DIR: dataDir, GRPC_HOST: "192.0.2.1" } });
    expect(await daemon.exited).toEqual(FAILED);
    expect(daemon.stderr).toMatch(/^windshift: GRPC_PORT=0, GRPC_HOST=192\.0\.2\.1: cannot listen: .+$/m);
  });
});

describe("a running daemon", () => {
  test("goes on when its nats-server is killed", async ({ dataDir }) => {
    await using daemon = spawnDaemon({ env: { NATS_DATA_DIR: dataDir } });
    const { grpc } = await daemon.serving();
    using client = new DisposableClient(grpc);
    await client.ensureStream(STREAM);
    const { id: consumer } = await client.ensureConsumer(CONSUMER);
    const call = await client.subscribe("orders", consumer);
    expect(await client.publish("orders.a")).toBe(1n);
    expect((await call.event()).id).toBe(1n);

    const { pid } = await daemon.logged((line) => line["dataDir"] === dataDir && typeof line["pid"] === "number");
    process.kill(pid as number, "SIGKILL");
    const id = await vi.waitFor(() => client.publish("orders.b"), { timeout: 30_000 });
    // What the killed server had not written down yet comes again.
    while ((await call.event()).id !== id);
    await call.ackNow(id);

    daemon.kill("SIGTERM");
    expect((await call.ended)?.status).toBe("UNAVAILABLE");
    expect(await daemon.exited).toEqual(OK);
  });

  test.for(["SIGTERM", "SIGINT"] as const)("hands events back on %s", async (signal) => {
    await using nats = await startNats();
    await using other = await startWindshift(nats.url);
    await using daemon = spawnDaemon({ env: { NATS_URL: nats.url } });
    using client = new DisposableClient((await daemon.serving()).grpc);
    await client.ensureStream(STREAM);
    // Nothing but handing back brings an event to another subscription within this test.
    const timeout = { seconds: 3600n };
    const { id: consumer } = await client.ensureConsumer({ ...CONSUMER, processingTimeout: timeout });
    for (const _ of [1, 2, 3]) await client.publish("orders.a");
    const call = await client.subscribe("orders", consumer);
    const held = await call.take(3);
    await call.ackNow(held[0]!.id);

    daemon.kill(signal);
    expect((await call.ended)?.status).toBe("UNAVAILABLE");
    expect(await daemon.exited).toEqual(OK);
    expect(daemon.log.at(-1)).toMatchObject({ msg: "stopped" });

    const again = await (await other.client.subscribe("orders", consumer)).take(2);
    const back = again.map(({ id, deliveryAttempt }) => ({ id, deliveryAttempt }));
    expect(back.toSorted((a, b) => Number(a.id - b.id))).toEqual([
      { id: held[1]!.id, deliveryAttempt: 2n },
      { id: held[2]!.id, deliveryAttempt: 2n },
    ]);
  });

  test("ends at once on a second signal", async () => {
    await using nats = await startNats();
    await using daemon = spawnDaemon({ env: { NATS_URL: nats.url, SHUTDOWN_GRACE: "1h" } });
    using client = new DisposableClient((await daemon.serving()).grpc);
    await client.ensureStream(STREAM);
    const { id: consumer } = await client.ensureConsumer(CONSUMER);
    await client.publish("orders.a");
    const call = await client.subscribe("orders", consumer);
    await call.event();

    daemon.kill("SIGTERM");
    await daemon.logged(({ msg }) => msg === "draining");
    daemon.kill("SIGINT");
    expect(await daemon.exited).toEqual(FAILED);
    expect(await call.ended).toBeDefined();
  });

  test("logs why it crashed, and takes its nats-server along", async ({ dataDir }) => {
    const bomb = `process.on("SIGUSR2", () => { throw new Error("made to crash"); })`;
    await using daemon = spawnDaemon({
      env: { NATS_DATA_DIR: dataDir },
      nodeArgs: ["--import", `data:text/javascript,${encodeURIComponent(bomb)}`],
    });
    const { pid } = await daemon.logged((line) => line["dataDir"] === dataDir && typeof line["pid"] === "number");
    await daemon.serving();
    daemon.kill("SIGUSR2");
    expect(await daemon.exited).toEqual(FAILED);
    expect(daemon.log.at(-1)).toMatchObject({ level: "fatal", err: { message: "made to crash" } });
    await vi.waitUntil(() => !isThere(pid as number), { timeout: 30_000 });
  });
});

class DisposableClient extends Client implements Disposable {
  [Symbol.dispose](): void {
    this.close();
  }
}

function isThere(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

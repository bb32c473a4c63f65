import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { describe, expect, test as base, vi } from "vitest";
import { type EmbeddedNatsOptions, StartError, startEmbeddedNats } from "../../src/nats/embedded.ts";
import { isRunning, identify } from "../../src/nats/process-identity.ts";
import type { DaemonReport } from "../support/embedded-daemon.ts";
import { recordingLogger, silentLogger } from "../support/recording-logger.ts";

const DAEMON = fileURLToPath(new URL("../support/embedded-daemon.ts", import.meta.url));
const EVENTS = 20;

/** Without a PATH there is no `setpriv`, as on most systems that are not Linux: the server survives a killed daemon. */
const UNBOUND = { PATH: "" };

const test = base.extend<{ dataDir: string }>({
  dataDir: async ({}, use) => {
    const folder = await mkdtemp(join(tmpdir(), "windshift-embedded-"));
    await use(join(folder, "data"));
    await rm(folder, { recursive: true, force: true });
  },
});

describe("an embedded server", { timeout: 30_000 }, () => {
  test("stores events and keeps them over a stop", async ({ dataDir }) => {
    const logger = recordingLogger();
    {
      await using nats = await start({ dataDir, logger });
      expect(nats.url).toBe(`nats://127.0.0.1:${nats.port}`);
      expect(nats.version).toMatch(/^2\.\d+\.\d+/);
      await storeEvents(nats.url);
    }
    expect(await readdir(dataDir)).toEqual(["jetstream"]);
    await using again = await start({ dataDir });
    expect(await countEvents(again.url)).toBe(EVENTS);
    const own = logger.lines.filter(({ fields }) => !("component" in fields));
    expect(own).toEqual([]);
    expect(logger.lines).toContainEqual(expect.objectContaining({ level: "debug", message: "Server is ready" }));
  });

  test("is started again on the same port with its data when it dies", async ({ dataDir }) => {
    const exits: unknown[] = [];
    const restarts: unknown[] = [];
    await using nats = await start({
      dataDir,
      onExit: (exit) => exits.push(exit),
      onRestart: () => restarts.push(nats.pid),
    });
    const { url } = nats;
    await storeEvents(url);
    const killed: number[] = [];
    for (const deaths of [1, 2, 3]) {
      killed.push(nats.pid);
      process.kill(nats.pid, "SIGKILL");
      await vi.waitUntil(() => restarts.length === deaths, { timeout: 10_000 });
      expect(nats.url).toBe(url);
      expect(await countEvents(url)).toBe(EVENTS);
    }
    expect(exits).toEqual(killed.map((pid) => ({ pid, code: null, signal: "SIGKILL" })));
    expect(killed).not.toContain(nats.pid);
  });

  test("can be disposed while it is being started again, and leaves no process", async ({ dataDir }) => {
    const died = Promise.withResolvers<void>();
    const nats = await start({ dataDir, onExit: () => died.resolve() });
    process.kill(nats.pid, "SIGKILL");
    await died.promise;
    await nats[Symbol.asyncDispose]();
    expect(await identify(nats.pid)).toBeUndefined();
    expect(await readdir(dataDir)).toEqual(["jetstream"]);
  });

  test("ends and reports when its lock is deleted under it", async ({ dataDir }) => {
    await using nats = await start({ dataDir });
    const server = await identify(nats.pid);
    await rm(join(dataDir, "windshift.lock"), { recursive: true });
    expect(await nats.died).toBeInstanceOf(StartError);
    await vi.waitUntil(async () => !(await isRunning(server as NonNullable<typeof server>)), {
      timeout: 10_000,
    });
  });

  test("is refused while another daemon uses the folder", async ({ dataDir }) => {
    await using daemon = await startDaemon(dataDir);
    await daemon.go();
    await expect(start({ dataDir })).rejects.toThrow(
      new RegExp(`"${dataDir}" is in use by the daemon with process id ${daemon.pid} `),
    );
    await daemon.stop();
    await using nats = await start({ dataDir });
    expect(nats.pid).toBeGreaterThan(0);
  });

  test("is refused a second time in the same process", async ({ dataDir }) => {
    await using _ = await start({ dataDir });
    await expect(start({ dataDir })).rejects.toThrow(`process id ${process.pid} `);
  });

  test("does not start without the program that NATS_SERVER_BIN names", async ({ dataDir }) => {
    const started = start({ dataDir, binary: "/nowhere/nats-server" });
    await expect(started).rejects.toThrow('NATS_SERVER_BIN: "/nowhere/nats-server" is not an executable file');
    await expect(started).rejects.toBeInstanceOf(StartError);
  });

  test("tells why the server ended when it does not start, and gives the lock up", async ({ dataDir }) => {
    const squatter = createServer();
    await once(squatter.listen(0, "127.0.0.1"), "listening");
    const { port } = squatter.address() as { port: number };
    await expect(start({ dataDir, port })).rejects.toThrow("address already in use");
    squatter.close();
    await using nats = await start({ dataDir, port });
    expect(nats.port).toBe(port);
  });

  test("is given up when it is not ready in time, and gives the lock up", async ({ dataDir }) => {
    await mkdir(dataDir);
    const binary = join(dataDir, "never-ready");
    await writeFile(binary, "#!/bin/sh\nexec sleep 1000\n", { mode: 0o755 });
    await expect(start({ dataDir, binary, startTimeoutMs: 50 })).rejects.toThrow("was not ready after 50 ms");
    await using nats = await start({ dataDir });
    expect(nats.pid).toBeGreaterThan(0);
  });
});

describe("a daemon that is killed", { timeout: 30_000 }, () => {
  test("leaves a server that the next start ends, and loses no event", async ({ dataDir }) => {
    await using daemon = await startDaemon(dataDir, UNBOUND);
    const orphan = succeeded(await daemon.go());
    const server = await identify(orphan.pid);
    await storeEvents(orphan.url);
    await daemon.kill();
    expect(await identify(orphan.pid)).toEqual(server);

    const logger = recordingLogger();
    await using nats = await start({ dataDir, logger });
    expect(await identify(orphan.pid)).toBeUndefined();
    expect(await countEvents(nats.url)).toBe(EVENTS);
    expect(logger.lines).toContainEqual(
      expect.objectContaining({ level: "warn", fields: { folder: dataDir, pid: orphan.pid } }),
    );
  });

  test("takes its server along where the kernel can be asked to", async ({ dataDir, skip }) => {
    skip(!(await hasSetpriv()), "needs setpriv of util-linux");
    await using daemon = await startDaemon(dataDir);
    const { pid } = succeeded(await daemon.go());
    await daemon.kill();
    await vi.waitUntil(async () => (await identify(pid)) === undefined, { timeout: 10_000 });
  });

  test("is followed by exactly one of several that start at once", async ({ dataDir }) => {
    let survivor: { pid: number } | undefined;
    // The first round finds no lock, the others that of a killed daemon whose server still runs.
    for (const _ of [1, 2, 3]) {
      await using daemons = new AsyncDisposableStack();
      const contenders = await Promise.all([1, 2, 3, 4].map(() => startDaemon(dataDir, UNBOUND)));
      for (const contender of contenders) daemons.use(contender);
      const reports = await Promise.all(contenders.map((contender) => contender.go()));
      const winners = reports.filter((report) => "url" in report);
      expect(winners).toHaveLength(1);
      for (const report of reports) if ("error" in report) expect(report.error).toContain("is in use by the daemon");
      if (survivor !== undefined) expect(await identify(survivor.pid)).toBeUndefined();
      survivor = winners[0];
      await Promise.all(contenders.map((contender) => contender.kill()));
    }
    await using nats = await start({ dataDir });
    expect(nats.pid).toBeGreaterThan(0);
  });
});

function start(options: Partial<EmbeddedNatsOptions> & { dataDir: string }) {
  return startEmbeddedNats({
    logger: silentLogger,
    binary: process.env["NATS_SERVER_BIN"],
    ...options,
  });
}

/** A daemon that is loaded and waits for `go()`. */
async function startDaemon(dataDir: string, env: NodeJS.ProcessEnv = {}) {
  const child = spawn(process.execPath, [DAEMON, dataDir], {
    env: { ...process.env, ...env },
    stdio: ["pipe", "pipe", "inherit"],
  });
  const exited = once(child, "exit");
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  await lines.next();
  const kill = async () => {
    child.kill("SIGKILL");
    await exited;
  };
  return {
    pid: child.pid,
    async go(): Promise<DaemonReport> {
      child.stdin.write("go\n");
      return JSON.parse((await lines.next()).value ?? '{"error":"no report"}') as DaemonReport;
    },
    async stop() {
      child.stdin.end();
      await exited;
    },
    kill,
    [Symbol.asyncDispose]: kill,
  };
}

function succeeded(report: DaemonReport) {
  if ("error" in report) throw new Error(report.error);
  return report;
}

async function hasSetpriv() {
  const probe = spawn("setpriv", ["--pdeathsig", "TERM", "true"], { stdio: "ignore" });
  return once(probe, "exit").then(
    ([code]) => code === 0,
    () => false,
  );
}

async function storeEvents(url: string) {
  const connection = await connect({ servers: url });
  await (await jetstreamManager(connection)).streams.add({ name: "orders", subjects: ["orders.>"] });
  for (let i = 0; i < EVENTS; i++) await jetstream(connection).publish("orders.created", `${i}`);
  await connection.close();
}

async function countEvents(url: string) {
  const connection = await connect({ servers: url });
  const { state } = await (await jetstreamManager(connection)).streams.info("orders");
  await connection.close();
  return state.messages;
}

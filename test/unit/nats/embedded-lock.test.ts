import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test as base } from "vitest";
import { StoreLock, type StoreLockOptions } from "../../../src/nats/embedded-lock.ts";
import { identify, isRunning } from "../../../src/nats/process-identity.ts";
import { StartError } from "../../../src/nats/start-error.ts";
import { recordingLogger, silentLogger } from "../../support/recording-logger.ts";

/** No process was started at that time, so this identity is of one that is gone. */
const GONE = { pid: process.pid, started: "1" };

const test = base.extend<{ folder: string; child: ChildProcess & { pid: number } }>({
  folder: async ({}, use) => {
    const folder = await mkdtemp(join(tmpdir(), "windshift-lock-"));
    await use(folder);
    await rm(folder, { recursive: true, force: true });
  },
  /** A process that does not end by SIGTERM. */
  child: async ({}, use) => {
    const child = spawn("sh", ["-c", "trap '' TERM; echo; exec sleep 1000"], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    await once(child.stdout, "data");
    await use(child as ChildProcess & { pid: number });
    child.kill("SIGKILL");
  },
});

describe("the lock of a store", () => {
  test("is there while it is held and leaves nothing", async ({ folder }) => {
    const lock = await acquire(folder);
    expect(await readdir(folder)).toEqual(["windshift.lock"]);
    await lock.release();
    expect(await readdir(folder)).toEqual([]);
  });

  test("is refused while its holder lives, with the folder and the processes", async ({ folder, child }) => {
    const lock = await acquire(folder);
    await lock.recordServer(child.pid);
    await expect(acquire(folder)).rejects.toThrow(
      new StartError(
        `NATS_DATA_DIR: "${folder}" is in use by the daemon with process id ${process.pid} ` +
          `(its nats-server is process ${child.pid}): stop that one first, or use another folder`,
      ),
    );
    await lock.release();
  });

  test("goes to exactly one of many that want it, when it is free and when its holder is gone", async ({ folder }) => {
    for (let round = 0; round < 20; round++) {
      const results = await Promise.allSettled(Array.from({ length: 20 }, () => acquire(folder)));
      const locks = results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
      expect(locks).toHaveLength(1);
      for (const result of results) {
        if (result.status === "rejected")
          expect(result.reason).toHaveProperty("message", expect.stringContaining("is in use"));
      }
      // One round in four begins with a free lock.
      await (round % 4 === 3 ? locks[0]?.release() : dieHolding(locks[0]));
      expect((await readdir(join(folder))).length).toBeLessThanOrEqual(1);
    }
    async function dieHolding(lock: StoreLock | undefined) {
      lock?.abandon();
      await rewriteRecord(folder, { holder: GONE });
    }
  });

  test("ends the nats-server of a holder that is gone, by force if need be", async ({ folder, child }) => {
    await leaveBehind(folder, child.pid);
    const exited = once(child, "exit");
    const logger = recordingLogger();
    const lock = await acquire(folder, { logger, orphanGraceMs: 100 });
    expect(await exited).toEqual([null, "SIGKILL"]);
    expect(logger.lines).toContainEqual(expect.objectContaining({ level: "warn", fields: { folder, pid: child.pid } }));
    await lock.release();
  });

  test("does not end a process that got the pid of a nats-server later", async ({ folder, child }) => {
    await leaveBehind(folder, child.pid);
    await rewriteRecord(folder, { server: { pid: child.pid, started: "1" } });
    const lock = await acquire(folder, { orphanGraceMs: 100 });
    expect(await isRunning((await identify(child.pid)) ?? GONE)).toBe(true);
    await lock.release();
  });

  test("is refused when nobody can tell whether the pid is the nats-server's", async ({ folder, child }) => {
    await leaveBehind(folder, child.pid);
    await rewriteRecord(folder, { server: { pid: child.pid, started: null } });
    for (const _ of ["first", "after a takeover that failed"]) {
      await expect(acquire(folder)).rejects.toThrow(`is still used by process ${child.pid}`);
      await rewriteRecord(folder, { holder: GONE });
    }
  });

  test("of another machine is refused while its holder touches it", async ({ folder }) => {
    const lock = await acquire(folder, { touchIntervalMs: 5 });
    await rewriteRecord(folder, { place: "elsewhere", host: "other" });
    await expect(acquire(folder)).rejects.toThrow(`process id ${process.pid} on other`);
    await lock.release();
  });

  test.each([
    ["of another machine", JSON.stringify({ place: "elsewhere", holder: GONE, server: GONE, host: "other" })],
    ["cut by a power failure", ""],
  ])("%s is taken when its holder is silent", async (_, record) => {
    const folder = await mkdtemp(join(tmpdir(), "windshift-lock-"));
    (await acquire(folder)).abandon();
    await writeFile(await recordPath(folder), record);
    const lock = await acquire(folder, { silenceMs: 100 });
    await lock.release();
    await rm(folder, { recursive: true });
  });

  test("tells its holder when somebody deletes it", async ({ folder }) => {
    const lock = await acquire(folder, { touchIntervalMs: 5 });
    await rm(join(folder, "windshift.lock"), { recursive: true });
    expect(await lock.lost).toBeInstanceOf(StartError);
  });

  test("tells its holder when another machine took it, and is not released then", async ({ folder }) => {
    const slow = await acquire(folder, { touchIntervalMs: 50 });
    await rewriteRecord(folder, { place: "elsewhere" });
    const fast = await acquire(folder, { silenceMs: 0 });
    expect(await slow.lost).toBeInstanceOf(StartError);
    await slow.release();
    await expect(acquire(folder)).rejects.toThrow("is in use");
    await fast.release();
  });

  test("needs a folder that can be written to", async ({ folder }) => {
    await writeFile(join(folder, "file"), "");
    await expect(acquire(join(folder, "file", "data"))).rejects.toThrow(/^NATS_DATA_DIR: cannot lock ".*": ENOTDIR/);
  });
});

function acquire(folder: string, options: Partial<StoreLockOptions> = {}) {
  return StoreLock.acquire({ folder, logger: silentLogger, ...options });
}

/** A lock as a killed daemon leaves it whose nats-server goes on. */
async function leaveBehind(folder: string, server: number) {
  const lock = await acquire(folder);
  await lock.recordServer(server);
  lock.abandon();
  await rewriteRecord(folder, { holder: GONE });
}

async function recordPath(folder: string) {
  const names = await readdir(join(folder, "windshift.lock"));
  const token = names.find((name) => name.startsWith("held-"));
  return join(folder, "windshift.lock", `${token?.slice("held-".length)}.json`);
}

async function rewriteRecord(folder: string, changes: object) {
  const path = await recordPath(folder);
  await writeFile(path, JSON.stringify({ ...JSON.parse(await readFile(path, "utf8")), ...changes }));
}

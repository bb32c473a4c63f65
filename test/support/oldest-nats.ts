/** The oldest nats-server that the README claims, built from its source where there is a Go toolchain. */
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run, works } from "./commands.ts";

/** The version that tests run and the README names. */
export const OLDEST_NATS = "2.10.29";

/** A binary of that version, or why there is none. Built once for each machine and kept in its temporary folder. */
export async function oldestNats(): Promise<{ readonly binary?: string; readonly reason?: string }> {
  const cache = join(tmpdir(), "windshift-nats-servers");
  const binary = join(cache, `nats-server-${OLDEST_NATS}`);
  if (existsSync(binary)) return { binary };
  if (!(await works("go", ["version"]))) return { reason: `needs Go, to build nats-server ${OLDEST_NATS}` };
  await mkdir(cache, { recursive: true });
  const folder = await mkdtemp(join(cache, "build-"));
  try {
    const env = { ...process.env, GOBIN: folder, CGO_ENABLED: "0" };
    await run("go", ["install", `github.com/nats-io/nats-server/v2@v${OLDEST_NATS}`], { cwd: folder, env });
    // One step, so that a broken build leaves no half of a binary.
    await rename(join(folder, "nats-server"), binary);
    return { binary };
  } catch (error) {
    return { reason: `nats-server ${OLDEST_NATS} could not be built: ${(error as Error).message}` };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

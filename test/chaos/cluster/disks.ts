/**
 * Disks of their own for the nodes, so that they can be full: small file systems in memory, in a mount namespace that only
 * the nodes enter. It ends with the process that holds it, so nothing stays mounted whatever ends the suite.
 */
import { type ChildProcess, execFile } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { SETPRIV, spawnBound } from "./spawn.ts";

const run = promisify(execFile);
const SIZE_MIB = 96;
const ENTER = ["--user", "--mount", "--preserve-credentials"];

/** The disks of all nodes. Disposing them loses what is on them. */
export class Disks implements AsyncDisposable {
  readonly #holder: ChildProcess;
  readonly #folders: readonly string[];

  private constructor(holder: ChildProcess, folders: readonly string[]) {
    this.#holder = holder;
    this.#folders = folders;
  }

  /** Makes `count` disks in `folder`; undefined where the system does not let us. */
  static async make(folder: string, count: number): Promise<Disks | undefined> {
    const folders = Array.from({ length: count }, (_, node) => join(folder, `disk-${node}`));
    await Promise.all(folders.map(async (path) => mkdir(path)));
    const mounts = folders.map((path) => `mount -t tmpfs -o size=${SIZE_MIB}m none '${path}'`).join(" && ");
    const script = `${mounts} && echo ready && exec sleep infinity`;
    const holder = spawnBound(["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    const said = await Promise.race([
      once(holder.stdout!, "data").then(String),
      once(holder, "close").then(() => ""),
      once(holder, "error").then(() => ""),
    ]);
    return said.startsWith("ready") ? new Disks(holder, folders) : undefined;
  }

  folder(node: number): string {
    return this.#folders[node]!;
  }

  /** A program that runs `binary` where the disks are. */
  async program(folder: string, binary: string): Promise<string> {
    const path = join(folder, "nats-server.sh");
    const enter = `nsenter --target ${this.#holder.pid} ${ENTER.join(" ")}`;
    // Whoever enters another namespace is no longer killed with its parent.
    const bond = existsSync(SETPRIV) ? `${SETPRIV} --pdeathsig KILL` : "";
    await writeFile(path, `#!/bin/sh\nexec ${enter} ${bond} '${binary}' "$@"\n`, { mode: 0o755 });
    return path;
  }

  /** Leaves no room on the disk of a node. */
  async fill(node: number): Promise<void> {
    const path = join(this.folder(node), "filler");
    // It takes what there is, and fails because that is less than what it was to take.
    await this.#enter(["dd", "if=/dev/zero", `of=${path}`, "bs=64k", `count=${SIZE_MIB * 16}`]).catch(() => undefined);
    await this.#enter(["dd", "if=/dev/zero", `of=${path}.rest`, "bs=512"]).catch(() => undefined);
  }

  /** Makes the room again. */
  async clear(node: number): Promise<void> {
    const path = join(this.folder(node), "filler");
    await this.#enter(["rm", "-f", path, `${path}.rest`]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#holder, "close");
    this.#holder.kill("SIGKILL");
    await closed;
  }

  async #enter(command: readonly string[]): Promise<void> {
    await run("nsenter", ["--target", String(this.#holder.pid), ...ENTER, "--", ...command]);
  }
}

/** Children that end with this process, whatever ends it. */
import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** From util-linux. */
export const SETPRIV = "/usr/bin/setpriv";

/** A run starts the same programs again and again: they are compiled once. */
const COMPILED = join(tmpdir(), "windshift-chaos-compiled");

/** Starts Node with these arguments. */
export function spawnNode(args: readonly string[], options: SpawnOptions): ChildProcess {
  const env = { NODE_COMPILE_CACHE: COMPILED, ...(options.env ?? process.env) };
  return spawnBound([process.execPath, ...args], { ...options, env });
}

/** Starts a program; where the system can, the kernel kills it when we die. */
export function spawnBound(command: readonly string[], options: SpawnOptions): ChildProcess {
  const [program, ...args] = existsSync(SETPRIV) ? [SETPRIV, "--pdeathsig", "KILL", ...command] : command;
  return spawn(program!, args, options);
}

/** Children that end with this process, whatever ends it. */
import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { existsSync } from "node:fs";

/** From util-linux. */
export const SETPRIV = "/usr/bin/setpriv";

/** Starts Node with these arguments. */
export function spawnNode(args: readonly string[], options: SpawnOptions): ChildProcess {
  return spawnBound([process.execPath, ...args], options);
}

/** Starts a program; where the system can, the kernel kills it when we die. */
export function spawnBound(command: readonly string[], options: SpawnOptions): ChildProcess {
  const [program, ...args] = existsSync(SETPRIV) ? [SETPRIV, "--pdeathsig", "KILL", ...command] : command;
  return spawn(program!, args, options);
}

/** Children that end with this process, whatever ends it. */
import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { existsSync } from "node:fs";

const SETPRIV = "/usr/bin/setpriv";

/** Starts Node with these arguments; where the system can, the kernel kills it when we die. */
export function spawnNode(args: readonly string[], options: SpawnOptions): ChildProcess {
  const command = existsSync(SETPRIV) ? [SETPRIV, "--pdeathsig", "KILL", process.execPath] : [process.execPath];
  return spawn(command[0]!, [...command.slice(1), ...args], options);
}

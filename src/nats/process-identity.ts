/**
 * Tells one process from another over time. A pid alone does not: the system hands it out again, and a lock file that
 * outlived its process would then name a stranger. A pid with the moment its process started is never given twice while
 * the machine runs.
 */
import { execFile } from "node:child_process";
import { readFile, readdir, readlink } from "node:fs/promises";
import { hostname } from "node:os";
import { promisify } from "node:util";

/** A process, and no later one with the same number. */
export interface ProcessIdentity {
  readonly pid: number;
  /** When it started, in the system's own terms; `null` where the system does not tell. */
  readonly started: string | null;
}

/** Where pids mean the same: one boot of one machine, and in it one namespace of pids (a container has its own). */
export type ProcessPlace = string;

/** The identity of a running process, or `undefined` when no such process runs. */
export async function identify(pid: number): Promise<ProcessIdentity | undefined> {
  switch (process.platform) {
    case "linux":
      return identifyOnLinux(pid);
    case "win32":
      return exists(pid) ? { pid, started: null } : undefined;
    default:
      return identifyWithPs(pid);
  }
}

/** Whether this very process still runs. One that ended and waits to be reaped does not. */
export async function isRunning(identity: ProcessIdentity): Promise<boolean> {
  const found = await identify(identity.pid);
  if (found === undefined) return false;
  return found.started === null || identity.started === null || found.started === identity.started;
}

/** The place that this process runs in. */
export async function currentPlace(): Promise<ProcessPlace> {
  try {
    const boot = await readFile("/proc/sys/kernel/random/boot_id", "utf8");
    return `${boot.trim()} ${await readlink("/proc/self/ns/pid")}`;
  } catch {
    return hostname();
  }
}

async function identifyOnLinux(pid: number): Promise<ProcessIdentity | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => undefined);
  if (text === undefined) return undefined;
  // The second field is the program's name in parentheses and may hold anything; state is field 3, start time field 22.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const hasEnded = fields[0] === "X" || (fields[0] === "Z" && (await countThreads(pid)) <= 1);
  return hasEnded ? undefined : { pid, started: fields[19] ?? null };
}

/** A process shows as a zombie when its first thread ended; others may still be finishing a write. */
async function countThreads(pid: number): Promise<number> {
  return (await readdir(`/proc/${pid}/task`).catch(() => [])).length;
}

async function identifyWithPs(pid: number): Promise<ProcessIdentity | undefined> {
  try {
    const { stdout } = await promisify(execFile)("ps", ["-o", "stat=", "-o", "lstart=", "-p", String(pid)], {
      env: { ...process.env, LC_ALL: "C", TZ: "UTC" },
    });
    const [state = "", ...started] = stdout.trim().split(/\s+/);
    return state === "" || state.startsWith("Z") ? undefined : { pid, started: started.join(" ") };
  } catch {
    return exists(pid) ? { pid, started: null } : undefined;
  }
}

function exists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/**
 * One run of a nats-server program as a child of ours, from the spawn to its end. Starting again is the caller's business.
 *
 * The child runs in a process group of its own, so that Ctrl-C in a terminal reaches only us and we can drain first. It
 * waits behind a gate (`sh` reading a line) until {@link ServerProcess.begin}: the caller can write its pid down before it
 * opens its store, and if we die before that, the gate sees the end of its input and nothing starts. Where `setpriv` is
 * installed (util-linux), the kernel ends the child when we die, even by SIGKILL.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { StartError } from "./start-error.ts";

/** How loud a line of the server's log is for us: its own chatter is of interest only to who looks for a fault. */
export type ServerLogLevel = "debug" | "warn" | "error";

/** How a run ended. */
export interface ServerExit {
  readonly pid: number;
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** What to run and who hears of it. */
export interface ServerProcessOptions {
  readonly binary: string;
  readonly args: readonly string[];
  /** What the server gets when this process ends without having stopped it. */
  readonly orphanSignal: "SIGTERM" | "SIGKILL";
  readonly onLog: (level: ServerLogLevel, text: string) => void;
}

const SHELL = "/bin/sh";
const GATE = 'read -r _ && exec "$@"';
const MAX_COMPLAINTS = 5;
const LEVELS: Readonly<Record<string, ServerLogLevel>> = {
  WRN: "warn",
  ERR: "error",
  FTL: "error",
};

/** Starts the program behind its gate. */
export async function spawnServer(options: ServerProcessOptions): Promise<ServerProcess> {
  const isGated = process.platform !== "win32" && existsSync(SHELL);
  const gate = isGated ? [SHELL, "-c", GATE, "nats-server"] : [];
  const deathSignal = options.orphanSignal.slice("SIG".length);
  const bond = isGated && (await canBindToParent()) ? ["setpriv", "--pdeathsig", deathSignal] : [];
  const [command = options.binary, ...args] = [...bond, ...gate, options.binary, ...options.args];
  const child = spawn(command, args, {
    detached: true,
    stdio: ["pipe", "ignore", "pipe"],
    windowsHide: true,
  });
  try {
    await once(child, "spawn");
  } catch (cause) {
    throw new StartError(`Cannot run ${options.binary}: ${(cause as Error).message}`, { cause });
  }
  return new ServerProcess(child, options);
}

/** A running nats-server; its owner calls {@link begin} once and ends it with {@link stop} or {@link kill}. */
export class ServerProcess {
  readonly pid: number;
  /** Resolves when the process is gone and its log is read to the end. */
  readonly exited: Promise<ServerExit>;
  /** The client port, once the server says that it is ready; a {@link StartError} if it ends before. */
  readonly ready: Promise<number>;
  readonly #child: ChildProcess;
  /** The first errors in its log, to say why it ended. */
  readonly #complaints: string[] = [];

  constructor(child: ChildProcess, { binary, orphanSignal, onLog }: ServerProcessOptions) {
    // "spawn" was emitted, so there is a pid.
    const pid = child.pid as number;
    this.pid = pid;
    this.#child = child;
    // A child that is gone closes its end of the gate; its exit tells the story.
    child.stdin?.on("error", () => {});
    killAtExit.set(child, orphanSignal);
    const ready = Promise.withResolvers<number>();
    this.ready = ready.promise;
    this.#readLog(onLog, ready.resolve);
    this.exited = new Promise((resolve) => {
      child.once("close", (code, signal) => {
        killAtExit.delete(child);
        const why = [describeExit(code, signal), ...this.#complaints].join("; ");
        ready.reject(new StartError(`${binary} ended before it was ready: ${why}`));
        resolve({ pid, code, signal });
      });
    });
    // Who does not wait for it learns of the end from `exited`.
    this.ready.catch(() => {});
  }

  /** Opens the gate: from here on the server uses its store. */
  begin(): void {
    this.#child.stdin?.end("\n");
  }

  /** Sends a signal; does nothing when the process is gone. */
  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Ends the server: it may finish within `graceMs`, then it is killed. */
  async stop(graceMs: number): Promise<ServerExit> {
    this.kill("SIGTERM");
    const timer = new AbortController();
    const killLate = delay(graceMs, undefined, { signal: timer.signal }).then(
      () => this.kill("SIGKILL"),
      () => {},
    );
    const exit = await this.exited;
    timer.abort();
    await killLate;
    return exit;
  }

  #readLog(onLog: ServerProcessOptions["onLog"], onReady: (port: number) => void): void {
    if (this.#child.stderr === null) return;
    let port = 0;
    createInterface({ input: this.#child.stderr }).on("line", (line) => {
      const { level, text } = parseLogLine(line);
      if (text === "") return;
      if (level === "error" && this.#complaints.length < MAX_COMPLAINTS) this.#complaints.push(text);
      // The server picks the port (`-p -1`) and binds it itself, so nobody can take it in between.
      port = Number(/^Listening for client connections on .*:(\d+)$/.exec(text)?.[1] ?? port);
      if (text === "Server is ready") onReady(port);
      onLog(level, text);
    });
  }
}

/** Splits a line of nats-server's log, `[pid] date time [LVL] text`, date and time being optional. */
export function parseLogLine(line: string): { level: ServerLogLevel; text: string } {
  const match = /^\[\d+\] (?:\d+\/\S+ \S+ )?\[([A-Z]{3})\] ?(.*)$/.exec(line);
  // What is no log line is a crash report of the runtime, a dynamic linker's or the shell's complaint.
  if (match === null) return { level: "error", text: line.trim() };
  const [, label = "", text = ""] = match;
  return { level: LEVELS[label] ?? "debug", text: text.trim() };
}

function describeExit(code: number | null, signal: NodeJS.Signals | null): string {
  return signal === null ? `exit code ${code}` : `signal ${signal}`;
}

/** The children that must not outlive this process, with what to send them. */
const killAtExit = new Map<ChildProcess, NodeJS.Signals>();
process.on("exit", () => {
  for (const [child, signal] of killAtExit) child.kill(signal);
});

let bindable: Promise<boolean> | undefined;

/** Whether the kernel can be asked, without native code, to end a child with its parent. */
function canBindToParent(): Promise<boolean> {
  bindable ??= new Promise((resolve) => {
    if (process.platform !== "linux") return resolve(false);
    execFile("setpriv", ["--pdeathsig", "TERM", SHELL, "-c", ":"], (error) => resolve(error === null));
  });
  return bindable;
}

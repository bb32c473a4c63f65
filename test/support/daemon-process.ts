/** The daemon as a process of its own: for what only a process has, such as signals, exit codes and crashes. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** A line of the log. */
export type LogLine = Readonly<Record<string, unknown>>;

/** How a process ended. */
export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** What to run; by default the sources, without arguments. */
export interface DaemonProcessOptions {
  readonly args?: readonly string[];
  /** All it gets of the environment, besides `PATH` and what makes it listen on free ports of this machine. */
  readonly env?: Record<string, string>;
  /** Arguments of Node itself. */
  readonly nodeArgs?: readonly string[];
  /** The program and its first arguments, in place of Node and `src/main.ts`. */
  readonly command?: readonly string[];
  /** The working folder. */
  readonly cwd?: string;
}

const MAIN = fileURLToPath(new URL("../../src/main.ts", import.meta.url));

/** Starts the daemon. The scope that did so disposes it, which kills what still runs. */
export function spawnDaemon(options: DaemonProcessOptions = {}): DaemonProcess {
  const [command = "", ...first] = options.command ?? [process.execPath, ...(options.nodeArgs ?? []), MAIN];
  const child = spawn(command, [...first, ...(options.args ?? [])], {
    cwd: options.cwd,
    env: { ...environment(), ...options.env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  return new DaemonProcess(child);
}

function environment(): Record<string, string> {
  const env: Record<string, string> = {
    GRPC_HOST: "127.0.0.1",
    GRPC_PORT: "0",
    HEALTH_HOST: "127.0.0.1",
    HEALTH_PORT: "0",
    SHUTDOWN_GRACE: "1s",
  };
  for (const name of ["PATH", "NATS_SERVER_BIN", "NODE_COMPILE_CACHE"]) {
    const value = process.env[name];
    if (value !== undefined) env[name] = value;
  }
  return env;
}

/** A started daemon. */
export class DaemonProcess implements AsyncDisposable {
  /** The log so far. */
  readonly log: LogLine[] = [];
  /** Resolves when the process is gone and its output is read to the end. */
  readonly exited: Promise<Exit>;
  readonly #child: ChildProcess;
  readonly #wakes = new Set<() => void>();
  #isOver = false;
  #stdout = "";
  #stderr = "";

  constructor(child: ChildProcess) {
    this.#child = child;
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      this.#stdout += text;
    });
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.#stderr += text;
    });
    if (child.stdout !== null) {
      createInterface({ input: child.stdout }).on("line", (line) => {
        if (line.startsWith("{")) this.log.push(JSON.parse(line) as LogLine);
        this.#wake();
      });
    }
    this.exited = once(child, "close").then(([code, signal]) => {
      this.#isOver = true;
      this.#wake();
      return { code: code as number | null, signal: signal as NodeJS.Signals | null };
    });
  }

  /** All of its standard output. */
  get stdout(): string {
    return this.#stdout;
  }

  /** All of its standard error. */
  get stderr(): string {
    return this.#stderr;
  }

  /** The first line of the log that fits, when it is there; rejects when the process ends without it. */
  async logged(fits: (line: LogLine) => boolean): Promise<LogLine> {
    for (;;) {
      const line = this.log.find(fits);
      if (line !== undefined) return line;
      if (this.#isOver) throw new Error(`the daemon ended early:\n${this.#stdout}${this.#stderr}`);
      await new Promise<void>((resolve) => this.#wakes.add(resolve));
    }
  }

  /** The addresses that it serves on, once it does. */
  async serving(): Promise<{ readonly grpc: string; readonly health: string }> {
    const line = await this.logged(({ msg }) => String(msg).startsWith("serving gRPC on "));
    return { grpc: String(line["grpc"]), health: String(line["health"]) };
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.kill("SIGKILL");
    await this.exited;
  }

  #wake(): void {
    const wakes = [...this.#wakes];
    this.#wakes.clear();
    for (const wake of wakes) wake();
  }
}

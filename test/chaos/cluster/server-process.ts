/** One of our servers as a process, on a port that it keeps over restarts. */
import { type ChildProcess, execFile } from "node:child_process";
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { connect } from "node:net";
import { spawnBound } from "./spawn.ts";

const START_LIMIT_MS = 60_000;
/** Several times the grace that servers get for their drain. */
const STOP_LIMIT_MS = 15_000;
const PRELOAD = fileURLToPath(new URL("preload.ts", import.meta.url));
/** Signals that `preload.ts` handles. */
const OUR_SIGNALS: readonly NodeJS.Signals[] = ["SIGHUP", "SIGUSR2"];
const run = promisify(execFile);

/** What a server is started with. */
export interface ServerOptions {
  readonly name: string;
  /** The entry, `src/main.ts` or what was built or patched of it. */
  readonly entry: string;
  /**
   * A shell command in place of it, for a server that is not ours: it gets `NATS_URL`, `GRPC_PORT` and `HEALTH_PORT`, and is
   * there when its gRPC port is. It is spared the signals that only ours knows, and asked for no metrics.
   */
  readonly command?: string | undefined;
  readonly grpcPort: number;
  readonly healthPort: number;
  readonly natsUrls: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly logFolder: string;
}

/** What a server uses. */
export interface Usage {
  readonly rssBytes: number;
  readonly descriptors: number;
  /** Timers that run; 0 for a server that is not ours. */
  readonly timers: number;
  /** Sums over all series, by name. */
  readonly metrics: Readonly<Record<string, number>>;
}

/** A server. Disposing it kills it. */
export class ServerProcess implements AsyncDisposable {
  readonly options: ServerOptions;
  /** Times it ended although nobody asked it to. */
  readonly crashes: string[] = [];
  #child: ChildProcess | undefined;
  #expected = false;
  #lastLines: string[] = [];

  constructor(options: ServerOptions) {
    this.options = options;
  }

  get pid(): number | undefined {
    return this.#child?.exitCode === null && this.#child.signalCode === null ? this.#child.pid : undefined;
  }

  /** Starts it and waits until it serves. */
  async start(): Promise<void> {
    const { entry, command, grpcPort, healthPort, natsUrls, env, name, logFolder } = this.options;
    this.#expected = false;
    const ours = [process.execPath, "--expose-gc", "--import", PRELOAD, entry];
    const child = spawnBound(command === undefined ? ours : ["/bin/sh", "-c", command], {
      env: {
        PATH: process.env["PATH"],
        GRPC_HOST: "127.0.0.1",
        GRPC_PORT: String(grpcPort),
        HEALTH_HOST: "127.0.0.1",
        HEALTH_PORT: String(healthPort),
        NATS_URL: natsUrls.join(","),
        CHAOS_TIMERS: this.#timersFile,
        ...env,
      },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#child = child;
    const log = createWriteStream(join(logFolder, `${name}.log`), { flags: "a" });
    child.stdout!.pipe(log, { end: false });
    child.stderr!.pipe(log, { end: false });
    for (const stream of [child.stdout!, child.stderr!]) {
      createInterface({ input: stream }).on("line", (line) => {
        this.#lastLines = [...this.#lastLines.slice(-4), line];
      });
    }
    child.once("close", (code, signal) => {
      log.end();
      if (!this.#expected) this.crashes.push(`${name} ended (${signal ?? code}): ${this.#lastLines.join("\n")}`);
    });
    const end = performance.now() + START_LIMIT_MS;
    while (!(await this.#isAlive())) {
      if (this.pid === undefined || performance.now() > end) {
        throw new Error(`${name} did not start: ${this.#lastLines.join("\n")}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  signal(signal: NodeJS.Signals): void {
    if (this.pid === undefined || (this.#isForeign && OUR_SIGNALS.includes(signal))) return;
    process.kill(this.pid, signal);
  }

  /** Sends SIGTERM or SIGKILL and waits for the end. */
  async end(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    const child = this.#child;
    if (child === undefined || this.pid === undefined) return;
    this.#expected = true;
    const closed = once(child, "close");
    child.kill(signal);
    const timer = setTimeout(() => child.kill("SIGKILL"), STOP_LIMIT_MS);
    const [code, by] = (await closed) as [number | null, NodeJS.Signals | null];
    clearTimeout(timer);
    if (signal === "SIGTERM" && code !== 0) this.crashes.push(`${this.options.name} ended by ${by ?? code} on SIGTERM`);
  }

  /** Limits the files it may have open; undefined for what it had at first. */
  async limitFiles(count: number | undefined): Promise<void> {
    if (this.pid === undefined) return;
    const soft = count ?? 1024;
    await run("prlimit", ["--pid", String(this.pid), `--nofile=${soft}:`]).catch(() => undefined);
  }

  /** Files it has open now. */
  async descriptors(): Promise<number> {
    return (await readdir(`/proc/${this.pid}/fd`).catch(() => [])).length;
  }

  /** What it uses after a garbage collection; undefined when it does not answer. */
  async usage(): Promise<Usage | undefined> {
    this.signal("SIGHUP");
    try {
      if (this.#isForeign) return { ...(await this.#processUsage()), metrics: {} };
      const response = await fetch(`http://127.0.0.1:${this.options.healthPort}/metrics`, {
        signal: AbortSignal.timeout(3_000),
      });
      const metrics: Record<string, number> = {};
      for (const line of (await response.text()).split("\n")) {
        const match = /^([a-zA-Z_:][\w:]*)(?:\{.*\})? (\S+)/.exec(line);
        if (match !== null) metrics[match[1]!] = (metrics[match[1]!] ?? 0) + Number(match[2]);
      }
      return { ...(await this.#processUsage()), metrics };
    } catch {
      return undefined;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.signal("SIGCONT");
    await this.end("SIGKILL");
  }

  get #isForeign(): boolean {
    return this.options.command !== undefined;
  }

  get #timersFile(): string {
    return join(this.options.logFolder, `${this.options.name}.timers`);
  }

  async #processUsage(): Promise<Omit<Usage, "metrics">> {
    const timers = Number(await readFile(this.#timersFile, "utf8").catch(() => "0"));
    const status = await readFile(`/proc/${this.pid}/status`, "utf8");
    const rss = Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1] ?? 0) * 1024;
    return { rssBytes: rss, descriptors: await this.descriptors(), timers };
  }

  async #isAlive(): Promise<boolean> {
    if (this.#isForeign) return isListening(this.options.grpcPort);
    try {
      const url = `http://127.0.0.1:${this.options.healthPort}/healthz`;
      return (await fetch(url, { signal: AbortSignal.timeout(1_000) })).ok;
    } catch {
      return false;
    }
  }
}

async function isListening(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect({ port, host: "127.0.0.1" });
  socket.once("connect", () => resolve(true));
  socket.once("error", () => resolve(false));
  const answer = await promise;
  socket.destroy();
  return answer;
}

/** A client process of the workload; each start of it is another incarnation with a history of its own. */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Orders } from "../workload.ts";
import { spawnNode } from "./spawn.ts";

const WORKLOAD = fileURLToPath(new URL("../workload.ts", import.meta.url));

/** A client process. Disposing it kills it. */
export class ClientProcess implements AsyncDisposable {
  readonly #orders: Orders;
  readonly #logFolder: string;
  /** Times it ended although nobody asked it to. */
  readonly crashes: string[] = [];
  #child: ChildProcess | undefined;
  #incarnation = 0;
  #expected = false;
  #isQuiet = false;

  constructor(orders: Orders, logFolder: string) {
    this.#orders = orders;
    this.#logFolder = logFolder;
  }

  get name(): string {
    return this.#orders.name;
  }

  /** False also for one that is on its way out. */
  get isRunning(): boolean {
    const child = this.#child;
    return child !== undefined && child.connected && child.exitCode === null && child.signalCode === null;
  }

  async start(): Promise<void> {
    this.#incarnation += 1;
    this.#expected = false;
    this.#isQuiet = false;
    const name = `${this.#orders.name}-${this.#incarnation}`;
    const orders: Orders = { ...this.#orders, name, seed: this.#orders.seed + this.#incarnation };
    const child = spawnNode([WORKLOAD, JSON.stringify(orders)], { stdio: ["ignore", "pipe", "pipe", "ipc"] });
    this.#child = child;
    const log = createWriteStream(join(this.#logFolder, `${name}.log`), { flags: "a" });
    let tail = "";
    for (const stream of [child.stdout!, child.stderr!]) {
      stream.on("data", (chunk: Buffer) => {
        log.write(chunk);
        tail = (tail + chunk.toString()).slice(-1000);
      });
    }
    child.once("close", (code, signal) => {
      log.end();
      if (!this.#expected && code !== 0) this.crashes.push(`${name} ended (${signal ?? code}): ${tail}`);
    });
    child.on("message", (message) => {
      if (message === "quiet") this.#isQuiet = true;
    });
    await once(child, "message");
  }

  signal(signal: NodeJS.Signals): void {
    if (this.isRunning) process.kill(this.#child!.pid!, signal);
  }

  async kill(): Promise<void> {
    if (!this.isRunning) return;
    this.#expected = true;
    const closed = once(this.#child!, "close");
    this.#child!.kill("SIGKILL");
    await closed;
  }

  /** Makes no new work; false when it did not get there in time. */
  async quiet(limitMs: number): Promise<boolean> {
    if (!this.isRunning) return true;
    this.#tell("quiet");
    const end = performance.now() + limitMs;
    while (!this.#isQuiet && this.isRunning && performance.now() < end) {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    return this.#isQuiet;
  }

  /** Ends it as a client does that has time; kills it when that takes too long. */
  async stop(limitMs: number): Promise<boolean> {
    if (!this.isRunning) return true;
    const closed = once(this.#child!, "close");
    this.#tell("stop");
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      this.#expected = true;
      this.#child!.kill("SIGKILL");
    }, limitMs);
    await closed;
    clearTimeout(timer);
    return !late;
  }

  /** One that ends in this moment does not need to be told. */
  #tell(what: "quiet" | "stop"): void {
    this.#child!.send(what, () => undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.signal("SIGCONT");
    await this.kill();
  }
}

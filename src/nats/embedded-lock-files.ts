/**
 * The files of a store's lock and the three changes to them that only one of many can make.
 *
 * The lock is the folder `windshift.lock` in the store, with two files: `held-<id>`, an empty token whose *name* says who
 * holds the lock, and `<id>.json`, the record of that holder.
 *
 * - Creation: the folder is filled under another name and renamed into place, which works once.
 * - Takeover from a holder that is gone: `held-<old>` is renamed to `held-<new>`. An id is never used twice, so of any
 *   number of contenders, however late they wake up, exactly one rename finds its source. The record is written first.
 * - Removal: the folder is renamed away, then deleted.
 */
import { access, mkdir, readFile, readdir, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { ProcessIdentity, ProcessPlace } from "./process-identity.ts";
import { StartError } from "./start-error.ts";

/** What a holder writes down of itself. */
export interface LockRecord {
  readonly holder: ProcessIdentity;
  /** The nats-server that uses the store, or that the holder before this one left behind. */
  readonly server: ProcessIdentity | null;
  readonly place: ProcessPlace;
  readonly host: string;
}

/** A lock that somebody holds. */
export interface FoundLock {
  readonly id: string;
  readonly record: LockRecord;
  /** When the holder last touched its record, by the clock of the file system. */
  readonly touchedMs: number;
}

const LOCK = "windshift.lock";
const TOKEN = "held-";

/** Makes the lock where there is none; false when there is one. */
export async function createLock(folder: string, id: string, record: LockRecord): Promise<boolean> {
  if (await exists(lockPath(folder))) return false;
  const draft = `${lockPath(folder)}-${id}`;
  try {
    await mkdir(draft, { recursive: true });
    await writeFile(join(draft, `${id}.json`), JSON.stringify(record));
    await writeFile(join(draft, TOKEN + id), "");
    // A folder replaces only an empty one.
    await rename(draft, lockPath(folder));
    return true;
  } catch (error) {
    await rm(draft, { recursive: true, force: true }).catch(() => {});
    if (hasCode(error, "ENOTEMPTY") || hasCode(error, "EEXIST")) return false;
    throw unusable(folder, error);
  }
}

/** Who holds the lock; `undefined` when there is none or it changed hands while it was read. */
export async function readLock(folder: string): Promise<FoundLock | undefined> {
  try {
    const names = await readdir(lockPath(folder));
    const id = names.find((name) => name.startsWith(TOKEN))?.slice(TOKEN.length);
    if (id === undefined) return undefined;
    const record = parseRecord(await readFile(recordPath(folder, id), "utf8"));
    return { id, record, touchedMs: (await stat(recordPath(folder, id))).mtimeMs };
  } catch (error) {
    if (hasCode(error, "ENOENT")) return undefined;
    throw unusable(folder, error);
  }
}

/** Makes the lock of the holder `oldId` ours; false when somebody else was faster. */
export async function takeLock(folder: string, oldId: string, id: string, record: LockRecord): Promise<boolean> {
  try {
    await writeFile(recordPath(folder, id), JSON.stringify(record));
    await rename(tokenPath(folder, oldId), tokenPath(folder, id));
  } catch (error) {
    await rm(recordPath(folder, id), { force: true }).catch(() => {});
    if (hasCode(error, "ENOENT")) return false;
    throw unusable(folder, error);
  }
  await rm(recordPath(folder, oldId), { force: true });
  return true;
}

/** Whether the lock is still held under this id. */
export async function isLockHeldBy(folder: string, id: string): Promise<boolean> {
  try {
    await access(tokenPath(folder, id));
    return true;
  } catch (error) {
    // A disk that fails is no proof that somebody else holds the lock.
    return !hasCode(error, "ENOENT");
  }
}

/** Changes the record of the holder `id`; whoever reads it sees the old or the new one. */
export async function writeRecord(folder: string, id: string, record: LockRecord): Promise<void> {
  const draft = `${recordPath(folder, id)}.new`;
  await writeFile(draft, JSON.stringify(record));
  await rename(draft, recordPath(folder, id));
}

/** Shows who watches that the holder `id` lives. */
export async function touchRecord(folder: string, id: string): Promise<void> {
  const now = new Date();
  await utimes(recordPath(folder, id), now, now).catch(() => {});
}

/** Deletes the lock that is held under this id. */
export async function removeLock(folder: string, id: string): Promise<void> {
  const gone = `${lockPath(folder)}-${id}`;
  await rename(lockPath(folder), gone);
  await rm(gone, { recursive: true, force: true });
}

/** The folder of the lock, for messages. */
export function lockPath(folder: string): string {
  return join(folder, LOCK);
}

function tokenPath(folder: string, id: string): string {
  return join(folder, LOCK, TOKEN + id);
}

function recordPath(folder: string, id: string): string {
  return join(folder, LOCK, `${id}.json`);
}

function parseRecord(text: string): LockRecord {
  try {
    return JSON.parse(text) as LockRecord;
  } catch {
    // Records appear whole; one that is not was cut by a power failure. Like any lock of an earlier boot, it is watched.
    return { holder: { pid: 0, started: null }, server: null, place: "unknown", host: "unknown" };
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

function unusable(folder: string, cause: unknown): StartError {
  const { message } = cause as Error;
  return new StartError(`NATS_DATA_DIR: cannot lock ${JSON.stringify(folder)}: ${message}`, {
    cause,
  });
}

function hasCode(error: unknown, code: string): boolean {
  return (error as NodeJS.ErrnoException).code === code;
}

/** Requests of the JetStream API that only administration needs: names in pages, deleting, purging, pausing, resetting. */
import type { ConsumerInfo } from "@nats-io/jetstream";
import { WindshiftError } from "../errors.ts";
import { isName } from "../names.ts";
import type { ApiCall, JetStreamApi } from "./api.ts";
import { isOwnConsumer } from "./own-consumers.ts";
import { nanoseconds } from "./units.ts";

/** Where names come from: all streams, or the consumers of one. */
export type NameList = "STREAM.NAMES" | `CONSUMER.NAMES.${string}`;

interface NamesPage {
  readonly total: number;
  readonly streams?: readonly string[] | null;
  readonly consumers?: readonly string[] | null;
}

const MAX_WALKS = 10;
const RETRY_AFTER_MS = 500;
const WAKE_MS = 1_000;

/**
 * The first `count` names after `after`, in the order of their bytes; those that the contract cannot say are left out,
 * and consumers of our own. nats-server counts from the start of its sorted list: each page asked for begins with the last name of the one before,
 * so that what is made or deleted meanwhile is noticed, and the walk begins again.
 */
export async function namesAfter(
  api: JetStreamApi,
  list: NameList,
  after: string,
  count: number,
  call: ApiCall,
): Promise<string[]> {
  for (let walk = 0; walk < MAX_WALKS; walk++) {
    const names = await walkNames(api, list, after, count, call);
    if (names !== undefined) return names;
  }
  throw new WindshiftError("NATS_UNAVAILABLE", `${list} changes faster than it can be read`, {
    retryAfterMs: RETRY_AFTER_MS,
  });
}

/** Undefined where the list changed between two pages. */
async function walkNames(
  api: JetStreamApi,
  list: NameList,
  after: string,
  count: number,
  call: ApiCall,
): Promise<string[] | undefined> {
  const found: string[] = [];
  let last: string | undefined;
  for (let offset = 0; ;) {
    const page = await api.request<NamesPage>(list, { offset }, call);
    const names = page.streams ?? page.consumers ?? [];
    if (last !== undefined && names[0] !== last) return undefined;
    const fresh = last === undefined ? names : names.slice(1);
    found.push(...fresh.filter((name) => name > after && isListed(name, list)));
    if (found.length >= count) return found.slice(0, count);
    if (fresh.length === 0 || offset + names.length >= page.total) return found;
    last = names.at(-1);
    offset += names.length - 1;
  }
}

function isListed(name: string, list: NameList): boolean {
  return isName(name) && (list === "STREAM.NAMES" || !isOwnConsumer(name));
}

/** Rejects with STREAM_NOT_FOUND where there is none. */
export async function deleteStream(api: JetStreamApi, stream: string, call: ApiCall): Promise<void> {
  await api.request(`STREAM.DELETE.${stream}`, undefined, { write: true, names: { stream }, ...call });
}

/** What to remove of a stream; with neither `seq` nor `keep` all that matches. */
export interface Purge {
  readonly filter?: string;
  /** Messages before this sequence. 1 would remove all (seen with 2.14). */
  readonly seq?: number;
  /** All but the last ones. */
  readonly keep?: number;
}

/** Returns how many messages were removed. */
export async function purgeStream(api: JetStreamApi, stream: string, purge: Purge, call: ApiCall): Promise<number> {
  const request = { write: true, names: { stream }, ...call };
  const { purged } = await api.request<{ purged: number }>(`STREAM.PURGE.${stream}`, purge, request);
  return purged;
}

/** Pauses a consumer until a time (RFC 3339), or lets it go on. Returns the time that NATS has. */
export async function pauseConsumer(
  api: JetStreamApi,
  stream: string,
  consumer: string,
  until: string | undefined,
  call: ApiCall,
): Promise<string> {
  const body = until === undefined ? {} : { pause_until: until };
  const request = { write: true, names: { stream, consumer }, ...call };
  const path = `CONSUMER.PAUSE.${stream}.${consumer}`;
  const { pause_until } = await api.request<{ pause_until: string }>(path, body, request);
  return pause_until;
}

/**
 * Has a consumer look for work. One that is resumed does so at its next heartbeat only, which can be 10 s (seen with 2.14);
 * a pull wakes it, and nothing is small enough to be delivered to this one.
 */
export function wakeConsumer({ connection }: JetStreamApi, stream: string, consumer: string): void {
  const body = Buffer.from(`{"batch":1,"max_bytes":1,"expires":${nanoseconds(WAKE_MS)}}`);
  const subject = `${connection.apiPrefix}.CONSUMER.MSG.NEXT.${stream}.${consumer}`;
  connection.request(subject, "", body, WAKE_MS, { onReply: () => undefined, onNoReply: () => undefined });
}

/** Sets a consumer to the event with this sequence, or the next one that there is. */
export async function resetConsumer(
  api: JetStreamApi,
  stream: string,
  consumer: string,
  seq: number,
  call: ApiCall,
): Promise<ConsumerInfo> {
  const request = { write: true, names: { stream, consumer }, ...call };
  return api.request<ConsumerInfo>(`CONSUMER.RESET.${stream}.${consumer}`, { seq }, request);
}

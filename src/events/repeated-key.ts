/**
 * A key that JetStream knows, in a stream that schedules events: it is that of a stored event, of one that waits for its
 * time or has appeared, or of one that was taken back. JetStream takes them all for duplicates, and answers with the place
 * where an event waited as if that were the event.
 *
 * What was taken back has left a mark. An event with its key is new then, and is stored under another message id, which is
 * the same for each repeat of it.
 */
import type { JetStreamApi } from "../nats/api.ts";
import { lookAfter } from "../nats/certain-read.ts";
import { type LeaderReader, type StoredMessage, storedHeader } from "../nats/get.ts";
import type { PublishAck, Publisher } from "../nats/publish.ts";
import { withMessageId } from "./headers.ts";
import { type PreparedEvent, checkSize } from "./new-event.ts";
import { cancellation, isCancellation, isScheduleSubject, messageIdAfter, scheduleSubject } from "./schedule.ts";

/** A publish whose key is known. */
export interface RepeatedKey {
  readonly stream: string;
  readonly subject: string;
  readonly key: string;
  /** What JetStream knows the key by. */
  readonly sequence: bigint;
  readonly deadlineMs: number;
}

/**
 * What has the key: an event; one that was scheduled, with 0n while it waits; one of the two that is not found any more; or
 * one that was taken back, whose key is free.
 */
export type KeyOwner =
  | { readonly kind: "event" | "scheduled" | "gone"; readonly id: bigint }
  | { readonly kind: "cancelled"; readonly mark: bigint };

/** Finds what has a known key. Rejects where that is not certain: whoever hears of an id has to find the event stored. */
export async function ownerOf(reader: LeaderReader, repeated: RepeatedKey): Promise<KeyOwner> {
  const { stream, subject, key, sequence, deadlineMs } = repeated;
  const first = await reader.at(stream, sequence, deadlineMs);
  if (first !== undefined) {
    if (!isScheduleSubject(first.subject)) return { kind: "event", id: sequence };
    return isCancellation(first) ? { kind: "cancelled", mark: sequence } : { kind: "scheduled", id: 0n };
  }
  const place = scheduleSubject(stream, key);
  const look = async (): Promise<StoredMessage | undefined> => reader.lastOf(stream, place, deadlineMs);
  const later = await lookAfter(reader, stream, sequence, deadlineMs, look);
  if (later !== undefined && later.sequence > sequence) {
    return isCancellation(later) ? { kind: "cancelled", mark: later.sequence } : { kind: "scheduled", id: 0n };
  }
  // It has appeared, most likely as the first or last event of its subject since; or the stream keeps it no longer.
  const next = await reader.firstAfter(stream, subject, sequence, deadlineMs);
  if (isFrom(place, next)) return { kind: "scheduled", id: next.sequence };
  const last = next === undefined ? undefined : await reader.lastOf(stream, subject, deadlineMs);
  return isFrom(place, last) ? { kind: "scheduled", id: last.sequence } : { kind: "gone", id: sequence };
}

function isFrom(place: string, message: StoredMessage | undefined): message is StoredMessage {
  return message !== undefined && storedHeader(message, "Nats-Scheduler") === place;
}

/**
 * The mark that has freed a key which JetStream knows, or undefined. JetStream is asked by setting the mark once more: as a
 * duplicate it changes nothing, and the answer tells whether the key is known of what was before the mark.
 */
export async function freedBy(
  api: JetStreamApi,
  { reader, publisher }: { readonly reader: LeaderReader; readonly publisher: Publisher },
  { stream, key, deadlineMs }: Omit<RepeatedKey, "subject" | "sequence">,
): Promise<bigint | undefined> {
  const place = scheduleSubject(stream, key);
  const mark = await reader.lastOf(stream, place, deadlineMs);
  if (mark === undefined || !isCancellation(mark)) return undefined;
  const { config } = await api.streamInfo(stream, { deadlineMs });
  const message = cancellation(place, mark.sequence, config, key);
  const { promise, resolve, reject } = Promise.withResolvers<PublishAck>();
  publisher.publish({ ...message, deadlineMs, repeatable: true }, { onStored: resolve, onFailed: reject });
  const { duplicate, sequence } = await promise;
  if (!duplicate) return sequence;
  return sequence <= mark.sequence ? mark.sequence : undefined;
}

/** The event with the key that was freed by this mark, as JetStream takes it once. */
export function withFreedKey(event: PreparedEvent, mark: bigint, maxPayload: number): PreparedEvent {
  const { key, headers } = event;
  if (key === undefined) return event;
  const freed = { ...event, headers: withMessageId(headers, key, messageIdAfter(mark, key)) };
  checkSize(freed, maxPayload);
  return freed;
}

/**
 * The event that was stored under the key on the condition that `expected` was the last id: if it is there, it is the first
 * of its subject after that one. Rejects where that is not certain.
 */
export async function storedAfter(
  reader: LeaderReader,
  { stream, subject, key, deadlineMs }: Omit<RepeatedKey, "sequence">,
  expected: bigint,
): Promise<StoredMessage | undefined> {
  const look = async (): Promise<StoredMessage | undefined> => reader.firstAfter(stream, subject, expected, deadlineMs);
  const next = await lookAfter(reader, stream, expected, deadlineMs, look);
  return next !== undefined && hasKey(next, key) ? next : undefined;
}

/** Whether an event was stored under this key. */
export function hasKey(message: StoredMessage, key: string): boolean {
  if (storedHeader(message, "Nats-Msg-Id") === key) return true;
  // A replay has the key of the event that it repeats.
  const isReplay = storedHeader(message, "WS-Replay-Consumer") !== undefined;
  return !isReplay && storedHeader(message, "WS-Idempotency-Key") === key;
}

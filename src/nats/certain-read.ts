/**
 * Reads that may be believed when they find nothing.
 *
 * nats-server says "no message found" whatever keeps it from reading: also while a leader gives up JetStream because its disk
 * is full. Before anything is thrown away because a message is gone, that has to be certain. A later message in its place
 * proves it. Where there is none, a second look has to find nothing either, by a leader that is followed and has come as far.
 * After each look another message has to be read: a leader that has given up reads none any more. Where there is no other, the
 * second look comes so late that who gave up would have lost its followers.
 */
import { WindshiftError, quote } from "../errors.ts";
import type { LeaderReader, StoredMessage } from "./get.ts";

/** Who does not lead any more is followed for two seconds at most (`Reader.progress`). */
const LOOK_AGAIN_MS = 2_500;
const RETRY_AFTER_MS = 1_000;

/** The message with this sequence; undefined: it is certain that it is gone. Rejects with NO_LEADER where nobody knows. */
export async function readStored(
  reader: LeaderReader,
  stream: string,
  sequence: bigint,
  deadlineMs: number,
): Promise<StoredMessage | undefined> {
  const look = async (): Promise<StoredMessage | undefined> =>
    reader.firstAfter(stream, ">", sequence - 1n, deadlineMs);
  const found = await lookTwice(reader, stream, sequence, deadlineMs, look);
  return found?.sequence === sequence ? found : undefined;
}

/**
 * What `look` finds in a stream that has come as far as `sequence`; undefined: it is certain that there is nothing. Rejects
 * with NO_LEADER where nobody knows.
 */
export async function lookTwice<Found>(
  reader: LeaderReader,
  stream: string,
  sequence: bigint,
  deadlineMs: number,
  look: () => Promise<Found | undefined>,
): Promise<Found | undefined> {
  const found = await look();
  if (found !== undefined) return found;
  const canRead = async (): Promise<boolean> => (await reader.firstAfter(stream, ">", 0n, deadlineMs)) !== undefined;
  if (!(await canRead())) {
    if (Date.now() + LOOK_AGAIN_MS >= deadlineMs) throw doubtful(stream);
    // A test has to be able to turn the clock, which it cannot for `node:timers/promises`.
    await new Promise<void>((wake) => setTimeout(wake, LOOK_AGAIN_MS));
  }
  const later = await look();
  if (later !== undefined) return later;
  const { lastSequence, isEmpty, isFollowed } = await reader.progress(stream, deadlineMs);
  const isCertain = isFollowed && lastSequence >= sequence && (isEmpty || (await canRead()));
  if (!isCertain) throw doubtful(stream);
  return undefined;
}

/**
 * What `look` finds of what was stored after `sequence`; undefined: there is nothing. Sooner than {@link lookTwice} where the
 * stream has come no further: it tells that without reading a message.
 */
export async function lookAfter<Found>(
  reader: LeaderReader,
  stream: string,
  sequence: bigint,
  deadlineMs: number,
  look: () => Promise<Found | undefined>,
): Promise<Found | undefined> {
  const found = await look();
  if (found !== undefined) return found;
  const { lastSequence, isEmpty, isFollowed } = await reader.progress(stream, deadlineMs);
  if (isFollowed && (isEmpty || lastSequence <= sequence)) return undefined;
  return lookTwice(reader, stream, lastSequence, deadlineMs, look);
}

function doubtful(stream: string): WindshiftError {
  const text = `stream ${quote(stream)} finds nothing, and it is not certain that there is nothing`;
  return new WindshiftError("NO_LEADER", text, { metadata: { stream }, retryAfterMs: RETRY_AFTER_MS });
}

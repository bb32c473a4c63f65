/**
 * Reads that may be believed when they find nothing.
 *
 * nats-server says "no message found" whatever keeps it from reading: also while a leader gives up JetStream because its disk
 * is full. Before anything is thrown away because a message is gone, that has to be certain. A later message in its place
 * proves it. Where there is none, a second look has to find nothing either, after so long that who gave up would have lost
 * its followers, by a leader that has come as far and can read other messages.
 */
import { WindshiftError, quote } from "../errors.ts";
import type { Reader, StoredMessage } from "./get.ts";

/** Who does not lead any more is followed for two seconds at most (`Reader.progress`). */
const LOOK_AGAIN_MS = 2_500;
const RETRY_AFTER_MS = 1_000;

/** The message with this sequence; undefined: it is certain that it is gone. Rejects with NO_LEADER where nobody knows. */
export async function readStored(
  reader: Reader,
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
  reader: Reader,
  stream: string,
  sequence: bigint,
  deadlineMs: number,
  look: () => Promise<Found | undefined>,
): Promise<Found | undefined> {
  const found = await look();
  if (found !== undefined) return found;
  if (Date.now() + LOOK_AGAIN_MS >= deadlineMs) throw doubtful(stream);
  await new Promise<void>((wake) => setTimeout(wake, LOOK_AGAIN_MS));
  const later = await look();
  if (later !== undefined) return later;
  const { lastSequence, isEmpty, isFollowed } = await reader.progress(stream, deadlineMs);
  const canRead = isEmpty || (await reader.firstAfter(stream, ">", 0n, deadlineMs)) !== undefined;
  if (!isFollowed || !canRead || lastSequence < sequence) throw doubtful(stream);
  return undefined;
}

function doubtful(stream: string): WindshiftError {
  const text = `stream ${quote(stream)} finds nothing, and it is not certain that there is nothing`;
  return new WindshiftError("NO_LEADER", text, { metadata: { stream }, retryAfterMs: RETRY_AFTER_MS });
}

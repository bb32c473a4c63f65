/**
 * How a consumer that was reset is told from what it was before: nothing else of it may have changed. The mark is in its own
 * metadata, another one with each reset.
 */
import type { ConsumerConfig } from "@nats-io/jetstream";
import { WindshiftError } from "../errors.ts";

/** Where the metadata of a consumer has it. */
export const RESET_KEY = "windshift.reset";

const RETRY_AFTER_MS = 100;

/** The mark of the last reset; undefined before the first. */
export function resetMark({ metadata }: Pick<ConsumerConfig, "metadata">): string | undefined {
  return metadata?.[RESET_KEY];
}

/** What ends a subscription to a consumer that is set to another place. */
export function resetError(stream: string, consumer: string): WindshiftError {
  const text = `consumer ${JSON.stringify(consumer)} of stream ${JSON.stringify(stream)} is set to another place: subscribe again`;
  return new WindshiftError("CONSUMER_RESET", text, {
    metadata: { stream, consumer },
    retryAfterMs: RETRY_AFTER_MS,
  });
}

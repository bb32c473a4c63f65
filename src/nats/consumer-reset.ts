/**
 * How a consumer that was reset is told from what it was before: nothing else of it may have changed. The mark is in its own
 * metadata, another one with each reset. It says when that was, unless the consumer was made again: then that does.
 */
import { randomUUID } from "node:crypto";
import type { ConsumerConfig, ConsumerInfo } from "@nats-io/jetstream";
import { WindshiftError } from "../errors.ts";

/** Where the metadata of a consumer has it. */
export const RESET_KEY = "windshift.reset";

const RETRY_AFTER_MS = 100;
const MARK = /^(\d{4}-\d\d-\d\dT\S+) /;

/** A mark for a reset at that time (RFC 3339), by the clock of NATS. */
export function newResetMark(at: string): string {
  return `${at} ${randomUUID()}`;
}

/** The mark of the last reset; undefined before the first. */
export function resetMark({ metadata }: Pick<ConsumerConfig, "metadata">): string | undefined {
  return metadata?.[RESET_KEY];
}

/** Since when the consumer is what it is, in milliseconds since the epoch: it was made then, or reset. */
export function beganAt({ created, config }: Pick<ConsumerInfo, "created" | "config">): number {
  const [, resetAt] = MARK.exec(resetMark(config) ?? "") ?? [];
  return Math.max(Date.parse(created), resetAt === undefined ? 0 : Date.parse(resetAt));
}

/** What ends a subscription to a consumer that is set to another place. */
export function resetError(stream: string, consumer: string): WindshiftError {
  const text = `consumer ${JSON.stringify(consumer)} of stream ${JSON.stringify(stream)} is set to another place: subscribe again`;
  return new WindshiftError("CONSUMER_RESET", text, {
    metadata: { stream, consumer },
    retryAfterMs: RETRY_AFTER_MS,
  });
}

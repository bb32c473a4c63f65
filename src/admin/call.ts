/** What all of administration shares: who asks, where it is written down, and what a list says of what cannot be asked. */
import { WindshiftError } from "../errors.ts";
import type { ApiCall } from "../nats/api.ts";

/** One call of administration. */
export interface AdminCall extends ApiCall {
  /** Whom it came from, for the log. */
  readonly by: string;
}

/** Where changes are written down. */
export interface AdminLogger {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** In a list: what there is, or why there is nothing but the name. */
export type Listed<Entry> = Entry | Unanswered;

/** Something that is there and cannot be asked. */
export interface Unanswered {
  readonly name: string;
  readonly error: WindshiftError;
}

/** What `look` finds; undefined for what is gone; without a leader there is only the name. */
export async function listed<Entry>(
  name: string,
  look: () => Promise<Entry | undefined>,
): Promise<Listed<Entry> | undefined> {
  try {
    return await look();
  } catch (error) {
    if (!(error instanceof WindshiftError)) throw error;
    if (error.reason === "STREAM_NOT_FOUND" || error.reason === "CONSUMER_NOT_FOUND") return undefined;
    if (error.reason === "NO_LEADER") return { name, error };
    throw error;
  }
}

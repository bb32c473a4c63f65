/** What all of administration shares: who asks, where it is written down, and what a list says of what cannot be asked. */
import { type Reason, WindshiftError, quote } from "../errors.ts";
import type { ApiCall, JetStreamApi } from "../nats/api.ts";

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

/** In a list, one that does not answer holds up the others no longer than this. */
const LOOK_MS = 2_000;
const GONE = new Set<Reason>(["STREAM_NOT_FOUND", "CONSUMER_NOT_FOUND"]);
const UNANSWERED = new Set<Reason>(["NO_LEADER", "NATS_UNAVAILABLE", "DEADLINE_EXCEEDED"]);

/** What `look` finds; undefined for what is gone. Of what does not answer, while NATS does, there is only the name. */
export async function listed<Entry>(
  api: JetStreamApi,
  name: string,
  call: AdminCall,
  look: (call: ApiCall) => Promise<Entry | undefined>,
): Promise<Listed<Entry> | undefined> {
  const { deadlineMs = Infinity } = call;
  try {
    return await look({ ...call, deadlineMs: Math.min(deadlineMs, Date.now() + LOOK_MS) });
  } catch (error) {
    if (!(error instanceof WindshiftError)) throw error;
    if (GONE.has(error.reason)) return undefined;
    if (!UNANSWERED.has(error.reason) || !api.connection.connected || Date.now() >= deadlineMs) throw error;
    return { name, error: error.reason === "DEADLINE_EXCEEDED" ? silent(name) : error };
  }
}

/** The leader's node is gone, and the cluster has not noticed yet. */
function silent(name: string): WindshiftError {
  return new WindshiftError("NATS_UNAVAILABLE", `${quote(name)} did not answer within ${LOOK_MS} ms`);
}

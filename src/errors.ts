/**
 * The one error class of the project and its closed list of reasons. Code decides by `reason`; people read `message`.
 * The gRPC door (`grpc/errors.ts`) turns a reason into a status, and clients see the same words in
 * `google.rpc.ErrorInfo.reason`. `docs/errors.md` says for each what to do about it.
 */

/** Every reason a call can fail for, spelled as clients see it. */
export const REASONS = [
  // The request is wrong, whatever the state of the system.
  "INVALID_NAME",
  "INVALID_SUBJECT",
  "INVALID_KEY",
  "INVALID_VALUE",
  "MISSING_FIELD",
  "CONFLICTING_FIELDS",
  "CONFIGURATION_INVALID",
  "MALFORMED_MESSAGE",
  "UNEXPECTED_MESSAGE",
  "UNKNOWN_METHOD",
  "UNSUPPORTED_ENCODING",
  "PROTOCOL_ERROR",
  // What the request names is not there.
  "STREAM_NOT_FOUND",
  "CONSUMER_NOT_FOUND",
  "STORE_NOT_FOUND",
  "SUBJECT_NOT_BOUND",
  "EVENT_NOT_FOUND",
  // What is there forbids it.
  "KEY_EXISTS",
  "EVENT_EXISTS",
  "LAST_ID_MISMATCH",
  "REVISION_MISMATCH",
  "SUBJECT_OVERLAP",
  "UNCHANGEABLE_SETTING",
  "CONFIGURATION_REFUSED",
  "NOT_ENABLED",
  "NATS_TOO_OLD",
  "CONSUMER_RESET",
  "VALUE_UNREADABLE",
  // A limit is reached.
  "EVENT_TOO_LARGE",
  "VALUE_TOO_LARGE",
  "MESSAGE_TOO_LARGE",
  "STREAM_FULL",
  "ACCOUNT_LIMIT",
  "OVERLOADED",
  "LIMIT_EXCEEDED",
  "SLOW_CLIENT",
  // It may work later.
  "NATS_UNAVAILABLE",
  "NO_LEADER",
  "SERVER_DRAINING",
  "DEADLINE_EXCEEDED",
  "CANCELLED",
  "AUTHENTICATION_UNAVAILABLE",
  // Who asks may not.
  "UNAUTHENTICATED",
  "PERMISSION_DENIED",
  // Nobody foresaw it.
  "INTERNAL",
] as const;

/** One of {@link REASONS}. */
export type Reason = (typeof REASONS)[number];

/** What is known about a write that failed: nothing was stored, or nobody can tell. */
export type Outcome = "not_stored" | "unknown";

/** What an error carries beside its reason and message. */
export interface ErrorOptions {
  /** Path of the request field at fault, such as `retention_policy.max_age`. */
  readonly field?: string;
  /** Names of the objects at fault (`stream`, `consumer`, `store`, `key`, …), shown to clients. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Of a write: whether it may have been stored. */
  readonly outcome?: Outcome;
  /** When a repeat is safe: milliseconds to wait before it. */
  readonly retryAfterMs?: number;
  /** What caused it; for the log, never shown to clients. */
  readonly cause?: unknown;
}

/** A failure with a reason that clients can decide by. */
export class WindshiftError extends Error {
  readonly reason: Reason;
  readonly field: string | undefined;
  readonly metadata: Readonly<Record<string, string>>;
  readonly outcome: Outcome | undefined;
  readonly retryAfterMs: number | undefined;

  constructor(reason: Reason, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "WindshiftError";
    this.reason = reason;
    this.field = options.field;
    this.metadata = options.metadata ?? {};
    this.outcome = options.outcome;
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** An error about one field of a request; the message starts with the field's path. */
export function fieldError(reason: Reason, field: string, problem: string): WindshiftError {
  return new WindshiftError(reason, `${field}: ${problem}`, { field });
}

const MAX_QUOTED_LENGTH = 100;

/** A value as it may stand in a message: quoted, cut after 100 characters, control characters escaped. */
export function quote(value: unknown): string {
  if (typeof value !== "string") return String(value);
  return JSON.stringify(value.length > MAX_QUOTED_LENGTH ? `${value.slice(0, MAX_QUOTED_LENGTH)}…` : value);
}

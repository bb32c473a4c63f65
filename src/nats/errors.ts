/**
 * The door through which failures of NATS come in: error codes of JetStream, missing replies and lost connections
 * become the project's errors, once, here. Decisions are made by nats-server's numeric `err_code`, which it keeps
 * stable (server/errors.json of nats-server), never by its English text.
 */
import { type ErrorOptions, type Reason, WindshiftError, quote } from "../errors.ts";
import type { NoReply } from "./connection.ts";

/** The error object of a JetStream reply. */
export interface JetStreamErrorBody {
  readonly code: number;
  readonly err_code: number;
  readonly description: string;
}

/** Codes that callers look for themselves. */
export const JetStreamCode = {
  consumerNotFound: 10014,
  consumerExists: 10148,
  consumerMissing: 10149,
  consumerResetRefused: 10204,
  noMessageFound: 10037,
  streamNameInUse: 10058,
  streamNotFound: 10059,
  wrongLastSequence: 10071,
  wrongLastSequenceUnnamed: 10164,
  duplicateInProcess: 10158,
  lastSequenceNotReady: 10163,
  timeToLiveDisabled: 10166,
  batchesDisabled: 10174,
  batchIncomplete: 10176,
  schedulesDisabled: 10188,
  batchHasDuplicate: 10201,
} as const;

const REASONS_BY_CODE: Readonly<Record<number, Reason>> = {
  10002: "ACCOUNT_LIMIT",
  10023: "ACCOUNT_LIMIT",
  10026: "ACCOUNT_LIMIT",
  10027: "ACCOUNT_LIMIT",
  10028: "ACCOUNT_LIMIT",
  10047: "ACCOUNT_LIMIT",
  10113: "ACCOUNT_LIMIT",
  10120: "ACCOUNT_LIMIT",
  10122: "ACCOUNT_LIMIT",
  10014: "CONSUMER_NOT_FOUND",
  10149: "CONSUMER_NOT_FOUND",
  10059: "STREAM_NOT_FOUND",
  10065: "SUBJECT_OVERLAP",
  10077: "STREAM_FULL",
  10166: "NOT_ENABLED",
  10167: "OVERLOADED",
  10174: "NOT_ENABLED",
  // The leader that had the rest of a batch is gone, or it came too slowly.
  10176: "NATS_UNAVAILABLE",
  10188: "NOT_ENABLED",
  10190: "SUBJECT_NOT_BOUND",
  10199: "ACCOUNT_LIMIT",
  10201: "EVENT_EXISTS",
  10210: "OVERLOADED",
  10054: "EVENT_TOO_LARGE",
  10097: "EVENT_TOO_LARGE",
  10071: "LAST_ID_MISMATCH",
  10164: "LAST_ID_MISMATCH",
  10055: "UNCHANGEABLE_SETTING",
  10061: "UNCHANGEABLE_SETTING",
  10069: "UNCHANGEABLE_SETTING",
  ...Object.fromEntries(
    [
      10012, 10030, 10031, 10032, 10033, 10034, 10046, 10052, 10093, 10094, 10102, 10107, 10121, 10125, 10126, 10133,
      10134, 10135, 10136, 10137, 10138, 10139, 10140, 10141, 10142, 10144, 10145, 10146, 10147, 10150, 10151, 10152,
      10153, 10154, 10155, 10156, 10183,
    ].map((code) => [code, "CONFIGURATION_INVALID" as const]),
  ),
  10004: "NO_LEADER",
  10007: "NO_LEADER",
  10008: "NO_LEADER",
  10009: "NO_LEADER",
  10118: "NO_LEADER",
  10119: "NO_LEADER",
  10194: "NO_LEADER",
  10195: "NO_LEADER",
  10063: "NO_LEADER",
  10163: "NO_LEADER",
  10158: "NO_LEADER",
  10035: "NATS_UNAVAILABLE",
  10039: "NATS_UNAVAILABLE",
  10076: "NATS_UNAVAILABLE",
};

/** The code of JetStream's refusal behind an error, or undefined. */
export function jetStreamCode(error: unknown): number | undefined {
  if (!(error instanceof WindshiftError)) return undefined;
  return error.cause instanceof JetStreamRefusal ? error.cause.code : undefined;
}

/** The stream that refused to store a message, where its refusal says so. */
export function refusingStream(error: WindshiftError): string | undefined {
  return error.cause instanceof JetStreamRefusal ? error.cause.stream : undefined;
}

/** JetStream's own words, kept as the cause of our error: for the log. */
class JetStreamRefusal extends Error {
  readonly code: number;
  readonly stream: string | undefined;

  constructor(body: JetStreamErrorBody, stream: string | undefined) {
    super(`${body.description} (${body.err_code})`);
    this.name = "JetStreamRefusal";
    this.code = body.err_code;
    this.stream = stream;
  }
}

const RETRY_AFTER_MS = 500;

/** What JetStream refused; for a publish, `stream` is the one that did. A refusal is an answer: nothing was stored. */
export function refusal(body: JetStreamErrorBody, options: ErrorOptions = {}, stream?: string): WindshiftError {
  const reason = REASONS_BY_CODE[body.err_code] ?? "CONFIGURATION_REFUSED";
  const retry = reason === "NO_LEADER" || reason === "NATS_UNAVAILABLE" || reason === "OVERLOADED";
  const names = Object.entries(options.metadata ?? {}).map(([kind, name]) => `${kind} ${quote(name)}`);
  const about = names.length === 0 ? "" : ` (${names.join(", ")})`;
  return new WindshiftError(reason, `JetStream: ${body.description}${about}`, {
    ...options,
    ...(retry ? { retryAfterMs: RETRY_AFTER_MS } : {}),
    cause: new JetStreamRefusal(body, stream),
  });
}

/**
 * What is known when no reply came. `write` says that the request would have stored something: then the error tells
 * whether it may have; `repeatable` that asking again is safe even so.
 */
export function noReply(
  why: NoReply,
  what: string,
  request: { readonly write: boolean; readonly repeatable: boolean; readonly deadlinePassed?: boolean },
  metadata: Readonly<Record<string, string>> = {},
): WindshiftError {
  if (why === "forbidden") {
    return new WindshiftError("PERMISSION_DENIED", `NATS does not allow this server ${what}`, {
      metadata,
      ...(request.write ? { outcome: "not_stored" } : {}),
    });
  }
  const stored = why === "not_sent" ? "not_stored" : "unknown";
  const safe = why === "not_sent" || !request.write || request.repeatable;
  const options: ErrorOptions = {
    metadata,
    ...(request.write ? { outcome: stored } : {}),
    ...(safe ? { retryAfterMs: RETRY_AFTER_MS } : {}),
  };
  if (why === "timeout" && request.deadlinePassed === true) {
    return new WindshiftError("DEADLINE_EXCEEDED", `the deadline passed while waiting for JetStream ${what}`, options);
  }
  const problem = {
    timeout: "JetStream did not answer in time",
    disconnected: "the connection to NATS broke while waiting for its answer",
    not_sent: "not connected to NATS",
  }[why];
  return new WindshiftError("NATS_UNAVAILABLE", `${problem} (${what})`, options);
}

/** The deadline passed before a write was sent. */
export function tooLate(what: string, metadata: Readonly<Record<string, string>>): WindshiftError {
  const text = `the deadline passed before JetStream was asked ${what}`;
  return new WindshiftError("DEADLINE_EXCEEDED", text, {
    metadata,
    outcome: "not_stored",
    retryAfterMs: RETRY_AFTER_MS,
  });
}

const UNANSWERED = new Set<Reason>(["NATS_UNAVAILABLE", "NO_LEADER", "DEADLINE_EXCEEDED"]);

/**
 * For a call that reads before it writes. Only the write itself leaves an outcome with its error: what failed without
 * one failed before it, or was refused.
 */
export async function writing<Result>(work: Promise<Result>): Promise<Result> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof WindshiftError) || error.outcome !== undefined || !UNANSWERED.has(error.reason)) throw error;
    const { reason, message, metadata, retryAfterMs = RETRY_AFTER_MS, cause } = error;
    throw new WindshiftError(reason, message, { metadata, retryAfterMs, cause, outcome: "not_stored" });
  }
}

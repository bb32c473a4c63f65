/**
 * The door through which errors leave: a reason becomes a gRPC status with `google.rpc` details. What is not one of our
 * errors leaves as INTERNAL with a plain text; its detail goes to the log.
 */
import { create, toBinary } from "@bufbuild/protobuf";
import { type Any, anyPack } from "@bufbuild/protobuf/wkt";
import { type Reason, WindshiftError } from "../errors.ts";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../gen/google/rpc/error_details_pb.ts";
import { StatusSchema } from "../gen/google/rpc/status_pb.ts";
import type { CallStatus, Refusal, RefusalKind } from "./engine/engine.ts";

/** Canonical codes of gRPC. */
export const Code = {
  OK: 0,
  CANCELLED: 1,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const;

/** One of {@link Code}. */
export type Code = (typeof Code)[keyof typeof Code];

/** One row for each reason: a new reason does not compile until its code is chosen here. */
export const CODES: Readonly<Record<Reason, Code>> = {
  INVALID_NAME: Code.INVALID_ARGUMENT,
  INVALID_SUBJECT: Code.INVALID_ARGUMENT,
  INVALID_KEY: Code.INVALID_ARGUMENT,
  INVALID_VALUE: Code.INVALID_ARGUMENT,
  MISSING_FIELD: Code.INVALID_ARGUMENT,
  CONFLICTING_FIELDS: Code.INVALID_ARGUMENT,
  CONFIGURATION_INVALID: Code.INVALID_ARGUMENT,
  MALFORMED_MESSAGE: Code.INVALID_ARGUMENT,
  UNEXPECTED_MESSAGE: Code.INVALID_ARGUMENT,
  UNKNOWN_METHOD: Code.UNIMPLEMENTED,
  UNSUPPORTED_ENCODING: Code.UNIMPLEMENTED,
  PROTOCOL_ERROR: Code.INTERNAL,
  STREAM_NOT_FOUND: Code.NOT_FOUND,
  CONSUMER_NOT_FOUND: Code.NOT_FOUND,
  STORE_NOT_FOUND: Code.NOT_FOUND,
  SUBJECT_NOT_BOUND: Code.NOT_FOUND,
  EVENT_NOT_FOUND: Code.NOT_FOUND,
  EVENT_EXISTS: Code.ALREADY_EXISTS,
  KEY_EXISTS: Code.ALREADY_EXISTS,
  LAST_ID_MISMATCH: Code.FAILED_PRECONDITION,
  REVISION_MISMATCH: Code.FAILED_PRECONDITION,
  SUBJECT_OVERLAP: Code.FAILED_PRECONDITION,
  UNCHANGEABLE_SETTING: Code.FAILED_PRECONDITION,
  CONFIGURATION_REFUSED: Code.FAILED_PRECONDITION,
  NOT_ENABLED: Code.FAILED_PRECONDITION,
  NATS_TOO_OLD: Code.FAILED_PRECONDITION,
  CONSUMER_RESET: Code.ABORTED,
  VALUE_UNREADABLE: Code.DATA_LOSS,
  EVENT_TOO_LARGE: Code.RESOURCE_EXHAUSTED,
  VALUE_TOO_LARGE: Code.RESOURCE_EXHAUSTED,
  MESSAGE_TOO_LARGE: Code.RESOURCE_EXHAUSTED,
  STREAM_FULL: Code.RESOURCE_EXHAUSTED,
  ACCOUNT_LIMIT: Code.RESOURCE_EXHAUSTED,
  OVERLOADED: Code.RESOURCE_EXHAUSTED,
  LIMIT_EXCEEDED: Code.RESOURCE_EXHAUSTED,
  SLOW_CLIENT: Code.RESOURCE_EXHAUSTED,
  NATS_UNAVAILABLE: Code.UNAVAILABLE,
  NO_LEADER: Code.UNAVAILABLE,
  SERVER_DRAINING: Code.UNAVAILABLE,
  DEADLINE_EXCEEDED: Code.DEADLINE_EXCEEDED,
  CANCELLED: Code.CANCELLED,
  AUTHENTICATION_UNAVAILABLE: Code.UNAVAILABLE,
  UNAUTHENTICATED: Code.UNAUTHENTICATED,
  PERMISSION_DENIED: Code.PERMISSION_DENIED,
  INTERNAL: Code.INTERNAL,
};

/** `google.rpc.ErrorInfo.domain` of all our errors. */
const ERROR_DOMAIN = "windshift";

/** Any failure as one of ours. */
export function asWindshiftError(error: unknown): WindshiftError {
  if (error instanceof WindshiftError) return error;
  return new WindshiftError("INTERNAL", "the server failed; its log says why", { cause: error });
}

/** Why a call that could go on for ever ends now. */
export function draining(): WindshiftError {
  return new WindshiftError("SERVER_DRAINING", "the server is shutting down", { retryAfterMs: 0 });
}

/** What the engine refuses, with a reason of the same code. */
const REFUSED: Readonly<Record<RefusalKind, Reason>> = {
  unknown_method: "UNKNOWN_METHOD",
  // Its client was made from another definition of the method.
  wrong_count: "UNKNOWN_METHOD",
  unsupported_encoding: "UNSUPPORTED_ENCODING",
  malformed: "PROTOCOL_ERROR",
  message_too_large: "MESSAGE_TOO_LARGE",
  metadata_too_large: "MESSAGE_TOO_LARGE",
  overloaded: "OVERLOADED",
  deadline: "DEADLINE_EXCEEDED",
  too_slow: "DEADLINE_EXCEEDED",
};
const RETRY_AFTER_MS = 100;
/** Of writes that fail with those, clients are told what became of them. */
const CODES_WITH_OUTCOME: ReadonlySet<number> = new Set([Code.RESOURCE_EXHAUSTED, Code.DEADLINE_EXCEEDED]);

/** A refusal of the engine as one of our errors. */
export function refusalError({ kind, code, message, isHandled }: Refusal): WindshiftError {
  return new WindshiftError(REFUSED[kind], message, {
    ...(isHandled || !CODES_WITH_OUTCOME.has(code) ? {} : { outcome: "not_stored" }),
    ...(kind === "overloaded" ? { retryAfterMs: RETRY_AFTER_MS } : {}),
  });
}

/** The status a client gets. */
export function toStatus(error: WindshiftError): CallStatus {
  const code = CODES[error.reason];
  const details: Any[] = [anyPack(ErrorInfoSchema, errorInfo(error))];
  if (code === Code.INVALID_ARGUMENT && error.field !== undefined) {
    const violation = { field: error.field, description: error.message };
    details.push(anyPack(BadRequestSchema, create(BadRequestSchema, { fieldViolations: [violation] })));
  }
  if (error.retryAfterMs !== undefined) {
    const retryDelay = {
      seconds: BigInt(Math.floor(error.retryAfterMs / 1000)),
      nanos: (error.retryAfterMs % 1000) * 1_000_000,
    };
    details.push(anyPack(RetryInfoSchema, create(RetryInfoSchema, { retryDelay })));
  }
  const status = create(StatusSchema, { code, message: error.message, details });
  return { code, message: error.message, details: toBinary(StatusSchema, status) };
}

function errorInfo(error: WindshiftError) {
  return create(ErrorInfoSchema, {
    reason: error.reason,
    domain: ERROR_DOMAIN,
    metadata: { ...error.metadata, ...(error.outcome === undefined ? {} : { outcome: error.outcome }) },
  });
}

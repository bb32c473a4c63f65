/**
 * Names of attributes. Those of OpenTelemetry stand here as text, as its documentation advises for the unstable ones:
 * loading the package's list costs 10 MiB. A unit test holds them against the package.
 */

export const RPC_SYSTEM_NAME = "rpc.system.name";
export const RPC_METHOD = "rpc.method";
export const RPC_STATUS_CODE = "rpc.status_code";
export const ERROR_TYPE = "error.type";
export const CLIENT_ADDRESS = "client.address";
export const MESSAGING_SYSTEM_NAME = "messaging.system.name";
export const MESSAGING_OPERATION_NAME = "messaging.operation.name";
export const MESSAGING_OPERATION_TYPE = "messaging.operation.type";
/** The stream. (A subject has too many values for a metric; spans carry it as `windshift.subject`.) */
export const MESSAGING_DESTINATION_NAME = "messaging.destination.name";
/** The consumer. */
export const MESSAGING_CONSUMER_GROUP_NAME = "messaging.consumer.group.name";
/** The event's id. */
export const MESSAGING_MESSAGE_ID = "messaging.message.id";
export const MESSAGING_BATCH_MESSAGE_COUNT = "messaging.batch.message_count";

/** What came of it: `stored`, `duplicate`, `confirmed`, `invalid`, `failed`. */
export const RESULT = "windshift.result";
/** Why an event failed: `rejected`, `timed_out`, `attempts`. */
export const CAUSE = "windshift.cause";
export const SUBJECT = "windshift.subject";
export const DELIVERY_ATTEMPT = "windshift.delivery_attempt";

/** Names of the gRPC status codes, by number. */
export const STATUS_NAMES: readonly string[] = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
];

/** The codes that OpenTelemetry counts as the server's errors; the others are answers. */
const SERVER_ERRORS = new Set([
  "UNKNOWN",
  "DEADLINE_EXCEEDED",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
]);

/** Name of a gRPC status code. */
export function statusName(code: number): string {
  return STATUS_NAMES[code] ?? String(code);
}

/** True for a status that is the server's fault rather than an answer to the client. */
export function isServerError(status: string): boolean {
  return SERVER_ERRORS.has(status);
}

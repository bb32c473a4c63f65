/**
 * What every client in another language does, and what it then prints as JSON: the programs under `test/interop/` do it with
 * code generated from `proto/` as a user would generate it.
 */
import { expect } from "vitest";

/** The output of a client that called itself `name` and was given `prefix` for its names. */
export function expectedReport(name: string, prefix: string): unknown {
  const event = {
    id: "1",
    subject: `${prefix}.created`,
    type: "windshift.test.v1.StringValue",
    text: `hello from ${name}`,
    attempt: "1",
    idempotency_key: "key-1",
    seconds: "1767323045",
    nanos: 6,
  };
  return {
    published: "1",
    published_again: "1",
    published_by_old_name: "2",
    timeout_seconds: "30",
    first: event,
    acked: { ids: ["1"], invalid_ids: ["99"] },
    second: {
      ...event,
      id: "2",
      text: "by its old name",
      idempotency_key: null,
      seconds: expect.any(String),
      nanos: expect.any(Number),
    },
    rejected: { ids: ["2"], invalid_ids: [] },
    redelivered_attempt: "2",
    ended: "OK",
    missing_revision: "0",
    missing_has_value: false,
    revision: "1",
    value: `hello from ${name}`,
    next_revision: "2",
    deleted_revision: "0",
    errors: {
      unbound: { code: "NOT_FOUND", reason: "SUBJECT_NOT_BOUND", domain: "windshift", fields: [] },
      bad_name: { code: "INVALID_ARGUMENT", reason: "INVALID_NAME", domain: "windshift", fields: ["store"] },
      exists: { code: "ALREADY_EXISTS", reason: "KEY_EXISTS", domain: "windshift", fields: [] },
      mismatch: { code: "FAILED_PRECONDITION", reason: "REVISION_MISMATCH", domain: "windshift", fields: [] },
      no_consumer: { code: "NOT_FOUND", reason: "CONSUMER_NOT_FOUND", domain: "windshift", fields: [] },
    },
  };
}

/**
 * What a valid stream, consumer, store, subject and key is. Pure functions: each throws an error that names the field
 * and the value, or returns nothing.
 *
 * The lengths keep every protocol line to NATS far below its limit of 4096 bytes, past which nats-server closes the
 * connection that all calls share.
 */
import { type WindshiftError, fieldError, quote } from "./errors.ts";

/** Longest name of a stream or consumer; nats-server allows 255. */
export const MAX_NAME_LENGTH = 255;
/** Longest name of a store: its stream is called `KV_` plus that name. */
export const MAX_STORE_NAME_LENGTH: number = MAX_NAME_LENGTH - "KV_".length;
/** Longest subject, filter or key. */
export const MAX_SUBJECT_LENGTH = 1024;

const NAME = /^[A-Za-z0-9_-]+$/;
const SUBJECT = /^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/;
const FILTER = /^(?:(?:[A-Za-z0-9_-]+|\*)(?:\.(?:[A-Za-z0-9_-]+|\*))*(?:\.>)?|>)$/;

/** True for a valid name of a stream, consumer or store (length aside). */
export function isName(name: string): boolean {
  return NAME.test(name);
}

/** Hot path: many events in a row have the same subject. */
let lastSubject = "a";

/** True for a valid subject or key without wildcards. */
export function isSubject(subject: string): boolean {
  if (subject === lastSubject) return true;
  const isValid = subject.length <= MAX_SUBJECT_LENGTH && SUBJECT.test(subject);
  if (isValid) lastSubject = subject;
  return isValid;
}

/** True for a valid subject in which `*` and a last `>` may stand for tokens. */
export function isFilter(filter: string): boolean {
  return filter.length <= MAX_SUBJECT_LENGTH && FILTER.test(filter);
}

/** True when there is a subject that both filters, split at their dots, match. */
export function filtersOverlap(a: readonly string[], b: readonly string[]): boolean {
  for (let at = 0; ; at++) {
    const x = a[at];
    const y = b[at];
    if (x === undefined || y === undefined) return x === y;
    if (x === ">" || y === ">") return true;
    if (x !== y && x !== "*" && y !== "*") return false;
  }
}

/** Hot path: many values in a row are of the same store. */
let lastName = "a";

/** Throws INVALID_NAME unless `name` may name a stream or consumer. */
export function checkName(field: string, name: string, maxLength: number = MAX_NAME_LENGTH): void {
  if (name.length <= maxLength && (name === lastName || NAME.test(name))) {
    lastName = name;
    return;
  }
  throw invalid("INVALID_NAME", field, name, 'letters, digits, "_" and "-"', maxLength);
}

/** Throws INVALID_NAME unless `store` may name a store. */
export function checkStoreName(field: string, store: string): void {
  checkName(field, store, MAX_STORE_NAME_LENGTH);
}

/** Throws INVALID_SUBJECT unless `subject` is one to publish to: no wildcards. */
export function checkSubject(field: string, subject: string): void {
  if (isSubject(subject)) return;
  throw invalid("INVALID_SUBJECT", field, subject, TOKENS, MAX_SUBJECT_LENGTH);
}

/** Throws INVALID_SUBJECT unless `filter` is a subject, wildcards allowed. */
export function checkFilter(field: string, filter: string): void {
  if (isFilter(filter)) return;
  const allowed = `${TOKENS}, "*" for one whole token and a last ">" for one or more`;
  throw invalid("INVALID_SUBJECT", field, filter, allowed, MAX_SUBJECT_LENGTH);
}

/** Throws INVALID_KEY unless `key` may be a key of a store. */
export function checkKey(field: string, key: string): void {
  if (isSubject(key)) return;
  throw invalid("INVALID_KEY", field, key, TOKENS, MAX_SUBJECT_LENGTH);
}

const TOKENS = 'tokens of letters, digits, "_" and "-" joined by "."';

function invalid(
  reason: "INVALID_NAME" | "INVALID_SUBJECT" | "INVALID_KEY",
  field: string,
  value: string,
  allowed: string,
  maxLength: number,
): WindshiftError {
  if (value === "") return fieldError("MISSING_FIELD", field, "is required");
  const problem =
    value.length > maxLength
      ? `${quote(value)} is longer than ${maxLength} characters`
      : `${quote(value)} may hold only ${allowed}`;
  return fieldError(reason, field, problem);
}

/**
 * Points in time to the nanosecond, as events carry them: a JavaScript Date would lose all but milliseconds. Written as
 * RFC 3339 with trailing zeros cut, in UTC; read with any offset, as other writers use their local zone.
 */
import { Buffer } from "node:buffer";

/** Seconds since the epoch (before it: negative) and nanoseconds from 0 to 999,999,999. */
export interface Timestamp {
  readonly seconds: number;
  readonly nanos: number;
}

/** 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z: the range of `google.protobuf.Timestamp`. */
export const MIN_SECONDS = -62_135_596_800;
export const MAX_SECONDS = 253_402_300_799;

/** 1970-01-01T00:00:00Z. */
export const EPOCH: Timestamp = { seconds: 0, nanos: 0 };

/** True where `a` is earlier than `b`. */
export function isBefore(a: Timestamp, b: Timestamp): boolean {
  return a.seconds < b.seconds || (a.seconds === b.seconds && a.nanos < b.nanos);
}

/** True for what `google.protobuf.Timestamp` allows. */
export function isValidTimestamp(time: Timestamp): boolean {
  return time.seconds >= MIN_SECONDS && time.seconds <= MAX_SECONDS && time.nanos >= 0 && time.nanos <= 999_999_999;
}

/** The time now, to the millisecond. */
export function now(): Timestamp {
  const ms = Date.now();
  return { seconds: Math.floor(ms / 1000), nanos: (ms % 1000) * 1_000_000 };
}

/** Hot path: most events are published in the same second as the one before. */
let lastSeconds = Number.NaN;
let lastBase = "";

/** `2026-11-21T10:09:44.23Z`. */
export function formatTimestamp({ seconds, nanos }: Timestamp): string {
  if (seconds !== lastSeconds) {
    lastSeconds = seconds;
    lastBase = new Date(seconds * 1000).toISOString().slice(0, -".000Z".length);
  }
  const base = lastBase;
  if (nanos === 0) return `${base}Z`;
  const digits = nanos.toString().padStart(9, "0");
  let end = digits.length;
  while (digits.charCodeAt(end - 1) === ZERO) end -= 1;
  return `${base}.${digits.slice(0, end)}Z`;
}

const ZERO = 48;
const RFC3339 = /^(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,}))?(?:[Zz]|([+-])(\d\d):(\d\d))$/;
const DAYS_IN_MONTH = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/** Hot path: most times that follow each other are of the same day, and written as we do. */
const lastDay = Buffer.from("1970-01-01T");
const DAY_LENGTH = lastDay.length;
let lastDaySeconds = 0;

/** A buffer for each text would take longer than to read it. */
const scratch = Buffer.alloc(64);

/** Undefined for what is not RFC 3339 within the years 1 to 9999. */
export function parseTimestamp(text: string): Timestamp | undefined {
  const { length } = text;
  let isAscii = length <= scratch.length;
  for (let n = 0; isAscii && n < length; n++) {
    const code = text.charCodeAt(n);
    isAscii = code < 128;
    scratch[n] = code;
  }
  return isAscii ? readTimestamp(scratch, 0, length) : parseAny(text);
}

/** The same of the text in `[start, end)`. */
export function readTimestamp(bytes: Buffer, start: number, end: number): Timestamp | undefined {
  const usual = isOnLastDay(bytes, start) ? readOnDay(bytes, start, end, lastDaySeconds) : undefined;
  if (usual !== undefined) return usual;
  const time = parseAny(bytes.toString("utf8", start, end));
  const sinceMidnight = time === undefined ? undefined : readOnDay(bytes, start, end, 0);
  if (sinceMidnight !== undefined) {
    bytes.copy(lastDay, 0, start, start + DAY_LENGTH);
    lastDaySeconds = time!.seconds - sinceMidnight.seconds;
  }
  return time;
}

function isOnLastDay(bytes: Buffer, start: number): boolean {
  for (let n = 0; n < DAY_LENGTH; n++) if (bytes[start + n] !== lastDay[n]) return false;
  return true;
}

const LETTER_Z = 90;
const COLON = 58;
const DOT = 46;

/** `10:09:44.23Z` after whatever day, which begins at `daySeconds`; undefined for what is written otherwise. */
function readOnDay(bytes: Buffer, start: number, end: number, daySeconds: number): Timestamp | undefined {
  const hours = twoDigits(bytes, start + 11);
  const minutes = twoDigits(bytes, start + 14);
  const seconds = twoDigits(bytes, start + 17);
  const length = end - start - 1;
  const isUsual =
    bytes[start + 13] === COLON &&
    bytes[start + 16] === COLON &&
    hours < 24 &&
    minutes < 60 &&
    seconds < 60 &&
    bytes[end - 1] === LETTER_Z &&
    (length === 19 || (bytes[start + 19] === DOT && length > 20 && length < 30));
  if (!isUsual) return undefined;
  let nanos = 0;
  for (let at = 20; at < 29; at++) {
    const digit = at < length ? bytes[start + at]! - ZERO : 0;
    if (digit < 0 || digit > 9) return undefined;
    nanos = nanos * 10 + digit;
  }
  return { seconds: daySeconds + hours * 3600 + minutes * 60 + seconds, nanos };
}

/** NaN for what are no digits. */
function twoDigits(bytes: Buffer, at: number): number {
  const tens = bytes[at]! - ZERO;
  const ones = bytes[at + 1]! - ZERO;
  return tens >= 0 && tens <= 9 && ones >= 0 && ones <= 9 ? tens * 10 + ones : NaN;
}

function parseAny(text: string): Timestamp | undefined {
  const match = RFC3339.exec(text);
  if (match === null) return undefined;
  const [, year, month, day, hour, minute, second, fraction, sign, offsetHour, offsetMinute] = match;
  if (+month! < 1 || +month! > 12 || +day! < 1 || +day! > DAYS_IN_MONTH[+month! - 1]!) return undefined;
  if (+hour! > 23 || +minute! > 59 || +second! > 60) return undefined;
  if (sign !== undefined && (+offsetHour! > 23 || +offsetMinute! > 59)) return undefined;
  // Unlike Date.UTC, setUTCFullYear takes years below 100 as they are.
  const date = new Date(0);
  date.setUTCFullYear(+year!, +month! - 1, +day!);
  if (date.getUTCMonth() !== +month! - 1) return undefined;
  const offset = sign === undefined ? 0 : (+offsetHour! * 60 + +offsetMinute!) * (sign === "+" ? 60 : -60);
  // A leap second (60) is counted as the first second after it, as Unix time does.
  const seconds = date.getTime() / 1000 + +hour! * 3600 + +minute! * 60 + +second! - offset;
  const nanos = fraction === undefined ? 0 : +fraction.slice(0, 9).padEnd(9, "0");
  const time = { seconds, nanos };
  return isValidTimestamp(time) ? time : undefined;
}

/**
 * The kinds of values that an environment variable may hold: how each is read from text and what its error says would
 * be valid. Pure functions; `undefined` means that the text is no such value.
 */

/** What is wrong or right for one variable, by kind. Sizes and durations are written as users write them. */
export type Kind =
  | { readonly kind: "string"; readonly pattern?: string; readonly expected?: string }
  | { readonly kind: "file" }
  | { readonly kind: "boolean" }
  | { readonly kind: "port" }
  | { readonly kind: "integer"; readonly min: number; readonly max: number }
  | { readonly kind: "number"; readonly min: number; readonly max: number }
  | { readonly kind: "duration"; readonly min?: string; readonly max?: string }
  | { readonly kind: "bytes"; readonly min: string; readonly max: string }
  | { readonly kind: "enum"; readonly values: readonly string[] }
  | { readonly kind: "list"; readonly values?: readonly string[] }
  | { readonly kind: "url" }
  | { readonly kind: "pairs" };

/** The TypeScript type of a kind's values: milliseconds for durations, bytes for sizes. */
export interface KindValues {
  string: string;
  file: string;
  boolean: boolean;
  port: number;
  integer: number;
  number: number;
  duration: number;
  bytes: number;
  enum: string;
  list: readonly string[];
  url: string;
  pairs: Readonly<Record<string, string>>;
}

const MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
const DURATION = /^(?:\d+(?:\.\d+)?(?:ms|s|m|h))+$/;
const DURATION_PARTS = /(\d+(?:\.\d+)?)(ms|s|m|h)/g;
/** Timers of Node hold 31 bits of milliseconds; a longer one fires at once. */
const MAX_DURATION = "596h";

/** Milliseconds of `10s`, `500ms`, `1h30m`; a bare number is seconds. */
function parseDuration(text: string): number | undefined {
  if (isNumber(text)) return Math.round(Number(text) * 1000);
  if (!DURATION.test(text)) return undefined;
  let total = 0;
  for (const [, amount, unit] of text.matchAll(DURATION_PARTS))
    total += Number(amount) * (MS[unit ?? ""] ?? Number.NaN);
  return Math.round(total);
}

const BYTES: Readonly<Record<string, number>> = {
  "": 1,
  b: 1,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
};

/** Bytes of `4MiB`, `64KiB`, `1GB` or a bare number. */
function parseBytes(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text);
  const factor = BYTES[match?.[2]?.toLowerCase() ?? "?"];
  return match === null || factor === undefined ? undefined : Math.round(Number(match[1]) * factor);
}

/** The entries of `key=value,key=value`, percent-decoded as OpenTelemetry writes them. */
function parsePairs(text: string): Readonly<Record<string, string>> | undefined {
  const pairs: Record<string, string> = {};
  for (const entry of text.split(",")) {
    if (entry.trim() === "") continue;
    const at = entry.indexOf("=");
    const key = entry.slice(0, at).trim();
    if (at < 0 || key === "") return undefined;
    try {
      pairs[decodeURIComponent(key)] = decodeURIComponent(entry.slice(at + 1).trim());
    } catch {
      return undefined;
    }
  }
  return pairs;
}

/** The trimmed entries of a comma separated list. */
function parseList(text: string): string[] {
  return text.split(",").map((entry) => entry.trim());
}

/** Reads `text` as `spec` says; undefined when it is not valid. */
export function parseValue(spec: Kind, text: string): KindValues[keyof KindValues] | undefined {
  switch (spec.kind) {
    case "string":
      return spec.pattern === undefined || new RegExp(spec.pattern).test(text) ? text : undefined;
    case "file":
      return text;
    case "boolean":
      return parseBoolean(text);
    case "port":
      return within(integer(text), 0, 65_535);
    case "integer":
      return within(integer(text), spec.min, spec.max);
    case "number":
      return within(isNumber(text) ? Number(text) : undefined, spec.min, spec.max);
    case "duration":
      return within(parseDuration(text), parseDuration(spec.min ?? "0"), parseDuration(spec.max ?? MAX_DURATION));
    case "bytes":
      return within(parseBytes(text), parseBytes(spec.min), parseBytes(spec.max));
    case "enum":
      return spec.values.find((value) => value === text.toLowerCase());
    case "list":
      return listOf(spec.values, parseList(text));
    case "url":
      return isHttpUrl(text) ? text : undefined;
    case "pairs":
      return parsePairs(text);
  }
}

/** What would be valid, as the end of "must be …". */
export function expectation(spec: Kind): string {
  switch (spec.kind) {
    case "string":
      return spec.expected ?? "a text";
    case "file":
      return "the path of a readable file";
    case "boolean":
      return "true or false";
    case "port":
      return "a port from 0 (any free one) to 65535";
    case "integer":
      return `a whole number from ${spec.min} to ${spec.max}`;
    case "number":
      return `a number from ${spec.min} to ${spec.max}`;
    case "duration":
      return `a duration such as 10s, 500ms or 5m (a bare number is seconds) from ${spec.min ?? "0"} to ${spec.max ?? MAX_DURATION}`;
    case "bytes":
      return `a size such as 4MiB, 64KiB or a number of bytes, from ${spec.min} to ${spec.max}`;
    case "enum":
      return `one of ${spec.values.join(", ")}`;
    case "list":
      return `a comma separated list${spec.values === undefined ? "" : ` of ${spec.values.join(", ")}`}`;
    case "url":
      return "a URL such as http://collector:4317";
    case "pairs":
      return "a list such as key=value,key2=value2, percent-encoded where needed";
  }
}

function parseBoolean(text: string): boolean | undefined {
  if (/^(?:true|t|1)$/i.test(text)) return true;
  return /^(?:false|f|0)$/i.test(text) ? false : undefined;
}

function listOf(allowed: readonly string[] | undefined, entries: string[]): string[] | undefined {
  const valid = (entry: string): boolean => entry !== "" && (allowed?.includes(entry) ?? true);
  return entries.every(valid) ? entries : undefined;
}

function isHttpUrl(text: string): boolean {
  return /^https?:\/\/./i.test(text) && URL.canParse(text);
}

function isNumber(text: string): boolean {
  return /^\d+(?:\.\d+)?$/.test(text);
}

function integer(text: string): number | undefined {
  return /^\d+$/.test(text) ? Number(text) : undefined;
}

function within(value: number | undefined, min: number | undefined, max: number | undefined): number | undefined {
  return value !== undefined && min !== undefined && max !== undefined && value >= min && value <= max
    ? value
    : undefined;
}

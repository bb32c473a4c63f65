/** From the text of a policy to its rules. Every fault is told, with its line; `docs/policy.schema.json` says the shape. */
import { quote } from "../errors.ts";
import { readAudience } from "./policy-audience.ts";
import { readEntries } from "./policy-entries.ts";
import { type Path, PolicyError, PolicyReader } from "./policy-reader.ts";
import type { Limits, Rule } from "./policy-rule.ts";
import { type Variables, readVariables } from "./policy-variables.ts";

/** The only version of the format so far. */
const VERSION = 1;
const RULE_KEYS = ["name", "description", "for", "allow", "deny", "limits"];
const RULE_NAME = /^[A-Za-z0-9_-]{1,100}$/;
const LIMITS = {
  "calls-per-second": "callsPerSecond",
  "bytes-per-second": "bytesPerSecond",
  "open-subscriptions": "openSubscriptions",
  "open-streams": "openStreams",
} as const satisfies Record<string, keyof Limits>;
const BYTES = /^([1-9]\d{0,5})(KiB|MiB|GiB)$/;
const UNITS: Readonly<Record<string, number>> = { KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 };

/** The rules of a policy; throws a {@link PolicyError} with everything that is wrong. */
export function parsePolicy(text: string): readonly Rule[] {
  const reader = new PolicyReader(text);
  const rules = reader.faults.length === 0 ? readRules(reader) : [];
  if (reader.faults.length > 0) throw new PolicyError(reader.faults);
  return rules;
}

function readRules(reader: PolicyReader): readonly Rule[] {
  const root = reader.mapping(reader.root, [], ["version", "variables", "rules"]);
  if (root === undefined) return [];
  if (root.get("version") !== VERSION) reader.fault(["version"], `must be ${VERSION}`);
  const variables = readVariables(reader, root.get("variables"));
  const rules = reader
    .list(root.get("rules"), ["rules"])
    .map((rule, index) => readRule(reader, rule, ["rules", index], variables));
  for (const [index, { name }] of rules.entries())
    if (name !== "" && rules.findIndex((other) => other.name === name) < index)
      reader.fault(["rules", index, "name"], `${quote(name)} is the name of another rule`);
  return rules;
}

function readRule(reader: PolicyReader, value: unknown, path: Path, variables: Variables): Rule {
  const rule = reader.mapping(value, path, RULE_KEYS);
  if (rule === undefined) return { name: "", audience: {}, allow: [], deny: [], limits: {} };
  if (!["allow", "deny", "limits"].some((key) => rule.has(key))) reader.fault(path, "needs allow, deny or limits");
  if (rule.has("description") && typeof rule.get("description") !== "string")
    reader.fault([...path, "description"], "must be text");
  return {
    name: readName(reader, rule.get("name"), [...path, "name"]),
    audience: readAudience(reader, rule.get("for"), [...path, "for"]),
    allow: rule.has("allow") ? readEntries(reader, rule.get("allow"), [...path, "allow"], variables) : [],
    deny: rule.has("deny") ? readEntries(reader, rule.get("deny"), [...path, "deny"], variables) : [],
    limits: rule.has("limits") ? readLimits(reader, rule.get("limits"), [...path, "limits"]) : {},
  };
}

function readName(reader: PolicyReader, value: unknown, path: Path): string {
  if (typeof value === "string" && RULE_NAME.test(value)) return value;
  const problem = 'must be up to 100 letters, digits, "_" and "-"';
  reader.fault(path, value === undefined ? "is required" : `${quote(value)} ${problem}`);
  return "";
}

function readLimits(reader: PolicyReader, value: unknown, path: Path): Limits {
  const given = reader.mapping(value, path, Object.keys(LIMITS));
  if (given?.size === 0) reader.fault(path, `must set one of ${Object.keys(LIMITS).join(", ")}`);
  const limits: Partial<Record<keyof Limits, number>> = {};
  for (const [key, text] of given ?? []) {
    const isBytes = key === "bytes-per-second";
    const limit = isBytes ? bytesOf(text) : text;
    // `mapping` let no other keys through.
    if (isCount(limit)) limits[LIMITS[key as keyof typeof LIMITS]] = limit;
    else
      reader.fault(
        [...path, key],
        `must be a whole number from 1${isBytes ? ', or such as "64KiB", "10MiB", "1GiB"' : ""}`,
      );
  }
  return limits;
}

function bytesOf(value: unknown): unknown {
  const [, amount, unit = ""] = typeof value === "string" ? (BYTES.exec(value) ?? []) : [];
  return amount === undefined ? value : Number(amount) * (UNITS[unit] ?? Number.NaN);
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value > 0;
}

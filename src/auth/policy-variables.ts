/**
 * Variables of a policy: texts that patterns may use as `{var.name}`, to say once what many need. They may use one another
 * and stand for several texts; everything is put in its place when the policy is read, before any principal is known.
 */
import { quote } from "../errors.ts";
import type { PolicyReader } from "./policy-reader.ts";

/** Each variable with its texts. */
export type Variables = ReadonlyMap<string, readonly string[]>;

/** Most texts that one pattern may become, and the most characters of each. */
const MAX_TEXTS = 1000;
const MAX_TEXT_LENGTH = 1024;
const NAME = /^[a-z][a-z0-9-]*$/;
const REFERENCE = /\{var\.([^{}]*)\}/;

/** Reads the `variables` of a policy, with one another's texts in place. What is wrong becomes a fault. */
export function readVariables(reader: PolicyReader, value: unknown): Variables {
  const raw = new Map<string, readonly string[]>();
  if (value === undefined) return raw;
  for (const [name, texts] of reader.mapping(value, ["variables"]) ?? []) {
    const path = ["variables", name];
    if (!NAME.test(name)) reader.fault(path, 'is no name: small letters, digits and "-", a letter first');
    raw.set(name, typeof texts === "string" ? [texts] : reader.texts(texts, path));
  }
  const done = new Map<string, readonly string[]>();
  for (const name of raw.keys()) {
    const problem = resolve(name, raw, done, []);
    if (problem !== undefined) reader.fault(["variables", name], problem);
  }
  return done;
}

/** Puts the texts of `name` into `done`, and before it of all that it uses; what is wrong otherwise. */
function resolve(
  name: string,
  raw: Variables,
  done: Map<string, readonly string[]>,
  users: readonly string[],
): string | undefined {
  if (done.has(name)) return undefined;
  if (users.includes(name)) return `goes round in circles: ${[...users.slice(users.indexOf(name)), name].join(" → ")}`;
  const texts: string[] = [];
  for (const text of raw.get(name) ?? []) {
    for (const used of referencesOf(text)) {
      const problem = raw.has(used) ? resolve(used, raw, done, [...users, name]) : undefined;
      if (problem !== undefined) return problem;
    }
    const expanded = expand(text, done);
    if (typeof expanded === "string") return expanded;
    texts.push(...expanded);
  }
  if (texts.length > MAX_TEXTS) return `stands for more than ${MAX_TEXTS} texts`;
  done.set(name, texts);
  return undefined;
}

function referencesOf(text: string): readonly string[] {
  return text.split(REFERENCE).filter((_, index) => index % 2 === 1);
}

/** The texts that `text` stands for, variables in place; what is wrong, as the end of a sentence, otherwise. */
export function expand(text: string, variables: Variables): readonly string[] | string {
  const [first = "", ...rest] = text.split(REFERENCE);
  let texts: readonly string[] = [first];
  for (let index = 0; index < rest.length; index += 2) {
    const values = variables.get(rest[index] ?? "");
    if (values === undefined) return `refers to the variable ${quote(rest[index])}, which is not there or not valid`;
    if (texts.length * values.length > MAX_TEXTS) return `stands for more than ${MAX_TEXTS} texts`;
    texts = texts.flatMap((before) => values.map((value) => before + value + (rest[index + 1] ?? "")));
    if (texts.some((each) => each.length > MAX_TEXT_LENGTH)) return `becomes longer than ${MAX_TEXT_LENGTH} characters`;
  }
  return texts;
}

/** Reads the entries of `allow` and `deny`. What an entry is about must be said in full: a forgotten key shall not mean all. */
import { quote } from "../errors.ts";
import { type Template, nameMatches, parseTemplate } from "./pattern.ts";
import { DIMENSIONS, type Dimension, OPERATIONS, VERBS, type Verb } from "./policy-access.ts";
import type { Path, PolicyReader } from "./policy-reader.ts";
import type { Entry } from "./policy-rule.ts";
import { type Variables, expand } from "./policy-variables.ts";

const EVERYTHING = "everything";
/** Streams that hold stores are named too: `*` alone does not reach them. */
const ALL: Readonly<Record<Dimension, readonly string[]>> = {
  subjects: [">"],
  streams: ["*", "KV_*", "OBJ_*"],
  consumers: ["*"],
  stores: ["*"],
  keys: [">"],
  operations: ["*"],
};
const VERB_NAMES = Object.keys(VERBS) as Verb[];
const OPERATION_TABLE: readonly (readonly [string, readonly Dimension[]])[] = Object.entries(OPERATIONS);

type Patterns = ReadonlyMap<Dimension, readonly Template[]>;

/** Reads what a rule allows or denies. */
export function readEntries(reader: PolicyReader, value: unknown, path: Path, variables: Variables): readonly Entry[] {
  if (value === EVERYTHING) return [everything(reader, path)];
  if (typeof value !== "string")
    return reader.list(value, path).map((entry, index) => readEntry(reader, entry, [...path, index], variables));
  reader.fault(path, `${quote(value)} must be a list of entries, or ${EVERYTHING}`);
  return [];
}

function everything(reader: PolicyReader, path: Path): Entry {
  const patterns = DIMENSIONS.map((dimension): [Dimension, readonly Template[]] => [
    dimension,
    readPatterns(reader, ALL[dimension], dimension, path, new Map()),
  ]);
  return { path: reader.pathText(path), verbs: new Set(VERB_NAMES), patterns: new Map(patterns) };
}

function readEntry(reader: PolicyReader, value: unknown, path: Path, variables: Variables): Entry {
  const given = reader.mapping(value, path, ["verbs", ...DIMENSIONS]);
  const verbs = given === undefined ? new Set<Verb>() : readVerbs(reader, given.get("verbs"), [...path, "verbs"]);
  const patterns = new Map<Dimension, readonly Template[]>();
  for (const dimension of DIMENSIONS)
    if (given?.has(dimension) === true)
      patterns.set(dimension, readPatterns(reader, given.get(dimension), dimension, [...path, dimension], variables));
  for (const verb of verbs) checkDimensions(reader, verb, patterns, path);
  return { path: reader.pathText(path), verbs, patterns };
}

function readVerbs(reader: PolicyReader, value: unknown, path: Path): ReadonlySet<Verb> {
  const verbs = new Set<Verb>();
  for (const [index, text] of reader.texts(value, path).entries()) {
    const verb = VERB_NAMES.find((each) => each === text);
    if (verb === undefined)
      reader.fault([...path, index], `${quote(text)} is no verb: there are ${VERB_NAMES.join(", ")}`);
    else verbs.add(verb);
  }
  return verbs;
}

/** All verbs of an entry take all its keys and no others: nothing that does not limit a verb may look as if it did. */
function checkDimensions(reader: PolicyReader, verb: Verb, patterns: Patterns, path: Path): void {
  const needed: readonly Dimension[] = verb === "admin" ? takenByOperations(patterns.get("operations")) : VERBS[verb];
  for (const dimension of needed)
    if (!patterns.has(dimension)) reader.fault([...path, dimension], `is required with ${verb}`);
  for (const dimension of patterns.keys())
    if (!needed.includes(dimension))
      reader.fault([...path, dimension], `means nothing with ${verb}, which needs an entry of its own`);
}

function takenByOperations(templates: readonly Template[] = []): readonly Dimension[] {
  const granted = OPERATION_TABLE.filter(([name]) => templates.some(({ source }) => nameMatches(source, name)));
  return ["operations", ...granted.flatMap(([, dimensions]) => dimensions)];
}

function readPatterns(
  reader: PolicyReader,
  value: unknown,
  dimension: Dimension,
  path: Path,
  variables: Variables,
): readonly Template[] {
  return reader.texts(value, path).flatMap((source, index) => {
    const expanded = expand(source, variables);
    const templates = typeof expanded === "string" ? [expanded] : expanded.map((each) => parsePattern(each, dimension));
    const problem = templates.find((template) => typeof template === "string");
    if (problem !== undefined) reader.fault([...path, index], `${quote(source)} ${problem}`);
    return templates.filter((template) => typeof template !== "string");
  });
}

/** The template, or what is wrong with it. */
function parsePattern(source: string, dimension: Dimension): Template | string {
  if (dimension === "operations" && !OPERATION_TABLE.some(([name]) => nameMatches(source, name)))
    return `is no operation: there are ${OPERATION_TABLE.map(([name]) => name).join(", ")}`;
  return parseTemplate(source, kindOf(dimension));
}

/** Whether patterns of a dimension are made of tokens, or of characters. */
export function kindOf(dimension: Dimension): "tokens" | "name" {
  return dimension === "subjects" || dimension === "keys" ? "tokens" : "name";
}

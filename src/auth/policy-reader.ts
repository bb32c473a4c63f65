/**
 * Reads YAML into plain values and remembers where each stands, so that every fault of a policy can be told with its line.
 * Faults are collected, never thrown one by one. Size, depth and aliases are bounded: a small file cannot become a large
 * one in memory.
 */
import { type Document, LineCounter, isNode, isScalar, parseDocument, visit } from "yaml";
import { quote } from "../errors.ts";

/** Longest policy, in characters: a thousand rules and more. */
export const MAX_POLICY_LENGTH: number = 256 * 1024;
/** More aliases than this within each other are an attack, not a convenience. */
const MAX_ALIASES = 100;
/** Most levels of brackets, of indentation, or within one line; a policy needs nine. */
const MAX_NESTING = 100;
const INDENT = new RegExp(`^\\s{${MAX_NESTING + 1}}`);
/** What begins a level within a line. */
const INDICATOR = /[-?:](?=\s)/g;
/** A broken file may have a fault in each character. */
const MAX_TOLD = 50;

/**
 * Keys are texts, and found twice below rather than by the library, which compares each with each. Version 1.2 keeps
 * `no` and `on` texts.
 */
const YAML = { version: "1.2", stringKeys: true, uniqueKeys: false, prettyErrors: false } as const;

/** Where a value stands: keys and indices from the top. */
export type Path = readonly (string | number)[];

/** One thing that is wrong with a policy. */
export interface PolicyFault {
  /** From 1; undefined where the whole file is meant. */
  readonly line: number | undefined;
  /** Such as `rules[2].allow[0].verbs[1]`; empty where the text is not even YAML. */
  readonly path: string;
  readonly problem: string;
}

/** Everything that is wrong with a policy, in one message. */
export class PolicyError extends Error {
  readonly faults: readonly PolicyFault[];

  constructor(faults: readonly PolicyFault[]) {
    const count = faults.length === 1 ? "a fault" : `${faults.length} faults`;
    const told = faults.slice(0, MAX_TOLD).map((fault) => `  ${describe(fault)}`);
    const more = faults.length > MAX_TOLD ? [`  and ${faults.length - MAX_TOLD} more`] : [];
    super(`the policy has ${count}:\n${[...told, ...more].join("\n")}`);
    this.name = "PolicyError";
    this.faults = faults;
  }
}

function describe({ line, path, problem }: PolicyFault): string {
  const place = [line === undefined ? "" : `line ${line}`, path].filter((part) => part !== "").join(", ");
  return place === "" ? problem : `${place}: ${problem}`;
}

/** The values of a YAML text, and what was found wrong with them. */
export class PolicyReader {
  readonly faults: PolicyFault[] = [];
  readonly root: unknown;
  readonly #lines = new LineCounter();
  readonly #document: Document | undefined;

  constructor(text: string) {
    const problem = unreasonable(text);
    if (problem !== undefined) {
      this.faults.push({ line: undefined, path: "", problem });
      return;
    }
    this.#document = parseDocument(text, { ...YAML, lineCounter: this.#lines });
    this.#checkDocument(this.#document);
    if (this.faults.length === 0) this.root = this.#values(this.#document);
  }

  #checkDocument(document: Document): void {
    for (const { message, pos } of [...document.errors, ...document.warnings]) this.#textFault(pos[0], message);
    if (document.directives?.yaml.version !== "1.2") this.#textFault(0, "is not YAML 1.2, where it says which it is");
    visit(document, {
      Map: (_, map) => {
        const seen = new Set<unknown>();
        for (const { key } of map.items as Iterable<{ readonly key: unknown }>) {
          const value = isScalar(key) ? key.value : undefined;
          if (seen.has(value)) this.#textFault(rangeOf(key), `${quote(value)} is there twice`);
          seen.add(value);
        }
      },
    });
  }

  #textFault(offset: number, problem: string): void {
    this.faults.push({ line: this.#lines.linePos(offset).line, path: "", problem });
  }

  #values(document: Document): unknown {
    try {
      return document.toJS({ maxAliasCount: MAX_ALIASES });
    } catch (error) {
      this.faults.push({ line: undefined, path: "", problem: (error as Error).message });
      return undefined;
    }
  }

  /** Notes that what stands at `path` is wrong. */
  fault(path: Path, problem: string): void {
    this.faults.push({ line: this.#lineOf(path), path: this.pathText(path), problem });
  }

  /** A path as people write it: `rules[2].allow[0]`. */
  pathText(path: Path): string {
    return path.map((key, index) => (typeof key === "number" ? `[${key}]` : index === 0 ? key : `.${key}`)).join("");
  }

  /** The entries of a mapping, without those that may not be there; undefined, with a fault, for anything else. */
  mapping(value: unknown, path: Path, keys?: readonly string[]): ReadonlyMap<string, unknown> | undefined {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      this.fault(path, value === undefined ? "is required" : "must be a mapping");
      return undefined;
    }
    const entries = Object.entries(value);
    for (const [key] of entries)
      if (keys?.includes(key) === false) this.fault([...path, key], `is not known here: there are ${keys.join(", ")}`);
    return new Map(entries.filter(([key]) => keys?.includes(key) !== false));
  }

  /** The items of a list of one or more; none, with a fault, for anything else. */
  list(value: unknown, path: Path): readonly unknown[] {
    if (Array.isArray(value) && value.length > 0) return value;
    this.fault(path, value === undefined ? "is required" : "must be a list of one or more");
    return [];
  }

  /** The texts of a list of one or more; items that are none are faults. */
  texts(value: unknown, path: Path): readonly string[] {
    return this.list(value, path).filter((item, index) => {
      if (typeof item === "string" && item !== "") return true;
      this.fault([...path, index], "must be text, in quotes where YAML takes it for something else");
      return false;
    }) as readonly string[];
  }

  /** The line of the innermost part of the path that is there. */
  #lineOf(path: Path): number | undefined {
    for (let length = path.length; length >= 0; length--) {
      const node = length === 0 ? this.#document?.contents : this.#document?.getIn(path.slice(0, length), true);
      if (isNode(node)) return this.#lines.linePos(rangeOf(node)).line;
    }
    return undefined;
  }
}

/** The YAML parser calls itself for each level of nesting, and far down there the process dies: this comes before it. */
function unreasonable(text: string): string | undefined {
  if (text.length > MAX_POLICY_LENGTH) return `it is longer than ${MAX_POLICY_LENGTH} characters`;
  const isDeep = text.split(/[\r\n]/).some((line) => count(line, INDICATOR) > MAX_NESTING || INDENT.test(line));
  let open = 0;
  for (const [bracket] of text.matchAll(/[[\]{}]/g)) {
    open = Math.max(0, open + (bracket === "[" || bracket === "{" ? 1 : -1));
    if (open > MAX_NESTING) break;
  }
  return isDeep || open > MAX_NESTING ? `it is nested more than ${MAX_NESTING} levels deep` : undefined;
}

function count(line: string, pattern: RegExp): number {
  return line.match(pattern)?.length ?? 0;
}

function rangeOf(node: unknown): number {
  return isNode(node) ? (node.range?.[0] ?? 0) : 0;
}

/**
 * Environment variables by a table: each variable says its name, kind and default, and one call reads them all. Faults
 * are collected, never thrown one by one, so that whoever starts the program mends them in one go. An empty value counts
 * as unset. Each secret may come from a file instead, named by `NAME_FILE`.
 */
import { accessSync, constants, readFileSync } from "node:fs";
import { quote } from "../errors.ts";
import { type Kind, type KindValues, expectation, parseValue } from "./kinds.ts";

/** Variables as `process.env` has them. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** One variable: all that code and documents know of it. */
export type Variable = Kind & {
  readonly name: string;
  /** Taken when the variable is unset, in the form that a user would write. */
  readonly default?: string;
  /** Where there is no default: what being unset means. */
  readonly unset?: string;
  /** One line for the README and `.envrc.example`. */
  readonly description: string;
  /** Never shown, and readable from the file that `NAME_FILE` names. */
  readonly secret?: true;
};

/** The values of a table by name; undefined only for what has no default. */
export type Values<Table extends readonly Variable[]> = {
  readonly [V in Table[number] as V["name"]]:
    | KindValues[V["kind"]]
    | (V extends { readonly default: string } ? never : undefined);
};

/** One thing that is wrong with the environment. */
export interface ConfigFault {
  readonly variable: string;
  /** The value as it may be shown; undefined when the variable is unset. */
  readonly value: string | undefined;
  /** What is wrong or what would be valid. */
  readonly problem: string;
}

/** Everything that is wrong with the environment, in one message. The daemon ends with exit code 78 (`EX_CONFIG`). */
export class ConfigError extends Error {
  readonly faults: readonly ConfigFault[];

  constructor(faults: readonly ConfigFault[]) {
    const lines = faults.map(({ variable, value, problem }) =>
      value === undefined ? `  ${variable}: ${problem}` : `  ${variable}=${value}: ${problem}`,
    );
    super(`the configuration has ${faults.length === 1 ? "a fault" : `${faults.length} faults`}:\n${lines.join("\n")}`);
    this.name = "ConfigError";
    this.faults = faults;
  }
}

/** The part of the file system that reading an environment needs. */
export interface Files {
  /** Content of a text file; throws when it cannot be had. */
  read(path: string): string;
  /** Throws when the file cannot be read. */
  check(path: string): void;
}

/** The real file system. */
export const realFiles: Files = {
  read: (path) => readFileSync(path, "utf8"),
  check: (path) => accessSync(path, constants.R_OK),
};

/** Where a value came from. */
export type Source = "environment" | "file" | "default" | "unset";

/** What reading a table gave. With faults, `values` lacks the variables at fault: do not use it. */
export interface Reading<Table extends readonly Variable[]> {
  readonly values: Values<Table>;
  readonly faults: ConfigFault[];
  readonly sources: ReadonlyMap<string, Source>;
}

/** How a secret is shown. */
export const HIDDEN = "(hidden)";

/** Reads every variable of `table`. */
export function readVariables<const Table extends readonly Variable[]>(
  table: Table,
  env: Environment,
  files: Files = realFiles,
): Reading<Table> {
  const values: Record<string, unknown> = {};
  const faults: ConfigFault[] = [];
  const sources = new Map<string, Source>();
  for (const variable of table) {
    const { name } = variable;
    const found = find(variable, env, files);
    sources.set(name, found.source);
    if (found.fault !== undefined) faults.push(found.fault);
    if (found.text === undefined) continue;
    const value = parseValue(variable, found.text);
    const problem = value === undefined ? `must be ${expectation(variable)}` : unreadable(variable, found.text, files);
    if (problem === undefined) values[name] = value;
    else
      faults.push({
        variable: name,
        value: shown(variable, found.text),
        problem: problem + linkHint(found.text),
      });
  }
  // Each property was parsed by the kind that `Values` derives its type from.
  return { values: values as Values<Table>, faults, sources };
}

/** The value as a person may see it. */
export function shown(variable: Variable, text: string): string {
  return variable.secret === true ? HIDDEN : quote(hideCredentials(text));
}

/** The text without the user and password of URLs in it. */
export function hideCredentials(text: string): string {
  if (!text.includes("://")) return text.replace(/^.*@/, `${HIDDEN}@`);
  // Up to the last @ before the next scheme: a password may hold slashes and commas.
  return text.replaceAll(/([a-z]+:\/\/)(?:(?![a-z]+:\/\/).)*@/gi, `$1${HIDDEN}@`);
}

interface Found {
  readonly source: Source;
  readonly text?: string;
  readonly fault?: ConfigFault;
}

function find(variable: Variable, env: Environment, files: Files): Found {
  const direct = variable.secret === true ? env[variable.name] : env[variable.name]?.trim();
  const file = variable.secret === true ? env[`${variable.name}_FILE`]?.trim() : undefined;
  if (file !== undefined && file !== "") {
    if (direct !== undefined && direct !== "") {
      const problem = `set either this or ${variable.name}_FILE`;
      return { source: "environment", fault: { variable: variable.name, value: HIDDEN, problem } };
    }
    return fromFile(variable, file, files);
  }
  if (direct !== undefined && direct.trim() !== "") return { source: "environment", text: direct };
  return variable.default === undefined ? { source: "unset" } : { source: "default", text: variable.default };
}

function fromFile(variable: Variable, path: string, files: Files): Found {
  const fault = (problem: string): Found => ({
    source: "file",
    fault: { variable: `${variable.name}_FILE`, value: quote(path), problem },
  });
  try {
    // Editors and `kubectl create secret --from-file` leave a line break at the end.
    const text = files.read(path).replace(/[\r\n]+$/, "");
    return text === "" ? fault("must be a file with the secret in it: it is empty") : { source: "file", text };
  } catch (error) {
    return fault(`must be the path of a readable file: ${reasonOf(error)}`);
  }
}

function unreadable(variable: Variable, path: string, files: Files): string | undefined {
  if (variable.kind !== "file") return undefined;
  try {
    files.check(path);
    return undefined;
  } catch (error) {
    return `must be ${expectation(variable)}: ${reasonOf(error)}`;
  }
}

/** Kubernetes sets `GRPC_PORT=tcp://…` in every pod beside a Service that is called `grpc`. */
function linkHint(text: string): string {
  return /^(?:tcp|udp):\/\//.test(text)
    ? " (Kubernetes sets such values for Services of that name: switch enableServiceLinks off in the pod)"
    : "";
}

function reasonOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : String(error);
}

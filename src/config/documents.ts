/** The table of variables in the forms that people read: `--print-config`, Markdown, `.envrc.example`. */
import { type Surroundings, readConfig } from "./config.ts";
import {
  type Environment,
  HIDDEN,
  type Source,
  type Variable,
  hideCredentials,
  readVariables,
  realFiles,
} from "./env.ts";
import { TABLE, VARIABLES } from "./variables.ts";

const ORIGIN: Readonly<Record<Source, string>> = {
  environment: "set",
  file: "from a file",
  default: "default",
  unset: "unset",
};

/** What is in force, one `NAME=value` a line with its origin; secrets hidden. Throws as {@link readConfig} does. */
export function printConfig(env: Environment, surroundings: Partial<Surroundings> = {}): string {
  const config = readConfig(env, surroundings);
  const { sources } = readVariables(TABLE, env, surroundings.files ?? realFiles);
  const settings = VARIABLES.map((variable): [string, string] => {
    const source = sources.get(variable.name) ?? "unset";
    const text = variable.name === "LOG_LEVEL" ? config.logLevel : inForce(variable, source, env);
    return [`${variable.name}=${text}`, origin(variable, source)];
  });
  const width = Math.min(60, Math.max(...settings.map(([setting]) => setting.length)));
  const lines = settings.map(([setting, comment]) => `${setting.padEnd(width)}  # ${comment}`);
  return [...lines, ...config.warnings.map((warning) => `# warning: ${warning}`), ""].join("\n");
}

/** Every variable as a Markdown table: name, default, meaning. */
export function environmentTable(): string {
  const rows = VARIABLES.map((variable) => {
    const file = variable.secret === true ? " or `…_FILE`" : "";
    return `| \`${variable.name}\`${file} | ${defaultOf(variable)} | ${variable.description} |`;
  });
  return ["| variable | default | meaning |", "| --- | --- | --- |", ...rows].join("\n");
}

/** The content of `.envrc.example`: every variable with its default, commented out. */
export function environmentExample(): string {
  const entries = VARIABLES.map((variable) => {
    const value = variable.default ?? "";
    const unset = variable.unset === undefined ? "" : ` (unset: ${variable.unset})`;
    const file = variable.secret === true ? `# or the file it is in: ${variable.name}_FILE\n` : "";
    return `# ${plain(variable.description + unset)}\n${file}#export ${variable.name}=${/^[\w.,:/-]*$/.test(value) ? value : `'${value}'`}\n`;
  });
  return `# Settings of Windshift, all optional: copy to .envrc and uncomment what you change (direnv reads it).\n\n${entries.join("\n")}`;
}

function inForce(variable: Variable, source: Source, env: Environment): string {
  if (source === "unset") return "";
  if (source === "default") return variable.default ?? "";
  return variable.secret === true ? HIDDEN : hideCredentials(env[variable.name]?.trim() ?? "");
}

function origin(variable: Variable, source: Source): string {
  if (source === "file") return `from ${variable.name}_FILE`;
  return source === "unset" && variable.unset !== undefined ? `unset: ${plain(variable.unset)}` : ORIGIN[source];
}

function defaultOf(variable: Variable): string {
  if (variable.default !== undefined) return `\`${variable.default}\``;
  return variable.unset === undefined ? "unset" : `unset: ${variable.unset}`;
}

/** Without Markdown's marks. */
function plain(markdown: string): string {
  return markdown.replaceAll("`", "");
}

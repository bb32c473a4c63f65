/** `windshift token create NAME`: a new token, shown this once, and the line that lets its holder in. */
import { closeSync, fstatSync, openSync, readSync, writeSync } from "node:fs";
import { parseArgs } from "node:util";
import { createToken } from "../auth/tokens.ts";
import type { Output } from "./output.ts";

const USAGE = `windshift token create NAME [--group GROUP]... [--expires TIME] [--file FILE]

  --group GROUP   a group that the holder is in; may be repeated
  --expires TIME  until when it is valid: 2027-01-01T00:00:00Z, or 90d from now
  --file FILE     adds the line to this file (AUTH_TOKENS_FILE of the server);
                  without it the line is shown on standard error

The token itself goes to standard output, and is stored nowhere.
`;

const OPTIONS = {
  group: { type: "string", multiple: true },
  expires: { type: "string" },
  file: { type: "string" },
} as const;
const DAY_MS = 86_400_000;

/** Runs the command; false where it was not understood, which it has said then. */
export function tokenCommand(args: readonly string[], { out, err }: Output, now: Date = new Date()): boolean {
  try {
    const { values, positionals } = parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true });
    const [command, name, ...rest] = positionals;
    if (command !== "create" || name === undefined || rest.length > 0)
      throw new Error("create and one name are needed");
    const { group: groups = [], file } = values;
    const expiresAt = values.expires === undefined ? undefined : timeOf(values.expires, now);
    const { token, line } = createToken({ name, groups, expiresAt });
    if (file !== undefined) appendLine(file, line);
    err(
      file === undefined
        ? `${name}'s line for AUTH_TOKENS_FILE:\n\n${line}\n\n`
        : `${name}'s line was added to ${file}\n`,
    );
    out(`${token}\n`);
    return true;
  } catch (error) {
    err(`windshift token: ${(error as Error).message}\n\nUsage: ${USAGE}`);
    return false;
  }
}

/** Adds a line of its own, also where the last one has no end. */
function appendLine(file: string, line: string): void {
  const descriptor = openSync(file, "a+", 0o600);
  try {
    const { size } = fstatSync(descriptor);
    const last = Buffer.alloc(1);
    const isOpen = size > 0 && readSync(descriptor, last, 0, 1, size - 1) === 1 && last.toString() !== "\n";
    writeSync(descriptor, `${isOpen ? "\n" : ""}${line}\n`);
  } finally {
    closeSync(descriptor);
  }
}

function timeOf(text: string, now: Date): Date {
  const days = /^(\d{1,5})d$/.exec(text)?.[1];
  const time = days === undefined ? new Date(text) : new Date(now.getTime() + Number(days) * DAY_MS);
  if (Number.isNaN(time.getTime()) || !/^\d/.test(text))
    throw new Error(`--expires: ${JSON.stringify(text)} is no time`);
  if (time <= now) throw new Error(`--expires: ${time.toISOString()} is past`);
  return time;
}

/**
 * The commands of the program besides serving: `windshift policy check`, `windshift token create`. Each is loaded when it is asked for, so that the
 * daemon starts without them.
 */

import type { Output } from "./output.ts";

/** Runs a command with the arguments after its name; the result is the exit code. */
export type Command = (args: readonly string[], output: Output) => number | Promise<number>;

interface Entry {
  readonly name: string;
  /** What `--help` shows. */
  readonly usage: string;
  readonly summary: string;
  readonly load: () => Promise<Command>;
}

/** What `token` answers to arguments that it does not understand; EX_USAGE of sysexits.h. */
const USAGE = 64;

const COMMANDS: readonly Entry[] = [
  {
    name: "policy",
    usage: "policy check",
    summary: "check a policy, and explain what it says to a call",
    load: async () => (await import("./policy.ts")).policyCommand,
  },
  {
    name: "token",
    usage: "token create",
    summary: "make a token for a client, and its line for AUTH_TOKENS_FILE",
    load: async () => {
      const { tokenCommand } = await import("./token.ts");
      return (args, output) => (tokenCommand(args, output) ? 0 : USAGE);
    },
  },
];

/** The lines of `--help`, one for each command. */
export const COMMAND_HELP: string = COMMANDS.map(({ usage, summary }) => `  ${usage.padEnd(16)}${summary}\n`).join("");

/** Runs the command that the first argument names; undefined when there is none of that name. */
export async function runCommand(args: readonly string[], output: Output): Promise<number | undefined> {
  const entry = COMMANDS.find(({ name }) => name === args[0]);
  if (entry === undefined) return undefined;
  const command = await entry.load();
  return command(args.slice(1), output);
}

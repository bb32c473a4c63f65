/** `windshift policy check`: what a policy says to a call, and why; without a call, whether the policy is one. */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { type Explanation, Policy } from "../auth/policy.ts";
import { PolicyError } from "../auth/policy-reader.ts";
import { WORDS, parseAccess } from "../auth/policy-words.ts";
import { ANONYMOUS, PRINCIPAL_KINDS, type Principal } from "../auth/principal.ts";
import { quote } from "../errors.ts";
import type { Output } from "./output.ts";

/** Exit codes, for scripts. */
const EXIT = { allowed: 0, denied: 1, usage: 2 } as const;

const CALLS = Object.entries(WORDS).map(([verb, words]) => `  ${verb} ${words}\n`);
const HELP = `Usage: windshift policy check [--policy FILE] [--as NAME] [--kind KIND] [--group GROUP]…
                              [--claim NAME=VALUE]… [VERB WHAT…]

Says whether the policy allows somebody a call, which rule decided, and why the others
did not. Without a call it checks the policy alone.

  --policy FILE       the policy; without it the one that AUTH_POLICY_FILE names
  --as NAME           who calls; without it somebody who shows no credential
  --kind KIND         ${PRINCIPAL_KINDS.join(", ")}; unless given jwt with
                      --claim, token otherwise
  --group GROUP       a group of who calls; may be repeated
  --claim NAME=VALUE  a claim, its value in JSON or else as it stands; may be repeated
  --help              print this

Calls ("-" is a new consumer without a name; what is left out means all):
${CALLS.join("")}
Exit codes: 0 allowed, 1 denied, 2 wrong arguments or a policy with faults.
`;

/** Runs the command. */
export function policyCommand(
  args: readonly string[],
  output: Output,
  env: Readonly<Record<string, string | undefined>> = process.env,
): number {
  const wrong = (problem: string): number => {
    output.err(`windshift policy: ${problem}\n`);
    return EXIT.usage;
  };
  const given = readArguments(args);
  if (typeof given === "string") return wrong(`${given}\n\n${HELP}`);
  const {
    values,
    positionals: [command, ...words],
  } = given;
  if (values.help === true) {
    output.out(HELP);
    return EXIT.allowed;
  }
  if (command !== "check")
    return wrong(`${command === undefined ? "check is missing" : `${quote(command)} is not known`}\n\n${HELP}`);
  const file = values.policy ?? (env.AUTH_POLICY_FILE?.trim() || undefined);
  if (file === undefined) return wrong(`--policy is required where AUTH_POLICY_FILE is not set\n\n${HELP}`);
  const principal = principalOf(values);
  if (typeof principal === "string") return wrong(principal);
  const policy = readPolicy(file);
  if (typeof policy === "string") return wrong(policy);
  if (words.length === 0) {
    output.out(`${file}: no faults, ${policy.size} rule${policy.size === 1 ? "" : "s"}\n`);
    return EXIT.allowed;
  }
  const access = parseAccess(words);
  if (typeof access === "string") return wrong(access);
  const explanation = policy.explain(principal, access);
  output.out(textOf(explanation));
  return explanation.allowed ? EXIT.allowed : EXIT.denied;
}

interface Arguments {
  readonly values: {
    readonly policy?: string;
    readonly as?: string;
    readonly kind?: string;
    readonly group?: readonly string[];
    readonly claim?: readonly string[];
    readonly help?: boolean;
  };
  readonly positionals: readonly string[];
}

function readArguments(args: readonly string[]): Arguments | string {
  const text = { type: "string" } as const;
  const options = {
    policy: text,
    as: text,
    kind: text,
    group: { ...text, multiple: true },
    claim: { ...text, multiple: true },
    help: { type: "boolean" },
  } as const;
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true });
  } catch (error) {
    return (error as Error).message;
  }
}

/** Who the arguments say that calls; a text with what is wrong with them otherwise. */
function principalOf({
  as: name,
  kind: text,
  group: groups = [],
  claim = [],
}: Arguments["values"]): Principal | string {
  if (name === undefined) {
    const isMore = text !== undefined || groups.length > 0 || claim.length > 0;
    return isMore ? "--kind, --group and --claim need --as" : ANONYMOUS;
  }
  const kind = PRINCIPAL_KINDS.find((each) => each === (text ?? (claim.length > 0 ? "jwt" : "token")));
  if (kind === undefined) return `--kind ${quote(text)} is none of ${PRINCIPAL_KINDS.join(", ")}`;
  const claims = claim.map((each): [string, unknown] => [
    each.split("=", 1)[0] ?? "",
    valueOf(each.slice(each.indexOf("=") + 1)),
  ]);
  const bad = claim.find((each) => each.indexOf("=") < 1);
  if (bad !== undefined) return `--claim ${quote(bad)} is not NAME=VALUE`;
  return { name, kind, groups, claims: Object.fromEntries(claims) };
}

function valueOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function readPolicy(path: string): Policy | string {
  try {
    return Policy.parse(readFileSync(path, "utf8"));
  } catch (error) {
    if (error instanceof PolicyError) return `${path}: ${error.message}`;
    return `--policy ${quote(path)} cannot be read: ${(error as Error).message}`;
  }
}

function textOf({ allowed, explanation, rules }: Explanation): string {
  const lines = rules.flatMap(({ rule, notes }) => notes.map((note) => `  ${rule}: ${note}\n`));
  return `${allowed ? "allowed" : "denied"}: ${explanation}\n\nThe rules, in the order of the file:\n${lines.join("")}`;
}

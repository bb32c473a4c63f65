/** What is a policy and what is not; each file is held against the parser and against the shipped JSON Schema. */
import { readFileSync } from "node:fs";
import { Ajv2020 } from "ajv/dist/2020.js";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { OPERATIONS, VERBS } from "../../../src/auth/policy-access.ts";
import { parsePolicy } from "../../../src/auth/policy-parse.ts";
import { MAX_POLICY_LENGTH, PolicyError } from "../../../src/auth/policy-reader.ts";

const SCHEMA = JSON.parse(readFileSync(new URL("../../../docs/policy.schema.json", import.meta.url), "utf8"));
const fitsSchema = new Ajv2020({ allErrors: true, allowUnionTypes: true }).compile(SCHEMA);

function refusal(text: string): PolicyError | undefined {
  try {
    parsePolicy(text);
    return undefined;
  } catch (error) {
    if (error instanceof PolicyError) return error;
    throw error;
  }
}

/** A policy with one rule, of these lines; they begin at line 3. */
const rule = (...lines: readonly string[]): string => `version: 1\nrules:\n  - ${lines.join("\n    ")}\n`;
const allowing = (...lines: readonly string[]): string =>
  rule("name: r", "for: everyone", "allow:", `  - ${lines.join("\n        ")}`);
const forWhom = (audience: string): string => rule("name: r", `for: ${audience}`, "deny: everything");
const withVariables = (...lines: readonly string[]): string =>
  `version: 1\nvariables:\n  ${lines.join("\n  ")}\nrules:\n  - { name: r, for: everyone, deny: everything }\n`;

const GOOD: Readonly<Record<string, string>> = {
  "a denial of everything": rule("name: r", "for: everyone", "deny: everything"),
  "limits alone": rule(
    "name: r",
    "for: authenticated",
    "limits: { calls-per-second: 10, bytes-per-second: 10MiB, open-subscriptions: 1, open-streams: 2 }",
  ),
  "bytes as a number": rule("name: r", "for: authenticated", "limits: { bytes-per-second: 1024 }"),
  "all that a rule may have": rule(
    "name: A_b-9",
    "description: why",
    'for: { principals: [a], groups: ["ü b"], kinds: [jwt], claims: { a: 1, b: [x, true] } }',
    "allow: everything",
    "deny: everything",
    "limits: { open-streams: 1 }",
  ),
  "names that look strange": forWhom(
    '{ principals: ["system:serviceaccount:a:b", "spiffe://a/b", "CN=a, O=b", "a@b.c", "日本", "*"] }',
  ),
  "a claim with a strange name": forWhom('{ claims: { "https://a.example/b.c": x } }'),
  "wildcards where they may stand": allowing("verbs: [publish]", 'subjects: [">", "*", "a.*.>", "*.*", a-b_C.9]'),
  "references where they may stand": allowing(
    "verbs: [publish]",
    'subjects: ["{name}", "a.{claim.t}-{name}.>", "x{claim.https://a.b/c}.*"]',
  ),
  "names with wildcards": allowing("verbs: [ensure-store]", 'stores: ["*", "a*b*", "{claim.t}-*", "*{name}"]'),
  "verbs about the same": allowing(
    "verbs: [consume, ensure-consumer]",
    "streams: [a]",
    "consumers: [b]",
    'subjects: [">"]',
  ),
  "reads and streams": allowing("verbs: [read, ensure-stream]", "streams: [a]", 'subjects: [">"]'),
  "keys of stores": allowing("verbs: [state-read, state-write]", "stores: [a]", 'keys: [">"]'),
  "operations with all that they are about": allowing(
    "verbs: [admin]",
    "operations: [get-consumer, delete-store]",
    "streams: [a]",
    "consumers: [b]",
    "stores: [c]",
  ),
  "all operations": allowing(
    "verbs: [admin]",
    'operations: ["*"]',
    'streams: ["*"]',
    'consumers: ["*"]',
    'stores: ["*"]',
  ),
  "variables that use one another": `version: 1
variables: { root: "tenants.{var.tenant}", tenant: "{claim.t}", regions: [eu, us] }
rules:
  - { name: r, for: everyone, allow: [{ verbs: [publish], subjects: ["{var.root}.{var.regions}.>"] }] }
`,
  "anchors used a few times": `version: 1
rules:
  - { name: a, for: everyone, allow: &x [{ verbs: [publish], subjects: [a] }] }
  - { name: b, for: everyone, deny: *x }
`,
};

/** Each with where the fault is and a part of what it says; those that only the server can find are marked. */
const BAD: Readonly<Record<string, readonly [text: string, fault: string | RegExp, only?: "server"]>> = {
  "an empty file": ["", "  must be a mapping"],
  "a list": ["- a\n", "line 1: must be a mapping"],
  "no version": ["rules: [{ name: r, for: everyone, deny: everything }]\n", "version: must be 1"],
  "another version": [
    "version: 2\nrules: [{ name: r, for: everyone, deny: everything }]\n",
    "line 1, version: must be 1",
  ],
  "a version in quotes": [
    'version: "1"\nrules: [{ name: r, for: everyone, deny: everything }]\n',
    "line 1, version: must be 1",
  ],
  "no rules": ["version: 1\n", "rules: is required"],
  "an empty list of rules": ["version: 1\nrules: []\n", "line 2, rules: must be a list of one or more"],
  "an unknown key at the top": [
    "version: 1\ndefault: allow\nrules: [{ name: r, for: everyone, deny: everything }]\n",
    "line 2, default: is not known here",
  ],
  "a rule that is a text": ["version: 1\nrules: [all]\n", "line 2, rules[0]: must be a mapping"],
  "a rule without a name": [rule("for: everyone", "deny: everything"), "line 3, rules[0].name: is required"],
  "a rule with blanks in its name": [
    rule("name: a b", "for: everyone", "deny: everything"),
    'line 3, rules[0].name: "a b" must be',
  ],
  "a rule for nobody named": [rule("name: r", "deny: everything"), "line 3, rules[0].for: is required"],
  "a rule that says nothing": [rule("name: r", "for: everyone"), "line 3, rules[0]: needs allow, deny or limits"],
  "an unknown key of a rule": [
    rule("name: r", "for: everyone", "alow: everything", "deny: everything"),
    "line 5, rules[0].alow: is not known here",
  ],
  "a key in capitals": [
    rule("name: r", "for: everyone", "Deny: everything", "allow: everything"),
    "rules[0].Deny: is not known here",
  ],
  "a description that is no text": [
    rule("name: r", "description: [a]", "for: everyone", "deny: everything"),
    "line 4, rules[0].description: must be text",
  ],
  "two rules of one name": [
    "version: 1\nrules:\n  - { name: r, for: everyone, deny: everything }\n  - { name: r, for: everyone, deny: everything }\n",
    'line 4, rules[1].name: "r" is the name of another rule',
    "server",
  ],
  "for everybody": [forWhom("everybody"), 'rules[0].for: "everybody" is nobody'],
  "for a star": [forWhom('"*"'), 'rules[0].for: "*" is nobody'],
  "for an empty mapping": [forWhom("{}"), "rules[0].for: is empty"],
  "for a list": [forWhom("[a]"), "rules[0].for: must be a mapping"],
  "an unknown key of for": [forWhom("{ users: [a] }"), "rules[0].for.users: is not known here"],
  "a principal alone, not in a list": [forWhom("{ principals: a }"), "rules[0].for.principals: must be a list"],
  "no principals": [forWhom("{ principals: [] }"), "rules[0].for.principals: must be a list of one or more"],
  "a principal that YAML takes for a number": [
    forWhom("{ principals: [123] }"),
    "line 4, rules[0].for.principals[0]: must be text, in quotes",
  ],
  "a principal without letters": [forWhom('{ principals: [""] }'), "rules[0].for.principals[0]: must be text"],
  "a principal with a letter that is not seen": [
    forWhom('{ principals: ["ali\\u200bce"] }'),
    'principals[0]: "ali​ce" has characters that cannot be seen',
  ],
  "a principal that turns the direction": [forWhom('{ groups: ["\\u202eecila"] }'), "groups[0]"],
  "a principal with a blank at its end": [forWhom('{ principals: ["alice "] }'), "cannot be seen"],
  "a principal in decomposed letters": [
    forWhom('{ principals: ["jose\\u0301"] }'),
    "is not in Unicode's form NFC",
    "server",
  ],
  "an unknown kind": [forWhom("{ kinds: [user] }"), 'rules[0].for.kinds[0]: "user" is no kind: there are anonymous'],
  "claims that are a list": [forWhom("{ claims: [a] }"), "rules[0].for.claims: must be a mapping"],
  "no claims": [forWhom("{ claims: {} }"), "rules[0].for.claims: must name a claim"],
  "a claim that is a mapping": [
    forWhom("{ claims: { a: { b: c } } }"),
    "rules[0].for.claims.a: must be a text, a number, true, false",
  ],
  "a claim that is null": [forWhom("{ claims: { a: null } }"), "rules[0].for.claims.a: must be"],
  "a claim with an empty list": [
    forWhom("{ claims: { a: [] } }"),
    "rules[0].for.claims.a: must be a list of one or more",
  ],
  "something else than everything": [
    rule("name: r", "for: everyone", "allow: all"),
    'rules[0].allow: "all" must be a list of entries, or everything',
  ],
  "an entry that is a text": [allowing("publish"), "rules[0].allow[0]: must be a mapping"],
  "an entry without verbs": [allowing("subjects: [a]"), "rules[0].allow[0].verbs: is required"],
  "an unknown verb": [
    allowing("verbs: [pubish]", "subjects: [a]"),
    'line 6, rules[0].allow[0].verbs[0]: "pubish" is no verb: there are publish, consume',
  ],
  "a verb in capitals": [allowing("verbs: [Publish]", "subjects: [a]"), '"Publish" is no verb'],
  "a verb with a look-alike letter": [allowing("verbs: [рublish]", "subjects: [a]"), "is no verb"],
  "a star for a verb": [allowing('verbs: ["*"]', "subjects: [a]"), '"*" is no verb'],
  "a publish of what is not said": [
    allowing("verbs: [publish]"),
    "rules[0].allow[0].subjects: is required with publish",
  ],
  "a publish to a stream": [
    allowing("verbs: [publish]", "subjects: [a]", "streams: [a]"),
    "rules[0].allow[0].streams: means nothing with publish",
  ],
  "a consume of all subjects, not said": [
    allowing("verbs: [consume]", "streams: [a]", "consumers: [a]"),
    "rules[0].allow[0].subjects: is required with consume",
  ],
  "verbs about different things": [
    allowing("verbs: [publish, consume]", "subjects: [a]", "streams: [a]", "consumers: [a]"),
    "streams: means nothing with publish",
  ],
  "an unknown key of an entry": [
    allowing("verbs: [publish]", "subject: [a]"),
    "rules[0].allow[0].subject: is not known here",
  ],
  "a subject with an empty token": [
    allowing("verbs: [publish]", "subjects: [a..b]"),
    'rules[0].allow[0].subjects[0]: "a..b" may hold only tokens',
  ],
  "a subject with > in the middle": [allowing("verbs: [publish]", 'subjects: ["a.>.b"]'), '"a.>.b" may hold only'],
  "a subject with * within a token": [allowing("verbs: [publish]", 'subjects: ["a.b*"]'), '"a.b*" may hold only'],
  "a subject with * beside a reference": [allowing("verbs: [publish]", 'subjects: ["a.*{name}"]'), "may hold only"],
  "a subject with letters that NATS does not take": [
    allowing("verbs: [publish]", "subjects: [örders]"),
    "may hold only",
  ],
  "a subject that is a number": [allowing("verbs: [publish]", "subjects: [1]"), "subjects[0]: must be text"],
  "a subject that is too long": [
    allowing("verbs: [publish]", `subjects: [${"a".repeat(1025)}]`),
    "is longer than 1024 characters",
  ],
  "an unknown reference": [
    allowing("verbs: [publish]", 'subjects: ["a.{claims.t}"]'),
    "has an unknown reference {claims.t}",
  ],
  "a reference to no claim": [
    allowing("verbs: [publish]", 'subjects: ["a.{claim.}"]'),
    "has an unknown reference {claim.}",
  ],
  "an open brace": [allowing("verbs: [publish]", 'subjects: ["a.{name"]'), "has a brace without its counterpart"],
  "a brace within braces": [
    allowing("verbs: [publish]", 'subjects: ["a.{claim.{name}}"]'),
    "has a brace without its counterpart",
  ],
  "a stream with a dot": [allowing("verbs: [cancel-event]", "streams: [a.b]"), '"a.b" may hold only letters, digits'],
  "a store with >": [allowing("verbs: [ensure-store]", 'stores: [">"]'), "may hold only letters"],
  "an admin of what is not said": [
    allowing("verbs: [admin]", "streams: [a]"),
    "rules[0].allow[0].operations: is required with admin",
  ],
  "an unknown operation": [
    allowing("verbs: [admin]", "operations: [drop-stream]", "streams: [a]"),
    '"drop-stream" is no operation: there are list-streams',
  ],
  "a pattern of no operation": [
    allowing("verbs: [admin]", 'operations: ["drop-*"]', "streams: [a]"),
    '"drop-*" is no operation',
    "server",
  ],
  "an operation without what it is about": [
    allowing("verbs: [admin]", "operations: [get-consumer]", "streams: [a]"),
    "rules[0].allow[0].consumers: is required with admin",
    "server",
  ],
  "an operation with what it is not about": [
    allowing("verbs: [admin]", "operations: [delete-store]", "stores: [a]", "streams: [a]"),
    "rules[0].allow[0].streams: means nothing with admin",
    "server",
  ],
  "limits that are none": [
    rule("name: r", "for: everyone", "limits: {}"),
    "rules[0].limits: must set one of calls-per-second",
  ],
  "a limit of nothing": [
    rule("name: r", "for: everyone", "limits: { open-streams: 0 }"),
    "rules[0].limits.open-streams: must be a whole number from 1",
  ],
  "a limit with a fraction": [
    rule("name: r", "for: everyone", "limits: { calls-per-second: 1.5 }"),
    "limits.calls-per-second: must be a whole number",
  ],
  "a limit in words": [
    rule("name: r", "for: everyone", "limits: { calls-per-second: many }"),
    "limits.calls-per-second: must be",
  ],
  "bytes in an unknown unit": [
    rule("name: r", "for: everyone", "limits: { bytes-per-second: 1 MB }"),
    "limits.bytes-per-second: must be a whole number from 1, or such as",
  ],
  "an unknown limit": [
    rule("name: r", "for: everyone", "limits: { callsPerSecond: 1 }"),
    "rules[0].limits.callsPerSecond: is not known here",
  ],
  "a variable that uses itself": [
    withVariables('a: "{var.a}"'),
    "line 3, variables.a: goes round in circles: a → a",
    "server",
  ],
  "variables in a circle": [
    withVariables('a: "x.{var.b}"', 'b: ["{var.c}"]', 'c: "{var.a}"'),
    "variables.a: goes round in circles: a → b → c → a",
    "server",
  ],
  "a variable that uses an unknown one": [
    withVariables('a: "{var.b}"'),
    'variables.a: refers to the variable "b", which is not there',
    "server",
  ],
  "a pattern with an unknown variable": [
    allowing("verbs: [publish]", 'subjects: ["a.{var.b}"]'),
    'subjects[0]: "a.{var.b}" refers to the variable "b"',
    "server",
  ],
  "variables that grow": [
    withVariables("a: [x, x, x, x, x, x, x, x, x, x, x]", 'b: "{var.a}{var.a}{var.a}"'),
    "variables.b: stands for more than 1000 texts",
    "server",
  ],
  "variables that grow longer": [
    withVariables(`a: ${"x".repeat(600)}`, 'b: "{var.a}{var.a}"'),
    "variables.b: becomes longer than 1024 characters",
    "server",
  ],
  "a variable in capitals": [withVariables("A: x"), "line 3, variables.A: is no name"],
  "a variable that is a number": [withVariables("a: 1"), "variables.a: must be a list of one or more"],
  "a variable that makes a pattern invalid": [
    'version: 1\nvariables: { a: "x.>" }\nrules:\n  - { name: r, for: everyone, allow: [{ verbs: [publish], subjects: ["{var.a}.y"] }] }\n',
    'line 4, rules[0].allow[0].subjects[0]: "{var.a}.y" may hold only tokens',
    "server",
  ],
};

describe("accepted by the parser and by the schema", () => {
  test.for(Object.entries(GOOD))("%s", ([, text]) => {
    expect(refusal(text)?.message).toBeUndefined();
    fitsSchema(parse(text));
    expect(fitsSchema.errors ?? []).toEqual([]);
  });
});

describe("refused by the parser, and by the schema where it is a matter of shape", () => {
  test.for(Object.entries(BAD))("%s", ([, [text, fault, only]]) => {
    const error = refusal(text);
    expect(error?.message).toMatch(/^the policy has (?:a fault|\d+ faults):\n/);
    expect(error?.message).toContain(fault);
    expect(fitsSchema(parse(text))).toBe(only === "server");
  });
});

test("all faults are told at once, each with its line", () => {
  const text =
    "version: 3\nrules:\n  - name: a b\n    for: nobody\n    allow:\n      - verbs: [fly]\n        subjects: [a..b]\n";
  expect(refusal(text)?.faults.map(({ line, path }) => [line, path])).toEqual([
    [1, "version"],
    [3, "rules[0].name"],
    [4, "rules[0].for"],
    [6, "rules[0].allow[0].verbs[0]"],
    [7, "rules[0].allow[0].subjects[0]"],
  ]);
});

test("of very many faults the first are told, and how many there are", () => {
  const rules = Array.from({ length: 60 }, () => "  - x");
  expect(refusal(`version: 1\nrules:\n${rules.join("\n")}\n`)?.message).toMatch(
    /^the policy has 60 faults:[^]+\n {2}and 10 more$/,
  );
});

test("the schema knows the verbs and operations of the code", () => {
  const entries: readonly SchemaEntry[] = SCHEMA.$defs.entry.oneOf;
  const known = entries.flatMap(({ properties: { verbs }, required }) =>
    (verbs.items.enum ?? [verbs.items.const]).map((verb) => [verb, required.filter((key) => key !== "verbs")]),
  );
  expect(Object.fromEntries(known)).toEqual(VERBS);
  expect(SCHEMA.$defs.operations.items.anyOf[0].enum).toEqual(Object.keys(OPERATIONS));
});

interface SchemaEntry {
  readonly properties: {
    readonly verbs: { readonly items: { readonly enum?: readonly string[]; readonly const?: string } };
  };
  readonly required: readonly string[];
}

describe("what is not even YAML as it should be", () => {
  const DOCUMENT = rule("name: r", "for: everyone", "deny: everything");
  test.for<readonly [string, string, string | RegExp]>([
    ["a broken line", `${DOCUMENT}  x\n`, /line \d+: /],
    ["an unclosed quote", `${DOCUMENT}x: "\n`, /line \d+: /],
    ["a key twice", `${DOCUMENT}version: 1\n`, 'line 6: "version" is there twice'],
    [
      "a key twice further in",
      rule("name: r", "for: everyone", "deny: everything", "for: authenticated"),
      'line 6: "for" is there twice',
    ],
    ["two documents", `${DOCUMENT}---\n${DOCUMENT}`, "multiple documents"],
    ["a tag", DOCUMENT.replace("everyone", "!!js/function everyone"), "line 4: Unresolved tag"],
    ["another version of YAML", `%YAML 1.1\n---\n${DOCUMENT}`, "is not YAML 1.2"],
    ["a key that is a list", `${DOCUMENT}? [a]\n: b\n`, "keys must be strings"],
    ["an unknown alias", `${DOCUMENT}x: *a\n`, "Unresolved alias"],
    ["a text that is too long", `${DOCUMENT}${"#".repeat(MAX_POLICY_LENGTH)}`, "it is longer than 262144 characters"],
    ["many brackets", "[".repeat(5000), "it is nested more than 100 levels deep"],
    ["many braces", "{a: ".repeat(5000), "nested more than 100 levels"],
    ["many dashes", "- ".repeat(5000), "nested more than 100 levels"],
    ["many question marks", "? ".repeat(5000), "nested more than 100 levels"],
    ["many colons", "a: ".repeat(5000), "nested more than 100 levels"],
    [
      "deep indentation",
      Array.from({ length: 500 }, (_, depth) => `${" ".repeat(depth)}a:`).join("\n"),
      "nested more than 100",
    ],
    [
      "an alias bomb",
      `a: &a [x]\n${"bcdefghi"
        .split("")
        .map((key, at) => `${key}: &${key} [${"*".concat("abcdefgh"[at] ?? "", ",").repeat(9)}]`)
        .join("\n")}\n`,
      "alias count",
    ],
    ["a value that holds itself", "version: 1\nrules: &a [*a]\n", "rules[0]: must be a mapping"],
    [
      "a prototype",
      "__proto__: { version: 1 }\nrules: [{ name: r, for: everyone, deny: everything }]\n",
      "__proto__: is not known here",
    ],
  ])("%s", ([, text, fault]) => {
    const { message } = refusal(text) ?? {};
    if (typeof fault === "string") expect(message).toContain(fault);
    else expect(message).toMatch(fault);
  });
});

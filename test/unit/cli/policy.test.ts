import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { VERBS } from "../../../src/auth/policy-access.ts";
import { COMMAND_HELP, runCommand } from "../../../src/cli/main.ts";

const folder = mkdtempSync(join(tmpdir(), "windshift-cli-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

const POLICY = file(
  "policy.yaml",
  `version: 1
rules:
  - name: shop
    for: { principals: [shop] }
    allow:
      - { verbs: [publish], subjects: [orders.created] }
      - { verbs: [ensure-consumer], streams: [orders], consumers: ["*"], subjects: [">"] }
  - name: tenants
    for: { kinds: [jwt], groups: [tenants] }
    allow:
      - { verbs: [publish], subjects: ["tenants.{claim.tenant}.>"] }
  - name: levels
    for: { claims: { level: 3, tags: a } }
    allow:
      - { verbs: [ensure-store], stores: [high] }
  - name: open
    for: everyone
    allow:
      - { verbs: [publish], subjects: [hello] }
  - name: certified
    for: { kinds: [certificate] }
    allow: everything
`,
);
const BROKEN = file(
  "broken.yaml",
  "version: 1\nrules:\n  - { name: r, for: everyone, allow: [{ verbs: [fly], subjects: [a] }] }\n",
);

async function run(...args: string[]): Promise<{ code: number | undefined; out: string; err: string }> {
  const text = { out: "", err: "" };
  const code = await runCommand(args, {
    out: (more) => void (text.out += more),
    err: (more) => void (text.err += more),
  });
  return { code, ...text };
}

const check = async (...args: string[]): ReturnType<typeof run> => run("policy", "check", "--policy", POLICY, ...args);

test("a call that is allowed is explained, with exit code 0", async () => {
  expect(await check("--as", "shop", "publish", "orders.created")).toEqual({
    code: 0,
    out: `allowed: "shop" may publish "orders.created": allowed by rule shop

The rules, in the order of the file:
  shop: rules[0].allow[0] (allow publish): allows it
  tenants: does not apply: it is not for principals of kind token
  levels: does not apply: the claim "level" is missing
  open: rules[3].allow[0] (allow publish): does not allow all of "orders.created": its subjects are "hello"
  certified: does not apply: it is not for principals of kind token
`,
    err: "",
  });
});

test("a call that is denied is explained, with exit code 1", async () => {
  const { code, out, err } = await check("--as", "shop", "publish", "orders.paid");
  expect({ code, err }).toEqual({ code: 1, err: "" });
  expect(out).toMatch(/^denied: "shop" may not publish "orders\.paid": no rule allows it\n/);
  expect(out).toContain('does not allow all of "orders.paid": its subjects are "orders.created"');
});

test("the policy is the one of the server's own variable unless another is given", async () => {
  vi.stubEnv("AUTH_POLICY_FILE", POLICY);
  onTestFinished(() => void vi.unstubAllEnvs());
  expect(await run("policy", "check", "--as", "shop", "publish", "orders.created")).toMatchObject({ code: 0, err: "" });
  expect(await run("policy", "check")).toMatchObject({ out: `${POLICY}: no faults, 5 rules\n` });
  expect(await run("policy", "check", "--policy", BROKEN)).toMatchObject({ code: 2 });
});

describe("who calls", () => {
  test.for<readonly [string, readonly string[], number]>([
    ["is nobody in particular without --as", ["publish", "hello"], 0],
    ["is nobody in particular, who may not do that", ["publish", "orders.created"], 1],
    ["is looked at by case", ["--as", "Shop", "publish", "orders.created"], 1],
    [
      "has groups and claims",
      ["--as", "x", "--group", "a", "--group", "tenants", "--claim", "tenant=t1", "publish", "tenants.t1.x"],
      0,
    ],
    [
      "has a claim of another tenant",
      ["--as", "x", "--group", "tenants", "--claim", "tenant=t1", "publish", "tenants.t2.x"],
      1,
    ],
    ["has claims in JSON", ["--as", "x", "--claim", "level=3", "--claim", 'tags=["a","b"]', "ensure-store", "high"], 0],
    [
      "has a claim that is a text in JSON",
      ["--as", "x", "--claim", 'level="3"', "--claim", "tags=a", "ensure-store", "high"],
      1,
    ],
    [
      "has a claim with a sign of equality",
      ["--as", "x", "--group", "tenants", "--claim", "tenant=a=b", "publish", "tenants.a.x"],
      1,
    ],
    ["has a certificate", ["--as", "x", "--kind", "certificate", "publish", "anything"], 0],
    ["makes a consumer without a name", ["--as", "shop", "ensure-consumer", "orders", "-", "a"], 0],
  ])("%s", async ([, args, code]) => {
    expect((await check(...args)).code).toBe(code);
  });
});

test("without a call the policy alone is checked", async () => {
  expect(await check()).toEqual({ code: 0, out: `${POLICY}: no faults, 5 rules\n`, err: "" });
});

test("a policy with faults is told, with exit code 2", async () => {
  const { code, out, err } = await run("policy", "check", "--policy", BROKEN, "publish", "a");
  expect({ code, out }).toEqual({ code: 2, out: "" });
  expect(err).toContain(
    `windshift policy: ${BROKEN}: the policy has a fault:\n  line 3, rules[0].allow[0].verbs[0]: "fly" is no verb`,
  );
});

describe("wrong arguments", () => {
  test.for<readonly [string, readonly string[], string]>([
    ["no file", ["check", "publish", "a"], "--policy is required where AUTH_POLICY_FILE is not set"],
    ["a file that is not there", ["check", "--policy", "/nowhere"], '--policy "/nowhere" cannot be read: ENOENT'],
    ["no command", [], "check is missing"],
    ["an unknown command", ["lint"], '"lint" is not known'],
    ["an unknown option", ["check", "--frob"], "--frob"],
    ["an option without its value", ["check", "--policy"], "--policy"],
    ["an unknown verb", ["check", "--policy", POLICY, "fly", "a"], '"fly" is no verb: there are publish'],
    ["a verb without what it is about", ["check", "--policy", POLICY, "publish"], "what follows publish is SUBJECT"],
    ["too much for a verb", ["check", "--policy", POLICY, "publish", "a", "b"], "what follows publish is SUBJECT"],
    ["an unknown operation", ["check", "--policy", POLICY, "admin", "fly"], '"fly" is no operation'],
    [
      "too much for an operation",
      ["check", "--policy", POLICY, "admin", "delete-stream", "a", "b"],
      "what follows delete-stream is at most",
    ],
    [
      "an unknown kind",
      ["check", "--policy", POLICY, "--as", "a", "--kind", "user"],
      '--kind "user" is none of anonymous',
    ],
    ["a group of nobody", ["check", "--policy", POLICY, "--group", "g"], "--kind, --group and --claim need --as"],
    [
      "a claim without a value",
      ["check", "--policy", POLICY, "--as", "a", "--claim", "b"],
      '--claim "b" is not NAME=VALUE',
    ],
    [
      "a claim without a name",
      ["check", "--policy", POLICY, "--as", "a", "--claim", "=b"],
      '--claim "=b" is not NAME=VALUE',
    ],
  ])("%s: exit code 2, and it is said", async ([, args, problem]) => {
    const { code, out, err } = await run("policy", ...args);
    expect({ code, out }).toEqual({ code: 2, out: "" });
    expect(err).toMatch(/^windshift policy: /);
    expect(err).toContain(problem);
  });
});

test("--help names every option and verb", async () => {
  const { code, out } = await run("policy", "--help");
  expect(code).toBe(0);
  for (const word of ["--policy", "--as", "--kind", "--group", "--claim", ...Object.keys(VERBS)])
    expect(out).toContain(word);
  expect(COMMAND_HELP).toContain("policy check");
});

test("what is no command is left to others", async () => {
  expect((await run("--prot")).code).toBeUndefined();
  expect((await run()).code).toBeUndefined();
});

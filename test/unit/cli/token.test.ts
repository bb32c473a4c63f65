import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { Tokens } from "../../../src/auth/tokens.ts";
import { tokenCommand } from "../../../src/cli/token.ts";

const NOW = new Date("2026-01-01T00:00:00Z");

function run(...args: string[]): { ok: boolean; out: string; err: string } {
  let [out, err] = ["", ""];
  const ok = tokenCommand(args, { out: (text) => (out += text), err: (text) => (err += text) }, NOW);
  return { ok, out, err };
}

test("shows the token, and apart from it the line that lets its holder in", () => {
  const { ok, out, err } = run("create", "orders", "--group", "shop", "--group", "eu", "--expires", "90d");
  expect(ok).toBe(true);
  const line = err.split("\n").find((each) => each.startsWith("orders sha256:"));
  const found = new Tokens(line!).find(out.trim());
  expect(found?.principal).toMatchObject({ name: "orders", groups: ["shop", "eu"] });
  expect(found?.expiresAtMs).toBe(Date.parse("2026-04-01T00:00:00Z"));
  expect(err).not.toContain(out.trim());
});

test("adds the line to a file, which only its owner can read where it is new", () => {
  const folder = mkdtempSync(join(tmpdir(), "windshift-token-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "tokens");
  const first = run("create", "orders", "--file", file);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  const second = run("create", "billing", "--file", file, "--expires", "2027-01-01T00:00:00Z");
  const tokens = new Tokens(readFileSync(file, "utf8"));
  expect(tokens.find(first.out.trim())?.principal.name).toBe("orders");
  expect(tokens.find(second.out.trim())?.principal.name).toBe("billing");
  expect(first.err).toBe(`orders's line was added to ${file}\n`);
  writeFileSync(file, "");
});

test("adds the line as one of its own where the last one of the file has no end", () => {
  const folder = mkdtempSync(join(tmpdir(), "windshift-token-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "tokens");
  const first = run("create", "orders", "--file", file);
  writeFileSync(file, readFileSync(file, "utf8").trimEnd());
  const second = run("create", "billing", "--file", file);
  const tokens = new Tokens(readFileSync(file, "utf8"));
  expect(tokens.find(first.out.trim())?.principal.name).toBe("orders");
  expect(tokens.find(second.out.trim())?.principal.name).toBe("billing");
});

test.each<[args: string[], problem: RegExp]>([
  [[], /create and one name are needed/],
  [["remove", "orders"], /create and one name are needed/],
  [["create"], /create and one name are needed/],
  [["create", "a", "b"], /create and one name are needed/],
  [["create", "a b"], /"a b" may hold only/],
  [["create", "a", "--group", ""], /"" may hold only/],
  [["create", "a", "--expires", "soon"], /--expires: "soon" is no time/],
  [["create", "a", "--expires", "2025-01-01"], /--expires: 2025-01-01T00:00:00.000Z is past/],
  [["create", "a", "--file", "/nowhere/tokens"], /ENOENT/],
  [["create", "a", "--what"], /--what/],
])("%o is refused, without a token", (args, problem) => {
  const { ok, out, err } = run(...args);
  expect({ ok, out }).toEqual({ ok: false, out: "" });
  expect(err).toMatch(problem);
  expect(err).toContain("Usage: windshift token create NAME");
});

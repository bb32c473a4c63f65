import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { REASONS } from "../../src/errors.ts";
import { CODES, Code } from "../../src/grpc/errors.ts";
import { codeSpans, section, tableRows } from "../support/markdown.ts";

const DOCUMENT = readFileSync(new URL("../../docs/errors.md", import.meta.url), "utf8");

const rows = tableRows(section(DOCUMENT, "reasons"));

test("docs/errors.md lists every reason with its code, in the order of the code", () => {
  const names = new Map(Object.entries(Code).map(([name, code]) => [code, name]));
  const listed = rows.map(([reason, code]) => [codeSpans(reason ?? "")[0], codeSpans(code ?? "")[0]]);
  expect(listed).toEqual(REASONS.map((reason) => [reason, names.get(CODES[reason])]));
});

test.for(rows)("docs/errors.md says when %s comes, and what to do", ([, , when, advice]) => {
  expect(when).toMatch(/\w/);
  expect(advice).toMatch(/\w/);
});

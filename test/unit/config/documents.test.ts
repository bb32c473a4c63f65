import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { environmentExample, environmentTable, printConfig } from "../../../src/config/documents.ts";
import { ConfigError } from "../../../src/config/env.ts";
import { VARIABLES } from "../../../src/config/variables.ts";
import { section, tableRows } from "../../support/markdown.ts";

function document(path: string): string {
  return readFileSync(new URL(`../../../${path}`, import.meta.url), "utf8");
}

test.each(["README.md", "docs/configuration.md"])("%s lists every variable as the code has it", (path) => {
  expect(tableRows(section(document(path), "environment"))).toEqual(tableRows(environmentTable()));
});

test(".envrc.example is what the code makes of the table", () => {
  expect(document(".envrc.example")).toBe(environmentExample());
});

test("every variable is there once, with a description of one line", () => {
  const names = VARIABLES.map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
  for (const { description } of VARIABLES) expect(description).toMatch(/^[^|\n]{10,110}$/);
});

describe("--print-config", () => {
  const printed = printConfig({
    NATS_URL: "nats://me:s3cret@a:4222",
    OTEL_EXPORTER_OTLP_HEADERS: "key=s3cret",
    DEVELOPMENT: "true",
    GRPC_PROT: "1",
  });

  test("shows every variable with its value and origin", () => {
    const lines = printed.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
    expect(lines.map((line) => line.slice(0, line.indexOf("=")))).toEqual(VARIABLES.map(({ name }) => name));
    expect(printed).toMatch(/^GRPC_PORT=8080 +# default$/m);
    expect(printed).toMatch(/^NATS_URL=nats:\/\/\(hidden\)@a:4222 +# set$/m);
    expect(printed).toMatch(/^NATS_SERVER_BIN= +# unset: the bundled one, else from PATH$/m);
  });

  test("shows what is in force rather than what is written", () => {
    expect(printed).toMatch(/^LOG_LEVEL=debug /m);
  });

  test("hides secrets", () => {
    expect(printed).toMatch(/^OTEL_EXPORTER_OTLP_HEADERS=\(hidden\) +# set$/m);
    expect(printed).not.toContain("s3cret");
  });

  test("names the file that a secret came from", () => {
    const files = { read: () => "s3cret", check: () => {} };
    const text = printConfig({ NATS_URL: "a", NATS_TOKEN_FILE: "/run/token" }, { files });
    expect(text).toMatch(/^NATS_TOKEN=\(hidden\) +# from NATS_TOKEN_FILE$/m);
    expect(text).not.toContain("s3cret");
  });

  test("ends with the warnings", () => {
    expect(printed).toMatch(/# warning: GRPC_PROT is not a variable of Windshift: GRPC_PORT is\n$/);
  });

  test("refuses a configuration that the daemon would refuse", () => {
    expect(() => printConfig({ GRPC_PORT: "x" })).toThrow(ConfigError);
  });
});

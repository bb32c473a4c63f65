import { readFileSync } from "node:fs";
import * as conventions from "@opentelemetry/semantic-conventions/incubating";
import { describe, expect, onTestFinished, test } from "vitest";
import * as attributes from "../../../src/telemetry/attributes.ts";
import { Metrics } from "../../../src/telemetry/metrics.ts";
import { SPANS } from "../../../src/telemetry/tracing.ts";
import { codeSpans, section, tableRows } from "../../support/markdown.ts";

const DOCUMENT = readFileSync(new URL("../../../docs/telemetry.md", import.meta.url), "utf8");

/** Names of our own; all others are OpenTelemetry's. */
const OWN = "windshift.";

function definitions(): Metrics["instruments"][number]["definition"][] {
  const metrics = new Metrics();
  onTestFinished(() => metrics.stop());
  return metrics.instruments.map(({ definition }) => definition);
}

describe("docs/telemetry.md lists", () => {
  test("every metric as the code has it", () => {
    const rows = definitions().map(({ name, kind, unit, attributes: names, description }) => [
      `\`${name}\``,
      kind,
      `\`${unit}\``,
      names.map((attribute) => `\`${attribute}\``).join(", "),
      description,
    ]);
    expect(tableRows(section(DOCUMENT, "metrics"))).toEqual(rows);
  });

  test("every span as the code has it", () => {
    const rows = tableRows(section(DOCUMENT, "spans")).map(([name, kind, names]) => ({
      name: codeSpans(name ?? "")[0],
      kind,
      attributes: codeSpans(names ?? ""),
    }));
    expect(rows).toEqual(SPANS);
  });

  test("every attribute", () => {
    const listed = tableRows(section(DOCUMENT, "attributes")).map(([name]) => codeSpans(name ?? "")[0]);
    const used = [...definitions(), ...SPANS].flatMap((entry) => entry.attributes);
    expect(new Set(listed)).toEqual(new Set(used));
  });
});

describe("names are those of the conventions", () => {
  const known = new Map(Object.entries(conventions).map(([name, value]) => [String(value), name]));

  /** Deprecated names are in the package too: the one of a name in force is made from it. */
  function expectKnown(name: string, prefix: string): void {
    expect(known.get(name)).toBe(`${prefix}_${name.toUpperCase().replaceAll(".", "_")}`);
  }

  test("of attributes", () => {
    const names = Object.values(attributes).filter((value) => typeof value === "string");
    for (const name of names) if (!name.startsWith(OWN)) expectKnown(name, "ATTR");
  });

  test("of metrics", () => {
    for (const { name } of definitions()) if (!name.startsWith(OWN)) expectKnown(name, "METRIC");
  });
});

import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { codeSpans, section, tableRows } from "../support/markdown.ts";

interface Locked {
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly dev?: boolean;
  readonly hasInstallScript?: boolean;
}

function file(path: string): string {
  return readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");
}

const manifest = JSON.parse(file("package.json")) as Locked;
const locked = (JSON.parse(file("package-lock.json")) as { packages: Record<string, Locked> }).packages;
const names = Object.keys({ ...manifest.dependencies, ...manifest.optionalDependencies });
const document = file("docs/dependencies.md");
const rows = tableRows(section(document, "dependencies"));

/** Where npm has put what `from` calls `name`; undefined for what is optional and not there. */
function pathOf(from: string, name: string): string | undefined {
  for (let at = from; ; at = at.slice(0, Math.max(0, at.lastIndexOf("/node_modules/")))) {
    const path = `${at === "" ? "" : `${at}/`}node_modules/${name}`;
    if (locked[path] !== undefined) return path;
    if (at === "") return undefined;
  }
}

function below(path: string, seen = new Set<string>()): Set<string> {
  const { dependencies, optionalDependencies } = locked[path]!;
  for (const name of Object.keys({ ...dependencies, ...optionalDependencies })) {
    const found = pathOf(path, name);
    if (found === undefined || seen.has(found)) continue;
    seen.add(found);
    below(found, seen);
  }
  return seen;
}

test("docs/dependencies.md has every dependency, with why, from whom, and what it brings along", () => {
  const listed = rows.map(([name = "", , , count]) => [codeSpans(name)[0], Number(count)]);
  expect(listed).toEqual(names.map((name) => [name, below(`node_modules/${name}`).size]));
  for (const [, why, who] of rows) expect(`${why} ${who}`).toMatch(/\w+.*\w+/);
});

test("versions are exact", () => {
  for (const version of Object.values({ ...manifest.dependencies, ...manifest.optionalDependencies })) {
    expect(version).toMatch(/^\d+\.\d+\.\d+$/);
  }
});

test("of what is shipped, only the packages that the document names have install scripts", () => {
  const shipped = new Set(names.flatMap((name) => [`node_modules/${name}`, ...below(`node_modules/${name}`)]));
  const scripted = [...shipped].filter((path) => locked[path]!.hasInstallScript === true);
  expect(scripted).toEqual(["node_modules/protobufjs"]);
  expect(document).toContain("(`protobufjs`) has an install script");
  expect(file("Dockerfile").match(/npm ci.*/g)).toSatisfy((lines: string[]) =>
    lines.every((line) => line.includes("--ignore-scripts")),
  );
});

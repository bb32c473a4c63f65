/** docs/guarantees.md: every promise names tests, and they are there. */
import { existsSync, globSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const PROMISES = readFileSync(`${ROOT}docs/guarantees.md`, "utf8").split(/^## /m).slice(1);

/** Names that the fault suite gives to its checks. */
const CHECKS = new Set(
  globSync("test/chaos/**/*.ts", { cwd: ROOT }).flatMap((file) => {
    const source = readFileSync(ROOT + file, "utf8");
    return [...source.matchAll(/(?:\bcheck: |\badd\()"([a-z ]+)"/g)].map(([, name]) => name!);
  }),
);

test("the promises are numbered", () => {
  expect(PROMISES.map((text) => Number.parseInt(text, 10))).toEqual(PROMISES.map((_, index) => index + 1));
});

test.for(PROMISES.map((text): [title: string, text: string] => [text.slice(0, text.indexOf("\n")), text]))(
  "%s: its tests are there",
  ([, text]) => {
    const paths = [...text.matchAll(/`(test\/[\w./-]+\.test\.ts)`/g)].map(([, path]) => path!);
    expect(paths).not.toEqual([]);
    for (const path of paths) expect(path).toSatisfy((each: string) => existsSync(ROOT + each));
    const checks = [...text.matchAll(/\[((?:`[\w ]+`,?\s*)+)\]/g)].flatMap(([, names]) =>
      names!.match(/[\w ]+(?=`)/g)!,
    );
    expect(checks.filter((name) => name.trim() !== "" && !CHECKS.has(name))).toEqual([]);
  },
);

test("every check of the fault suite belongs to a promise", () => {
  const named = PROMISES.join("\n");
  // `fault` is about the suite itself.
  expect([...CHECKS].filter((name) => name !== "fault" && !named.includes(`\`${name}\``))).toEqual([]);
});

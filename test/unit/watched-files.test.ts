import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test as base } from "vitest";
import { watchFiles } from "../../src/watched-files.ts";

const INTERVAL_MS = 5;

const test = base.extend<{ folder: string }>({
  folder: async ({}, use) => {
    const folder = mkdtempSync(join(tmpdir(), "windshift-watch-"));
    await use(folder);
    rmSync(folder, { recursive: true });
  },
});

test("tells of a file that is written again, replaced, taken away and back", async ({ folder }) => {
  const file = join(folder, "a");
  writeFileSync(file, "1");
  let changes = 0;
  using _ = watchFiles([join(folder, "other"), file], () => (changes += 1), INTERVAL_MS);
  const steps = [
    () => writeFileSync(file, "2"),
    () => {
      writeFileSync(join(folder, "b"), "2");
      renameSync(join(folder, "b"), file);
    },
    () => unlinkSync(file),
    () => writeFileSync(file, "2"),
  ];
  for (const step of steps) {
    const before = changes;
    step();
    await expect.poll(() => changes).toBeGreaterThan(before);
  }
});

test("follows links to folders that are swapped, as Kubernetes does it", async ({ folder }) => {
  for (const version of ["v1", "v2"]) {
    mkdirSync(join(folder, version));
    writeFileSync(join(folder, version, "a"), "same size");
  }
  symlinkSync("v1", join(folder, "data"));
  let changes = 0;
  using _ = watchFiles([join(folder, "data", "a")], () => (changes += 1), INTERVAL_MS);
  symlinkSync("v2", join(folder, "next"));
  renameSync(join(folder, "next"), join(folder, "data"));
  await expect.poll(() => changes).toBe(1);
});

test("is silent after its end", async ({ folder }) => {
  const file = join(folder, "a");
  const told: string[] = [];
  const first = watchFiles([file], () => told.push("first"), INTERVAL_MS);
  using _ = watchFiles([file], () => told.push("second"), INTERVAL_MS);
  first[Symbol.dispose]();
  writeFileSync(file, "1");
  await expect.poll(() => told).toEqual(["second"]);
});

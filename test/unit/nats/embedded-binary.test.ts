import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { expect, test as base } from "vitest";
import { findServerBinary } from "../../../src/nats/embedded-binary.ts";
import { StartError } from "../../../src/nats/start-error.ts";

const test = base.extend<{ folder: string; program: string }>({
  folder: async ({}, use) => {
    const folder = await mkdtemp(join(tmpdir(), "windshift-binary-"));
    await use(folder);
    await rm(folder, { recursive: true, force: true });
  },
  program: async ({ folder }, use) => {
    const path = join(folder, "nats-server");
    await writeFile(path, "#!/bin/sh\n");
    await chmod(path, 0o755);
    await use(path);
  },
});

test("the program that the operator names is taken, whatever else there is", async ({ program }) => {
  expect(await findServerBinary({ binary: program, packaged: "/nowhere", path: "" })).toBe(program);
});

test("a program that may not be executed is refused by the variable's name", async ({ folder, program }) => {
  await chmod(program, 0o644);
  for (const binary of ["", folder, program, join(folder, "missing")]) {
    await expect(findServerBinary({ binary })).rejects.toThrow(
      new StartError(`NATS_SERVER_BIN: ${JSON.stringify(binary)} is not an executable file`),
    );
  }
});

test("a packaged program with another digest is not run, even with one on PATH", async ({ folder, program }) => {
  await expect(findServerBinary({ packaged: program, path: folder })).rejects.toThrow(
    /^.*nats-server is not the nats-server that this version was built with \(sha256 [0-9a-f]{64}, expected c67f0fb/,
  );
});

test("a package without its program is to be installed again", async ({ folder }) => {
  await expect(findServerBinary({ packaged: join(folder, "missing") })).rejects.toThrow("install it again");
});

test("without a package, the first program on PATH is taken", async ({ folder, program }) => {
  const empty = join(folder, "empty");
  await mkdir(join(empty, "nats-server"), { recursive: true });
  const path = ["", empty, folder].join(delimiter);
  expect(await findServerBinary({ packaged: null, path })).toBe(program);
});

test("without any program, the error says what to install", async ({ folder }) => {
  const found = findServerBinary({ packaged: null, path: folder });
  await expect(found).rejects.toBeInstanceOf(StartError);
  await expect(found).rejects.toThrow(/NATS_URL.*NATS_SERVER_BIN.*PATH.*@eplightning\/nats-server-linux-x64/);
});

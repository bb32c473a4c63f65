/** A Go client, generated from `proto/` as a user would do it: protoc-gen-go, protoc-gen-go-grpc, buf. */
import { copyFile, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";
import { test } from "../support/fixtures.ts";
import { expectedReport } from "../support/foreign-client.ts";
import { ROOT, type Toolchain, execute, fetched, protoFiles, toolchain } from "../support/toolchain.ts";

const PROTOBUF = "v1.36.11";
const GRPC = "v1.79.3";
const PROTOC_GEN_GO_GRPC = "v1.6.0";
const SOURCE = "test/interop/go-client/main.go";
/** Compilers and packages are downloaded and built the first time. */
const BUILD_TIMEOUT_MS = 600_000;

async function build(folder: string): Promise<void> {
  const bin = join(folder, "bin");
  for (const plugin of [
    `google.golang.org/protobuf/cmd/protoc-gen-go@${PROTOBUF}`,
    `google.golang.org/grpc/cmd/protoc-gen-go-grpc@${PROTOC_GEN_GO_GRPC}`,
  ]) {
    await fetched("go", ["install", plugin], { cwd: folder, env: { GOBIN: bin } });
  }
  const plugins = ["protoc-gen-go", "protoc-gen-go-grpc"].map((plugin) => ({
    local: join(bin, plugin),
    out: folder,
    opt: "paths=source_relative",
  }));
  const template = JSON.stringify({ version: "v2", plugins });
  const buf = join(ROOT, "node_modules/.bin/buf");
  await execute(buf, ["generate", "proto", "--template", template, "--path", "proto/windshift"], { cwd: ROOT });
  const module = [
    "module windshift.dev/gen",
    "go 1.24.0",
    `require google.golang.org/grpc ${GRPC}`,
    `require google.golang.org/protobuf ${PROTOBUF}`,
  ];
  await writeFile(join(folder, "go.mod"), `${module.join("\n")}\n`);
  await mkdir(join(folder, "client"));
  await copyFile(join(ROOT, SOURCE), join(folder, "client/main.go"));
  await fetched("go", ["mod", "tidy"], { cwd: folder });
  await execute("go", ["build", "-o", bin, "./client"], { cwd: folder });
}

async function goClient(): Promise<Toolchain> {
  const versions = [PROTOBUF, GRPC, PROTOC_GEN_GO_GRPC];
  const sources = [SOURCE, "test/interop/go-client.test.ts", ...protoFiles("windshift")];
  return toolchain("go-client", versions, sources, build);
}

test(
  "a Go client publishes, consumes, settles, keeps state, and reads the details of errors",
  { timeout: BUILD_TIMEOUT_MS },
  async ({ windshift, skip }) => {
    const client = await goClient();
    if ("missing" in client) return skip(`no Go client can be built: ${client.missing}`);
    const output = await execute(join(client.folder, "bin/client"), [windshift.address, "golang"]);
    expect(JSON.parse(output)).toEqual(expectedReport("Go", "golang"));
  },
);

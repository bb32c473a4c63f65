/** A Python client, generated from `proto/` as a user would do it: grpcio-tools in a virtual environment. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { expect } from "vitest";
import { TlsFiles } from "../support/certificate.ts";
import { test } from "../support/fixtures.ts";
import { expectedReport } from "../support/foreign-client.ts";
import { ROOT, type Toolchain, execute, fetched, protoFiles, toolchain } from "../support/toolchain.ts";
import { startWindshift } from "../support/windshift.ts";

const PACKAGES = ["grpcio==1.80.0", "grpcio-tools==1.80.0", "grpcio-status==1.80.0"];
const SOURCE = join(ROOT, "test/interop/python-client/client.py");
/** Packages are downloaded the first time. */
const BUILD_TIMEOUT_MS = 600_000;

async function build(folder: string): Promise<void> {
  const [environment, generated] = [join(folder, "venv"), join(folder, "generated")];
  await fetched("python3", ["-m", "venv", environment]);
  const python = join(environment, "bin/python");
  await fetched(python, ["-m", "pip", "install", "--quiet", "--only-binary", ":all:", ...PACKAGES]);
  await mkdir(generated);
  const outputs = ["-I", "proto", `--python_out=${generated}`, `--grpc_python_out=${generated}`];
  await execute(python, ["-m", "grpc_tools.protoc", ...outputs, ...protoFiles("windshift")], { cwd: ROOT });
}

async function pythonClient(): Promise<Toolchain> {
  const sources = ["test/interop/python-client.test.ts", ...protoFiles("windshift")];
  return toolchain("python-client", PACKAGES, sources, build);
}

test(
  "a Python client publishes, consumes, settles, keeps state, and reads the details of errors",
  { timeout: BUILD_TIMEOUT_MS },
  async ({ windshift, skip }) => {
    const client = await pythonClient();
    if ("missing" in client) return skip(`no Python client can be made: ${client.missing}`);
    const output = await execute(join(client.folder, "venv/bin/python"), [SOURCE, windshift.address, "python"], {
      env: { PYTHONPATH: join(client.folder, "generated"), PYTHONDONTWRITEBYTECODE: "1" },
    });
    expect(JSON.parse(output)).toEqual(expectedReport("Python", "python"));
  },
);

test("the same over TLS", { timeout: BUILD_TIMEOUT_MS }, async ({ nats, skip }) => {
  const client = await pythonClient();
  if ("missing" in client) return skip(`no Python client can be made: ${client.missing}`);
  using tls = TlsFiles.make();
  if (tls === undefined) return skip("needs openssl");
  await using windshift = await startWindshift(nats.url, tls.env);
  const output = await execute(
    join(client.folder, "venv/bin/python"),
    [SOURCE, windshift.address, "python_tls", tls.certFile],
    { env: { PYTHONPATH: join(client.folder, "generated"), PYTHONDONTWRITEBYTECODE: "1" } },
  );
  expect(JSON.parse(output)).toEqual(expectedReport("Python", "python_tls"));
});

test(
  "the reader of the guide to reading goes on until its stream is deleted",
  { timeout: BUILD_TIMEOUT_MS },
  async ({ windshift, jsm, skip }) => {
    const client = await pythonClient();
    if ("missing" in client) return skip(`no Python client can be made: ${client.missing}`);
    await windshift.client.ensureStream({
      name: "orders",
      source: { case: "subjects", value: { subjects: ["orders.>"] } },
    });
    await windshift.client.publish("orders.created");
    const [, program] = /```python\n([^]*?)```/.exec(await readFile(join(ROOT, "docs/reading.md"), "utf8"))!;
    const python = spawn(
      join(client.folder, "venv/bin/python"),
      ["-u", "-c", program!.replace("localhost:8080", windshift.address)],
      { env: { ...process.env, PYTHONPATH: join(client.folder, "generated"), PYTHONDONTWRITEBYTECODE: "1" } },
    );
    const ended = once(python, "close");
    let errors = "";
    python.stderr.on("data", (text) => (errors += String(text)));
    const lines: string[] = [];
    for await (const line of createInterface({ input: python.stdout })) {
      lines.push(line);
      if (lines.length === 2) await windshift.client.publish("orders.paid");
      if (lines.length === 3) await jsm.streams.delete("orders");
    }
    expect(lines, `${errors}`).toEqual(["1 orders.created", "caught up at 1", "2 orders.paid"]);
    expect(await ended).toEqual([1, null]);
    expect(errors).toContain("StatusCode.NOT_FOUND");
  },
);

test(
  "the client of the README works as it stands there",
  { timeout: BUILD_TIMEOUT_MS },
  async ({ windshift, skip }) => {
    const client = await pythonClient();
    if ("missing" in client) return skip(`no Python client can be made: ${client.missing}`);
    const [, program] = /```python\n([^]*?)```/.exec(await readFile(join(ROOT, "README.md"), "utf8"))!;
    const output = await execute(
      join(client.folder, "venv/bin/python"),
      ["-c", program!.replace("localhost:8080", windshift.address)],
      { env: { PYTHONPATH: join(client.folder, "generated"), PYTHONDONTWRITEBYTECODE: "1" } },
    );
    expect(output.trim().split("\n")).toEqual(["published 1", "received 1 hello", "acknowledged [1]"]);
  },
);

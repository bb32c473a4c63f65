/** What npm would publish: packed, installed in an empty folder with its production dependencies, and started. */
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { expect, test as base, vi } from "vitest";
import {
  HealthCheckRequestSchema,
  HealthCheckResponse_ServingStatus as Status,
  HealthCheckResponseSchema,
} from "../../src/gen/grpc/health/v1/health_pb.ts";
import { VERSION } from "../../src/version.ts";
import { Client } from "../support/client.ts";
import { run, works } from "../support/commands.ts";
import { spawnDaemon } from "../support/daemon-process.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
/** All that a build and a package are made of. */
const SOURCES = [
  ...["package.json", "package-lock.json", "tsconfig.json", "tsconfig.build.json", "tools", "src", "proto"],
  ...["README.md", "LICENSE", "CHANGELOG.md"],
];

// Installing takes what the registry takes.
vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

interface Package {
  /** The files in it. */
  readonly files: readonly string[];
  readonly tarball: string;
  /** The program as npm installed it; undefined with the reason where npm could not. */
  readonly program: string | undefined;
  readonly reason: string;
}

const test = base.extend<{ $file: { packed: Package }; $test: { folder: string } }>({
  packed: [
    async ({}, use) => {
      const folder = await mkdtemp(join(tmpdir(), "windshift-package-"));
      const files = await pack(folder);
      await use({ ...files, ...(await install(join(folder, "user"), files.tarball)) });
      await rm(folder, { recursive: true, force: true });
    },
    { scope: "file" },
  ],
  folder: async ({}, use) => {
    const folder = await mkdtemp(join(tmpdir(), "windshift-package-"));
    await use(folder);
    await rm(folder, { recursive: true, force: true });
  },
});

test("the package holds the compiled sources, the contract and what people read, and nothing else", async ({
  packed: { files },
}) => {
  const expected =
    /^(dist\/.*\.(js|d\.ts)|docs\/.*\.(md|svg)|proto\/.*\.proto|(README|CHANGELOG|CONTRIBUTING|SECURITY)\.md|LICENSE|package\.json)$/;
  expect(files.filter((file) => !expected.test(file))).toEqual([]);
  for (const file of ["dist/bin.js", "dist/main.js", "README.md", "LICENSE", "CHANGELOG.md"])
    expect(files).toContain(file);
  expect(files).toContain("proto/windshift/events/v1alpha1/events.proto");
  expect(files).toContain("proto/google/rpc/status.proto");
});

test("the installed program serves on its own NATS", async ({ packed: { program, reason }, folder, skip }) => {
  if (program === undefined) return skip(`npm could not install the package: ${reason}`);
  const env = { NATS_DATA_DIR: join(folder, "data"), PATH: withThisNode() };
  await using daemon = spawnDaemon({ command: [program], cwd: folder, env });
  const { grpc } = await daemon.serving();
  const client = new Client(grpc);
  const request = toBinary(HealthCheckRequestSchema, create(HealthCheckRequestSchema, {}));
  const response = await client.raw("/grpc.health.v1.Health/Check", request);
  expect(fromBinary(HealthCheckResponseSchema, response).status).toBe(Status.SERVING);
  client.close();
  daemon.kill("SIGTERM");
  expect(await daemon.exited).toEqual({ code: 0, signal: null });
  expect(daemon.log.find((line) => "version" in line && "grpc" in line)).toMatchObject({ version: VERSION });
});

test("the installed program says which Node it needs under an older one", async ({
  packed: { program, reason },
  skip,
}) => {
  if (program === undefined) return skip(`npm could not install the package: ${reason}`);
  const old = await olderNode();
  if (old === undefined) return skip("there is no older Node on PATH");
  await using daemon = spawnDaemon({ command: [old, program], args: ["--version"] });
  expect(await daemon.exited).toEqual({ code: 1, signal: null });
  expect(daemon.stderr).toMatch(/^windshift: needs Node 24 or newer; this is Node \d+\.\d+\.\d+ \(.*\)\n$/);
});

/** Builds and packs a copy, so that the checkout's `dist` stays as it is. */
async function pack(folder: string): Promise<{ files: string[]; tarball: string }> {
  const copy = join(folder, "copy");
  await mkdir(copy);
  for (const name of SOURCES) await cp(join(ROOT, name), join(copy, name), { recursive: true });
  await symlink(join(ROOT, "node_modules"), join(copy, "node_modules"));
  await run("npm", ["run", "build"], { cwd: copy, env: npmEnvironment() });
  const printed = await run("npm", ["pack", "--json", "--ignore-scripts"], { cwd: copy, env: npmEnvironment() });
  const [packed] = Object.values(
    JSON.parse(printed) as Record<string, { filename: string; files: { path: string }[] }>,
  );
  if (packed === undefined) throw new Error(`npm pack printed ${printed}`);
  return { files: packed.files.map(({ path }) => path), tarball: join(copy, packed.filename) };
}

async function install(folder: string, tarball: string): Promise<{ program: string | undefined; reason: string }> {
  await mkdir(folder);
  await writeFile(join(folder, "package.json"), "{}");
  const args = ["install", "--prefer-offline", "--no-audit", "--no-fund", "--omit=dev", tarball];
  try {
    await run("npm", args, { cwd: folder, env: npmEnvironment() });
  } catch (error) {
    return { program: undefined, reason: (error as Error).message };
  }
  const { dependencies } = JSON.parse(await readFile(join(folder, "package.json"), "utf8")) as Record<string, object>;
  expect(Object.keys(dependencies ?? {})).toEqual(["windshift"]);
  return { program: join(folder, "node_modules", ".bin", "windshift"), reason: "" };
}

/** What the npm command that runs the tests was told about itself is not meant for the ones started here. */
function npmEnvironment(): NodeJS.ProcessEnv {
  const own = /^npm_(package_|lifecycle_|config_(local_prefix|global|omit|json|dry_run|workspaces?|pack_destination)$)/;
  const kept = Object.entries(process.env).filter(([name]) => !own.test(name));
  return { ...Object.fromEntries(kept), PATH: withThisNode() };
}

/** `PATH` with the Node that runs this first. */
function withThisNode(): string {
  return [join(process.execPath, ".."), process.env["PATH"]].join(delimiter);
}

async function olderNode(): Promise<string | undefined> {
  const isOlder = "process.exit(Number(process.versions.node.split('.')[0]) < 24 ? 0 : 1)";
  for (const folder of (process.env["PATH"] ?? "").split(delimiter)) {
    const candidate = join(folder, "node");
    if (existsSync(candidate) && (await works(candidate, ["-e", isOlder]))) return candidate;
  }
  return undefined;
}

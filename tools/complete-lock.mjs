/**
 * Completes package-lock.json after `npm install`. Tools with native binaries list one optional package for each
 * platform; where the registry in use lacks some of them, npm leaves them out of the lock file without a word, and
 * `npm ci` then refuses the whole file. Each gets an entry with its version and platform, which is all that `npm ci`
 * needs to pass over it.
 */
import { readFileSync, writeFileSync } from "node:fs";

const FILE = new URL("../package-lock.json", import.meta.url);
const lock = JSON.parse(readFileSync(FILE, "utf8"));
const SYSTEMS = ["android", "darwin", "freebsd", "linux", "netbsd", "openbsd", "openharmony", "sunos", "aix", "win32"];
const ARCHITECTURES = [
  ["arm64", /arm64|aarch64/],
  ["arm", /arm(?!64)/],
  ["x64", /x64|x86_64/],
  ["ia32", /ia32|i686/],
  ["ppc64", /ppc64/],
  ["riscv64", /riscv64/],
  ["s390x", /s390x/],
  ["loong64", /loong64/],
  ["wasm32", /wasm32/],
];

/** Where npm would look for `name` from `path`, innermost first. */
function isThere(path, name) {
  for (let at = path; ; at = at.slice(0, Math.max(0, at.lastIndexOf("/node_modules/")))) {
    if (lock.packages[`${at === "" ? "" : `${at}/`}node_modules/${name}`] !== undefined) return true;
    if (at === "") return false;
  }
}

let added = 0;
for (const [path, entry] of Object.entries(lock.packages)) {
  for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
    if (isThere(path, name)) continue;
    const os = SYSTEMS.find((system) => name.includes(system));
    const cpu = ARCHITECTURES.find(([, pattern]) => pattern.test(name))?.[0];
    if (os === undefined && cpu !== "wasm32") throw new Error(`${name}: for which platform is it?`);
    lock.packages[`node_modules/${name}`] = {
      version: version.replace(/^[^\d]*/, ""),
      ...(cpu === undefined ? {} : { cpu: [cpu] }),
      ...(entry.dev === true ? { dev: true } : {}),
      ...(/musl/.test(name) ? { libc: ["musl"] } : /gnu/.test(name) ? { libc: ["glibc"] } : {}),
      optional: true,
      ...(os === undefined ? {} : { os: [os] }),
    };
    added += 1;
  }
}
const sorted = Object.entries(lock.packages).toSorted(([a], [b]) => (a < b ? -1 : 1));
lock.packages = Object.fromEntries(sorted);
writeFileSync(FILE, `${JSON.stringify(lock, null, 2)}\n`);
console.log(`package-lock.json: ${added} entries added`);

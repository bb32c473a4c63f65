/**
 * Everything that CI runs after `npm ci`, one check after the other: a failure does not hide the next one. `.ci/run` is the
 * entry; `node tools/ci.mjs` runs the same in a checkout that is installed already.
 */
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

const MINUTE_MS = 60_000;
const COMMITS = 50;
/** What a suite ends with that passed as far as it can run here. */
const NOT_ALL_OF_IT = 3;
/** The fault suite runs what is shipped. */
const BUILT = "dist/main.js";
const OTHER_ENGINE = "grpc-js";
/** By engine: two rounds of 20 s each from there on, 41 faults of 30 kinds between them. */
const CHAOS_SEEDS = { native: "2", [OTHER_ENGINE]: "7" };

const root = fileURLToPath(new URL("..", import.meta.url));
const bin = join(root, "node_modules", ".bin");
const env = { ...process.env, CI: "true", FORCE_COLOR: "0", NO_COLOR: "1", PATH: bin + delimiter + process.env.PATH };
const temporary = mkdtempSync(join(tmpdir(), "windshift-ci-"));
process.on("exit", () => rmSync(temporary, { recursive: true, force: true }));

/** Thrown by a check that cannot run here. */
class Skipped extends Error {}

const counts = { passed: 0, failed: 0, skipped: 0 };
const summary = [];

function check(name, action) {
  console.log(`\n=== ${name}`);
  const start = Date.now();
  let result = "passed";
  let why = "";
  try {
    action();
  } catch (error) {
    result = error instanceof Skipped ? "skipped" : "failed";
    why = error.message;
    console.log(`${result}: ${why}`);
  }
  counts[result] += 1;
  summary.push(`${result.padEnd(8)}${name} (${((Date.now() - start) / 1000).toFixed(1)} s)${why && `: ${why}`}`);
}

/** Runs a command that shows its output; throws when it fails. */
function run(command, args, { cwd = root, timeout = 5 * MINUTE_MS, settings = {} } = {}) {
  const { error, status, signal } = spawnSync(command, args, {
    cwd,
    env: { ...env, ...settings },
    timeout,
    stdio: ["ignore", "inherit", "inherit"],
  });
  if (error !== undefined) throw new Error(`${command}: ${error.message}`);
  if (status === NOT_ALL_OF_IT) throw new Skipped("not all of it can run here, as it says above");
  if (status !== 0) throw new Error(`${[command, ...args].join(" ")} ended with ${signal ?? `exit code ${status}`}`);
}

/** What a command prints; undefined when it fails. */
function ask(command, args) {
  const { error, status, stdout } = spawnSync(command, args, { cwd: root, env, encoding: "utf8" });
  return error === undefined && status === 0 ? stdout.trim() : undefined;
}

if (process.argv.includes("--installed")) check("install", () => undefined);

check("format", () => run("oxfmt", ["--check"]));
check("lint", () => run("oxlint", []));
check("types", () => run("tsc", ["-p", "."]));
check("unused code and dependencies", () => run("knip", []));
check("contract: lint", () => run("buf", ["lint"]));
check("contract: nothing breaks", () => run("buf", ["breaking", "--against", "proto/baseline.binpb"]));
check("contract: generated code is up to date", () => {
  const out = join(temporary, "generated");
  run("buf", ["generate", "--output", out]);
  run("diff", ["-r", join(out, "src", "gen"), join(root, "src", "gen")]);
});
check("commit messages", () => {
  const known = Number(ask("git", ["rev-list", "--count", "--first-parent", "HEAD"]) ?? 0);
  if (known < 2) throw new Skipped("there is no git history");
  run("commitlint", ["--from", `HEAD~${Math.min(COMMITS, known - 1)}`, "--to", "HEAD"]);
});

check("package: build", () => run("npm", ["run", "build"]));
check("package: shape", () => {
  run("npm", ["pack", "--ignore-scripts", "--loglevel=error", "--pack-destination", temporary]);
  const tarball = join(
    temporary,
    readdirSync(temporary).find((name) => name.endsWith(".tgz")),
  );
  run("publint", ["--strict", tarball]);
  run("attw", [tarball, "--profile", "esm-only"]);
});
check("package: bill of materials", () => {
  const text = ask("npm", ["run", "--silent", "sbom"]);
  if (text === undefined || JSON.parse(text).components.length === 0) throw new Error("npm sbom gave none");
});
check("package: no known vulnerabilities", () => {
  const { stdout } = spawnSync("npm", ["audit", "--omit=dev", "--json"], { cwd: root, env, encoding: "utf8" });
  const { vulnerabilities } = JSON.parse(stdout || "{}").metadata ?? {};
  if (vulnerabilities === undefined) throw new Skipped("the registry in use does not answer npm audit");
  if (vulnerabilities.total > 0) run("npm", ["audit", "--omit=dev"]);
});
check("image: the stages of the Dockerfile run without Docker", () => {
  const [command = ""] = /npm ci --omit=dev.*/.exec(readFileSync(join(root, "Dockerfile"), "utf8")) ?? [];
  const cwd = join(temporary, "image");
  mkdirSync(cwd);
  for (const name of ["package.json", "package-lock.json"]) cpSync(join(root, name), join(cwd, name));
  const [npm, ...args] = command.split(" ");
  // npm has just fetched all of it.
  run(npm, args, { cwd, settings: { npm_config_prefer_offline: "true" } });
  cpSync(join(root, "dist"), join(cwd, "dist"), { recursive: true });
  run("node", ["dist/bin.js", "--version"], { cwd });
});
check("docker-compose.yml", () => {
  if (ask("docker", ["compose", "version"]) === undefined) throw new Skipped("needs docker compose");
  run("docker", ["compose", "--profile", "server", "config", "--quiet"]);
});

// It skips by itself what cannot be built here.
check("conformance: h2spec, and the interop clients of grpc-go and grpc-java", () =>
  run("npm", ["run", "conformance"], { timeout: 15 * MINUTE_MS }),
);

// The same rounds each time: a red one is more likely the change's doing than that of faults nobody has tried. Those are for `npm run chaos`.
for (const [engine, seed] of Object.entries(CHAOS_SEEDS)) {
  check(`chaos: two rounds of faults, engine ${engine}`, () =>
    run("node", ["test/chaos/main.ts", "--rounds", "2", "--seed", seed, "--confirm", "--entry", BUILT], {
      timeout: 8 * MINUTE_MS,
      settings: { GRPC_ENGINE: engine },
    }),
  );
}

tests("tests", [], { CHAOS_ENTRY: BUILT });
// What names its engines itself, or has none, has run.
const others = [
  "test/integration/{embedded,health-server,native-engine,nats-connection,nats-protocol,telemetry}.test.ts",
  "test/differential/**",
].flatMap((files) => ["--exclude", files]);
tests(`tests on the engine ${OTHER_ENGINE}`, ["--project", "integration", "--project", "interop", ...others], {
  GRPC_ENGINE: OTHER_ENGINE,
});

/** Runs tests as the README says; each of them counts. */
function tests(name, more, settings) {
  console.log(`\n=== ${name}`);
  const report = join(temporary, `${name}.json`);
  let failure = "";
  try {
    const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
    run("npm", ["test", "--", ...more, ...reporters], { timeout: 16 * MINUTE_MS, settings });
  } catch (error) {
    failure = error.message;
  }
  const ended = countTests(report);
  // A file that does not load, an error outside of every test, a killed run: none has a failed test to show.
  if (failure !== "" && ended.failed === 0) ended.failed = 1;
  for (const result of Object.keys(counts)) counts[result] += ended[result];
  summary.push(
    `${(failure === "" ? "passed" : "failed").padEnd(8)}${name}: ${ended.passed} passed, ${ended.failed} failed, ` +
      `${ended.skipped} skipped${failure && `: ${failure}`}`,
  );
}

function countTests(report) {
  try {
    const { numPassedTests, numFailedTests, numPendingTests, numTodoTests } = JSON.parse(readFileSync(report, "utf8"));
    return { passed: numPassedTests, failed: numFailedTests, skipped: numPendingTests + numTodoTests };
  } catch {
    return { passed: 0, failed: 0, skipped: 0 };
  }
}

console.log(`\n=== summary\n${summary.join("\n")}`);
console.log(`\n${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exitCode = counts.failed === 0 ? 0 : 1;

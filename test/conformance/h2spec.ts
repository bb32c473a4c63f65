/**
 * h2spec, the conformance tests of HTTP/2 (145 cases, written for RFC 7540): built from its Go module, run over h2c and TLS,
 * on a method's path and on a path that no method has.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { KeyPair } from "../support/certificate.ts";
import { type Toolchain, execute, fetched, toolchain } from "../support/toolchain.ts";
import type { Result } from "./report.ts";
import { Server } from "./server.ts";

const MODULE = "github.com/summerwind/h2spec/cmd/h2spec";
const VERSION = "v2.2.1+incompatible";
const CASES = 145;
/**
 * Cases that are not passed on purpose, as the report names them, each with the sentence of RFC 9113 that has it otherwise than
 * RFC 7540. There is none.
 */
const LEFT_OUT: Readonly<Record<string, string>> = {};
const REQUIRED = CASES - Object.keys(LEFT_OUT).length;
/** For the answer to one frame: far more than it takes, as the machine may be busy. */
const CASE_TIMEOUT_S = 5;
const RUN_TIMEOUT_MS = 600_000;

const PATHS = ["/grpc.testing.TestService/EmptyCall", "/"];

async function h2spec(): Promise<Toolchain> {
  return toolchain("h2spec", [MODULE, VERSION], ["test/conformance/h2spec.ts"], async (folder) =>
    fetched("go", ["install", `${MODULE}@${VERSION}`], { cwd: folder, env: { GOBIN: folder } }),
  );
}

/** Runs all of it; `tls` is undefined where there is no certificate to be had. */
export async function runH2spec(tls: KeyPair | undefined): Promise<Result[]> {
  const tool = await h2spec();
  const results: Result[] = [];
  for (const [transport, pair] of [
    ["h2c", undefined],
    ["TLS", tls],
  ] as const) {
    for (const path of PATHS) {
      const heading = { suite: "h2spec", setting: `${transport} ${path}` };
      const missing =
        "missing" in tool ? tool.missing : transport === "TLS" && tls === undefined ? "no openssl" : undefined;
      if (missing !== undefined)
        results.push({ ...heading, passed: 0, failures: [], required: REQUIRED, skipped: missing });
      else if ("folder" in tool) results.push({ ...heading, ...(await runOnce(tool.folder, path, pair)) });
    }
  }
  return results;
}

async function runOnce(
  folder: string,
  path: string,
  tls: KeyPair | undefined,
): Promise<Omit<Result, "suite" | "setting">> {
  await using server = await Server.start(tls);
  const reports = await mkdtemp(join(tmpdir(), "windshift-h2spec-"));
  try {
    const report = join(reports, "report.xml");
    const args = ["-h", "127.0.0.1", "-p", String(server.port), "-P", path, "-o", String(CASE_TIMEOUT_S), "-j", report];
    const secure = tls === undefined ? [] : ["-t", "-k"];
    // It ends with an error where a case fails: the report tells which.
    await execute(join(folder, "h2spec"), [...args, ...secure], { timeoutMs: RUN_TIMEOUT_MS }).catch(() => undefined);
    const { passed, failures } = parseReport(await readFile(report, "utf8"));
    return { passed, failures: failures.filter((name) => !Object.hasOwn(LEFT_OUT, name)), required: REQUIRED };
  } finally {
    await rm(reports, { recursive: true });
  }
}

/** JUnit's XML, as far as h2spec writes it. */
function parseReport(xml: string): { passed: number; failures: string[] } {
  const failures: string[] = [];
  let passed = 0;
  for (const [, attributes = "", body = ""] of xml.matchAll(/<testcase ([^>]*)>([\s\S]*?)<\/testcase>/g)) {
    const name = ["package", "classname"].map((key) => new RegExp(`${key}="([^"]*)"`).exec(attributes)?.[1] ?? "");
    if (/<(failure|error)\b/.test(body)) failures.push(name.join(": "));
    else if (!/<skipped\b/.test(body)) passed += 1;
  }
  return { passed, failures };
}

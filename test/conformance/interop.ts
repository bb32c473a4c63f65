/** The interop client of grpc-go against the test service: gRPC's own list of what a server has to do. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { KeyPair } from "../support/certificate.ts";
import { type Toolchain, execute, fetched, toolchain } from "../support/toolchain.ts";
import type { Result } from "./report.ts";
import { Server } from "./server.ts";

const MODULE = "google.golang.org/grpc/interop/client";
const VERSION = "v1.79.3";
const CASE_TIMEOUT_MS = 120_000;

/** A busy machine is slow, and slowness is not what these cases are about. */
const SOAK = ["--soak_per_iteration_max_acceptable_latency_ms=30000", "--soak_overall_timeout_seconds=100"];

/**
 * All that the client knows but those that need credentials of Google (`*_creds`, `*_credentials`, `oauth2_auth_token`), and
 * those about load reports (`orca_*`), a protocol of its own above gRPC. It has no cases with compression.
 */
const CASES: readonly (readonly [name: string, ...flags: string[]])[] = [
  ["empty_unary"],
  ["large_unary"],
  ["client_streaming"],
  ["server_streaming"],
  ["ping_pong"],
  ["empty_stream"],
  ["timeout_on_sleeping_server"],
  ["cancel_after_begin"],
  ["cancel_after_first_response"],
  ["status_code_and_message"],
  ["special_status_message"],
  ["custom_metadata"],
  ["unimplemented_method"],
  ["unimplemented_service"],
  ["pick_first_unary"],
  // Large unary calls, one after the other, side by side, and each on a connection of its own.
  ["rpc_soak", "--soak_iterations=100", ...SOAK],
  ["rpc_soak", "--soak_iterations=400", "--soak_num_threads=16", ...SOAK],
  ["channel_soak", "--soak_iterations=48", "--soak_num_threads=4", ...SOAK],
];

/** The folder that holds it as `client`, or why there is none. */
export async function buildInteropClient(): Promise<Toolchain> {
  return toolchain("interop-client", [MODULE, VERSION], ["test/conformance/interop.ts"], async (folder) =>
    fetched("go", ["install", `${MODULE}@${VERSION}`], { cwd: folder, env: { GOBIN: folder } }),
  );
}

/** Runs all cases; `tls` is undefined where there is no certificate to be had. */
export async function runInterop(tls: KeyPair | undefined): Promise<Result[]> {
  const client = await buildInteropClient();
  const results: Result[] = [];
  for (const transport of ["plain", "TLS"] as const) {
    const heading = { suite: "grpc-go interop client", setting: transport };
    if ("missing" in client) results.push({ ...heading, passed: 0, failures: [], skipped: client.missing });
    else if (transport === "plain") results.push({ ...heading, ...(await runCases(client.folder, undefined)) });
    else if (tls === undefined) results.push({ ...heading, passed: 0, failures: [], skipped: "no openssl" });
    else results.push({ ...heading, ...(await runCases(client.folder, tls)) });
  }
  return results;
}

async function runCases(folder: string, tls: KeyPair | undefined): Promise<Pick<Result, "passed" | "failures">> {
  await using server = await Server.start(tls);
  const scratch = await mkdtemp(join(tmpdir(), "windshift-interop-"));
  try {
    const address = ["--server_host=127.0.0.1", `--server_port=${server.port}`];
    const secure = tls === undefined ? [] : await trust(tls, join(scratch, "ca.pem"));
    const failures: string[] = [];
    for (const [name, ...flags] of CASES) {
      const args = [...address, ...secure, `--test_case=${name}`, ...flags];
      try {
        await execute(join(folder, "client"), args, { timeoutMs: CASE_TIMEOUT_MS });
      } catch (error) {
        failures.push(`${[name, ...flags].join(" ")}: ${lastLine(error)}`);
      }
    }
    return { passed: CASES.length - failures.length, failures };
  } finally {
    await rm(scratch, { recursive: true });
  }
}

async function trust({ cert }: KeyPair, file: string): Promise<string[]> {
  await writeFile(file, cert);
  return ["--use_tls=true", "--use_test_ca=true", `--ca_file=${file}`, "--server_host_override=localhost"];
}

function lastLine(error: unknown): string {
  const { stderr, message } = error as { stderr?: string; message: string };
  return stderr?.trim().split("\n").at(-1) || message;
}

/** The interop clients of gRPC's implementations against the test service: gRPC's own list of what a server has to do. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { KeyPair } from "../support/certificate.ts";
import { type Toolchain, execute } from "../support/toolchain.ts";
import { GRPC_GO } from "./interop-go.ts";
import { GRPC_JAVA } from "./interop-java.ts";
import type { Result } from "./report.ts";
import { Server } from "./server.ts";

/** The interop client of one implementation. */
export interface InteropClient {
  readonly suite: string;
  /** Names of cases, with flags of their own. */
  readonly cases: readonly (readonly [name: string, ...flags: string[]])[];
  /** Flags for each of the transports that it has, by name. */
  readonly transports: Readonly<Record<string, readonly string[]>>;
  build(): Promise<Toolchain>;
  /** What runs it, with its first arguments: over TLS with a certificate to trust, in a file, or in plain text. */
  command(folder: string, trusted: string | undefined): Promise<readonly [program: string, ...args: string[]]>;
}

const CLIENTS: readonly InteropClient[] = [GRPC_GO, GRPC_JAVA];
const CASE_TIMEOUT_MS = 120_000;

/** Runs all cases of all clients; `tls` is undefined where there is no certificate to be had. */
export async function runInterop(tls: KeyPair | undefined): Promise<Result[]> {
  const results: Result[] = [];
  for (const client of CLIENTS) {
    const built = await client.build();
    for (const [transport, flags] of Object.entries(client.transports)) {
      for (const isSecure of [false, true]) {
        const heading = {
          suite: client.suite,
          setting: `${isSecure ? "TLS" : "plain"}${transport}`,
          required: client.cases.length,
        };
        const missing = "missing" in built ? built.missing : isSecure && tls === undefined ? "no openssl" : undefined;
        if (missing !== undefined) results.push({ ...heading, passed: 0, failures: [], skipped: missing });
        else if ("folder" in built) {
          results.push({ ...heading, ...(await runCases(client, built.folder, flags, isSecure ? tls : undefined)) });
        }
      }
    }
  }
  return results;
}

async function runCases(
  client: InteropClient,
  folder: string,
  transport: readonly string[],
  tls: KeyPair | undefined,
): Promise<Pick<Result, "passed" | "failures">> {
  await using server = await Server.start(tls);
  const scratch = await mkdtemp(join(tmpdir(), "windshift-interop-"));
  try {
    const trusted = tls === undefined ? undefined : join(scratch, "ca.pem");
    if (trusted !== undefined) await writeFile(trusted, tls!.cert);
    const [program, ...first] = await client.command(folder, trusted);
    const address = ["--server_host=127.0.0.1", `--server_port=${server.port}`];
    if (trusted !== undefined) address.push("--server_host_override=localhost");
    const failures: string[] = [];
    for (const [name, ...flags] of client.cases) {
      const args = [...first, ...address, ...transport, `--test_case=${name}`, ...flags];
      try {
        await execute(program, args, { timeoutMs: CASE_TIMEOUT_MS });
      } catch (error) {
        failures.push(`${[name, ...flags].join(" ")}: ${complaint(error)}`);
      }
    }
    return { passed: client.cases.length - failures.length, failures };
  } finally {
    await rm(scratch, { recursive: true });
  }
}

/** The last line of what it said, without the places where Java was. */
function complaint(error: unknown): string {
  const { stderr, message } = error as { stderr?: string; message: string };
  const lines = stderr?.trim().split("\n") ?? [];
  return lines.findLast((line) => !/^\s+(at|\.\.\.) /.test(line)) || message;
}

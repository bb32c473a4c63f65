/** The server as users run it, in a process of its own, with what a benchmark needs to know of it. */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { spawnBound } from "../chaos/cluster/spawn.ts";
import { Client } from "../support/client.ts";
import { startNats } from "../support/nats.ts";

/** A running server. Disposing it ends it. */
export interface BenchServer extends AsyncDisposable {
  readonly address: string;
  /** Resident memory of the server's process, in bytes. */
  residentBytes(): number;
  /** CPU time the server's process has used, in microseconds (in steps of 10 ms). */
  cpuMicros(): number;
  /** Asks the process to collect its garbage, and does not wait for it. */
  collectGarbage(): void;
}

/** A server with a NATS of its own and clients. */
export interface ServerUnderTest extends BenchServer {
  readonly clients: readonly Client[];
  readonly natsUrl: string;
}

const TICK_MICROS = 10_000;
/** Makes the process collect its garbage on SIGHUP. */
const PRELOAD = fileURLToPath(new URL("../chaos/cluster/preload.ts", import.meta.url));

/** Starts NATS, the server and so many clients. */
export async function startServerUnderTest(connections: number): Promise<ServerUnderTest> {
  await using stack = new AsyncDisposableStack();
  const nats = stack.use(await startNats());
  const server = stack.use(await startServer(nats.url));
  const clients = Array.from({ length: connections }, () => new Client(server.address));
  stack.defer(() => {
    for (const client of clients) client.close();
  });
  const owned = stack.move();
  return { ...server, clients, natsUrl: nats.url, [Symbol.asyncDispose]: async () => owned.disposeAsync() };
}

/** Starts the server of this checkout; `env` are variables besides those of this process. */
export async function startServer(natsUrl: string, env: Readonly<Record<string, string>> = {}): Promise<BenchServer> {
  await using stack = new AsyncDisposableStack();
  const server = spawnBound([process.execPath, "--expose-gc", "--import", PRELOAD, "src/main.ts"], {
    env: { ...process.env, NATS_URL: natsUrl, GRPC_PORT: "0", HEALTH_PORT: "0", GRPC_HOST: "127.0.0.1", ...env },
    stdio: ["ignore", "pipe", "inherit"],
  });
  stack.defer(async () => {
    server.kill("SIGTERM");
    if (server.exitCode === null) await once(server, "exit");
  });
  let address: string | undefined;
  for await (const line of createInterface({ input: server.stdout! })) {
    address = (JSON.parse(line) as { grpc?: string }).grpc;
    if (address !== undefined) break;
  }
  server.stdout!.resume();
  if (address === undefined) throw new Error("the server did not start");
  const owned = stack.move();
  return {
    address,
    residentBytes: () => residentBytes(server.pid!),
    cpuMicros: () => processMicros(server.pid!),
    collectGarbage: () => void server.kill("SIGHUP"),
    [Symbol.asyncDispose]: async () => owned.disposeAsync(),
  };
}

function residentBytes(pid: number): number {
  const [, kib] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))!;
  return Number(kib) * 1024;
}

/** User and system time of a process (proc(5): fields 14 and 15 of `stat`, in ticks). */
export function processMicros(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * TICK_MICROS;
}

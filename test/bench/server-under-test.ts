/** The server as users run it, in a process of its own, with what a benchmark needs to know of it. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { Client } from "../support/client.ts";
import { startNats } from "../support/nats.ts";

/** A running server with clients. */
export interface ServerUnderTest extends AsyncDisposable {
  readonly clients: readonly Client[];
  readonly natsUrl: string;
  readonly address: string;
  /** Resident memory of the server's process, in bytes. */
  residentBytes(): number;
  /** CPU time the server's process has used, in microseconds (in steps of 10 ms). */
  cpuMicros(): number;
}

const TICK_MICROS = 10_000;

/** Starts NATS, the server and so many clients. */
export async function startServerUnderTest(connections: number): Promise<ServerUnderTest> {
  await using stack = new AsyncDisposableStack();
  const nats = stack.use(await startNats());
  const server = spawn(process.execPath, ["src/main.ts"], {
    env: { ...process.env, NATS_URL: nats.url, GRPC_PORT: "0", HEALTH_PORT: "0", GRPC_HOST: "127.0.0.1" },
    stdio: ["ignore", "pipe", "inherit"],
  });
  stack.defer(async () => {
    server.kill("SIGTERM");
    if (server.exitCode === null) await once(server, "exit");
  });
  let address: string | undefined;
  for await (const line of createInterface({ input: server.stdout })) {
    address = (JSON.parse(line) as { grpc?: string }).grpc;
    if (address !== undefined) break;
  }
  server.stdout.resume();
  if (address === undefined) throw new Error("the server did not start");
  const clients = Array.from({ length: connections }, () => new Client(address));
  stack.defer(() => {
    for (const client of clients) client.close();
  });
  const owned = stack.move();
  return {
    clients,
    natsUrl: nats.url,
    address,
    residentBytes: () => residentBytes(server.pid!),
    cpuMicros: () => processMicros(server.pid!),
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

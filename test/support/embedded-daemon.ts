/**
 * A small daemon around embedded NATS, run as a process of its own so that tests can kill it: it prints `ready`, starts the
 * server in the folder of its first argument when it reads a line, prints a {@link DaemonReport}, and stops at the end of
 * its input.
 */
import { once } from "node:events";
import { createInterface } from "node:readline";
import { startEmbeddedNats } from "../../src/nats/embedded.ts";
import { silentLogger } from "./recording-logger.ts";

/** What the daemon prints about its start. */
export type DaemonReport = { readonly url: string; readonly pid: number } | { readonly error: string };

const lines = createInterface({ input: process.stdin });
console.log("ready");
await once(lines, "line");
try {
  await using nats = await startEmbeddedNats({
    dataDir: process.argv[2] ?? "",
    logger: silentLogger,
  });
  console.log(JSON.stringify({ url: nats.url, pid: nats.pid } satisfies DaemonReport));
  await once(lines, "close");
} catch (error) {
  console.log(JSON.stringify({ error: (error as Error).message } satisfies DaemonReport));
}

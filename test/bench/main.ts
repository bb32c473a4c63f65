/**
 * `npm run bench [-- scenario …] [--seconds N] [--events N]`: measures the server of this checkout, as a process of its
 * own, on a nats-server of its own, from a client in this process, and prints tables with machine and settings. The client
 * shares the machine, so throughput says as much about it as about the server; server CPU per operation is the figure to
 * compare. Nothing here passes or fails.
 */
import { parseArgs } from "node:util";
import { cpuModel, formatReport, type Result } from "./report.ts";
import { startServerUnderTest } from "./server-under-test.ts";
import { ABUSE_SCENARIOS, SCENARIOS } from "./scenarios.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: "string", default: "5" },
    events: { type: "string", default: "50000" },
    connections: { type: "string", default: "4" },
    concurrency: { type: "string", default: "64" },
    size: { type: "string", default: "256" },
    help: { type: "boolean", default: false },
  },
});

const all = { ...SCENARIOS, ...ABUSE_SCENARIOS };
const names = Object.keys(all);
const unknown = positionals.filter((name) => !names.some((known) => known.startsWith(name)));
if (values.help || unknown.length > 0) {
  console.log(
    `npm run bench [-- ${names.join(" | ")}] [--seconds N] [--events N] [--connections N] [--concurrency N] [--size BYTES]`,
  );
  process.exit(unknown.length > 0 ? 64 : 0);
}
const settings = {
  seconds: Number(values.seconds),
  events: Number(values.events),
  connections: Number(values.connections),
  concurrency: Number(values.concurrency),
  size: Number(values.size),
};
console.log(cpuModel());
console.log(
  `${settings.size} byte payloads, ${settings.connections} connections, ${settings.concurrency} calls in flight, ` +
    `${settings.seconds} s a scenario after 1 s of warm-up, one replica on file storage`,
);
const results: Result[] = [];
for (const [name, scenario] of Object.entries(all)) {
  const isWanted = positionals.length === 0 ? name in SCENARIOS : positionals.some((wanted) => name.startsWith(wanted));
  if (!isWanted) continue;
  await using server = await startServerUnderTest(settings.connections);
  results.push({ name, ...(await scenario(server, settings)) });
}
console.log(formatReport(results));
process.exit(0);

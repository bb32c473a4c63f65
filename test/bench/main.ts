/**
 * `npm run bench [-- scenario …] [--seconds N] [--events N]`: measures the server of this checkout, as a process of its
 * own, on a nats-server of its own, from a client in this process, and prints tables with machine and settings. The client
 * shares the machine, so throughput says as much about it as about the server; server CPU per operation is the figure to
 * compare. `npm run bench -- growth` compares both engines at growing load (`growth.ts`). Nothing here passes or fails.
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { axesNamed, runGrowth } from "./growth.ts";
import { runGuard } from "./guard.ts";
import { cpuModel, formatReport, type Result } from "./report.ts";
import { startServerUnderTest } from "./server-under-test.ts";
import { ABUSE_SCENARIOS, SCENARIOS } from "./scenarios.ts";

const GROWTH = "growth";
const GUARD = "guard";
/** After each start, over four turns. */
const GUARD_SECONDS = 12;
const PLOTS = fileURLToPath(new URL("../../docs/benchmarks", import.meta.url));
/** So that all axes together are done in a quarter of an hour. */
const GROWTH_SECONDS = 6;
const SCENARIO_SECONDS = 5;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: "string" },
    events: { type: "string", default: "50000" },
    connections: { type: "string", default: "4" },
    concurrency: { type: "string", default: "64" },
    size: { type: "string", default: "256" },
    axis: { type: "string" },
    plots: { type: "string", default: PLOTS },
    help: { type: "boolean", default: false },
  },
});

const all = { ...SCENARIOS, ...ABUSE_SCENARIOS };
const names = Object.keys(all);
const isGrowth = positionals.includes(GROWTH);
const isGuard = positionals.length === 1 && positionals[0] === GUARD;
const unknown = positionals.filter(
  (name) => name !== GROWTH && !isGuard && !names.some((known) => known.startsWith(name)),
);
const seconds = Number(values.seconds ?? (isGrowth ? GROWTH_SECONDS : SCENARIO_SECONDS));
const axes = axesNamed(values.axis);
const isMixed = isGrowth ? positionals.length > 1 : values.axis !== undefined;
const isWrong = unknown.length > 0 || isMixed || axes.length === 0 || !(seconds > 0);
if (values.help || isWrong) {
  console.log(help());
  process.exit(isWrong ? 64 : 0);
}
if (isGrowth) {
  await runGrowth({ axes, seconds, folder: values.plots });
  process.exit(0);
}
if (isGuard) {
  console.log(cpuModel());
  await runGuard(Number(values.seconds ?? GUARD_SECONDS));
  process.exit(0);
}
const settings = {
  seconds,
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

function help(): string {
  return `npm run bench [-- scenario …] [options]
  measures the server of this checkout; without a scenario, all but those of abuse
  scenarios: ${names.join(" | ")}, or how they begin
    --seconds N      how long each is measured (default ${SCENARIO_SECONDS})
    --events N       events of a backlog (default 50000)
    --connections N  connections of the client (default 4)
    --concurrency N  calls in flight (default 64)
    --size BYTES     size of a payload (default 256)

npm run bench -- ${GUARD} [--seconds N]
  what tokens, JWTs and a policy of 100 rules cost a publish, beside a server that is open

npm run bench -- ${GROWTH} [options]
  how the cost grows, for both engines by turns, as tables and drawings; about 10 minutes
    --axis NAME      one axis: ${axesNamed(undefined)
      .map(({ name }) => name)
      .join(" | ")}
    --seconds N      how long each engine is measured at each point (default ${GROWTH_SECONDS})
    --plots DIR      where growth-<axis>.svg goes (default docs/benchmarks)`;
}

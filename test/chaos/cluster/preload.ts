/**
 * Loaded into servers and clients under test before their own code: SIGUSR2 stalls the event loop, SIGHUP collects
 * garbage, so that what is measured afterwards is what is really held, and writes down how many timers run.
 */
import { writeFileSync } from "node:fs";

const STALL_MS = Number(process.env["CHAOS_STALL_MS"] ?? 500);

process.on("SIGUSR2", () => {
  const end = performance.now() + STALL_MS;
  while (performance.now() < end);
});
process.on("SIGHUP", () => {
  (globalThis as { gc?: () => void }).gc?.();
  const file = process.env["CHAOS_TIMERS"];
  if (file === undefined) return;
  writeFileSync(file, String(process.getActiveResourcesInfo().filter((name) => name === "Timeout").length));
});

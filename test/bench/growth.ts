/**
 * `npm run bench -- growth [--axis NAME] [--seconds N] [--plots DIR]`: how the cost grows with connections, calls in
 * flight, size and subscriptions, for both engines. Both run at the same time on one nats-server and are measured by turns,
 * so that a slow phase of the machine hits both; who is not measured has nothing to do. Prints sections for
 * `docs/benchmarks.md` and writes a drawing for each axis.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cpuModel } from "./report.ts";
import { AXES, type Axis } from "./growth-axes.ts";
import { SERVER_VARIABLES, startArena } from "./growth-arena.ts";
import { type Row, drawGrowth, formatGrowth } from "./growth-report.ts";

/** What to measure. */
export interface GrowthOptions {
  readonly axes: readonly Axis[];
  /** How long each engine is measured at each point. */
  readonly seconds: number;
  /** Where drawings go. */
  readonly folder: string;
}

/** The axes by their names. */
export function axesNamed(name: string | undefined): readonly Axis[] {
  return AXES.filter((axis) => name === undefined || axis.name === name);
}

/** Measures and prints; progress goes to standard error. */
export async function runGrowth({ axes, seconds, folder }: GrowthOptions): Promise<void> {
  const machine = cpuModel();
  const variables = Object.entries(SERVER_VARIABLES).map(([name, value]) => `${name}=${value}`);
  console.log(`${machine}.\n`);
  console.log(
    `Each engine is measured for ${seconds} s at each point, by turns with the other, on one replica with file storage. Nothing ` +
      `may be refused, so the servers run with ${variables.join(", ")}.\n`,
  );
  mkdirSync(folder, { recursive: true });
  for (const axis of axes) {
    const growth = { ...axis, ...(await measure(axis, seconds)) };
    writeFileSync(join(folder, `growth-${axis.name}.svg`), drawGrowth(growth, machine));
    console.log(formatGrowth(growth));
  }
}

async function measure({ name, points, measure: measurePoints }: Axis, seconds: number) {
  const start = performance.now();
  await using arena = await startArena();
  const rows: Row[] = [];
  const notes: string[] = [];
  for await (const point of measurePoints(arena, points, seconds)) {
    if ("skipped" in point) notes.push(point.skipped);
    else rows.push(point);
    const passed = Math.round((performance.now() - start) / 1000);
    console.error(`${name}, ${passed} s: ${JSON.stringify(point)}`);
  }
  return { rows, notes };
}

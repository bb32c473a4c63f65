/**
 * `npm run fuzz -- [--frames N] [--seed S]`: feeds the native engine frames of random clients and changed recordings of real
 * ones, prints the seed, and ends with an error at the first finding. A finding names its session: `--seed` with that
 * number and `--frames 1` plays it again.
 */
import { parseArgs } from "node:util";
import { readRecordings, sentFrames } from "../recordings/recording.ts";
import { heldBytes } from "../support/memory.ts";
import { type Counts, fuzz } from "./fuzz.ts";

const MIB = 1024 * 1024;
/** Beyond what caches and tables take once. */
const MAX_GROWTH_BYTES = 32 * MIB;
const WARM_UP_FRAMES = 200_000;

const { values } = parseArgs({
  options: { frames: { type: "string", default: "1000000" }, seed: { type: "string" } },
});
const frames = Number(values.frames);
const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31));
const recordings = readRecordings().map(sentFrames);
console.log(`seed ${seed}, ${frames} frames; ${recordings.length} recorded connections`);
const started = performance.now();
const warm = await fuzz({ seed, frames: Math.min(frames, WARM_UP_FRAMES), recordings });
const before = await heldBytes();
const left = frames - warm.frames;
const main = left > 0 ? await fuzz({ seed: seed + warm.sessions, frames: left, recordings, onProgress }) : undefined;
const growth = (await heldBytes()) - before;
print(warm);
if (main !== undefined) print(main);
console.log(`memory grew by ${(growth / MIB).toFixed(1)} MiB`);
process.exit(growth > MAX_GROWTH_BYTES ? 1 : 0);

function onProgress({ sessions, frames: done }: Counts): void {
  if (sessions % 10_000 === 0) console.log(`${sessions} sessions, ${done} frames`);
}

function print({ sessions, frames: done, endings }: Counts): void {
  const seconds = (performance.now() - started) / 1000;
  console.log(`${sessions} sessions, ${done} frames, ${seconds.toFixed(0)} s so far; connections ended with:`);
  for (const [ending, count] of [...endings].toSorted(([, a], [, b]) => b - a)) console.log(`  ${count} ${ending}`);
}

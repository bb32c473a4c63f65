/**
 * `npm run fuzz -- [--seeds S | S-T] [--frames N] [--from SESSION]`: feeds the native engine frames of random clients and
 * changed recordings of real ones, so many frames (a million, if nothing else is said) for each seed, one after the other.
 * Each seed has sessions of its own and ends with a line: ranges can run side by side, and what was stopped goes on with the
 * seed behind the last such line. Without a seed one is drawn. It ends with an error at the first finding, which names the
 * flags that play its session again: `--frames 1` with them plays no other.
 */
import { parseArgs } from "node:util";
import { readRecordings, sentFrames } from "../recordings/recording.ts";
import { heldBytes } from "../support/memory.ts";
import { type Counts, LIMIT, fuzz } from "./fuzz.ts";

const MIB = 1024 * 1024;
/** Beyond what caches and tables take once. */
const MAX_GROWTH_BYTES = 32 * MIB;
const WARM_UP_FRAMES = 200_000;
const SESSIONS_OF_PROGRESS = 10_000;

const { values } = parseArgs({
  options: {
    frames: { type: "string", default: "1000000" },
    seeds: { type: "string", default: String(Math.floor(Math.random() * LIMIT)) },
    from: { type: "string", default: "0" },
  },
});
const [first = Number.NaN, last = first] = values.seeds.split("-").map(Number);
const frames = Number(values.frames);
const from = Number(values.from);
if (!(first <= last) || !(frames > 0)) {
  console.error("npm run fuzz -- [--seeds S | S-T] [--frames N] [--from SESSION]");
  process.exit(64);
}
const recordings = readRecordings().map(sentFrames);
console.log(`seeds ${first} to ${last}, ${frames} frames each; ${recordings.length} recorded connections`);
const total: Counts = { frames: 0, sessions: 0, endings: new Map() };
for (let seed = first; seed <= last; seed++) {
  const started = performance.now();
  const warm = await fuzz({ seed, from, frames: Math.min(frames, WARM_UP_FRAMES), recordings });
  const before = await heldBytes();
  const left = { seed, from: from + warm.sessions, frames: frames - warm.frames, recordings, onProgress };
  const counts = sum(warm, await fuzz(left));
  const grownBytes = (await heldBytes()) - before;
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  const growth = `memory grew by ${(grownBytes / MIB).toFixed(1)} MiB`;
  console.log(`seed ${seed}: ${counts.sessions} sessions, ${counts.frames} frames, ${seconds} s, ${growth}`);
  if (grownBytes > MAX_GROWTH_BYTES) process.exit(1);
  sum(total, counts);
}
console.log(`${total.sessions} sessions, ${total.frames} frames without a finding; connections ended with:`);
for (const [ending, count] of [...total.endings].toSorted(([, a], [, b]) => b - a)) console.log(`  ${count} ${ending}`);

function onProgress({ sessions, frames: done }: Counts): void {
  if (sessions % SESSIONS_OF_PROGRESS === 0) console.log(`${sessions} sessions, ${done} frames`);
}

/** Adds `counts` to `to`. */
function sum(to: Counts, counts: Counts): Counts {
  to.frames += counts.frames;
  to.sessions += counts.sessions;
  for (const [ending, count] of counts.endings) to.endings.set(ending, (to.endings.get(ending) ?? 0) + count);
  return to;
}

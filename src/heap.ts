/**
 * V8 trades memory for time: new objects get up to 128 MiB, and how much garbage there may be between two collections of the
 * others depends on how fast it thinks that they are. Here nearly everything is gone within milliseconds.
 */
import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8";

/** For new objects: one half of it is in use, the other one for those that survive. More than a processor's cache holds is slower. */
const NEW_SPACE_BYTES = 16 * 1024 * 1024;
/** From the 1 MiB that each half begins with. */
const GROWTH_FACTOR = 8;
/** V8 enlarges the space when as much has survived as a half holds, which five thousand of these do. */
const MAX_SURVIVORS = 100_000;
const LOOK_EVERY = 1_000;

/**
 * Sets limits for this process. To be called before most of the program is loaded: its making leaves the space for new
 * objects at twice as much, or more, and V8 does not take it back.
 */
export function limitHeap(): void {
  growNewSpace();
  // Three times what is of use, buffers included: with as much as that alone, events of 256 KiB have all of the heap looked
  // through eleven times a second, which takes a third of their CPU time. Small ones leave nothing there.
  setFlagsFromString("--heap-growing-percent=300");
  // What survived while code was young, V8 goes on to make among the old objects: with 64 calls in flight a tenth of all,
  // which nothing but collections of the whole heap frees. Without it a publish takes a sixth less.
  setFlagsFromString("--no-allocation-site-pretenuring");
}

/** What V8 has for it at the start is so little that calls in flight survive and become old. */
function growNewSpace(): void {
  setFlagsFromString(`--semi-space-growth-factor=${GROWTH_FACTOR}`);
  const survivors: object[] = [];
  while (survivors.length < MAX_SURVIVORS && newSpaceBytes() < NEW_SPACE_BYTES) {
    for (let n = 0; n < LOOK_EVERY; n++) survivors.push({ n: [n] });
  }
  setFlagsFromString("--semi-space-growth-factor=1");
}

function newSpaceBytes(): number {
  return getHeapSpaceStatistics().find(({ space_name: name }) => name === "new_space")?.space_size ?? NEW_SPACE_BYTES;
}

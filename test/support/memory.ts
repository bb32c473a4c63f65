/** What this process holds, after everything that nobody refers to is gone. */
import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as (options?: { readonly type: "minor" }) => void;

/** Lets what is unreachable go, with all that finalizers and callbacks still do. */
export async function collectGarbage(): Promise<void> {
  for (let round = 0; round < 4; round++) {
    collect();
    await new Promise(setImmediate);
  }
}

/** Bytes of objects, strings and buffers. */
export async function heldBytes(): Promise<number> {
  await collectGarbage();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

/** Lets those objects go that are unreachable and were made a short while ago. */
export function collectYoung(): void {
  collect({ type: "minor" });
}

/** Bytes of objects that only a collection of everything frees. */
export function oldBytes(): number {
  return getHeapSpaceStatistics().find(({ space_name: name }) => name === "old_space")!.space_used_size;
}

/**
 * Files that may change while the server runs. They are looked at again and again instead of being watched by the
 * system: Kubernetes swaps a symlink two folders above, editors replace a file, network file systems tell nobody, and a
 * look costs microseconds.
 */
import { statSync } from "node:fs";
import { stat } from "node:fs/promises";

const LOOK_INTERVAL_MS = 1_000;

/**
 * Calls `onChange` after one of the files changed, came or went since this was called: whoever reads them calls it first.
 * Disposing it ends the watch.
 */
export function watchFiles(
  paths: readonly string[],
  onChange: () => void,
  intervalMs: number = LOOK_INTERVAL_MS,
): Disposable {
  let seen = paths.map(lookNow);
  let isLooking = false;
  let isOver = false;
  const look = async (): Promise<void> => {
    if (isLooking) return;
    isLooking = true;
    const found = await Promise.all(paths.map(lookLater));
    isLooking = false;
    if (isOver || found.every((state, index) => state === seen[index])) return;
    seen = found;
    onChange();
  };
  const timer = setInterval(() => void look(), intervalMs).unref();
  return {
    [Symbol.dispose]: () => {
      isOver = true;
      clearInterval(timer);
    },
  };
}

function lookNow(path: string): string {
  const stats = statSync(path, { bigint: true, throwIfNoEntry: false });
  return stats === undefined ? MISSING : stateOf(stats);
}

async function lookLater(path: string): Promise<string> {
  try {
    return stateOf(await stat(path, { bigint: true }));
  } catch {
    return MISSING;
  }
}

const MISSING = "";

/** What differs whenever the content may. */
function stateOf({ ino, size, mtimeNs, ctimeNs }: Record<"ino" | "size" | "mtimeNs" | "ctimeNs", bigint>): string {
  return `${ino} ${size} ${mtimeNs} ${ctimeNs}`;
}

/**
 * Whether a folder outlives the container: an embedded NATS in the image without a volume would lose its streams with
 * the container, which nobody notices until then.
 */
import { readFileSync, realpathSync } from "node:fs";
import { dirname, resolve } from "node:path";

/** File systems that go away with the container or the machine. */
const FLEETING = new Set(["overlay", "tmpfs", "ramfs", "aufs", "devtmpfs"]);

/**
 * True when `folder`, which need not exist yet, lies on a mounted volume. Where the system has no mount table there is
 * no container either, and the answer is true.
 */
export function isOnVolume(folder: string, mountTable: () => string = readMountTable): boolean {
  let table: string;
  try {
    table = mountTable();
  } catch {
    return true;
  }
  const path = realPath(resolve(folder));
  let nearest = { point: "", type: "overlay" };
  for (const line of table.split("\n")) {
    const mount = parseMount(line);
    // Of two mounts on one folder the later one is seen, hence `>=`.
    if (mount !== undefined && covers(mount.point, path) && mount.point.length >= nearest.point.length) nearest = mount;
  }
  return nearest.point !== "/" && !FLEETING.has(nearest.type);
}

function readMountTable(): string {
  return readFileSync("/proc/self/mountinfo", "utf8");
}

/** `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw`: the fifth field, and the first after the dash. */
function parseMount(line: string): { point: string; type: string } | undefined {
  const [before, after] = line.split(" - ");
  const point = before?.split(" ")[4];
  const type = after?.split(" ")[0];
  if (point === undefined || type === undefined) return undefined;
  return {
    point: point.replaceAll(/\\([0-7]{3})/g, (_, code: string) => String.fromCharCode(parseInt(code, 8))),
    type,
  };
}

function covers(point: string, path: string): boolean {
  return point === "/" || path === point || path.startsWith(`${point}/`);
}

/** The path without symbolic links, as far as it exists. */
function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    const parent = dirname(path);
    return parent === path ? path : resolve(realPath(parent), path.slice(parent === "/" ? 1 : parent.length + 1));
  }
}

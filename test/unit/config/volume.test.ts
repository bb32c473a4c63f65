import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { isOnVolume } from "../../../src/config/volume.ts";

const TABLE = [
  "600 500 0:50 / / rw,relatime master:1 - overlay overlay rw",
  "601 600 0:51 / /proc rw - proc proc rw",
  "602 600 8:1 /volumes/x /data rw,relatime - ext4 /dev/sda1 rw",
  "603 602 0:60 / /data/scratch rw - tmpfs tmpfs rw",
  "604 600 8:1 /y /with\\040blank rw - ext4 /dev/sda1 rw",
  "605 600 8:1 /z /hidden rw - ext4 /dev/sda1 rw",
  "606 605 0:61 / /hidden rw - tmpfs tmpfs rw",
  "",
].join("\n");

test.each([
  ["/data", true],
  ["/data/nats", true],
  ["/data/not/there/yet", true],
  ["/with blank/nats", true],
  ["/database", false],
  ["/app/data/nats", false],
  ["/", false],
  // Memory goes with the container.
  ["/data/scratch/nats", false],
  // What was mounted last is what is seen.
  ["/hidden/nats", false],
])("%s lies on a mounted volume: %s", (folder, expected) => {
  expect(isOnVolume(folder, () => TABLE)).toBe(expected);
});

test("a link into a volume lies on it", () => {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), "volume-")));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  mkdirSync(join(folder, "mounted"));
  symlinkSync(join(folder, "mounted"), join(folder, "link"));
  const table = `1 0 0:1 / / rw - ext4 /dev/a rw\n2 1 0:2 / ${join(folder, "mounted")} rw - ext4 /dev/b rw`;
  expect(isOnVolume(join(folder, "link/nats"), () => table)).toBe(true);
  expect(isOnVolume(join(folder, "other"), () => table)).toBe(false);
});

test("the real mount table is read", () => {
  // The process file system is a mount of its own wherever there is a mount table.
  expect(isOnVolume("/proc/self")).toBe(true);
});

test("a system without a mount table is no container", () => {
  const fail = (): string => {
    throw new Error("ENOENT");
  };
  expect(isOnVolume("/data", fail)).toBe(true);
});

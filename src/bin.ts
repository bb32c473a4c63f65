#!/usr/bin/env node
/**
 * The program `windshift` of the package: looks at the version of Node and hands over to the daemon. An older Node cannot
 * even read the daemon's files, so this one holds nothing that it would not understand.
 */
const NEEDED = 24;
const found = process.versions.node;

if (Number(found.split(".")[0]) >= NEEDED) {
  await import("./main.ts");
} else {
  process.stderr.write(`windshift: needs Node ${NEEDED} or newer; this is Node ${found} (${process.execPath})\n`);
  process.exitCode = 1;
}

export {};

import { tmpdir } from "node:os";
import { join } from "node:path";
import { defineConfig } from "vitest/config";

/** One more than a small machine has cores, as a test that starts servers waits for them a third of its time. */
const WORKERS = 3;
/** Servers start within a test: a busy machine with two cores takes its time. */
const REAL_SERVERS = { testTimeout: 60_000, hookTimeout: 60_000, expect: { poll: { timeout: 10_000 } } };

export default defineConfig({
  test: {
    reporters: ["default"],
    // The programs that tests start take most of their start for being compiled.
    env: { NODE_COMPILE_CACHE: join(tmpdir(), "windshift-compile-cache") },
    coverage: {
      provider: "v8",
      include: ["src/**"],
      exclude: ["src/gen/**"],
      reporter: ["text"],
    },
    projects: [
      // Thousands of random inputs take their time on a busy machine.
      { test: { name: "unit", include: ["test/unit/**/*.test.ts"], testTimeout: 60_000, maxWorkers: WORKERS } },
      {
        test: {
          name: "integration",
          include: ["test/{integration,differential}/**/*.test.ts"],
          maxWorkers: WORKERS,
          ...REAL_SERVERS,
        },
      },
      { test: { name: "fuzz", include: ["test/fuzz/**/*.test.ts"], maxWorkers: 1, ...REAL_SERVERS } },
      { test: { name: "chaos", include: ["test/chaos/**/*.test.ts"], maxWorkers: 1, ...REAL_SERVERS } },
      { test: { name: "interop", include: ["test/interop/**/*.test.ts"], maxWorkers: WORKERS, ...REAL_SERVERS } },
    ],
  },
});

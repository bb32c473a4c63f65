import { describe, expect, test } from "vitest";
import { parseLogLine } from "../../../src/nats/embedded-process.ts";

describe("a line of nats-server's log", () => {
  test.each([
    ["[7] [INF] Server is ready", "debug", "Server is ready"],
    ["[7] 2026/11/21 12:17:34.676246 [INF] Server is ready", "debug", "Server is ready"],
    [
      "[7] [DBG] 127.0.0.1:1 - cid:5 - Client connection created",
      "debug",
      "127.0.0.1:1 - cid:5 - Client connection created",
    ],
    ["[7] [WRN] Filesystem is slow", "warn", "Filesystem is slow"],
    ["[7] [ERR] Error flushing store", "error", "Error flushing store"],
    ["[7] 2026/11/21 12:17:34.676246 [FTL] Can't start JetStream", "error", "Can't start JetStream"],
    ["[7] [INF] client [ERR] quoted", "debug", "client [ERR] quoted"],
    ["[7] [INF] ", "debug", ""],
    ["panic: runtime error", "error", "panic: runtime error"],
  ] as const)("%s", (line, level, text) => {
    expect(parseLogLine(line)).toEqual({ level, text });
  });
});

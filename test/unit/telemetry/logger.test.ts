import { describe, expect, test } from "vitest";
import { type Logger, type LoggerOptions, createLogger } from "../../../src/telemetry/logger.ts";

/** What a logger writes while `use` runs. */
function logged(options: Omit<LoggerOptions, "destination">, use: (logger: Logger) => void): string[] {
  const lines: string[] = [];
  use(createLogger({ ...options, destination: { write: (line) => lines.push(line) } }));
  return lines;
}

describe("in production", () => {
  test("a line is JSON with the level as a word and an ISO time", () => {
    const [line] = logged({ level: "info", development: false }, (logger) => logger.info({ stream: "orders" }, "made"));
    expect(JSON.parse(line ?? "")).toEqual({
      level: "info",
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
      stream: "orders",
      msg: "made",
    });
  });

  test("lines below the level are dropped", () => {
    expect(logged({ level: "warn", development: false }, (logger) => logger.info("x"))).toEqual([]);
    expect(logged({ level: "silent", development: false }, (logger) => logger.fatal("x"))).toEqual([]);
  });

  test("secrets are hidden, also inside of objects", () => {
    const [line] = logged({ level: "info", development: false }, (logger) =>
      logger.info({ token: "s3cret", nats: { password: "s3cret" }, config: { auth: { seed: "s3cret" } } }, "start"),
    );
    expect(line).not.toContain("s3cret");
    expect(line).toContain("(hidden)");
  });

  test("an error keeps its cause", () => {
    const [line] = logged({ level: "info", development: false }, (logger) =>
      logger.error({ err: new Error("outer", { cause: new Error("inner") }) }, "failed"),
    );
    expect(JSON.parse(line ?? "")).toMatchObject({ err: { message: expect.stringContaining("outer") } });
    expect(line).toContain("inner");
  });
});

test("in development a line is for reading, and there at once", () => {
  const [line] = logged({ level: "debug", development: true }, (logger) =>
    logger.debug({ stream: "orders", token: "s3cret" }, "made"),
  );
  expect(line).toMatch(/^\[\d\d:\d\d:\d\d\.\d{3}\] DEBUG: made \{"stream":"orders","token":"\(hidden\)"\}\n$/);
});

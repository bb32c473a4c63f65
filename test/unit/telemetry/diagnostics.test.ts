import { expect, test } from "vitest";
import { diagLogger } from "../../../src/telemetry/diagnostics.ts";
import { createLogger } from "../../../src/telemetry/logger.ts";

test("a complaint of OpenTelemetry is a warning, and repeated at most once a minute", () => {
  const lines: string[] = [];
  const logger = createLogger({
    level: "info",
    development: false,
    destination: { write: (line) => lines.push(line) },
  });
  let now = 0;
  const adapter = diagLogger(logger, () => now);
  const complaint = "14 UNAVAILABLE: no connection to the collector at all, tried ";
  adapter.error(complaint, 1);
  adapter.error(complaint, 2);
  adapter.warn("something else");
  adapter.info("chatter");
  now = 60_000;
  adapter.error(complaint, 3);
  expect(lines.map((line) => JSON.parse(line) as object)).toMatchObject([
    { level: "warn", telemetry: expect.stringMatching(/1$/) },
    { level: "warn", telemetry: "something else" },
    { level: "warn", telemetry: expect.stringMatching(/3$/) },
  ]);
});

test.each([
  ['{"stack":"Error: away\\n at x","message":"away","name":"Error"}', "away"],
  ['{"stack":"Error', '{"stack":"Error'],
  ['{"stack":"x"}', '{"stack":"x"}'],
])("of the exception %s the message is logged", (complaint, expected) => {
  const lines: string[] = [];
  const logger = createLogger({
    level: "info",
    development: false,
    destination: { write: (line) => lines.push(line) },
  });
  diagLogger(logger).error(complaint);
  expect(JSON.parse(lines[0] ?? "")).toMatchObject({ telemetry: expected });
});

import { expect, test } from "vitest";
import { RESET_KEY, beganAt, newResetMark } from "../../../src/nats/consumer-reset.ts";

const created = "2026-01-02T03:04:05.123456789Z";
const createdMs = Date.UTC(2026, 0, 2, 3, 4, 5, 123);

test.for<[what: string, mark: string | undefined, beganMs: number]>([
  ["made, where it never was reset", undefined, createdMs],
  ["reset", newResetMark("2026-02-03T04:05:06.5Z"), Date.UTC(2026, 1, 3, 4, 5, 6, 500)],
  ["made, where that came after a reset", newResetMark("2026-01-02T03:04:05Z"), createdMs],
  ["made, where a mark says no time", "2026b8f0-6f0e-4b39-9d5c-0d9a3f2f8f11", createdMs],
])("a consumer is what it is since it was %s", ([, mark, beganMs]) => {
  const metadata = mark === undefined ? {} : { [RESET_KEY]: mark };
  expect(beganAt({ created, config: { metadata } as never })).toBe(beganMs);
});

test("no two marks are alike", () => {
  expect(newResetMark(created)).not.toBe(newResetMark(created));
});

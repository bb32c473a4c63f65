/** `grpc-timeout`. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { parseTimeout } from "../../../../src/grpc/engine/native/timeout.ts";

test.each([
  ["1H", 3_600_000],
  ["2M", 120_000],
  ["3S", 3000],
  ["250m", 250],
  ["1500u", 1.5],
  ["1n", 1e-6],
  ["0S", 0],
  ["00000001S", 1000],
  ["99999999H", 359_999_996_400_000],
])("%s is %d ms", (value, ms) => {
  expect(parseTimeout(value)).toBeCloseTo(ms, 9);
});

test.each(["", "S", "1", "1s", "-1S", "+1S", "1.5S", " 1S", "1S ", "1S1S", "123456789S", "1e3m", "0x1S", "١S", "1S\n"])(
  "%j is none",
  (value) => {
    expect(parseTimeout(value)).toBeUndefined();
  },
);

test("any text is a timeout or none, and none is negative", () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      expect(parseTimeout(text) ?? 0).toBeGreaterThanOrEqual(0);
    }),
  );
});

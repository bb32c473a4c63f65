import { describe, expect, test } from "vitest";
import type { WindshiftError } from "../../../src/errors.ts";
import { isAtLeast, requireNats } from "../../../src/nats/version.ts";

function connectedTo(version: string) {
  return { server: { url: "nats://127.0.0.1:4222", version, cluster: undefined } };
}

describe("versions of nats-server", () => {
  test.each([
    ["2.12.0", "2.12", true],
    ["2.12", "2.12", true],
    ["2.14.1-RC.2", "2.12", true],
    ["v2.11.9", "2.12", false],
    ["2.9.25", "2.12", false],
    ["3.0.0", "2.12", true],
    ["1.99.0", "2.0", false],
  ])("%s has what came with %s: %s", (version, needed, expected) => {
    expect(isAtLeast(version, needed)).toBe(expected);
  });

  test("an older one is refused with the version that is needed", () => {
    expect(() => requireNats(connectedTo("2.10.29"), "atomicBatches", "an atomic batch")).toThrow(
      "an atomic batch needs NATS 2.12 or newer; this one is 2.10.29",
    );
    try {
      requireNats(connectedTo("2.10.29"), "timeToLive", "time_to_live");
      expect.unreachable();
    } catch (error) {
      expect((error as WindshiftError).reason).toBe("NATS_TOO_OLD");
      expect((error as WindshiftError).metadata).toEqual({ needed: "2.11", version: "2.10.29" });
    }
  });

  test("a new one is taken, and without a connection the call itself finds out", () => {
    requireNats(connectedTo("2.14.0"), "scheduling", "deliver_at");
    requireNats({ server: undefined }, "scheduling", "deliver_at");
  });
});

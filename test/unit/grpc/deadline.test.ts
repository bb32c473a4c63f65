import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { WindshiftError } from "../../../src/errors.ts";
import { DeadlineInterceptor } from "../../../src/grpc/interceptors/deadline.ts";
import type { ServerCall } from "../../../src/grpc/server.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function call(deadlineMs: number, isUnary = true) {
  const fail = vi.fn<(error: unknown) => void>();
  return { number: 0, deadlineMs, isUnary, fail } as unknown as ServerCall & { fail: typeof fail };
}

test("a unary call that nothing answers ends after its deadline, with an unknown outcome", () => {
  using deadlines = new DeadlineInterceptor(5_000);
  const forgotten = call(Infinity);
  deadlines.start(forgotten);
  vi.advanceTimersByTime(5_000);
  expect(forgotten.fail).not.toHaveBeenCalled();
  vi.advanceTimersByTime(2_000);
  const error = forgotten.fail.mock.calls[0]?.[0];
  expect(error).toBeInstanceOf(WindshiftError);
  expect(error).toMatchObject({ reason: "DEADLINE_EXCEEDED", outcome: "unknown" });
});

test("a client's own deadline stays as it is", () => {
  using deadlines = new DeadlineInterceptor(5_000);
  const own = call(Date.now() + 100);
  deadlines.start(own);
  expect(own.deadlineMs).toBe(Date.now() + 100);
});

test("a deadline that has passed is refused before anything is done", () => {
  using deadlines = new DeadlineInterceptor(5_000);
  expect(() => deadlines.start(call(Date.now() - 1))).toThrow("the deadline passed already");
});

test.for([
  ["that has ended", true],
  ["that is a subscription", false],
] as const)("a call %s is left alone", ([, isUnary]) => {
  using deadlines = new DeadlineInterceptor(1_000);
  const other = call(Infinity, isUnary);
  deadlines.start(other);
  if (isUnary) deadlines.end(other);
  vi.advanceTimersByTime(60_000);
  expect(other.fail).not.toHaveBeenCalled();
});

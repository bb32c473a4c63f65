import { expect, test } from "vitest";
import { limitInterceptor } from "../../../src/grpc/interceptors/limit.ts";
import type { ServerCall } from "../../../src/grpc/server.ts";

const unary = { isUnary: true } as ServerCall;
const stream = { isUnary: false } as ServerCall;
const STATUS = { code: 0, message: "" };

test("unary calls beyond the limit are refused until others end, and streams are not counted", () => {
  const limit = limitInterceptor(2);
  limit.start?.(unary);
  for (let n = 0; n < 5; n++) limit.start?.(stream);
  limit.start?.(unary);
  const refused = { reason: "OVERLOADED", retryAfterMs: 100, outcome: "not_stored" };
  expect(() => limit.start?.(unary)).toThrow(expect.objectContaining(refused));
  limit.end?.(unary, STATUS, undefined);
  expect(() => limit.start?.(unary)).toThrow(expect.objectContaining(refused));
  limit.end?.(unary, STATUS, undefined);
  limit.end?.(unary, STATUS, undefined);
  limit.end?.(stream, STATUS, undefined);
  limit.start?.(unary);
});

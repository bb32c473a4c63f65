/** Unary calls whose client set no deadline get one: nothing waits for ever, and no later than the server's limit. */
import { WindshiftError } from "../../errors.ts";
import type { Interceptor } from "../server.ts";

/** `limitMs` counts from the beginning of the call. */
export function deadlineInterceptor(limitMs: number): Interceptor {
  return {
    start(call) {
      if (!call.isUnary) return;
      const now = Date.now();
      if (call.deadlineMs === Infinity) call.deadlineMs = now + limitMs;
      else if (call.deadlineMs <= now) throw new WindshiftError("DEADLINE_EXCEEDED", "the deadline passed already");
    },
  };
}

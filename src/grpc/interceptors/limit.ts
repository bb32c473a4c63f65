/**
 * The last bound of what unary calls may pile up, wherever they wait: beyond it a call is answered at once. What waits for
 * JetStream has tighter limits of its own (`nats/in-flight-limit.ts`).
 */
import { WindshiftError } from "../../errors.ts";
import type { Interceptor } from "../server.ts";

const RETRY_AFTER_MS = 100;

/** Refuses unary calls while `maxCalls` are in progress. The first of the interceptors, as it has to see every start. */
export function limitInterceptor(maxCalls: number): Interceptor {
  let calls = 0;
  return {
    start({ isUnary }) {
      if (!isUnary) return;
      // Counted also where it is refused: `end` comes for every call.
      calls += 1;
      if (calls <= maxCalls) return;
      throw new WindshiftError("OVERLOADED", `too many calls: ${maxCalls} in progress`, {
        outcome: "not_stored",
        retryAfterMs: RETRY_AFTER_MS,
      });
    },
    end({ isUnary }) {
      if (isUnary) calls -= 1;
    },
  };
}

/** Unary calls whose client set no deadline get one, and none outlives its deadline, whatever it waits for. */
import { WindshiftError } from "../../errors.ts";
import { SequenceMap } from "../../sequence-map.ts";
import type { Interceptor, ServerCall } from "../server.ts";

/** What waits on NATS ends by itself at the deadline and knows more about the outcome; this comes after it. */
const SLACK_MS = 1_000;
const SWEEP_INTERVAL_MS = 500;

/** Holds unary calls to their deadlines, by one timer for all. Disposing it stops that. */
export class DeadlineInterceptor implements Interceptor, Disposable {
  readonly #limitMs: number;
  readonly #calls = new SequenceMap<ServerCall>();
  readonly #timer = setInterval(() => this.#sweep(), SWEEP_INTERVAL_MS);

  /** `limitMs` counts from the beginning of a call. */
  constructor(limitMs: number) {
    this.#limitMs = limitMs;
  }

  start(call: ServerCall): void {
    if (!call.isUnary) return;
    const now = Date.now();
    if (call.deadlineMs === Infinity) call.deadlineMs = now + this.#limitMs;
    else if (call.deadlineMs <= now) throw new WindshiftError("DEADLINE_EXCEEDED", "the deadline passed already");
    this.#calls.set(call.number, call);
  }

  end(call: ServerCall): void {
    this.#calls.delete(call.number);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #sweep(): void {
    const now = Date.now();
    for (const [, call] of this.#calls.select(({ deadlineMs }) => deadlineMs + SLACK_MS <= now)) {
      call.fail(new WindshiftError("DEADLINE_EXCEEDED", "the deadline passed", { outcome: "unknown" }));
    }
  }
}

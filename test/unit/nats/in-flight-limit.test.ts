import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { WindshiftError } from "../../../src/errors.ts";
import { InFlightLimit, type Limited } from "../../../src/nats/in-flight-limit.ts";

/** Work that writes down what becomes of it. */
class Work implements Limited {
  readonly id: number;
  readonly log: string[];
  error: WindshiftError | undefined;

  constructor(id: number, log: string[]) {
    this.id = id;
    this.log = log;
  }

  start(): void {
    this.log.push(`start ${this.id}`);
  }

  refuse(error: WindshiftError): void {
    this.error = error;
    this.log.push(`refuse ${this.id}`);
  }
}

function entered(limit: InFlightLimit, count: number): { log: string[]; work: Work[] } {
  const log: string[] = [];
  const work = Array.from({ length: count }, (_, i) => new Work(i + 1, log));
  for (const each of work) limit.enter(each);
  return { log, work };
}

test("work within the limit starts at once, the rest waits, and what is beyond both is refused", () => {
  const limit = new InFlightLimit("reads", 2, 1);
  const { log, work } = entered(limit, 4);
  expect(log).toEqual(["start 1", "start 2", "refuse 4"]);
  expect({ inFlight: limit.inFlight, waiting: limit.waiting }).toEqual({ inFlight: 2, waiting: 1 });
  expect(work[3]?.error).toMatchObject({
    reason: "OVERLOADED",
    message: "too many reads: 2 in flight, 1 waiting",
    outcome: "not_stored",
    retryAfterMs: 100,
  });
});

test("what waits starts in order as others leave", () => {
  const limit = new InFlightLimit("reads", 1, 10);
  const { log } = entered(limit, 3);
  limit.leave();
  limit.leave();
  expect(log).toEqual(["start 1", "start 2", "start 3"]);
  limit.leave();
  expect({ inFlight: limit.inFlight, waiting: limit.waiting }).toEqual({ inFlight: 0, waiting: 0 });
});

test("without a queue, work beyond the limit is refused", () => {
  const limit = new InFlightLimit("reads", 1, 0);
  expect(entered(limit, 2).log).toEqual(["start 1", "refuse 2"]);
});

describe("when all that waits is refused", () => {
  test("what is in flight goes on, and there is room again", () => {
    const limit = new InFlightLimit("reads", 1, 2);
    const { log, work } = entered(limit, 3);
    const error = new WindshiftError("NATS_UNAVAILABLE", "gone");
    limit.refuseWaiting(error);
    expect(log).toEqual(["start 1", "refuse 2", "refuse 3"]);
    expect(work[1]?.error).toBe(error);
    expect({ inFlight: limit.inFlight, waiting: limit.waiting }).toEqual({ inFlight: 1, waiting: 0 });
  });

  test("work that comes back at once waits anew", () => {
    const limit = new InFlightLimit("reads", 1, 2);
    const { log } = entered(limit, 1);
    limit.enter({ start: () => log.push("start again"), refuse: () => limit.enter(new Work(2, log)) });
    limit.refuseWaiting(new WindshiftError("NATS_UNAVAILABLE", "gone"));
    expect({ log: [...log], waiting: limit.waiting }).toEqual({ log: ["start 1"], waiting: 1 });
    limit.leave();
    expect(log).toEqual(["start 1", "start 2"]);
  });
});

test("whatever comes and goes, the limits hold, the order is kept, and each work is started or refused once", () => {
  const step = fc.constantFrom("enter", "enter", "leave", "refuse");
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 3000, size: "max" }),
      fc.integer({ min: 1, max: 4 }),
      fc.integer({ min: 0, max: 2000 }),
      (steps, maxInFlight, maxWaiting) => {
        const limit = new InFlightLimit("reads", maxInFlight, maxWaiting);
        const log: string[] = [];
        let queue: number[] = [];
        let inFlight = 0;
        const expected: string[] = [];
        for (const [id, action] of steps.entries()) {
          if (action === "enter") {
            limit.enter(new Work(id, log));
            if (inFlight < maxInFlight) {
              inFlight += 1;
              expected.push(`start ${id}`);
            } else if (queue.length < maxWaiting) queue.push(id);
            else expected.push(`refuse ${id}`);
          } else if (action === "leave" && inFlight > 0) {
            limit.leave();
            const next = queue.shift();
            if (next === undefined) inFlight -= 1;
            else expected.push(`start ${next}`);
          } else if (action === "refuse" && id % 50 === 0) {
            limit.refuseWaiting(new WindshiftError("NATS_UNAVAILABLE", "gone"));
            expected.push(...queue.map((each) => `refuse ${each}`));
            queue = [];
          }
        }
        expect(log).toEqual(expected);
        expect({ inFlight: limit.inFlight, waiting: limit.waiting }).toEqual({ inFlight, waiting: queue.length });
      },
    ),
    { numRuns: 50 },
  );
});

test("ten thousand that leave as soon as they start, as publishes do whose deadline passed, do not exhaust the stack", () => {
  const limit = new InFlightLimit("publishes", 1, 10_000);
  let started = 0;
  limit.enter({ start: () => undefined, refuse: () => undefined });
  for (let i = 0; i < 10_000; i++) {
    limit.enter({
      start: () => {
        started += 1;
        limit.leave();
      },
      refuse: () => undefined,
    });
  }
  limit.leave();
  expect({ started, inFlight: limit.inFlight }).toEqual({ started: 10_000, inFlight: 0 });
});

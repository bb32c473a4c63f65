import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { WindshiftError } from "../../../src/errors.ts";
import { InFlightLimit, type Limited } from "../../../src/nats/in-flight-limit.ts";

/** Work that writes down what becomes of it. */
class Work implements Limited {
  readonly id: number;
  readonly log: string[];
  readonly deadlineMs: number;
  readonly isWrite: boolean;
  readonly bytes: number;
  error: WindshiftError | undefined;

  constructor(id: number, log: string[], deadlineMs = Infinity, isWrite = true, bytes = 0) {
    this.id = id;
    this.log = log;
    this.deadlineMs = deadlineMs;
    this.isWrite = isWrite;
    this.bytes = bytes;
  }

  start(): void {
    this.log.push(`start ${this.id}`);
  }

  refuse(error: WindshiftError): void {
    this.error = error;
    this.log.push(`refuse ${this.id}`);
  }
}

const PATIENT = { deadlineMs: Infinity, isWrite: true, bytes: 0 };

function entered(limit: InFlightLimit, count: number): { log: string[]; work: Work[] } {
  const log: string[] = [];
  const work = Array.from({ length: count }, (_, i) => new Work(i + 1, log));
  for (const each of work) limit.enter(each);
  return { log, work };
}

test("work within the limit starts at once, the rest waits, and what is beyond both is refused", () => {
  const limit = new InFlightLimit("reads", { maxInFlight: 2, maxWaiting: 1 });
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
  const limit = new InFlightLimit("reads", { maxInFlight: 1, maxWaiting: 10 });
  const { log } = entered(limit, 3);
  limit.leave();
  limit.leave();
  expect(log).toEqual(["start 1", "start 2", "start 3"]);
  limit.leave();
  expect({ inFlight: limit.inFlight, waiting: limit.waiting }).toEqual({ inFlight: 0, waiting: 0 });
});

test("without a queue, work beyond the limit is refused", () => {
  const limit = new InFlightLimit("reads", { maxInFlight: 1, maxWaiting: 0 });
  expect(entered(limit, 2).log).toEqual(["start 1", "refuse 2"]);
});

describe("when all that waits is refused", () => {
  test("what is in flight goes on, and there is room again", () => {
    const limit = new InFlightLimit("reads", { maxInFlight: 1, maxWaiting: 2 });
    const { log, work } = entered(limit, 3);
    const error = new WindshiftError("NATS_UNAVAILABLE", "gone");
    limit.refuseWaiting(error);
    expect(log).toEqual(["start 1", "refuse 2", "refuse 3"]);
    expect(work[1]?.error).toBe(error);
    expect({ inFlight: limit.inFlight, waiting: limit.waiting }).toEqual({ inFlight: 1, waiting: 0 });
  });

  test("work that comes back at once waits anew", () => {
    const limit = new InFlightLimit("reads", { maxInFlight: 1, maxWaiting: 2 });
    const { log } = entered(limit, 1);
    limit.enter({
      ...PATIENT,
      start: () => log.push("start again"),
      refuse: () => limit.enter(new Work(2, log)),
    });
    limit.refuseWaiting(new WindshiftError("NATS_UNAVAILABLE", "gone"));
    expect({ log: [...log], waiting: limit.waiting }).toEqual({ log: ["start 1"], waiting: 1 });
    limit.leave();
    expect(log).toEqual(["start 1", "start 2"]);
  });
});

describe("at its deadline, work that waits", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  test("is refused within 20 ms, and the others keep their order", () => {
    const limit = new InFlightLimit("reads", { maxInFlight: 1, maxWaiting: 10 });
    const log: string[] = [];
    const work = [Infinity, 300, 100, Infinity, 100].map((ms, id) => new Work(id, log, Date.now() + ms, id !== 4));
    for (const each of work) limit.enter(each);
    vi.advanceTimersByTime(120);
    expect(log).toEqual(["start 0", "refuse 2", "refuse 4"]);
    const expected = { reason: "DEADLINE_EXCEEDED", retryAfterMs: 100 };
    expect(work[2]?.error).toMatchObject({ ...expected, outcome: "not_stored" });
    expect(work[4]?.error).toMatchObject({ ...expected, outcome: undefined });
    expect(limit.waiting).toBe(2);
    limit.leave();
    limit.leave();
    expect(log.slice(3)).toEqual(["start 1", "start 3"]);
  });

  test("is refused also after others have started", () => {
    const limit = new InFlightLimit("reads", { maxInFlight: 1, maxWaiting: 10 });
    const log: string[] = [];
    for (const [id, ms] of [Infinity, Infinity, 100, Infinity].entries()) {
      limit.enter(new Work(id, log, Date.now() + ms));
    }
    limit.leave();
    vi.advanceTimersByTime(120);
    expect({ log, waiting: limit.waiting }).toEqual({ log: ["start 0", "start 1", "refuse 2"], waiting: 1 });
  });

  test("leaves no timer behind, nor does work that started or was refused", () => {
    const limit = new InFlightLimit("reads", { maxInFlight: 1, maxWaiting: 10 });
    limit.enter(new Work(0, []));
    limit.enter(new Work(1, [], Date.now() + 100));
    vi.advanceTimersByTime(120);
    expect(vi.getTimerCount()).toBe(0);
    limit.enter(new Work(2, []));
    limit.leave();
    vi.advanceTimersByTime(20);
    expect(vi.getTimerCount()).toBe(0);
    limit.enter(new Work(3, []));
    limit.refuseWaiting(new WindshiftError("NATS_UNAVAILABLE", "gone"));
    expect(vi.getTimerCount()).toBe(0);
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
        const limit = new InFlightLimit("reads", { maxInFlight, maxWaiting });
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
  const limit = new InFlightLimit("publishes", { maxInFlight: 1, maxWaiting: 10_000 });
  let started = 0;
  limit.enter({ ...PATIENT, start: () => undefined, refuse: () => undefined });
  for (let i = 0; i < 10_000; i++) {
    limit.enter({
      ...PATIENT,
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

describe("what is to be tried again", () => {
  test("counts as waiting until it comes back, and then has its turn as all others", () => {
    const limit = new InFlightLimit("publishes", { maxInFlight: 1, maxWaiting: 2 });
    const { log, work } = entered(limit, 2);
    limit.leave(work[0]);
    expect(limit.standAside(work[0]!)).toBe(true);
    limit.enter(new Work(3, log));
    limit.enter(new Work(4, log));
    expect({ log: [...log], waiting: limit.waiting }).toEqual({ log: ["start 1", "start 2", "refuse 4"], waiting: 2 });
    limit.comeBack(work[0]!);
    for (let n = 0; n < 3; n++) limit.leave();
    expect(log.slice(3)).toEqual(["start 3", "start 1"]);
    expect({ inFlight: limit.inFlight, waiting: limit.waiting }).toEqual({ inFlight: 0, waiting: 0 });
  });

  test("is refused where too many wait, and makes room when it gives up", () => {
    const limit = new InFlightLimit("publishes", { maxInFlight: 2, maxWaiting: 1 });
    const { log, work } = entered(limit, 2);
    for (const each of work) limit.leave(each);
    expect(work.map((each) => limit.standAside(each))).toEqual([true, false]);
    expect(log).toEqual(["start 1", "start 2", "refuse 2"]);
    limit.giveUp(work[0]!);
    expect(limit.standAside(work[1]!)).toBe(true);
  });
});

test("bytes are limited over all that is in flight, waits or stands aside; a single one may have more", () => {
  const limit = new InFlightLimit("publishes", { maxInFlight: 1, maxWaiting: 10, maxBytes: 100 });
  const log: string[] = [];
  const work = (id: number, bytes: number): Work => new Work(id, log, Infinity, true, bytes);
  const [huge, first, second, third] = [work(1, 1000), work(2, 60), work(3, 40), work(4, 1)];
  limit.enter(huge);
  limit.enter(first);
  expect(log).toEqual(["start 1", "refuse 2"]);
  expect(first.error).toMatchObject({ reason: "OVERLOADED", outcome: "not_stored", retryAfterMs: 100 });
  limit.leave(huge);
  for (const each of [first, second, third]) limit.enter(each);
  expect(log.slice(2)).toEqual(["start 2", "refuse 4"]);
  limit.leave(first);
  expect(limit.standAside(first)).toBe(true);
  expect(limit.standAside(third)).toBe(false);
  limit.giveUp(first);
  limit.refuseWaiting(new WindshiftError("NATS_UNAVAILABLE", "gone"));
  limit.leave(second);
  limit.enter(huge);
  expect(log.slice(4)).toEqual(["start 3", "refuse 4", "start 1"]);
});

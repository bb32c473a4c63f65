import fc from "fast-check";
import { describe, expect, onTestFinished, test } from "vitest";
import { type HeldEvent, Ledger, holdTimeMs } from "../../../src/events/ledger.ts";

const FAR = 1_000_000;

function ledger(onExpired: (event: HeldEvent) => void = () => undefined): Ledger {
  const made = new Ledger(onExpired);
  onTestFinished(() => made[Symbol.dispose]());
  return made;
}

function held(id: number, expiresInMs = FAR, rest: Partial<HeldEvent> = {}): HeldEvent {
  return {
    id,
    ackSubject: `ack.${id}`,
    subject: "s.a",
    traceParent: undefined,
    attempt: 1,
    epoch: 0,
    bytes: 100,
    expiresAt: performance.now() + expiresInMs,
    isSettling: false,
    pings: 0,
    tag: undefined,
    ...rest,
  };
}

describe("what may be settled", () => {
  test("an event that is held", () => {
    const events = ledger();
    const event = held(1);
    expect(events.add(event)).toBeUndefined();
    expect(events.find(1, performance.now())).toBe(event);
    expect(events.size).toBe(1);
  });

  test("not one that never came", () => {
    expect(ledger().find(1, performance.now())).toBeUndefined();
  });

  test("not one that is being settled", () => {
    const events = ledger();
    events.add(held(1, FAR, { isSettling: true }));
    expect(events.find(1, performance.now())).toBeUndefined();
    expect(events.size).toBe(1);
  });

  test("not one whose time ran out, and its owner hears of it", () => {
    const expired: HeldEvent[] = [];
    const events = ledger((event) => expired.push(event));
    const event = held(1);
    events.add(event);
    expect(events.find(1, event.expiresAt)).toBeUndefined();
    expect({ expired, size: events.size }).toEqual({ expired: [event], size: 0 });
  });

  test("not one whose time ran out while a ping is under way", () => {
    const events = ledger();
    const event = held(1, FAR, { pings: 1 });
    events.add(event);
    expect(events.find(1, event.expiresAt)).toBeUndefined();
  });
});

describe("a settled event", () => {
  test("is not held any more", () => {
    const events = ledger();
    const event = held(1);
    events.add(event);
    expect(events.settled(event, true)).toBe(event);
    expect(events.settled(event, true)).toBeUndefined();
    expect(events.size).toBe(0);
  });

  test("takes a later delivery of it along", () => {
    const events = ledger();
    const [first, second] = [held(1, FAR, { isSettling: true }), held(1)];
    events.add(first);
    expect(events.add(second)).toBe(first);
    expect(events.settled(first, true)).toBe(second);
    expect(events.size).toBe(0);
  });

  test("that is to come again leaves a later delivery alone", () => {
    const events = ledger();
    const [first, second] = [held(1, FAR, { isSettling: true }), held(1)];
    events.add(first);
    events.add(second);
    expect(events.settled(first, false)).toBeUndefined();
    expect(events.find(1, performance.now())).toBe(second);
  });

  test("leaves a later delivery that is being settled itself", () => {
    const events = ledger();
    const [first, second] = [held(1, FAR, { isSettling: true }), held(1, FAR, { isSettling: true })];
    events.add(first);
    events.add(second);
    expect(events.settled(first, true)).toBeUndefined();
    expect(events.size).toBe(1);
  });
});

describe("a pinged event", () => {
  test("is kept until its new time", () => {
    const events = ledger();
    const event = held(1);
    events.add(event);
    const later = event.expiresAt + FAR;
    expect(events.prolong(event, later)).toBe(true);
    expect(events.find(1, later - 1)).toBe(event);
  });

  test("keeps the time that a later ping has given it", () => {
    const events = ledger();
    const event = held(1);
    events.add(event);
    const { expiresAt } = event;
    expect(events.prolong(event, expiresAt - 1)).toBe(true);
    expect(event.expiresAt).toBe(expiresAt);
  });

  test.for([[{}], [{ isSettling: true }]])("whose time was over before gets no other, %o", ([rest]) => {
    const events = ledger();
    const event = held(1, 0, rest);
    events.add(event);
    expect(events.prolong(event, performance.now() + FAR)).toBe(false);
    expect(event.expiresAt).toBeLessThanOrEqual(performance.now());
  });

  test("that another delivery has replaced changes nothing", () => {
    const events = ledger();
    const [first, second] = [held(1), held(1)];
    events.add(first);
    events.add(second);
    const { expiresAt } = second;
    expect(events.prolong(first, expiresAt + FAR)).toBe(false);
    expect(second.expiresAt).toBe(expiresAt);
  });

  test("that is settled is not held", () => {
    const events = ledger();
    const event = held(1);
    events.add(event);
    events.settled(event, true);
    expect(events.prolong(event, event.expiresAt + FAR)).toBe(false);
  });
});

describe("an event that was settled in vain", () => {
  test("is held as before", () => {
    const events = ledger();
    const event = held(1);
    events.add(event);
    events.keep(event);
    expect(events.find(1, performance.now())).toBe(event);
  });

  test("is expired where its time ran out meanwhile", () => {
    const expired: number[] = [];
    const events = ledger(({ id }) => expired.push(id));
    const event = held(1, 0);
    events.add(event);
    events.keep(event);
    expect(expired).toEqual([1]);
  });

  test("is left to what settles it again", () => {
    const events = ledger();
    const event = held(1, 0, { isSettling: true });
    events.add(event);
    events.keep(event);
    expect(events.size).toBe(1);
  });

  test("leaves a later delivery of it alone", () => {
    const events = ledger();
    const [first, second] = [held(1, 0), held(1)];
    events.add(first);
    events.add(second);
    events.keep(first);
    expect(events.find(1, performance.now())).toBe(second);
  });
});

describe("time", () => {
  test("runs out by itself, in the order of the times", async () => {
    const order: number[] = [];
    const { promise, resolve } = Promise.withResolvers<void>();
    const events = ledger(({ id }) => {
      order.push(id);
      if (order.length === 3) resolve();
    });
    for (const id of [1, 2, 3]) events.add(held(id, id));
    events.add(held(4));
    await promise;
    expect({ order, size: events.size }).toEqual({ order: [1, 2, 3], size: 1 });
  });

  test("does not end what is being settled, nor stops at it", async () => {
    const { promise, resolve } = Promise.withResolvers<HeldEvent>();
    const events = ledger(resolve);
    const [settling, idle] = [held(1, 0, { isSettling: true }), held(2, 1)];
    for (const event of [settling, idle]) events.add(event);
    expect(await promise).toBe(idle);
    expect(events.size).toBe(1);
  });

  test("ends what is pinged in vain", async () => {
    const { promise, resolve } = Promise.withResolvers<HeldEvent>();
    const events = ledger(resolve);
    const event = held(1, 1, { pings: 1 });
    events.add(event);
    expect(await promise).toBe(event);
  });

  test("ends what has been settled in vain", async () => {
    const { promise, resolve } = Promise.withResolvers<HeldEvent>();
    const events = ledger(resolve);
    const event = held(1, 0, { isSettling: true });
    events.add(event);
    event.isSettling = false;
    expect(await promise).toBe(event);
  });
});

test("letting go of everything leaves what is being settled", () => {
  const events = ledger();
  const [idle, settling, pinged] = [held(1), held(2, FAR, { isSettling: true }), held(3, FAR, { pings: 1 })];
  for (const event of [idle, settling, pinged]) events.add(event);
  expect(events.release()).toEqual([idle, pinged]);
  expect(events.size).toBe(1);
});

test("whatever happens, each event is held, settled or expired exactly once", () => {
  const step = fc.record({ action: fc.constantFrom("add", "settle", "expire"), id: fc.integer({ min: 1, max: 5 }) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      let expired = 0;
      const events = new Ledger(() => (expired += 1));
      try {
        const model = new Set<number>();
        const done = { added: 0, settled: 0, replaced: 0 };
        for (const { action, id } of steps) {
          if (action === "add") {
            done.added += 1;
            if (events.add(held(id)) !== undefined) done.replaced += 1;
            model.add(id);
            continue;
          }
          const event = events.find(id, action === "expire" ? Infinity : performance.now());
          expect(event !== undefined).toBe(action === "settle" && model.has(id));
          if (event !== undefined && events.settled(event, true) !== undefined) done.settled += 1;
          model.delete(id);
        }
        expect(events.size).toBe(model.size);
        expect(done.added).toBe(done.settled + done.replaced + expired + events.size);
      } finally {
        events[Symbol.dispose]();
      }
    }),
  );
});

describe("a client has a little less time than JetStream gives", () => {
  test.for([
    [30_000, 0, 29_750],
    [30_000, 10, 29_740],
    [1_000, 0, 950],
    [100, 0, 95],
    [10, 20, 0],
  ] as const)("of %i ms with a round trip of %i ms: %i ms", ([processing, roundTrip, hold]) => {
    expect(holdTimeMs(processing, roundTrip)).toBe(hold);
  });
});

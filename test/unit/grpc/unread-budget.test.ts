import fc from "fast-check";
import { expect, test } from "vitest";
import { type Holder, UnreadBudget } from "../../../src/grpc/engine/unread-budget.ts";

class Call implements Holder {
  unreadBytes = 0;
  readonly name: string;
  readonly #connection: object;
  readonly isConnectionStuck: boolean;
  readonly log: string[];

  constructor(name: string, log: string[] = [], connection: object = {}, isConnectionStuck = false) {
    this.name = name;
    this.log = log;
    this.#connection = connection;
    this.isConnectionStuck = isConnectionStuck;
  }

  get connection(): object {
    return this.#connection;
  }

  abort(bytes: number): void {
    this.log.push(`${this.name} ${bytes}`);
  }
}

class Connection extends Call {
  constructor(log: string[]) {
    super("connection", log, undefined, true);
  }

  override get connection(): object {
    return this;
  }
}

test("within the budget nobody is aborted, and what is read no longer counts", () => {
  const log: string[] = [];
  const budget = new UnreadBudget(100);
  const [a, b] = [new Call("a", log), new Call("b", log)];
  budget.hold(a, 60);
  budget.hold(b, 40);
  expect(budget.bytes).toBe(100);
  budget.taken(a, 60);
  budget.hold(b, 60);
  expect({ bytes: budget.bytes, a: a.unreadBytes, b: b.unreadBytes, log }).toEqual({
    bytes: 100,
    a: 0,
    b: 100,
    log: [],
  });
  budget.forget(b);
  expect(budget.bytes).toBe(0);
});

test("beyond it the one that has read nothing for the longest is aborted", () => {
  const log: string[] = [];
  const budget = new UnreadBudget(100);
  const [a, b, c] = [new Call("a", log), new Call("b", log), new Call("c", log)];
  for (const call of [a, b, c]) budget.hold(call, 33);
  budget.taken(a, 3);
  budget.hold(a, 10);
  expect(log).toEqual(["b 33"]);
  expect(budget.bytes).toBe(73);
});

test("one that holds little is spared, however long it takes", () => {
  const log: string[] = [];
  const budget = new UnreadBudget(100);
  const far = new Call("far", log);
  budget.hold(far, 5);
  for (let n = 1; n <= 10; n++) budget.hold(new Call(`hoarder ${n}`, log), 30);
  expect(log).toEqual([1, 2, 3, 4, 5, 6, 7].map((n) => `hoarder ${n} 30`));
  expect(far.unreadBytes).toBe(5);
});

test("the one that goes may be the one that sends", () => {
  const log: string[] = [];
  const budget = new UnreadBudget(100);
  const [small, large] = [new Call("small", log), new Call("large", log)];
  budget.hold(small, 10);
  budget.hold(large, 95);
  expect({ log, bytes: budget.bytes }).toEqual({ log: ["large 95"], bytes: 10 });
});

test("a call alone is not aborted", () => {
  const log: string[] = [];
  const budget = new UnreadBudget(100);
  budget.hold(new Call("a", log), 1000);
  expect({ log, bytes: budget.bytes }).toEqual({ log: [], bytes: 1000 });
});

test("with a stuck connection all its calls go, and no other", () => {
  const log: string[] = [];
  const budget = new UnreadBudget(100);
  const connection = {};
  budget.hold(new Call("a", log, connection, true), 30);
  budget.hold(new Call("other", log), 30);
  budget.hold(new Call("b", log, connection, true), 10);
  budget.hold(new Call("c", log), 40);
  expect({ log, bytes: budget.bytes }).toEqual({ log: ["a 30", "b 10"], bytes: 70 });
});

test("what a connection holds by itself counts, and goes with all its calls", () => {
  const log: string[] = [];
  const budget = new UnreadBudget(100);
  const connection = new Connection(log);
  budget.hold(connection, 30);
  budget.hold(new Call("other", log), 30);
  budget.hold(new Call("its own", log, connection), 10);
  budget.hold(new Call("last", log), 40);
  expect({ log, bytes: budget.bytes }).toEqual({ log: ["connection 30", "its own 10"], bytes: 70 });
});

test("a call is not aborted where nobody but its own connection holds something beside it", () => {
  const log: string[] = [];
  const budget = new UnreadBudget(100);
  const connection = new Connection(log);
  const call = new Call("call", log, connection, true);
  budget.hold(call, 1000);
  budget.hold(connection, 50);
  budget.taken(call, 10);
  budget.hold(call, 20);
  expect({ log, bytes: budget.bytes }).toEqual({ log: [], bytes: 1060 });
  budget.hold(new Connection(log), 1);
  expect(log).toEqual(["connection 50", "call 1010"]);
});

test("whatever is sent and read, the sum is that of the calls and stays within the budget", () => {
  const step = fc.tuple(fc.integer({ min: 0, max: 9 }), fc.constantFrom("hold", "hold", "taken", "forget"), fc.nat(40));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
      const budget = new UnreadBudget(100);
      const calls = Array.from({ length: 10 }, (_, n) => new Call(String(n)));
      for (const [n, action, bytes] of steps) {
        const call = calls[n]!;
        if (action === "hold") budget.hold(call, bytes + 1);
        else if (action === "forget") budget.forget(call);
        else if (call.unreadBytes > 0) budget.taken(call, Math.min(bytes, call.unreadBytes));
        const held = calls.map(({ unreadBytes }) => unreadBytes);
        expect(budget.bytes).toBe(held.reduce((sum, each) => sum + each, 0));
        expect(budget.bytes <= 100 || held.filter((each) => each > 0).length === 1).toBe(true);
      }
    }),
  );
});

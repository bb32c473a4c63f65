import fc from "fast-check";
import { expect, test } from "vitest";
import {
  RequestBudget,
  type RequestHolder,
  type RequestShare,
} from "../../../../src/grpc/engine/native/request-budget.ts";

/** A connection with its calls. */
class Connection {
  readonly share: RequestShare;
  calls: Call[] = [];
  readonly log: string[];

  constructor(budget: RequestBudget, log: string[] = []) {
    this.log = log;
    this.share = budget.open(() => [...this.calls]);
  }

  /** A call that has begun, with a request that is not complete. */
  call(name: string, bytes: number): Call {
    const call = new Call(this, name);
    this.calls.push(call);
    call.hold(bytes, bytes);
    return call;
  }

  /** One whose request is complete. */
  served(name: string, bytes: number): Call {
    const call = new Call(this, name);
    this.calls.push(call);
    call.hold(bytes, 0);
    return call;
  }
}

class Call implements RequestHolder {
  heldBytes = 0;
  unfinishedBytes = 0;
  readonly name: string;
  readonly #connection: Connection;

  constructor(connection: Connection, name: string) {
    this.#connection = connection;
    this.name = name;
  }

  hold(bytes: number, unfinished: number): void {
    this.heldBytes += bytes;
    this.unfinishedBytes += unfinished;
    this.#connection.share.count(this, bytes, unfinished);
  }

  end(): void {
    this.hold(-this.heldBytes, -this.unfinishedBytes);
    this.#connection.calls = this.#connection.calls.filter((other) => other !== this);
  }

  makeRoom(): void {
    this.#connection.log.push(this.name);
    this.end();
  }
}

test("within the limit nobody goes, and what has ended no longer counts", () => {
  const budget = new RequestBudget(100);
  const log: string[] = [];
  const [a, b] = [new Connection(budget, log), new Connection(budget, log)];
  const call = a.call("a", 60);
  b.call("b", 40);
  call.end();
  b.call("another", 60);
  expect({ log, bytes: budget.bytes, a: a.share.heldBytes, b: b.share.heldBytes }).toEqual({
    log: [],
    bytes: 100,
    a: 0,
    b: 100,
  });
});

test("who has filled it gets nothing more, and keeps what there is", () => {
  const budget = new RequestBudget(100);
  const hoarder = new Connection(budget);
  for (let n = 1; n <= 12; n++) hoarder.call(`call ${n}`, 10);
  expect(hoarder.log).toEqual(["call 11", "call 12"]);
  expect(budget.bytes).toBe(100);
});

test("who has filled it and asks again is refused without a look at what others hold", () => {
  const budget = new RequestBudget(1000);
  const [hoarder, ...others] = Array.from({ length: 100 }, () => new Connection(budget));
  for (const { share } of others) share.count({ heldBytes: 1, unfinishedBytes: 1, makeRoom: () => undefined }, 1, 1);
  hoarder!.call("large", 901);
  let looks = 0;
  for (const { share } of others) {
    const { heldBytes } = share;
    const get = (): number => {
      looks += 1;
      return heldBytes;
    };
    Object.defineProperty(share, "heldBytes", { get });
  }
  hoarder!.call("one more", 1);
  expect({ log: hoarder!.log, looks }).toEqual({ log: ["one more"], looks: 0 });
});

test("for who holds little the one that holds most makes room, of the oldest of its unfinished requests", () => {
  const budget = new RequestBudget(2560);
  const log: string[] = [];
  const [hoarder, other, small] = [
    new Connection(budget, log),
    new Connection(budget, log),
    new Connection(budget, log),
  ];
  other.call("other", 800);
  hoarder.served("served", 800);
  for (let n = 1; n <= 96; n++) hoarder.call(`call ${n}`, 10);
  small.call("small", 10);
  // Some more than it takes, so that the next one is for nothing.
  expect(log).toEqual(["call 1", "call 2"]);
  small.call("small", 10);
  expect(log).toHaveLength(2);
});

test("of who serves as well as of who does not finish, the unfinished go first, whoever is larger", () => {
  const budget = new RequestBudget(1000);
  const log: string[] = [];
  const [gateway, attacker, small] = [
    new Connection(budget, log),
    new Connection(budget, log),
    new Connection(budget, log),
  ];
  for (let n = 1; n <= 6; n++) gateway.served(`subscription ${n}`, 100);
  for (let n = 1; n <= 10; n++) attacker.call(`unfinished ${n}`, 40);
  small.call("small", 10);
  expect(log).toEqual(["unfinished 1"]);
});

test("where all are served the newest of the largest go", () => {
  const budget = new RequestBudget(1000);
  const log: string[] = [];
  const [large, small] = [new Connection(budget, log), new Connection(budget, log)];
  for (let n = 1; n <= 10; n++) large.served(`call ${n}`, 100);
  small.served("small", 10);
  expect(log).toEqual(["call 10"]);
});

test("a single call that is beyond the limit goes", () => {
  const budget = new RequestBudget(100);
  const connection = new Connection(budget);
  connection.call("large", 101);
  expect({ log: connection.log, bytes: budget.bytes }).toEqual({ log: ["large"], bytes: 0 });
});

test("what is told of a call's end may ask for more", () => {
  const budget = new RequestBudget(100);
  const [large, small] = [new Connection(budget), new Connection(budget)];
  class Telling extends Call {
    override makeRoom(): void {
      super.makeRoom();
      small.served("told", 20);
    }
  }
  const call = new Telling(large, "large");
  large.calls.push(call);
  call.hold(100, 100);
  small.call("small", 1);
  expect(large.log).toEqual(["large"]);
  expect(small.log).toEqual([]);
  expect(budget.bytes).toBe(21);
});

test("whatever comes, the limit holds, and only who holds half of an equal share goes", () => {
  const step = fc.record({
    connection: fc.nat(4),
    act: fc.constantFrom("begin", "serve", "grow", "end"),
    bytes: fc.integer({ min: 1, max: 400 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const budget = new RequestBudget(2000);
      const connections = Array.from({ length: 5 }, () => new Connection(budget));
      for (const { connection, act, bytes } of steps) {
        const one = connections[connection]!;
        const before = connections.map(({ log, share }) => ({ log: log.length, held: share.heldBytes }));
        if (act === "begin") one.call("", bytes);
        else if (act === "serve") one.served("", bytes);
        else if (act === "grow") one.calls[0]?.hold(bytes, bytes);
        else one.calls[0]?.end();
        expect(budget.bytes).toBeLessThanOrEqual(2000);
        expect(budget.bytes).toBe(connections.reduce((sum, { share }) => sum + share.heldBytes, 0));
        before[connection]!.held += bytes;
        const holding = before.filter(({ held }) => held > 0).length;
        for (const [index, { log }] of connections.entries()) {
          if (log.length > before[index]!.log) expect(before[index]!.held).toBeGreaterThanOrEqual(2000 / holding / 2);
        }
      }
    }),
  );
});

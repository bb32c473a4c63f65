/**
 * What others notice of an attack, and what it costs. While it goes on a bystander calls on a connection of its own, one call
 * after the other, each of which has to be answered as ever. The attack waits for it time and again, which bounds how long
 * the server may be busy with what comes in between. Memory is what is held after a collection, looked at during the attack
 * as well as behind it, clients included. Work is CPU time, against that of calls in the same process: so it is the same on
 * a busy machine.
 */
import { expect } from "vitest";
import { type Http2Peer, Type, field, message, unary, windowUpdate } from "./http2-peer.ts";
import { heldBytes } from "./memory.ts";

const STATUS_OK = field("grpc-status", "0");
/** Calls by which it is found what one costs. */
const CALIBRATION = 2000;

/** What an attack may make of the server. */
export interface AttackLimits {
  /** So much may be held more than before; not looked at without, as it takes a while. */
  readonly bytes?: number;
  /** The work of so many calls may it cause. */
  readonly calls?: number;
}

/** Resolves when somebody who called from now on was answered. */
export type Served = () => Promise<void>;

/** A client that calls `/test/Echo` until it is stopped. */
class Bystander {
  readonly #peer: Http2Peer;
  readonly #done: Promise<void>;
  #next = Promise.withResolvers<void>();
  #isStopped = false;
  /** Calls that were answered as they should be. */
  answered = 0;

  constructor(peer: Http2Peer) {
    this.#peer = peer;
    this.#done = this.#callOn();
    // Whoever waits hears of it.
    this.#done.catch(() => undefined);
  }

  async served(): Promise<void> {
    // The one that is under way may have been there before.
    await this.answers(2);
  }

  /** Resolves when so many more calls were answered. */
  async answers(count: number): Promise<void> {
    for (const end = this.answered + count; this.answered < end;) await Promise.race([this.#next.promise, this.#done]);
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#done;
    this.#peer.destroy();
  }

  async #callOn(): Promise<void> {
    for (let id = 1; !this.#isStopped; id += 2) {
      const request = Buffer.from(`call ${id}`);
      const answer = message(request);
      this.#peer.send(unary(id, "/test/Echo", request), windowUpdate(0, answer.length));
      const { payload } = await this.#peer.endOf(id);
      const parts = this.#peer.received.filter(({ type, streamId }) => type === Type.data && streamId === id);
      expect(Buffer.concat(parts.map((part) => part.payload))).toEqual(answer);
      expect(payload.includes(STATUS_OK)).toBe(true);
      this.#peer.received.length = 0;
      this.answered += 1;
      this.#next.resolve();
      this.#next = Promise.withResolvers();
    }
  }
}

/**
 * Runs an attack on the server to which `open` makes connections. The attack calls `served` whenever others are to be served,
 * and best after each few frames.
 */
export async function underAttack(
  open: () => Promise<Http2Peer>,
  attack: (served: Served) => Promise<void>,
  { bytes, calls = 20_000 }: AttackLimits = {},
): Promise<void> {
  const bystander = new Bystander(await open());
  costOfCall ??= await measure(bystander);
  const before = bytes === undefined ? 0 : await heldBytes();
  const lookAtMemory = async (): Promise<void> => {
    if (bytes !== undefined) expect((await heldBytes()) - before).toBeLessThan(bytes);
  };
  let rounds = 0;
  let nextLook = 8;
  let aside = 0;
  const answered = bystander.answered;
  const start = cpu();
  await attack(async () => {
    await bystander.served();
    rounds += 1;
    // Seldom, as it takes longer than most of what is attacked with.
    if (rounds !== nextLook) return;
    nextLook *= 8;
    const began = cpu();
    await lookAtMemory();
    aside += cpu() - began;
  });
  const spent = cpu() - start - aside;
  await bystander.served();
  expect(spent / costOfCall).toBeLessThan(calls + bystander.answered - answered);
  await lookAtMemory();
  await bystander.stop();
}

/** Of this process, in microseconds. */
let costOfCall: number | undefined;

async function measure(bystander: Bystander): Promise<number> {
  await bystander.answers(CALIBRATION);
  const start = cpu();
  await bystander.answers(CALIBRATION);
  return (cpu() - start) / CALIBRATION;
}

function cpu(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

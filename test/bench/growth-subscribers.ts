/** Subscriptions in growing number on both servers: what they take while nothing happens, and what an event costs then. */
import { setTimeout as delay } from "node:timers/promises";
import { LoadConnection, type LoadSubscription, type Told } from "../support/load-client.ts";
import { type Arena, forBoth, restingBytes, watch } from "./growth-arena.ts";
import { eventHeaders } from "./growth-events.ts";
import { ENGINES, type Engine, type Levels } from "./growth-report.ts";
import type { Figures } from "./report.ts";

/** How they are spread. */
export interface SubscriberOptions {
  readonly connections: number;
  /** The subscriptions take turns in joining one of them; each has a subject of its own. */
  readonly consumers: number;
  /** Events a second. */
  readonly rate: number;
}

const STREAM = "subscribed";
const WINDOW = 100;
const PAYLOAD_BYTES = 256;
/** None comes again, however slow the machine is. */
const PROCESSING_TIMEOUT_S = 600n;
/** Of the subscriptions being opened at a time. */
const OPENED_AT_ONCE = 100;
/**
 * Those that come and go before anything is measured, so that the process has done everything once. No more, as the
 * process keeps some of their memory, and later ones would seem to take less.
 */
const WARM_UP_SUBSCRIPTIONS = 10;
/** A process' memory moves by so much without a cause: what is less is not told. */
const NOISE_BYTES = 2 * 1024 * 1024;
const TICK_MS = 10;
const DRAIN_LIMIT_MS = 30_000;

/** The subscriptions of one server. */
interface Side {
  readonly connections: LoadConnection[];
  readonly subscriptions: LoadSubscription[];
  /** Resident memory without any. */
  emptyBytes: number;
  /** Milliseconds from NATS to the client. */
  latencies: number[];
  confirmed: number;
  failure: string | undefined;
}

/** All of them. Disposing closes them. */
export class Subscribers implements AsyncDisposable {
  readonly #arena: Arena;
  readonly #options: SubscriberOptions;
  readonly #sides: Record<Engine, Side>;
  readonly #headers = eventHeaders();

  private constructor(arena: Arena, options: SubscriberOptions) {
    this.#arena = arena;
    this.#options = options;
    this.#sides = { native: newSide(), "grpc-js": newSide() };
  }

  /** Makes the stream, and the consumers of each engine. */
  static async open(arena: Arena, options: SubscriberOptions): Promise<Subscribers> {
    const { client } = arena.contestants.native;
    await client.ensureStream({ name: STREAM, source: { case: "subjects", value: { subjects: [`${STREAM}.>`] } } });
    for (const engine of ENGINES) {
      for (let n = 0; n < options.consumers; n++) {
        await client.ensureConsumer({
          stream: STREAM,
          name: `${engine}-${n}`,
          subjects: [subjectOf(engine, n)],
          processingTimeout: { seconds: PROCESSING_TIMEOUT_S },
        });
      }
    }
    return new Subscribers(arena, options);
  }

  /** Lets subscriptions come, work and go, and notes what the servers have without them. */
  async warmUp(seconds: number): Promise<void> {
    await this.grow(WARM_UP_SUBSCRIPTIONS, 0);
    for (const engine of ENGINES) await this.feed(engine, seconds);
    this.#close();
    const bytes = await restingBytes(this.#arena);
    for (const engine of ENGINES) this.#sides[engine].emptyBytes = bytes[engine];
  }

  /** Opens more until there are `count`, and tells what they take at rest. */
  async grow(count: number, seconds: number): Promise<Record<Engine, Levels>> {
    await forBoth(async (engine) => this.#open(engine, count));
    const bytes = await restingBytes(this.#arena);
    const idle = await this.#idleMillis(seconds);
    return forBoth(async (engine) => {
      const grown = bytes[engine] - this.#sides[engine].emptyBytes;
      return {
        residentMib: bytes[engine] / 2 ** 20,
        ...(grown < NOISE_BYTES ? {} : { eachKib: grown / count / 1024 }),
        idleMillis: idle[engine],
      };
    });
  }

  /** Publishes at the rate for so long; ends when all events are confirmed. */
  async feed(engine: Engine, seconds: number): Promise<Figures> {
    const side = this.#sides[engine];
    const { server } = this.#arena.contestants[engine];
    side.latencies = [];
    side.confirmed = 0;
    const figures = await watch(server, async () => {
      const published = await this.#publish(engine, seconds);
      const end = performance.now() + DRAIN_LIMIT_MS;
      while (side.confirmed < published) {
        if (side.failure !== undefined) throw new Error(side.failure);
        if (performance.now() > end) throw new Error(`${published - side.confirmed} events were not confirmed`);
        await delay(TICK_MS);
      }
      return side.latencies;
    });
    return figures;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#close();
  }

  #close(): void {
    for (const engine of ENGINES) {
      for (const connection of this.#sides[engine].connections) connection.drop();
      this.#sides[engine] = newSide();
    }
  }

  async #open(engine: Engine, count: number): Promise<void> {
    const side = this.#sides[engine];
    const { connections, consumers } = this.#options;
    const { address } = this.#arena.contestants[engine].server;
    while (side.connections.length < connections) side.connections.push(new LoadConnection(address));
    while (side.subscriptions.length < count) {
      const batch = Array.from({ length: Math.min(OPENED_AT_ONCE, count - side.subscriptions.length) }, async () => {
        const n = side.subscriptions.length;
        const connection = side.connections[n % connections]!;
        const { promise: subscribed, resolve } = Promise.withResolvers<void>();
        const subscription = connection.subscribe(STREAM, `${engine}-${n % consumers}`, WINDOW, (told) => {
          for (const one of told) {
            if (one.kind === "subscribed") resolve();
            else onTold(side, subscription, one);
          }
        });
        side.subscriptions.push(subscription);
        void subscription.ended.then((status) => {
          side.failure ??= `a subscription ended with ${status}`;
          resolve();
        });
        await subscribed;
      });
      await Promise.all(batch);
      if (side.failure !== undefined) throw new Error(side.failure);
    }
  }

  async #idleMillis(seconds: number): Promise<Record<Engine, number>> {
    const { contestants } = this.#arena;
    const before = await forBoth(async (engine) => contestants[engine].server.cpuMicros());
    await delay(seconds * 1000);
    return forBoth(async (engine) => (contestants[engine].server.cpuMicros() - before[engine]) / 1000 / seconds);
  }

  /** As many as are due at each tick, so that a late tick is made up for; only for consumers that somebody listens to. */
  async #publish(engine: Engine, seconds: number): Promise<number> {
    const consumers = Math.min(this.#options.consumers, this.#sides[engine].subscriptions.length);
    const total = Math.max(1, Math.round(this.#options.rate * seconds));
    const start = performance.now();
    for (let n = 0; n < total;) {
      const due = Math.min(total, ((performance.now() - start) / 1000) * this.#options.rate);
      for (; n < due; n++) {
        const payload = Buffer.alloc(PAYLOAD_BYTES);
        payload.writeDoubleLE(performance.now());
        this.#arena.nats.publish(subjectOf(engine, n % consumers), payload, { headers: this.#headers });
      }
      await delay(TICK_MS);
    }
    return total;
  }
}

function newSide(): Side {
  return { connections: [], subscriptions: [], emptyBytes: 0, latencies: [], confirmed: 0, failure: undefined };
}

function onTold(side: Side, subscription: LoadSubscription, told: Exclude<Told, { kind: "subscribed" }>): void {
  if (told.kind === "event") {
    side.latencies.push(performance.now() - told.dueAt);
    subscription.ack([told.id]);
    return;
  }
  side.confirmed += told.ids.length;
  if (told.refused.length > 0) side.failure ??= "an event could not be acknowledged";
}

function subjectOf(engine: Engine, consumer: number): string {
  return `${STREAM}.${engine}.${consumer}`;
}

/** Events that wait in a stream, for both engines to work off: each turn has a consumer of its own, from the start. */
import { type JetStreamClient, type JetStreamManager, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { LoadConnection } from "../support/load-client.ts";
import { type Arena, watch } from "./growth-arena.ts";
import type { Engine } from "./growth-report.ts";
import { eventHeaders } from "./growth-events.ts";
import type { Figures } from "./report.ts";

const STREAM = "backlog";
const WINDOW_EVENTS = 1000;
/** A client's window is no larger than what it can hold. */
const WINDOW_BYTES = 16 * 1024 * 1024;
const MIN_WINDOW_EVENTS = 16;
const FILLERS = 16;

/** A stream that is filled again for each size. */
export class Backlog {
  readonly #arena: Arena;
  readonly #jetstream: JetStreamClient;
  readonly #manager: JetStreamManager;
  #events = 0;
  #window = 0;

  private constructor(arena: Arena, manager: JetStreamManager) {
    this.#arena = arena;
    this.#jetstream = jetstream(arena.nats);
    this.#manager = manager;
  }

  static async open(arena: Arena): Promise<Backlog> {
    await arena.contestants.native.client.ensureStream({
      name: STREAM,
      source: { case: "subjects", value: { subjects: [STREAM] } },
    });
    return new Backlog(arena, await jetstreamManager(arena.nats));
  }

  /** Replaces what was there. */
  async fill(events: number, size: number): Promise<void> {
    await this.#manager.streams.purge(STREAM);
    const payload = new Uint8Array(size).fill(7);
    const headers = eventHeaders();
    let left = events;
    const filler = async (): Promise<void> => {
      while (left-- > 0) await this.#jetstream.publish(STREAM, payload, { headers });
    };
    await Promise.all(Array.from({ length: FILLERS }, filler));
    this.#events = events;
    this.#window = Math.max(MIN_WINDOW_EVENTS, Math.min(WINDOW_EVENTS, Math.floor(WINDOW_BYTES / size)));
  }

  /** From the subscription to the last confirmation. */
  async workOff(engine: Engine): Promise<Figures> {
    const { server, client } = this.#arena.contestants[engine];
    const from = { pointer: { case: "start" as const, value: true } };
    const { id } = await client.ensureConsumer({ stream: STREAM, subjects: [STREAM], from });
    const connection = new LoadConnection(server.address);
    try {
      return await watch(server, async () => this.#consume(connection, id));
    } finally {
      connection.drop();
      await client.deleteConsumer({ stream: STREAM, id });
    }
  }

  async #consume(connection: LoadConnection, consumer: string): Promise<number> {
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    let confirmed = 0;
    const subscription = connection.subscribe(STREAM, consumer, this.#window, (told) => {
      for (const one of told) {
        if (one.kind === "event") subscription.ack([one.id]);
        if (one.kind !== "confirmed") continue;
        confirmed += one.ids.length;
        if (one.refused.length > 0) reject(new Error("an event could not be acknowledged"));
      }
      if (confirmed === this.#events) resolve(confirmed);
    });
    void subscription.ended.then((status) => reject(new Error(`a subscription ended with ${status}`)));
    return promise;
  }
}

/** Connections to both servers that publish: those of one engine work while those of the other are open and silent. */
import { create, toBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { PublishEventRequestSchema } from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { EVENTS } from "../support/client.ts";
import { type Arena, byTurns, forBoth, keepInFlight } from "./growth-arena.ts";
import type { Engine, Levels } from "./growth-report.ts";
import { UnaryConnection } from "./unary-connection.ts";

const STREAM = "published";
/** Older publishes make room, so that a long run does not fill the disk. */
const KEPT_BYTES = 256n * 1024n * 1024n;
/** Connections are opened so many at a time: a listening socket queues no more than a few hundred. */
const OPENED_AT_ONCE = 50;

/** Makes the stream that they publish to. */
export async function ensurePublished({ contestants }: Arena): Promise<void> {
  await contestants.native.client.ensureStream({
    name: STREAM,
    source: { case: "subjects", value: { subjects: [STREAM] } },
    retentionPolicy: { maxBytes: KEPT_BYTES },
  });
}

/** So many connections to each server. Disposing closes them. */
export class Publishers implements Disposable {
  readonly #arena: Arena;
  readonly #connections: Record<Engine, UnaryConnection[]>;

  private constructor(arena: Arena, connections: Record<Engine, UnaryConnection[]>) {
    this.#arena = arena;
    this.#connections = connections;
  }

  /** Opens connections for payloads of one size. */
  static async open(arena: Arena, connections: number, size: number): Promise<Publishers> {
    const request = publishRequest(size);
    const opened = await forBoth(async (engine) => {
      const { address } = arena.contestants[engine].server;
      const all: UnaryConnection[] = [];
      while (all.length < connections) {
        const batch = Array.from({ length: Math.min(OPENED_AT_ONCE, connections - all.length) }, async () =>
          UnaryConnection.open(address, `${EVENTS}PublishEvent`, request),
        );
        all.push(...(await Promise.all(batch)));
      }
      return all;
    });
    return new Publishers(arena, opened);
  }

  /** Measures with so many calls in flight. */
  async measure(inFlight: number, seconds: number): Promise<Record<Engine, Levels>> {
    return byTurns(seconds, async (engine, turn) =>
      keepInFlight(this.#arena.contestants[engine].server, this.#connections[engine], inFlight, turn),
    );
  }

  [Symbol.dispose](): void {
    for (const connection of Object.values(this.#connections).flat()) connection[Symbol.dispose]();
  }
}

function publishRequest(size: number): Uint8Array {
  const data = create(AnySchema, {
    typeUrl: "type.googleapis.com/bench.v1.Bytes",
    value: new Uint8Array(size).fill(7),
  });
  return toBinary(PublishEventRequestSchema, create(PublishEventRequestSchema, { subject: STREAM, data }));
}

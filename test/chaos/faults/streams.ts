/** Streams and consumers changed underneath, and rooms that are full. */
import { setTimeout as delay } from "node:timers/promises";
import { SCENE } from "../cluster/topology.ts";
import { Client } from "../../support/client.ts";
import type { Fault, FaultContext, Running } from "./fault.ts";

const ENDS_WITHIN_MS = 10_000;
const CLEAN_UP_MS = 500;
let victims = 0;

/** A stream of its own with subscriptions on every server, of which one has a full window; all have to end when it goes. */
async function victim(
  { topology }: FaultContext,
  what: (stream: string, consumer: string) => Promise<unknown>,
): Promise<Running> {
  const stream = `victim${victims++}`;
  const clients = topology.servers.map(({ options }) => new Client(`127.0.0.1:${options.grpcPort}`));
  const run = async (): Promise<void> => {
    const { admin, nats } = topology;
    await admin.insist(async (jsm) => {
      await jsm.streams.add({ name: stream, subjects: [`${stream}.>`], num_replicas: nats.nodes.length });
      await jsm.consumers.add(stream, { durable_name: "c", ack_policy: "explicit" as never, ack_wait: 60e9 });
    });
    const calls = await Promise.all(clients.map(async (client, n) => client.subscribe(stream, "c", n === 0 ? 1n : 9n)));
    await clients[0]!.publish(`${stream}.a`);
    await delay(200);
    await what(stream, "c");
    const ends = await Promise.race([
      Promise.all(calls.map(async ({ ended }) => ended)),
      delay(ENDS_WITHIN_MS).then(() => undefined),
    ]);
    topology.notes.push({ what: "victim", detail: stream, ends: ends?.map((end) => end?.status ?? "OK") ?? "never" });
  };
  const done = run().catch((error: unknown) => {
    topology.notes.push({ what: "victim skipped", detail: stream, ends: String(error) });
  });
  return {
    detail: stream,
    end: async () => {
      await done;
      for (const client of clients) client.close();
      await topology.admin.insist(async (jsm) => jsm.streams.delete(stream), CLEAN_UP_MS).catch(() => undefined);
    },
  };
}

/** Faults of what is stored. */
export const STREAM_FAULTS = {
  delete_stream: {
    what: "a stream is deleted under its subscriptions",
    effects: [],
    lasts: [500, 500],
    start: async (context) =>
      victim(context, async (stream) => context.topology.admin.insist(async (jsm) => jsm.streams.delete(stream))),
  },
  delete_consumer: {
    what: "a consumer is deleted under its subscriptions",
    effects: [],
    lasts: [500, 500],
    start: async (context) =>
      victim(context, async (stream, consumer) =>
        context.topology.admin.insist(async (jsm) => jsm.consumers.delete(stream, consumer)),
      ),
  },
  edit_consumer: {
    what: "the consumer of the workload is edited (its description), again and again",
    effects: [],
    lasts: [1_000, 4_000],
    start: async ({ topology }) => {
      let n = 0;
      const edit = async (): Promise<unknown> =>
        topology.admin.insist(async (jsm) => {
          await jsm.consumers.update(SCENE.stream, "work", { description: `edit ${n++}` } as never);
        });
      await edit();
      const timer = setInterval(() => void edit().catch(() => undefined), 500);
      return { detail: "work", end: async () => clearInterval(timer) };
    },
  },
  stream_full: {
    what: "the stream accepts no further events",
    effects: ["full"],
    lasts: [500, 4_000],
    start: async ({ topology, claim }) => {
      if (claim("limits", [SCENE.stream]) === undefined) return undefined;
      const limit = async (full: boolean): Promise<unknown> =>
        topology.admin.insist(async (jsm) => {
          const { config, state } = await jsm.streams.info(SCENE.stream);
          const max = full ? Math.max(1, state.messages) : -1;
          return jsm.streams.update(SCENE.stream, { ...config, discard: "new" as never, max_msgs: max });
        });
      await limit(true);
      return {
        detail: SCENE.stream,
        end: async () => {
          await limit(false);
        },
      };
    },
  },
} as const satisfies Record<string, Fault>;

/** Streams and consumers changed underneath, and rooms that are full. */
import { setTimeout as delay } from "node:timers/promises";
import { SCENE, type Topology } from "../cluster/topology.ts";
import { CallError, Client, type EventsCall } from "../../support/client.ts";
import type { Fault, FaultContext, Running } from "./fault.ts";

const ENDS_WITHIN_MS = 10_000;
const CLEAN_UP_MS = 500;
const PATIENCE_MS = 2_000;
/** A stream that stays full is one that nobody can work with. */
const ROOM_LIMIT_MS = 120_000;
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
      topology.healed.then(async () => delay(ENDS_WITHIN_MS, undefined)),
    ]);
    topology.notes.push({ what: "victim", detail: stream, ends: ends?.map((end) => end?.status ?? "OK") ?? "never" });
  };
  const done = run().catch((error: unknown) => {
    topology.notes.push({ what: "victim skipped", detail: stream, ends: String(error) });
  });
  return leaving(topology, stream, clients, done);
}

/** The fault is over before its victim is judged: what else is broken may hold that up. */
function leaving(topology: Topology, stream: string, clients: readonly Client[], done: Promise<unknown>): Running {
  const cleanUp = async (): Promise<void> => {
    await done;
    for (const client of clients) client.close();
    await topology.admin.insist(async (jsm) => jsm.streams.delete(stream), CLEAN_UP_MS).catch(() => undefined);
  };
  topology.pending.push(cleanUp());
  return { detail: stream, end: async () => Promise.race([done, delay(PATIENCE_MS)]).then(() => undefined) };
}

/** Subscriptions of a stream that is purged while they hold some of it: they stay, and get what comes afterwards. */
async function purged({ topology }: FaultContext): Promise<Running> {
  const stream = `victim${victims++}`;
  const { admin, nats, servers } = topology;
  const clients = servers.map(({ options }) => new Client(`127.0.0.1:${options.grpcPort}`));
  const run = async (): Promise<string> => {
    await admin.insist(async (jsm) => {
      await jsm.streams.add({ name: stream, subjects: [`${stream}.>`], num_replicas: nats.nodes.length });
      await jsm.consumers.add(stream, { durable_name: "c", ack_policy: "explicit" as never, ack_wait: 4e9 });
    });
    const calls = await Promise.all(clients.map(async (client) => client.subscribe(stream, "c", 2n)));
    const publish = async (): Promise<void> => admin.publish(`${stream}.a`, ENDS_WITHIN_MS);
    for (let n = 0; n < 10; n++) await publish();
    await Promise.all(calls.map(async (call) => call.event()));
    await admin.insist(async (jsm) => jsm.streams.purge(stream));
    const { last_seq: before } = (await admin.insist(async (jsm) => jsm.streams.info(stream))).state;
    for (let n = 0; n < 10; n++) await publish();
    const { last_seq: last } = (await admin.insist(async (jsm) => jsm.streams.info(stream))).state;
    const seen = new Set<bigint>();
    const work = async (call: EventsCall): Promise<string> => {
      for (const { response } of call.received) if (response.case === "event") call.ack(response.value.id);
      for (;;) {
        const { response } = await call.next();
        if (response.case !== "event") continue;
        seen.add(response.value.id);
        call.ack(response.value.id);
      }
    };
    const ends = calls.map(async (call) =>
      work(call).catch((error: unknown) => (error instanceof CallError ? error.status : String(error))),
    );
    const isThere = (): boolean =>
      Array.from({ length: last - before }, (_, n) => BigInt(before + 1 + n)).every((id) => seen.has(id));
    let ended: string | undefined;
    let isOver = false;
    void topology.healed.then(async () => delay(ENDS_WITHIN_MS)).then(() => (isOver = true));
    while (!isThere() && !isOver && ended === undefined) {
      ended = await Promise.race([...ends, delay(100, undefined)]);
    }
    for (const call of calls) void call.cancel();
    if (isThere()) return "OK";
    if (ended !== undefined) return ended;
    return `${[...seen].filter((id) => id > before).length} of ${last - before} events came after the purge`;
  };
  const done = run().then(
    (ends) => topology.notes.push({ what: "purged", detail: stream, ends }),
    (error: unknown) => topology.notes.push({ what: "purge skipped", detail: stream, ends: String(error) }),
  );
  return leaving(topology, stream, clients, done);
}

/** A stream without room for further messages. */
async function full({ topology, claim }: FaultContext, stream: string): Promise<Running | undefined> {
  if (claim("limits", [stream]) === undefined) return undefined;
  const limit = async (isFull: boolean): Promise<unknown> =>
    topology.admin.insist(async (jsm) => {
      const { config, state } = await jsm.streams.info(stream);
      const max = isFull ? Math.max(1, state.messages) : -1;
      return jsm.streams.update(stream, { ...config, discard: "new" as never, max_msgs: max });
    }, ROOM_LIMIT_MS);
  await limit(true);
  return {
    detail: stream,
    end: async () => {
      await limit(false);
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
  purge_stream: {
    what: "a stream is purged under its subscriptions",
    effects: [],
    lasts: [500, 500],
    start: purged,
  },
  edit_consumer: {
    what: "the consumer of the workload is edited (its description), again and again",
    effects: [],
    lasts: [1_000, 4_000],
    start: async ({ topology }) => {
      let n = 0;
      const edit = async (): Promise<unknown> =>
        topology.admin.insist(async (jsm) => {
          return jsm.consumers.update(SCENE.stream, "work", { description: `edit ${n++}` } as never);
        });
      // Where other faults leave nobody to edit it, it is not.
      if ((await edit().catch(() => undefined)) === undefined) return undefined;
      const timer = setInterval(() => void edit().catch(() => undefined), 500);
      return { detail: "work", end: async () => clearInterval(timer) };
    },
  },
  account_full: {
    what: "the account may store nothing more",
    effects: ["full"],
    lasts: [500, 6_000],
    start: async ({ topology: { nats }, claim }) => {
      if (claim("limits", ["account"]) === undefined) return undefined;
      await nats.limitAccount(1);
      return { detail: "account", end: async () => nats.limitAccount(undefined) };
    },
  },
  stream_full: {
    what: "the stream accepts no further events",
    effects: ["full"],
    lasts: [500, 4_000],
    start: async (context) => full(context, SCENE.stream),
  },
  letters_full: {
    what: "the dead-letter stream accepts no further letters",
    effects: [],
    lasts: [500, 6_000],
    start: async (context) => full(context, `${SCENE.stream}-dead-letters`),
  },
} as const satisfies Record<string, Fault>;

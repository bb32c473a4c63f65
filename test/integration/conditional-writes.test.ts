/** Writes on a condition in a NATS cluster: what is refused has to be refused for a reason that everyone can read. */
import { execFile as execFileWithCallback } from "node:child_process";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { describe, expect } from "vitest";
import type { Evidence } from "../chaos/checks/evidence.ts";
import { checkState } from "../chaos/checks/state.ts";
import { type Entry, type StateCall, clock } from "../chaos/history.ts";
import { CallError, type Client, failure, textOf, textValue } from "../support/client.ts";
import { test as base, uniqueName } from "../support/fixtures.ts";
import { type NatsCluster, type NatsServer, startNatsCluster } from "../support/nats.ts";
import { type Windshift, startWindshift } from "../support/windshift.ts";

const LONG = 180_000;
const execFile = promisify(execFileWithCallback);

const test = base.extend<{ $file: { cluster: NatsCluster; servers: readonly Windshift[] } }>({
  cluster: [
    async ({}, use) => {
      await using cluster = await startNatsCluster();
      await use(cluster);
    },
    { scope: "file" },
  ],
  servers: [
    async ({ cluster }, use) => {
      // One at each node: the leader is near for one of them, and far for the others.
      await using stack = new AsyncDisposableStack();
      const servers: Windshift[] = [];
      for (const url of cluster.urls) servers.push(stack.use(await startWindshift(url, { DEFAULT_REPLICAS: "3" })));
      await use(servers);
    },
    { scope: "file" },
  ],
});

/** Calls one key's value and writes down what it hears, for the checker. */
class Worker {
  readonly #client: Client;
  readonly #store: string;
  readonly #name: string;
  readonly #entries: Entry[];
  #calls = 0;

  constructor(client: Client, store: string, name: string, entries: Entry[]) {
    this.#client = client;
    this.#store = store;
    this.#name = name;
    this.#entries = entries;
  }

  /** Reads, writes on the condition of what it read, and reads again at once where that was refused. */
  async run(key: string, rounds: number): Promise<void> {
    let revision = await this.#revision(key);
    for (let round = 0; round < rounds; round++) {
      const value = `${this.#name} ${key} ${round}`;
      const kind = (round + this.#name.length) % 4;
      const refused =
        kind === 0 && revision > 0
          ? await this.#call(key, { op: "delete", lastRevision: revision })
          : await this.#call(key, {
              op: "set",
              value,
              ...(kind === 1 && revision === 0 ? { createOnly: true } : { lastRevision: revision }),
            });
      revision = refused.revision ?? (await this.#revision(key));
    }
  }

  async #revision(key: string): Promise<number> {
    return (await this.#call(key, { op: "get" })).revision ?? 0;
  }

  async #call(key: string, call: StateCall): Promise<{ revision?: number }> {
    const op = `${this.#name}-${this.#calls++}`;
    const add = (entry: object): void => void this.#entries.push({ t: clock(), p: this.#name, ...entry } as Entry);
    add({ e: "state", op, key, call });
    try {
      const result = await this.#perform(key, call);
      add({ e: "state_done", op, ...result });
      return result;
    } catch (error) {
      if (!(error instanceof CallError)) throw error;
      const { status: code, reason, metadata } = error;
      add({ e: "state_done", op, error: { code, reason, outcome: metadata["outcome"] } });
      return {};
    }
  }

  async #perform(key: string, call: StateCall): Promise<{ revision?: number; value?: string | undefined }> {
    const store = this.#store;
    if (call.op === "get") {
      const { revision, value } = await this.#client.get({ store, key });
      return { revision: Number(revision), value: textOf(value) };
    }
    const last = call.lastRevision === undefined ? {} : { lastRevision: BigInt(call.lastRevision) };
    if (call.op === "delete") {
      await this.#client.delete({ store, key, ...last });
      return {};
    }
    const createOnly = call.createOnly === undefined ? {} : { createOnly: call.createOnly };
    const { revision } = await this.#client.set({ store, key, value: textValue(call.value), ...last, ...createOnly });
    return { revision: Number(revision) };
  }
}

/** What each call on a condition came to. */
function tally(entries: readonly Entry[]): { written: number; refused: number; others: Entry[] } {
  const done = entries.filter((entry) => entry.e === "state_done");
  const isRefusal = (code: string) => code === "FAILED_PRECONDITION" || code === "ALREADY_EXISTS";
  return {
    written: done.filter(({ error, value }) => error === undefined && value === undefined).length,
    refused: done.filter(({ error }) => error !== undefined && isRefusal(error.code)).length,
    others: done.filter(({ error }) => error !== undefined && !isRefusal(error.code)),
  };
}

/** The node that leads a stream, and those that only follow it. */
interface Group {
  readonly leader: number;
  readonly followers: readonly NatsServer[];
}

async function groupOf({ nodes, urls }: NatsCluster, stream: string): Promise<Group> {
  const connection = await connect({ servers: [...urls] });
  const jsm = await jetstreamManager(connection);
  const { cluster } = await jsm.streams.info(stream);
  await connection.close();
  const leader = Number(cluster!.leader!.slice("node-".length));
  return { leader, followers: nodes.filter((_, index) => index !== leader) };
}

/** Tells processes to stop; what the leader proposes meanwhile is stored when they go on, which is when the scope ends. */
function pause(nodes: readonly NatsServer[]): Disposable {
  for (const { pid } of nodes) process.kill(pid, "SIGSTOP");
  return {
    [Symbol.dispose]: () => {
      for (const { pid } of nodes) process.kill(pid, "SIGCONT");
    },
  };
}

/** Stops processes, and waits until they have: a busy machine takes a moment. */
async function paused(nodes: readonly NatsServer[]): Promise<Disposable> {
  const scope = pause(nodes);
  const pids = nodes.map(({ pid }) => pid).join(",");
  const states = async () => (await execFile("ps", ["-o", "state=", "-p", pids])).stdout.trim();
  await expect.poll(states, { timeout: 20_000 }).toMatch(/^T\s+T$/);
  return scope;
}

/** Pauses the nodes again and again, each time for a moment, until the work is done. */
async function shaken(nodes: readonly NatsServer[], work: Promise<unknown>): Promise<void> {
  let isDone = false;
  const done = work.finally(() => {
    isDone = true;
  });
  while (!isDone) {
    {
      using _paused = pause(nodes);
      await delay(40);
    }
    await delay(20);
  }
  await done;
}

test(
  "every refusal is justified by what can be read right after it",
  { timeout: LONG },
  async ({ cluster, servers }) => {
    const store = uniqueName("store");
    await servers[0]!.client.ensureStore({ store });
    const entries: Entry[] = [];
    const workers = servers.flatMap((server, at) =>
      ["", "+"].map((suffix) => new Worker(server.connect(), store, `w${at}${suffix}`, entries)),
    );
    const work = async (): Promise<void> => {
      // A history for each key, so that each is short enough to be checked.
      for (let key = 0; key < 25; key++) await Promise.all(workers.map(async (worker) => worker.run(`k${key}`, 6)));
    };
    const { followers } = await groupOf(cluster, `KV_${store}`);
    await shaken(followers, work());
    const evidence: Evidence = { entries, faults: [], stored: [], consumers: [] };
    expect(checkState(evidence)).toEqual([]);
    const { written, refused, others } = tally(entries);
    expect(others).toEqual([]);
    expect(written).toBeGreaterThan(50);
    expect(refused).toBeGreaterThan(50);
  },
);

describe("while another write is proposed, and not yet stored", () => {
  /** Where all of it happens: a store and a stream whose followers can be paused. */
  interface Place extends Group {
    readonly client: Client;
    readonly store: string;
    readonly subject: string;
    /** Of the key "k". */
    readonly revision: bigint;
  }

  async function place(cluster: NatsCluster, servers: readonly Windshift[], prepare: Prepare): Promise<Place> {
    const [store, stream] = [uniqueName("store"), uniqueName("stream")];
    const { client } = servers[0]!;
    if (prepare === "event") {
      const subjects = [`${stream}.>`];
      await client.ensureStream({ name: stream, source: { case: "subjects", value: { subjects } } });
    } else {
      await client.ensureStore({ store });
    }
    let revision = 0n;
    if (prepare === "key" || prepare === "deletion") {
      ({ revision } = await client.set({ store, key: "k", value: textValue("old") }));
    }
    if (prepare === "deletion") await client.delete({ store, key: "k" });
    const group = await groupOf(cluster, prepare === "event" ? stream : `KV_${store}`);
    return { ...group, client: servers[group.leader]!.connect(), store, subject: `${stream}.a`, revision };
  }

  type Prepare = "key" | "deletion" | "nothing" | "event";
  type Call = (client: Client, place: Place) => Promise<unknown>;
  const value = textValue("new");
  const CALLS: readonly [name: string, prepare: Prepare, call: Call, refusal: string][] = [
    [
      "Set with last_revision",
      "key",
      async (client, { store, revision: lastRevision }) => client.set({ store, key: "k", value, lastRevision }),
      "REVISION_MISMATCH",
    ],
    [
      "Set with last_revision 0",
      "nothing",
      async (client, { store }) => client.set({ store, key: "k", value, lastRevision: 0n }),
      "REVISION_MISMATCH",
    ],
    [
      "Set with create_only",
      "nothing",
      async (client, { store }) => client.set({ store, key: "k", value, createOnly: true }),
      "KEY_EXISTS",
    ],
    [
      "Set with create_only over a deletion",
      "deletion",
      async (client, { store }) => client.set({ store, key: "k", value, createOnly: true }),
      "KEY_EXISTS",
    ],
    [
      "Delete with last_revision",
      "key",
      async (client, { store, revision: lastRevision }) => client.delete({ store, key: "k", lastRevision }),
      "REVISION_MISMATCH",
    ],
    [
      "PublishEvent with expected_last_id",
      "event",
      async (client, { subject }) => client.publish(subject, "new", { expectedLastId: 0n }),
      "LAST_ID_MISMATCH",
    ],
  ];

  test.for(CALLS)("%s waits for it, and one of two wins", async ([, prepare, call, refusal], { cluster, servers }) => {
    const here = await place(cluster, servers, prepare);
    let results: Promise<PromiseSettledResult<unknown>[]>;
    {
      using _paused = await paused(here.followers);
      let settled = 0;
      const run = async (client: Client) => call(client, here).finally(() => (settled += 1));
      results = Promise.allSettled([run(here.client), run(here.client)]);
      await delay(300);
      expect(settled).toBe(0);
    }
    const errors = (await results).flatMap((result) => (result.status === "rejected" ? [result.reason] : []));
    expect(errors).toHaveLength(1);
    expect(errors[0]).toMatchObject({ reason: refusal, metadata: { outcome: "not_stored" } });
  });

  test.for(CALLS)("%s ends at its deadline, and is not stored", async ([, prepare, call], { cluster, servers }) => {
    const here = await place(cluster, servers, prepare);
    await using server = await startWindshift(cluster.urls[here.leader]!, { GRPC_REQUEST_TIMEOUT: "500ms" });
    using _paused = await paused(here.followers);
    const first = call(here.client, here).catch((error: unknown) => error);
    await delay(50);
    const error = await failure(call(server.client, here));
    // The deadline may also pass while it looks at what is there.
    expect(["NO_LEADER", "DEADLINE_EXCEEDED"]).toContain(error.reason);
    expect(error).toMatchObject({ metadata: { outcome: "not_stored" }, retryAfterMs: 500 });
    for (const { pid } of here.followers) process.kill(pid, "SIGCONT");
    expect(await first).not.toBeInstanceOf(Error);
  });

  test("a publish that is repeated with its key finds itself", async ({ cluster, servers }) => {
    const here = await place(cluster, servers, "event");
    await using impatient = await startWindshift(cluster.urls[here.leader]!, { GRPC_REQUEST_TIMEOUT: "300ms" });
    const options = { idempotencyKey: "key", expectedLastId: 0n };
    let repeat: Promise<bigint>;
    {
      using _paused = await paused(here.followers);
      const first = await failure(impatient.client.publish(here.subject, "x", options));
      expect(first).toMatchObject({ status: "DEADLINE_EXCEEDED", metadata: { outcome: "unknown" } });
      repeat = here.client.publish(here.subject, "x", options);
      await delay(300);
    }
    expect(await repeat).toBe(1n);
    expect(await here.client.publish(here.subject, "next", { expectedLastId: 1n })).toBe(2n);
  });

  test("a publish whose key is in flight already may be stored", async ({ cluster, servers }) => {
    const here = await place(cluster, servers, "event");
    await using impatient = await startWindshift(cluster.urls[here.leader]!, { GRPC_REQUEST_TIMEOUT: "300ms" });
    let first: Promise<bigint>;
    {
      using _paused = await paused(here.followers);
      first = here.client.publish(here.subject, "x", { idempotencyKey: "key" });
      await delay(50);
      const error = await failure(impatient.client.publish(here.subject, "x", { idempotencyKey: "key" }));
      expect(error).toMatchObject({ status: "UNAVAILABLE", metadata: { outcome: "unknown" } });
      expect(error.retryAfterMs).toBe(500);
    }
    expect(await first).toBe(1n);
  });
});

describe("a last_revision that the store has not come to", () => {
  const CALLS = [
    [
      "Set",
      async (client: Client, store: string) =>
        client.set({ store, key: "k", value: textValue("x"), lastRevision: 1_000n }),
    ],
    ["Delete", async (client: Client, store: string) => client.delete({ store, key: "k", lastRevision: 1_000n })],
  ] as const;

  test.for(CALLS)("%s is refused at once by a leader with followers", async ([, call], { servers }) => {
    const store = uniqueName("store");
    const { client } = servers[0]!;
    await client.ensureStore({ store });
    await client.set({ store, key: "k", value: textValue("old") });
    const start = performance.now();
    expect(await failure(call(client, store))).toMatchObject({ reason: "REVISION_MISMATCH" });
    expect(performance.now() - start).toBeLessThan(2_000);
  });

  test.for(CALLS)("%s is not refused by a leader that is cut off", async ([, call], { cluster, servers }) => {
    const store = uniqueName("store");
    await servers[0]!.client.ensureStore({ store });
    const { leader, followers } = await groupOf(cluster, `KV_${store}`);
    await using server = await startWindshift(cluster.urls[leader]!, { GRPC_REQUEST_TIMEOUT: "500ms" });
    using _paused = await paused(followers);
    await delay(2_500);
    const error = await failure(call(server.client, store));
    expect(["NO_LEADER", "DEADLINE_EXCEEDED"]).toContain(error.reason);
    expect(error).toMatchObject({ metadata: { outcome: "not_stored" }, retryAfterMs: 500 });
  });
});

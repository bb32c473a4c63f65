/**
 * Real nats-servers for tests, each with a port and a store of its own: {@link startNats} for one, {@link startNatsCluster}
 * for a JetStream cluster. They die with the process that started them, even when that one is killed.
 */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type JetStreamManager, StorageType, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { findServerBinary } from "../../src/nats/embedded-binary.ts";
import { type ServerProcess, spawnServer } from "../../src/nats/embedded-process.ts";

/** How to start a server for a test; everything has a default. */
export interface NatsOptions {
  /** Text added to the server's configuration file. */
  readonly config?: string;
  /** The folder to store in; one that is given is kept. */
  readonly storeDir?: string;
  readonly port?: number;
  /** The program to run. */
  readonly binary?: string;
}

/** A nats-server with JetStream; the scope that started it disposes it. */
export interface NatsServer extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  readonly pid: number;
  readonly storeDir: string;
  /** What the server has logged, over all its runs. */
  readonly log: readonly string[];
  /** Ends the server as an operator does. */
  stop(): Promise<void>;
  /** Ends the server as a power failure of its process does (SIGKILL). */
  kill(): Promise<void>;
  /** Starts it again (having stopped it, if it runs) with the same port and store. */
  restart(): Promise<void>;
}

const HOST = "127.0.0.1";
const STOP_GRACE_MS = 5000;
const POLL_MS = 10;
const MAX_ATTEMPTS = 20;

/** Starts a nats-server with JetStream and waits until it is ready. */
export async function startNats(options: NatsOptions = {}): Promise<NatsServer> {
  return retryTakenPorts(async () => {
    const server = new TestServer(options, await serverBinary(options.binary), options.port ?? (await unusedPort()));
    return startOrDispose(server, () => server.start());
  });
}

/** Asks NATS itself, over a connection that lasts as long as that. */
export async function ask<T>(
  nats: NatsServer | NatsCluster,
  question: (jsm: JetStreamManager) => Promise<T>,
): Promise<T> {
  const connection = await connect({ servers: "urls" in nats ? [...nats.urls] : nats.url });
  try {
    return await question(await jetstreamManager(connection));
  } finally {
    await connection.close();
  }
}

class TestServer implements NatsServer {
  readonly port: number;
  readonly log: string[] = [];
  readonly #options: NatsOptions;
  readonly #binary: string;
  #folder = "";
  #process: ServerProcess | undefined;

  constructor(options: NatsOptions, binary: string, port: number) {
    this.#options = options;
    this.#binary = binary;
    this.port = port;
  }

  get url(): string {
    return `nats://${HOST}:${this.port}`;
  }

  get pid(): number {
    return this.#process?.pid ?? 0;
  }

  get storeDir(): string {
    return this.#options.storeDir ?? join(this.#folder, "store");
  }

  async start(): Promise<void> {
    this.#folder = await mkdtemp(join(tmpdir(), "windshift-nats-"));
    await mkdir(this.storeDir, { recursive: true });
    await writeFile(join(this.#folder, "nats.conf"), this.#options.config ?? "");
    await this.#launch();
  }

  async stop(): Promise<void> {
    await this.#process?.stop(STOP_GRACE_MS);
  }

  async kill(): Promise<void> {
    this.#process?.kill("SIGKILL");
    await this.#process?.exited;
  }

  async restart(): Promise<void> {
    await this.stop();
    // A client's reconnect may sit on the port for a moment.
    await retryTakenPorts(() => this.#launch());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    await rm(this.#folder, { recursive: true, force: true });
  }

  async #launch(): Promise<void> {
    const config = join(this.#folder, "nats.conf");
    this.#process = await spawnServer({
      binary: this.#binary,
      args: ["-c", config, "-js", "-sd", this.storeDir, "-a", HOST, "-p", String(this.port)],
      orphanSignal: "SIGKILL",
      onLog: (_, text) => this.log.push(text),
    });
    this.#process.begin();
    await this.#process.ready;
  }
}

/** Several nats-servers with clustered JetStream; nodes are counted from 0. */
export interface NatsCluster extends AsyncDisposable {
  readonly nodes: readonly NatsServer[];
  readonly urls: readonly string[];
  /** The node that leads the meta group now; waits until there is one. */
  leader(): Promise<number>;
  /** Kills a node (SIGKILL). */
  kill(node: number): Promise<void>;
  /** Starts a node again and waits until the whole cluster is ready. */
  restart(node: number): Promise<void>;
  /** Waits until the running nodes agree on a leader that sees all of them up to date. */
  ready(): Promise<void>;
}

/** Starts a cluster and waits until its nodes agree on a meta leader and all are current; `more` is for every node's file. */
export async function startNatsCluster(size = 3, more = ""): Promise<NatsCluster> {
  const binary = await serverBinary();
  return retryTakenPorts(async () => {
    const ports = await Promise.all(Array.from({ length: 2 * size }, () => unusedPort()));
    const routes = ports.slice(size).map((port) => `nats://${HOST}:${port}`);
    const nodes = routes.map((_, index) => {
      const config = [
        `server_name: "node-${index}"`,
        `http: "${HOST}:-1"`,
        `cluster { name: "test", listen: "${HOST}:${ports[size + index]}", routes: ${JSON.stringify(routes)} }`,
        more,
      ];
      return new TestServer({ config: config.join("\n") }, binary, ports[index] as number);
    });
    const cluster = new TestCluster(nodes);
    return startOrDispose(cluster, async () => {
      await Promise.all(nodes.map((node) => node.start()));
      await cluster.ready();
    });
  });
}

class TestCluster implements NatsCluster {
  readonly nodes: readonly TestServer[];
  readonly #down = new Set<number>();

  constructor(nodes: readonly TestServer[]) {
    this.nodes = nodes;
  }

  get urls(): readonly string[] {
    return this.nodes.map((node) => node.url);
  }

  async leader(): Promise<number> {
    for (;;) {
      const [view] = (await Promise.all(this.#running().map(metaGroup))).filter((found) => found?.leader !== undefined);
      const leader = this.nodes.findIndex((_, index) => view?.leader === `node-${index}`);
      if (leader >= 0 && !this.#down.has(leader)) return leader;
      await delay(POLL_MS);
    }
  }

  async kill(node: number): Promise<void> {
    this.#down.add(node);
    await this.nodes[node]?.kill();
  }

  async restart(node: number): Promise<void> {
    await this.nodes[node]?.restart();
    this.#down.delete(node);
    await this.ready();
  }

  async ready(): Promise<void> {
    while (!(await this.#isReady())) await delay(POLL_MS);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.nodes.map((node) => node[Symbol.asyncDispose]()));
  }

  #running(): TestServer[] {
    return this.nodes.filter((_, index) => !this.#down.has(index));
  }

  async #isReady(): Promise<boolean> {
    const running = this.#running();
    const views = await Promise.all(running.map(metaGroup));
    const leader = views[0]?.leader;
    if (leader === undefined || views.some((view) => view?.leader !== leader)) return false;
    // Only the leader lists the others.
    const followers = views.flatMap((view) => view?.replicas ?? []);
    if (followers.filter(({ current, offline }) => current && offline !== true).length < running.length - 1)
      return false;
    return running.length < this.nodes.length || (await this.#isPlaceable());
  }

  /** Nodes get no replica before they have told of their resources, which may take ten seconds. */
  async #isPlaceable(): Promise<boolean> {
    const [name, storage] = ["placeable", StorageType.Memory];
    const place = async ({ streams }: JetStreamManager): Promise<boolean> => {
      await streams.add({ name, subjects: [name], storage, num_replicas: this.nodes.length });
      return streams.delete(name);
    };
    return ask(this, place).catch(() => false);
  }
}

interface MetaGroup {
  readonly leader?: string;
  readonly replicas?: readonly {
    readonly name: string;
    readonly current: boolean;
    readonly offline?: boolean;
  }[];
}

/** What a node knows of the cluster's meta group, from its monitoring port. */
async function metaGroup(node: NatsServer): Promise<MetaGroup | undefined> {
  const port = node.log
    .findLast((line) => line.startsWith("Starting http monitor on"))
    ?.split(":")
    .at(-1);
  try {
    const response = await fetch(`http://${HOST}:${port}/jsz`);
    return ((await response.json()) as { meta_cluster?: MetaGroup }).meta_cluster;
  } catch {
    return undefined;
  }
}

let found: Promise<string> | undefined;

/** The program to run; its digest is computed once for each test file. */
function serverBinary(binary?: string): Promise<string> {
  if (binary !== undefined) return findServerBinary({ binary });
  found ??= findServerBinary({ binary: process.env["NATS_SERVER_BIN"] });
  return found;
}

/** Returns the server when it started, and leaves nothing behind when it did not. */
async function startOrDispose<T extends AsyncDisposable>(server: T, start: () => Promise<void>): Promise<T> {
  try {
    await start();
    return server;
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
}

/**
 * A port that nobody uses, below those that the system gives to outgoing connections: after a kill, none of these can take
 * the port before the restart (a client reconnecting in a loop may even connect to itself).
 */
async function unusedPort(): Promise<number> {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    const probe = createServer();
    try {
      await once(probe.listen(port, HOST), "listening");
      return (probe.address() as AddressInfo).port;
    } catch {
      // Taken; try another.
    } finally {
      probe.close();
    }
  }
}

/** Repeats a start whose port somebody took between our look and the server's bind. */
async function retryTakenPorts<T>(start: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await start();
    } catch (error) {
      if (attempt === MAX_ATTEMPTS || !/address already in use/.test((error as Error).message)) throw error;
      await delay(POLL_MS);
    }
  }
}

/**
 * A JetStream cluster whose routes go through links. Nodes advertise an address where nobody listens, so that the routes
 * they were configured with are the only ones there are, and they tell clients of no other node.
 */
import { setTimeout as delay } from "node:timers/promises";
import { type NatsServer, startNats } from "../../support/nats.ts";
import { Link } from "../proxy.ts";
import { unusedPort } from "./ports.ts";

const START_LIMIT_MS = 30_000;

/** Of a node's monitoring. */
interface Jsz {
  readonly meta_cluster?: {
    readonly leader?: string;
    readonly replicas?: readonly { readonly current: boolean; readonly offline?: boolean }[];
  };
}

/** The nodes of a cluster and the links between them. */
export class NatsNodes implements AsyncDisposable {
  readonly nodes: readonly NatsServer[];
  /** `routes[from][to]`, undefined for itself. */
  readonly routes: readonly (readonly (Link | undefined)[])[];
  readonly #monitorPorts: readonly number[];
  readonly #stack: AsyncDisposableStack;
  readonly #down = new Set<number>();

  private constructor(
    nodes: readonly NatsServer[],
    routes: readonly (readonly (Link | undefined)[])[],
    monitorPorts: readonly number[],
    stack: AsyncDisposableStack,
  ) {
    this.nodes = nodes;
    this.routes = routes;
    this.#monitorPorts = monitorPorts;
    this.#stack = stack;
  }

  static async start(size: number): Promise<NatsNodes> {
    await using stack = new AsyncDisposableStack();
    const take = async (): Promise<number[]> => Promise.all(Array.from({ length: size }, () => unusedPort()));
    const [clientPorts, clusterPorts, monitorPorts] = await Promise.all([take(), take(), take()]);
    const closed = await unusedPort();
    const indexes = clientPorts.map((_, index) => index);
    const routes = await Promise.all(
      indexes.map(async (from) =>
        Promise.all(
          indexes.map(async (to) =>
            from === to ? undefined : stack.use(await Link.open(`route ${from}-${to}`, () => clusterPorts[to]!)),
          ),
        ),
      ),
    );
    const nodes = await Promise.all(
      indexes.map(async (index) => {
        const urls = routes[index]!.flatMap((link) => (link === undefined ? [] : [`nats://127.0.0.1:${link.port}`]));
        const config = [`server_name: "node-${index}"`, `http: "127.0.0.1:${monitorPorts[index]}"`];
        if (size > 1) {
          config.push(
            `cluster { name: "chaos", listen: "127.0.0.1:${clusterPorts[index]}", no_advertise: true,`,
            `  advertise: "127.0.0.1:${closed}", routes: ${JSON.stringify(urls)} }`,
          );
        }
        return stack.use(await startNats({ config: config.join("\n"), port: clientPorts[index]! }));
      }),
    );
    const cluster = new NatsNodes(nodes, routes, monitorPorts, stack.move());
    await cluster.ready();
    return cluster;
  }

  /** Those that run. */
  get running(): readonly number[] {
    return this.nodes.flatMap((_, index) => (this.#down.has(index) ? [] : [index]));
  }

  async kill(node: number): Promise<void> {
    this.#down.add(node);
    await this.nodes[node]!.kill();
  }

  /** Ends it as an operator does. */
  async stop(node: number): Promise<void> {
    this.#down.add(node);
    await this.nodes[node]!.stop();
  }

  async start(node: number): Promise<void> {
    await this.nodes[node]!.restart();
    this.#down.delete(node);
  }

  signal(node: number, signal: NodeJS.Signals): void {
    if (!this.#down.has(node)) process.kill(this.nodes[node]!.pid, signal);
  }

  /** All links that lead to or from a node. */
  routesOf(node: number): Link[] {
    return this.routes.flatMap((links, from) =>
      links.filter((link, to): link is Link => link !== undefined && (from === node || to === node)),
    );
  }

  /** Waits until all nodes agree on a leader that sees the others up to date. */
  async ready(): Promise<void> {
    const end = performance.now() + START_LIMIT_MS;
    while (!(await this.#isReady())) {
      if (performance.now() > end) throw new Error("the cluster does not get ready");
      await delay(50);
    }
  }

  /** The node that leads the meta group, as one that runs has it. */
  async metaLeader(): Promise<number | undefined> {
    if (this.nodes.length === 1) return this.running[0];
    for (const node of this.running) {
      const leader = (await this.monitor<Jsz>(node, "/jsz"))?.meta_cluster?.leader;
      if (leader !== undefined && leader !== "") return Number(leader.replace("node-", ""));
    }
    return undefined;
  }

  /** What a node's monitoring says, or undefined. */
  async monitor<T>(node: number, path: string): Promise<T | undefined> {
    try {
      const url = `http://127.0.0.1:${this.#monitorPorts[node]}${path}`;
      return (await (await fetch(url, { signal: AbortSignal.timeout(2_000) })).json()) as T;
    } catch {
      return undefined;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const index of this.running) this.signal(index, "SIGCONT");
    await this.#stack.disposeAsync();
  }

  async #isReady(): Promise<boolean> {
    if (this.nodes.length === 1) return (await this.monitor<{ status: string }>(0, "/healthz"))?.status === "ok";
    const views = await Promise.all(this.nodes.map(async (_, index) => this.monitor<Jsz>(index, "/jsz")));
    const leader = views[0]?.meta_cluster?.leader;
    if (leader === undefined || views.some((view) => view?.meta_cluster?.leader !== leader)) return false;
    const followers = views.flatMap((view) => view?.meta_cluster?.replicas ?? []);
    return followers.filter(({ current, offline }) => current && offline !== true).length === this.nodes.length - 1;
  }
}

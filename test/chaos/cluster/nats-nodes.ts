/**
 * A JetStream cluster whose routes go through links. Nodes advertise an address where nobody listens, so that the routes
 * they were configured with are the only ones there are, and they tell clients of no other node.
 */
import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { findServerBinary } from "../../../src/nats/embedded-binary.ts";
import { type NatsServer, startNats } from "../../support/nats.ts";
import { Disks } from "./disks.ts";
import { Link } from "../proxy.ts";
import { unusedPort } from "./ports.ts";

const START_LIMIT_MS = 30_000;

interface Tight {
  /** The file with the account. */
  readonly limits: string;
  readonly disks: Disks | undefined;
  readonly program: string | undefined;
}

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
  /** Small disks, one for each node; undefined where they share the one of the machine. */
  readonly disks: Disks | undefined;
  readonly #limits: string | undefined;

  private constructor(
    nodes: readonly NatsServer[],
    routes: readonly (readonly (Link | undefined)[])[],
    monitorPorts: readonly number[],
    stack: AsyncDisposableStack,
    tight: Tight | undefined,
  ) {
    this.nodes = nodes;
    this.routes = routes;
    this.#monitorPorts = monitorPorts;
    this.#stack = stack;
    this.disks = tight?.disks;
    this.#limits = tight?.limits;
  }

  /** `folder`: where small disks and the limits of the account are kept; without it neither can be full. */
  static async start(size: number, folder?: string): Promise<NatsNodes> {
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
    const tight = folder === undefined ? undefined : await makeTight(folder, size, stack);
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
        // Relative to the folder that the node gets, next to ours.
        if (tight !== undefined) config.push(`include "${relative(join(tmpdir(), "node"), tight.limits)}"`);
        const { disks, program: binary } = tight ?? {};
        const disk = disks === undefined ? {} : { storeDir: disks.folder(index), ...(binary && { binary }) };
        return stack.use(await startNats({ config: config.join("\n"), port: clientPorts[index]!, ...disk }));
      }),
    );
    const cluster = new NatsNodes(nodes, routes, monitorPorts, stack.move(), tight);
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
    if (this.#down.has(node)) return;
    try {
      process.kill(this.nodes[node]!.pid, signal);
    } catch (error) {
      // Another fault was faster.
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
  }

  /** What the account may store in files, in bytes; undefined for no limit. */
  async limitAccount(bytes: number | undefined): Promise<void> {
    if (this.#limits === undefined) throw new Error("these nodes were started without limits");
    await writeFile(this.#limits, account(bytes));
    for (const node of this.running) this.signal(node, "SIGHUP");
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

async function makeTight(folder: string, size: number, stack: AsyncDisposableStack): Promise<Tight> {
  const limits = join(folder, "account.conf");
  await writeFile(limits, account(undefined));
  const disks = await Disks.make(folder, size);
  if (disks === undefined) return { limits, disks, program: undefined };
  stack.use(disks);
  return { limits, disks, program: await disks.program(folder, await findServerBinary()) };
}

/** The account that everyone who gives no name is in. */
function account(bytes: number | undefined): string {
  const jetstream = bytes === undefined ? "enabled" : `{ max_file: ${bytes}, max_mem: 10MB }`;
  return `accounts { CHAOS { jetstream: ${jetstream}, users: [{ user: chaos, password: chaos }] } }\nno_auth_user: chaos\n`;
}

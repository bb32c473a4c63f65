/** All processes of a run and the links between them. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { Client } from "../../support/client.ts";
import { Link } from "../proxy.ts";
import type { Actor, Orders } from "../workload.ts";
import { Admin } from "./admin.ts";
import { ClientProcess } from "./client-process.ts";
import { Eye } from "./eye.ts";
import { NatsNodes } from "./nats-nodes.ts";
import { unusedPort } from "./ports.ts";
import { ServerProcess } from "./server-process.ts";

/** How large a run is. */
export interface Size {
  readonly nodes: number;
  readonly servers: number;
  /** Disks and the account of NATS are such that they can be full. */
  readonly isTight?: boolean;
}

/** Names of the main stream and store, and what else the workload knows. */
export const SCENE = { stream: "orders", store: "carts", timeoutMs: 4_000 } as const;
/** Events that all subscriptions of `audit` together may hold. */
export const AUDIT_LIMIT = 20;
/** Durable consumers of the main stream: every stored event has to reach each. */
export const CONSUMERS = ["work", "audit"] as const;
/** A consumer whose events are given up, and how. */
export const LETTERS = { consumer: "letters", maxAttempts: 3, backoffMs: [200, 500], timeoutMs: 2_000 } as const;

/** Everything that runs. Disposing it ends all. */
export class Topology implements AsyncDisposable {
  readonly nats: NatsNodes;
  readonly admin: Admin;
  readonly eye: Eye;
  readonly servers: readonly ServerProcess[];
  /** `natsLinks[server][node]`. */
  readonly natsLinks: readonly (readonly Link[])[];
  /** `clientLinks[client][server]`; there is one client for each list of actors. */
  readonly clientLinks: Link[][] = [];
  readonly clients: ClientProcess[] = [];
  /** What faults saw that they judge themselves. */
  readonly notes: { readonly what: string; readonly detail: string; readonly ends: string | readonly string[] }[] = [];
  /** What has to be waited for once everything is healed. */
  readonly pending: Promise<unknown>[] = [];
  readonly folder: string;
  readonly #healed = Promise.withResolvers<void>();
  readonly #stack: AsyncDisposableStack;

  private constructor(
    parts: Pick<Topology, "nats" | "admin" | "eye" | "servers" | "natsLinks" | "folder">,
    stack: AsyncDisposableStack,
  ) {
    this.nats = parts.nats;
    this.admin = parts.admin;
    this.eye = parts.eye;
    this.servers = parts.servers;
    this.natsLinks = parts.natsLinks;
    this.folder = parts.folder;
    this.#stack = stack;
  }

  /** Starts NATS and the servers; `entry` is the program of the servers, `command` one in place of it that is not ours. */
  static async start(size: Size, entry: string, folder: string, command?: string): Promise<Topology> {
    await using stack = new AsyncDisposableStack();
    mkdirSync(join(folder, "history"), { recursive: true });
    const nats = stack.use(await NatsNodes.start(size.nodes, size.isTight === true ? folder : undefined));
    const urls = nats.nodes.map(({ url }) => url);
    const admin = stack.use(await Admin.open(urls));
    const eye = stack.use(await Eye.open(urls, SCENE.stream, LETTERS.consumer));
    const indexes = Array.from({ length: size.servers }, (_, index) => index);
    const natsLinks = await Promise.all(
      indexes.map(async (server) =>
        Promise.all(
          nats.nodes.map(async ({ port }, node) =>
            stack.use(await Link.open(`server ${server} - node ${node}`, () => port)),
          ),
        ),
      ),
    );
    // Each begins at another node; afterwards they go where they like.
    for (const [server, links] of natsLinks.entries()) {
      for (const [node, link] of links.entries()) if (node !== server % size.nodes) link.refuse();
    }
    const servers = await Promise.all(
      indexes.map(async (index) => {
        const server = stack.use(
          new ServerProcess({
            name: `server-${index}`,
            entry,
            command,
            grpcPort: await unusedPort(),
            healthPort: await unusedPort(),
            natsUrls: natsLinks[index]!.map(({ port }) => `nats://127.0.0.1:${port}`),
            env: {
              LOG_LEVEL: "warn",
              NATS_CONNECTION_NAME: `server-${index}`,
              NATS_REQUEST_TIMEOUT: "2s",
              GRPC_KEEPALIVE_TIME: "2s",
              GRPC_KEEPALIVE_TIMEOUT: "2s",
              SHUTDOWN_GRACE: "2s",
              ...(process.env["GRPC_ENGINE"] === undefined ? {} : { GRPC_ENGINE: process.env["GRPC_ENGINE"] }),
            },
            logFolder: folder,
          }),
        );
        await server.start();
        return server;
      }),
    );
    for (const link of natsLinks.flat()) link.heal();
    return new Topology({ nats, admin, eye, servers, natsLinks, folder }, stack.move());
  }

  /** Makes the streams, consumers and the store of the workload through the first server. */
  async furnish(): Promise<void> {
    const client = new Client(`127.0.0.1:${this.servers[0]!.options.grpcPort}`);
    const { stream, store, timeoutMs } = SCENE;
    const replicas = this.nats.nodes.length;
    // A cluster that has just come up may keep a request waiting for too long.
    await this.admin.insist(async () =>
      client.ensureStream({
        name: stream,
        source: { case: "subjects", value: { subjects: [`${stream}.>`] } },
        storage: { replicas },
        allowScheduling: true,
        allowAtomic: true,
      }),
    );
    await this.admin.insist(async () =>
      client.ensureConsumer({
        stream,
        name: LETTERS.consumer,
        subjects: [`${stream}.>`],
        from: { pointer: { case: "start", value: true } },
        processingTimeout: duration(LETTERS.timeoutMs),
        deliveryPolicy: {
          maxAttempts: LETTERS.maxAttempts,
          backoff: LETTERS.backoffMs.map(duration),
          deadLetter: {},
        },
      }),
    );
    for (const name of [...CONSUMERS, "abused"]) {
      await this.admin.insist(async () =>
        client.ensureConsumer({
          stream,
          name,
          subjects: [`${stream}.>`],
          from: { pointer: { case: "start", value: true } },
          processingTimeout: duration(timeoutMs),
          ...(name === "audit" ? { maxProcessingEvents: BigInt(AUDIT_LIMIT) } : {}),
        }),
      );
    }
    await this.admin.insist(async (jsm) =>
      jsm.streams.add({
        name: `KV_${store}`,
        subjects: [`$KV.${store}.>`],
        max_msgs_per_subject: 1,
        deny_delete: true,
        allow_rollup_hdrs: true,
        allow_direct: true,
        discard: "new" as never,
        num_replicas: replicas,
      }),
    );
    client.close();
  }

  /** Starts a client process with links of its own. */
  async addClient(name: string, seed: number, actors: readonly Actor[]): Promise<ClientProcess> {
    const links = await Promise.all(
      this.servers.map(async ({ options }, index) =>
        this.#stack.use(await Link.open(`${name} - server ${index}`, () => options.grpcPort)),
      ),
    );
    const orders: Orders = {
      name,
      folder: join(this.folder, "history"),
      seed,
      addresses: links.map(({ port }) => `127.0.0.1:${port}`),
      scene: SCENE,
      actors,
    };
    const client = this.#stack.use(new ClientProcess(orders, this.folder));
    await client.start();
    this.clientLinks.push(links);
    this.clients.push(client);
    return client;
  }

  /** Resolves when no fault is in force any more. */
  get healed(): Promise<void> {
    return this.#healed.promise;
  }

  /** Every link, as it should be. */
  heal(): void {
    this.#healed.resolve();
    for (const link of [...this.natsLinks, ...this.clientLinks, ...this.nats.routes].flat()) link?.heal();
  }

  /** What died although nobody asked it to. */
  get crashes(): string[] {
    return [...this.servers, ...this.clients].flatMap(({ crashes }) => crashes);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

function duration(ms: number): { seconds: bigint; nanos: number } {
  return { seconds: BigInt(Math.floor(ms / 1000)), nanos: (ms % 1000) * 1_000_000 };
}

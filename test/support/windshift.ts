/** Servers of the project for tests, in this process, on a real NATS and a real socket; and clients to call them. */
import type { ChannelCredentials } from "@grpc/grpc-js";
import { type Config, readConfig } from "../../src/config/config.ts";
import { type Daemon, startDaemon } from "../../src/daemon.ts";
import { createLogger } from "../../src/telemetry/logger.ts";
import { Client } from "./client.ts";

/** A server with a client connected to it. Disposing stops both. */
export interface Windshift extends AsyncDisposable {
  readonly daemon: Daemon;
  readonly config: Config;
  readonly address: string;
  readonly client: Client;
  /** Lines that the server has logged. */
  readonly log: readonly Record<string, unknown>[];
  /** Another connection to the same server, in plain text and without a credential unless told otherwise; close it, or leave it to the end. */
  connect(secure?: ChannelCredentials, metadata?: Record<string, string>): Client;
}

/** Starts a server on `natsUrl`; `env` are further variables as an operator would set them. */
export async function startWindshift(natsUrl: string, env: Record<string, string> = {}): Promise<Windshift> {
  const config = readConfig({
    NATS_URL: natsUrl,
    GRPC_HOST: "127.0.0.1",
    GRPC_PORT: "0",
    HEALTH_HOST: "127.0.0.1",
    HEALTH_PORT: "0",
    SHUTDOWN_GRACE: "1s",
    LOG_LEVEL: "debug",
    ...(process.env["GRPC_ENGINE"] === undefined ? {} : { GRPC_ENGINE: process.env["GRPC_ENGINE"] }),
    ...env,
  });
  const log: Record<string, unknown>[] = [];
  const destination = { write: (line: string) => void log.push(JSON.parse(line) as Record<string, unknown>) };
  const daemon = await startDaemon(config, createLogger({ level: config.logLevel, development: false, destination }));
  const address = `127.0.0.1:${daemon.grpcPort}`;
  const clients: Client[] = [];
  const connect = (secure?: ChannelCredentials, metadata?: Record<string, string>): Client => {
    const client = new Client(address, secure, metadata);
    clients.push(client);
    return client;
  };
  return {
    daemon,
    config,
    address,
    client: connect(),
    log,
    connect,
    [Symbol.asyncDispose]: async () => {
      for (const client of clients) client.close();
      await daemon[Symbol.asyncDispose]();
    },
  };
}

/** The engine under test with the test service, in this process. */
import type { Engine, EngineOptions } from "../../src/grpc/engine/engine.ts";
import { NativeEngine } from "../../src/grpc/engine/native/server.ts";
import type { KeyPair } from "../support/certificate.ts";
import { serveTestService } from "./test-service.ts";

const MIB = 1024 * 1024;

/** Of an engine that is alone on its machine, with nothing small enough to be in the way. */
export const ENGINE_OPTIONS: EngineOptions = {
  host: "127.0.0.1",
  port: 0,
  maxReceiveMessageBytes: 4 * MIB,
  maxMetadataBytes: 16 * 1024,
  maxConcurrentStreams: 1000,
  maxConnections: 1000,
  maxUnreadBytes: 64 * MIB,
  keepaliveTimeMs: 60_000,
  keepaliveTimeoutMs: 20_000,
  maxConnectionAgeMs: 0,
  onError: (error) => console.error("a handler threw:", error),
};

/** Listens on a free port; the scope that holds it ends it. */
export class Server implements AsyncDisposable {
  readonly #engine: Engine;
  readonly port: number;

  constructor(engine: Engine, port: number) {
    this.#engine = engine;
    this.port = port;
  }

  static async start(tls?: KeyPair): Promise<Server> {
    const engine = new NativeEngine({ ...ENGINE_OPTIONS, ...(tls === undefined ? {} : { tls }) });
    serveTestService(engine);
    return new Server(engine, await engine.listen());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#engine.close();
  }
}

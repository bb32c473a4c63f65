/** A client's way to the servers: one connection, to the next server when it fails. */
import { Client } from "../../support/client.ts";

const HEALTH = "/grpc.health.v1.Health/Check";
const PROBE_MS = 3_000;

/** A connection that moves on. */
export class Endpoint implements Disposable {
  readonly #addresses: readonly string[];
  #index: number;
  #client: Client;

  constructor(addresses: readonly string[], first: number) {
    this.#addresses = addresses;
    this.#index = first % addresses.length;
    this.#client = new Client(addresses[this.#index]!);
  }

  get client(): Client {
    return this.#client;
  }

  /** Number of the server that is used now. */
  get server(): number {
    return this.#index;
  }

  /** Leaves this connection for one to the next server. */
  next(): void {
    this.#client.close();
    this.#index = (this.#index + 1) % this.#addresses.length;
    this.#client = new Client(this.#addresses[this.#index]!);
  }

  /** Whether the server answers on this very connection. */
  async answers(): Promise<boolean> {
    try {
      await this.#client.raw(HEALTH, new Uint8Array(0), { deadlineMs: PROBE_MS });
      return true;
    } catch {
      return false;
    }
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }
}

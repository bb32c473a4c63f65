/**
 * Administration: looking into streams, consumers, dead letters and stores, and changing what services themselves do not.
 * It stands above events and state, which know nothing of it. Made once by the composition root; it owns nothing.
 *
 * Whatever changes or destroys something says so in the log, with what it was and whom it came from.
 */
import type { JetStreamApi } from "../nats/api.ts";
import type { AdminLogger } from "./call.ts";
import { AdminStores } from "./stores.ts";
import { AdminStreams } from "./streams.ts";

/** What {@link Admin} works on. */
export interface AdminDependencies {
  readonly api: JetStreamApi;
  readonly logger: AdminLogger;
}

/** The domain of administration. */
export class Admin {
  readonly streams: AdminStreams;
  readonly stores: AdminStores;

  constructor({ api, logger }: AdminDependencies) {
    this.streams = new AdminStreams(api, logger);
    this.stores = new AdminStores(api, logger);
  }
}

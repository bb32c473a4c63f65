/**
 * Administration: looking into streams, consumers, dead letters and stores, and changing what services themselves do not.
 * It stands above events and state, which know nothing of it. Made once by the composition root; it owns nothing.
 *
 * Whatever changes or destroys something says so in the log, with what it was and whom it came from.
 */
import { AdminConsumers, type AdminConsumersDependencies } from "./consumers.ts";
import { AdminDeadLetters, type AdminDeadLettersDependencies } from "./dead-letters.ts";
import { ConsumerReset } from "./reset.ts";
import { AdminStores } from "./stores.ts";
import { AdminStreams } from "./streams.ts";

/** The domain of administration. */
export class Admin {
  readonly streams: AdminStreams;
  readonly consumers: AdminConsumers;
  readonly reset: ConsumerReset;
  readonly stores: AdminStores;

  readonly deadLetters: AdminDeadLetters;

  constructor(dependencies: AdminConsumersDependencies & AdminDeadLettersDependencies) {
    const { api, logger } = dependencies;
    this.streams = new AdminStreams(api, logger);
    this.consumers = new AdminConsumers(dependencies);
    this.reset = new ConsumerReset(dependencies);
    this.deadLetters = new AdminDeadLetters(dependencies);
    this.stores = new AdminStores(api, logger);
  }
}

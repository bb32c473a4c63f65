/** Stores and values: all that the contract calls state. Made once by `main.ts`; it owns nothing that lives longer. */
import type { Advisories } from "../nats/advisories.ts";
import type { JetStreamApi } from "../nats/api.ts";
import { CurrentReader } from "../nats/current.ts";
import type { Reader } from "../nats/get.ts";
import type { Publisher } from "../nats/publish.ts";
import { StreamTraits } from "../nats/stream-traits.ts";
import { KeyValue } from "./key-value.ts";
import { Stores } from "./stores.ts";

/** What {@link State} works on. */
export interface StateDependencies {
  readonly api: JetStreamApi;
  readonly publisher: Publisher;
  readonly reader: Reader;
  readonly advisories: Advisories;
  readonly defaultReplicas: number;
}

/** The domain of state. */
export class State {
  readonly stores: Stores;
  readonly values: KeyValue;

  constructor({ api, publisher, reader, advisories, defaultReplicas }: StateDependencies) {
    const { connection } = api;
    this.stores = new Stores(api, { defaultReplicas });
    this.values = new KeyValue(new CurrentReader(reader, new StreamTraits(api, advisories)), publisher, reader, {
      // nats-server maps a domain's keys through its API prefix.
      domainPrefix: connection.options.domain === undefined ? "" : `${connection.apiPrefix}.`,
      maxPayload: () => connection.maxPayload,
    });
  }
}

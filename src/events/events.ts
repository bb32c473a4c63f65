/**
 * Streams, consumers, publishing and subscribing: all that the contract calls events. Made once by `main.ts`; it owns
 * no connection, only the open subscriptions and their timer.
 */
import type { Advisories } from "../nats/advisories.ts";
import type { ApiCall, JetStreamApi } from "../nats/api.ts";
import { CurrentReader } from "../nats/current.ts";
import type { Reader } from "../nats/get.ts";
import type { Publisher } from "../nats/publish.ts";
import { PullMonitor } from "../nats/pull.ts";
import { StreamTraits } from "../nats/stream-traits.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { Logger } from "../telemetry/logger.ts";
import { Consumers } from "./consumers.ts";
import { DeadLetters } from "./dead-letters.ts";
import { EventGetter } from "./event-getter.ts";
import { DeadLetterWriter } from "./dead-letter-writer.ts";
import { DeadLetterStreams } from "./dead-letter-streams.ts";
import { EventReader } from "./event-reader.ts";
import type { OpenSubscriptions } from "./open-subscriptions.ts";
import { EventFailureLog } from "./failure-log.ts";
import type { FailuresContext } from "./failures.ts";
import { LastReasons } from "./last-reasons.ts";
import { PolicyWatch } from "./policy-watch.ts";
import { SeenAttempts } from "./seen-attempts.ts";
import { EventPublisher } from "./publisher.ts";
import { Streams } from "./streams.ts";
import { Subscription, type SubscriptionListener, type SubscriptionSpec } from "./subscription.ts";

/** What {@link Events} works on. */
export interface EventsDependencies {
  readonly api: JetStreamApi;
  readonly publisher: Publisher;
  readonly reader: Reader;
  readonly advisories: Advisories;
  /** Where its subscriptions are known while they are open. */
  readonly open: OpenSubscriptions;
  /** Largest window of one subscription. */
  readonly maxProcessingEvents: number;
  readonly defaultReplicas: number;
  readonly metrics: Metrics;
  readonly logger: Logger;
}

/** The domain of events. */
export class Events implements Disposable {
  readonly streams: Streams;
  readonly consumers: Consumers;
  readonly publisher: EventPublisher;
  readonly deadLetters: DeadLetters;
  readonly getter: EventGetter;
  readonly reader: EventReader;
  readonly #dependencies: EventsDependencies;
  readonly #monitor = new PullMonitor();
  readonly #policies: PolicyWatch;
  readonly #failures: FailuresContext;

  constructor(dependencies: EventsDependencies) {
    const { api, publisher, reader, advisories, logger } = dependencies;
    const streams = new DeadLetterStreams(api);
    const traits = new StreamTraits(api, advisories);
    this.#dependencies = dependencies;
    this.#policies = new PolicyWatch(api, logger);
    this.#failures = {
      failureLog: new EventFailureLog(logger),
      lastReasons: new LastReasons(),
      seenAttempts: new SeenAttempts(),
      letters: new DeadLetterWriter({ api, reader, publisher, streams }),
    };
    this.streams = new Streams(api, dependencies);
    this.consumers = new Consumers(api, dependencies.open, streams);
    this.deadLetters = new DeadLetters({ api, reader, publisher });
    this.reader = new EventReader({ api, advisories, monitor: this.#monitor }, reader);
    this.getter = new EventGetter(new CurrentReader(reader, traits), this.reader);
    this.publisher = new EventPublisher(api, { publisher, reader, traits });
  }

  /** Subscribes to a consumer. Rejects where it does not exist; nothing is delivered before `start`. */
  async subscribe(spec: SubscriptionSpec, listener: SubscriptionListener, call: ApiCall): Promise<Subscription> {
    const context = { ...this.#dependencies, ...this.#failures, monitor: this.#monitor, policies: this.#policies };
    const { api, open } = context;
    return api.inTurn(call, async () => {
      open.refuseDuringReset(spec.stream, spec.consumer);
      const subscription = await Subscription.open(context, spec, listener, call);
      try {
        open.refuseDuringReset(spec.stream, spec.consumer);
      } catch (error) {
        await subscription.close();
        throw error;
      }
      return subscription;
    });
  }

  [Symbol.dispose](): void {
    this.#monitor[Symbol.dispose]();
    this.#policies[Symbol.dispose]();
  }
}

/**
 * Every metric of the server. A hot path resolves its handles once (per method, stream or consumer) and then counts with
 * one addition; see `instruments.ts`. Labels have few values on purpose: no subject, key or event id becomes one.
 */
import {
  CAUSE,
  ERROR_TYPE,
  MESSAGING_CONSUMER_GROUP_NAME,
  MESSAGING_DESTINATION_NAME,
  MESSAGING_OPERATION_NAME,
  MESSAGING_SYSTEM_NAME,
  RESULT,
  RPC_METHOD,
  RPC_STATUS_CODE,
  RPC_SYSTEM_NAME,
} from "./attributes.ts";
import { type ConsumerFamilies, ConsumerMetrics, PublishMetrics, RpcMetrics } from "./handles.ts";
import {
  Count,
  type Definition,
  Family,
  Histogram,
  type Instrument,
  Level,
  MAX_SERIES,
  Observed,
} from "./instruments.ts";
import { EventLoopDelay, processInstruments } from "./runtime.ts";

/** Label of methods that are not of the contract: a client may invent any number of them. */
export const OTHER_METHOD = "_OTHER";
/** Label of all consumers without a name of their own: each has a fresh UUID, and would be a series for ever. */
export const EPHEMERAL = "_ephemeral";

/** OpenTelemetry's advice begins at 5 ms; a publish takes less than one. */
const DURATION_BOUNDARIES = [
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10,
];

const STREAM = [MESSAGING_DESTINATION_NAME];
const CONSUMER = [MESSAGING_DESTINATION_NAME, MESSAGING_CONSUMER_GROUP_NAME];

/** All instruments of one server. Owned by its telemetry, which stops it. */
export class Metrics {
  /** 1 while NATS is connected, 0 otherwise. */
  readonly natsConnected: Level;
  /** Last measured round trip to NATS, in seconds. */
  readonly natsRoundTrip: Level;
  /** Connections to NATS after the first. */
  readonly natsReconnects: Count;
  /** Publishes sent to JetStream and not yet answered. */
  readonly publishesInFlight: Level;
  /** Publishes waiting to be sent. */
  readonly publishesWaiting: Level;
  /** Calls that were cut off because their client did not read. */
  readonly slowClients: Count;
  /** Everything there is to collect. */
  readonly instruments: readonly Instrument[];
  /** Milliseconds since the epoch at which counting began. */
  readonly startedAt: number = Date.now();

  readonly #instruments: Instrument[] = [];
  readonly #rpc: Family<Histogram> = this.#add(
    new Family(
      define(
        "rpc.server.call.duration",
        "histogram",
        "s",
        "Duration of gRPC calls; of a subscription, its whole life.",
        [RPC_SYSTEM_NAME, RPC_METHOD, RPC_STATUS_CODE, ERROR_TYPE],
      ),
      () => new Histogram(DURATION_BOUNDARIES),
      DURATION_BOUNDARIES,
    ),
  );
  readonly #sent: Family<Count> = this.#counter(
    "messaging.client.sent.messages",
    "{message}",
    "Events that were published, by what came of it.",
    [MESSAGING_SYSTEM_NAME, MESSAGING_OPERATION_NAME, ...STREAM, RESULT, ERROR_TYPE],
  );
  readonly #families: ConsumerFamilies = {
    consumed: this.#counter(
      "messaging.client.consumed.messages",
      "{message}",
      "Events that were sent to subscriptions, redeliveries included.",
      [MESSAGING_SYSTEM_NAME, MESSAGING_OPERATION_NAME, ...CONSUMER],
    ),
    redeliveries: this.#counter("windshift.redeliveries", "{event}", "Events that were delivered again.", CONSUMER),
    settlements: this.#counter("windshift.settlements", "{event}", "Events that clients settled, by kind and result.", [
      ...CONSUMER,
      MESSAGING_OPERATION_NAME,
      RESULT,
    ]),
    failures: this.#counter("windshift.failures", "{event}", "Deliveries that were rejected, or not settled in time.", [
      ...CONSUMER,
      CAUSE,
    ]),
    givenUp: this.#counter("windshift.dead_letters", "{event}", "Events that were given up, by what became of them.", [
      ...CONSUMER,
      CAUSE,
      RESULT,
    ]),
    subscriptions: this.#level("windshift.subscriptions", "{subscription}", "Open subscriptions.", CONSUMER),
    unsettled: this.#level("windshift.unsettled", "{event}", "Events that subscriptions hold unsettled.", CONSUMER),
  };
  readonly #rpcMethods = new Map<string, RpcMetrics>();
  readonly #streams = new Map<string, PublishMetrics>();
  readonly #consumers = new Map<string, ConsumerMetrics>();
  readonly #eventLoop = new EventLoopDelay();
  #readUnread: (() => number) | undefined;

  constructor() {
    this.natsConnected = this.#state("windshift.nats.connected", "1", "1 while NATS is connected, else 0.");
    this.natsRoundTrip = this.#state("windshift.nats.round_trip", "s", "Last measured round trip to NATS.");
    this.natsReconnects = this.#counter(
      "windshift.nats.reconnects",
      "{connection}",
      "Connections to NATS after the first.",
      [],
    ).with({});
    this.publishesInFlight = this.#level(
      "windshift.publishes.in_flight",
      "{event}",
      "Publishes that JetStream has not answered yet.",
      [],
    ).with({});
    this.publishesWaiting = this.#level(
      "windshift.publishes.waiting",
      "{event}",
      "Publishes that wait to be sent.",
      [],
    ).with({});
    this.#add(
      new Observed(
        define("windshift.unread", "updown", "By", "Responses that were sent and that clients have not read yet.", []),
        () => (this.#readUnread === undefined ? [] : [{ labels: {}, value: this.#readUnread() }]),
      ),
    );
    this.slowClients = this.#counter(
      "windshift.slow_clients",
      "{call}",
      "Calls that were cut off because their client did not read.",
      [],
    ).with({});
    this.#instruments.push(...this.#eventLoop.instruments(), ...processInstruments());
    this.instruments = this.#instruments;
  }

  /** Calls of a method, `package.Service/Method`; for methods that are not of the contract, {@link OTHER_METHOD}. */
  rpc(method: string): RpcMetrics {
    return bounded(this.#rpcMethods, method, OTHER_METHOD, (label) => new RpcMetrics(this.#rpc, label));
  }

  /** Publishes to a stream; undefined where it is not known, as after most failures. */
  publishes(stream?: string): PublishMetrics {
    const create = (name: string): PublishMetrics =>
      new PublishMetrics(this.#sent, name === "" ? {} : { [MESSAGING_DESTINATION_NAME]: name });
    return bounded(this.#streams, stream ?? "", "", create);
  }

  /** Deliveries of a consumer. Pass {@link EPHEMERAL} for one without a name of its own. */
  consumer(stream: string, consumer: string): ConsumerMetrics {
    const create = (key: string): ConsumerMetrics => {
      const [destination, group] = key.split("\0");
      const labels = {
        [MESSAGING_DESTINATION_NAME]: destination ?? "",
        [MESSAGING_CONSUMER_GROUP_NAME]: group ?? "",
      };
      return new ConsumerMetrics(this.#families, labels);
    };
    return bounded(this.#consumers, `${stream}\0${consumer}`, "_other\0_other", create);
  }

  /** Says where the bytes are counted that clients have not read. */
  observeUnread(read: () => number): void {
    this.#readUnread = read;
  }

  /** Stops measuring the event loop. */
  stop(): void {
    this.#eventLoop.stop();
  }

  #add<T extends Instrument>(instrument: T): T {
    this.#instruments.push(instrument);
    return instrument;
  }

  #counter(name: string, unit: string, description: string, attributes: readonly string[]): Family<Count> {
    return this.#add(new Family(define(name, "counter", unit, description, attributes), () => new Count()));
  }

  #level(name: string, unit: string, description: string, attributes: readonly string[]): Family<Level> {
    return this.#add(new Family(define(name, "updown", unit, description, attributes), () => new Level(0)));
  }

  #state(name: string, unit: string, description: string): Level {
    return this.#add(new Family(define(name, "gauge", unit, description, []), () => new Level())).with({});
  }
}

function define(
  name: string,
  kind: Definition["kind"],
  unit: string,
  description: string,
  attributes: readonly string[],
): Definition {
  return { name, kind, unit, description, attributes };
}

/** The entry of `key`; beyond the limit the one entry that all further keys share. */
function bounded<T>(entries: Map<string, T>, key: string, rest: string, create: (key: string) => T): T {
  const known = entries.get(key);
  if (known !== undefined) return known;
  const label = entries.size < MAX_SERIES ? key : rest;
  const entry = entries.get(label) ?? create(label);
  entries.set(label, entry);
  return entry;
}

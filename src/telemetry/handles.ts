/** Handles of what belongs together: a method, a stream, a consumer. Resolve one once and keep it; counting is then one addition. */
import {
  CAUSE,
  ERROR_TYPE,
  MESSAGING_OPERATION_NAME,
  MESSAGING_SYSTEM_NAME,
  RESULT,
  RPC_METHOD,
  RPC_STATUS_CODE,
  RPC_SYSTEM_NAME,
  isServerError,
  statusName,
} from "./attributes.ts";
import type { Count, Family, Histogram, Labels, Level } from "./instruments.ts";

/** What a client asked to be done with an event that it holds. */
export type SettlementKind = "ack" | "reject" | "terminate" | "ping";
/** Under which list of the confirmation its id went. */
export type SettlementResult = "confirmed" | "invalid" | "failed";

/** Why a delivery failed. */
export type FailureCause = "rejected" | "timed_out";
/** Why an event was given up: its client said so, or its attempts ran out. */
export type GivingUpCause = "rejected" | "attempts";
/** What became of an event that was given up. */
export type GivingUpResult = "stored" | "known" | "dropped" | "failed" | "lost";

/** Calls of one method. */
export class RpcMetrics {
  readonly #byCode: Histogram[] = [];
  readonly #family: Family<Histogram>;
  readonly #method: string;

  constructor(family: Family<Histogram>, method: string) {
    this.#family = family;
    this.#method = method;
  }

  /** One call has ended with gRPC status `code`. */
  record(code: number, seconds: number): void {
    (this.#byCode[code] ??= this.#resolve(statusName(code))).record(seconds);
  }

  #resolve(status: string): Histogram {
    const error: Labels = isServerError(status) ? { [ERROR_TYPE]: status } : {};
    return this.#family.with({
      [RPC_SYSTEM_NAME]: "grpc",
      [RPC_METHOD]: this.#method,
      [RPC_STATUS_CODE]: status,
      ...error,
    });
  }
}

/** Publishes to one stream. */
export class PublishMetrics {
  /** Events that JetStream stored. */
  readonly stored: Count;
  /** Events that it knew already by their idempotency key. */
  readonly duplicates: Count;
  readonly #family: Family<Count>;
  readonly #labels: Labels;
  readonly #failures = new Map<string, Count>();

  constructor(family: Family<Count>, labels: Labels) {
    this.#family = family;
    this.#labels = {
      [MESSAGING_SYSTEM_NAME]: "nats",
      [MESSAGING_OPERATION_NAME]: "publish",
      ...labels,
    };
    this.stored = family.with({ ...this.#labels, [RESULT]: "stored" });
    this.duplicates = family.with({ ...this.#labels, [RESULT]: "duplicate" });
  }

  /** Events that were not stored, by the reason of the error (one of `REASONS`, which bounds them). */
  failed(reason: string): Count {
    const known = this.#failures.get(reason);
    if (known !== undefined) return known;
    const count = this.#family.with({ ...this.#labels, [RESULT]: "failed", [ERROR_TYPE]: reason });
    this.#failures.set(reason, count);
    return count;
  }
}

/** Deliveries and settlements of one consumer. */
export class ConsumerMetrics {
  /** Events sent to subscriptions, redeliveries included. */
  readonly deliveries: Count;
  /** Those of them that had been delivered before. */
  readonly redeliveries: Count;
  /** Open subscriptions. */
  readonly subscriptions: Level;
  /** Events that subscriptions hold unsettled. */
  readonly unsettled: Level;
  readonly #settlements: Family<Count>;
  readonly #failures: Family<Count>;
  readonly #givenUp: Family<Count>;
  readonly #labels: Labels;
  readonly #counts: Partial<Record<SettlementKind, Partial<Record<SettlementResult, Count>>>> = {};

  constructor(families: ConsumerFamilies, labels: Labels) {
    this.#labels = labels;
    this.#settlements = families.settlements;
    this.#failures = families.failures;
    this.#givenUp = families.givenUp;
    this.deliveries = families.consumed.with({
      [MESSAGING_SYSTEM_NAME]: "nats",
      [MESSAGING_OPERATION_NAME]: "deliver",
      ...labels,
    });
    this.redeliveries = families.redeliveries.with(labels);
    this.subscriptions = families.subscriptions.with(labels);
    this.unsettled = families.unsettled.with(labels);
  }

  /** Settlements of one kind with one result. */
  settlements(kind: SettlementKind, result: SettlementResult): Count {
    const counts = (this.#counts[kind] ??= {});
    return (counts[result] ??= this.#settlements.with({
      ...this.#labels,
      [MESSAGING_OPERATION_NAME]: kind,
      [RESULT]: result,
    }));
  }

  /** Deliveries that failed. */
  failures(cause: FailureCause): Count {
    return this.#failures.with({ ...this.#labels, [CAUSE]: cause });
  }

  /** Events that were given up. */
  givenUp(cause: GivingUpCause, result: GivingUpResult): Count {
    return this.#givenUp.with({ ...this.#labels, [CAUSE]: cause, [RESULT]: result });
  }
}

/** The families that consumers share. */
export interface ConsumerFamilies {
  readonly consumed: Family<Count>;
  readonly redeliveries: Family<Count>;
  readonly settlements: Family<Count>;
  readonly failures: Family<Count>;
  readonly givenUp: Family<Count>;
  readonly subscriptions: Family<Level>;
  readonly unsettled: Family<Level>;
}

/** What JetStream says of a consumer, in the words in which it would be asked for: the way back from `events/consumers.ts`. */
import type { ConsumerConfig, ConsumerInfo, SequenceInfo } from "@nats-io/jetstream";
import { checkUsable, filtersOf } from "../events/consumers.ts";
import { type DeliveryPolicy, decodePolicy } from "../events/delivery-policy.ts";
import type { StreamPointer } from "../events/stream-pointer.ts";
import { type Timestamp, parseTimestamp } from "../events/timestamp.ts";
import { milliseconds } from "../nats/units.ts";
import { type Replication, limitOf, replicationOf, timeOf } from "./replication.ts";

/** A consumer as it is. */
export interface ConsumerDescription {
  readonly stream: string;
  readonly id: string;
  /** Known by a name of its own. */
  readonly isDurable: boolean;
  readonly subjects: readonly string[];
  /** Undefined for a start that the contract cannot say. */
  readonly from: StreamPointer | undefined;
  readonly processingTimeoutMs: number | undefined;
  readonly deliveryPolicy: DeliveryPolicy | undefined;
  readonly maxProcessingEvents: bigint | undefined;
  readonly inactiveThresholdMs: number | undefined;
  readonly created: Timestamp | undefined;
  readonly state: ConsumerState;
  readonly isUsable: boolean;
  readonly pausedUntil: Timestamp | undefined;
  readonly replication: Replication | undefined;
}

/** How far a consumer is. */
export interface ConsumerState {
  readonly pending: bigint;
  readonly inFlight: bigint;
  readonly redelivered: bigint;
  readonly lastDeliveredId: bigint;
  readonly lastDeliveredTime: Timestamp | undefined;
  readonly settledId: bigint;
  readonly lastSettledTime: Timestamp | undefined;
}

/** All that is told of a consumer in lists. */
export function describeConsumer(info: ConsumerInfo): ConsumerDescription {
  const { config, delivered, ack_floor: settled } = info;
  const policy = decodePolicy(config.metadata);
  return {
    stream: info.stream_name,
    id: info.name,
    isDurable: config.durable_name !== undefined,
    subjects: filtersOf(config),
    from: startOf(config),
    processingTimeoutMs: config.ack_wait === undefined ? undefined : milliseconds(config.ack_wait),
    deliveryPolicy: policy === "unreadable" ? undefined : policy?.policy,
    maxProcessingEvents: limitOf(config.max_ack_pending),
    inactiveThresholdMs: config.inactive_threshold ? milliseconds(config.inactive_threshold) : undefined,
    created: timeOf(info.created),
    state: {
      pending: BigInt(info.num_pending),
      inFlight: BigInt(info.num_ack_pending),
      redelivered: BigInt(info.num_redelivered),
      lastDeliveredId: BigInt(delivered.stream_seq),
      lastDeliveredTime: lastActive(delivered),
      settledId: BigInt(settled.stream_seq),
      lastSettledTime: lastActive(settled),
    },
    isUsable: isUsable(info),
    pausedUntil: info.paused === true ? timeOf(config.pause_until) : undefined,
    replication: replicationOf(info.cluster),
  };
}

function startOf({ deliver_policy, opt_start_seq = 0, opt_start_time }: ConsumerConfig): StreamPointer | undefined {
  switch (deliver_policy) {
    case "all":
      return { kind: "start" };
    case "new":
      return { kind: "end" };
    case "by_start_sequence":
      return { kind: "offset", offset: BigInt(opt_start_seq) };
    case "by_start_time": {
      const time = parseTimestamp(opt_start_time ?? "");
      return time === undefined ? undefined : { kind: "time", time };
    }
    default:
      return undefined;
  }
}

/** A time as text, whatever the library's type says. */
function lastActive({ last_active }: SequenceInfo): Timestamp | undefined {
  return timeOf(last_active as unknown as string | undefined);
}

function isUsable(info: ConsumerInfo): boolean {
  try {
    checkUsable(info, "id");
    return true;
  } catch {
    return false;
  }
}

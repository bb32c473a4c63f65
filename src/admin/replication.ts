/** Which NATS servers keep something; times, limits and lists as JetStream tells them. */
import type { ClusterInfo, StreamConfig } from "@nats-io/jetstream";
import { type Timestamp, parseTimestamp } from "../events/timestamp.ts";
import { milliseconds } from "../nats/units.ts";

/** The NATS servers that keep a stream or consumer. */
export interface Replication {
  readonly cluster: string;
  /** Empty where there is none at the moment. */
  readonly leader: string;
  readonly followers: readonly Follower[];
}

/** One that follows the leader. */
export interface Follower {
  readonly server: string;
  readonly isCurrent: boolean;
  readonly isOffline: boolean;
  /** Undefined where it was never heard of. */
  readonly silenceMs: number | undefined;
  readonly lag: bigint;
}

/** Undefined where NATS is a single server. */
export function replicationOf(cluster: ClusterInfo | undefined): Replication | undefined {
  if (cluster?.name === undefined) return undefined;
  return {
    cluster: cluster.name,
    leader: cluster.leader ?? "",
    followers: (cluster.replicas ?? []).map((peer) => ({
      server: peer.name,
      isCurrent: peer.current,
      isOffline: peer.offline ?? false,
      silenceMs: silenceMs(peer.active),
      lag: BigInt(peer.lag ?? 0),
    })),
  };
}

/** JetStream counts from when it last heard; before that it says 0 or -1. */
export function silenceMs(activeNs: number | undefined): number | undefined {
  return activeNs === undefined || activeNs <= 0 ? undefined : milliseconds(activeNs);
}

/** A time that JetStream tells; undefined for its zero, the year 1. */
export function timeOf(text: string | undefined): Timestamp | undefined {
  if (text === undefined || text.startsWith("0001-01-01T00:00:00")) return undefined;
  return parseTimestamp(text);
}

/** A limit that JetStream tells: -1 and 0 are none. */
export function limitOf(value: number | undefined): bigint | undefined {
  return value === undefined || value <= 0 ? undefined : BigInt(value);
}

/** What a stream collects: a mirror has no subjects, whatever the library's type says. */
export function subjectsOf({ subjects }: StreamConfig): readonly string[] {
  return (subjects as readonly string[] | undefined) ?? [];
}

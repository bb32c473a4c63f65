/** What a fault is. */
import type { Random } from "../random.ts";
import type { Topology } from "../cluster/topology.ts";

/**
 * What a fault may excuse, for the checker:
 * - `stalls`: what is under way may be held up as long as it lasts;
 * - `nodes`: a group of NATS may change its leader, so that deliveries are counted again;
 * - `stale`: a leader may be there that does not know of its successor, so that reads are old;
 * - `kills`: a node dies without warning; where no majority is left, acks of the last moment may be forgotten;
 * - `ends`: subscriptions may end, because their server or the way to it goes away;
 * - `full`: writes may be refused for want of room.
 */
export type Effect = "stalls" | "nodes" | "stale" | "kills" | "ends" | "full";

/** What a fault works with. */
export interface FaultContext {
  readonly topology: Topology;
  readonly random: Random;
  /** How long it shall last. */
  readonly forMs: number;
  /** Takes one of the candidates that no other fault uses now; undefined when there is none. */
  claim<T>(kind: string, candidates: readonly T[]): T | undefined;
}

/** A fault that was started. */
export interface Running {
  /** What it hit, for the report. */
  readonly detail: string;
  /** Makes good what can be; it may take a while. */
  end(): Promise<void>;
}

/** A fault. `start` resolves once it is in force, with undefined when there was nothing to do it to. */
export interface Fault {
  readonly what: string;
  readonly effects: readonly Effect[];
  /** How long it lasts, at least and at most, where the schedule has a choice. */
  readonly lasts: readonly [minMs: number, maxMs: number];
  start(context: FaultContext): Promise<Running | undefined>;
}

/** When a fault was in force. */
export interface FaultRecord {
  readonly name: string;
  readonly detail: string;
  readonly effects: readonly Effect[];
  readonly start: number;
  readonly end: number;
}

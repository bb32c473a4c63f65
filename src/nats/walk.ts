/** Going through the messages of a stream in the order of their sequences, each once. */
import type { StreamInfo } from "@nats-io/jetstream";
import { type Reason, WindshiftError } from "../errors.ts";
import type { NatsMessage } from "./message.ts";
import { groupOf } from "./pull.ts";

/** A message that was met. */
export type WalkedMessage = Pick<NatsMessage, "subject" | "headers" | "payload" | "size">;

/** Who walks. All are on the hot path and must not throw; each may close the walk. */
export interface WalkHandler {
  /** How many more messages it takes at most: no more are asked for. */
  readonly wanted: number;
  /** `storedAt`: nanoseconds since the epoch, in digits. */
  onMessage(sequence: number, storedAt: string, message: WalkedMessage): void;
  /** Who is asked has nothing further that matches, as far as it knows; what comes later comes all the same. */
  onIdle(): void;
  /** The stream is gone, or cannot be read. Nothing more comes. */
  onEnded(error: WindshiftError): void;
}

/** What to walk through. */
export interface WalkSource {
  /** The stream as it was when the walk was begun. */
  readonly info: StreamInfo;
  /** None: all messages. */
  readonly filters: readonly string[];
  /** The sequence to begin with. */
  readonly from: number;
}

/** A walk; it goes on until it is closed or has ended, over any outage of NATS. */
export interface Walk {
  /** Asks for nothing further; what was asked for still comes. */
  pause(): void;
  resume(): void;
  close(): void;
}

/** Failures that a walk waits out. */
const PASSING = new Set<Reason>(["NATS_UNAVAILABLE", "NO_LEADER", "DEADLINE_EXCEEDED", "OVERLOADED", "ACCOUNT_LIMIT"]);

/** Whether a walk goes on after this failure. */
export function isPassing({ reason }: WindshiftError): boolean {
  return PASSING.has(reason);
}

/**
 * Whether it can be taken for the stream that it was when it was seen last, and had come to the sequence `last`. An edited
 * one can have another time after a restart, as a consumer can (see `Pull`).
 */
export function isSame(seen: StreamInfo, now: StreamInfo, last: number): boolean {
  const group = groupOf(seen.cluster);
  const isAsOld = now.cluster?.name === undefined && Date.parse(now.created) <= Date.parse(seen.ts ?? "");
  const isOther = now.created !== seen.created && !isAsOld && (group === undefined || group !== groupOf(now.cluster));
  // One that is kept in memory begins anew when its only node does.
  return !isOther && (now.config.num_replicas > 1 || now.state.last_seq >= last);
}

/** The stream is not the one that it was. */
export function replaced(stream: string): WindshiftError {
  const text = `stream ${JSON.stringify(stream)} was deleted and made again, or has lost its events`;
  return new WindshiftError("STREAM_NOT_FOUND", text, { metadata: { stream } });
}

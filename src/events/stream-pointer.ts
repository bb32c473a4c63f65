/** A place in a stream to read from, and how JetStream is told of it. */
import type { Timestamp } from "./timestamp.ts";
import { formatTimestamp } from "./timestamp.ts";

/** The first event, only new ones, those stored since a time, or those from an id (stream sequence) on. */
export type StreamPointer =
  | { readonly kind: "start" }
  | { readonly kind: "end" }
  | { readonly kind: "time"; readonly time: Timestamp }
  | { readonly kind: "offset"; readonly offset: bigint };

/** The start of a mirror or source in JetStream's configuration. `end` is the time at which the source ends. */
export function sourceStart(
  from: StreamPointer,
  end: string = new Date().toISOString(),
): { opt_start_seq?: number; opt_start_time?: string } {
  switch (from.kind) {
    case "start":
      return {};
    case "end":
      return { opt_start_time: end };
    case "time":
      return { opt_start_time: startTime(from.time) };
    case "offset":
      return { opt_start_seq: Number(from.offset) };
  }
}

/** The start of a consumer in JetStream's configuration. */
export function deliverPolicy(from: StreamPointer): {
  deliver_policy: "all" | "new" | "by_start_time" | "by_start_sequence";
  opt_start_seq?: number;
  opt_start_time?: string;
} {
  switch (from.kind) {
    case "start":
      return { deliver_policy: "all" };
    case "end":
      return { deliver_policy: "new" };
    case "time":
      return { deliver_policy: "by_start_time", opt_start_time: startTime(from.time) };
    case "offset":
      return { deliver_policy: "by_start_sequence", opt_start_seq: Number(from.offset) };
  }
}

/** Years 1677 to 2262: nats-server searches by nanoseconds in 64 bits, and a time beyond comes out anywhere. */
const MAX_SEARCHABLE_SECONDS = 9_223_372_036;

function startTime(time: Timestamp): string {
  if (Math.abs(time.seconds) < MAX_SEARCHABLE_SECONDS) return formatTimestamp(time);
  return formatTimestamp({ seconds: Math.sign(time.seconds) * MAX_SEARCHABLE_SECONDS, nanos: 0 });
}

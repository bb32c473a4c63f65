/** A place in a stream to read from, and how JetStream is told of it. */
import type { Timestamp } from "./timestamp.ts";
import { formatTimestamp } from "./timestamp.ts";

/** The first event, only new ones, those stored since a time, or those from an id (stream sequence) on. */
export type StreamPointer =
  | { readonly kind: "start" }
  | { readonly kind: "end" }
  | { readonly kind: "time"; readonly time: Timestamp }
  | { readonly kind: "offset"; readonly offset: bigint };

/** The start of a mirror or source in JetStream's configuration. `end` is the time of the call. */
export function sourceStart(from: StreamPointer): { opt_start_seq?: number; opt_start_time?: string } {
  switch (from.kind) {
    case "start":
      return {};
    case "end":
      return { opt_start_time: new Date().toISOString() };
    case "time":
      return { opt_start_time: formatTimestamp(from.time) };
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
      return { deliver_policy: "by_start_time", opt_start_time: formatTimestamp(from.time) };
    case "offset":
      return { deliver_policy: "by_start_sequence", opt_start_seq: Number(from.offset) };
  }
}

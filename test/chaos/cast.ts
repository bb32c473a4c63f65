/** Who takes part in every round: a few processes with many actors. Names that begin with `consumers` may be killed. */
import type { Actor } from "./workload.ts";

/** The processes and their actors. */
export const CAST: readonly { readonly name: string; readonly actors: readonly Actor[] }[] = [
  {
    name: "publishers",
    actors: [
      { kind: "publisher", pauseMs: 15, retries: true },
      { kind: "publisher", pauseMs: 15, retries: true },
      { kind: "publisher", pauseMs: 40, retries: false },
      { kind: "stream_publisher", pauseMs: 20 },
      { kind: "batcher", pauseMs: 150 },
      { kind: "scheduler", pauseMs: 100 },
      { kind: "state", keys: 2, pauseMs: 25 },
      { kind: "state", keys: 2, pauseMs: 25 },
      { kind: "state", keys: 2, pauseMs: 25 },
      { kind: "state", keys: 2, pauseMs: 25 },
    ],
  },
  {
    name: "consumers-a",
    actors: [
      { kind: "subscriber", style: "one_by_one", consumer: "work", window: 5, statusUpdates: true },
      { kind: "subscriber", style: "in_batches", consumer: "work", window: 20 },
      { kind: "subscriber", style: "rejecting", consumer: "work", window: 10 },
      { kind: "subscriber", style: "in_batches", consumer: "audit", window: 50 },
      { kind: "subscriber", style: "one_by_one", consumer: "", window: 20, statusUpdates: true },
      { kind: "subscriber", style: "in_batches", consumer: "work", window: 50, maxBytes: 1_000 },
      { kind: "subscriber", style: "failing", consumer: "letters", window: 30 },
      { kind: "reader" },
      // With its likes in the other process: on every server somebody holds events for long.
      { kind: "subscriber", style: "pinging", consumer: "work", window: 3 },
    ],
  },
  {
    name: "consumers-b",
    actors: [
      { kind: "subscriber", style: "one_by_one", consumer: "work", window: 1 },
      { kind: "subscriber", style: "pinging", consumer: "work", window: 3 },
      { kind: "subscriber", style: "unruly", consumer: "work", window: 8 },
      { kind: "subscriber", style: "leaving", consumer: "work", window: 4 },
      { kind: "subscriber", style: "in_batches", consumer: "audit", window: 3, statusUpdates: true },
      { kind: "subscriber", style: "failing", consumer: "letters", window: 30 },
      { kind: "reader" },
    ],
  },
];

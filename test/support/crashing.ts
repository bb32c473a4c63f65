/** Processes that die right before a request to NATS, or right after its answer: see `crash-preload.ts`. */
import { fileURLToPath } from "node:url";
import { type DaemonProcess, spawnDaemon } from "./daemon-process.ts";

const path = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const PRELOAD = ["--import", path("crash-preload.ts")];

/** When a process dies. */
export interface Crash {
  readonly when: "before" | "after";
  /** What the request begins with, its subject and then its payload: a regular expression. */
  readonly on: string;
  /** Which of several such requests; the first one unless given. */
  readonly nth?: number;
}

/** A crash, and what it is called. */
export type Step = readonly [what: string, crash: Crash];

/** Crashes right before and right after each of some requests. */
export function aroundEach(requests: readonly (readonly [what: string, on: string, nth?: number])[]): Step[] {
  return requests.flatMap(([what, on, nth = 1]): Step[] => [
    [`before ${what}`, { when: "before", on, nth }],
    [`when ${what}`, { when: "after", on, nth }],
  ]);
}

/** Starts a server that dies. */
export function spawnDoomed(natsUrl: string, crash: Crash): DaemonProcess {
  return spawnDaemon({ env: { NATS_URL: natsUrl, ...crashEnv(crash) }, nodeArgs: PRELOAD });
}

/** Starts a process that replays all dead letters of a consumer, and dies. */
export function spawnDoomedReplay(natsUrl: string, stream: string, consumer: string, crash: Crash): DaemonProcess {
  const command = [process.execPath, ...PRELOAD, path("replay-process.ts"), natsUrl, stream, consumer];
  return spawnDaemon({ command, env: crashEnv(crash) });
}

function crashEnv({ when, on, nth = 1 }: Crash): Record<string, string> {
  return { CRASH_ON: on, CRASH_WHEN: when, CRASH_NTH: String(nth) };
}

/** What all actors of a client process share. */
import { setTimeout as delay } from "node:timers/promises";
import { CallError } from "../../support/client.ts";
import type { Failure, History } from "../history.ts";
import type { Random } from "../random.ts";

/** Names of what the workload uses. */
export interface Scene {
  readonly stream: string;
  readonly store: string;
  readonly timeoutMs: number;
}

/** What an actor gets. */
export interface Setting {
  readonly name: string;
  /** Its number in its process: neighbours begin at different servers. */
  readonly index: number;
  readonly scene: Scene;
  readonly history: History;
  readonly random: Random;
  readonly addresses: readonly string[];
  /** Aborted when no new work shall begin. */
  readonly quiet: AbortSignal;
  /** Aborted when everything shall end. */
  readonly stop: AbortSignal;
}

/**
 * What grpc-js makes of a connection that is reset after the server has asked the client to leave: Node takes the reset for
 * the end that was announced, and the library misses the status.
 */
const RESET_WHILE_LEAVING = /^Received RST_STREAM with code 0\b/;

/** What a failed call says. */
export function failureOf(error: unknown): Failure {
  if (!(error instanceof CallError)) return { code: "CLIENT", text: String(error) };
  const wasReset = error.reason === undefined && RESET_WHILE_LEAVING.test(error.message);
  return {
    code: wasReset ? "UNAVAILABLE" : error.status,
    reason: error.reason,
    outcome: error.metadata["outcome"],
    text: error.message,
  };
}

/** Waits; a stop ends it early. */
export async function wait(ms: number, stop: AbortSignal): Promise<void> {
  await delay(ms, undefined, { signal: stop }).catch(() => undefined);
}

/** Writes a call down that took longer than its deadline allows. */
export async function timed<T>(history: History, what: string, deadlineMs: number, call: Promise<T>): Promise<T> {
  const start = performance.now();
  try {
    return await call;
  } finally {
    const ms = performance.now() - start;
    if (ms > deadlineMs + 1_000) history.add({ e: "slow", what, ms: Math.round(ms) });
  }
}

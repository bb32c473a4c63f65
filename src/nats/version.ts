/** What a nats-server can do, told by the version that it names when we connect. */
import { WindshiftError } from "../errors.ts";
import type { NatsConnection } from "./connection.ts";

/** Versions since which nats-server has what some calls need. */
export const NATS_WITH: Readonly<
  Record<"timeToLive" | "scheduling" | "atomicBatches" | "pausing" | "resetting", string>
> = {
  timeToLive: "2.11",
  scheduling: "2.12",
  atomicBatches: "2.12",
  pausing: "2.11",
  resetting: "2.14",
};

/** Throws NATS_TOO_OLD where the server that we are connected to is older than what `what` needs. */
export function requireNats(
  { server }: Pick<NatsConnection, "server">,
  feature: keyof typeof NATS_WITH,
  what: string,
): void {
  const version = server?.version;
  const needed = NATS_WITH[feature];
  // Without a connection the call itself finds out.
  if (version === undefined || isAtLeast(version, needed)) return;
  throw new WindshiftError("NATS_TOO_OLD", `${what} needs NATS ${needed} or newer; this one is ${version}`, {
    metadata: { needed, version },
    outcome: "not_stored",
  });
}

/** Whether the server that we are connected to has a feature; without a connection the call itself finds out. */
export function hasNats({ server }: Pick<NatsConnection, "server">, feature: keyof typeof NATS_WITH): boolean {
  return server === undefined || isAtLeast(server.version, NATS_WITH[feature]);
}

/** Whether `version` (`2.14.0-RC.1`) is `needed` (`2.12`) or newer. A preview of a version has what the version has. */
export function isAtLeast(version: string, needed: string): boolean {
  const [major = 0, minor = 0] = numbers(version);
  const [wantedMajor = 0, wantedMinor = 0] = numbers(needed);
  return major === wantedMajor ? minor >= wantedMinor : major > wantedMajor;
}

function numbers(version: string): number[] {
  return version.replace(/^v/, "").split(".", 2).map(Number);
}

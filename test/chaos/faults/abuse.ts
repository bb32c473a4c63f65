/** Clients that misbehave, for as long as the fault lasts. */
import type { Abuse } from "../clients/abusers.ts";
import type { Fault } from "./fault.ts";

let started = 0;

function abuse(what: string, kind: Abuse): Fault {
  return {
    what,
    effects: [],
    lasts: [2_000, 8_000],
    start: async ({ topology, random }) => {
      const client = await topology.addClient(`abuser-${started++}`, random.between(0, 1e9), [
        { kind: "abuser", abuse: kind },
      ]);
      return {
        detail: client.name,
        end: async () => {
          await client.stop(2_000);
        },
      };
    },
  };
}

/** Faults of clients that do as they please. */
export const ABUSE_FAULTS = {
  flood_acks: abuse("a client floods acks of events that it does not hold", "flood_acks"),
  flood_pings: abuse("a client floods pings", "flood_pings"),
  never_read: abuse("a client that never reads, with windows of 10,000", "never_read"),
  churn: abuse("subscriptions are opened and dropped", "churn"),
  half_close: abuse("clients half close at any point", "half_close"),
} as const satisfies Record<string, Fault>;

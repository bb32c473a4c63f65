/** Faults of the links from servers to NATS and from clients to servers. */
import type { Link } from "../proxy.ts";
import type { Effect, Fault, FaultContext } from "./fault.ts";

type Kind = "nats" | "client";

/** Links that belong together: all of a server to NATS, or all of a client to the servers. */
function groups({ topology }: FaultContext, kind: Kind): readonly (readonly Link[])[] {
  return kind === "nats" ? topology.natsLinks : topology.clientLinks;
}

function onLinks(
  kind: Kind,
  what: string,
  effects: readonly Effect[],
  spoil: (link: Link, c: FaultContext) => void,
  maxMs = 8_000,
): Fault {
  return {
    what: kind === "nats" ? `server to NATS: ${what}` : `client to server: ${what}`,
    effects: kind === "client" ? [...effects, "ends"] : effects,
    lasts: [500, maxMs],
    start: async (context) => {
      const links = context.claim(`${kind} links`, groups(context, kind));
      if (links === undefined) return undefined;
      for (const link of links) spoil(link, context);
      return {
        detail: names(links),
        end: async () => {
          for (const link of links) link.heal();
        },
      };
    },
  };
}

function names(links: readonly Link[]): string {
  return links.map(({ name }) => name).join(", ");
}

function cut(link: Link): void {
  link.cut();
}

function slow(link: Link, { random }: FaultContext): void {
  link.delay(random.between(50, 400));
}

/** Faults of links. */
export const LINK_FAULTS = {
  cut_nats_link: onLinks("nats", "reset", ["stalls"], cut),
  refuse_nats_link: onLinks("nats", "reset, and no new connections", ["stalls"], (link) => link.refuse()),
  // As long as a subscription may take to be told of it, and longer.
  silent_nats_link: onLinks("nats", "black hole", ["stalls"], (link) => link.blackHole(), 20_000),
  half_open_nats_link: onLinks("nats", "only answers vanish", ["stalls"], (link) => link.drop("down")),
  lost_requests_nats_link: onLinks("nats", "only requests vanish", ["stalls"], (link) => link.drop("up")),
  mute_nats_link: onLinks("nats", "only requests are held up", ["stalls"], (link) => link.blackHole("up")),
  slow_nats_link: onLinks("nats", "slow", ["stalls"], slow),
  nats_away: {
    what: "no server reaches NATS",
    effects: ["stalls"],
    lasts: [2_000, 60_000],
    start: async (context) => {
      const all = context.topology.natsLinks;
      const taken = all.filter((links) => context.claim("nats links", [links]) !== undefined).flat();
      if (taken.length === 0) return undefined;
      for (const link of taken) link.refuse();
      return {
        detail: names(taken),
        end: async () => {
          for (const link of taken) link.heal();
        },
      };
    },
  },
  cut_client_link: onLinks("client", "reset", [], cut),
  silent_client_link: onLinks("client", "black hole", ["stalls"], (link) => link.blackHole()),
  half_open_client_link: onLinks("client", "only answers vanish", ["stalls"], (link) => link.drop("down")),
  mute_client_link: onLinks("client", "only requests are held up", ["stalls"], (link) => link.blackHole("up")),
  slow_client_link: onLinks("client", "slow", ["stalls"], slow),
} as const satisfies Record<string, Fault>;

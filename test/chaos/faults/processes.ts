/** Faults of our servers and of their clients. */
import type { Fault, FaultContext } from "./fault.ts";

const SPARE_DESCRIPTORS = 1;

function ended(signal: "SIGTERM" | "SIGKILL", what: string): Fault {
  return {
    what,
    effects: ["ends"],
    lasts: [300, 5_000],
    start: async (context) => {
      const server = claimServer(context);
      if (server === undefined) return undefined;
      await server.end(signal);
      return { detail: server.options.name, end: async () => server.start() };
    },
  };
}

function claimServer({ topology, claim }: FaultContext) {
  return claim(
    "server",
    topology.servers.filter(({ pid }) => pid !== undefined),
  );
}

/** Those whose actors work on events; the one that publishes is needed to the end. */
function claimClient({ topology, claim }: FaultContext) {
  return claim(
    "client",
    topology.clients.filter(({ name, isRunning }) => isRunning && name.startsWith("consumers")),
  );
}

/** Faults of processes. */
export const PROCESS_FAULTS = {
  kill_server: ended("SIGKILL", "kill -9 of a server, started again afterwards"),
  term_server: ended("SIGTERM", "SIGTERM of a server, started again afterwards"),
  rolling_restart: {
    what: "SIGTERM and restart of one server after the other",
    effects: ["ends"],
    lasts: [0, 0],
    start: async ({ topology, claim }) => {
      const restarted: string[] = [];
      for (const server of topology.servers) {
        if (server.pid === undefined || claim("server", [server]) === undefined) continue;
        await server.end("SIGTERM");
        await server.start();
        restarted.push(server.options.name);
      }
      return restarted.length === 0 ? undefined : { detail: restarted.join(", "), end: async () => undefined };
    },
  },
  pause_server: {
    what: "SIGSTOP of a server",
    effects: ["stalls", "ends"],
    lasts: [1_000, 60_000],
    start: async (context) => {
      const server = claimServer(context);
      if (server === undefined) return undefined;
      server.signal("SIGSTOP");
      return { detail: server.options.name, end: async () => server.signal("SIGCONT") };
    },
  },
  stall_server: {
    what: "the event loop of a server stands still for 500 ms, again and again",
    effects: ["stalls"],
    lasts: [1_000, 5_000],
    start: async (context) => {
      const server = claimServer(context);
      if (server === undefined) return undefined;
      server.signal("SIGUSR2");
      const timer = setInterval(() => server.signal("SIGUSR2"), 700);
      return { detail: server.options.name, end: async () => clearInterval(timer) };
    },
  },
  exhaust_descriptors: {
    what: "a server can open no further files",
    effects: ["ends", "stalls"],
    lasts: [1_000, 6_000],
    start: async (context) => {
      const server = claimServer(context);
      if (server === undefined) return undefined;
      await server.limitFiles((await server.descriptors()) + SPARE_DESCRIPTORS);
      return { detail: server.options.name, end: async () => server.limitFiles(undefined) };
    },
  },
  kill_client: {
    what: "kill -9 of a client between work and ack, started again afterwards",
    effects: ["ends"],
    lasts: [200, 4_000],
    start: async (context) => {
      const client = claimClient(context);
      if (client === undefined) return undefined;
      await client.kill();
      return { detail: client.name, end: async () => client.start() };
    },
  },
  pause_client: {
    what: "SIGSTOP of a client",
    effects: ["stalls", "ends"],
    lasts: [1_000, 60_000],
    start: async (context) => {
      const client = claimClient(context);
      if (client === undefined) return undefined;
      client.signal("SIGSTOP");
      return { detail: client.name, end: async () => client.signal("SIGCONT") };
    },
  },
} as const satisfies Record<string, Fault>;

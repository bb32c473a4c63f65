/** Faults of NATS itself: its processes, its leaders, the routes between its nodes. */
import { SCENE, type Topology } from "../cluster/topology.ts";
import type { Effect, Fault, FaultContext, Running } from "./fault.ts";

type Choice = (topology: Topology) => Promise<readonly number[]>;

const streamLeader: Choice = async ({ admin }) => [await admin.leader(SCENE.stream)];
const consumerLeader: Choice = async ({ admin }) => [await admin.leader(SCENE.stream, "work")];
const metaLeader: Choice = async ({ nats }) => {
  const leader = await nats.metaLeader();
  return leader === undefined ? [] : [leader];
};
const follower: Choice = async ({ admin, nats }) => {
  const leader = await admin.leader(SCENE.stream);
  return nats.running.filter((node) => node !== leader);
};

async function claimNode(context: FaultContext, choice: Choice): Promise<number | undefined> {
  const candidates = await choice(context.topology);
  return context.claim(
    "node",
    candidates.filter((node) => context.topology.nats.running.includes(node)),
  );
}

function killed(what: string, choice: Choice): Fault {
  return {
    what: `kill -9 of ${what}, started again afterwards`,
    effects: ["nodes", "kills"],
    lasts: [500, 8_000],
    start: async (context) => {
      const { nats } = context.topology;
      const node = await claimNode(context, choice);
      if (node === undefined) return undefined;
      await nats.kill(node);
      return { detail: `node ${node}`, end: async () => nats.start(node) };
    },
  };
}

function paused(what: string, choice: Choice): Fault {
  return {
    what: `SIGSTOP of ${what}`,
    effects: ["nodes", "stale", "stalls"],
    lasts: [1_000, 60_000],
    start: async (context) => {
      const { nats } = context.topology;
      const node = await claimNode(context, choice);
      if (node === undefined) return undefined;
      nats.signal(node, "SIGSTOP");
      return { detail: `node ${node}`, end: async () => nats.signal(node, "SIGCONT") };
    },
  };
}

function onRoutes(
  what: string,
  effects: readonly Effect[],
  choice: Choice,
  spoil: (context: FaultContext, node: number) => void,
): Fault {
  return {
    what,
    effects,
    lasts: [1_000, 10_000],
    start: async (context) => {
      const node = await claimNode(context, choice);
      if (node === undefined) return undefined;
      spoil(context, node);
      return {
        detail: `node ${node}`,
        end: async () => {
          for (const link of context.topology.nats.routesOf(node)) link.heal();
        },
      };
    },
  };
}

async function allNodes(context: FaultContext, stop: (node: number) => Promise<void>): Promise<Running | undefined> {
  const { nats } = context.topology;
  const all = nats.nodes.map((_, node) => node);
  // Those that another fault has taken down are its business.
  const taken = all.filter((node) => context.claim("node", [node]) !== undefined);
  if (taken.length < all.length) return undefined;
  await Promise.all(taken.map(stop));
  return {
    detail: `nodes ${taken.join(", ")}`,
    end: async () => {
      await Promise.all(taken.map(async (node) => nats.start(node)));
    },
  };
}

function stepDown(what: string, subject: string): Fault {
  return {
    what: `step-down of the leader of ${what}`,
    effects: ["nodes"],
    lasts: [0, 0],
    start: async ({ topology }) => {
      // Where other faults leave no leader there is none to step down.
      const reply = await topology.admin.api(subject).catch(() => undefined);
      return reply === undefined ? undefined : { detail: what, end: async () => undefined };
    },
  };
}

/** Faults of NATS. */
export const NODE_FAULTS = {
  kill_stream_leader: killed("the stream's leader", streamLeader),
  kill_follower: killed("a follower of the stream", follower),
  kill_consumer_leader: killed("the consumer's leader", consumerLeader),
  kill_meta_leader: killed("the meta leader", metaLeader),
  kill_all_nodes: {
    what: "kill -9 of all nodes at once",
    effects: ["nodes", "kills", "stalls"],
    lasts: [500, 5_000],
    start: async (context) => allNodes(context, async (node) => context.topology.nats.kill(node)),
  },
  stop_all_nodes: {
    what: "an orderly stop of all nodes",
    effects: ["nodes", "stalls"],
    lasts: [500, 8_000],
    start: async (context) => allNodes(context, async (node) => context.topology.nats.stop(node)),
  },
  restart_node: {
    what: "an orderly restart of a node",
    effects: ["nodes"],
    lasts: [0, 2_000],
    start: async (context) => {
      const { nats } = context.topology;
      const node = context.claim("node", nats.running);
      if (node === undefined) return undefined;
      await nats.stop(node);
      return { detail: `node ${node}`, end: async () => nats.start(node) };
    },
  },
  pause_stream_leader: paused("the stream's leader", streamLeader),
  pause_consumer_leader: paused("the consumer's leader", consumerLeader),
  pause_follower: paused("a follower", follower),
  step_down_stream: stepDown("the stream", `STREAM.LEADER.STEPDOWN.${SCENE.stream}`),
  step_down_consumer: stepDown("the consumer", `CONSUMER.LEADER.STEPDOWN.${SCENE.stream}.work`),
  disk_full: {
    what: "the disk of a node is full; room is made, and the node restarted",
    // A leader that gives up JetStream answers for a moment as if there were nothing.
    effects: ["nodes", "kills", "stalls", "full", "stale"],
    lasts: [1_000, 8_000],
    start: async (context) => {
      const { nats } = context.topology;
      const { disks } = nats;
      const node = disks === undefined ? undefined : context.claim("node", nats.running);
      if (disks === undefined || node === undefined) return undefined;
      await disks.fill(node);
      return {
        detail: `node ${node}`,
        end: async () => {
          await disks.clear(node);
          // nats-server leaves JetStream switched off on a node that had no room.
          await nats.stop(node);
          await nats.start(node);
        },
      };
    },
  },
  partition_leader: onRoutes(
    "the stream's leader hears and reaches no other node",
    ["nodes", "stale", "stalls"],
    streamLeader,
    ({ topology }, node) => {
      for (const link of topology.nats.routesOf(node)) link.blackHole();
    },
  ),
  half_partition: onRoutes(
    "one node is heard by no other, and hears them",
    ["nodes", "stale", "stalls"],
    async ({ nats }) => nats.running,
    ({ topology: { nats } }, node) => {
      for (const link of nats.routes[node]!) link?.blackHole("up");
      for (const links of nats.routes) links[node]?.blackHole("down");
    },
  ),
  cut_routes: onRoutes(
    "all routes of a node are reset",
    ["nodes"],
    async ({ nats }) => nats.running,
    ({ topology }, node) => {
      for (const link of topology.nats.routesOf(node)) link.cut();
    },
  ),
  slow_all_routes: {
    what: "all routes are slow: followers are behind",
    effects: ["stalls", "nodes"],
    lasts: [1_000, 10_000],
    start: async ({ topology: { nats }, random }) => {
      const ms = random.between(50, 200);
      for (const link of nats.routes.flat()) link?.delay(ms);
      return {
        detail: `${ms} ms`,
        end: async () => {
          for (const link of nats.routes.flat()) link?.heal();
        },
      };
    },
  },
  slow_routes: onRoutes(
    "all routes of a node are slow",
    ["stalls", "nodes"],
    async ({ nats }) => nats.running,
    ({ topology, random }, node) => {
      const ms = random.between(20, 300);
      for (const link of topology.nats.routesOf(node)) link.delay(ms);
    },
  ),
} as const satisfies Record<string, Fault>;

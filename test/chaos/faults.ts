/** Every fault by name. */
import { ABUSE_FAULTS } from "./faults/abuse.ts";
import type { Fault } from "./faults/fault.ts";
import { LINK_FAULTS } from "./faults/links.ts";
import { NODE_FAULTS } from "./faults/nodes.ts";
import { PROCESS_FAULTS } from "./faults/processes.ts";
import { STREAM_FAULTS } from "./faults/streams.ts";

const ALL = { ...NODE_FAULTS, ...LINK_FAULTS, ...PROCESS_FAULTS, ...ABUSE_FAULTS, ...STREAM_FAULTS };

/** Name of a fault. */
export type FaultName = keyof typeof ALL;

/** The table. */
export const FAULTS: Readonly<Record<FaultName, Fault>> = ALL;

/** All names, in the order of the table. */
export const FAULT_NAMES = Object.keys(ALL) as FaultName[];

const CLIENTS: readonly FaultName[] = ["kill_client", "pause_client"];

/** Names by what they break; those of one group are in each other's way. */
export const FAULT_GROUPS: Readonly<Record<string, readonly FaultName[]>> = {
  nodes: namesOf(NODE_FAULTS),
  links: [...namesOf(LINK_FAULTS), ...CLIENTS],
  servers: namesOf(PROCESS_FAULTS).filter((name) => !CLIENTS.includes(name)),
  others: [...namesOf(ABUSE_FAULTS), ...namesOf(STREAM_FAULTS)],
};

function namesOf<Name extends FaultName>(faults: Readonly<Record<Name, Fault>>): Name[] {
  return Object.keys(faults) as Name[];
}

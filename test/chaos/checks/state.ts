/** Promise 7: each key is a register; what clients were told has to fit one order of their calls. */
import type { Entry, StateCall } from "../history.ts";
import { type Evidence, type Of, type Violation, at, excused } from "./evidence.ts";
import { type Operation, isLinearizable } from "./linearizable.ts";

/** What a key holds: -1 is a revision that nobody was told. */
interface Register {
  readonly revision: number;
  readonly value: string | undefined;
}

/** A leader that was paused or cut off answers from its old state until it notices, so long after it is back at most. */
const STALE_LINGER_MS = 12_000;
const UNKNOWN = -1;
const EMPTY: Register = { revision: UNKNOWN, value: undefined };

export function checkState(evidence: Evidence): Violation[] {
  const violations: Violation[] = [];
  const begun = new Map<string, Of<"state">>();
  const written = new Set<string>();
  const byKey = new Map<string, Operation<Register>[]>();
  const put = (key: string, operation: Operation<Register>): void => {
    byKey.set(key, [...(byKey.get(key) ?? []), operation]);
  };
  for (const entry of evidence.entries) {
    if (entry.e === "state") {
      begun.set(entry.op, entry);
      if (entry.call.op === "set") written.add(entry.call.value);
    } else if (entry.e === "state_done") {
      const start = begun.get(entry.op)!;
      begun.delete(entry.op);
      if (start.call.op === "get" && entry.value !== undefined && !written.has(entry.value)) {
        violations.push({ check: "invented", text: `${start.key} holds ${entry.value}, which nobody wrote` });
      }
      if (isRead(start.call, entry) && isMaybeStale(evidence, start, entry)) continue;
      const operation = operationOf(start, entry);
      if (operation !== undefined) put(start.key, operation);
    }
  }
  // Those without an answer may have had their effect, or will have.
  for (const start of begun.values()) if (start.call.op !== "get") put(start.key, uncertain(start));
  for (const [key, operations] of byKey) {
    const verdict = isLinearizable(operations, EMPTY, ({ revision, value }) => `${revision} ${value ?? ""}`);
    if (verdict === "unknown") evidence.onUndecided?.(key);
    if (verdict === "no") {
      const text = `the ${operations.length} calls on ${key}, from ${at(evidence, operations[0]!.begin)}, fit no order`;
      violations.push({ check: "linearizable", text });
    }
  }
  return violations;
}

/** A read, or a refusal that is one: the key exists, and was not expected to. */
function isRead(call: StateCall, { error }: Of<"state_done">): boolean {
  if (call.op === "get") return true;
  const expectsNone = call.lastRevision === 0 || (call.op === "set" && call.createOnly === true);
  return expectsNone && (error?.code === "FAILED_PRECONDITION" || error?.code === "ALREADY_EXISTS");
}

function isMaybeStale(evidence: Evidence, start: Entry, end: Entry): boolean {
  return excused(evidence, "stale", start.t, end.t, STALE_LINGER_MS);
}

function operationOf(start: Of<"state">, done: Of<"state_done">): Operation<Register> | undefined {
  const { call } = start;
  const between = { begin: start.t, end: done.t };
  if (done.error === undefined) {
    if (call.op === "get") return { ...between, apply: (state) => afterGet(state, done) };
    const value = call.op === "set" ? call.value : undefined;
    const revision = done.revision ?? UNKNOWN;
    return {
      ...between,
      apply: (state) => (allows(state, call) === false ? undefined : written(state, revision, value)),
    };
  }
  if (call.op === "get" || done.error.outcome === "not_stored") {
    const refused = done.error.code === "FAILED_PRECONDITION" || done.error.code === "ALREADY_EXISTS";
    if (call.op === "get" || !refused) return undefined;
    return { ...between, apply: (state) => (allows(state, call) === true ? undefined : state) };
  }
  return uncertain(start);
}

function uncertain({ t, call }: Of<"state">): Operation<Register> {
  const value = call.op === "set" ? call.value : undefined;
  const apply = (state: Register): Register | undefined =>
    allows(state, call) === false ? undefined : { revision: UNKNOWN, value };
  return { begin: t, end: Infinity, apply };
}

function afterGet(state: Register, { revision, value }: Of<"state_done">): Register | undefined {
  if (state.value !== value) return undefined;
  if (value === undefined) return state;
  if (state.revision !== UNKNOWN && state.revision !== revision) return undefined;
  return { revision: revision!, value };
}

function written(state: Register, revision: number, value: string | undefined): Register | undefined {
  if (revision !== UNKNOWN && state.revision !== UNKNOWN && revision <= state.revision) return undefined;
  return { revision, value };
}

/** Whether the call's condition holds; undefined where the state's revision is not known. */
function allows(state: Register, call: StateCall): boolean | undefined {
  if (call.op === "get") return true;
  if (call.op === "set" && call.createOnly === true) return state.value === undefined;
  if (call.lastRevision === undefined) return true;
  if (call.lastRevision === 0 || state.value === undefined) {
    return call.lastRevision === 0 && state.value === undefined;
  }
  return state.revision === UNKNOWN ? undefined : state.revision === call.lastRevision;
}

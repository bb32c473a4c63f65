/** Reads and writes keys that others write too, mostly with preconditions; every value is written only once. */
import { create } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import { StringValueSchema } from "../../../src/gen/windshift/test/v1/test_pb.ts";
import { textOf } from "../../support/client.ts";
import type { StateCall } from "../history.ts";
import { type Setting, failureOf, timed, wait } from "./actor.ts";
import { Endpoint } from "./endpoint.ts";

const DEADLINE_MS = 3_000;
/** Keys are used for so long, then new ones: the histories stay short enough to be checked. */
const EPOCH_MS = 4_000;

interface Known {
  readonly revision: number;
  readonly value: string | undefined;
}

/** Runs until it shall be quiet. */
export async function runStateWorker(setting: Setting, keys: number, pauseMs: number): Promise<void> {
  const { name, random, quiet } = setting;
  using endpoint = new Endpoint(setting.addresses, setting.index);
  const known = new Map<string, Known>();
  for (let n = 0; !quiet.aborted; n++) {
    const epoch = Math.floor(Date.now() / EPOCH_MS);
    const key = `k${epoch}.${random.between(0, keys - 1)}`;
    const last = known.get(key);
    const value = `${name}-${n}`;
    const chance = random.next();
    let next: StateCall;
    if (last === undefined || chance < 0.35) next = { op: "get" };
    else if (chance < 0.75) next = { op: "set", value, lastRevision: last.revision };
    else if (chance < 0.82) next = { op: "set", value };
    else if (chance < 0.9) next = { op: "set", value, createOnly: true };
    else if (chance < 0.97) next = { op: "delete", lastRevision: last.revision };
    else next = { op: "delete" };
    const result = await perform(setting, endpoint, `${name}-${n}`, key, next);
    if (result === undefined) known.delete(key);
    else known.set(key, result);
    await wait(random.between(0, 2 * pauseMs), quiet);
  }
}

async function perform(
  { scene, history, random, stop }: Setting,
  endpoint: Endpoint,
  op: string,
  key: string,
  call: StateCall,
): Promise<Known | undefined> {
  const { store } = scene;
  const options = { deadlineMs: DEADLINE_MS };
  history.add({ e: "state", op, key, call });
  const last =
    "lastRevision" in call && call.lastRevision !== undefined ? { lastRevision: BigInt(call.lastRevision) } : {};
  const run = async (): Promise<Known | undefined> => {
    if (call.op === "get") {
      const { revision, value } = await endpoint.client.get({ store, key }, options);
      return { revision: Number(revision), value: textOf(value) };
    }
    if (call.op === "delete") {
      await endpoint.client.delete({ store, key, ...last }, options);
      return undefined;
    }
    const value = anyPack(StringValueSchema, create(StringValueSchema, { value: call.value }));
    const createOnly = call.createOnly === true ? { createOnly: true } : {};
    const { revision } = await endpoint.client.set({ store, key, value, ...last, ...createOnly }, options);
    return { revision: Number(revision), value: call.value };
  };
  try {
    const result = await timed(history, `state ${op}`, DEADLINE_MS, run());
    history.add({ e: "state_done", op, ...result });
    return result;
  } catch (error) {
    const failure = failureOf(error);
    history.add({ e: "state_done", op, error: failure });
    if (failure.code === "UNAVAILABLE" || failure.code === "DEADLINE_EXCEEDED" || failure.code === "CLIENT") {
      await wait(random.between(50, 200), stop);
      endpoint.next();
    }
    return undefined;
  }
}

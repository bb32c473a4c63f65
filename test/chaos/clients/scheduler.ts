/** Schedules events, each with a key of its own, repeats what failed until it is stored, and takes some of them back. */
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { textValue } from "../../support/client.ts";
import { clock } from "../history.ts";
import { type Setting, failureOf, timed, wait } from "./actor.ts";
import { Endpoint } from "./endpoint.ts";

const DEADLINE_MS = 4_000;
const CANCELLED = 0.25;

/** Runs until it shall be quiet, and until what it began is stored or taken back. */
export async function runScheduler(setting: Setting, pauseMs: number): Promise<void> {
  const { name, random, quiet } = setting;
  using endpoint = new Endpoint(setting.addresses, setting.index);
  for (let n = 0; !quiet.aborted; n++) {
    const key = `${name}-${n}`;
    await schedule(setting, endpoint, key, Date.now() + random.between(200, 4_000));
    if (random.chance(CANCELLED)) await cancel(setting, endpoint, key);
    await wait(random.between(0, 2 * pauseMs), quiet);
  }
}

async function schedule(setting: Setting, endpoint: Endpoint, key: string, dueMs: number): Promise<void> {
  const { name, scene, history } = setting;
  const request = {
    subject: `${scene.stream}.${name}`,
    data: textValue(key),
    idempotencyKey: key,
    deliverAt: timestampFromMs(dueMs),
  };
  const dueT = clock() + dueMs - Date.now();
  await insist(setting, endpoint, async () => {
    history.add({ e: "schedule", by: name, key, dueMs, dueT });
    try {
      const call = endpoint.client.publishEvent(request, { deadlineMs: DEADLINE_MS });
      await timed(history, `schedule ${key}`, DEADLINE_MS, call);
      history.add({ e: "scheduled", by: name, key });
    } catch (error) {
      history.add({ e: "schedule_failed", by: name, key, ...failureOf(error) });
      throw error;
    }
  });
}

async function cancel(setting: Setting, endpoint: Endpoint, key: string): Promise<void> {
  const { name, scene, history } = setting;
  await insist(setting, endpoint, async () => {
    history.add({ e: "cancel", by: name, key });
    const request = { stream: scene.stream, idempotencyKey: key };
    const call = endpoint.client.cancelScheduledEvent(request, { deadlineMs: DEADLINE_MS });
    const { cancelled } = await timed(history, `cancel ${key}`, DEADLINE_MS, call);
    history.add({ e: "cancel_done", by: name, key, cancelled });
  });
}

async function insist({ random, stop }: Setting, endpoint: Endpoint, attempt: () => Promise<void>): Promise<void> {
  while (!stop.aborted) {
    try {
      await attempt();
      return;
    } catch {
      await wait(random.between(50, 300), stop);
      endpoint.next();
    }
  }
}

/** Publishes a few events at a time, all or none, and repeats what failed until they are stored. */
import { textValue } from "../../support/client.ts";
import { type Setting, failureOf, timed, wait } from "./actor.ts";
import { Endpoint } from "./endpoint.ts";

const DEADLINE_MS = 4_000;
const MAX_EVENTS = 6;

/** Runs until it shall be quiet, and until what it began is stored. */
export async function runBatcher(setting: Setting, pauseMs: number): Promise<void> {
  const { name, scene, history, random, quiet, stop } = setting;
  using endpoint = new Endpoint(setting.addresses, setting.index);
  for (let n = 0; !quiet.aborted; n++) {
    const keys = Array.from({ length: random.between(2, MAX_EVENTS) }, (_, index) => `${name}-${n}-${index}`);
    const events = keys.map((key) => ({
      subject: `${scene.stream}.${name}`,
      data: textValue(key),
      idempotencyKey: key,
    }));
    history.add({ e: "batch", by: name, keys });
    for (;;) {
      for (const key of keys) history.add({ e: "publish", by: name, key, retries: true });
      try {
        const call = endpoint.client.publishEvents({ events, atomic: true }, { deadlineMs: DEADLINE_MS });
        const { results } = await timed(history, `batch ${keys[0]}`, DEADLINE_MS, call);
        for (const [index, { result }] of results.entries()) {
          if (result.case === "id") {
            history.add({ e: "published", by: name, key: keys[index]!, id: Number(result.value) });
          }
        }
        break;
      } catch (error) {
        const failure = failureOf(error);
        // It is stored already, by an attempt that seemed to fail.
        const isStored = failure.code === "ALREADY_EXISTS";
        for (const key of keys) {
          history.add({ e: "publish_failed", by: name, key, ...failure, ...(isStored ? { outcome: "stored" } : {}) });
        }
        if (isStored || stop.aborted) break;
        await wait(random.between(50, 300), stop);
        endpoint.next();
      }
    }
    await wait(random.between(0, 2 * pauseMs), quiet);
  }
}

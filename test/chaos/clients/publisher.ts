/** Publishes one event after another, each with a key of its own, and repeats what failed until it is stored. */
import { textValue } from "../../support/client.ts";
import { type Setting, failureOf, timed, wait } from "./actor.ts";
import { Endpoint } from "./endpoint.ts";

const DEADLINE_MS = 4_000;

/** How one publisher works. */
export interface PublisherStyle {
  readonly pauseMs: number;
  /** False: a failed publish is given up, so that what its error says can be checked. */
  readonly retries: boolean;
}

/** Runs until it shall be quiet, and until what it began is stored. */
export async function runPublisher(setting: Setting, style: PublisherStyle): Promise<void> {
  const { name, scene, history, random, quiet, stop } = setting;
  using endpoint = new Endpoint(setting.addresses, setting.index);
  const subject = `${scene.stream}.${name}`;
  for (let n = 0; !quiet.aborted; n++) {
    const key = `${name}-${n}`;
    for (;;) {
      history.add({ e: "publish", by: name, key, retries: style.retries });
      try {
        const request = { subject, data: textValue(key), idempotencyKey: key };
        const call = endpoint.client.publishEvent(request, { deadlineMs: DEADLINE_MS });
        const { id } = await timed(history, `publish ${key}`, DEADLINE_MS, call);
        history.add({ e: "published", by: name, key, id: Number(id) });
        break;
      } catch (error) {
        history.add({ e: "publish_failed", by: name, key, ...failureOf(error) });
        if (stop.aborted || !style.retries) break;
        await wait(random.between(50, 300), stop);
        endpoint.next();
      }
    }
    await wait(random.between(0, 2 * style.pauseMs), quiet);
  }
}

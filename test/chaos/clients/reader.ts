/** Reads the main stream from its beginning and follows it; each call goes on where the one before has ended. */
import { type Setting, failureOf, wait } from "./actor.ts";
import { Endpoint } from "./endpoint.ts";
import { textOf } from "../../support/client.ts";

const SILENCE_MS = 4_000;
const RETRY_MS = 150;

/** Runs until it shall stop. */
export async function runReader(setting: Setting): Promise<void> {
  const { name: reader, scene, history, random, stop } = setting;
  using endpoint = new Endpoint(setting.addresses, setting.index);
  let next = 1;
  while (!stop.aborted) {
    history.add({ e: "read", reader, from: next, server: endpoint.server });
    const from = { pointer: { case: "offset" as const, value: BigInt(next) } };
    const call = endpoint.client.readEvents({ stream: scene.stream, from, follow: true });
    let heardAt = performance.now();
    let hasLeft = false;
    const leave = (): void => {
      hasLeft = true;
      void call.cancel();
    };
    stop.addEventListener("abort", leave, { once: true });
    // One that hears nothing asks whether the server is there at all.
    const watch = setInterval(() => {
      if (performance.now() - heardAt < SILENCE_MS) return;
      heardAt = performance.now();
      void endpoint.answers().then((answers) => {
        if (!answers) leave();
      });
    }, 500);
    try {
      for await (const { response } of call) {
        heardAt = performance.now();
        if (response.case !== "event") continue;
        const { id, data } = response.value;
        history.add({ e: "read_event", reader, id: Number(id), text: textOf(data) ?? "" });
        next = Number(id) + 1;
      }
      if (!hasLeft) history.add({ e: "call_end", what: "read", by: reader });
    } catch (error) {
      if (!hasLeft) history.add({ e: "call_end", what: "read", by: reader, ...failureOf(error) });
    }
    clearInterval(watch);
    stop.removeEventListener("abort", leave);
    await wait(random.between(RETRY_MS / 2, RETRY_MS), stop);
    endpoint.next();
  }
}

/** Publishes with one call after another, several events under way in each; what failed goes first in the next one. */
import type { PublishStreamResponse } from "../../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { CallError } from "../../support/client.ts";
import { type Setting, failureOf, wait } from "./actor.ts";
import { Endpoint } from "./endpoint.ts";

const IN_FLIGHT = 8;
const EVENTS_PER_CALL = 200;
/** So long without an answer, and the call is given up. */
const SILENCE_MS = 6_000;

/** Runs until it shall be quiet, and until what it began is stored. */
export async function runStreamPublisher(setting: Setting, pauseMs: number): Promise<void> {
  const { name, quiet, stop, random } = setting;
  using endpoint = new Endpoint(setting.addresses, setting.index);
  let left: string[] = [];
  let n = 0;
  for (let call = 0; !stop.aborted && (!quiet.aborted || left.length > 0); call++) {
    const next = (): string | undefined => (quiet.aborted ? undefined : `${name}-${n++}`);
    left = await publishSome(setting, endpoint, `${name}/${call}`, left, next, pauseMs);
    if (left.length === 0) continue;
    await wait(random.between(50, 300), stop);
    endpoint.next();
  }
}

/** One call; returns the keys that were not stored, in their order. */
async function publishSome(
  { name, scene, history, random, stop }: Setting,
  endpoint: Endpoint,
  by: string,
  first: readonly string[],
  next: () => string | undefined,
  pauseMs: number,
): Promise<string[]> {
  const call = endpoint.client.publishStream();
  const open = new Map<bigint, string>();
  const failed: string[] = [];
  let wake = (): void => undefined;
  let heardAt = performance.now();
  let isOver = false;
  let hasLeft = false;
  call.stream.on("data", ({ tag, result }: PublishStreamResponse) => {
    const key = open.get(tag)!;
    open.delete(tag);
    if (result.case === "id") history.add({ e: "published", by, key, id: Number(result.value) });
    else if (result.case === "error") {
      history.add({ e: "publish_failed", by, key, ...failureOf(CallError.of(result.value)) });
      failed.push(key);
    }
    heardAt = performance.now();
    wake();
  });
  void call.ended.then(() => {
    isOver = true;
    wake();
  });
  const leave = (): void => {
    hasLeft = true;
    call.stream.cancel();
  };
  stop.addEventListener("abort", leave, { once: true });
  const watch = setInterval(() => {
    if (open.size > 0 && performance.now() - heardAt > SILENCE_MS) leave();
  }, 500);
  const keys = [...first];
  let tag = 0n;
  // Nothing is sent after a failure: the order of one call is that of its events.
  while (!isOver && failed.length === 0 && tag < EVENTS_PER_CALL) {
    if (open.size >= IN_FLIGHT) {
      await new Promise<void>((resolve) => (wake = resolve));
      continue;
    }
    const key = keys.shift() ?? next();
    if (key === undefined) break;
    tag += 1n;
    if (open.size === 0) heardAt = performance.now();
    open.set(tag, key);
    history.add({ e: "publish", by, key, retries: true });
    call.publish(tag, `${scene.stream}.${name}`, key, { idempotencyKey: key });
    await wait(random.between(0, 2 * pauseMs), stop);
  }
  const failure = await call.finish();
  clearInterval(watch);
  stop.removeEventListener("abort", leave);
  // Nobody knows of those without an answer.
  const unanswered = [...open.values()];
  if (!hasLeft && (failure !== undefined || unanswered.length > 0)) {
    history.add({ e: "call_end", what: "publish stream", by, ...(failure === undefined ? {} : failureOf(failure)) });
  }
  const order = (key: string): number => Number(key.slice(key.lastIndexOf("-") + 1));
  return [...failed, ...unanswered, ...keys].sort((a, b) => order(a) - order(b));
}

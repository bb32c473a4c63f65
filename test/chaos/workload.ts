/**
 * A client process: several actors that share it, with one history. The suite starts it with its orders as an argument
 * and speaks to it by messages: `quiet` ends what makes new work, `stop` everything.
 */
import { runAbuser, type Abuse } from "./clients/abusers.ts";
import type { Scene, Setting } from "./clients/actor.ts";
import { runBatcher } from "./clients/batcher.ts";
import { runPublisher } from "./clients/publisher.ts";
import { runReader } from "./clients/reader.ts";
import { runScheduler } from "./clients/scheduler.ts";
import { runStateWorker } from "./clients/state-worker.ts";
import { runStreamPublisher } from "./clients/stream-publisher.ts";
import { failing, inBatches, leaving, oneByOne, pinging, rejecting, unruly } from "./clients/styles.ts";
import { type SubscriberStyle, runSubscriber } from "./clients/subscriber.ts";
import { History } from "./history.ts";
import { Random } from "./random.ts";

/** What a client process shall do. */
export interface Orders {
  readonly name: string;
  readonly folder: string;
  readonly seed: number;
  readonly addresses: readonly string[];
  readonly scene: Scene;
  readonly actors: readonly Actor[];
}

/** One actor of a process. */
export type Actor =
  | { readonly kind: "publisher"; readonly pauseMs: number; readonly retries: boolean }
  | { readonly kind: "stream_publisher" | "batcher" | "scheduler"; readonly pauseMs: number }
  | { readonly kind: "reader" }
  | { readonly kind: "state"; readonly keys: number; readonly pauseMs: number }
  | { readonly kind: "abuser"; readonly abuse: Abuse }
  | {
      readonly kind: "subscriber";
      readonly style: "one_by_one" | "in_batches" | "rejecting" | "pinging" | "unruly" | "leaving" | "failing";
      readonly consumer: string;
      readonly window: number;
      readonly maxBytes?: number;
      readonly statusUpdates?: boolean;
    };

const orders = JSON.parse(process.argv[2]!) as Orders;
const quiet = new AbortController();
const stop = new AbortController();
const history = new History(orders.folder, orders.name);

process.on("message", (message) => {
  if (message === "quiet") quiet.abort();
  if (message === "stop") {
    quiet.abort();
    stop.abort();
  }
});
process.on("disconnect", () => process.exit(1));

history.add({ e: "client", phase: "started" });
const makers: Promise<void>[] = [];
const others: Promise<void>[] = [];
for (const [index, actor] of orders.actors.entries()) {
  const name = `${orders.name}.${index}`;
  const setting: Setting = {
    name,
    index,
    scene: orders.scene,
    history,
    random: new Random(orders.seed).fork(name),
    addresses: orders.addresses,
    quiet: quiet.signal,
    stop: stop.signal,
  };
  (actor.kind === "subscriber" || actor.kind === "reader" ? others : makers).push(run(actor, setting));
}
process.send?.("started");
await Promise.all(makers);
process.send?.("quiet");
await Promise.all(others);
history.add({ e: "client", phase: "stopped" });
process.exit(0);

async function run(actor: Actor, setting: Setting): Promise<void> {
  switch (actor.kind) {
    case "publisher":
      return runPublisher(setting, actor);
    case "stream_publisher":
      return runStreamPublisher(setting, actor.pauseMs);
    case "batcher":
      return runBatcher(setting, actor.pauseMs);
    case "scheduler":
      return runScheduler(setting, actor.pauseMs);
    case "reader":
      return runReader(setting);
    case "state":
      return runStateWorker(setting, actor.keys, actor.pauseMs);
    case "abuser":
      return runAbuser(setting, actor.abuse);
    case "subscriber":
      return runSubscriber(setting, { ...actor, ...styleOf(actor, setting) });
  }
}

function styleOf(actor: Extract<Actor, { kind: "subscriber" }>, { random, scene }: Setting): SubscriberStyle {
  const { consumer, window } = actor;
  switch (actor.style) {
    case "one_by_one":
      return oneByOne(consumer, window);
    case "in_batches":
      return inBatches(consumer, window, 150);
    case "rejecting":
      return rejecting(consumer, window, random);
    case "pinging":
      return pinging(consumer, window, scene.timeoutMs);
    case "unruly":
      return unruly(consumer, window, scene.timeoutMs, random);
    case "failing":
      return failing(consumer, window);
    case "leaving":
      return leaving(consumer, window, random);
  }
}

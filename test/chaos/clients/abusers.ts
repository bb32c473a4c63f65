/** Clients that a server has to endure: floods, clients that never read, subscriptions that come and go. */
import { create } from "@bufbuild/protobuf";
import { EventsRequestSchema } from "../../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { Client, type EventsCall } from "../../support/client.ts";
import { type Setting, wait } from "./actor.ts";

/** Names of what an abuser may do. */
export type Abuse = "flood_acks" | "flood_pings" | "never_read" | "churn" | "half_close";

const CONSUMER = "abused";

/** Does its worst until it shall be quiet. */
export async function runAbuser(setting: Setting, abuse: Abuse): Promise<void> {
  const { addresses, random, quiet } = setting;
  while (!quiet.aborted) {
    const client = new Client(random.pick(addresses));
    try {
      await ABUSES[abuse](setting, client);
    } catch {
      // What an abuser gets is not checked; what others get is.
    }
    client.close();
    await wait(50, quiet);
  }
}

const ABUSES: Readonly<Record<Abuse, (setting: Setting, client: Client) => Promise<void>>> = {
  flood_acks: async (setting, client) => flood(setting, subscribe(setting, client, 10n), "ack"),
  flood_pings: async (setting, client) => flood(setting, subscribe(setting, client, 10n), "ping"),
  never_read: async (setting, client) => {
    const calls = Array.from({ length: 5 }, () => subscribe(setting, client, 10_000n));
    for (const call of calls) call.stream.pause();
    await wait(60_000, setting.quiet);
  },
  churn: async (setting, client) => {
    const { quiet, random } = setting;
    while (!quiet.aborted) {
      const call = subscribe(setting, client, 100n);
      await wait(random.between(0, 60), quiet);
      await call.cancel();
    }
  },
  half_close: async (setting, client) => {
    const { quiet, random } = setting;
    while (!quiet.aborted) {
      const call = random.chance(0.2) ? client.events() : subscribe(setting, client, 20n);
      await wait(random.between(0, 40), quiet);
      if (random.chance(0.5)) call.ack(1n, 2n, 3n);
      await call.finish();
    }
  },
};

function subscribe({ scene }: Setting, client: Client, window: bigint): EventsCall {
  const call = client.events();
  call.stream.on("data", () => {
    call.received.length = 0;
  });
  const value = { stream: scene.stream, consumer: CONSUMER, maxProcessingEvents: window };
  call.send({ case: "subscribe", value });
  return call;
}

async function flood({ quiet }: Setting, call: EventsCall, kind: "ack" | "ping"): Promise<void> {
  const ids = Array.from({ length: 100 }, (_, index) => BigInt(index + 1));
  const request = create(EventsRequestSchema, { request: { case: kind, value: { ids } } });
  let isOver = false;
  void call.ended.then(() => {
    isOver = true;
  });
  while (!quiet.aborted && !isOver) {
    for (let n = 0; n < 20; n++) call.stream.write(request);
    await wait(10, quiet);
  }
  await call.cancel();
}

/** What routes that are gone for a moment cost a subscription; the schedules reset them too, among much else. */
import { expect, test } from "vitest";
import { createSource } from "../support/consuming.ts";
import { startWindshift } from "../support/windshift.ts";
import { Admin } from "./cluster/admin.ts";
import { NatsNodes } from "./cluster/nats-nodes.ts";

/** The promise is 2 s from when the route is back, which takes a second or two. Heartbeats of 10 s took 20 s. */
const LIMIT_MS = 8_000;
const GONE_MS = 800;

test("a leader that forgot what was asked for, because the route was gone for a moment, is asked again", async () => {
  await using nats = await NatsNodes.start(3);
  await using admin = await Admin.open(nats.nodes.slice(1).map(({ url }) => url));
  await using server = await startWindshift(nats.nodes[0]!.url);
  // A cluster that has just come up may keep a request waiting for too long.
  const { stream, consumer, subject } = await admin.insist(async () => createSource(server.client, { replicas: 3 }));
  // Were it the stream's leader or the consumer's that is cut off, another would have to be elected first.
  while ((await admin.leader(stream)) === 0) await admin.api(`STREAM.LEADER.STEPDOWN.${stream}`);
  while ((await admin.leader(stream, consumer)) === 0)
    await admin.api(`CONSUMER.LEADER.STEPDOWN.${stream}.${consumer}`);
  const call = await server.client.subscribe(stream, consumer, 10_000n);
  await admin.publish(subject, LIMIT_MS);
  await call.event();

  for (const link of nats.routesOf(0)) link.refuse();
  const gone = performance.now();
  // The leader forgets a request when it has something to deliver, and nobody listens for it.
  while (performance.now() - gone < GONE_MS) await admin.publish(subject, LIMIT_MS);
  const start = performance.now();
  for (const link of nats.routesOf(0)) link.heal();
  await admin.publish(subject, LIMIT_MS);
  const last = await admin.insist(async (jsm) => (await jsm.streams.info(stream)).state.last_seq);
  while ((await call.event()).id < last);
  expect(performance.now() - start).toBeLessThan(LIMIT_MS);
});

/** A NATS node that is taken out of its cluster in an orderly way: lame duck mode, as an upgrade does it. */
import { expect, test, vi } from "vitest";
import { Worker, createSource, publishUntilStored } from "../support/consuming.ts";
import { startNatsCluster } from "../support/nats.ts";
import { startWindshift } from "../support/windshift.ts";

const PATIENT = { timeout: 60_000 };
const TEST_MS = 180_000;

test(
  "a node that says it will leave is left for another, and publishing and consuming go on",
  { timeout: TEST_MS },
  async () => {
    // It waits so long before it closes connections; ours is its only one.
    await using cluster = await startNatsCluster(3, 'lame_duck_grace_period: "1s"');
    // The others are told by NATS.
    await using windshift = await startWindshift(cluster.urls[0]!);
    const { client, log } = windshift;
    const has = (wanted: string): boolean => log.some(({ msg }) => msg === wanted);
    // What the node sent as it went comes again soon.
    const { stream, consumer, subject } = await createSource(client, { replicas: 3, processingTimeoutMs: 5_000 });
    const worker = new Worker(await client.subscribe(stream, consumer));
    const stored: bigint[] = [];
    const publish = async (): Promise<void> => {
      stored.push(await publishUntilStored(client, subject, `event ${stored.length}`));
    };
    await publish();
    process.kill(cluster.nodes[0]!.pid, "SIGUSR2");
    await vi.waitUntil(() => has("the NATS server is shutting down; moving to another"), PATIENT);
    while (!has("connected to NATS again")) await publish();
    await publish();
    await vi.waitUntil(() => stored.every((id) => worker.acked.has(id)), PATIENT);
    expect(worker.brokenPromises).toEqual([]);
    await worker.call.cancel();
  },
);

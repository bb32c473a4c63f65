/** The connection to NATS by itself. */
import { expect, test } from "vitest";
import { NatsConnection } from "../../src/nats/connection.ts";
import { Link } from "../chaos/proxy.ts";
import { startNats } from "../support/nats.ts";

const SILENT = { info: () => undefined, warn: () => undefined, error: () => undefined };

test("a round trip that was held up is measured again, as it takes its time from every event", async () => {
  await using nats = await startNats();
  await using link = await Link.open("us–NATS", () => nats.port);
  const options = { servers: [`127.0.0.1:${link.port}`], name: "test", inboxPrefix: "_INBOX", requestTimeoutMs: 5_000 };
  await using connection = await NatsConnection.open(options, SILENT);
  link.delay(200);
  expect(await connection.ping()).toBeGreaterThan(200);
  link.heal();
  await expect.poll(() => connection.roundTripMs).toBeLessThan(200);
});

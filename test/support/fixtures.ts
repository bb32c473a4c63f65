/** Every test file gets a nats-server and a server of its own; both end with the file. */
import { type JetStreamManager, jetstreamManager } from "@nats-io/jetstream";
import type { NatsConnection } from "@nats-io/nats-core";
import { connect } from "@nats-io/transport-node";
import { test as base } from "vitest";
import type { DeadLetters } from "../../src/events/dead-letters.ts";
import type { Client } from "./client.ts";
import { openDeadLetters } from "./dead-letters.ts";
import { type NatsServer, startNats } from "./nats.ts";
import { type Windshift, startWindshift } from "./windshift.ts";

let names = 0;

/** A name that no other test of this file has. */
export function uniqueName(prefix = "s"): string {
  names += 1;
  return `${prefix}${names}`;
}

/** `test` with a server (`windshift`), its `client`, its NATS (`nats`), and a plain NATS client (`natsClient`). */
export const test = base.extend<{
  $file: { nats: NatsServer; windshift: Windshift; natsClient: NatsConnection };
  $test: { client: Client; jsm: JetStreamManager };
}>({
  nats: [
    async ({}, use) => {
      await using nats = await startNats();
      await use(nats);
    },
    { scope: "file" },
  ],
  windshift: [
    async ({ nats }, use) => {
      await using windshift = await startWindshift(nats.url);
      await use(windshift);
    },
    { scope: "file" },
  ],
  natsClient: [
    async ({ nats }, use) => {
      const client = await connect({ servers: nats.url });
      await use(client);
      await client.close();
    },
    { scope: "file" },
  ],
  client: async ({ windshift }, use) => {
    await use(windshift.client);
  },
  jsm: async ({ natsClient }, use) => {
    await use(await jetstreamManager(natsClient));
  },
});

/** `test` with the dead letters of its NATS, as a server has them (`letters`). */
export const lettersTest = test.extend<{ $file: { letters: DeadLetters } }>({
  letters: [
    async ({ nats }, use) => {
      await using opened = await openDeadLetters(nats.url);
      await use(opened.letters);
    },
    { scope: "file" },
  ],
});

/** Settlements that leave together and share no answer of NATS, and what becomes of those that NATS refuses. */
import { type NatsConnection, connect } from "@nats-io/transport-node";
import { expect } from "vitest";
import { confirmed, createSource } from "../support/consuming.ts";
import { test } from "../support/fixtures.ts";
import { type NatsServer, startNats } from "../support/nats.ts";
import { type Windshift, startWindshift } from "../support/windshift.ts";

const IDS = [1n, 2n, 3n, 4n, 5n];
const PATIENT = { timeout: 20_000 };

/** Acknowledges five events in one request, and tells which of the five asked for an answer. */
async function askedFor({ client }: Windshift, observer: NatsConnection): Promise<boolean[]> {
  const asked: boolean[] = [];
  observer.subscribe("$JS.ACK.>", {
    callback: (_, message) => void asked.push(message.reply !== undefined && message.reply !== ""),
  });
  await observer.flush();
  const { stream, consumer } = await createSource(client, { events: 5 });
  const call = await client.subscribe(stream, consumer, 5n);
  await call.take(5);
  call.ack(...IDS);
  expect(await call.confirmation()).toEqual(confirmed({ ids: IDS }));
  await observer.flush();
  await call.cancel();
  return asked;
}

test("where the account's JetStream is that of another node, each asks", async () => {
  await using hub = await startNats({
    config: `
      server_name: hub
      jetstream { domain: hub }
      accounts {
        A: { users: [{ user: a, password: p }] }
        B: { jetstream: enabled, users: [{ user: b, password: p }] }
      }
      default_js_domain: { A: leaf }
      leafnodes { listen: "127.0.0.1:-1" }`,
  });
  await using leaf = await startNats({
    config: `
      server_name: leaf
      jetstream { domain: leaf }
      leafnodes { remotes: [{ url: "nats-leaf://a:p@127.0.0.1:${leafnodePort(hub)}" }] }`,
  });
  await using windshift = await startWindshift(hub.url, { NATS_USER: "a", NATS_PASSWORD: "p" });
  await expect.poll(async () => (await fetch(readyz(windshift))).status, PATIENT).toBe(200);
  const observer = await connect({ servers: hub.url, user: "a", pass: "p" });
  expect(observer.info).toMatchObject({ jetstream: true, domain: "hub" });
  expect(await askedFor(windshift, observer)).toEqual([true, true, true, true, true]);
  await observer.close();
  expect(leaf.log.some((line) => line.includes("Leafnode connection created"))).toBe(true);
});

test("an ack that NATS refuses is not confirmed along with the next one", async () => {
  // A delivery may be answered once, so that nothing can be said of it after a ping.
  await using nats = await startNats({
    config: `
      accounts { A {
        jetstream: enabled
        users: [{
          user: windshift, password: p
          permissions: {
            publish: { allow: ["$JS.API.>", "s.>", "$WINDSHIFT.>"] }
            subscribe: { allow: [">"] }
            allow_responses: { max: 1, expires: "10m" }
          }
        }]
      } }
      no_auth_user: windshift`,
  });
  await using windshift = await startWindshift(nats.url);
  const { client } = windshift;
  const stream = "s";
  await client.ensureStream({ name: stream, source: { case: "subjects", value: { subjects: ["s.>"] } } });
  const from = { pointer: { case: "start" as const, value: true } };
  await client.ensureConsumer({ stream, name: "c", subjects: ["s.>"], from });
  for (const id of IDS) expect(await client.publish("s.a")).toBe(id);
  const call = await client.subscribe(stream, "c", 5n);
  await call.take(5);
  call.send({ case: "ping", value: { ids: [1n, 2n, 3n] } });
  expect(await call.confirmation()).toEqual(confirmed({ ids: [1n, 2n, 3n] }));
  call.ack(...IDS);
  // It knows nothing of the fourth, which had no answer of its own.
  expect(await call.confirmation()).toEqual(confirmed({ ids: [5n], temporaryFailedIds: [1n, 2n, 3n, 4n] }));
  await call.cancel();
});

function readyz({ daemon }: Windshift): string {
  return `http://127.0.0.1:${daemon.healthPort}/readyz`;
}

function leafnodePort({ log }: NatsServer): string {
  const port = log
    .map((line) => /leafnode connections on [\d.]+:(\d+)/.exec(line)?.[1])
    .find((one) => one !== undefined);
  if (port === undefined) throw new Error(`no port for leafnodes: ${log.join("\n")}`);
  return port;
}

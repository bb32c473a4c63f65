/** What callers may do: every call asks the policy, and what is open ends when the policy says otherwise. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { describe, expect, test as base } from "vitest";
import { createToken } from "../../src/auth/tokens.ts";
import {
  GetEventRequestSchema,
  PublishEventsRequestSchema,
} from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { METHODS, methodPaths } from "../../src/rpc.ts";
import { AdminClient } from "../support/admin-client.ts";
import { type CallError, type Client, failure, textOf, textValue } from "../support/client.ts";
import { AUDIENCE, ISSUER, SigningKey, jwks } from "../support/issuer.ts";
import { type NatsServer, startNats } from "../support/nats.ts";
import { REQUESTS, encode, endOf } from "../support/requests.ts";
import { type Windshift, startWindshift } from "../support/windshift.ts";

const alice = createToken({ name: "alice" });
const bob = createToken({ name: "bob" });
const root = createToken({ name: "root" });

/** Root may do everything; what others may is written into it by each test. */
function policy(...rules: readonly string[]): string {
  const all = ["{ name: root, for: { principals: [root] }, allow: everything }", ...rules];
  return `version: 1\nrules:\n${all.map((rule) => `  - ${rule}\n`).join("")}`;
}

interface Setup {
  readonly folder: string;
  readonly env: Record<string, string>;
  write(text: string): void;
  audit(): Record<string, unknown>[];
}

const test = base.extend<{ $file: { nats: NatsServer }; $test: { setup: Setup } }>({
  nats: [
    async ({}, use) => {
      await using nats = await startNats();
      await use(nats);
    },
    { scope: "file" },
  ],
  setup: async ({}, use) => {
    const folder = mkdtempSync(join(tmpdir(), "windshift-policy-"));
    const file = (name: string): string => join(folder, name);
    writeFileSync(file("tokens"), [alice, bob, root].map(({ line }) => line).join("\n"));
    await use({
      folder,
      env: { AUTH_TOKENS_FILE: file("tokens"), AUTH_POLICY_FILE: file("policy"), AUDIT_LOG: file("audit") },
      write: (text) => writeFileSync(file("policy"), text),
      audit: () =>
        readFileSync(file("audit"), "utf8")
          .split("\n")
          .filter((line) => line !== "")
          .map((line) => JSON.parse(line) as Record<string, unknown>),
    });
    rmSync(folder, { recursive: true });
  },
});

function bearer({ token }: { readonly token: string }): Record<string, string> {
  return { authorization: `Bearer ${token}` };
}

function as(windshift: Windshift, who: { readonly token: string }): Client {
  return windshift.connect(undefined, bearer(who));
}

async function stream(client: Client, name: string): Promise<void> {
  await client.ensureStream({ name, source: { case: "subjects", value: { subjects: [`${name}.>`] } } });
}

test("what is no name or subject is told as such, also to who may do everything", async ({ nats, setup }) => {
  setup.write(policy());
  await using windshift = await startWindshift(nats.url, setup.env);
  for (const who of [root, alice]) {
    const client = as(windshift, who);
    const data = textValue("x");
    expect(await failure(client.publishEvent({ subject: "a..b", data }))).toMatchObject({
      status: "INVALID_ARGUMENT",
      message: expect.stringContaining('"a..b" is not valid') as string,
    });
    expect(await failure(client.get({ store: "a b", key: "k" }))).toMatchObject({ status: "INVALID_ARGUMENT" });
  }
});

describe("a caller whom no rule allows anything", () => {
  test("is refused by every method, under any name, and nothing happens", async ({ nats, setup }) => {
    setup.write(policy());
    await using windshift = await startWindshift(nats.url, setup.env);
    const owner = as(windshift, root);
    await stream(owner, "all");
    await owner.ensureConsumer({ stream: "all", name: "there", subjects: ["all.>"] });
    await owner.ensureStore({ store: "all" });
    await owner.publish("all.kept", "kept");
    await owner.set({ store: "all", key: "there", value: textValue("kept") });
    for (const [name, method] of Object.entries(METHODS)) {
      for (const path of methodPaths(method)) {
        const end = await endOf(windshift.client, path, REQUESTS[name as keyof typeof METHODS], bearer(alice));
        expect([path, end]).toEqual([path, "PERMISSION_DENIED"]);
      }
    }
    const together = encode(PublishEventsRequestSchema, {
      events: [{ subject: "all.a", data: textValue("denied") }],
      atomic: true,
    });
    const [path] = methodPaths(METHODS.publishEvents);
    expect(await endOf(windshift.client, path!, together, bearer(alice))).toBe("PERMISSION_DENIED");
    const subscription = await owner.subscribe("all", "there");
    expect(textOf((await subscription.event()).data)).toBe("kept");
    await subscription.cancel();
    expect(textOf((await owner.get({ store: "all", key: "there" })).value)).toBe("kept");
    const denied = setup.audit().filter(({ event }) => event === "denied");
    expect(denied.length).toBeGreaterThan(15);
    expect(denied[0]).toMatchObject({
      principal: "alice",
      principalKind: "token",
      method: "windshift.events.v1alpha1.EventsService/EnsureStream",
      what: '"alice" may not ensure-stream "made" "made.>": no rule allows it',
    });
  });
});

describe("a refusal", () => {
  const rule = `{ name: secret-rule, for: { principals: [alice] }, allow: [
    { verbs: [consume], streams: [hidden], consumers: ["*"], subjects: ["hidden.alice.>"] },
    { verbs: [read], streams: [hidden, none], subjects: ["hidden.alice.>"] } ] }`;
  const byId = (name: string, id: bigint) => ({ stream: name, event: { case: "id", value: id } }) as const;

  test("of an event is the same whether it is hidden, or missing, or its stream is", async ({ nats, setup }) => {
    setup.write(policy(rule));
    await using windshift = await startWindshift(nats.url, setup.env);
    const [owner, hers] = [as(windshift, root), as(windshift, alice)];
    await stream(owner, "hidden");
    const id = await owner.publish("hidden.bob.invoices");
    const refusals = [
      await failure(hers.getEvent(byId("hidden", id))),
      await failure(hers.getEvent(byId("hidden", 99n))),
    ];
    for (const refusal of refusals) {
      expect(refusal).toMatchObject({
        status: "PERMISSION_DENIED",
        message: 'the policy does not allow to read "hidden"',
        metadata: {},
      });
    }
    expect(await failure(hers.getEvent(byId("none", 1n)))).toMatchObject({
      status: "PERMISSION_DENIED",
      message: 'the policy does not allow to read "none"',
    });
    expect(await failure(owner.getEvent(byId("hidden", 99n)))).toMatchObject({ reason: "EVENT_NOT_FOUND" });
    expect(await failure(hers.getEvent(byId("hidden", 0n)))).toMatchObject({ reason: "INVALID_VALUE" });
    expect(setup.audit()).toContainEqual(
      expect.objectContaining({ what: '"alice" may not read "hidden" "hidden.bob.invoices": no rule allows it' }),
    );
  });

  test("of an event that cannot be read now says so, and is none of the policy", async ({ setup }) => {
    setup.write(policy(rule));
    await using nats = await startNats();
    await using windshift = await startWindshift(nats.url, { ...setup.env, GRPC_REQUEST_TIMEOUT: "1s" });
    await stream(as(windshift, root), "hidden");
    await nats.stop();
    const refusal = await failure(as(windshift, alice).getEvent(byId("hidden", 1n), { deadlineMs: 30_000 }));
    expect(["UNAVAILABLE", "DEADLINE_EXCEEDED"]).toContain(refusal.status);
  });

  test("names what the caller named, no rule, and not what the consumer of somebody else filters", async ({
    nats,
    setup,
  }) => {
    setup.write(
      policy(rule, "{ name: stop, for: { principals: [alice] }, deny: [{ verbs: [publish], subjects: [a] }] }"),
    );
    await using windshift = await startWindshift(nats.url, setup.env);
    const [owner, hers] = [as(windshift, root), as(windshift, alice)];
    await stream(owner, "hidden");
    await owner.ensureConsumer({ stream: "hidden", name: "his", subjects: ["hidden.bob.invoices"] });
    expect(await failure(hers.publish("a"))).toMatchObject({ message: 'the policy does not allow to publish "a"' });
    expect(await failure(hers.subscribe("hidden", "his"))).toMatchObject({
      message: 'the policy does not allow to consume "hidden" "his"',
    });
    const told = setup.audit().map(({ what }) => what);
    expect(told).toContain('"alice" may not publish "a": denied by rule stop');
    expect(told).toContain('"alice" may not consume "hidden" "his" "hidden.bob.invoices": no rule allows it');
  });
});

describe("a policy", () => {
  test("judges what other clients of NATS stored, whatever its subjects are made of", async ({ nats, setup }) => {
    setup.write(
      policy(`{ name: r, for: { principals: [alice] }, allow: [
        { verbs: [read], streams: [foreign], subjects: ["foreign.*"] },
        { verbs: [consume], streams: [foreign], consumers: ["*"], subjects: ["foreign.*"] } ] }`),
    );
    await using windshift = await startWindshift(nats.url, setup.env);
    const [owner, hers] = [as(windshift, root), as(windshift, alice)];
    await stream(owner, "foreign");
    const plain = await connect({ servers: nats.url });
    try {
      for (const subject of ["foreign.eu:1", "foreign.x.eu:1"]) await plain.request(subject, "text");
      const jsm = await jetstreamManager(plain);
      await jsm.consumers.add("foreign", {
        durable_name: "mine",
        ack_policy: "explicit",
        filter_subject: "foreign.eu:1",
      });
      await jsm.consumers.add("foreign", {
        durable_name: "his",
        ack_policy: "explicit",
        filter_subject: "foreign.x.eu:1",
      });
    } finally {
      await plain.close();
    }
    const byId = (value: bigint) => ({ stream: "foreign", event: { case: "id", value } }) as const;
    expect((await hers.getEvent(byId(1n))).event).toMatchObject({ subject: "foreign.eu:1" });
    expect(await failure(hers.getEvent(byId(2n)))).toMatchObject({ status: "PERMISSION_DENIED" });
    const subscription = await hers.subscribe("foreign", "mine");
    expect((await subscription.event()).subject).toBe("foreign.eu:1");
    await subscription.cancel();
    expect(await failure(hers.subscribe("foreign", "his"))).toMatchObject({ status: "PERMISSION_DENIED" });
  });

  test("takes empty names of a consumer and of a stream of dead letters as none", async ({ nats, setup }) => {
    setup.write(
      policy(
        `{ name: e, for: { principals: [alice] }, allow: [{ verbs: [ensure-consumer], streams: [empty], consumers: ["*"], subjects: [">"] }] }`,
      ),
    );
    await using windshift = await startWindshift(nats.url, setup.env);
    await stream(as(windshift, root), "empty");
    const hers = as(windshift, alice);
    await hers.ensureConsumer({ stream: "empty", name: "", subjects: ["empty.>"] });
    const deliveryPolicy = { maxAttempts: 3, deadLetter: { stream: "" } };
    await hers.ensureConsumer({ stream: "empty", name: "c", subjects: ["empty.>"], deliveryPolicy });
  });

  test("tells what is allowed from what is not, to the subject and the key", async ({ nats, setup }) => {
    setup.write(
      policy(
        `{ name: a, for: { principals: [alice] }, allow: [
          { verbs: [publish], subjects: ["told.alice.>"] },
          { verbs: [read], streams: [told], subjects: ["told.alice.>"] },
          { verbs: [ensure-consumer, consume], streams: [told], consumers: ["alice-*"], subjects: ["told.alice.>"] },
          { verbs: [ensure-stream], streams: ["alice-*"], subjects: ["alice.>", "told.alice.>"] },
          { verbs: [state-read, state-write], stores: [told], keys: ["alice.*"] } ] }`,
      ),
    );
    await using windshift = await startWindshift(nats.url, setup.env);
    const [owner, hers] = [as(windshift, root), as(windshift, alice)];
    await stream(owner, "told");
    await owner.ensureStore({ store: "told" });
    const mine = await hers.publish("told.alice.a");
    const other = await owner.publish("told.bob.a");
    await hers.ensureConsumer({ stream: "told", name: "alice-1", subjects: ["told.alice.>"] });
    await owner.ensureConsumer({ stream: "told", name: "alice-all", subjects: ["told.>"] });
    await hers.set({ store: "told", key: "alice.a", value: textValue("a") });
    expect(textOf((await hers.get({ store: "told", key: "alice.a" })).value)).toBe("a");
    const getEvent = async (id: bigint): Promise<unknown> =>
      endOf(
        windshift.client,
        "/windshift.events.v1alpha1.EventsService/GetEvent",
        encode(GetEventRequestSchema, { stream: "told", event: { case: "id", value: id } }),
        bearer(alice),
      );
    expect(await getEvent(mine)).toBe("OK");
    for (const id of [other, 100n]) expect(await getEvent(id)).toBe("PERMISSION_DENIED");
    const read = async (...subjects: string[]) =>
      (await hers.readEvents({ stream: "told", subjects }).events()).map(({ id }) => id);
    expect(await read("told.alice.>")).toEqual([mine]);
    for (const subjects of [[], ["told.>"], ["told.alice.a", "told.bob.a"]]) {
      expect(await failure(read(...subjects))).toMatchObject({ status: "PERMISSION_DENIED" });
    }

    const mirror = (name: string, filterSubjects: string[]) =>
      ({ case: "mirror", value: { name, filterSubjects } }) as const;
    await hers.ensureStream({ name: "alice-copy", source: mirror("told", ["told.alice.>"]) });
    const refused: (() => Promise<unknown>)[] = [
      () => hers.publish("told.alice"),
      () => hers.publish("told.Alice.a"),
      () => hers.publish("told.bob.a"),
      () => hers.publishByOldName({ subject: "told.bob.a", data: textValue("") }),
      () => hers.ensureConsumer({ stream: "told", name: "alice-2", subjects: ["told.>"] }),
      () => hers.ensureConsumer({ stream: "told", name: "bob-1", subjects: ["told.alice.>"] }),
      () => hers.ensureConsumer({ stream: "told", subjects: ["told.alice.>"] }),
      () => hers.deleteConsumer({ stream: "told", id: "alice-1" }),
      () => hers.ensureStream({ name: "alice-all", source: mirror("told", []) }),
      () => hers.ensureStream({ name: "told", source: { case: "subjects", value: { subjects: ["alice.>"] } } }),
      () => hers.get({ store: "told", key: "bob.a" }),
      () => hers.set({ store: "told", key: "alice.a.b", value: textValue("") }),
      () => hers.delete({ store: "told", key: "alice" }),
      () => hers.subscribe("told", "alice-all"),
    ];
    for (const call of refused) {
      expect([call.toString(), await failure(call())]).toMatchObject([
        expect.anything(),
        { status: "PERMISSION_DENIED", reason: "PERMISSION_DENIED" },
      ]);
    }
    const subscription = await hers.subscribe("told", "alice-1");
    await hers.publish("told.alice.b");
    expect((await subscription.event()).subject).toBe("told.alice.b");
    await subscription.cancel();
  });

  test("keeps claims within their token, whatever they hold", async ({ nats, setup }) => {
    const key = await SigningKey.make();
    const file = join(setup.folder, "keys");
    writeFileSync(file, jwks(key));
    setup.write(
      policy(
        `{ name: t, for: { kinds: [jwt] }, allow: [{ verbs: [publish], subjects: ["claimed.{claim.tenant}.>"] }] }`,
      ),
    );
    const jwt = { AUTH_JWT_ISSUER: ISSUER, AUTH_JWT_AUDIENCE: AUDIENCE, AUTH_JWT_JWKS_FILE: file };
    await using windshift = await startWindshift(nats.url, { ...setup.env, ...jwt });
    await stream(as(windshift, root), "claimed");
    const publish = async (tenant: unknown, subject: string): Promise<unknown> => {
      const client = as(windshift, { token: await key.sign({ claims: { tenant } }) });
      return client.publish(subject).then(
        () => "OK",
        (error: unknown) => (error as CallError).status,
      );
    };
    expect(await publish("a", "claimed.a.x")).toBe("OK");
    expect(await publish(["a", "b"], "claimed.b.x")).toBe("OK");
    for (const tenant of ["*", ">", "a.b", "", "a ", "A", "{name}", null, undefined, { a: 1 }, ["*"], "b"]) {
      expect([tenant, await publish(tenant, "claimed.a.x")]).toEqual([tenant, "PERMISSION_DENIED"]);
    }
  });

  test("ends what is open when the right to it is taken away, and nothing else", async ({ nats, setup }) => {
    const both = (...names: string[]) =>
      policy(
        `{ name: both, for: { principals: [${names.join(", ")}] }, allow: [{ verbs: [consume], streams: [taken], consumers: ["*"], subjects: ["taken.>"] }] }`,
      );
    setup.write(both("alice", "bob"));
    await using windshift = await startWindshift(nats.url, setup.env);
    const owner = as(windshift, root);
    await stream(owner, "taken");
    for (const name of ["alice", "bob"]) await owner.ensureConsumer({ stream: "taken", name, subjects: ["taken.>"] });
    const hers = await as(windshift, alice).subscribe("taken", "alice");
    const his = await as(windshift, bob).subscribe("taken", "bob");
    setup.write("version: 1\nrules: []\n");
    await expect
      .poll(() => setup.audit().filter(({ event }) => event === "changed"))
      .toMatchObject([{ what: "the policy", refused: expect.stringContaining("rules: must be a list") }]);
    setup.write(both("alice"));
    expect(await his.ended).toMatchObject({ status: "PERMISSION_DENIED" });
    await owner.publish("taken.a");
    await hers.ackNow((await hers.event()).id);
    expect(await hers.finish()).toBeUndefined();
    const again = as(windshift, bob).subscribe("taken", "bob");
    expect(await failure(again)).toMatchObject({ status: "PERMISSION_DENIED" });
    expect(setup.audit()).toContainEqual(expect.objectContaining({ event: "changed", what: "the policy", rules: 2 }));
  });

  test("ends a reading that follows, and a replay, when the right to it is taken away", async ({ nats, setup }) => {
    const hers = `{ name: r, for: { principals: [alice] }, allow: [
      { verbs: [read], streams: [lasting], subjects: ["lasting.>"] },
      { verbs: [admin], operations: [replay-dead-letters], streams: [lasting], consumers: [c] } ] }`;
    setup.write(policy(hers));
    await using windshift = await startWindshift(nats.url, setup.env);
    const owner = as(windshift, root);
    await stream(owner, "lasting");
    const deliveryPolicy = { maxAttempts: 1, deadLetter: {} };
    await owner.ensureConsumer({ stream: "lasting", name: "c", subjects: ["lasting.>"], deliveryPolicy });
    for (let n = 0; n < 20; n++) await owner.publish("lasting.a");
    const subscription = await owner.subscribe("lasting", "c");
    const ids = (await subscription.take(20)).map(({ id }) => id);
    subscription.send({ case: "reject", value: { ids, permanently: true } });
    await subscription.confirmation();
    const plain = await connect({ servers: nats.url });
    const jsm = await jetstreamManager(plain);
    await expect
      .poll(async () => (await jsm.streams.info("lasting-dead-letters")).state.messages, { timeout: 20_000 })
      .toBe(20);
    await plain.close();
    await subscription.cancel();
    const reading = as(windshift, alice).readEvents({ stream: "lasting", subjects: ["lasting.>"], follow: true });
    reading.collect();
    const request = {
      stream: "lasting",
      consumer: "c",
      events: { case: "all", value: true },
      maxPerSecond: 1,
    } as const;
    const replay = new AdminClient(windshift.client).replay(request, { metadata: bearer(alice) });
    await expect.poll(() => reading.received.length).toBeGreaterThan(0);
    await expect.poll(() => replay.received.length).toBeGreaterThan(0);
    setup.write(policy());
    expect(await reading.ended).toMatchObject({ status: "PERMISSION_DENIED" });
    expect(await replay.ended).toMatchObject({ status: "PERMISSION_DENIED" });
    expect(replay.received.length).toBeLessThan(20);
  });

  test("ends a subscription whose consumer is made to deliver what its caller may not see", async ({ nats, setup }) => {
    setup.write(
      policy(
        `{ name: a, for: { principals: [alice] }, allow: [{ verbs: [consume], streams: [moved], consumers: ["*"], subjects: ["moved.a", "moved.b"] }] }`,
      ),
    );
    await using windshift = await startWindshift(nats.url, { ...setup.env, PRINCIPAL_SUBSCRIPTIONS: "1" });
    const owner = as(windshift, root);
    await stream(owner, "moved");
    const ensure = async (...subjects: string[]) => owner.ensureConsumer({ stream: "moved", name: "c", subjects });
    await ensure("moved.a");
    const subscription = await as(windshift, alice).subscribe("moved", "c");
    await ensure("moved.b");
    await owner.publish("moved.b");
    await subscription.ackNow((await subscription.event()).id);
    await ensure("moved.b", "moved.secret");
    expect(await subscription.ended).toMatchObject({
      status: "PERMISSION_DENIED",
      message: 'the policy does not allow to consume "moved" "c"',
    });
    expect(setup.audit()).toContainEqual(
      expect.objectContaining({
        event: "denied",
        what: '"alice" may not consume "moved" "c" "moved.b" "moved.secret": no rule allows it',
      }),
    );
  });

  test("does not let one subscription settle what another one holds", async ({ nats, setup }) => {
    const own = (name: string) =>
      `{ name: ${name}, for: { principals: [${name}] }, allow: [{ verbs: [consume], streams: [held], consumers: [${name}], subjects: ["held.>"] }] }`;
    setup.write(policy(own("alice"), own("bob")));
    await using windshift = await startWindshift(nats.url, setup.env);
    const owner = as(windshift, root);
    await stream(owner, "held");
    for (const name of ["alice", "bob"]) {
      await owner.ensureConsumer({ stream: "held", name, subjects: [`held.${name}`] });
    }
    const [hers, his] = [
      await as(windshift, alice).subscribe("held", "alice"),
      await as(windshift, bob).subscribe("held", "bob"),
    ];
    const id = await owner.publish("held.alice");
    await hers.event();
    his.ack(id);
    expect(await his.confirmation()).toEqual({ ids: [], invalidIds: [id], temporaryFailedIds: [] });
    await hers.ackNow(id);
    await Promise.all([hers.cancel(), his.cancel()]);
  });

  test("sets limits for whom it names, which change with it", async ({ nats, setup }) => {
    const limited = (limits: string) =>
      policy(
        `{ name: l, for: { principals: [alice] }, limits: { ${limits} }, allow: [
          { verbs: [consume], streams: [limited], consumers: ["*"], subjects: ["limited.>"] },
          { verbs: [publish], subjects: ["limited.>"] }] }`,
      );
    setup.write(limited("open-subscriptions: 1"));
    await using windshift = await startWindshift(nats.url, setup.env);
    const [owner, hers] = [as(windshift, root), as(windshift, alice)];
    await stream(owner, "limited");
    await owner.ensureConsumer({ stream: "limited", name: "c", subjects: ["limited.>"] });
    const first = await hers.subscribe("limited", "c");
    expect(await failure(hers.subscribe("limited", "c"))).toMatchObject({
      status: "RESOURCE_EXHAUSTED",
      reason: "LIMIT_EXCEEDED",
      message: "the limit of 1 subscriptions at a time is reached",
    });
    const [a, b] = [await owner.subscribe("limited", "c"), await owner.subscribe("limited", "c")];
    setup.write(limited("open-subscriptions: 2"));
    await expect.poll(() => setup.audit().filter(({ event }) => event === "changed").length).toBe(1);
    const second = await hers.subscribe("limited", "c");
    expect(await failure(hers.subscribe("limited", "c"))).toMatchObject({ reason: "LIMIT_EXCEEDED" });
    for (const each of [first, second, a, b]) await each.cancel();
  });

  test("of which administrative calls are audited, with who made them and what came of it", async ({ nats, setup }) => {
    setup.write(policy());
    await using windshift = await startWindshift(nats.url, setup.env);
    const owner = as(windshift, root);
    await stream(owner, "audited");
    await failure(owner.deleteConsumer({ stream: "audited", id: "none" }));
    const subjects = Array.from({ length: 900 }, (_, n) => `audited.x${n}`);
    await owner.ensureConsumer({ stream: "audited", name: "many", subjects });
    await owner.publish("audited.a", "payload");
    const lines = setup.audit().filter(({ event }) => event === "administered");
    expect(lines).toMatchObject([
      {
        principal: "root",
        method: "windshift.events.v1alpha1.EventsService/EnsureStream",
        what: { verb: "ensure-stream", stream: "audited", subjects: ["audited.>"] },
        code: "OK",
      },
      { what: { verb: "delete-consumer", stream: "audited", consumer: "none" }, code: "NOT_FOUND" },
      { what: { verb: "ensure-consumer", filters: subjects.slice(0, 5), filtersCount: 900 }, code: "OK" },
    ]);
    expect(JSON.stringify(setup.audit())).not.toContain("payload");
  });

  test("with faults keeps the server from starting", async ({ nats, setup }) => {
    setup.write("version: 1\nrules: [{ name: a, for: everyone, allow: all }]\n");
    await expect(startWindshift(nats.url, setup.env)).rejects.toThrow(/^AUTH_POLICY_FILE=.*rules\[0\].allow/s);
  });
});

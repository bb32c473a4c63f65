/** Who is let in: every way to prove who one is, and what becomes of those who cannot. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Metadata } from "@grpc/grpc-js";
import { describe, expect, onTestFinished, test as base } from "vitest";
import { createToken } from "../../src/auth/tokens.ts";
import { METHODS, methodPaths } from "../../src/rpc.ts";
import { Authority, selfSigned } from "../support/certificate.ts";
import { CallError, type Client, EVENTS, failure, tlsCredentials } from "../support/client.ts";
import { uniqueName } from "../support/fixtures.ts";
import { AUDIENCE, ISSUER, type KeyServer, SigningKey, jwks, startKeyServer } from "../support/issuer.ts";
import { type NatsServer, startNats } from "../support/nats.ts";
import { type Windshift, startWindshift } from "../support/windshift.ts";

const HEALTH = "/grpc.health.v1.Health/Check";
const REFLECTION = ["v1", "v1alpha"].map(
  (version) => `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`,
);
const alice = createToken({ name: "alice" });
const bob = createToken({ name: "bob" });
const UNAUTHENTICATED = {
  status: "UNAUTHENTICATED",
  reason: "UNAUTHENTICATED",
  message: "the call needs a valid credential",
  metadata: {},
  fields: [],
};

const test = base.extend<{ $file: { nats: NatsServer }; $test: { folder: string } }>({
  nats: [
    async ({}, use) => {
      await using nats = await startNats();
      await use(nats);
    },
    { scope: "file" },
  ],
  folder: async ({}, use) => {
    const folder = mkdtempSync(join(tmpdir(), "windshift-auth-"));
    await use(folder);
    rmSync(folder, { recursive: true });
  },
});

function bearer(token: string): Record<string, string> {
  return { authorization: `Bearer ${token}` };
}

/** A file of tokens that lets alice and bob in. */
function tokensFile(folder: string, ...lines: string[]): string {
  const file = join(folder, "tokens");
  writeFileSync(file, (lines.length === 0 ? [alice.line, bob.line] : lines).join("\n"));
  return file;
}

/** The error that a call ends with, however many messages it has. */
async function endOf(client: Client, path: string, metadata: Record<string, string> = {}): Promise<CallError> {
  const { promise, resolve } = Promise.withResolvers<CallError>();
  const asIs = (bytes: Buffer): Buffer => bytes;
  const sent = new Metadata();
  for (const [name, value] of Object.entries(metadata)) sent.set(name, value);
  const call = client.grpc.makeBidiStreamRequest(path, asIs, asIs, sent, { deadline: Date.now() + 20_000 });
  call.on("error", () => undefined).on("data", () => undefined);
  call.on("status", (status) => resolve(new CallError(status)));
  call.end(Buffer.alloc(0));
  return promise;
}

async function subscribe(client: Client, name = uniqueName()) {
  await client.ensureStream({ name, source: { case: "subjects", value: { subjects: [`${name}.>`] } } });
  const { id } = await client.ensureConsumer({ stream: name, subjects: [`${name}.>`] });
  return client.subscribe(name, id);
}

describe("a server with tokens", () => {
  async function start(nats: NatsServer, folder: string, env: Record<string, string> = {}): Promise<Windshift> {
    return startWindshift(nats.url, { AUTH_TOKENS_FILE: tokensFile(folder), AUTH_REQUIRED: "true", ...env });
  }

  const paths = [...Object.values(METHODS).flatMap(methodPaths), ...REFLECTION];

  test("lets nobody call anything who has none, under any name", async ({ nats, folder }) => {
    await using windshift = await start(nats, folder);
    for (const path of paths) {
      const { status, reason, metadata, fields } = await endOf(windshift.client, path);
      // What is no call of the contract has no details.
      const isOurs = !path.startsWith("/grpc.");
      expect({ path, status, metadata, fields }).toEqual({ path, status: "UNAUTHENTICATED", metadata: {}, fields: [] });
      if (isOurs) expect(reason).toBe("UNAUTHENTICATED");
    }
  });

  test("lets in whoever has one, and tells the log what is wrong with others", async ({ nats, folder }) => {
    await using windshift = await start(nats, folder);
    const hers = windshift.connect(undefined, bearer(alice.token));
    const subscription = await subscribe(hers);
    await subscription.cancel();
    await failure(hers.subscribe("none", "none"));
    expect(windshift.log).toContainEqual(
      expect.objectContaining({ principal: "alice", reason: expect.stringMatching(/_NOT_FOUND$/) }),
    );
    const wrong = {
      [alice.token]: "authorization is not one Bearer token",
      [`Bearer ${bob.token}x`]: "the token is not known",
    };
    for (const [authorization, why] of Object.entries(wrong)) {
      const options = { metadata: { authorization } };
      expect(await failure(windshift.client.ensureStore({ store: "a" }, options))).toMatchObject(UNAUTHENTICATED);
      expect(windshift.log).toContainEqual(
        expect.objectContaining({ code: "UNAUTHENTICATED", err: expect.objectContaining({ message: why }) }),
      );
    }
    expect(JSON.stringify(windshift.log)).not.toMatch(/wst_|sha256/);
  });

  test("answers health to everybody, and reflection to those it knows", async ({ nats, folder }) => {
    await using windshift = await start(nats, folder);
    await windshift.client.raw(HEALTH, Buffer.alloc(0));
    for (const path of REFLECTION) {
      const error = await endOf(windshift.client, path, bearer(alice.token));
      expect(error).toMatchObject({ status: "OK" });
    }
  });

  test("follows its file, and ends the subscriptions of those who are taken out", async ({ nats, folder }) => {
    await using windshift = await start(nats, folder);
    const [hers, his] = [alice, bob].map(({ token }) => windshift.connect(undefined, bearer(token))) as [
      Client,
      Client,
    ];
    const [kept, lost] = [await subscribe(hers), await subscribe(his)];
    writeFileSync(join(folder, "tokens"), "nonsense");
    await expect
      .poll(() => windshift.log.map(({ msg }) => msg))
      .toContain("the file of tokens changed and cannot be used: what was there before stays in force");
    await his.ensureStore({ store: "still" });
    writeFileSync(join(folder, "tokens"), alice.line);
    expect(await lost.ended).toMatchObject({ ...UNAUTHENTICATED });
    expect(await failure(his.ensureStore({ store: "a" }))).toMatchObject(UNAUTHENTICATED);
    await hers.ensureStore({ store: "a" });
    expect(await kept.finish()).toBeUndefined();
  });

  test("bears endless credentials while it serves others", async ({ nats, folder }) => {
    await using windshift = await start(nats, folder, { GRPC_MAX_METADATA_SIZE: "1MiB" });
    const known = windshift.connect(undefined, bearer(alice.token));
    const send = async (bytes: number): Promise<CallError> => {
      const options = { metadata: bearer("x".repeat(bytes)) };
      return failure(windshift.connect().ensureStore({ store: "a" }, options));
    };
    const flood = Array.from({ length: 8 }, async () => send(50_000));
    const tooMuch = Array.from({ length: 8 }, async () => send(2_000_000));
    await known.ensureStore({ store: "a" });
    for (const error of await Promise.all(flood)) expect(error).toMatchObject(UNAUTHENTICATED);
    for (const { status } of await Promise.all(tooMuch))
      expect(status).toMatch(/RESOURCE_EXHAUSTED|UNAVAILABLE|INTERNAL/);
    await known.ensureStore({ store: "a" });
  });

  test("writes an audit log of those whom it turned away, without what they showed", async ({ nats, folder }) => {
    const file = join(folder, "audit");
    await using windshift = await start(nats, folder, { AUDIT_LOG: file });
    await failure(windshift.client.ensureStore({ store: "a" }, { metadata: bearer(`${bob.token}x`) }));
    await endOf(windshift.client, REFLECTION[0]!);
    writeFileSync(join(folder, "tokens"), alice.line);
    await expect
      .poll(() => auditOf(file))
      .toMatchObject([
        {
          log: "audit",
          event: "unauthenticated",
          method: "windshift.state.v1alpha1.StateService/EnsureStore",
          why: "the token is not known",
        },
        { event: "unauthenticated", method: REFLECTION[0], why: "there is no credential" },
        { event: "changed", what: "the file of tokens", tokens: 1 },
      ]);
    expect(readFileSync(file, "utf8")).not.toMatch(/wst_|sha256/);
  });

  test.for<[string, string, RegExp]>([
    ["a token without its hash", "alice", /^AUTH_TOKENS_FILE=.*tokens: line 1: after the name there has to be sha256/],
    ["a file that it cannot read", "", /EISDIR|AUTH_TOKENS_FILE/],
  ])("does not start with %s", async ([what, line, problem], { nats, folder }) => {
    const file = what.startsWith("a file") ? folder : tokensFile(folder, line);
    await expect(startWindshift(nats.url, { AUTH_TOKENS_FILE: file })).rejects.toThrow(problem);
  });
});

describe("a server with JWTs", () => {
  async function start(nats: NatsServer, keys: KeyServer, env: Record<string, string> = {}): Promise<Windshift> {
    return startWindshift(nats.url, {
      AUTH_JWT_ISSUER: ISSUER,
      AUTH_JWT_AUDIENCE: AUDIENCE,
      AUTH_JWT_JWKS_URL: keys.url,
      AUTH_JWT_CLOCK_TOLERANCE: "0",
      ...env,
    });
  }

  test("lets in whoever the issuer vouches for, and nobody else", async ({ nats }) => {
    const [key, stranger] = [await SigningKey.make(), await SigningKey.make()];
    await using keys = await startKeyServer(jwks(key));
    await using windshift = await start(nats, keys);
    const client = windshift.connect(undefined, bearer(await key.sign()));
    // Many at once with a credential that is not known yet.
    await Promise.all(Array.from({ length: 20 }, async () => client.ensureStore({ store: "a" })));
    const subscription = await subscribe(
      windshift.connect(undefined, bearer(await key.sign({ claims: { sub: "b" } }))),
    );
    await subscription.cancel();
    const strangers = [
      await stranger.sign(),
      await key.sign({ claims: { aud: "x" } }),
      await key.sign({ expiresIn: -1 }),
    ];
    for (const token of strangers) {
      expect(await failure(windshift.client.ensureStore({ store: "a" }, { metadata: bearer(token) }))).toMatchObject(
        UNAUTHENTICATED,
      );
      const stream = windshift.client.events({ metadata: bearer(token) });
      stream.send({ case: "subscribe", value: { stream: "none", consumer: "none" } });
      expect(await stream.ended).toMatchObject(UNAUTHENTICATED);
    }
    expect(JSON.stringify(windshift.log)).not.toContain(strangers[0]!.split(".")[2]);
  });

  test("lets a stream wait until its credential is proved, and then has all that it sent", async ({ nats }) => {
    const key = await SigningKey.make();
    await using keys = await startKeyServer(jwks(key));
    await using windshift = await start(nats, keys);
    const known = windshift.connect(undefined, bearer(await key.sign()));
    await known.ensureStream({ name: "fresh", source: { case: "subjects", value: { subjects: ["fresh.>"] } } });
    await known.ensureConsumer({ stream: "fresh", name: "c", subjects: ["fresh.>"] });
    for (const jti of ["1", "2", "3"]) {
      const metadata = bearer(await key.sign({ claims: { jti } }));
      const call = windshift.client.events({ metadata });
      call.send({ case: "subscribe", value: { stream: "fresh", consumer: "c" } });
      call.ack(1n);
      call.ack(2n);
      expect((await call.next()).response.case).toBe("subscribed");
      for (const id of [1n, 2n]) expect((await call.confirmation()).invalidIds).toEqual([id]);
      expect(await call.finish()).toBeUndefined();
      const reflection = bearer(await key.sign({ claims: { jti: `${jti} again` } }));
      expect(await endOf(windshift.client, REFLECTION[0]!, reflection)).toMatchObject({ status: "OK" });
    }
  });

  test("ends a subscription when its credential does", async ({ nats }) => {
    const key = await SigningKey.make();
    await using keys = await startKeyServer(jwks(key));
    await using windshift = await start(nats, keys);
    const brief = await subscribe(windshift.connect(undefined, bearer(await key.sign({ expiresIn: 3 }))));
    const long = await subscribe(windshift.connect(undefined, bearer(await key.sign())));
    expect(await brief.ended).toMatchObject(UNAUTHENTICATED);
    expect(await long.finish()).toBeUndefined();
  });

  test("ends subscriptions when their key is rotated away", async ({ nats }) => {
    const [first, second] = [await SigningKey.make("first"), await SigningKey.make("second")];
    await using keys = await startKeyServer(jwks(first, second));
    await using windshift = await start(nats, keys, { AUTH_JWT_JWKS_REFRESH: "1s" });
    const lost = await subscribe(windshift.connect(undefined, bearer(await first.sign())));
    const kept = await subscribe(windshift.connect(undefined, bearer(await second.sign())));
    keys.answer = jwks(second);
    expect(await lost.ended).toMatchObject(UNAUTHENTICATED);
    expect(await kept.finish()).toBeUndefined();
  });

  test("starts while the issuer is away, and says so to whoever calls then", async ({ nats }) => {
    const key = await SigningKey.make();
    await using keys = await startKeyServer(503);
    await using windshift = await start(nats, keys);
    const call = windshift.client.ensureStore({ store: "a" }, { metadata: bearer(await key.sign()) });
    expect(await failure(call)).toMatchObject({
      status: "UNAVAILABLE",
      reason: "AUTHENTICATION_UNAVAILABLE",
      retryAfterMs: 1000,
      metadata: { outcome: "not_stored" },
    });
  });
});

describe("a server with client certificates", () => {
  const pair = selfSigned();

  test.skipIf(pair === undefined)("knows callers by them, and takes a token before one", async ({ nats, folder }) => {
    using authority = new Authority();
    for (const [name, content] of Object.entries({ cert: pair!.cert, key: pair!.key, ca: authority.cert })) {
      writeFileSync(join(folder, name), content);
    }
    const audit = join(folder, "audit");
    await using windshift = await startWindshift(nats.url, {
      TLS_CERT_FILE: join(folder, "cert"),
      TLS_KEY_FILE: join(folder, "key"),
      TLS_CLIENT_CA_FILE: join(folder, "ca"),
      TLS_CLIENT_CERTIFICATE: "optional",
      AUTH_CERTIFICATE_NAME: "uri",
      AUTH_TOKENS_FILE: tokensFile(folder),
      PRINCIPAL_CALLS_PER_SECOND: "1",
      AUDIT_LOG: audit,
    });
    const orders = authority.issue({ subject: "/CN=orders", names: "URI:spiffe://shop/orders" });
    const nameless = authority.issue({ subject: "/CN=orders" });
    const connect = (own?: Parameters<typeof tlsCredentials>[1], metadata?: Record<string, string>) =>
      windshift.connect(tlsCredentials(pair!.cert, own), metadata);
    const limited = async (client: Client): Promise<void> => {
      await client.ensureStore({ store: "a" });
      await expect.poll(async () => status(client.ensureStore({ store: "a" }))).toBe("RESOURCE_EXHAUSTED");
    };
    await limited(connect(orders));
    await limited(connect(orders, bearer(alice.token)));
    for (const client of [connect(), connect(nameless), connect(orders, bearer("none"))]) {
      expect(await failure(client.ensureStore({ store: "a" }))).toMatchObject(UNAUTHENTICATED);
    }
    const lines = auditOf(audit).filter(({ event }) => event === "limited");
    const names = new Set(lines.map(({ principal, principalKind }) => `${String(principalKind)} ${String(principal)}`));
    expect([...names]).toEqual(["certificate spiffe://shop/orders", "token alice"]);
    expect(
      auditOf(audit)
        .filter(({ event }) => event === "unauthenticated")
        .map(({ why }) => why),
    ).toEqual([
      "there is no credential",
      "the client certificate has 0 usable names of the kind uri, not one",
      "the token is not known",
    ]);
  });
});

describe("limits of a principal", () => {
  test("hold it back while others work", async ({ nats, folder }) => {
    await using windshift = await startWindshift(nats.url, {
      AUTH_TOKENS_FILE: tokensFile(folder),
      PRINCIPAL_BYTES_PER_SECOND: "10KiB",
      PRINCIPAL_STREAMS: "1",
    });
    const [hers, his] = [alice, bob].map(({ token }) => windshift.connect(undefined, bearer(token))) as [
      Client,
      Client,
    ];
    const subscription = await subscribe(hers, "limits");
    await hers.publish("limits.a", "x".repeat(1_000_000));
    expect(await failure(hers.publish("limits.a"))).toMatchObject({
      status: "RESOURCE_EXHAUSTED",
      reason: "LIMIT_EXCEEDED",
      message: "the limit of 10240 bytes per second is reached",
      metadata: { outcome: "not_stored" },
      retryAfterMs: expect.any(Number),
    });
    await his.publish("limits.b");
    const second = hers.events();
    expect(await second.ended).toMatchObject({ reason: "LIMIT_EXCEEDED" });
    const other = await his.subscribe(
      "limits",
      (await his.ensureConsumer({ stream: "limits", subjects: ["limits.>"] })).id,
    );
    await Promise.all([subscription.cancel(), other.cancel()]);
  });

  test("end with what was held: a stream that is over makes room", async ({ nats, folder }) => {
    await using windshift = await startWindshift(nats.url, {
      AUTH_TOKENS_FILE: tokensFile(folder),
      PRINCIPAL_STREAMS: "1",
    });
    const client = windshift.connect(undefined, bearer(alice.token));
    for (let i = 0; i < 3; i++) await (await subscribe(client)).cancel();
    const waiting = client.events();
    await expect.poll(async () => status(client.subscribe("none", "none"))).toBe("RESOURCE_EXHAUSTED");
    await waiting.cancel();
    await expect.poll(async () => status(client.subscribe("none", "none"))).toBe("NOT_FOUND");
  });

  test("slow a stream down that sends too much, and answer all of it", async ({ nats, folder }) => {
    await using windshift = await startWindshift(nats.url, {
      AUTH_TOKENS_FILE: tokensFile(folder),
      PRINCIPAL_CALLS_PER_SECOND: "20",
    });
    const client = windshift.connect(undefined, bearer(alice.token));
    const subscription = await subscribe(client);
    for (let id = 1n; id <= 40n; id++) subscription.ack(id);
    for (let i = 0; i < 40; i++) expect((await subscription.confirmation()).invalidIds).toHaveLength(1);
    await subscription.cancel();
  });
});

describe("a server without any authentication", () => {
  test("says so once, and lets everybody in", async ({ nats }) => {
    await using windshift = await startWindshift(nats.url);
    const warnings = windshift.log.filter(({ level }) => level === "warn");
    expect(warnings.map(({ msg }) => msg)).toEqual([
      expect.stringMatching(/^everybody who reaches the gRPC port is let in: .*AUTH_TOKENS_FILE/),
    ]);
    await windshift.client.ensureStore({ store: "a" }, { metadata: bearer("whatever") });
  });

  test("does not start where authentication is required", async ({ nats }) => {
    await expect(startWindshift(nats.url, { AUTH_REQUIRED: "true" })).rejects.toThrow(
      /AUTH_REQUIRED=true: needs a way/,
    );
  });
});

test("health, reflection and metrics can be switched off", async ({ nats }) => {
  await using windshift = await startWindshift(nats.url, {
    GRPC_HEALTH: "false",
    GRPC_REFLECTION: "false",
    HEALTH_METRICS: "false",
  });
  for (const path of [HEALTH, ...REFLECTION]) {
    expect(await endOf(windshift.client, path)).toMatchObject({ status: "UNIMPLEMENTED" });
  }
  const { healthPort } = windshift.daemon;
  expect((await fetch(`http://127.0.0.1:${healthPort}/metrics`)).status).toBe(404);
  expect((await fetch(`http://127.0.0.1:${healthPort}/healthz`)).status).toBe(200);
});

test("reflection does not list a health service that is switched off", async ({ nats }) => {
  await using windshift = await startWindshift(nats.url, { GRPC_HEALTH: "false" });
  const asIs = (bytes: Buffer): Buffer => bytes;
  const call = windshift.client.grpc.makeBidiStreamRequest(REFLECTION[0]!, asIs, asIs);
  onTestFinished(() => call.cancel());
  call.on("error", () => undefined);
  const answer = new Promise<Buffer>((resolve) => call.once("data", resolve));
  // list_services: ""
  call.write(Buffer.of(0x3a, 0x00));
  expect((await answer).toString("latin1")).toContain(EVENTS.slice(1, -1));
  expect((await answer).toString("latin1")).not.toContain("grpc.health.v1");
});

async function status(call: Promise<unknown>): Promise<string> {
  return call.then(
    () => "OK",
    (error: unknown) => (error as CallError).status,
  );
}

function auditOf(file: string): Record<string, unknown>[] {
  const lines = readFileSync(file, "utf8").trim().split("\n");
  return lines.filter((line) => line !== "").map((line) => JSON.parse(line) as Record<string, unknown>);
}

/** How the server gets into a NATS that does not take everybody, and what it says when it is not let in. */
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { nkeys } from "@nats-io/nats-core";
import { describe, expect, test as base, vi } from "vitest";
import { textOf } from "../support/client.ts";
import { createSource, publishUntilStored } from "../support/consuming.ts";
import { type NatsServer, startNats } from "../support/nats.ts";
import { type Windshift, startWindshift } from "../support/windshift.ts";

const run = promisify(execFile);
const LOCAL = "127.0.0.1";

const test = base.extend<{ folder: string }>({
  folder: async ({}, use) => {
    const folder = await mkdtemp(join(tmpdir(), "windshift-credentials-"));
    await use(folder);
    await rm(folder, { recursive: true, force: true });
  },
});

describe("a NATS that asks for credentials", () => {
  const user = nkeys.createUser();
  const seed = text(user.getSeed());

  test.for<[name: string, config: string, env: Record<string, string>, inUrl?: string]>([
    ["user and password", `authorization { user: "ws", password: "s3cret" }`, env("NATS_USER=ws NATS_PASSWORD=s3cret")],
    ["user and password in the URL", `authorization { user: "ws", password: "a b" }`, {}, "ws:a%20b@"],
    ["a token", `authorization { token: "s3cret" }`, env("NATS_TOKEN=s3cret")],
    ["a token in the URL", `authorization { token: "s3cret" }`, {}, "s3cret@"],
    ["an nkey", `authorization { users: [{ nkey: ${user.getPublicKey()} }] }`, env(`NATS_NKEY_SEED=${seed}`)],
  ])("lets in by %s, and nobody else", async ([, config, credentials, inUrl = ""]) => {
    await using nats = await startNats({ config });
    await using windshift = await startWindshift(`nats://${inUrl}${LOCAL}:${nats.port}`, credentials);
    await expectService(windshift);
    await using stranger = await startWindshift(nats.url);
    await expectNotReady(stranger);
    await expectServiceAfterRestart(nats, windshift);
    expect(JSON.stringify([windshift.log, stranger.log])).not.toMatch(/s3cret|a b|SU[A-Z2-7]{56}/);
  });

  test("lets in by a credentials file", async ({ folder }) => {
    const operator = nkeys.createOperator();
    const [account, system] = [nkeys.createAccount(), nkeys.createAccount()];
    const limits = { subs: -1, conn: -1, data: -1, payload: -1, imports: -1, exports: -1, wildcards: true };
    const accountJwt = jwt(operator, account.getPublicKey(), "account", {
      limits: { ...limits, mem_storage: -1, disk_storage: -1 },
    });
    const systemJwt = jwt(operator, system.getPublicKey(), "account", { limits });
    const userJwt = jwt(account, user.getPublicKey(), "user", { subs: -1, data: -1, payload: -1 });
    await using nats = await startNats({
      config: [
        `operator: ${jwt(operator, operator.getPublicKey(), "operator", {})}`,
        "resolver: MEMORY",
        `resolver_preload: { ${account.getPublicKey()}: ${accountJwt}, ${system.getPublicKey()}: ${systemJwt} }`,
        `system_account: ${system.getPublicKey()}`,
      ].join("\n"),
    });
    const file = join(folder, "nats.creds");
    const part = (name: string, content: string): string =>
      `-----BEGIN ${name}-----\n${content}\n------END ${name}------\n`;
    await writeFile(file, part("NATS USER JWT", userJwt) + part("USER NKEY SEED", seed));
    await using windshift = await startWindshift(nats.url, { NATS_CREDS_FILE: file });
    await expectService(windshift);
    await expectServiceAfterRestart(nats, windshift);
  });
});

describe("a NATS with TLS", () => {
  test("is trusted by its authority, and lets in by a client certificate", async ({ folder, skip }) => {
    skip(!(await hasOpenssl()), "needs openssl");
    const { ca, server, client } = await certificates(folder);
    const files = `cert_file: "${server.cert}", key_file: "${server.key}", ca_file: "${ca}"`;
    await using nats = await startNats({ config: `tls { ${files}, verify: true }` });
    const url = `tls://localhost:${nats.port}`;
    const certificate = { NATS_TLS_CERT_FILE: client.cert, NATS_TLS_KEY_FILE: client.key };

    await using windshift = await startWindshift(url, { NATS_TLS_CA_FILE: ca, ...certificate });
    await expectService(windshift);
    await expectServiceAfterRestart(nats, windshift);
    await using untrusting = await startWindshift(url, certificate);
    await expectNotReady(untrusting);
    await using anonymous = await startWindshift(url, { NATS_TLS_CA_FILE: ca });
    await expectNotReady(anonymous);
  });

  test.for<[address: string, isFor: string]>([
    [LOCAL, `IP:${LOCAL}`],
    [LOCAL, "IP:127.0.0.9"],
    ["localhost", `IP:${LOCAL}`],
  ])(
    "at %s with a certificate for %s is trusted only if that is its address",
    async ([address, isFor], { folder, skip }) => {
      skip(!(await hasOpenssl()), "needs openssl");
      const { ca, server } = await certificates(folder, isFor);
      await using nats = await startNats({ config: `tls { cert_file: "${server.cert}", key_file: "${server.key}" }` });
      await using windshift = await startWindshift(`tls://${address}:${nats.port}`, { NATS_TLS_CA_FILE: ca });
      if (isFor === `IP:${address}`) await expectService(windshift);
      else await expectNotReady(windshift);
    },
  );

  test("may want the handshake first", async ({ folder, skip }) => {
    skip(!(await hasOpenssl()), "needs openssl");
    const { ca, server } = await certificates(folder);
    const files = `cert_file: "${server.cert}", key_file: "${server.key}"`;
    await using nats = await startNats({ config: `tls { ${files}, handshake_first: true }` });
    await using windshift = await startWindshift(nats.url, { NATS_TLS_CA_FILE: ca, NATS_TLS_HANDSHAKE_FIRST: "true" });
    await expectService(windshift);
    await expectServiceAfterRestart(nats, windshift);
  });

  test("is not used without TLS when TLS is asked for", async () => {
    await using nats = await startNats();
    await using windshift = await startWindshift(nats.url, { NATS_TLS: "true" });
    await expectNotReady(windshift);
  });
});

test("a server of the list that is dead does not matter", async () => {
  await using dead = await startNats();
  await dead.stop();
  await using nats = await startNats();
  await using windshift = await startWindshift(`${dead.url},${nats.url}`);
  await expectService(windshift);
});

// Which one is tried first is chance: only a dead one that was tried can be forgotten.
test.for([1, 2, 3, 4])("a server of the list that was dead at the start takes over later (%i)", async () => {
  await using first = await startNats();
  await first.stop();
  await using second = await startNats();
  await using windshift = await startWindshift(`${first.url},${second.url}`);
  await expectService(windshift);
  await first.restart();
  await second.stop();
  await vi.waitUntil(() => isBack(windshift), PATIENT);
  await expectService(windshift);
});

test("a NATS that comes later is found", async () => {
  await using nats = await startNats();
  await nats.stop();
  await using windshift = await startWindshift(nats.url);
  await expectNotReady(windshift);
  await nats.restart();
  await expectService(windshift);
});

const PATIENT = { timeout: 30_000 };

async function expectService({ client, daemon }: Windshift): Promise<void> {
  await vi.waitUntil(async () => (await readiness(daemon.healthPort)).status === 200, PATIENT);
  const { stream, consumer } = await createSource(client, { events: 1 });
  const call = await client.subscribe(stream, consumer);
  await call.ackNow((await call.event()).id);
  await call.cancel();
}

/** A subscription goes on with a NATS that went away and came back, without anybody doing anything. */
async function expectServiceAfterRestart(nats: NatsServer, windshift: Windshift): Promise<void> {
  const { client } = windshift;
  const { stream, consumer, subject } = await createSource(client);
  const call = await client.subscribe(stream, consumer);
  // More than fits into one record of TLS and one read of a socket.
  const large = "x".repeat(200_000);
  const first = await client.publish(subject, large);
  const before = await call.event();
  expect(before.id).toBe(first);
  expect(textOf(before.data)).toBe(large);
  await call.ackNow(first);
  await nats.restart();
  await vi.waitUntil(() => isBack(windshift), PATIENT);
  const second = await publishUntilStored(client, subject, "second");
  // A lone nats-server that ends may forget an acknowledgement.
  let event = await call.event();
  while (event.id === first) event = await call.event();
  expect(event.id).toBe(second);
  const third = await client.publish(subject, large);
  const after = await call.event();
  expect(after.id).toBe(third);
  expect(textOf(after.data)).toBe(large);
  for (const id of [second, third]) await call.ackNow(id);
  await call.cancel();
}

function isBack({ log }: Windshift): boolean {
  return log.some(({ msg }) => msg === "connected to NATS again");
}

async function expectNotReady({ daemon }: Windshift): Promise<void> {
  const { status, body } = await readiness(daemon.healthPort);
  expect(status).toBe(503);
  expect(body).toContain("not connected to NATS");
}

async function readiness(port: number): Promise<{ status: number; body: string }> {
  const response = await fetch(`http://${LOCAL}:${port}/readyz`);
  return { status: response.status, body: await response.text() };
}

function env(assignments: string): Record<string, string> {
  return Object.fromEntries(assignments.split(" ").map((each) => each.split("=")));
}

/** A token of NATS' decentralized authentication, signed by its issuer. */
function jwt(issuer: nkeys.KeyPair, subject: string, type: string, claims: object): string {
  const encode = (part: object | Uint8Array): string =>
    Buffer.from(part instanceof Uint8Array ? part : JSON.stringify(part)).toString("base64url");
  const header = encode({ typ: "JWT", alg: "ed25519-nkey" });
  const body = encode({ iss: issuer.getPublicKey(), sub: subject, name: type, nats: { ...claims, type, version: 2 } });
  return `${header}.${body}.${encode(issuer.sign(Buffer.from(`${header}.${body}`)))}`;
}

function text(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("utf8");
}

async function hasOpenssl(): Promise<boolean> {
  return run("openssl", ["version"]).then(
    () => true,
    () => false,
  );
}

/** An authority, and a certificate of it for the server and for a client. */
async function certificates(folder: string, names = `DNS:localhost,IP:${LOCAL}`) {
  const path = (name: string): string => join(folder, name);
  const openssl = (args: string): unknown => run("openssl", args.split(" "), { cwd: folder });
  await openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem");
  await writeFile(path("server.ext"), `subjectAltName=${names}\nextendedKeyUsage=serverAuth\n`);
  await writeFile(path("client.ext"), "extendedKeyUsage=clientAuth\n");
  for (const name of ["server", "client"]) {
    await openssl(`req -newkey rsa:2048 -nodes -subj /CN=${name} -keyout ${name}.key -out ${name}.csr`);
    const ca = "-CA ca.pem -CAkey ca.key -CAcreateserial";
    await openssl(`x509 -req -in ${name}.csr ${ca} -days 2 -extfile ${name}.ext -out ${name}.pem`);
  }
  const files = (name: string) => ({ cert: path(`${name}.pem`), key: path(`${name}.key`) });
  return { ca: path("ca.pem"), server: files("server"), client: files("client") };
}

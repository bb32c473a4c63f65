import { createHmac, createPublicKey, type JsonWebKey } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { Authenticator } from "../../../src/auth/authenticator.ts";
import { JwtVerifier } from "../../../src/auth/jwt.ts";
import { FileKeys, type KeySource, RemoteKeys } from "../../../src/auth/keys.ts";
import { Tokens, createToken } from "../../../src/auth/tokens.ts";
import type { WindshiftError } from "../../../src/errors.ts";
import {
  AUDIENCE,
  ISSUER,
  SILENT,
  type KeyServer,
  SigningKey,
  type TokenChanges,
  jwks,
  startKeyServer,
} from "../../support/issuer.ts";
import { silentLogger } from "../../support/recording-logger.ts";

const OPTIONS = {
  issuer: ISSUER,
  audiences: ["other", AUDIENCE],
  algorithms: ["ES256", "RS256"],
  clockToleranceMs: 5000,
  nameClaim: "sub",
  groupsClaim: "groups",
};

let key: SigningKey;
let stranger: SigningKey;
let server: KeyServer;
beforeAll(async () => {
  [key, stranger] = await Promise.all([SigningKey.make(), SigningKey.make()]);
  server = await startKeyServer(jwks(key));
});
afterAll(async () => server[Symbol.asyncDispose]());

function remote(more: { cooldownMs?: number; timeoutMs?: number; url?: string } = {}): RemoteKeys {
  const keys = new RemoteKeys({ url: server.url, refreshMs: 60_000, timeoutMs: 5_000, ...more }, silentLogger);
  onTestFinished(() => keys[Symbol.dispose]());
  return keys;
}

async function started(more: Parameters<typeof remote>[0] = {}): Promise<RemoteKeys> {
  const keys = remote(more);
  await keys.start();
  return keys;
}

function authenticator(keys: KeySource, options: Partial<typeof OPTIONS> = {}): Authenticator {
  const made = new Authenticator({ jwt: new JwtVerifier({ ...OPTIONS, ...options }, keys) });
  keys.onChange = () => made.forget();
  return made;
}

function proof(authorization?: string) {
  return { metadata: { get: () => authorization }, peerCertificate: undefined };
}

/** Who calls with a token, or the reason of why not and what the log says. */
async function who(by: Authenticator, authorization: string | undefined): Promise<string> {
  try {
    return (await by.authenticate(proof(authorization))).principal.name;
  } catch (error) {
    const { reason, message, cause } = error as WindshiftError;
    if (reason === "UNAUTHENTICATED") expect(message).toBe("the call needs a valid credential");
    return `${reason}: ${(cause as Error | undefined)?.message ?? message}`;
  }
}

test("without any way to prove anything everybody is anonymous, whatever they send", async () => {
  expect(await who(new Authenticator({}), "Bearer nonsense")).toBe("anonymous");
});

describe("a JWT", () => {
  test("tells who calls, their groups and claims, and until when", async () => {
    const claims = { groups: ["shop"], tenant: "acme" };
    const token = await key.sign({ claims, expiresIn: 60 });
    const found = await authenticator(await started()).authenticate(proof(`Bearer ${token}`));
    expect(found.principal).toMatchObject({ name: "orders", kind: "jwt", groups: ["shop"], claims });
    expect(found.expiresAtMs - Date.now()).toBeGreaterThan(60_000);
    expect(found.expiresAtMs - Date.now()).toBeLessThanOrEqual(65_000);
  });

  test("is checked once, and known at once from then on", async () => {
    const by = authenticator(await started());
    const authorization = `Bearer ${await key.sign()}`;
    const [first, second] = [by.authenticate(proof(authorization)), by.authenticate(proof(authorization))];
    expect(first).toBe(second);
    expect(by.authenticate(proof(authorization))).toBe(first);
    expect(by.authenticate(proof(authorization))).toBeInstanceOf(Promise);
    expect(by.authenticate(proof(`${authorization} `))).not.toBe(first);
    expect(await first).toBe(by.authenticate(proof(authorization)));
  });

  test.each<[string, TokenChanges, RegExp]>([
    ["expired", { expiresIn: -6 }, /"exp" claim timestamp check failed/],
    ["not valid yet", { notBeforeIn: 60 }, /"nbf" claim timestamp check failed/],
    ["for another audience", { claims: { aud: "windshif" } }, /unexpected "aud" claim value/],
    ["for no audience", { claims: { aud: undefined } }, /missing required "aud" claim/],
    ["of another issuer", { claims: { iss: `${ISSUER}/` } }, /unexpected "iss" claim value/],
    ["without an end", { claims: { exp: undefined } }, /missing required "exp" claim/],
    ["without a name", { claims: { sub: undefined } }, /its claim sub is no name/],
    ["with an empty name", { claims: { sub: "" } }, /its claim sub is no name/],
    ["with a name of several lines", { claims: { sub: "a\nb" } }, /its claim sub is no name/],
    ["with a name that is too long", { claims: { sub: "a".repeat(257) } }, /its claim sub is no name/],
    ["with a number for a name", { claims: { sub: 7 } }, /"?sub"?/],
    ["with groups that are no texts", { claims: { groups: [1] } }, /its claim groups is no list of groups/],
    ["with groups of another kind", { claims: { groups: { a: 1 } } }, /its claim groups is no list of groups/],
    ["with a critical extension", { header: { crit: ["b64"], b64: true } }, /./],
    ["of a key that is not known", { header: { kid: "unknown" } }, /its key is not among those of the issuer/],
  ])("that is %s is refused", async (_, changes, problem) => {
    const token = await key.sign(changes).catch(() => "a.b.c");
    expect(await who(authenticator(await started()), `Bearer ${token}`)).toMatch(problem);
  });

  test("within the tolerance of clocks is taken", async () => {
    const by = authenticator(await started());
    expect(await who(by, `Bearer ${await key.sign({ expiresIn: -3, notBeforeIn: 3 })}`)).toBe("orders");
  });

  test("that somebody else signed is refused", async () => {
    const by = authenticator(await started());
    expect(await who(by, `Bearer ${await stranger.sign()}`)).toMatch(
      /UNAUTHENTICATED: .*signature verification failed/,
    );
  });

  test("that was changed after it was signed is refused", async () => {
    const by = authenticator(await started());
    const [header, , signature] = (await key.sign()).split(".");
    const [, payload] = (await key.sign({ claims: { sub: "admin" } })).split(".");
    expect(await who(by, `Bearer ${header}.${payload}.${signature}`)).toMatch(/signature verification failed/);
  });

  test.each(["none", "None", "HS256", "ES384"])("that names the algorithm %s is refused", async (alg) => {
    const by = authenticator(await started());
    const [, payload, signature] = (await key.sign()).split(".");
    const header = Buffer.from(JSON.stringify({ alg, kid: "key-1" })).toString("base64url");
    for (const end of [signature, "", "AA"]) {
      expect(await who(by, `Bearer ${header}.${payload}.${end}`)).toMatch(/^UNAUTHENTICATED: /);
    }
  });

  test("that is signed with the public key as if it were a secret is refused", async () => {
    const by = authenticator(await started());
    const [, payload] = (await key.sign()).split(".");
    const header = Buffer.from(JSON.stringify({ alg: "HS256", kid: "key-1" })).toString("base64url");
    const publicKey = createPublicKey({ key: key.publicJwk as JsonWebKey, format: "jwk" });
    for (const secret of [publicKey.export({ type: "spki", format: "pem" }), JSON.stringify(key.publicJwk)]) {
      const signature = createHmac("sha256", secret).update(`${header}.${payload}`).digest("base64url");
      expect(await who(by, `Bearer ${header}.${payload}.${signature}`)).toMatch(/"alg".*not allowed/);
    }
  });

  test("of an algorithm that is not allowed is refused, although its key is known", async () => {
    const by = authenticator(await started(), { algorithms: ["RS256"] });
    expect(await who(by, `Bearer ${await key.sign()}`)).toMatch(/"alg".*not allowed/);
  });

  test("brings its key along in vain", async () => {
    const by = authenticator(await started());
    const token = await stranger.sign({ header: { jwk: stranger.publicJwk, jku: `${server.url}/other` } });
    expect(await who(by, `Bearer ${token}`)).toMatch(/signature verification failed/);
  });

  test.each<[string, string | undefined]>([
    ["nothing", undefined],
    ["an empty text", ""],
    ["a scheme alone", "Bearer"],
    ["another scheme", "Basic b3JkZXJzOng="],
    ["no scheme", "a.b.c"],
    ["two of them", "Bearer a.b.c, Bearer a.b.c"],
    ["something in three parts", "Bearer a.b.c"],
    ["something in five parts", "Bearer a.b.c.d.e"],
    ["a text that is no token", "Bearer ünïcode"],
    ["an endless text", `Bearer ${"a".repeat(20_000)}`],
    ["an endless JWT", `Bearer ${"a".repeat(8_000)}.${"b".repeat(8_000)}.${"c".repeat(8_000)}`],
  ])("is not %s", async (_, authorization) => {
    expect(await who(authenticator(await started()), authorization)).toMatch(/^UNAUTHENTICATED: /);
  });

  test("may come under any case of the scheme", async () => {
    expect(await who(authenticator(await started()), `bEARER ${await key.sign()}`)).toBe("orders");
  });

  test.each<[claim: string, claims: Record<string, unknown>, groups: string[]]>([
    ["groups", {}, []],
    ["groups", { groups: null }, []],
    ["groups", { groups: "one" }, ["one"]],
    ["realm_access.roles", { realm_access: { roles: ["a", "b"] } }, ["a", "b"]],
    ["https://shop.example/roles", { "https://shop.example/roles": ["a"] }, ["a"]],
    ["a.b", { "a.b": ["whole"], a: { b: ["parts"] } }, ["whole"]],
    ["constructor", {}, []],
    ["a.b.toString", { a: { b: "text" } }, []],
  ])("has its groups in %s", async (groupsClaim, claims, groups) => {
    const by = authenticator(await started(), { groupsClaim });
    const found = by.authenticate(proof(`Bearer ${await key.sign({ claims })}`));
    expect((await found).principal.groups).toEqual(groups);
  });

  test("keeps names apart that only look alike", async () => {
    const by = authenticator(await started());
    const names = ["orders", "Orders", "оrders", "ｏrders", "orders\u200b", "Ｋ", "K", "é", "e\u0301"];
    for (const sub of names) expect(await who(by, `Bearer ${await key.sign({ claims: { sub } })}`)).toBe(sub);
  });
});

describe("the keys of an issuer", () => {
  test("that are new are looked for when a token names them", async () => {
    const [first, second] = [await SigningKey.make("first"), await SigningKey.make("second")];
    await using keyServer = await startKeyServer(jwks(first));
    const by = authenticator(await started({ url: keyServer.url, cooldownMs: 0 }));
    expect(await who(by, `Bearer ${await first.sign()}`)).toBe("orders");
    keyServer.answer = jwks(first, second);
    expect(await who(by, `Bearer ${await second.sign()}`)).toBe("orders");
    expect(keyServer.requests).toBe(2);
  });

  test("that were rotated away hold for nobody, whoever was known by them before", async () => {
    const [first, second] = [await SigningKey.make("first"), await SigningKey.make("second")];
    await using keyServer = await startKeyServer(jwks(first));
    const keys = await started({ url: keyServer.url, cooldownMs: 0 });
    const by = authenticator(keys);
    const [old, recent] = [`Bearer ${await first.sign()}`, `Bearer ${await second.sign()}`];
    expect(await who(by, old)).toBe("orders");
    keyServer.answer = jwks(second);
    expect(await who(by, old)).toBe("orders");
    await keys.refresh();
    expect(await who(by, old)).toBe("UNAUTHENTICATED: JWT: its key is not among those of the issuer");
    expect(await who(by, recent)).toBe("orders");
  });

  test("that changed while a token was checked are asked again", async () => {
    const [first, second] = [await SigningKey.make("first"), await SigningKey.make("second")];
    await using keyServer = await startKeyServer(jwks(first));
    const keys = await started({ url: keyServer.url, cooldownMs: 0 });
    const by = authenticator(keys);
    const check = who(by, `Bearer ${await first.sign()}`);
    keyServer.answer = jwks(second);
    const find = keys.find!;
    keys.find = async (...args) => {
      keys.find = find;
      const found = await find(...args);
      await keys.refresh();
      return found;
    };
    const later = who(by, `Bearer ${await first.sign({ claims: { jti: "2" } })}`);
    await check;
    expect(await later).toBe("UNAUTHENTICATED: JWT: its key is not among those of the issuer");
  });

  test.each<[string, KeyServer["answer"]]>([
    ["is down", 503],
    ["does not answer", SILENT],
    ["sends nonsense", "<html>"],
    ["sends no keys", `{"keys":[]}`],
    ["sends something else", `[]`],
    ["sends a flood", "x".repeat(2 ** 20 + 1)],
    ["sends elsewhere", 302],
  ])("stay in use while their server %s, and nobody waits for it long", async (_, answer) => {
    await using keyServer = await startKeyServer(jwks(key));
    const keys = await started({ url: keyServer.url, cooldownMs: 0, timeoutMs: 50 });
    const by = authenticator(keys);
    keyServer.answer = answer;
    const unknown = `Bearer ${await stranger.sign({ header: { kid: "other" } })}`;
    expect(await who(by, unknown)).toMatch(/its key is not among/);
    expect(keyServer.requests).toBe(2);
    expect(await who(by, `Bearer ${await key.sign()}`)).toBe("orders");
  });

  test("that cannot be had are told of without the query of their URL", async () => {
    await using keyServer = await startKeyServer(503);
    const lines: unknown[] = [];
    const logger = { ...silentLogger, warn: (...line: unknown[]) => void lines.push(line) };
    const options = { url: `${keyServer.url}?secret=s3cret`, refreshMs: 60_000, timeoutMs: 5_000 };
    using keys = new RemoteKeys(options, logger);
    await keys.start();
    const text = inspect(lines);
    expect(text).toContain(keyServer.url);
    expect(text).not.toContain("s3cret");
  });

  test("that were never had let nobody in, and are had as soon as they can be", async () => {
    await using keyServer = await startKeyServer(SILENT);
    const by = authenticator(await started({ url: keyServer.url, cooldownMs: 0, timeoutMs: 50 }));
    const authorization = `Bearer ${await key.sign()}`;
    expect(await who(by, authorization)).toMatch(/^AUTHENTICATION_UNAVAILABLE: /);
    keyServer.answer = jwks(key);
    expect(await who(by, authorization)).toBe("orders");
  });

  test("are not asked for again and again for tokens of made up keys", async () => {
    await using keyServer = await startKeyServer(jwks(key));
    const by = authenticator(await started({ url: keyServer.url }));
    for (let i = 0; i < 5; i++) {
      const made = `Bearer ${await stranger.sign({ header: { kid: `made up ${i}` } })}`;
      expect(await who(by, made)).toMatch(/its key is not among/);
    }
    expect(keyServer.requests).toBe(1);
  });

  test("are waited for by a hundred tokens at the most; others go on", async () => {
    await using keyServer = await startKeyServer(jwks(key));
    const by = authenticator(await started({ url: keyServer.url, cooldownMs: 0, timeoutMs: 500 }));
    keyServer.answer = SILENT;
    const sign = async (i: number) => `Bearer ${await stranger.sign({ header: { kid: `made up ${i}` } })}`;
    const waiting = await Promise.all(Array.from({ length: 101 }, (_, i) => sign(i)));
    const ends = waiting.map(async (each) => who(by, each));
    expect(await who(by, `Bearer ${await key.sign()}`)).toBe("orders");
    const refused = (await Promise.all(ends)).filter((end) => end.startsWith("AUTHENTICATION_UNAVAILABLE"));
    expect(refused).toHaveLength(1);
  });

  test("are looked at anew after a while, without anybody asking", async () => {
    await using keyServer = await startKeyServer(jwks(key));
    const keys = new RemoteKeys({ url: keyServer.url, refreshMs: 20, timeoutMs: 5_000 }, silentLogger);
    onTestFinished(() => keys[Symbol.dispose]());
    const changed = vi.fn<() => void>();
    keys.onChange = changed;
    await keys.start();
    keyServer.answer = jwks(stranger);
    await expect.poll(() => changed.mock.calls.length).toBe(2);
  });

  test("come from a file as well, which is read again when it changes and can be used", async () => {
    const folder = mkdtempSync(join(tmpdir(), "windshift-keys-"));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const file = join(folder, "keys");
    writeFileSync(file, "{}");
    expect(() => new FileKeys(file, silentLogger)).toThrow("there is no list of keys");
    writeFileSync(file, jwks(key));
    using keys = new FileKeys(file, silentLogger);
    const by = authenticator(keys);
    const [old, recent] = [`Bearer ${await key.sign()}`, `Bearer ${await stranger.sign()}`];
    expect(await who(by, old)).toBe("orders");
    writeFileSync(file, "nonsense");
    writeFileSync(file, jwks(stranger));
    await expect.poll(async () => who(by, recent), { timeout: 10_000 }).toBe("orders");
    expect(await who(by, old)).toMatch(/signature verification failed/);
  });
});

describe("tokens", () => {
  const orders = createToken({ name: "orders" });
  const past = createToken({ name: "past", expiresAt: new Date(Date.now() - 1) });

  test("are known at once, and no longer when they are taken out of the file", async () => {
    const by = new Authenticator({ tokens: new Tokens(`${orders.line}\n${past.line}`) });
    const onChange = vi.fn<() => void>();
    by.onChange = onChange;
    expect(by.authenticate(proof(`Bearer ${orders.token}`))).toMatchObject({ principal: { name: "orders" } });
    expect(await who(by, `Bearer ${past.token}`)).toBe("UNAUTHENTICATED: the credential has expired");
    expect(await who(by, `Bearer ${orders.token}x`)).toBe("UNAUTHENTICATED: the token is not known");
    by.replaceTokens(new Tokens(""));
    expect(onChange).toHaveBeenCalledOnce();
    expect(await who(by, `Bearer ${orders.token}`)).toBe("UNAUTHENTICATED: the token is not known");
  });

  test("run out although they are known", async () => {
    vi.useFakeTimers({ toFake: ["Date"] });
    onTestFinished(() => void vi.useRealTimers());
    const soon = createToken({ name: "soon", expiresAt: new Date(Date.now() + 1000) });
    const by = new Authenticator({ tokens: new Tokens(soon.line) });
    expect(await who(by, `Bearer ${soon.token}`)).toBe("soon");
    vi.setSystemTime(Date.now() + 1000);
    expect(await who(by, `Bearer ${soon.token}`)).toBe("UNAUTHENTICATED: the credential has expired");
  });

  test("and JWTs are taken side by side", async () => {
    const jwt = new JwtVerifier(OPTIONS, await started());
    const by = new Authenticator({ tokens: new Tokens(orders.line), jwt });
    expect(await who(by, `Bearer ${orders.token}`)).toBe("orders");
    expect(await who(by, `Bearer ${await key.sign({ claims: { sub: "jwt" } })}`)).toBe("jwt");
  });
});

test("calls that wait for the check of one made up JWT are bounded, and leave room when it is over", async () => {
  const keys = await started({ cooldownMs: 0 });
  const by = new Authenticator({ jwt: new JwtVerifier(OPTIONS, keys), maxWaiting: 3 });
  const madeUp = `Bearer ${await stranger.sign({ header: { kid: "unknown" } })}`;
  server.answer = SILENT;
  onTestFinished(() => void (server.answer = jwks(key)));
  const waiting = [1, 2, 3].map(async () => who(by, madeUp));
  expect(await who(by, madeUp)).toBe("OVERLOADED: too many calls wait for a check: 3 already");
  keys[Symbol.dispose]();
  for (const each of await Promise.all(waiting)) expect(each).toMatch(/^UNAUTHENTICATED/);
  expect(await who(by, madeUp)).toMatch(/^UNAUTHENTICATED/);
});

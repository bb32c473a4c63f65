import { createLocalJWKSet } from "jose";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { Audit } from "../../../src/auth/audit.ts";
import { Authenticator } from "../../../src/auth/authenticator.ts";
import { Allowances, type PrincipalLimits } from "../../../src/auth/limits.ts";
import { JwtVerifier } from "../../../src/auth/jwt.ts";
import type { KeySource } from "../../../src/auth/keys.ts";
import { Tokens, createToken } from "../../../src/auth/tokens.ts";
import type { Engine, EngineCall, EngineHandler } from "../../../src/grpc/engine/engine.ts";
import { Code } from "../../../src/grpc/errors.ts";
import { Guard } from "../../../src/grpc/guard.ts";
import { type BidiCall, Router } from "../../../src/grpc/server.ts";
import { METHODS } from "../../../src/rpc.ts";
import { AUDIENCE, ISSUER, SigningKey } from "../../support/issuer.ts";
import { RecordedCall } from "./recorded-call.ts";

const LIMITS: PrincipalLimits = { callsPerSecond: 0, bytesPerSecond: 0, openSubscriptions: 0, openStreams: 0 };
const asIs = (bytes: Uint8Array): Uint8Array => bytes;

/** A method with messages both ways behind a guard with limits. */
function serve(limits: Partial<PrincipalLimits>, handler: (call: BidiCall<Uint8Array, Uint8Array>) => void) {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const allowances = new Allowances({ ...LIMITS, ...limits });
  const guard = new Guard({ authenticator: new Authenticator({}), allowances, audit: new Audit(undefined) });
  onTestFinished(() => guard[Symbol.dispose]());
  const serveCall = router(guard, handler);
  return (): RecordedCall => {
    const call = new RecordedCall();
    serveCall(call);
    return call;
  };
}

/** Serves a method with messages both ways. */
function router(guard: Guard, handler: (call: BidiCall<Uint8Array, Uint8Array>) => void): (call: EngineCall) => void {
  const handlers: EngineHandler[] = [];
  const engine = { handle: (_path, served) => void handlers.push(served) } as Engine;
  new Router(engine, guard, []).bidi(
    { method: METHODS.events, decode: asIs, encode: asIs, access: () => undefined },
    handler,
  );
  const [served] = handlers;
  if (served?.kind !== "bidi") throw new Error("there is no handler");
  return (call) => served.handle(call);
}

describe("a stream that sends more than it may", () => {
  test("is not read until that is earned, whatever its handler does", () => {
    const received: Uint8Array[] = [];
    const calls: BidiCall<Uint8Array, Uint8Array>[] = [];
    const open = serve({ bytesPerSecond: 100 }, (call) => {
      calls.push(call);
      call.onMessage = (message) => received.push(message);
    });
    const call = open();
    call.onMessage!(Buffer.alloc(90));
    expect(call.paused).toBe(false);
    call.onMessage!(Buffer.alloc(200));
    expect(call.paused).toBe(true);
    expect(received).toHaveLength(2);
    calls[0]!.pause();
    calls[0]!.resume();
    expect(call.paused).toBe(true);
    vi.advanceTimersByTime(1_000);
    expect(call.paused).toBe(true);
    vi.advanceTimersByTime(1_000);
    expect(call.paused).toBe(false);
  });

  test("stays unread where its handler has paused it meanwhile", () => {
    const open = serve({ callsPerSecond: 2 }, (call) => {
      call.onMessage = () => call.pause();
    });
    const call = open();
    call.onMessage!(Buffer.alloc(1));
    vi.advanceTimersByTime(10_000);
    expect(call.paused).toBe(true);
  });

  test("leaves no timer behind when it ends", () => {
    const open = serve({ bytesPerSecond: 100 }, (call) => {
      call.onMessage = () => undefined;
    });
    const before = vi.getTimerCount();
    const call = open();
    call.onMessage!(Buffer.alloc(200));
    expect(vi.getTimerCount()).toBe(before + 1);
    call.cancel();
    expect(vi.getTimerCount()).toBe(before);
  });
});

test("an open call whose credential cannot be checked is asked about again until it can", async () => {
  const [known, other] = [await SigningKey.make(), await SigningKey.make("key-2")];
  const keys: KeySource = {
    find: createLocalJWKSet({ keys: [known.publicJwk] }),
    refresh: async () => undefined,
    onChange: undefined,
    [Symbol.dispose]: () => undefined,
  };
  const jwt = { issuer: ISSUER, audiences: [AUDIENCE], algorithms: ["ES256"], clockToleranceMs: 0 };
  const verifier = new JwtVerifier({ ...jwt, nameClaim: "sub", groupsClaim: "groups" }, keys);
  const authenticator = new Authenticator({ jwt: verifier });
  const guard = new Guard({ authenticator, allowances: new Allowances(LIMITS), audit: new Audit(undefined) });
  onTestFinished(() => guard[Symbol.dispose]());
  const calls: BidiCall<Uint8Array, Uint8Array>[] = [];
  const serveCall = router(guard, (call) => calls.push(call));
  const metadata = { get: () => `Bearer ${bearer}` };
  const bearer = await known.sign();
  const call = Object.assign(new RecordedCall(), { metadata });
  serveCall(call);
  await expect.poll(() => calls).toHaveLength(1);
  const authenticate = vi.spyOn(authenticator, "authenticate");
  Object.assign(keys, { find: undefined });
  authenticator.forget();
  await expect.poll(() => authenticate.mock.calls.length, { timeout: 20_000 }).toBeGreaterThan(1);
  expect(call.status).toBeUndefined();
  Object.assign(keys, { find: createLocalJWKSet({ keys: [other.publicJwk] }) });
  await expect.poll(() => call.status, { timeout: 20_000 }).toMatchObject({ code: Code.UNAUTHENTICATED });
});

describe("a handler that is no part of the router", () => {
  /** Behind a guard that knows one token. */
  function protect(limits: Partial<PrincipalLimits>) {
    const { token, line } = createToken({ name: "alice" });
    const authenticator = new Authenticator({ tokens: new Tokens(line) });
    const allowances = new Allowances({ ...LIMITS, ...limits });
    const guard = new Guard({ authenticator, allowances, audit: new Audit(undefined) });
    onTestFinished(() => guard[Symbol.dispose]());
    const handled: EngineCall[] = [];
    const handle = (call: EngineCall): void => {
      call.onMessage = () => undefined;
      handled.push(call);
    };
    const handler = guard.protect({ kind: "bidi", handle }, "reflection");
    const open = (): RecordedCall => {
      const call = Object.assign(new RecordedCall(), { metadata: { get: () => `Bearer ${token}` } });
      handler.handle(call);
      return call;
    };
    return { open, handled, authenticator };
  }

  test("counts among the streams of its caller until it ends, whatever way", () => {
    const { open, handled } = protect({ openStreams: 1 });
    open();
    expect(open().status).toMatchObject({ code: Code.RESOURCE_EXHAUSTED });
    handled[0]!.end({ code: 0, message: "" });
    const second = open();
    expect(second.status).toBeUndefined();
    second.cancel();
    expect(open().status).toBeUndefined();
    expect(handled).toHaveLength(3);
  });

  test("counts among the calls of its caller, and is not read while it asks too much", () => {
    vi.useFakeTimers();
    onTestFinished(() => void vi.useRealTimers());
    const { open } = protect({ callsPerSecond: 2 });
    const call = open();
    call.onMessage!(Buffer.alloc(1));
    expect(call.paused).toBe(true);
    expect(open().status).toMatchObject({ code: Code.RESOURCE_EXHAUSTED });
    vi.advanceTimersByTime(1_000);
    expect(call.paused).toBe(false);
  });

  test("ends when the credential of its caller is withdrawn", async () => {
    const { open, handled, authenticator } = protect({});
    const call = open();
    const left = vi.fn<() => void>();
    handled[0]!.onCancel = left;
    authenticator.replaceTokens(new Tokens(""));
    await expect.poll(() => call.status).toMatchObject({ code: Code.UNAUTHENTICATED });
    expect(left).toHaveBeenCalledOnce();
  });
});

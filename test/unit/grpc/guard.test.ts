import { describe, expect, onTestFinished, test, vi } from "vitest";
import { Audit } from "../../../src/auth/audit.ts";
import { Authenticator } from "../../../src/auth/authenticator.ts";
import { Allowances, type PrincipalLimits } from "../../../src/auth/limits.ts";
import type { Engine, EngineHandler } from "../../../src/grpc/engine/engine.ts";
import { Guard } from "../../../src/grpc/guard.ts";
import { type BidiCall, Router } from "../../../src/grpc/server.ts";
import { METHODS } from "../../../src/rpc.ts";
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
  const handlers: EngineHandler[] = [];
  const engine = { handle: (_path, served) => void handlers.push(served) } as Engine;
  new Router(engine, guard, []).bidi(
    { method: METHODS.events, decode: asIs, encode: asIs, access: () => undefined },
    handler,
  );
  const [served] = handlers;
  if (served?.kind !== "bidi") throw new Error("there is no handler");
  return (): RecordedCall => {
    const call = new RecordedCall();
    served.handle(call);
    return call;
  };
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

import { expect, onTestFinished, test } from "vitest";
import { Audit } from "../../../src/auth/audit.ts";
import { Authenticator } from "../../../src/auth/authenticator.ts";
import { Allowances } from "../../../src/auth/limits.ts";
import type { Engine, EngineHandler } from "../../../src/grpc/engine/engine.ts";
import { Guard } from "../../../src/grpc/guard.ts";
import { Router } from "../../../src/grpc/server.ts";
import { METHODS } from "../../../src/rpc.ts";
import { collectGarbage, collectYoung, oldBytes } from "../../support/memory.ts";
import { RecordedCall } from "./recorded-call.ts";

const UNLIMITED = { callsPerSecond: 0, bytesPerSecond: 0, openSubscriptions: 0, openStreams: 0 };
const CALLS = 20_000;
const CALLS_PER_COLLECTION = 1_000;
const asIs = (bytes: Uint8Array): Uint8Array => bytes;

test("what a unary call has made is gone with the next collection of young objects", async () => {
  const guard = new Guard({
    authenticator: new Authenticator({}),
    allowances: new Allowances(UNLIMITED),
    audit: new Audit(undefined),
  });
  onTestFinished(() => guard[Symbol.dispose]());
  const handlers: EngineHandler[] = [];
  const engine = { handle: (_path, served) => void handlers.push(served) } as Engine;
  const method = { method: METHODS.publishEvent, decode: asIs, encode: asIs, access: () => undefined };
  new Router(engine, guard, []).unary(method, (call) => call.respond(call.request));
  const [served] = handlers;
  if (served?.kind !== "unary") throw new Error("there is no handler");
  await collectGarbage();
  const before = oldBytes();
  for (let n = 1; n <= CALLS; n++) {
    served.handle(new RecordedCall(), new Uint8Array(8));
    if (n % CALLS_PER_COLLECTION === 0) collectYoung();
  }
  expect((oldBytes() - before) / CALLS).toBeLessThan(50);
});

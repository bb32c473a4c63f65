import { describe, expect, test } from "vitest";
import { Allowances, type PrincipalLimits } from "../../../src/auth/limits.ts";
import type { Principal, PrincipalKind } from "../../../src/auth/principal.ts";
import type { WindshiftError } from "../../../src/errors.ts";

const NONE: PrincipalLimits = { callsPerSecond: 0, bytesPerSecond: 0, openSubscriptions: 0, openStreams: 0 };

function principal(name: string, kind: PrincipalKind = "token"): Principal {
  return { name, kind, groups: [], claims: {} };
}

function allowances(limits: Partial<PrincipalLimits>) {
  const clock = { ms: 0 };
  const all = new Allowances({ ...NONE, ...limits }, () => clock.ms);
  return { all, clock, of: (name: string) => all.of(principal(name))! };
}

function refusal(run: () => void): WindshiftError {
  try {
    run();
  } catch (error) {
    return error as WindshiftError;
  }
  throw new Error("nothing was refused");
}

test("nothing is kept where nothing is limited", () => {
  const all = new Allowances(NONE);
  expect(all.of(principal("a"))).toBeUndefined();
  expect(all.size).toBe(0);
});

describe("calls per second", () => {
  test("beyond them a call is refused until one is earned", () => {
    const { clock, of } = allowances({ callsPerSecond: 4 });
    for (let i = 0; i < 4; i++) of("a").takeCall(10);
    expect(refusal(() => of("a").takeCall(10))).toMatchObject({
      reason: "LIMIT_EXCEEDED",
      message: "the limit of 4 calls per second is reached",
      retryAfterMs: 250,
      outcome: "not_stored",
    });
    clock.ms = 250;
    of("a").takeCall(10);
    expect(refusal(() => of("a").takeCall(10)).retryAfterMs).toBe(250);
  });

  test("no more than a second's worth is saved up", () => {
    const { clock, of } = allowances({ callsPerSecond: 2 });
    of("a").takeCall(0);
    clock.ms = 100_000;
    of("a").takeCall(0);
    of("a").takeCall(0);
    expect(refusal(() => of("a").takeCall(0)).retryAfterMs).toBe(500);
  });

  test("whoever is at its limit leaves others alone, of another kind as well", () => {
    const { all, of } = allowances({ callsPerSecond: 1 });
    of("a").takeCall(0);
    expect(refusal(() => of("a").takeCall(0)).reason).toBe("LIMIT_EXCEEDED");
    of("b").takeCall(0);
    all.of(principal("a", "jwt"))!.takeCall(0);
  });
});

describe("bytes per second", () => {
  test("one request may be larger, and is paid back", () => {
    const { clock, of } = allowances({ bytesPerSecond: 100 });
    of("a").takeCall(350);
    expect(refusal(() => of("a").takeCall(1))).toMatchObject({
      message: "the limit of 100 bytes per second is reached",
      retryAfterMs: 2510,
    });
    clock.ms = 2510;
    of("a").takeCall(1);
  });

  test("messages of a stream are counted and never refused", () => {
    const { of } = allowances({ bytesPerSecond: 100, callsPerSecond: 10 });
    for (let i = 0; i < 3; i++) of("a").take(100);
    expect(of("a").waitMs).toBe(2010);
  });
});

describe.each(["openStream", "openSubscription"] as const)("%s", (open) => {
  const limit = open === "openStream" ? "openStreams" : "openSubscriptions";

  test("is refused beyond the limit, until one has ended", () => {
    const { of } = allowances({ [limit]: 2 });
    const end = of("a")[open]();
    of("a")[open]();
    expect(refusal(() => of("a")[open]())).toMatchObject({ reason: "LIMIT_EXCEEDED", retryAfterMs: 1000 });
    of("b")[open]();
    end();
    of("a")[open]();
  });
});

test("allowances are bounded: those that are as good as new are forgotten, others never", () => {
  const { all, clock, of } = allowances({ callsPerSecond: 1, openStreams: 1 });
  of("busy").takeCall(0);
  of("open").openStream();
  for (let i = 0; i < 9_998; i++) of(`idle ${i}`);
  expect(all.size).toBe(10_000);
  of("one more");
  expect(all.size).toBe(3);
  expect(refusal(() => of("busy").takeCall(0)).reason).toBe("LIMIT_EXCEEDED");
  expect(refusal(() => of("open").openStream()).reason).toBe("LIMIT_EXCEEDED");
  clock.ms = 1000;
  of("busy").takeCall(0);
});

/** A guard that lets everybody do everything, for tests of what is behind it. */
import { onTestFinished } from "vitest";
import { Audit } from "../../src/auth/audit.ts";
import { Authenticator } from "../../src/auth/authenticator.ts";
import { Allowances, type PrincipalLimits } from "../../src/auth/limits.ts";
import { Guard } from "../../src/grpc/guard.ts";

/** Without any limit. */
const NO_LIMITS: PrincipalLimits = { callsPerSecond: 0, bytesPerSecond: 0, openSubscriptions: 0, openStreams: 0 };

/** Ends with the test. */
export function openGuard(): Guard {
  const allowances = new Allowances(NO_LIMITS);
  const guard = new Guard({ authenticator: new Authenticator({}), allowances, audit: new Audit(undefined) });
  onTestFinished(() => guard[Symbol.dispose]());
  return guard;
}

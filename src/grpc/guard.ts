/**
 * The one place that every call passes before anything is done for it: who calls, whether they have calls left, and
 * whether they may do what they ask for. The router asks it for each method, also under its older name and on both engines;
 * a method without a rule for the last question does not compile.
 *
 * Streaming calls may last longer than what they began with. The guard knows all that are open, and ends those whose
 * credential expired or holds no longer, and those whose right was taken away.
 */
import type { Audit, AuditedCall } from "../auth/audit.ts";
import type { Authenticator } from "../auth/authenticator.ts";
import { type Credential, unauthenticated } from "../auth/credential.ts";
import type { Allowance, Allowances } from "../auth/limits.ts";
import type { Access, Verb } from "../auth/policy-access.ts";
import type { Policy } from "../auth/policy.ts";
import type { Principal } from "../auth/principal.ts";
import { WindshiftError } from "../errors.ts";
import { statusName } from "../telemetry/attributes.ts";
import type { AccessRule } from "./access.ts";
import type { BidiHandler, CallStatus, EngineCall } from "./engine/engine.ts";
import { asWindshiftError, toStatus } from "./errors.ts";
import { ProtectedCall } from "./protected-call.ts";
import type { Interceptor, ServerCall } from "./server.ts";

/** What the guard decides by. */
export interface GuardOptions {
  readonly authenticator: Authenticator;
  readonly allowances: Allowances;
  readonly audit: Audit;
}

/** Somebody who calls, with what they may take. One object for each credential. */
export interface Caller {
  readonly principal: Principal;
  readonly credential: Credential;
  /** Undefined where nothing is limited. */
  readonly allowance: Allowance | undefined;
}

/** What the guard knows a call by. */
export type GuardedCall = Pick<ServerCall, "name" | "engineCall" | "caller" | "isUnary">;

/** A call that may outlast its credential. */
export interface StandingCall extends GuardedCall {
  caller: Caller | undefined;
  /** Ends it from outside; its handler hears of that. */
  stop(error: unknown): void;
}

/** A streaming call that is open. */
interface Standing {
  readonly call: StandingCall;
  /** What it was opened for, and goes on for as long as that is allowed. */
  readonly accesses: Map<Verb, Access>;
  /** Give back what it takes of its caller's allowance. */
  readonly releases: (() => void)[];
}

const LOOK_INTERVAL_MS = 1_000;

/** Lets calls in. Disposing it ends what it does by itself. */
export class Guard implements Interceptor, Disposable {
  readonly #authenticator: Authenticator;
  readonly #allowances: Allowances;
  readonly #audit: Audit;
  #callers = new WeakMap<Credential, Caller>();
  #policy: Policy | undefined;
  readonly #standing = new Map<GuardedCall, Standing>();
  /** Calls in progress that the audit log will tell of. */
  readonly #administered = new WeakMap<GuardedCall, object>();
  readonly #timer: NodeJS.Timeout;
  /** Open calls whose credential has to be proved anew. */
  readonly #unproved = new Set<Standing>();
  #isProving = false;

  constructor({ authenticator, allowances, audit }: GuardOptions) {
    this.#authenticator = authenticator;
    this.#allowances = allowances;
    this.#audit = audit;
    authenticator.onChange = () => this.#credentialsChanged();
    this.#timer = setInterval(() => this.#look(), LOOK_INTERVAL_MS).unref();
  }

  /** Who makes a call: at once where that is known. Throws or rejects with UNAUTHENTICATED. */
  identify(call: EngineCall, method: string): Caller | Promise<Caller> {
    let credential: Credential | Promise<Credential>;
    try {
      credential = this.#prove(call);
    } catch (error) {
      throw this.#refused(call, method, error);
    }
    if (!(credential instanceof Promise)) return this.#callerOf(credential);
    return credential.then(
      (proved) => this.#callerOf(proved),
      (error: unknown) => {
        throw this.#refused(call, method, error);
      },
    );
  }

  /** A call with a request of so many bytes. Throws LIMIT_EXCEEDED. */
  admit(call: GuardedCall, { allowance, principal }: Caller, bytes: number): void {
    if (allowance === undefined) return;
    this.#limited(call, principal, () => allowance.takeCall(bytes));
  }

  /** A streaming call begins, with a request of so many bytes; {@link end} takes it back. Throws LIMIT_EXCEEDED. */
  open(call: StandingCall, caller: Caller, bytes: number): void {
    const { allowance, principal } = caller;
    this.admit(call, caller, bytes);
    const release = allowance && this.#limited(call, principal, () => allowance.openStream());
    this.#standing.set(call, { call, accesses: new Map(), releases: release === undefined ? [] : [release] });
  }

  /** Asks the policy about a request. Throws PERMISSION_DENIED. */
  check<Request>(call: GuardedCall, caller: Caller, rule: AccessRule<Request>, request: Request): void {
    if (this.#policy === undefined && !this.#audit.isOn) return;
    const access = rule(request);
    if (access === undefined) return;
    if ("verb" in access) this.authorize(call, caller, access);
    else for (const each of access) this.authorize(call, caller, each);
  }

  /** Throws PERMISSION_DENIED unless that is allowed, and LIMIT_EXCEEDED for one subscription too many. */
  authorize(call: GuardedCall, caller: Caller, access: Access): void {
    this.#decide(call, caller, access);
    const administered = administeredBy(access);
    if (administered !== undefined && this.#audit.isOn) this.#administered.set(call, administered);
    if (LASTING.has(access.verb)) this.#last(call, caller, access);
  }

  /** Other rules than before; what is not allowed any more ends. Without a policy everything is allowed. */
  usePolicy(policy: Policy): void {
    this.#policy = policy;
    // Limits may be others as well.
    this.#callers = new WeakMap();
    for (const standing of [...this.#standing.values()]) this.#judge(standing, standing.call.caller!.credential);
  }

  /** After each call. */
  end(call: GuardedCall, { code }: CallStatus): void {
    const administered = this.#administered.get(call);
    if (administered !== undefined) {
      this.#administered.delete(call);
      this.#audit.administered(audited(call), call.caller!.principal, administered, statusName(code));
    }
    if (call.isUnary) return;
    const standing = this.#standing.get(call);
    if (standing === undefined) return;
    this.#standing.delete(call);
    this.#unproved.delete(standing);
    for (const release of standing.releases) release();
  }

  /** A handler that is no part of the router, for callers alone that can prove who they are. */
  protect(handler: BidiHandler, method: string): BidiHandler {
    return { kind: "bidi", handle: (call) => this.#protected(handler, call, method) };
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#authenticator.onChange = undefined;
  }

  #protected(handler: BidiHandler, engineCall: EngineCall, method: string): void {
    const call = new ProtectedCall(this, engineCall, method);
    const refuse = (error: unknown): void => call.end(toStatus(asWindshiftError(error)));
    try {
      const caller = this.identify(engineCall, method);
      if (!(caller instanceof Promise)) {
        call.open(caller, handler.handle);
        return;
      }
      engineCall.pause();
      caller
        .then((known) => {
          if (engineCall.cancelled) return;
          call.open(known, handler.handle);
          engineCall.resume();
        })
        .catch(refuse);
    } catch (error) {
      refuse(error);
    }
  }

  #prove(call: EngineCall): Credential | Promise<Credential> {
    return this.#authenticator.authenticate(call);
  }

  #callerOf(credential: Credential): Caller {
    let caller = this.#callers.get(credential);
    if (caller === undefined) {
      const { principal } = credential;
      const allowance = this.#allowances.of(principal, this.#policy?.limitsOf(principal));
      caller = { principal, credential, allowance };
      this.#callers.set(credential, caller);
    }
    return caller;
  }

  #refused(call: EngineCall, method: string, error: unknown): unknown {
    if (error instanceof WindshiftError && error.reason === "UNAUTHENTICATED") {
      this.#audit.unauthenticated({ method, peer: call.peer }, (error.cause as Error).message);
    }
    return error;
  }

  #limited<T>(call: GuardedCall, principal: Principal, take: () => T): T {
    try {
      return take();
    } catch (error) {
      this.#audit.limited(audited(call), principal, (error as Error).message);
      throw error;
    }
  }

  #decide(call: GuardedCall, { principal }: Caller, access: Access): void {
    const decision = this.#policy?.decide(principal, access);
    if (decision === undefined || decision.allowed) return;
    // As the contract has it for everybody; the domain, which would name the field, is not to see what no policy judged.
    if (decision.isInvalid === true) throw new WindshiftError("INVALID_VALUE", decision.explanation);
    this.#audit.denied(audited(call), principal, decision.explanation);
    // Rules, and what NATS holds, are for the operator alone.
    throw new WindshiftError("PERMISSION_DENIED", decision.refusal ?? "the policy does not allow that");
  }

  /** The call goes on for as long as that is allowed. */
  #last(call: GuardedCall, { allowance, principal }: Caller, access: Access): void {
    const standing = this.#standing.get(call);
    if (standing === undefined) return;
    if (access.verb === "consume" && allowance !== undefined && !standing.accesses.has("consume")) {
      standing.releases.push(this.#limited(call, principal, () => allowance.openSubscription()));
    }
    standing.accesses.set(access.verb, access);
  }

  /** Who calls, and what they may do, is found out anew; the call ends where that is not what it was. */
  #judge({ call, accesses }: Standing, credential: Credential): void {
    const caller = this.#callerOf(credential);
    call.caller = caller;
    try {
      for (const access of accesses.values()) this.#decide(call, caller, access);
    } catch (error) {
      call.stop(error);
    }
  }

  #look(): void {
    this.#endExpired();
    void this.#proveAll();
  }

  #endExpired(): void {
    const now = Date.now();
    for (const { call } of [...this.#standing.values()]) {
      if (call.caller!.credential.expiresAtMs <= now) this.#expel(call, unauthenticated("the credential has expired"));
    }
  }

  #credentialsChanged(): void {
    for (const standing of this.#standing.values()) this.#unproved.add(standing);
    void this.#proveAll();
  }

  /** One walk at a time; what changes during it comes into it again. */
  async #proveAll(): Promise<void> {
    if (this.#isProving) return;
    this.#isProving = true;
    const later: Standing[] = [];
    for (const standing of this.#unproved) {
      this.#unproved.delete(standing);
      if (!(await this.#proveStanding(standing))) later.push(standing);
    }
    for (const standing of later) if (this.#standing.has(standing.call)) this.#unproved.add(standing);
    this.#isProving = false;
  }

  /** False: nobody can tell now. What cannot be checked held a moment ago, and is asked about again a second later. */
  async #proveStanding(standing: Standing): Promise<boolean> {
    try {
      const credential = await this.#prove(standing.call.engineCall);
      if (this.#standing.has(standing.call)) this.#judge(standing, credential);
    } catch (error) {
      if (!(error instanceof WindshiftError && error.reason === "UNAUTHENTICATED")) return false;
      this.#expel(standing.call, error);
    }
    return true;
  }

  #expel(call: StandingCall, error: WindshiftError): void {
    if (!this.#standing.has(call)) return;
    this.#audit.unauthenticated(audited(call), (error.cause as Error).message);
    call.stop(error);
  }
}

/** What a call may be for as long as it lasts. */
const LASTING: ReadonlySet<Verb> = new Set(["consume", "read", "state-read", "admin"]);

function audited({ name, engineCall }: GuardedCall): AuditedCall {
  return { method: name, peer: engineCall.peer };
}

/** What the audit log tells of a call that changes, or shows, more than events and values; undefined for others. */
function administeredBy(access: Access): object | undefined {
  switch (access.verb) {
    case "ensure-stream":
    case "ensure-consumer":
    case "delete-consumer":
    case "ensure-store":
    case "admin":
      return access;
    default:
      return undefined;
  }
}

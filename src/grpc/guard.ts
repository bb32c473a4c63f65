/**
 * The one place that every call passes before anything is done for it: who calls, and whether they have calls left. The
 * router asks it for each method, also under its older name and on both engines.
 *
 * Streaming calls may last longer than what they began with. The guard knows all that are open, and ends those whose
 * credential expired or holds no longer.
 */
import type { Audit } from "../auth/audit.ts";
import type { Authenticator } from "../auth/authenticator.ts";
import { type Credential, unauthenticated } from "../auth/credential.ts";
import type { Allowance, Allowances } from "../auth/limits.ts";
import type { Principal } from "../auth/principal.ts";
import { WindshiftError } from "../errors.ts";
import type { BidiHandler, EngineCall } from "./engine/engine.ts";
import { asWindshiftError, toStatus } from "./errors.ts";
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

/** A call that may outlast its credential. */
export interface StandingCall extends ServerCall {
  /** Ends it from outside; its handler hears of that. */
  stop(error: unknown): void;
}

/** A streaming call that is open. */
interface Standing {
  readonly call: StandingCall;
  caller: Caller;
  readonly release: (() => void) | undefined;
}

const LOOK_INTERVAL_MS = 1_000;

/** Lets calls in. Disposing it ends what it does by itself. */
export class Guard implements Interceptor, Disposable {
  readonly #authenticator: Authenticator;
  readonly #allowances: Allowances;
  readonly #audit: Audit;
  readonly #callers = new WeakMap<Credential, Caller>();
  readonly #standing = new Map<ServerCall, Standing>();
  readonly #timer: NodeJS.Timeout;
  #isProving = false;
  #proveAgain = false;

  constructor({ authenticator, allowances, audit }: GuardOptions) {
    this.#authenticator = authenticator;
    this.#allowances = allowances;
    this.#audit = audit;
    authenticator.onChange = () => this.#credentialsChanged();
    this.#timer = setInterval(() => this.#endExpired(), LOOK_INTERVAL_MS).unref();
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
  admit(call: ServerCall, { allowance, principal }: Caller, bytes: number): void {
    if (allowance === undefined) return;
    this.#limited(call, principal, () => allowance.takeCall(bytes));
  }

  /** A streaming call begins, with a request of so many bytes; {@link end} takes it back. Throws LIMIT_EXCEEDED. */
  open(call: StandingCall, caller: Caller, bytes: number): void {
    const { allowance, principal } = caller;
    this.admit(call, caller, bytes);
    const release = allowance && this.#limited(call, principal, () => allowance.openStream());
    this.#standing.set(call, { call, caller, release });
  }

  /** After each call. */
  end(call: ServerCall): void {
    if (call.isUnary) return;
    this.#standing.get(call)?.release?.();
    this.#standing.delete(call);
  }

  /** A handler that is no part of the router, for callers alone that can prove who they are. */
  protect(handler: BidiHandler, method: string): BidiHandler {
    return { kind: "bidi", handle: (call) => this.#protected(handler, call, method) };
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#authenticator.onChange = undefined;
  }

  #protected(handler: BidiHandler, call: EngineCall, method: string): void {
    const refuse = (error: unknown): void => call.end(toStatus(asWindshiftError(error)));
    try {
      const caller = this.identify(call, method);
      if (!(caller instanceof Promise)) {
        handler.handle(call);
        return;
      }
      call.pause();
      caller
        .then(() => {
          if (call.cancelled) return;
          handler.handle(call);
          call.resume();
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
      caller = { principal, credential, allowance: this.#allowances.of(principal) };
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

  #limited<T>({ name, engineCall }: ServerCall, principal: Principal, take: () => T): T {
    try {
      return take();
    } catch (error) {
      this.#audit.limited({ method: name, peer: engineCall.peer }, principal, (error as Error).message);
      throw error;
    }
  }

  #endExpired(): void {
    const now = Date.now();
    for (const { call, caller } of [...this.#standing.values()]) {
      if (caller.credential.expiresAtMs <= now) this.#expel(call, unauthenticated("the credential has expired"));
    }
  }

  /** One walk at a time, and one more where something changed during it. */
  #credentialsChanged(): void {
    this.#proveAgain = true;
    if (!this.#isProving) void this.#proveAll();
  }

  async #proveAll(): Promise<void> {
    this.#isProving = true;
    while (this.#proveAgain) {
      this.#proveAgain = false;
      for (const standing of [...this.#standing.values()]) {
        if (this.#standing.has(standing.call)) await this.#proveStanding(standing);
      }
    }
    this.#isProving = false;
  }

  async #proveStanding(standing: Standing): Promise<void> {
    try {
      standing.caller = this.#callerOf(await this.#prove(standing.call.engineCall));
    } catch (error) {
      // What cannot be checked right now held a moment ago.
      if (error instanceof WindshiftError && error.reason === "UNAUTHENTICATED") this.#expel(standing.call, error);
    }
  }

  #expel(call: StandingCall, error: WindshiftError): void {
    if (!this.#standing.has(call)) return;
    this.#audit.unauthenticated({ method: call.name, peer: call.engineCall.peer }, (error.cause as Error).message);
    call.stop(error);
  }
}

/**
 * A call of a handler that is no part of the router, as the guard sees it: it counts as streaming calls do, and ends with
 * the credential that it came with.
 */
import type { CallStatus, CancelCause, EngineCall, RequestMetadata, ResponseMetadata } from "./engine/engine.ts";
import { asWindshiftError, toStatus } from "./errors.ts";
import type { Caller, Guard, StandingCall } from "./guard.ts";

/** Stands between an engine's call and its handler. */
export class ProtectedCall implements EngineCall, StandingCall {
  readonly isUnary = false;
  readonly name: string;
  readonly engineCall: EngineCall;
  readonly path: string;
  readonly metadata: RequestMetadata;
  readonly peer: string;
  readonly peerCertificate: EngineCall["peerCertificate"];
  readonly deadlineMs: number | undefined;
  caller: Caller | undefined;
  onCancel: ((cause: CancelCause) => void) | undefined;
  onDrain: (() => void) | undefined;
  onMessage: ((message: Uint8Array) => void) | undefined;
  onHalfClose: (() => void) | undefined;
  readonly #guard: Guard;
  #isOver = false;
  #isPaused = false;
  #holdTimer: NodeJS.Timeout | undefined;

  /** `name` is how the audit log calls its method. */
  constructor(guard: Guard, engineCall: EngineCall, name: string) {
    this.#guard = guard;
    this.name = name;
    this.engineCall = engineCall;
    this.path = engineCall.path;
    this.metadata = engineCall.metadata;
    this.peer = engineCall.peer;
    this.peerCertificate = engineCall.peerCertificate;
    this.deadlineMs = engineCall.deadlineMs;
  }

  get cancelled(): boolean {
    return this.engineCall.cancelled;
  }

  /** Begins for a caller who was found out. Throws LIMIT_EXCEEDED. */
  open(caller: Caller, handle: (call: EngineCall) => void): void {
    this.caller = caller;
    this.#guard.open(this, caller, 0);
    const { engineCall } = this;
    engineCall.onCancel = (cause) => this.#cancelled(cause);
    engineCall.onDrain = () => this.onDrain?.();
    engineCall.onHalfClose = () => this.onHalfClose?.();
    engineCall.onMessage = (message) => {
      if (this.#isOver) return;
      this.onMessage?.(message);
      this.#count(message.length);
    };
    handle(this);
  }

  sendMetadata(metadata: ResponseMetadata): void {
    this.engineCall.sendMetadata(metadata);
  }

  send(message: Uint8Array): boolean {
    return this.engineCall.send(message);
  }

  end(status: CallStatus): void {
    this.engineCall.end(status);
    this.#finish(status);
  }

  stop(error: unknown): void {
    this.end(toStatus(asWindshiftError(error)));
    this.onCancel?.("left");
  }

  pause(): void {
    this.#isPaused = true;
    this.engineCall.pause();
  }

  resume(): void {
    this.#isPaused = false;
    if (this.#holdTimer === undefined) this.engineCall.resume();
  }

  #cancelled(cause: CancelCause): void {
    this.#finish(CANCELLED);
    this.onCancel?.(cause);
  }

  #finish(status: CallStatus): void {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#holdTimer);
    this.#guard.end(this, status);
  }

  /** Whoever asks more than they may is read later. */
  #count(bytes: number): void {
    const allowance = this.caller?.allowance;
    if (this.#isOver || allowance === undefined) return;
    allowance.take(bytes);
    const { waitMs } = allowance;
    if (waitMs === 0) return;
    this.engineCall.pause();
    clearTimeout(this.#holdTimer);
    this.#holdTimer = setTimeout(() => {
      this.#holdTimer = undefined;
      if (!this.#isPaused) this.engineCall.resume();
    }, waitMs);
  }
}

const CANCELLED: CallStatus = { code: 1, message: "" };

/**
 * From the engine's calls to typed handlers. Every call passes the same interceptors (deadline, tracing, metrics,
 * logging), ends exactly once with one status, and whatever a handler throws becomes that status. Handlers hold none of
 * it: they read as convert, call, convert.
 */
import { performance } from "node:perf_hooks";
import { type Reason, WindshiftError } from "../errors.ts";
import { type MethodName, fullName, methodPaths } from "../rpc.ts";
import type { Access } from "../auth/policy-access.ts";
import type { AccessRule } from "./access.ts";
import type { Caller, Guard, StandingCall } from "./guard.ts";
import type { CallStatus, CancelCause, Engine, EngineCall, EngineHandler, Refusal } from "./engine/engine.ts";
import { asWindshiftError, refusalError, toStatus } from "./errors.ts";

/** A call as interceptors and handlers see it. */
export interface ServerCall {
  /** `package.Service/Method`, the method's own name also where the client used an alias. */
  readonly name: string;
  readonly engineCall: EngineCall;
  /** Who calls; undefined until that is known. */
  readonly caller: Caller | undefined;
  /** When the call ends by itself, in milliseconds since the epoch; `Infinity` for streams without a deadline. */
  deadlineMs: number;
  /** For interceptors: when the call began, on the monotonic clock. */
  readonly startedAt: number;
  /** Trace context that whatever the call stores shall carry. */
  traceParent: string | undefined;
  traceState: string | undefined;
  /** Calls are numbered as they begin. */
  readonly number: number;
  /** For the tracing interceptor alone. */
  span: unknown;
  readonly isUnary: boolean;
  /** Throws PERMISSION_DENIED unless the caller may do that; a streaming call ends when the right to it is taken away. */
  authorize(access: Access): void;
  /** Ends the call with an error of any kind. */
  fail(error: unknown): void;
}

/** Looks at every call when it begins and ends. */
export interface Interceptor {
  /** May refuse the call by throwing. */
  start?(call: ServerCall): void;
  /** Exactly once; `error` is what the status was made from. */
  end?(call: ServerCall, status: CallStatus, error: WindshiftError | undefined): void;
}

/** A call with one request and one response. */
export interface UnaryCall<Request, Response> extends ServerCall {
  readonly request: Request;
  /** Ends the call well. */
  respond(response: Response): void;
}

/** A call that is answered with any number of messages. */
export interface StreamingCall<Response> extends ServerCall {
  /** The client left, did not read or was refused, or its deadline passed. Not called after `end` or `fail`. */
  onCancel: (() => void) | undefined;
  onDrain: (() => void) | undefined;
  /** False: over the limit, wait for `onDrain`. */
  send(response: Response): boolean;
  end(): void;
}

/** A call with messages both ways. */
export interface BidiCall<Request, Response> extends StreamingCall<Response> {
  onMessage: ((request: Request) => void) | undefined;
  /** The client sends no more. */
  onHalfClose: (() => void) | undefined;
  pause(): void;
  resume(): void;
}

/** A method as it is served: its name, and how its messages are coded. */
export interface Method<Request, Response> {
  readonly method: MethodName;
  /** Throws on bytes that are not such a message. */
  decode(bytes: Uint8Array): Request;
  encode(response: Response): Uint8Array;
  /**
   * What a request asks for: each that comes, also of those on a stream, is asked about before its handler gets it. The
   * rules of all methods are in `access.ts`.
   */
  readonly access: AccessRule<Request>;
}

/** What a call that ended without its handler is recorded as. */
const ENDS = {
  left: ["CANCELLED", "the client cancelled the call"],
  deadline: ["DEADLINE_EXCEEDED", "the deadline passed"],
  unread: ["SLOW_CLIENT", "the client did not read what it was sent"],
} as const satisfies Record<Exclude<CancelCause, Refusal>, readonly [Reason, string]>;
const OK: CallStatus = { code: 0, message: "" };

function errorOf(cause: CancelCause): WindshiftError {
  if (typeof cause !== "string") return refusalError(cause);
  const [reason, message] = ENDS[cause];
  return new WindshiftError(reason, message);
}

/** What all calls of a router pass. */
interface Passage {
  readonly guard: Guard;
  /** The guard is the last of them, for the end of calls. */
  readonly interceptors: readonly Interceptor[];
}

/** Registers methods with an engine, behind interceptors and the guard. */
export class Router {
  readonly #engine: Engine;
  readonly #passage: Passage;

  constructor(engine: Engine, guard: Guard, interceptors: readonly Interceptor[]) {
    this.#engine = engine;
    this.#passage = { guard, interceptors: [...interceptors, guard] };
  }

  /** Serves a unary method with callbacks: for hot methods. */
  unary<Request, Response>(
    method: Method<Request, Response>,
    handler: (call: UnaryCall<Request, Response>) => void,
  ): void {
    const name = fullName(method.method);
    this.#register(method, {
      kind: "unary",
      handle: (engineCall, bytes) => {
        const call = new Unary(this.#passage, method, name, engineCall);
        call.run(bytes, handler);
      },
    });
  }

  /** Serves a unary method with an async function: for all others. */
  async<Request, Response>(
    method: Method<Request, Response>,
    handler: (request: Request, call: ServerCall) => Promise<Response>,
  ): void {
    this.unary(method, (call) => {
      handler(call.request, call).then(
        (response) => call.respond(response),
        (error: unknown) => call.fail(error),
      );
    });
  }

  /** Serves a method with one request and any number of responses. */
  serverStreaming<Request, Response>(
    method: Method<Request, Response>,
    handler: (request: Request, call: StreamingCall<Response>) => void,
  ): void {
    const name = fullName(method.method);
    this.#register(method, {
      kind: "server_streaming",
      handle: (engineCall, bytes) => {
        const call = new ServerStreaming(this.#passage, method, name, engineCall);
        call.run(bytes, handler);
      },
    });
  }

  /** Serves a method with messages both ways. */
  bidi<Request, Response>(
    method: Method<Request, Response>,
    handler: (call: BidiCall<Request, Response>) => void,
  ): void {
    const name = fullName(method.method);
    this.#register(method, {
      kind: "bidi",
      handle: (engineCall) => {
        const call = new Bidi(this.#passage, method, name, engineCall);
        call.run(handler);
      },
    });
  }

  #register({ method }: { readonly method: MethodName }, handler: EngineHandler): void {
    for (const path of methodPaths(method)) this.#engine.handle(path, handler);
  }
}

let calls = 0;

abstract class BaseCall<Request, Response> implements ServerCall {
  readonly name: string;
  readonly engineCall: EngineCall;
  caller: Caller | undefined;
  readonly startedAt = performance.now();
  readonly number = calls++;
  deadlineMs: number;
  traceParent: string | undefined;
  traceState: string | undefined;
  span: unknown;
  abstract readonly isUnary: boolean;
  protected readonly method: Method<Request, Response>;
  protected readonly guard: Guard;
  readonly #interceptors: readonly Interceptor[];
  #ended = false;

  constructor(
    { guard, interceptors }: Passage,
    method: Method<Request, Response>,
    name: string,
    engineCall: EngineCall,
  ) {
    this.guard = guard;
    this.#interceptors = interceptors;
    this.method = method;
    this.name = name;
    this.engineCall = engineCall;
    this.deadlineMs = engineCall.deadlineMs ?? Infinity;
  }

  /** False when an interceptor refused. */
  protected begin(): boolean {
    try {
      for (const interceptor of this.#interceptors) interceptor.start?.(this);
      return true;
    } catch (error) {
      this.fail(error);
      return false;
    }
  }

  authorize(access: Access): void {
    this.guard.authorize(this, this.caller!, access);
  }

  fail(error: unknown): void {
    const ours = asWindshiftError(error);
    this.finish(toStatus(ours), ours);
  }

  protected finish(status: CallStatus, error: WindshiftError | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    this.engineCall.end(status);
    for (const interceptor of this.#interceptors) interceptor.end?.(this, status, error);
  }

  protected left(cause: CancelCause): void {
    const error = errorOf(cause);
    this.finish(toStatus(error), error);
  }

  /** The request, which its caller may make. */
  protected decode(bytes: Uint8Array): Request {
    const request = this.#parse(bytes);
    this.guard.check(this, this.caller!, this.method.access, request);
    return request;
  }

  #parse(bytes: Uint8Array): Request {
    try {
      return this.method.decode(bytes);
    } catch (cause) {
      if (cause instanceof WindshiftError) throw cause;
      const text = `the request is not a valid ${this.name} message: ${(cause as Error).message}`;
      throw new WindshiftError("MALFORMED_MESSAGE", text, { cause });
    }
  }

  get ended(): boolean {
    return this.#ended;
  }
}

class Unary<Request, Response> extends BaseCall<Request, Response> implements UnaryCall<Request, Response> {
  readonly isUnary = true;
  #request: Request | undefined;

  get request(): Request {
    return this.#request!;
  }

  run(bytes: Uint8Array, handler: (call: UnaryCall<Request, Response>) => void): void {
    // Not assigned as it is made: V8 makes such a function among the old objects, and thereby keeps the whole call until
    // the next collection of the whole heap (`CheckAssigningFunctionLiteralToProperty` in its `parser-base.h`).
    const onCancel = (cause: CancelCause): void => this.left(cause);
    this.engineCall.onCancel = onCancel;
    if (!this.begin()) return;
    try {
      const caller = this.guard.identify(this.engineCall, this.name);
      if (caller instanceof Promise) void this.#handleLater(caller, bytes, handler);
      else this.#handle(caller, bytes, handler);
    } catch (error) {
      this.fail(error);
    }
  }

  #handle(caller: Caller, bytes: Uint8Array, handler: (call: UnaryCall<Request, Response>) => void): void {
    this.caller = caller;
    this.guard.admit(this, caller, bytes.length);
    this.#request = this.decode(bytes);
    handler(this);
  }

  async #handleLater(
    caller: Promise<Caller>,
    bytes: Uint8Array,
    handler: (call: UnaryCall<Request, Response>) => void,
  ): Promise<void> {
    try {
      const known = await caller;
      if (!this.ended) this.#handle(known, bytes, handler);
    } catch (error) {
      this.fail(error);
    }
  }

  respond(response: Response): void {
    if (this.ended) return;
    this.engineCall.send(this.method.encode(response));
    this.finish(OK, undefined);
  }
}

abstract class Streaming<Request, Response>
  extends BaseCall<Request, Response>
  implements StreamingCall<Response>, StandingCall
{
  readonly isUnary = false;
  onCancel: (() => void) | undefined;
  onDrain: (() => void) | undefined;

  /** Runs the handler, unless an interceptor or the guard refuses; the request that comes with it has so many bytes. */
  protected open(bytes: number, handle: () => void): void {
    this.engineCall.onCancel = (cause) => {
      this.left(cause);
      this.onCancel?.();
    };
    this.engineCall.onDrain = () => this.onDrain?.();
    if (this.begin()) this.attempt(() => this.#identify(bytes, handle));
  }

  send(response: Response): boolean {
    return this.ended || this.engineCall.send(this.method.encode(response));
  }

  end(): void {
    this.finish(OK, undefined);
  }

  stop(error: unknown): void {
    this.fail(error);
    this.onCancel?.();
  }

  /** Nothing is read from now on. */
  protected abstract hold(): void;
  protected abstract release(): void;

  protected attempt(run: () => void): void {
    try {
      run();
    } catch (error) {
      this.stop(error);
    }
  }

  #identify(bytes: number, handle: () => void): void {
    const caller = this.guard.identify(this.engineCall, this.name);
    if (!(caller instanceof Promise)) {
      this.#admit(caller, bytes, handle);
      return;
    }
    this.hold();
    caller.then(
      (known) => {
        if (this.ended) return;
        this.attempt(() => this.#admit(known, bytes, handle));
        this.release();
      },
      (error: unknown) => this.stop(error),
    );
  }

  #admit(caller: Caller, bytes: number, handle: () => void): void {
    this.caller = caller;
    this.guard.open(this, caller, bytes);
    handle();
  }
}

class ServerStreaming<Request, Response> extends Streaming<Request, Response> {
  run(bytes: Uint8Array, handler: (request: Request, call: StreamingCall<Response>) => void): void {
    this.open(bytes.length, () => handler(this.decode(bytes), this));
  }

  protected hold(): void {}
  protected release(): void {}
}

class Bidi<Request, Response> extends Streaming<Request, Response> implements BidiCall<Request, Response> {
  onMessage: ((request: Request) => void) | undefined;
  onHalfClose: (() => void) | undefined;
  #isPaused = false;
  #isHeld = false;
  #holdTimer: NodeJS.Timeout | undefined;

  run(handler: (call: BidiCall<Request, Response>) => void): void {
    const { engineCall } = this;
    engineCall.onHalfClose = () => {
      if (!this.ended) this.attempt(() => this.onHalfClose?.());
    };
    engineCall.onMessage = (bytes) => {
      if (!this.ended) this.attempt(() => this.onMessage?.(this.decode(bytes)));
      if (!this.ended) this.#count(bytes.length);
    };
    this.open(0, () => handler(this));
  }

  pause(): void {
    this.#isPaused = true;
    this.engineCall.pause();
  }

  resume(): void {
    this.#isPaused = false;
    if (!this.#isHeld) this.engineCall.resume();
  }

  protected hold(): void {
    this.#isHeld = true;
    this.engineCall.pause();
  }

  protected release(): void {
    this.#isHeld = false;
    if (!this.#isPaused) this.engineCall.resume();
  }

  protected override finish(status: CallStatus, error: WindshiftError | undefined): void {
    clearTimeout(this.#holdTimer);
    super.finish(status, error);
  }

  /** Whoever sends more than they may is read later: to refuse a message would end the call. */
  #count(bytes: number): void {
    const allowance = this.caller?.allowance;
    if (allowance === undefined) return;
    allowance.take(bytes);
    const { waitMs } = allowance;
    if (waitMs === 0) return;
    this.hold();
    clearTimeout(this.#holdTimer);
    this.#holdTimer = setTimeout(() => this.release(), waitMs);
  }
}

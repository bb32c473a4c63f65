/** What engines of both kinds serve: gRPC's own test service, and methods that do what their client plans. */
import { createHash } from "node:crypto";
import type {
  CallStatus,
  CancelCause,
  Engine,
  EngineCall,
  EngineHandler,
  ResponseMetadata,
} from "../../src/grpc/engine/engine.ts";
import { GrpcJsEngine } from "../../src/grpc/engine/grpc-js.ts";
import { NativeEngine } from "../../src/grpc/engine/native/server.ts";
import { ENGINE_OPTIONS } from "../conformance/server.ts";
import { serveTestService } from "../conformance/test-service.ts";

/** What a handler does, in the metadata of its call. */
export interface Plan {
  readonly id: string;
  /** Sent ahead of everything else, where it is there. */
  readonly head?: ResponseMetadata;
  /** Sizes of the messages that answer each message; those of a whole request are the first. */
  readonly replies: readonly (readonly number[])[];
  /** Ends after so many messages, without waiting for more. */
  readonly endsAfter?: number;
  /** Takes a rest behind each message. */
  readonly pauses: boolean;
  readonly code: number;
  readonly message: string;
  /** In base64. */
  readonly details?: string;
  readonly trailers: ResponseMetadata;
}

export const PLANNED = {
  unary: "/test.Planned/Unary",
  download: "/test.Planned/Download",
  talk: "/test.Planned/Talk",
} as const;
/** Metadata that holds the {@link Plan}. */
export const PLAN = "x-plan-bin";
/** Trailer by which handlers tell of what they were given: without it, a call was ended by the engine. */
export const WITNESS = "x-called";
/** Metadata that handlers tell of. */
const TOLD = ["x-text", "x-other", "x-bytes-bin", "x-never"] as const;

/** Serves until the scope that holds it ends. */
export class Service implements Disposable {
  readonly name: string;
  readonly port: number;
  readonly errors: unknown[];
  readonly #engine: Engine;
  readonly #causes: Causes;

  private constructor(name: string, engine: Engine, port: number, causes: Causes, errors: unknown[]) {
    this.name = name;
    this.#engine = engine;
    this.port = port;
    this.#causes = causes;
    this.errors = errors;
  }

  static async start(name: "grpc-js" | "native"): Promise<Service> {
    const errors: unknown[] = [];
    const options = { ...ENGINE_OPTIONS, onError: (error: unknown) => void errors.push(error) };
    const engine = name === "native" ? new NativeEngine(options) : new GrpcJsEngine(options);
    const causes = new Causes();
    serveTestService({ handle: (path, handler) => engine.handle(path, witnessed(handler)) });
    for (const [path, handler] of Object.entries(plannedHandlers(causes))) engine.handle(path, witnessed(handler));
    return new Service(name, engine, await engine.listen(), causes, errors);
  }

  /** Why the call of that plan ended without its handler; waits until it did. */
  async causeOf(id: string): Promise<CancelCause> {
    return this.#causes.of(id).promise;
  }

  [Symbol.dispose](): void {
    this.#engine.close();
  }
}

class Causes {
  readonly #byId = new Map<string, PromiseWithResolvers<CancelCause>>();

  of(id: string): PromiseWithResolvers<CancelCause> {
    let cause = this.#byId.get(id);
    if (cause === undefined) this.#byId.set(id, (cause = Promise.withResolvers()));
    return cause;
  }
}

/** The same handler, whose trailers tell which request it was given: answers alone do not show all of it. */
function witnessed(handler: EngineHandler): EngineHandler {
  const onEnd = (call: EngineCall, received: readonly Uint8Array[]): void => {
    const end = call.end.bind(call);
    call.end = (status) => end({ ...status, metadata: [...(status.metadata ?? []), ...witness(call, received)] });
  };
  if (handler.kind !== "bidi") {
    const handle = (call: EngineCall, request: Uint8Array): void => {
      onEnd(call, [request]);
      handler.handle(call, request);
    };
    return { kind: handler.kind, handle };
  }
  const handle = (call: EngineCall): void => {
    const received: Uint8Array[] = [];
    onEnd(call, received);
    handler.handle(call);
    const { onMessage } = call;
    call.onMessage = (message) => {
      received.push(message);
      onMessage?.(message);
    };
  };
  return { kind: "bidi", handle };
}

function witness(call: EngineCall, received: readonly Uint8Array[]): ResponseMetadata {
  const digest = createHash("sha256");
  for (const message of received) digest.update(`${message.length} `).update(message);
  const values = TOLD.map((name) => `${name}=${encodeURIComponent(told(call, name) ?? "-")}`);
  const timeout = call.deadlineMs === undefined ? "none" : "some";
  return [
    ["x-received", `${received.length} ${digest.digest("base64")}`],
    [WITNESS, `${call.path} ${values.join(" ")} deadline=${timeout}`],
  ];
}

/** Whether base64 has its padding is no part of the value. */
function told(call: EngineCall, name: string): string | undefined {
  const value = call.metadata.get(name);
  return name.endsWith("-bin") && value !== undefined ? Buffer.from(value, "base64").toString("hex") : value;
}

function plannedHandlers(causes: Causes): Readonly<Record<string, EngineHandler>> {
  const begin = (call: EngineCall): Plan => {
    const plan = JSON.parse(Buffer.from(call.metadata.get(PLAN)!, "base64").toString()) as Plan;
    call.onCancel = (cause) => causes.of(plan.id).resolve(cause);
    if (plan.head !== undefined) call.sendMetadata(plan.head);
    return plan;
  };
  const handle = (call: EngineCall): void => {
    const plan = begin(call);
    for (const size of plan.replies[0] ?? []) call.send(reply(size));
    call.end(statusOf(plan));
  };
  return {
    [PLANNED.unary]: { kind: "unary", handle },
    [PLANNED.download]: { kind: "server_streaming", handle },
    [PLANNED.talk]: { kind: "bidi", handle: (call) => talk(call, begin(call)) },
  };
}

function talk(call: EngineCall, plan: Plan): void {
  let count = 0;
  call.onMessage = () => {
    for (const size of plan.replies[count] ?? []) call.send(reply(size));
    count += 1;
    if (count === plan.endsAfter) call.end(statusOf(plan));
    if (!plan.pauses) return;
    call.pause();
    setImmediate(() => call.resume());
  };
  call.onHalfClose = () => {
    for (const size of plan.replies.slice(count).flat()) call.send(reply(size));
    call.end(statusOf(plan));
  };
}

function statusOf({ code, message, details, trailers }: Plan): CallStatus {
  const status = { code, message, metadata: trailers };
  return details === undefined ? status : { ...status, details: Buffer.from(details, "base64") };
}

/** Bytes that show where a part is missing or out of place. */
function reply(size: number): Buffer {
  const bytes = Buffer.allocUnsafe(size);
  for (let at = 0; at < size; at++) bytes[at] = (at * 31 + (at >> 8)) & 0xff;
  return bytes;
}

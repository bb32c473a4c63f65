/**
 * `grpc.health.v1.Health`, written against our own engine interface so that every engine serves it (the published
 * `grpc-health-check` is bound to the server of `@grpc/grpc-js`, and its watches queue without bound).
 *
 * One state holds for the whole server: `""` and each served name report the same. The composition root owns the
 * service, says when it changes, and disposes of it before the engine drains: a drain waits for open calls, and watches
 * never end by themselves.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { quote } from "../errors.ts";
import { Code } from "../gen/google/rpc/code_pb.ts";
import {
  Health,
  HealthCheckRequestSchema,
  HealthCheckResponse_ServingStatus as ServingStatus,
  HealthCheckResponseSchema,
  HealthListRequestSchema,
  HealthListResponseSchema,
} from "../gen/grpc/health/v1/health_pb.ts";
import type { CallStatus, EngineCall, EngineHandler } from "./engine/engine.ts";

/** An open `Watch`. Beyond what the engine buffers it holds no messages: what comes next is read from the service. */
interface Watcher {
  readonly call: EngineCall;
  /** What the client was told last. */
  told: ServingStatus;
  /** The engine's buffer is full; the newest state follows when it drains. */
  blocked: boolean;
}

const OK: CallStatus = { code: Code.OK, message: "" };
const DRAINING: CallStatus = { code: Code.UNAVAILABLE, message: "the server is draining" };

/** Tells clients and load balancers whether the server takes calls. Not serving until it is told otherwise. */
export class HealthService implements Disposable {
  readonly #services: ReadonlySet<string>;
  readonly #watchers = new Set<Watcher>();
  /** Watches of unknown services: no state ever reaches them. */
  readonly #strangers = new Set<EngineCall>();
  #status: ServingStatus = ServingStatus.NOT_SERVING;
  #disposed = false;

  /** `services` are the full names of the services that share the server's state. */
  constructor(services: Iterable<string>) {
    this.#services = new Set(["", ...services]);
  }

  /** Number of open watches. */
  get watchers(): number {
    return this.#watchers.size + this.#strangers.size;
  }

  /** Sets the state of the server; every watcher hears of a change. Of no effect after the disposal. */
  setServing(serving: boolean): void {
    if (this.#disposed) return;
    this.#status = serving ? ServingStatus.SERVING : ServingStatus.NOT_SERVING;
    for (const watcher of this.#watchers) this.#tell(watcher);
  }

  /** Reports "not serving" from now on, and ends all watches: clients watch again, elsewhere. */
  [Symbol.dispose](): void {
    this.setServing(false);
    this.#disposed = true;
    for (const { call } of this.#watchers) call.end(DRAINING);
    for (const call of this.#strangers) call.end(DRAINING);
    this.#watchers.clear();
    this.#strangers.clear();
  }

  /** `Check`: the state of one service, `NOT_FOUND` for one that is not served. */
  check(call: EngineCall, request: Uint8Array): void {
    const service = requestedService(call, request);
    if (service === undefined) return;
    if (!this.#services.has(service)) {
      call.end({ code: Code.NOT_FOUND, message: `service: ${quote(service)} is not served here` });
      return;
    }
    call.send(encodeStatus(this.#status));
    call.end(OK);
  }

  /** `List`: the state of every service. */
  list(call: EngineCall, request: Uint8Array): void {
    if (decode(call, () => fromBinary(HealthListRequestSchema, request)) === undefined) return;
    const response = create(HealthListResponseSchema);
    for (const service of this.#services) {
      response.statuses[service] = create(HealthCheckResponseSchema, { status: this.#status });
    }
    call.send(toBinary(HealthListResponseSchema, response));
    call.end(OK);
  }

  /** `Watch`: the state of one service now and after each change; an unknown one is `SERVICE_UNKNOWN`, and stays open. */
  watch(call: EngineCall, request: Uint8Array): void {
    const service = requestedService(call, request);
    if (service === undefined || call.cancelled) return;
    const known = this.#services.has(service);
    const status = known ? this.#status : ServingStatus.SERVICE_UNKNOWN;
    if (this.#disposed) {
      call.send(encodeStatus(status));
      call.end(DRAINING);
      return;
    }
    if (known) {
      this.#addWatcher(call);
    } else {
      this.#strangers.add(call);
      call.onCancel = () => this.#strangers.delete(call);
      call.send(encodeStatus(status));
    }
  }

  #addWatcher(call: EngineCall): void {
    const watcher: Watcher = { call, told: ServingStatus.UNKNOWN, blocked: false };
    this.#watchers.add(watcher);
    call.onCancel = () => this.#watchers.delete(watcher);
    call.onDrain = () => {
      watcher.blocked = false;
      this.#tell(watcher);
    };
    this.#tell(watcher);
  }

  /** Sends the current state unless the watcher has it, or cannot take it yet. */
  #tell(watcher: Watcher): void {
    if (watcher.blocked || watcher.told === this.#status) return;
    watcher.told = this.#status;
    watcher.blocked = !watcher.call.send(encodeStatus(this.#status));
  }
}

/** What an engine has to serve for `health`. */
export function healthHandlers(health: HealthService): [path: string, handler: EngineHandler][] {
  const path = `/${Health.typeName}/`;
  return [
    [`${path}${Health.method.check.name}`, { kind: "unary", handle: (call, request) => health.check(call, request) }],
    [`${path}${Health.method.list.name}`, { kind: "unary", handle: (call, request) => health.list(call, request) }],
    [
      `${path}${Health.method.watch.name}`,
      { kind: "server_streaming", handle: (call, request) => health.watch(call, request) },
    ],
  ];
}

function encodeStatus(status: ServingStatus): Uint8Array {
  return toBinary(HealthCheckResponseSchema, create(HealthCheckResponseSchema, { status }));
}

function requestedService(call: EngineCall, request: Uint8Array): string | undefined {
  return decode(call, () => fromBinary(HealthCheckRequestSchema, request).service);
}

/** What `read` returns; undefined when the bytes were no such message and the call has been ended for it. */
function decode<T>(call: EngineCall, read: () => T): T | undefined {
  try {
    return read();
  } catch {
    call.end({
      code: Code.INVALID_ARGUMENT,
      message: "the request is not a valid message of its type",
    });
    return undefined;
  }
}

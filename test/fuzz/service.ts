/** Handlers that do all that handlers may do, and the engine's calls without its sockets. */
import type { EngineCall, EngineHandler } from "../../src/grpc/engine/engine.ts";
import { Call, type CallServices } from "../../src/grpc/engine/native/call.ts";
import { Connection } from "../../src/grpc/engine/native/connection.ts";
import { RequestBudget } from "../../src/grpc/engine/native/request-budget.ts";
import { UnreadBudget } from "../../src/grpc/engine/unread-budget.ts";
import { Random } from "../chaos/random.ts";
import { Violation, type Wire } from "./wire.ts";

const OK = { code: 0, message: "" };
const MAX_METADATA_BYTES = 16_384;
const MAX_MESSAGE_BYTES = 64 * 1024;
const MAX_STREAMS = 100;

const ZEROS = Buffer.alloc(30_000);

class Deliberate extends Error {}

/** All calls of one connection, and what they share. */
export class Service {
  readonly unread: UnreadBudget;
  readonly requests: RequestBudget;
  readonly #random: Random;
  readonly #open = new Set<EngineCall>();
  readonly #resumes: (() => void)[] = [];
  readonly #services: CallServices;
  /** What the engine handed on that no handler threw. */
  readonly errors: unknown[] = [];

  /** `handlers` take the place of its own. */
  constructor(seed: number, limit: number, handlers?: ReadonlyMap<string, EngineHandler>) {
    this.#random = new Random(seed);
    this.unread = new UnreadBudget(limit);
    this.requests = new RequestBudget(limit);
    this.#services = {
      handlers: handlers ?? this.#handlers(),
      maxReceiveMessageBytes: MAX_MESSAGE_BYTES,
      maxMetadataBytes: MAX_METADATA_BYTES,
      requestLimitMs: 60_000,
      unread: this.unread,
      onError: (error) => {
        if (!(error instanceof Deliberate)) this.errors.push(error);
      },
      onRefused: undefined,
      onUnread: undefined,
    };
  }

  connect(wire: Wire): Connection {
    const share = this.requests.open(() => connection.openStreams.filter((stream) => stream instanceof Call));
    const connection = new Connection(wire.socket, undefined, {
      maxConcurrentStreams: MAX_STREAMS,
      maxHeaderBytes: MAX_METADATA_BYTES,
      unread: this.unread,
      newStream: (on, id, sendWindow) => new Call(on, id, sendWindow, this.#services, share),
      onClosed: () => this.requests.close(share),
    });
    return connection;
  }

  /** Goes on with what handlers have put off. */
  turn(): void {
    for (const resume of this.#resumes.splice(0)) resume();
  }

  /** After the connection's end: nobody waits, and nothing is held. */
  verifyEnd(): void {
    if (this.errors.length > 0) throw this.errors[0];
    for (const call of this.#open)
      if (!call.cancelled) throw new Violation(`a call of ${call.path} was told of no end`);
    if (this.unread.bytes !== 0) throw new Violation(`${this.unread.bytes} unread bytes stay`);
    if (this.requests.bytes !== 0) throw new Violation(`${this.requests.bytes} bytes of requests stay`);
  }

  #handlers(): Map<string, EngineHandler> {
    const echo: EngineHandler = { kind: "unary", handle: (call, request) => this.#echo(call, request) };
    const echoAll: EngineHandler = { kind: "bidi", handle: (call) => this.#echoAll(call) };
    const play: EngineHandler = { kind: "bidi", handle: (call) => this.#play(call) };
    const many: EngineHandler = { kind: "server_streaming", handle: (call) => this.#many(call) };
    return new Map<string, EngineHandler>([
      ["/test/Echo", echo],
      ["/test/EchoAll", echoAll],
      ["/test/Play", play],
      ["/test/Many", many],
      // What recorded clients call.
      ["/grpc.testing.TestService/EmptyCall", echo],
      ["/grpc.testing.TestService/UnaryCall", echo],
      ["/grpc.testing.TestService/FullDuplexCall", echoAll],
      ["/grpc.testing.TestService/StreamingInputCall", play],
      ["/grpc.testing.TestService/StreamingOutputCall", many],
    ]);
  }

  #started(call: EngineCall): void {
    this.#open.add(call);
    call.onCancel = () => {
      this.#open.delete(call);
      if (this.#random.chance(0.01)) throw new Deliberate();
    };
  }

  #end(call: EngineCall, status = OK): void {
    this.#open.delete(call);
    call.end(status);
  }

  #echo(call: EngineCall, request: Uint8Array): void {
    if (this.#random.chance(0.02)) throw new Deliberate();
    call.send(request);
    call.end(OK);
  }

  #echoAll(call: EngineCall): void {
    this.#started(call);
    call.onMessage = (message) => {
      if (!call.send(message)) call.pause();
    };
    call.onDrain = () => call.resume();
    call.onHalfClose = () => this.#end(call);
  }

  #many(call: EngineCall): void {
    this.#started(call);
    for (let i = this.#random.between(0, 10); i > 0; i--) call.send(ZEROS.subarray(0, this.#random.between(0, 5000)));
    this.#end(call, { code: this.#random.between(0, 16), message: "ürgs\n%" });
  }

  /** Pauses, resumes, sends, throws and ends when nobody expects it. */
  #play(call: EngineCall): void {
    const random = this.#random;
    this.#started(call);
    const act = (): void => {
      const way = random.next();
      if (way < 0.3) call.send(ZEROS.subarray(0, random.between(0, random.chance(0.1) ? 30_000 : 500)));
      else if (way < 0.4) call.pause();
      else if (way < 0.6) call.resume();
      else if (way < 0.65) this.#end(call, { code: random.between(0, 20), message: "" });
      else if (way < 0.66) {
        // The engine ends what throws.
        this.#open.delete(call);
        throw new Deliberate();
      } else if (way < 0.9) this.#resumes.push(() => (call.resume(), call.send(ZEROS.subarray(0, 10))));
      else if (way < 0.92) call.sendMetadata([["x-some", "value"]]);
    };
    call.onMessage = act;
    call.onHalfClose = act;
    call.onDrain = act;
    act();
  }
}

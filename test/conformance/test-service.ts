/**
 * `grpc.testing.TestService`, the server that the official interop clients of gRPC call, on an engine. What each method does
 * is written down in gRPC's "Interoperability Test Case Descriptions". Its few messages are read and written by hand, on
 * protobuf-es's wire format: nothing is generated for them.
 */
import { BinaryReader, BinaryWriter } from "@bufbuild/protobuf/wire";
import type { CallStatus, Engine, EngineCall, ResponseMetadata } from "../../src/grpc/engine/engine.ts";

const SERVICE = "/grpc.testing.TestService/";
const OK = 0;
/** Metadata that comes back: the first ahead of the response, the second behind it. */
const ECHO_INITIAL = "x-grpc-test-echo-initial";
const ECHO_TRAILING = "x-grpc-test-echo-trailing-bin";
const EMPTY = new Uint8Array(0);

/** `SimpleRequest` and `StreamingOutputCallRequest`: what both have in common has the same field numbers or names. */
interface OutputRequest {
  readonly status: CallStatus | undefined;
  readonly responses: readonly { readonly size: number; readonly intervalMs: number }[];
}

type Field = (reader: BinaryReader) => void;

/** Reads a message field by field; what `fields` does not name is skipped. */
function readMessage(bytes: Uint8Array, fields: Readonly<Record<number, Field>>): void {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    const field = fields[number];
    if (field === undefined) reader.skip(wireType, number);
    else field(reader);
  }
}

function readStatus(bytes: Uint8Array): CallStatus {
  let [code, message] = [0, ""];
  readMessage(bytes, {
    1: (reader) => void (code = reader.int32()),
    2: (reader) => void (message = reader.string()),
  });
  return { code, message };
}

function readSimpleRequest(bytes: Uint8Array): OutputRequest {
  let [size, status] = [0, undefined as CallStatus | undefined];
  readMessage(bytes, {
    2: (reader) => void (size = reader.int32()),
    7: (reader) => void (status = readStatus(reader.bytes())),
  });
  return { status, responses: [{ size, intervalMs: 0 }] };
}

function readOutputRequest(bytes: Uint8Array): OutputRequest {
  const responses: { size: number; intervalMs: number }[] = [];
  let status: CallStatus | undefined;
  readMessage(bytes, {
    2: (reader) => void responses.push(readResponseParameters(reader.bytes())),
    7: (reader) => void (status = readStatus(reader.bytes())),
  });
  return { status, responses };
}

function readResponseParameters(bytes: Uint8Array): { size: number; intervalMs: number } {
  const parameters = { size: 0, intervalMs: 0 };
  readMessage(bytes, {
    1: (reader) => void (parameters.size = reader.int32()),
    2: (reader) => void (parameters.intervalMs = reader.int32() / 1000),
  });
  return parameters;
}

/** Bytes in the payload of a `StreamingInputCallRequest`. */
function readPayloadSize(bytes: Uint8Array): number {
  let size = 0;
  const payload = { 2: (reader: BinaryReader) => void (size = reader.bytes().length) };
  readMessage(bytes, { 1: (reader) => readMessage(reader.bytes(), payload) });
  return size;
}

/** `SimpleResponse` or `StreamingOutputCallResponse` with a payload of zeros; `server_id` only the first one has. */
function writeResponse(size: number, serverId = ""): Uint8Array {
  const writer = new BinaryWriter().tag(1, 2).fork().tag(2, 2).bytes(new Uint8Array(size)).join();
  return (serverId === "" ? writer : writer.tag(4, 2).string(serverId)).finish();
}

/** Serves the methods on an engine that does not listen yet. */
export function serveTestService(engine: Pick<Engine, "handle">): void {
  engine.handle(`${SERVICE}EmptyCall`, {
    kind: "unary",
    handle: (call) => {
      call.send(EMPTY);
      call.end({ code: OK, message: "" });
    },
  });
  engine.handle(`${SERVICE}UnaryCall`, {
    kind: "unary",
    handle: (call, bytes) => {
      const { status, responses } = readSimpleRequest(bytes);
      echoInitial(call);
      if (status === undefined) call.send(writeResponse(responses[0]!.size, "conformance"));
      finish(call, status);
    },
  });
  engine.handle(`${SERVICE}StreamingOutputCall`, {
    kind: "server_streaming",
    handle: (call, bytes) => {
      const output = new Outputs(call);
      output.add(readOutputRequest(bytes));
      output.end();
    },
  });
  engine.handle(`${SERVICE}StreamingInputCall`, {
    kind: "bidi",
    handle: (call) => {
      let size = 0;
      call.onMessage = (message) => {
        size += readPayloadSize(message);
      };
      call.onHalfClose = () => {
        echoInitial(call);
        call.send(new BinaryWriter().tag(1, 0).int32(size).finish());
        finish(call);
      };
    },
  });
  engine.handle(`${SERVICE}FullDuplexCall`, {
    kind: "bidi",
    handle: (call) => {
      const output = new Outputs(call);
      call.onMessage = (message) => output.add(readOutputRequest(message));
      call.onHalfClose = () => output.end();
    },
  });
}

/** Answers the requests of one call in their order, each response after its interval. */
class Outputs {
  readonly #call: EngineCall;
  #last: Promise<void> = Promise.resolve();

  constructor(call: EngineCall) {
    this.#call = call;
  }

  add({ responses, status }: OutputRequest): void {
    this.#then(async () => {
      for (const { size, intervalMs } of responses) {
        await this.#pause(intervalMs);
        echoInitial(this.#call);
        this.#call.send(writeResponse(size));
      }
      if (status !== undefined) finish(this.#call, status);
    });
  }

  end(): void {
    this.#then(async () => finish(this.#call));
  }

  #then(action: () => Promise<void>): void {
    this.#last = this.#last.then(action);
  }

  async #pause(ms: number): Promise<void> {
    if (ms > 0 && !this.#call.cancelled) await new Promise((resolve) => setTimeout(resolve, ms));
  }
}

function echo(call: EngineCall, name: string): ResponseMetadata {
  const value = call.metadata.get(name);
  return value === undefined ? [] : [[name, value]];
}

function echoInitial(call: EngineCall): void {
  const metadata = echo(call, ECHO_INITIAL);
  if (metadata.length > 0) call.sendMetadata(metadata);
}

function finish(call: EngineCall, status: CallStatus = { code: OK, message: "" }): void {
  call.end({ ...status, metadata: echo(call, ECHO_TRAILING) });
}

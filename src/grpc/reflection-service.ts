/**
 * Server reflection: tools such as grpcurl ask it what the server offers. Written against our own engine interface and
 * the descriptors in `gen` (the published `@grpc/reflection` is bound to the server of `@grpc/grpc-js` and to another
 * protobuf library).
 *
 * `v1` and `v1alpha` are equal on the wire, so one code serves both. Requests are answered one by one without a memory
 * between them: each answer has the file asked for first, then everything it imports, each file once, and before what it
 * imports.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { DescFile, DescMessage, DescService, MessageInitShape } from "@bufbuild/protobuf";
import { nestedTypes } from "@bufbuild/protobuf/reflect";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { quote } from "../errors.ts";
import { Code } from "../gen/google/rpc/code_pb.ts";
import { file_google_rpc_error_details } from "../gen/google/rpc/error_details_pb.ts";
import { file_google_rpc_status } from "../gen/google/rpc/status_pb.ts";
import {
  ServerReflection,
  ServerReflectionRequestSchema,
  ServerReflectionResponseSchema,
} from "../gen/grpc/reflection/v1/reflection_pb.ts";
import type { ServerReflectionRequest } from "../gen/grpc/reflection/v1/reflection_pb.ts";
import { ServerReflection as ServerReflectionV1Alpha } from "../gen/grpc/reflection/v1alpha/reflection_pb.ts";
import type { BidiHandler, EngineCall } from "./engine/engine.ts";

type Answer = NonNullable<MessageInitShape<typeof ServerReflectionResponseSchema>["messageResponse"]>;

/** Files that clients need to read the details of our errors. */
const ERROR_FILES: readonly DescFile[] = [file_google_rpc_status, file_google_rpc_error_details];
const REFLECTION_SERVICES: readonly DescService[] = [ServerReflection, ServerReflectionV1Alpha];

/** Answers questions about the services it is given, itself, and all types that they use. */
export class ReflectionService implements Disposable {
  readonly #serviceNames: readonly string[];
  readonly #files = new Map<string, DescFile>();
  readonly #symbols = new Map<string, DescFile>();
  /** By extended message, then by field number. Each known message has an entry, mostly empty. */
  readonly #extensions = new Map<string, Map<number, DescFile>>();
  /** Serialized files by name, made when first asked for. */
  readonly #serialized = new Map<string, Uint8Array>();
  readonly #calls = new Set<EngineCall>();
  #disposed = false;

  /** `services` are listed; `files` hold further types that can be asked for. */
  constructor(services: readonly DescService[], files: readonly DescFile[] = ERROR_FILES) {
    const listed = [...services, ...REFLECTION_SERVICES];
    this.#serviceNames = [...new Set(listed.map((service) => service.typeName))].sort();
    for (const service of listed) this.#addFile(service.file);
    for (const file of files) this.#addFile(file);
  }

  /** Serves one call until the client has asked everything; the client is slowed to the pace at which it reads. */
  serve(call: EngineCall): void {
    if (this.#disposed) {
      endDraining(call);
      return;
    }
    this.#calls.add(call);
    call.onCancel = () => this.#calls.delete(call);
    call.onHalfClose = () => this.#end(call, Code.OK, "");
    call.onDrain = () => call.resume();
    call.onMessage = (bytes) => {
      let request: ServerReflectionRequest;
      try {
        request = fromBinary(ServerReflectionRequestSchema, bytes);
      } catch {
        this.#end(call, Code.INVALID_ARGUMENT, "the request is not a valid message of its type");
        return;
      }
      if (!call.send(this.#respond(request))) call.pause();
    };
  }

  /** Ends all open calls, and new ones at once: a drain of the engine waits for open calls, and these may idle for ever. */
  [Symbol.dispose](): void {
    this.#disposed = true;
    for (const call of this.#calls) endDraining(call);
    this.#calls.clear();
  }

  #end(call: EngineCall, code: Code, message: string): void {
    this.#calls.delete(call);
    call.end({ code, message });
  }

  #respond(request: ServerReflectionRequest): Uint8Array {
    const response = create(ServerReflectionResponseSchema, {
      validHost: request.host,
      originalRequest: request,
      messageResponse: this.#answer(request.messageRequest),
    });
    return toBinary(ServerReflectionResponseSchema, response);
  }

  #answer(request: ServerReflectionRequest["messageRequest"]): Answer {
    switch (request.case) {
      case "listServices":
        return {
          case: "listServicesResponse",
          value: { service: this.#serviceNames.map((name) => ({ name })) },
        };
      case "fileByFilename":
        return this.#fileAnswer(this.#files.get(request.value), `file ${quote(request.value)}`);
      case "fileContainingSymbol":
        return this.#fileAnswer(this.#symbols.get(request.value), `symbol ${quote(request.value)}`);
      case "fileContainingExtension": {
        const { containingType, extensionNumber } = request.value;
        const file = this.#extensions.get(containingType)?.get(extensionNumber);
        return this.#fileAnswer(file, `extension ${extensionNumber} of ${quote(containingType)}`);
      }
      case "allExtensionNumbersOfType": {
        const numbers = this.#extensions.get(request.value);
        if (numbers === undefined) return notFound(`message type ${quote(request.value)}`);
        return {
          case: "allExtensionNumbersResponse",
          value: { baseTypeName: request.value, extensionNumber: [...numbers.keys()] },
        };
      }
      case undefined:
        return errorAnswer(Code.INVALID_ARGUMENT, "message_request: is missing or of an unknown kind");
    }
  }

  #fileAnswer(file: DescFile | undefined, what: string): Answer {
    if (file === undefined) return notFound(what);
    const fileDescriptorProto = withDependencies(file).map((each) => this.#serialize(each));
    return { case: "fileDescriptorResponse", value: { fileDescriptorProto } };
  }

  #serialize(file: DescFile): Uint8Array {
    const name = file.proto.name;
    let bytes = this.#serialized.get(name);
    if (bytes === undefined) {
      bytes = toBinary(FileDescriptorProtoSchema, file.proto);
      this.#serialized.set(name, bytes);
    }
    return bytes;
  }

  #addFile(file: DescFile): void {
    const name = file.proto.name;
    if (this.#files.has(name)) return;
    this.#files.set(name, file);
    for (const dependency of file.dependencies) this.#addFile(dependency);
    for (const type of nestedTypes(file)) {
      this.#symbols.set(type.typeName, file);
      switch (type.kind) {
        case "message":
          for (const { name: member } of [...type.fields, ...type.oneofs]) {
            this.#symbols.set(`${type.typeName}.${member}`, file);
          }
          this.#extensionsOf(type);
          break;
        case "enum": {
          // Protobuf puts an enum's values beside the enum, not into it.
          const scope = type.typeName.slice(0, -type.name.length);
          for (const value of type.values) this.#symbols.set(scope + value.name, file);
          break;
        }
        case "service":
          for (const method of type.methods) this.#symbols.set(`${type.typeName}.${method.name}`, file);
          break;
        case "extension":
          this.#extensionsOf(type.extendee).set(type.number, file);
          break;
      }
    }
  }

  #extensionsOf(message: DescMessage): Map<number, DescFile> {
    let numbers = this.#extensions.get(message.typeName);
    if (numbers === undefined) {
      numbers = new Map();
      this.#extensions.set(message.typeName, numbers);
    }
    return numbers;
  }
}

/** The file and all that it imports, each before what it imports itself. */
function withDependencies(file: DescFile): DescFile[] {
  // A set keeps the order of insertion.
  const files = new Set<DescFile>();
  const add = (each: DescFile): void => {
    if (files.has(each)) return;
    for (const dependency of each.dependencies) add(dependency);
    files.add(each);
  };
  add(file);
  return [...files].reverse();
}

/** What an engine has to serve for `reflection`. */
export function reflectionHandlers(reflection: ReflectionService): [path: string, handler: BidiHandler][] {
  return REFLECTION_SERVICES.flatMap((service) =>
    service.methods.map((method): [string, BidiHandler] => [
      `/${service.typeName}/${method.name}`,
      { kind: "bidi", handle: (call) => reflection.serve(call) },
    ]),
  );
}

function endDraining(call: EngineCall): void {
  call.end({ code: Code.UNAVAILABLE, message: "the server is draining" });
}

function notFound(what: string): Answer {
  return errorAnswer(Code.NOT_FOUND, `${what} is not known here`);
}

function errorAnswer(errorCode: Code, errorMessage: string): Answer {
  return { case: "errorResponse", value: { errorCode, errorMessage } };
}

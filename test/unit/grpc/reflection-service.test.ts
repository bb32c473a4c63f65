import { create, createFileRegistry, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  file_google_protobuf_go_features,
  FileDescriptorProtoSchema,
  FileDescriptorSetSchema,
} from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { Health } from "../../../src/gen/grpc/health/v1/health_pb.ts";
import {
  ServerReflectionRequestSchema,
  ServerReflectionResponseSchema,
} from "../../../src/gen/grpc/reflection/v1/reflection_pb.ts";
import type { ServerReflectionResponse } from "../../../src/gen/grpc/reflection/v1/reflection_pb.ts";
import { EventsService } from "../../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { StateService } from "../../../src/gen/windshift/state/v1alpha1/state_pb.ts";
import { ReflectionService, reflectionHandlers } from "../../../src/grpc/reflection-service.ts";
import { RecordedCall } from "./recorded-call.ts";

const EVENTS = "windshift/events/v1alpha1/events.proto";
const STATE = "windshift/state/v1alpha1/state.proto";
const IMPORTED = [
  ...["any", "duration", "timestamp"].map((name) => `google/protobuf/${name}.proto`),
  "google/rpc/status.proto",
];
const PATHS = ["v1", "v1alpha"].map((version) => `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`);

type Question = NonNullable<MessageInitShape<typeof ServerReflectionRequestSchema>["messageRequest"]>;

function newReflection(): ReflectionService {
  return new ReflectionService([EventsService, StateService, Health]);
}

function open(reflection: ReflectionService, path = PATHS[0]!): RecordedCall {
  const handler = new Map(reflectionHandlers(reflection)).get(path);
  if (handler?.kind !== "bidi") throw new Error(`no handler for ${path}`);
  const call = new RecordedCall();
  handler.handle(call);
  return call;
}

function encode(messageRequest?: Question): Uint8Array {
  const request = create(ServerReflectionRequestSchema, {
    host: "example",
    ...(messageRequest && { messageRequest }),
  });
  return toBinary(ServerReflectionRequestSchema, request);
}

function last(call: RecordedCall): ServerReflectionResponse {
  return fromBinary(ServerReflectionResponseSchema, call.sent.at(-1)!);
}

function ask(question?: Question, reflection = newReflection()): ServerReflectionResponse["messageResponse"] {
  const call = open(reflection);
  call.onMessage!(encode(question));
  return last(call).messageResponse;
}

function fileNames(answer: ServerReflectionResponse["messageResponse"]): string[] {
  if (answer.case !== "fileDescriptorResponse") throw new Error(`answered with ${answer.case}`);
  return answer.value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes).name);
}

test("both versions of the protocol are served, and nothing else", () => {
  expect(reflectionHandlers(newReflection()).map(([path]) => path)).toEqual(PATHS);
});

test.each(PATHS)("%s lists the services, reflection included", (path) => {
  const call = open(newReflection(), path);
  call.onMessage!(encode({ case: "listServices", value: "" }));
  const { messageResponse: answer, validHost, originalRequest } = last(call);
  expect(answer.case === "listServicesResponse" && answer.value.service.map(({ name }) => name)).toEqual([
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "windshift.events.v1alpha1.EventsService",
    "windshift.state.v1alpha1.StateService",
  ]);
  expect(validHost).toBe("example");
  expect(originalRequest?.messageRequest.case).toBe("listServices");
});

test.each([
  ["a service", "windshift.events.v1alpha1.EventsService", EVENTS],
  ["a method", "windshift.events.v1alpha1.EventsService.PublishEvent", EVENTS],
  ["a method's other name", "windshift.events.v1alpha1.EventsService.Publish", EVENTS],
  ["a stream's other name", "windshift.events.v1alpha1.EventsService.Consume", EVENTS],
  ["a message", "windshift.events.v1alpha1.Event", EVENTS],
  ["a nested message", "windshift.events.v1alpha1.EventsRequest.Subscribe", EVENTS],
  ["a nested enum", "windshift.events.v1alpha1.EnsureStreamRequest.StorageType", EVENTS],
  ["an enum value", "windshift.events.v1alpha1.EnsureStreamRequest.STORAGE_TYPE_FILE", EVENTS],
  ["a field", "windshift.events.v1alpha1.EventsRequest.Subscribe.max_processing_events", EVENTS],
  ["a oneof", "windshift.events.v1alpha1.EventsRequest.request", EVENTS],
  ["another service's message", "windshift.state.v1alpha1.GetResponse", STATE],
  ["a well-known type", "google.protobuf.Any", "google/protobuf/any.proto"],
  ["a detail of our errors", "google.rpc.ErrorInfo", "google/rpc/error_details.proto"],
  ["reflection itself", "grpc.reflection.v1alpha.ServerReflection", "grpc/reflection/v1alpha/reflection.proto"],
])("%s is found by its symbol", (_kind, symbol, file) => {
  expect(fileNames(ask({ case: "fileContainingSymbol", value: symbol }))[0]).toBe(file);
});

test("an answer has the file first, then all it imports, each once", () => {
  const names = fileNames(ask({ case: "fileByFilename", value: EVENTS }));
  expect(names[0]).toBe(EVENTS);
  expect(names.slice(1).sort()).toEqual(IMPORTED);
});

test("the files of an answer are complete: a client can build the service from them", () => {
  const answer = ask({ case: "fileContainingSymbol", value: EventsService.typeName });
  if (answer.case !== "fileDescriptorResponse") throw new Error("no files");
  const file = answer.value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes));
  const registry = createFileRegistry(create(FileDescriptorSetSchema, { file: file.reverse() }));
  expect(registry.getService(EventsService.typeName)?.methods.map(({ name }) => name)).toEqual([
    "EnsureStream",
    "EnsureConsumer",
    "DeleteConsumer",
    "PublishEvent",
    "Publish",
    "Events",
    "Consume",
    "PublishEvents",
    "PublishStream",
    "ReadEvents",
    "CancelScheduledEvent",
    "GetEvent",
  ]);
});

test.each<Question>([
  { case: "fileByFilename", value: "acme/nothing.proto" },
  { case: "fileContainingSymbol", value: "acme.Nothing" },
  { case: "fileContainingSymbol", value: "windshift.events.v1alpha1" },
  { case: "fileContainingSymbol", value: "__proto__" },
  {
    case: "fileContainingExtension",
    value: { containingType: "acme.Nothing", extensionNumber: 1 },
  },
  {
    case: "fileContainingExtension",
    value: { containingType: "google.protobuf.Any", extensionNumber: 1 },
  },
  { case: "allExtensionNumbersOfType", value: "acme.Nothing" },
])("what is not known is NOT_FOUND in the answer, and the call goes on: %j", (question) => {
  const call = open(newReflection());
  call.onMessage!(encode(question));
  const answer = last(call).messageResponse;
  expect(answer.case === "errorResponse" && answer.value.errorCode).toBe(5);
  expect(call.status).toBeUndefined();
});

test("a request without a question is INVALID_ARGUMENT in the answer", () => {
  const answer = ask();
  expect(answer.case === "errorResponse" && answer.value.errorCode).toBe(3);
});

test("extensions are found by what they extend", () => {
  const reflection = new ReflectionService([], [file_google_protobuf_go_features]);
  const containingType = "google.protobuf.FeatureSet";
  const numbers = ask({ case: "allExtensionNumbersOfType", value: containingType }, reflection);
  expect(numbers.case === "allExtensionNumbersResponse" && numbers.value).toMatchObject({
    baseTypeName: containingType,
    extensionNumber: [1002],
  });
  const files = ask({ case: "fileContainingExtension", value: { containingType, extensionNumber: 1002 } }, reflection);
  expect(fileNames(files)).toEqual(["google/protobuf/go_features.proto", "google/protobuf/descriptor.proto"]);
});

test("a message without extensions has none, which is no error", () => {
  const answer = ask({ case: "allExtensionNumbersOfType", value: "google.protobuf.Any" });
  expect(answer.case === "allExtensionNumbersResponse" && answer.value.extensionNumber).toEqual([]);
});

test("bytes that are no message end the call with INVALID_ARGUMENT", () => {
  const call = open(newReflection());
  call.onMessage!(new Uint8Array([0x0a, 0xff]));
  expect(call.sent).toEqual([]);
  expect(call.status?.code).toBe(3);
});

test("a half-close ends the call", () => {
  const call = open(newReflection());
  call.onHalfClose!();
  expect(call.status?.code).toBe(0);
});

test("a client that does not read is not read from until it does", () => {
  const call = open(newReflection());
  call.hasRoom = false;
  call.onMessage!(encode({ case: "listServices", value: "" }));
  expect(call.paused).toBe(true);
  call.drain();
  expect(call.paused).toBe(false);
});

test("the disposal ends open calls, and those that come later, but not those that are over", () => {
  const reflection = newReflection();
  const [idle, cancelled, closed] = [open(reflection), open(reflection), open(reflection)];
  cancelled!.cancel();
  closed!.onHalfClose!();
  reflection[Symbol.dispose]();
  expect([idle, cancelled, closed, open(reflection)].map((call) => call!.status?.code)).toEqual([14, undefined, 0, 14]);
});

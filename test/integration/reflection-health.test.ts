/** What tools ask a server before they call it: reflection and health, over the wire. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import {
  type DescMessage,
  type MessageInitShape,
  type MessageShape,
  create,
  fromBinary,
  toBinary,
} from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { type ClientReadableStream, Metadata, type ServiceError } from "@grpc/grpc-js";
import { describe, expect, onTestFinished } from "vitest";
import {
  HealthCheckRequestSchema,
  HealthCheckResponse_ServingStatus as ServingStatus,
  HealthCheckResponseSchema,
  HealthListRequestSchema,
  HealthListResponseSchema,
} from "../../src/gen/grpc/health/v1/health_pb.ts";
import {
  type ServerReflectionRequest,
  ServerReflectionRequestSchema,
  type ServerReflectionResponse,
  ServerReflectionResponseSchema,
} from "../../src/gen/grpc/reflection/v1/reflection_pb.ts";
import { ADMIN_SERVICE, EVENTS_SERVICE, METHODS, STATE_SERVICE, methodPaths } from "../../src/rpc.ts";
import { CallError, type Client, failure } from "../support/client.ts";
import { test } from "../support/fixtures.ts";
import { startNats } from "../support/nats.ts";
import { startWindshift } from "../support/windshift.ts";

function nameOf(status: ServingStatus): string {
  return Object.entries(ServingStatus).find(([, value]) => value === status)?.[0] ?? String(status);
}

const run = promisify(execFile);
const HEALTH = "/grpc.health.v1.Health/";
const SERVICES = ["", EVENTS_SERVICE, STATE_SERVICE, ADMIN_SERVICE];

/** Every method of a service, under all its names. */
function methodNames(service: string): string[] {
  return Object.values(METHODS)
    .filter((method) => method.service === service)
    .flatMap(methodPaths)
    .map((path) => path.slice(path.lastIndexOf("/") + 1))
    .sort();
}

/** Asks one question after the other on one call. */
async function reflect(
  client: Client,
  version: "v1" | "v1alpha",
  ...questions: MessageInitShape<typeof ServerReflectionRequestSchema>["messageRequest"][]
): Promise<ServerReflectionResponse["messageResponse"][]> {
  const stream = client.grpc.makeBidiStreamRequest(
    `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`,
    (request: ServerReflectionRequest) => Buffer.from(toBinary(ServerReflectionRequestSchema, request)),
    (bytes) => fromBinary(ServerReflectionResponseSchema, bytes),
  );
  for (const messageRequest of questions) {
    stream.write(create(ServerReflectionRequestSchema, messageRequest === undefined ? {} : { messageRequest }));
  }
  stream.end();
  const answers: ServerReflectionResponse["messageResponse"][] = [];
  for await (const response of stream) answers.push((response as ServerReflectionResponse).messageResponse);
  return answers;
}

async function call<Request extends DescMessage, Response extends DescMessage>(
  client: Client,
  path: string,
  request: Request,
  init: MessageInitShape<Request>,
  response: Response,
): Promise<MessageShape<Response>> {
  return fromBinary(response, await client.raw(path, toBinary(request, create(request, init))));
}

async function check(client: Client, service: string): Promise<string> {
  const { status } = await call(
    client,
    `${HEALTH}Check`,
    HealthCheckRequestSchema,
    { service },
    HealthCheckResponseSchema,
  );
  return nameOf(status);
}

/** An open `Watch`. */
function watch(client: Client, service: string): { next(): Promise<string>; ended: Promise<CallError> } {
  const stream: ClientReadableStream<string> = client.grpc.makeServerStreamRequest(
    `${HEALTH}Watch`,
    (name: string) =>
      Buffer.from(toBinary(HealthCheckRequestSchema, create(HealthCheckRequestSchema, { service: name }))),
    (bytes) => nameOf(fromBinary(HealthCheckResponseSchema, bytes).status),
    service,
    new Metadata(),
  );
  const { promise: ended, resolve } = Promise.withResolvers<CallError>();
  stream.on("error", (error: ServiceError) => resolve(new CallError(error)));
  onTestFinished(() => stream.cancel());
  const received: string[] = [];
  const waiting: ((status: string) => void)[] = [];
  stream.on("data", (status: string) => {
    const wake = waiting.shift();
    if (wake === undefined) received.push(status);
    else wake(status);
  });
  return {
    ended,
    next: async () => {
      const first = received.shift();
      return first ?? new Promise((wake) => waiting.push(wake));
    },
  };
}

describe.for(["v1", "v1alpha"] as const)("reflection %s", (version) => {
  test("lists the services", async ({ client }) => {
    const [answer] = await reflect(client, version, { case: "listServices", value: "" });
    if (answer?.case !== "listServicesResponse") throw new Error(`expected a list, got ${answer?.case}`);
    const names = answer.value.service.map(({ name }) => name);
    expect(names).toEqual(
      expect.arrayContaining([
        EVENTS_SERVICE,
        STATE_SERVICE,
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
      ]),
    );
  });

  test.for([EVENTS_SERVICE, STATE_SERVICE, ADMIN_SERVICE])(
    "describes %s with all names of its methods",
    async (service, { client }) => {
      const [answer] = await reflect(client, version, { case: "fileContainingSymbol", value: service });
      if (answer?.case !== "fileDescriptorResponse") throw new Error(`expected a file, got ${answer?.case}`);
      const files = answer.value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes));
      const found = files[0]!.service.find(({ name }) => `${files[0]!.package}.${name}` === service);
      expect(found?.method.map(({ name }) => name).sort()).toEqual(methodNames(service));
      const known = new Set(files.map(({ name }) => name));
      expect(files.flatMap(({ dependency }) => dependency).filter((name) => !known.has(name))).toEqual([]);
    },
  );

  test("answers each question of a call, wrong ones too", async ({ client }) => {
    const answers = await reflect(
      client,
      version,
      { case: "fileByFilename", value: "windshift/state/v1alpha1/state.proto" },
      { case: "fileContainingSymbol", value: "no.such.Symbol" },
      undefined,
      { case: "listServices", value: "" },
    );
    expect(answers.map((answer) => answer.case)).toEqual([
      "fileDescriptorResponse",
      "errorResponse",
      "errorResponse",
      "listServicesResponse",
    ]);
  });
});

/** Methods for which an empty request is a valid one, or refused by an answer; their own tests call them. */
const WITHOUT_FIELDS = ["ListStreams", "ListStores", "PublishStream"];

test("every method that reflection lists is served", async ({ client }) => {
  for (const service of [EVENTS_SERVICE, STATE_SERVICE, ADMIN_SERVICE]) {
    for (const method of methodNames(service)) {
      if (WITHOUT_FIELDS.includes(method)) continue;
      const error = await failure(client.raw(`/${service}/${method}`, Buffer.alloc(0)));
      expect({ method, status: error.status }).toEqual({ method, status: "INVALID_ARGUMENT" });
    }
  }
});

describe("health", () => {
  test.for(SERVICES)("of %j is SERVING", async (service, { client }) => {
    expect(await check(client, service)).toBe("SERVING");
    expect(await watch(client, service).next()).toBe("SERVING");
  });

  test("of a service that is not here is NOT_FOUND, or unknown to one who waits for it", async ({ client }) => {
    expect(await failure(check(client, "no.such.Service"))).toMatchObject({ status: "NOT_FOUND" });
    expect(await watch(client, "no.such.Service").next()).toBe("SERVICE_UNKNOWN");
  });

  test("of all services at once", async ({ client }) => {
    const { statuses } = await call(client, `${HEALTH}List`, HealthListRequestSchema, {}, HealthListResponseSchema);
    const listed = Object.entries(statuses).map(([name, { status }]) => [name, nameOf(status)]);
    expect(Object.fromEntries(listed)).toEqual(Object.fromEntries(SERVICES.map((name) => [name, "SERVING"])));
  });

  test("garbage is INVALID_ARGUMENT", async ({ client }) => {
    expect(await failure(client.raw(`${HEALTH}Check`, Buffer.from([10, 9])))).toMatchObject({
      status: "INVALID_ARGUMENT",
    });
  });

  test("is NOT_SERVING while NATS is away, and those who watch hear it", async () => {
    await using nats = await startNats();
    await using windshift = await startWindshift(nats.url);
    const { client } = windshift;
    const watches = SERVICES.map((service) => watch(client, service));
    const next = async (): Promise<string[]> => Promise.all(watches.map(async (each) => each.next()));
    expect(await next()).toEqual(SERVICES.map(() => "SERVING"));
    await nats.stop();
    expect(await next()).toEqual(SERVICES.map(() => "NOT_SERVING"));
    for (const service of SERVICES) expect(await check(client, service)).toBe("NOT_SERVING");
    await nats.restart();
    expect(await next()).toEqual(SERVICES.map(() => "SERVING"));
    for (const service of SERVICES) expect(await check(client, service)).toBe("SERVING");
  });

  test("is NOT_SERVING from the start without NATS, until it comes", async () => {
    await using nats = await startNats();
    await nats.stop();
    await using windshift = await startWindshift(nats.url);
    const { next } = watch(windshift.client, "");
    expect(await next()).toBe("NOT_SERVING");
    await nats.restart();
    expect(await next()).toBe("SERVING");
  });

  test("ends its watches when the server drains", async ({ nats }) => {
    const windshift = await startWindshift(nats.url);
    const { next, ended } = watch(windshift.client, "");
    expect(await next()).toBe("SERVING");
    const stopped = windshift.daemon[Symbol.asyncDispose]();
    expect(await next()).toBe("NOT_SERVING");
    expect(await ended).toMatchObject({ status: "UNAVAILABLE" });
    await stopped;
    await windshift[Symbol.asyncDispose]();
  });
});

describe("grpcurl", () => {
  async function grpcurl(...args: string[]): Promise<string | undefined> {
    try {
      return (await run("grpcurl", ["-plaintext", ...args])).stdout;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw error;
    }
  }

  test("lists and describes the services", async ({ windshift, skip }) => {
    const services = await grpcurl(windshift.address, "list");
    if (services === undefined) return skip("grpcurl is not on PATH");
    expect(services.split("\n")).toEqual(expect.arrayContaining([EVENTS_SERVICE, STATE_SERVICE, ADMIN_SERVICE]));
    for (const service of [EVENTS_SERVICE, STATE_SERVICE, ADMIN_SERVICE]) {
      const methods = (await grpcurl(windshift.address, "list", service))!.trim().split("\n");
      expect(methods.sort()).toEqual(methodNames(service).map((name) => `${service}.${name}`));
    }
  });

  test("makes a store and sets a value without any file", async ({ windshift, skip }) => {
    const made = await grpcurl("-d", '{"store":"tools"}', windshift.address, `${STATE_SERVICE}/EnsureStore`);
    if (made === undefined) return skip("grpcurl is not on PATH");
    const request = JSON.stringify({
      store: "tools",
      key: "a",
      value: { "@type": "type.googleapis.com/google.rpc.RetryInfo", retryDelay: "1s" },
    });
    const set = await grpcurl("-d", request, windshift.address, `${STATE_SERVICE}/Set`);
    expect(JSON.parse(set!)).toEqual({ revision: "1" });
    const get = await grpcurl("-d", '{"store":"tools","key":"a"}', windshift.address, `${STATE_SERVICE}/Get`);
    expect(JSON.parse(get!)).toMatchObject({ revision: "1", value: { retryDelay: "1s" } });
  });
});

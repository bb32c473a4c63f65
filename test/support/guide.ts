/**
 * The commands of a guide, and what grpcurl makes of them, which is little: the JSON of `-d` becomes a message, and what comes
 * back is JSON again.
 */
import { readFileSync } from "node:fs";
import {
  type DescMethod,
  type JsonObject,
  type Registry,
  createRegistry,
  fromBinary,
  fromJsonString,
  toBinary,
  toJson,
} from "@bufbuild/protobuf";
import { StringValueSchema } from "@bufbuild/protobuf/wkt";
import { AdminService, file_windshift_admin_v1alpha1_admin } from "../../src/gen/windshift/admin/v1alpha1/admin_pb.ts";
import {
  EventsService,
  file_windshift_events_v1alpha1_events,
} from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { StringValueSchema as TestStringValueSchema } from "../../src/gen/windshift/test/v1/test_pb.ts";
import { CallError, type Client } from "./client.ts";

/** One command of a guide. */
export interface Command {
  readonly method: DescMethod;
  /** What is sent. */
  readonly json: string;
}

const SERVICES = { $EVENTS: EventsService, [EventsService.typeName]: EventsService, $ADMIN: AdminService };
/** `grpcurl` as it is, or the function that stands for it in the guide to administration. */
const COMMAND = /^(?:grpcurl -plaintext -d '([^']*)' localhost:8080 (\S+)\/(\w+)|admin (\w+) '([^']*)')$/gm;
const BEGINNING = /^(?:grpcurl|admin) /gm;
const registry: Registry = createRegistry(
  file_windshift_events_v1alpha1_events,
  file_windshift_admin_v1alpha1_admin,
  StringValueSchema,
  TestStringValueSchema,
);

/** All commands of a guide, in its order. Throws for one that is written otherwise. */
export function readCommands(name: string): Command[] {
  const text = readFileSync(new URL(`../../docs/${name}`, import.meta.url), "utf8");
  const shell = [...text.matchAll(/^```sh\n([^]*?)^```$/gm)].map(([, block]) => block).join("");
  const found = [...shell.matchAll(COMMAND)];
  const count = [...shell.matchAll(BEGINNING)].length;
  if (found.length !== count) throw new Error(`${name} has ${count} commands, ${found.length} can be read`);
  return found.map(([, json, service = "$ADMIN", method, short, shortJson]) => ({
    method: methodOf(service, method ?? short ?? ""),
    json: json ?? shortJson ?? "",
  }));
}

function methodOf(service: string, name: string): DescMethod {
  const method = SERVICES[service]?.methods.find((each) => each.name === name);
  if (method === undefined) throw new Error(`there is no method ${service}/${name}`);
  return method;
}

/** Does what a command says. A stream ends by itself, or when `isEnough` of what came; rejects with the error of the call. */
export async function perform(
  { grpc }: Client,
  { method, json }: Command,
  isEnough: (responses: readonly JsonObject[]) => boolean = () => false,
): Promise<JsonObject[]> {
  const request = Buffer.from(toBinary(method.input, fromJsonString(method.input, json, { registry })));
  const bytes = (message: Buffer): Buffer => message;
  // A unary call is a stream with one answer.
  const call = grpc.makeBidiStreamRequest(`/${method.parent.typeName}/${method.name}`, bytes, bytes);
  const { promise, resolve, reject } = Promise.withResolvers<JsonObject[]>();
  const responses: JsonObject[] = [];
  call.on("data", (message: Buffer) => {
    try {
      responses.push(toJson(method.output, fromBinary(method.output, message), { registry }) as JsonObject);
      if (!isEnough(responses)) return;
      resolve(responses);
    } catch (error) {
      reject(error as Error);
    }
    call.cancel();
  });
  call.on("error", () => undefined);
  call.on("status", (end) => (end.code === 0 ? resolve(responses) : reject(new CallError(end))));
  call.end(request);
  return promise;
}

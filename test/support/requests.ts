/** A request for every method of the contract, for tests of what holds for all of them. */
import { type DescMessage, type MessageInitShape, create, toBinary } from "@bufbuild/protobuf";
import { Metadata } from "@grpc/grpc-js";
import * as admin from "../../src/gen/windshift/admin/v1alpha1/admin_pb.ts";
import * as events from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import * as state from "../../src/gen/windshift/state/v1alpha1/state_pb.ts";
import type { METHODS } from "../../src/rpc.ts";
import { CallError, type Client, textValue } from "./client.ts";

/** A message as bytes. */
export function encode<Desc extends DescMessage>(schema: Desc, message: MessageInitShape<Desc>): Uint8Array {
  return toBinary(schema, create(schema, message));
}

/** A request of each method that names something: mostly stream, store and subjects `all`. A method without one does not compile. */
export const REQUESTS: Readonly<Record<keyof typeof METHODS, Uint8Array>> = {
  ensureStream: encode(events.EnsureStreamRequestSchema, {
    name: "made",
    source: { case: "subjects", value: { subjects: ["made.>"] } },
  }),
  ensureConsumer: encode(events.EnsureConsumerRequestSchema, { stream: "all", name: "made", subjects: ["all.>"] }),
  deleteConsumer: encode(events.DeleteConsumerRequestSchema, { stream: "all", id: "there" }),
  publishEvent: encode(events.PublishEventRequestSchema, { subject: "all.a", data: textValue("denied") }),
  publishEvents: encode(events.PublishEventsRequestSchema, {
    events: [{ subject: "all.a", data: textValue("denied") }],
  }),
  publishStream: encode(events.PublishStreamRequestSchema, {
    tag: 1n,
    event: { subject: "all.a", data: textValue("denied") },
  }),
  events: encode(events.EventsRequestSchema, {
    request: { case: "subscribe", value: { stream: "all", consumer: "there" } },
  }),
  readEvents: encode(events.ReadEventsRequestSchema, { stream: "all" }),
  cancelScheduledEvent: encode(events.CancelScheduledEventRequestSchema, { stream: "all", idempotencyKey: "a" }),
  getEvent: encode(events.GetEventRequestSchema, { stream: "all", event: { case: "id", value: 1n } }),
  ensureStore: encode(state.EnsureStoreRequestSchema, { store: "made" }),
  get: encode(state.GetRequestSchema, { store: "all", key: "there" }),
  set: encode(state.SetRequestSchema, { store: "all", key: "there", value: textValue("denied") }),
  delete: encode(state.DeleteRequestSchema, { store: "all", key: "there" }),
  listStreams: encode(admin.ListStreamsRequestSchema, {}),
  getStream: encode(admin.GetStreamRequestSchema, { stream: "all" }),
  deleteStream: encode(admin.DeleteStreamRequestSchema, { stream: "all" }),
  purgeStream: encode(admin.PurgeStreamRequestSchema, { stream: "all" }),
  listConsumers: encode(admin.ListConsumersRequestSchema, { stream: "all" }),
  getConsumer: encode(admin.GetConsumerRequestSchema, { stream: "all", id: "there" }),
  pauseConsumer: encode(admin.PauseConsumerRequestSchema, { stream: "all", id: "there" }),
  resumeConsumer: encode(admin.ResumeConsumerRequestSchema, { stream: "all", id: "there" }),
  resetConsumer: encode(admin.ResetConsumerRequestSchema, { stream: "all", id: "there" }),
  listDeadLetters: encode(admin.ListDeadLettersRequestSchema, { stream: "all", consumer: "there" }),
  replayDeadLetters: encode(admin.ReplayDeadLettersRequestSchema, { stream: "all", consumer: "there" }),
  deleteDeadLetters: encode(admin.DeleteDeadLettersRequestSchema, { stream: "all", consumer: "there" }),
  listStores: encode(admin.ListStoresRequestSchema, {}),
  deleteStore: encode(admin.DeleteStoreRequestSchema, { store: "all" }),
};

/** The reason that a call with that one request ends with, or OK; of a publish stream, whether the request was denied. */
export async function endOf(
  client: Client,
  path: string,
  request: Uint8Array,
  metadata: Record<string, string> = {},
): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  const asIs = (each: Uint8Array): Buffer => Buffer.from(each);
  const sent = new Metadata();
  for (const [name, value] of Object.entries(metadata)) sent.set(name, value);
  const call = client.grpc.makeBidiStreamRequest(path, asIs, asIs, sent, { deadline: Date.now() + 20_000 });
  const answers: Buffer[] = [];
  call.on("error", () => undefined).on("data", (answer: Buffer) => answers.push(answer));
  call.on("status", (status) => {
    const answer = answers.some((each) => each.includes("PERMISSION_DENIED")) ? "PERMISSION_DENIED" : "OK";
    resolve(status.code === 0 ? answer : (new CallError(status).reason ?? new CallError(status).status));
  });
  call.end(request);
  return promise;
}

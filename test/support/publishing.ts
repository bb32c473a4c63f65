/** What tests of publishing share: a stream, what is stored in it, and what a consumer gets of it. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { JetStreamManager } from "@nats-io/jetstream";
import type { EnsureStreamRequestSchema, Event } from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import type { Client } from "./client.ts";
import { uniqueName } from "./fixtures.ts";

/** Makes a stream `name` that collects `name.>`, of which no other test has one unless it gives its own name. */
export async function ensureStream(
  client: Client,
  rest: MessageInitShape<typeof EnsureStreamRequestSchema> = {},
): Promise<string> {
  const name = rest.name ?? uniqueName();
  await client.ensureStream({ name, source: { case: "subjects", value: { subjects: [`${name}.>`] } }, ...rest });
  return name;
}

/** Number of messages in a stream. */
export async function count(jsm: JetStreamManager, stream: string): Promise<number> {
  return (await jsm.streams.info(stream)).state.messages;
}

/** A header of a stored event. */
export async function header(
  jsm: JetStreamManager,
  stream: string,
  id: bigint,
  name: string,
): Promise<string | undefined> {
  const message = await jsm.streams.getMessage(stream, { seq: Number(id) });
  return message!.header.has(name) ? message!.header.get(name) : undefined;
}

/** The first `events` events, as a consumer gets them. */
export async function consume(client: Client, stream: string, events: number): Promise<Event[]> {
  const from = { pointer: { case: "start" as const, value: true } };
  const { id } = await client.ensureConsumer({ stream, subjects: [">"], from });
  const call = await client.subscribe(stream, id);
  const delivered = await call.take(events);
  await call.cancel();
  return delivered;
}

/** What tests of events that fail share: a stream with a consumer that has a policy, and its dead letters. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { JetStreamManager, StoredMsg } from "@nats-io/jetstream";
import type { DeliveryPolicySchema } from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { SUBJECTS_LOCK } from "../../src/nats/own-consumers.ts";
import type { Client } from "./client.ts";
import { duration, type Source } from "./consuming.ts";
import { uniqueName } from "./fixtures.ts";

/** A delivery policy as a request has it. */
export type Policy = MessageInitShape<typeof DeliveryPolicySchema>;

const LONG_MS = 600_000;

/** A stream that collects `<stream>.>` and its durable consumer `c`, with a policy. */
export async function createFailing(
  client: Client,
  deliveryPolicy: Policy | undefined,
  processingTimeoutMs = LONG_MS,
): Promise<Source> {
  const stream = uniqueName();
  await client.ensureStream({ name: stream, source: { case: "subjects", value: { subjects: [`${stream}.>`] } } });
  const source = { stream, consumer: "c", subject: `${stream}.a` };
  await setPolicy(client, source, deliveryPolicy, processingTimeoutMs);
  return source;
}

/** Ensures the consumer again, with another policy. */
export async function setPolicy(
  client: Client,
  { stream, consumer }: Source,
  deliveryPolicy: Policy | undefined,
  processingTimeoutMs = LONG_MS,
): Promise<void> {
  await client.ensureConsumer({
    stream,
    name: consumer,
    subjects: [`${stream}.>`],
    from: { pointer: { case: "start", value: true } },
    processingTimeout: duration(processingTimeoutMs),
    ...(deliveryPolicy === undefined ? {} : { deliveryPolicy }),
  });
}

/** The dead letter of an event, when it is stored. */
export async function letterOf(jsm: JetStreamManager, { stream, consumer }: Source, id: bigint): Promise<StoredMsg> {
  const query = { last_by_subj: `dead-letters.${stream}.${consumer}.${id}` };
  for (;;) {
    // Without such a message it is null, or throws, by the version of the library.
    const found = await jsm.streams.getMessage(`${stream}-dead-letters`, query).catch(() => null);
    if (found !== null) return found;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/**
 * The letters of a stream have no place, as if somebody was about to give them theirs, and took long: who writes one waits
 * for up to ten seconds. Disposing ends that.
 */
export async function holdLetters(jsm: JetStreamManager, { stream }: Source): Promise<AsyncDisposable> {
  const letters = `${stream}-dead-letters`;
  const { config } = await jsm.streams.info(letters);
  await jsm.streams.update(letters, { subjects: ["dead-letters.elsewhere"] });
  await jsm.consumers.add(letters, { durable_name: SUBJECTS_LOCK, ack_policy: "none" });
  return {
    [Symbol.asyncDispose]: async () => {
      await jsm.streams.update(letters, { subjects: config.subjects });
      await jsm.consumers.delete(letters, SUBJECTS_LOCK);
    },
  };
}

/** Number of dead letters of a stream's consumers. */
export async function letterCount(jsm: JetStreamManager, { stream }: Source): Promise<number> {
  return (await jsm.streams.info(`${stream}-dead-letters`)).state.messages;
}

/** Waits until it holds. */
export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, POLL_MS));
}

const POLL_MS = 10;

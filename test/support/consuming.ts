/** What tests of subscriptions share: a stream with a consumer, filling it, working on it, and how JetStream sees it. */
import { setTimeout as delay } from "node:timers/promises";
import type { JetStreamManager } from "@nats-io/jetstream";
import type { EventsResponse } from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { CallError, type Client, type EventsCall } from "./client.ts";
import { uniqueName } from "./fixtures.ts";

/** A stream that collects `<stream>.>`, and its durable consumer of all that, from the start. */
export interface Source {
  readonly stream: string;
  readonly consumer: string;
  /** A subject of the stream. */
  readonly subject: string;
}

/** How {@link createSource} shall make it. */
export interface SourceOptions {
  /** Long unless given, so that nothing comes back by itself while a test runs. */
  readonly processingTimeoutMs?: number;
  readonly replicas?: number;
  /** Events to publish. */
  readonly events?: number;
  /** The consumer has no name of its own. */
  readonly ephemeral?: boolean;
}

const LONG_MS = 600_000;

/** Makes a stream and a consumer that no other test has. */
export async function createSource(client: Client, options: SourceOptions = {}): Promise<Source> {
  const stream = uniqueName();
  const subject = `${stream}.a`;
  await client.ensureStream({
    name: stream,
    source: { case: "subjects", value: { subjects: [`${stream}.>`] } },
    ...(options.replicas === undefined ? {} : { storage: { replicas: options.replicas } }),
  });
  const { id: consumer } = await client.ensureConsumer({
    stream,
    ...(options.ephemeral === true ? {} : { name: "c" }),
    subjects: [`${stream}.>`],
    from: { pointer: { case: "start", value: true } },
    processingTimeout: duration(options.processingTimeoutMs ?? LONG_MS),
  });
  if (options.events !== undefined) await publishMany(client, subject, options.events);
  return { stream, consumer, subject };
}

/** A `google.protobuf.Duration`. */
export function duration(ms: number): { seconds: bigint; nanos: number } {
  return { seconds: BigInt(Math.trunc(ms / 1000)), nanos: Math.round((ms % 1000) * 1_000_000) };
}

/** Publishes so many events; returns their ids in the order of the subjects' stream. */
export async function publishMany(client: Client, subject: string, count: number): Promise<bigint[]> {
  const ids = await Promise.all(Array.from({ length: count }, (_, index) => client.publish(subject, `event ${index}`)));
  return ids.toSorted((a, b) => Number(a - b));
}

/** What JetStream says of a consumer: held by someone, not yet delivered, open pulls, delivered again. */
export async function consumerState(jsm: JetStreamManager, { stream, consumer }: Source) {
  const info = await jsm.consumers.info(stream, consumer);
  return {
    held: info.num_ack_pending,
    waiting: info.num_pending,
    pulls: info.num_waiting,
    redelivered: info.num_redelivered,
  };
}

/** The lists of a confirmation that may be empty. */
export function confirmed(lists: Partial<{ ids: bigint[]; invalidIds: bigint[]; temporaryFailedIds: bigint[] }>) {
  return { ids: [], invalidIds: [], temporaryFailedIds: [], ...lists };
}

/** Everything a call told from now on, until it ended; `onResponse` hears of each as it comes. */
async function readAll(
  call: EventsCall,
  onResponse: (response: EventsResponse["response"]) => void,
): Promise<CallError | undefined> {
  let isOver = false;
  void call.ended.then(() => {
    isOver = true;
  });
  for (;;) {
    try {
      const { response } = await call.next();
      onResponse(response);
    } catch (error) {
      if (isOver) return call.ended;
      throw error;
    }
  }
}

/** A client that acknowledges each event as it comes. Several that share a consumer share what is `acked`. */
export class Worker {
  /** Ids as they were delivered, redeliveries included. */
  readonly delivered: bigint[] = [];
  readonly attempts: bigint[] = [];
  /** Ids that the server confirmed as acknowledged. */
  readonly acked: Set<bigint>;
  /** Ids that came although their acknowledgement had been confirmed. */
  readonly brokenPromises: bigint[] = [];
  readonly ended: Promise<CallError | undefined>;
  readonly call: EventsCall;

  constructor(call: EventsCall, acked = new Set<bigint>()) {
    this.call = call;
    this.acked = acked;
    this.ended = readAll(call, (response) => {
      if (response.case === "event") this.#received(response.value.id, response.value.deliveryAttempt);
      else if (response.case === "ackConfirmation")
        this.#confirmed(response.value.ids, response.value.temporaryFailedIds);
    });
  }

  #received(id: bigint, attempt: bigint): void {
    if (this.acked.has(id)) this.brokenPromises.push(id);
    this.delivered.push(id);
    this.attempts.push(attempt);
    this.call.ack(id);
  }

  /** What JetStream did not confirm is said again, a little later, as a client has to. */
  #confirmed(ids: readonly bigint[], failed: readonly bigint[]): void {
    for (const id of ids) this.acked.add(id);
    if (failed.length > 0) setTimeout(() => this.call.ack(...failed), RETRY_MS);
  }
}

const RETRY_MS = 50;

/** Publishes as a careful client does: with a key, again and again until it is stored. Returns the id. */
export async function publishUntilStored(client: Client, subject: string, key: string): Promise<bigint> {
  for (;;) {
    try {
      return await client.publish(subject, key, { idempotencyKey: key });
    } catch (error) {
      if (!(error instanceof CallError) || !REPEATABLE.has(error.status)) throw error;
      await delay(RETRY_MS);
    }
  }
}

const REPEATABLE = new Set(["UNAVAILABLE", "DEADLINE_EXCEEDED"]);

/**
 * Storing several messages together, all or none: NATS' atomic batches. The messages are sent one after another, and the
 * stream keeps them aside. When it has all but the last one, the last one is sent, and with it the batch is stored: until
 * then nothing is, whatever breaks.
 */
import { WindshiftError } from "../errors.ts";
import type { JetStreamApi } from "./api.ts";
import type { NatsConnection, NoReply, ReplyHandler } from "./connection.ts";
import { noReply, tooLate } from "./errors.ts";
import type { Limited } from "./in-flight-limit.ts";
import { type NatsMessage, statusCode } from "./message.ts";
import { type OutgoingMessage, type Publisher, noLeader, notBound, notStored, parsePublishAck } from "./publish.ts";

/** Where a batch is. */
export interface StoredBatch {
  readonly stream: string;
  /** The sequence of its last message; those before it have the ones before that. */
  readonly lastSequence: bigint;
}

/** Why a batch was not stored, or may not be. */
export interface BatchFailure {
  readonly error: WindshiftError;
  /** The message at fault, where that is known. */
  readonly index: number | undefined;
}

/** A message of a batch: together they have one deadline. */
export type BatchMessage = Pick<OutgoingMessage, "subject" | "headers" | "payload">;

/** More than the headers of a batch have. */
export const BATCH_HEADER_BYTES = 128;
const NO_PAYLOAD = new Uint8Array(0);

/** Stores the messages together; counts as one publish, with the size of all. Resolves in either case. */
export async function publishBatch(
  api: JetStreamApi,
  publisher: Publisher,
  messages: readonly BatchMessage[],
  { id, deadlineMs }: { readonly id: string; readonly deadlineMs: number },
): Promise<StoredBatch | BatchFailure> {
  return new Batch(api, publisher, messages, id, deadlineMs).run();
}

interface MemberFailure {
  readonly index: number;
  readonly error: WindshiftError | "nobody_listens";
}

class Batch implements Limited {
  readonly deadlineMs: number;
  readonly isWrite = true;
  readonly bytes: number;
  readonly #api: JetStreamApi;
  readonly #connection: NatsConnection;
  readonly #publisher: Publisher;
  readonly #messages: readonly BatchMessage[];
  readonly #id: string;
  readonly #done = Promise.withResolvers<StoredBatch | BatchFailure>();
  /** Messages without an answer. */
  #unanswered = 0;
  #failure: MemberFailure | undefined;

  constructor(
    api: JetStreamApi,
    publisher: Publisher,
    messages: readonly BatchMessage[],
    id: string,
    deadlineMs: number,
  ) {
    this.#api = api;
    this.#connection = api.connection;
    this.#publisher = publisher;
    this.#messages = messages;
    this.#id = id;
    this.deadlineMs = deadlineMs;
    this.bytes = messages.reduce((sum, { headers, payload }) => sum + headers.length + payload.length, 0);
  }

  async run(): Promise<StoredBatch | BatchFailure> {
    this.#publisher.limit(this);
    return this.#done.promise;
  }

  refuse(error: WindshiftError): void {
    this.#done.resolve({ error, index: undefined });
  }

  start(): void {
    const last = this.#messages.length - 1;
    if (last === 0) {
      this.#send(0, true);
      return;
    }
    this.#unanswered = last;
    for (let index = 0; index < last; index++) this.#send(index, false);
  }

  /** @internal The stream keeps a message aside, or an error came in its place. */
  answered(index: number, failure: WindshiftError | "nobody_listens" | undefined): void {
    if (failure !== undefined && index < (this.#failure?.index ?? Infinity)) this.#failure = { index, error: failure };
    this.#unanswered -= 1;
    if (this.#unanswered > 0) return;
    if (this.#failure === undefined) {
      this.#send(this.#messages.length - 1, true);
      return;
    }
    this.#abandon();
    void this.#fail(this.#failure);
  }

  /** @internal The end of the batch. */
  ended(result: StoredBatch | WindshiftError | "nobody_listens"): void {
    // Not every refusal of the last one ends what the stream keeps; where nothing is kept, a gap does nothing.
    if (result === "nobody_listens" || result instanceof WindshiftError) this.#abandon();
    if (result === "nobody_listens") {
      void this.#fail({ index: this.#messages.length - 1, error: result });
    } else if (result instanceof WindshiftError) {
      this.#over({ error: result, index: this.#messages.length === 1 ? 0 : undefined });
    } else {
      this.#over(result);
    }
  }

  async #fail({ index, error }: MemberFailure): Promise<void> {
    if (error !== "nobody_listens") {
      this.#over({ index, error });
      return;
    }
    const { subject } = this.#messages[index]!;
    try {
      const stream = await this.#api.streamOfSubject(subject, { deadlineMs: this.deadlineMs });
      this.#over({ index, error: stream === undefined ? notBound(subject) : noLeader(stream) });
    } catch (cause) {
      this.#over({ index, error: notStored(cause) });
    }
  }

  #over(result: StoredBatch | BatchFailure): void {
    this.#publisher.left(this);
    this.#done.resolve(result);
  }

  #send(index: number, isLast: boolean): void {
    const { subject, headers, payload } = this.#messages[index]!;
    const handler = new Member(this, index, isLast, subject);
    const left = this.deadlineMs - Date.now();
    if (left <= 0) {
      queueMicrotask(() => handler.tooLate());
      return;
    }
    const limit = this.#connection.options.requestTimeoutMs;
    handler.deadlineFirst = left <= limit;
    const lines = `Nats-Batch-Id: ${this.#id}\r\nNats-Batch-Sequence: ${index + 1}\r\n${isLast ? "Nats-Batch-Commit: 1\r\n" : ""}`;
    const block = `${headers.slice(0, -2)}${lines}\r\n`;
    this.#connection.request(subject, block, payload, Math.min(left, limit), handler);
  }

  /** The stream would keep what it has for another 10 s, and takes few batches at a time: a gap ends this one. */
  #abandon(): void {
    if (this.#messages.length === 1) return;
    const headers = `NATS/1.0\r\nNats-Batch-Id: ${this.#id}\r\nNats-Batch-Sequence: ${this.#messages.length + 1}\r\n\r\n`;
    this.#connection.publish(this.#messages[0]!.subject, headers, NO_PAYLOAD);
  }
}

/** One message of a batch on its way. */
class Member implements ReplyHandler {
  readonly #batch: Batch;
  readonly #index: number;
  readonly #isLast: boolean;
  readonly #subject: string;
  deadlineFirst = false;

  constructor(batch: Batch, index: number, isLast: boolean, subject: string) {
    this.#batch = batch;
    this.#index = index;
    this.#isLast = isLast;
    this.#subject = subject;
  }

  tooLate(): void {
    this.#failed(tooLate("to store the batch", { subject: this.#subject }));
  }

  onReply(reply: NatsMessage): void {
    if (statusCode(reply) === 503) this.#failed("nobody_listens");
    else if (!this.#isLast && reply.payload.length === 0) this.#batch.answered(this.#index, undefined);
    else this.#read(reply);
  }

  onNoReply(why: NoReply): void {
    // What is kept aside is not stored without the last one.
    const request = { write: true, repeatable: !this.#isLast, deadlinePassed: this.deadlineFirst };
    const error = noReply(why, "to store the batch", request, { subject: this.#subject });
    this.#failed(this.#isLast ? error : notStored(error));
  }

  #read(reply: NatsMessage): void {
    const ack = parsePublishAck(reply.payload);
    if (ack instanceof WindshiftError) this.#failed(ack);
    else if (ack === undefined || !this.#isLast) this.#failed(notAsked(this.#subject));
    else this.#batch.ended({ stream: ack.stream, lastSequence: ack.sequence });
  }

  #failed(error: WindshiftError | "nobody_listens"): void {
    if (this.#isLast) this.#batch.ended(error);
    else this.#batch.answered(this.#index, error);
  }
}

/** Somebody else than a stream that knows batches. */
function notAsked(subject: string): WindshiftError {
  const text = `what came back for ${JSON.stringify(subject)} is no answer of a stream that takes batches`;
  return new WindshiftError("NATS_UNAVAILABLE", text, { metadata: { subject }, outcome: "unknown" });
}

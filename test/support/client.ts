/**
 * A gRPC client for tests: grpc-js below, the generated (reflecting) codecs above, so that nothing of the server's own
 * codecs is on this side of the wire.
 */

import {
  type DescMessage,
  type MessageInitShape,
  type MessageShape,
  create,
  fromBinary,
  toBinary,
} from "@bufbuild/protobuf";
import { type Any, anyPack, anyUnpack } from "@bufbuild/protobuf/wkt";
import {
  type ChannelCredentials,
  Client as GrpcClient,
  type ClientDuplexStream,
  type ClientReadableStream,
  Metadata,
  type StatusObject,
  credentials,
  status,
} from "@grpc/grpc-js";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../../src/gen/google/rpc/error_details_pb.ts";
import { type Status, StatusSchema } from "../../src/gen/google/rpc/status_pb.ts";
import {
  CancelScheduledEventRequestSchema,
  CancelScheduledEventResponseSchema,
  DeleteConsumerRequestSchema,
  DeleteConsumerResponseSchema,
  EnsureConsumerRequestSchema,
  EnsureConsumerResponseSchema,
  EnsureStreamRequestSchema,
  EnsureStreamResponseSchema,
  type Event,
  type EventsRequest,
  EventsRequestSchema,
  type EventsRequest_SubscribeSchema,
  type EventsResponse,
  EventsResponseSchema,
  GetEventRequestSchema,
  GetEventResponseSchema,
  type ReadEventsRequest,
  ReadEventsRequestSchema,
  type ReadEventsResponse,
  ReadEventsResponseSchema,
  PublishEventRequestSchema,
  PublishEventResponseSchema,
  PublishEventsRequestSchema,
  PublishEventsResponseSchema,
  type PublishStreamRequest,
  PublishStreamRequestSchema,
  type PublishStreamResponse,
  PublishStreamResponseSchema,
} from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import {
  DeleteRequestSchema,
  DeleteResponseSchema,
  EnsureStoreRequestSchema,
  EnsureStoreResponseSchema,
  GetRequestSchema,
  GetResponseSchema,
  SetRequestSchema,
  SetResponseSchema,
} from "../../src/gen/windshift/state/v1alpha1/state_pb.ts";
import { StringValueSchema } from "../../src/gen/windshift/test/v1/test_pb.ts";

export const EVENTS = "/windshift.events.v1alpha1.EventsService/";
export const STATE = "/windshift.state.v1alpha1.StateService/";

/** Settings of one call. */
export interface CallOptions {
  readonly deadlineMs?: number;
  readonly metadata?: Record<string, string>;
}

/** A failed call, its details opened. */
export class CallError extends Error {
  readonly code: number;
  readonly reason: string | undefined;
  readonly domain: string | undefined;
  readonly metadata: Record<string, string>;
  /** Field paths of the `BadRequest`. */
  readonly fields: string[];
  readonly retryAfterMs: number | undefined;

  constructor(error: StatusObject) {
    super(error.details);
    this.code = error.code;
    const [bytes] = error.metadata.get("grpc-status-details-bin");
    const details = bytes === undefined ? [] : fromBinary(StatusSchema, bytes as Buffer).details;
    const info = details.map((detail) => anyUnpack(detail, ErrorInfoSchema)).find((found) => found !== undefined);
    const retry = details.map((detail) => anyUnpack(detail, RetryInfoSchema)).find((found) => found !== undefined);
    this.reason = info?.reason;
    this.domain = info?.domain;
    this.metadata = { ...info?.metadata };
    this.fields = details
      .flatMap((detail) => anyUnpack(detail, BadRequestSchema)?.fieldViolations ?? [])
      .map(({ field }) => field);
    this.retryAfterMs =
      retry?.retryDelay === undefined
        ? undefined
        : Number(retry.retryDelay.seconds) * 1000 + retry.retryDelay.nanos / 1_000_000;
  }

  /** An error that came as a message. */
  static of(error: Status): CallError {
    const metadata = new Metadata();
    metadata.set("grpc-status-details-bin", Buffer.from(toBinary(StatusSchema, error)));
    return new CallError({ code: error.code, details: error.message, metadata });
  }

  /** Name of the code, `NOT_FOUND`. */
  get status(): string {
    return status[this.code]!;
  }
}

/** Credentials for TLS: whom to trust, and the client's own certificate. */
export function tlsCredentials(
  trusted: Buffer,
  own?: { readonly cert: Buffer; readonly key: Buffer },
): ChannelCredentials {
  return credentials.createSsl(trusted, own?.key, own?.cert);
}

/** A connection to a server. Unary calls reject with {@link CallError}. */
export class Client {
  readonly grpc: GrpcClient;

  readonly #metadata: Record<string, string>;

  /** `metadata` goes along with every call. */
  constructor(
    address: string,
    secure: ChannelCredentials = credentials.createInsecure(),
    metadata: Record<string, string> = {},
  ) {
    this.#metadata = metadata;
    this.grpc = new GrpcClient(address, secure, {
      "grpc.max_receive_message_length": -1,
      "grpc.max_send_message_length": -1,
      // A connection of its own, not one shared with every other client of this process.
      "grpc.use_local_subchannel_pool": 1,
    });
  }

  ensureStream = this.#unary(`${EVENTS}EnsureStream`, EnsureStreamRequestSchema, EnsureStreamResponseSchema);
  ensureConsumer = this.#unary(`${EVENTS}EnsureConsumer`, EnsureConsumerRequestSchema, EnsureConsumerResponseSchema);
  deleteConsumer = this.#unary(`${EVENTS}DeleteConsumer`, DeleteConsumerRequestSchema, DeleteConsumerResponseSchema);
  publishEvent = this.#unary(`${EVENTS}PublishEvent`, PublishEventRequestSchema, PublishEventResponseSchema);
  publishEvents = this.#unary(`${EVENTS}PublishEvents`, PublishEventsRequestSchema, PublishEventsResponseSchema);
  cancelScheduledEvent = this.#unary(
    `${EVENTS}CancelScheduledEvent`,
    CancelScheduledEventRequestSchema,
    CancelScheduledEventResponseSchema,
  );
  publishByOldName = this.#unary(`${EVENTS}Publish`, PublishEventRequestSchema, PublishEventResponseSchema);
  getEvent = this.#unary(`${EVENTS}GetEvent`, GetEventRequestSchema, GetEventResponseSchema);
  ensureStore = this.#unary(`${STATE}EnsureStore`, EnsureStoreRequestSchema, EnsureStoreResponseSchema);
  get = this.#unary(`${STATE}Get`, GetRequestSchema, GetResponseSchema);
  set = this.#unary(`${STATE}Set`, SetRequestSchema, SetResponseSchema);
  delete = this.#unary(`${STATE}Delete`, DeleteRequestSchema, DeleteResponseSchema);

  /** Publishes a text; returns the id. */
  async publish(subject: string, text = "hello", rest: MessageInitShape<typeof PublishEventRequestSchema> = {}) {
    const { id } = await this.publishEvent({ subject, data: textValue(text), ...rest });
    return id;
  }

  /** Opens a `ReadEvents` call. */
  readEvents(request: MessageInitShape<typeof ReadEventsRequestSchema>, options: CallOptions = {}): ReadCall {
    const stream = this.grpc.makeServerStreamRequest(
      `${EVENTS}ReadEvents`,
      (message: ReadEventsRequest) => Buffer.from(toBinary(ReadEventsRequestSchema, message)),
      (bytes) => fromBinary(ReadEventsResponseSchema, bytes),
      create(ReadEventsRequestSchema, request),
      metadataOf(this.#metadata, options),
      deadlineOf(options),
    );
    return new ReadCall(stream);
  }

  /** Opens a `PublishStream` call. */
  publishStream(options: CallOptions = {}): PublishStreamCall {
    const stream = this.grpc.makeBidiStreamRequest(
      `${EVENTS}PublishStream`,
      (request: PublishStreamRequest) => Buffer.from(toBinary(PublishStreamRequestSchema, request)),
      (bytes) => fromBinary(PublishStreamResponseSchema, bytes),
      metadataOf(this.#metadata, options),
      deadlineOf(options),
    );
    return new PublishStreamCall(stream);
  }

  /** Opens an `Events` call without sending anything. */
  events(options: CallOptions = {}, path = `${EVENTS}Events`): EventsCall {
    const stream = this.grpc.makeBidiStreamRequest(
      path,
      (request: EventsRequest) => Buffer.from(toBinary(EventsRequestSchema, request)),
      (bytes) => fromBinary(EventsResponseSchema, bytes),
      metadataOf(this.#metadata, options),
      deadlineOf(options),
    );
    return new EventsCall(stream);
  }

  /** Opens an `Events` call, subscribes, and waits for `subscribed`. */
  async subscribe(
    stream: string,
    consumer: string,
    maxProcessingEvents?: bigint,
    more: Omit<MessageInitShape<typeof EventsRequest_SubscribeSchema>, "$typeName"> = {},
  ): Promise<EventsCall> {
    const call = this.events();
    call.send({ case: "subscribe", value: { stream, consumer, maxProcessingEvents, ...more } });
    const first = await call.next();
    if (first.response.case !== "subscribed") throw new Error(`expected subscribed, got ${first.response.case}`);
    return call;
  }

  /** A unary call with bytes as they are. */
  async raw(path: string, request: Uint8Array, options: CallOptions = {}): Promise<Buffer> {
    const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
    this.grpc.makeUnaryRequest(
      path,
      (bytes: Uint8Array) => Buffer.from(bytes),
      (bytes) => bytes,
      request,
      metadataOf(this.#metadata, options),
      deadlineOf(options),
      (error, response) => (error === null ? resolve(response!) : reject(new CallError(error))),
    );
    return promise;
  }

  close(): void {
    this.grpc.close();
  }

  #unary<Request extends DescMessage, Response extends DescMessage>(
    path: string,
    request: Request,
    response: Response,
  ) {
    return async (message: MessageInitShape<Request>, options: CallOptions = {}): Promise<MessageShape<Response>> => {
      const bytes = await this.raw(path, toBinary(request, create(request, message)), options);
      return fromBinary(response, bytes);
    };
  }
}

/** An open `ReadEvents` call. Read it in a loop, at the pace of the loop, or let it `collect` by itself. */
export class ReadCall implements AsyncIterable<ReadEventsResponse> {
  readonly stream: ClientReadableStream<ReadEventsResponse>;
  /** What {@link collect} brought so far. */
  readonly received: ReadEventsResponse[] = [];
  /** Resolves when the call ended: undefined for OK. */
  readonly ended: Promise<CallError | undefined>;

  constructor(stream: ClientReadableStream<ReadEventsResponse>) {
    this.stream = stream;
    const { promise, resolve } = Promise.withResolvers<CallError | undefined>();
    this.ended = promise;
    stream.on("error", () => undefined);
    stream.on("status", (end) => resolve(end.code === status.OK ? undefined : new CallError(end)));
  }

  /** Keeps what comes. */
  collect(): this {
    this.stream.on("data", (response: ReadEventsResponse) => this.received.push(response));
    return this;
  }

  /** Ids of the events that were collected, and `caught_up` with its id where that came. */
  get told(): (bigint | string)[] {
    return this.received.map(({ response }) => {
      if (response.case === "event") return response.value.id;
      return response.case === "caughtUp" ? `caught up at ${response.value.lastId}` : "?";
    });
  }

  /** Each response; rejects with the error that ended the call. Leaving the loop cancels it. */
  async *[Symbol.asyncIterator](): AsyncGenerator<ReadEventsResponse> {
    try {
      for await (const response of this.stream) yield response as ReadEventsResponse;
    } catch (error) {
      throw (await this.ended) ?? error;
    }
  }

  /** All events to the end; rejects with the error that ended the call. */
  async events(): Promise<Event[]> {
    const events: Event[] = [];
    for await (const { response } of this) if (response.case === "event") events.push(response.value);
    const error = await this.ended;
    if (error !== undefined) throw error;
    return events;
  }

  /** Leaves as a client that cancels. */
  async cancel(): Promise<void> {
    this.stream.cancel();
    await this.ended;
  }
}

/** An open `PublishStream` call. */
export class PublishStreamCall {
  readonly stream: ClientDuplexStream<PublishStreamRequest, PublishStreamResponse>;
  /** What became of events, by their tags, in the order in which it was told. */
  readonly results = new Map<bigint, bigint | CallError>();
  /** Resolves when the call ended: undefined for OK. */
  readonly ended: Promise<CallError | undefined>;

  constructor(stream: ClientDuplexStream<PublishStreamRequest, PublishStreamResponse>) {
    this.stream = stream;
    stream.on("data", ({ tag, result }: PublishStreamResponse) => {
      if (this.results.has(tag)) throw new Error(`tag ${tag} was answered twice`);
      this.results.set(tag, result.case === "error" ? CallError.of(result.value) : (result.value ?? -1n));
    });
    const { promise, resolve } = Promise.withResolvers<CallError | undefined>();
    this.ended = promise;
    stream.on("error", () => undefined);
    stream.on("status", (end) => resolve(end.code === status.OK ? undefined : new CallError(end)));
  }

  /** Sends an event, or none. */
  send(tag: bigint, event?: MessageInitShape<typeof PublishEventRequestSchema>): void {
    this.stream.write(create(PublishStreamRequestSchema, event === undefined ? { tag } : { tag, event }));
  }

  /** Sends a text as an event. */
  publish(
    tag: bigint,
    subject: string,
    text = "hello",
    rest: MessageInitShape<typeof PublishEventRequestSchema> = {},
  ): void {
    this.send(tag, { subject, data: textValue(text), ...rest });
  }

  /** Half-closes and waits for the end. */
  async finish(): Promise<CallError | undefined> {
    this.stream.end();
    return this.ended;
  }
}

/** An open `Events` call: what comes is kept until it is asked for. */
export class EventsCall {
  readonly stream: ClientDuplexStream<EventsRequest, EventsResponse>;
  /** Everything that came so far. */
  readonly received: EventsResponse[] = [];
  /** Resolves when the call ended: undefined for OK. */
  readonly ended: Promise<CallError | undefined>;
  #taken = 0;
  #isOver = false;
  #wake: (() => void) | undefined;

  constructor(stream: ClientDuplexStream<EventsRequest, EventsResponse>) {
    this.stream = stream;
    stream.on("data", (response: EventsResponse) => {
      this.received.push(response);
      this.#wake?.();
    });
    const { promise, resolve } = Promise.withResolvers<CallError | undefined>();
    this.ended = promise;
    // The status says it all; an error may also be a write that a cancelled call no longer takes.
    stream.on("error", () => undefined);
    stream.on("status", (end) => resolve(end.code === status.OK ? undefined : new CallError(end)));
    void promise.then(() => {
      this.#isOver = true;
      this.#wake?.();
    });
  }

  send(request: MessageInitShape<typeof EventsRequestSchema>["request"]): void {
    this.stream.write(create(EventsRequestSchema, request === undefined ? {} : { request }));
  }

  ack(...ids: bigint[]): void {
    this.send({ case: "ack", value: { ids } });
  }

  /** The next response; rejects with the error that ended the call. */
  async next(): Promise<EventsResponse> {
    while (this.#taken === this.received.length) {
      if (this.#isOver) throw (await this.ended) ?? new Error("the call ended");
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.received[this.#taken++]!;
  }

  /** The next response, which has to be an event. */
  async event(): Promise<Event> {
    const { response } = await this.next();
    if (response.case !== "event") throw new Error(`expected an event, got ${response.case}`);
    return response.value;
  }

  /** The next `count` events. */
  async take(count: number): Promise<Event[]> {
    const events: Event[] = [];
    while (events.length < count) events.push(await this.event());
    return events;
  }

  /** The next response, which has to be a confirmation. */
  async confirmation(): Promise<{ ids: bigint[]; invalidIds: bigint[]; temporaryFailedIds: bigint[] }> {
    const { response } = await this.next();
    if (
      response.case !== "ackConfirmation" &&
      response.case !== "rejectConfirmation" &&
      response.case !== "pingConfirmation"
    ) {
      throw new Error(`expected a confirmation, got ${response.case}`);
    }
    const { ids, invalidIds, temporaryFailedIds } = response.value;
    return { ids, invalidIds, temporaryFailedIds };
  }

  /** Acknowledges one event and waits for its confirmation. */
  async ackNow(id: bigint): Promise<void> {
    this.ack(id);
    const { ids } = await this.confirmation();
    if (ids.length !== 1) throw new Error(`ack of ${id} was not confirmed`);
  }

  /** Half-closes and waits for the end. */
  async finish(): Promise<CallError | undefined> {
    this.stream.end();
    return this.ended;
  }

  /** Leaves as a client that cancels. */
  async cancel(): Promise<void> {
    this.stream.cancel();
    await this.ended;
  }
}

/** A text as event data or value. */
export function textValue(value: string): Any {
  return anyPack(StringValueSchema, create(StringValueSchema, { value }));
}

/** The text of {@link textValue}. */
export function textOf(data: Any | undefined): string | undefined {
  return data === undefined ? undefined : anyUnpack(data, StringValueSchema)?.value;
}

/** The error of a call that has to fail. */
export async function failure(call: Promise<unknown>): Promise<CallError> {
  try {
    await call;
  } catch (error) {
    if (error instanceof CallError) return error;
    throw error;
  }
  throw new Error("the call succeeded");
}

/** What a call brings along. */
export function metadataOf(always: Record<string, string>, { metadata = {} }: CallOptions): Metadata {
  const result = new Metadata();
  for (const [name, value] of Object.entries({ ...always, ...metadata })) result.set(name, value);
  return result;
}

function deadlineOf({ deadlineMs }: CallOptions): { deadline?: number } {
  return deadlineMs === undefined ? {} : { deadline: Date.now() + deadlineMs };
}

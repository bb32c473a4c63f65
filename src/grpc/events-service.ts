/** `windshift.events.v1alpha1.EventsService`: convert, call, convert. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { Reason, WindshiftError } from "../errors.ts";
import type { Events } from "../events/events.ts";
import {
  CancelScheduledEventRequestSchema,
  CancelScheduledEventResponseSchema,
  DeleteConsumerRequestSchema,
  EnsureConsumerRequestSchema,
  EnsureConsumerResponseSchema,
  EnsureStreamRequestSchema,
  type GetEventRequest,
  GetEventRequestSchema,
  ReadEventsRequestSchema,
} from "../gen/windshift/events/v1alpha1/events_pb.ts";
import { METHODS } from "../rpc.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { ActiveSpan } from "../telemetry/tracing.ts";
import { within } from "../within.ts";
import {
  type PublishEventRequest,
  type PublishStreamRequest,
  type PublishStreamResponse,
  decodeEventsRequest,
  decodePublishEventRequest,
  decodePublishEventsRequest,
  decodePublishStreamRequest,
  encodeEvent,
  encodeEventsResponse,
  encodeNothing,
  encodeOneUint64,
  encodeReadEventsResponse,
  encodePublishEventsResponse,
  encodePublishStreamResponse,
} from "./codecs/events.ts";
import { ConsumeLoop } from "./consume-loop.ts";
import { toConsumerSpec, toEventQuery, toNewEvent, toReadSpec, toStreamSpec } from "./convert.ts";
import {
  cancelScheduledEventAccess,
  consumeAccess,
  deleteConsumerAccess,
  ensureConsumerAccess,
  ensureStreamAccess,
  getEventAccess,
  publishAccess,
  publishManyAccess,
  readEventsAccess,
} from "./access.ts";
import { asWindshiftError } from "./errors.ts";
import { toEventMessage } from "./event-message.ts";
import { PublishAnswer, type ServiceTelemetry } from "./publish-answer.ts";
import { PublishBatch } from "./publish-batch.ts";
import { publishTogether } from "./publish-together.ts";
import { PublishLoop } from "./publish-loop.ts";
import { ReadLoop } from "./read-loop.ts";
import type { BidiCall, Router, UnaryCall } from "./server.ts";

/** Registers the service; `drain` ends its open subscriptions. */
export class EventsService {
  readonly #events: Events;
  readonly #telemetry: ServiceTelemetry;
  readonly #requestTimeoutMs: number;
  readonly #loops = new Set<ConsumeLoop>();
  readonly #reads = new Set<ReadLoop>();
  readonly #publishLoops = new Set<PublishLoop>();
  #isDraining = false;

  /** `requestTimeoutMs`: what an event of a publish stream may take. */
  constructor(
    events: Events,
    telemetry: ServiceTelemetry,
    { requestTimeoutMs }: { readonly requestTimeoutMs: number },
  ) {
    this.#events = events;
    this.#telemetry = telemetry;
    this.#requestTimeoutMs = requestTimeoutMs;
  }

  /** Serves all methods on a router. */
  register(router: Router): void {
    const events = this.#events;
    router.async(
      {
        method: METHODS.ensureStream,
        decode: (bytes) => fromBinary(EnsureStreamRequestSchema, bytes),
        encode: encodeNothing,
        access: ensureStreamAccess,
      },
      async (request, { deadlineMs }) => events.streams.ensure(toStreamSpec(request), { deadlineMs }),
    );
    router.async(
      {
        method: METHODS.ensureConsumer,
        decode: (bytes) => fromBinary(EnsureConsumerRequestSchema, bytes),
        encode: (id: string) => toBinary(EnsureConsumerResponseSchema, create(EnsureConsumerResponseSchema, { id })),
        access: ensureConsumerAccess,
      },
      async (request, { deadlineMs }) => events.consumers.ensure(toConsumerSpec(request), { deadlineMs }),
    );
    router.async(
      {
        method: METHODS.deleteConsumer,
        decode: (bytes) => fromBinary(DeleteConsumerRequestSchema, bytes),
        encode: encodeNothing,
        access: deleteConsumerAccess,
      },
      async ({ stream, id }, { deadlineMs }) => events.consumers.delete(stream, id, { deadlineMs }),
    );
    router.unary(
      {
        method: METHODS.publishEvent,
        decode: decodePublishEventRequest,
        encode: encodeOneUint64,
        access: publishAccess,
      },
      (call) => this.#publish(call),
    );
    router.unary(
      {
        method: METHODS.getEvent,
        decode: (bytes) => fromBinary(GetEventRequestSchema, bytes),
        encode: encodeEvent,
        access: getEventAccess,
      },
      (call) => this.#getEvent(call),
    );
    router.serverStreaming(
      {
        method: METHODS.readEvents,
        decode: (bytes) => fromBinary(ReadEventsRequestSchema, bytes),
        encode: encodeReadEventsResponse,
        access: readEventsAccess,
      },
      (request, call) => {
        const loop = new ReadLoop(call, events.reader, toReadSpec(request), (over) => this.#reads.delete(over));
        this.#reads.add(loop);
        if (this.#isDraining) loop.drain();
      },
    );
    router.bidi(
      {
        method: METHODS.events,
        decode: decodeEventsRequest,
        encode: encodeEventsResponse,
        access: consumeAccess,
      },
      (call) => {
        const loop = new ConsumeLoop(call, events, this.#telemetry.tracing, (over) => this.#loops.delete(over));
        this.#loops.add(loop);
        if (this.#isDraining) void loop.drain(0);
      },
    );
    router.async(
      {
        method: METHODS.cancelScheduledEvent,
        decode: (bytes) => fromBinary(CancelScheduledEventRequestSchema, bytes),
        encode: (cancelled: boolean) =>
          toBinary(CancelScheduledEventResponseSchema, create(CancelScheduledEventResponseSchema, { cancelled })),
        access: cancelScheduledEventAccess,
      },
      async ({ stream, idempotencyKey }, { deadlineMs }) =>
        events.publisher.cancel(stream, idempotencyKey, { deadlineMs }),
    );
    router.unary(
      {
        method: METHODS.publishEvents,
        decode: decodePublishEventsRequest,
        encode: encodePublishEventsResponse,
        access: publishManyAccess,
      },
      (call) => {
        if (call.request.atomic === true) void publishTogether(call, events.publisher, this.#telemetry);
        else new PublishBatch(call, events.publisher, this.#telemetry).run();
      },
    );
    router.bidi(
      {
        method: METHODS.publishStream,
        decode: decodePublishStreamRequest,
        encode: encodePublishStreamResponse,
        access: publishManyAccess,
      },
      (call) => this.#publishStream(call),
    );
  }

  #publishStream(call: BidiCall<PublishStreamRequest, PublishStreamResponse>): void {
    const loop = new PublishLoop(call, this.#events.publisher, this.#telemetry, this.#requestTimeoutMs);
    this.#publishLoops.add(loop);
    void loop.over.then(() => this.#publishLoops.delete(loop));
    if (this.#isDraining) void loop.drain();
  }

  /** Gives open subscriptions `graceMs` to settle what they hold, then ends them. */
  async drain(graceMs: number): Promise<void> {
    this.#isDraining = true;
    for (const loop of this.#reads) loop.drain();
    const publishing = [...this.#publishLoops].map(async (loop) => within(graceMs, loop.drain()));
    await Promise.all([...publishing, ...[...this.#loops].map(async (loop) => loop.drain(graceMs))]);
  }

  #getEvent(call: UnaryCall<GetEventRequest, Parameters<typeof encodeEvent>[0]>): void {
    const { request, deadlineMs } = call;
    const { stream } = request;
    // Somebody who may read some subjects alone does not learn either which ids the others have: no filters are all.
    const answer = (filters: readonly string[], respond: () => void): void => {
      try {
        if (request.event.case === "id") call.authorize({ verb: "read", stream, filters, isLearned: true });
        respond();
      } catch (error) {
        call.fail(error);
      }
    };
    this.#events.getter.get(stream, toEventQuery(request), deadlineMs, {
      onEvent: (event) => answer([event.subject], () => call.respond(toEventMessage(event, 0))),
      onFailed: (error) => {
        if (TELLING.has(error.reason)) answer([], () => call.fail(error));
        else call.fail(error);
      },
    });
  }

  #publish(call: UnaryCall<PublishEventRequest, bigint>): void {
    const { metrics, tracing } = this.#telemetry;
    const span = tracing.enabled ? tracing.startPublish(call.request.subject, call) : undefined;
    const answer = new UnaryAnswer(call, metrics, span);
    try {
      this.#events.publisher.publish(toNewEvent(call.request, span ?? call), call.deadlineMs, answer);
    } catch (error) {
      answer.onFailed(asWindshiftError(error));
    }
  }
}

/** What a get fails with that tells of the stream. */
const TELLING: ReadonlySet<Reason> = new Set(["EVENT_NOT_FOUND", "STREAM_NOT_FOUND"]);

class UnaryAnswer extends PublishAnswer {
  readonly #call: UnaryCall<PublishEventRequest, bigint>;

  constructor(call: UnaryCall<PublishEventRequest, bigint>, metrics: Metrics, span: ActiveSpan | undefined) {
    super(metrics, span);
    this.#call = call;
  }

  protected stored(id: bigint): void {
    this.#call.respond(id);
  }

  protected failed(error: WindshiftError): void {
    this.#call.fail(error);
  }
}

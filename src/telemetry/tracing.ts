/**
 * Spans: one for each unary call, and one for each event that is published, delivered or settled; never one for a
 * subscription, which may live for weeks. `start…` returns undefined while nobody records, so that a hot path pays one
 * comparison: `span?.traceParent ?? incoming.traceParent` is then what goes on.
 */
import {
  type Attributes,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  createTraceState,
  trace,
} from "@opentelemetry/api";
import {
  CLIENT_ADDRESS,
  DELIVERY_ATTEMPT,
  ERROR_TYPE,
  MESSAGING_BATCH_MESSAGE_COUNT,
  MESSAGING_CONSUMER_GROUP_NAME,
  MESSAGING_DESTINATION_NAME,
  MESSAGING_MESSAGE_ID,
  MESSAGING_OPERATION_NAME,
  MESSAGING_OPERATION_TYPE,
  MESSAGING_SYSTEM_NAME,
  RPC_METHOD,
  RPC_STATUS_CODE,
  RPC_SYSTEM_NAME,
  SUBJECT,
  isServerError,
  statusName,
} from "./attributes.ts";
import type { SettlementKind } from "./handles.ts";
import { type TraceContext, formatTraceParent, parseTraceParent } from "./trace-context.ts";

/** A kind of span, as `docs/telemetry.md` lists it. */
export interface SpanDefinition {
  /** The span's name, `{…}` standing for an attribute. */
  readonly name: string;
  readonly kind: "server" | "producer" | "consumer" | "client";
  readonly attributes: readonly string[];
}

const MESSAGING = [MESSAGING_SYSTEM_NAME, MESSAGING_OPERATION_NAME, MESSAGING_OPERATION_TYPE];
const CONSUMER = [MESSAGING_DESTINATION_NAME, MESSAGING_CONSUMER_GROUP_NAME];

/** Every kind of span. */
export const SPANS: readonly SpanDefinition[] = [
  {
    name: `{${RPC_METHOD}}`,
    kind: "server",
    attributes: [RPC_SYSTEM_NAME, RPC_METHOD, RPC_STATUS_CODE, CLIENT_ADDRESS, ERROR_TYPE],
  },
  {
    name: "publish",
    kind: "producer",
    attributes: [...MESSAGING, SUBJECT, MESSAGING_DESTINATION_NAME, MESSAGING_MESSAGE_ID, ERROR_TYPE],
  },
  {
    name: `deliver {${MESSAGING_DESTINATION_NAME}}`,
    kind: "consumer",
    attributes: [...MESSAGING, ...CONSUMER, SUBJECT, MESSAGING_MESSAGE_ID, DELIVERY_ATTEMPT, ERROR_TYPE],
  },
  {
    name: `{${MESSAGING_OPERATION_NAME}} {${MESSAGING_DESTINATION_NAME}}`,
    kind: "client",
    attributes: [...MESSAGING, ...CONSUMER, MESSAGING_BATCH_MESSAGE_COUNT, ERROR_TYPE],
  },
];

/** A span that has begun; it ends once. As a {@link TraceContext} it is the parent of what it causes. */
export class ActiveSpan implements TraceContext {
  readonly traceId: string;
  readonly spanId: string;
  /** The value to pass on; its flags say whether the trace is recorded. */
  readonly traceParent: string;
  readonly traceState: string | undefined;
  readonly #span: Span;

  constructor(span: Span) {
    this.#span = span;
    const { traceId, spanId, traceFlags, traceState } = span.spanContext();
    this.traceId = traceId;
    this.spanId = spanId;
    this.traceParent = formatTraceParent({ traceId, spanId, flags: traceFlags });
    this.traceState = traceState?.serialize();
  }

  /** Adds an attribute that was not known at the beginning. */
  set(attribute: string, value: string | number): void {
    this.#span.setAttribute(attribute, value);
  }

  /** The work is done. */
  end(): void {
    this.#span.end();
  }

  /** The work has failed; `reason` is one of `REASONS`. */
  fail(reason: string, message?: string): void {
    this.#span.setAttribute(ERROR_TYPE, reason);
    this.#span.setStatus({
      code: SpanStatusCode.ERROR,
      ...(message === undefined ? {} : { message }),
    });
    this.#span.end();
  }

  /** The call has ended with a gRPC status code. Only what is the server's fault counts as an error. */
  endCall(code: number): void {
    const status = statusName(code);
    this.#span.setAttribute(RPC_STATUS_CODE, status);
    if (isServerError(status)) this.fail(status);
    else this.#span.end();
  }
}

/** Which event a span is about. */
export interface SpanEvent {
  readonly stream: string;
  readonly consumer: string;
  readonly subject: string;
  readonly id: bigint;
  readonly attempt: bigint;
}

/** Begins spans, or nothing at all. */
export class Tracing {
  /** False: nobody records, every `start…` returns undefined. */
  readonly enabled: boolean;
  readonly #tracer: Tracer | undefined;

  constructor(tracer?: Tracer) {
    this.#tracer = tracer;
    this.enabled = tracer !== undefined;
  }

  /** A unary call of `package.Service/Method`; `peer` is `address:port`. */
  startCall(method: string, peer: string, parent: TraceContext): ActiveSpan | undefined {
    if (this.#tracer === undefined) return undefined;
    const address = peer.slice(0, peer.lastIndexOf(":"));
    const attributes = {
      [RPC_SYSTEM_NAME]: "grpc",
      [RPC_METHOD]: method,
      [CLIENT_ADDRESS]: address,
    };
    return this.#start(this.#tracer, method, SpanKind.SERVER, parent, attributes);
  }

  /** An event on its way to JetStream. Set the stream and the id when it is stored. */
  startPublish(subject: string, parent: TraceContext): ActiveSpan | undefined {
    if (this.#tracer === undefined) return undefined;
    const attributes = { ...operation("publish", "send"), [SUBJECT]: subject };
    return this.#start(this.#tracer, "publish", SpanKind.PRODUCER, parent, attributes);
  }

  /** An event on its way to a subscriber; `parent` is what it was stored with. */
  startDelivery(event: SpanEvent, parent: TraceContext): ActiveSpan | undefined {
    if (this.#tracer === undefined) return undefined;
    return this.#start(this.#tracer, `deliver ${event.stream}`, SpanKind.CONSUMER, parent, {
      ...operation("deliver", "process"),
      [MESSAGING_DESTINATION_NAME]: event.stream,
      [MESSAGING_CONSUMER_GROUP_NAME]: event.consumer,
      [SUBJECT]: event.subject,
      [MESSAGING_MESSAGE_ID]: event.id.toString(),
      [DELIVERY_ATTEMPT]: Number(event.attempt),
    });
  }

  /** Settlements of `count` events that a client asked for at once. */
  startSettlement(
    kind: SettlementKind,
    { stream, consumer, count }: { readonly stream: string; readonly consumer: string; readonly count: number },
    parent: TraceContext,
  ): ActiveSpan | undefined {
    if (this.#tracer === undefined) return undefined;
    return this.#start(this.#tracer, `${kind} ${stream}`, SpanKind.CLIENT, parent, {
      ...operation(kind, "settle"),
      [MESSAGING_DESTINATION_NAME]: stream,
      [MESSAGING_CONSUMER_GROUP_NAME]: consumer,
      [MESSAGING_BATCH_MESSAGE_COUNT]: count,
    });
  }

  #start(tracer: Tracer, name: string, kind: SpanKind, parent: TraceContext, attributes: Attributes): ActiveSpan {
    return new ActiveSpan(tracer.startSpan(name, { kind, attributes }, parentContext(parent)));
  }
}

function operation(name: string, type: string): Attributes {
  return {
    [MESSAGING_SYSTEM_NAME]: "nats",
    [MESSAGING_OPERATION_NAME]: name,
    [MESSAGING_OPERATION_TYPE]: type,
  };
}

/** Contexts are passed by hand: a context manager would make every promise of the process dearer. */
function parentContext({ traceParent, traceState }: TraceContext): typeof ROOT_CONTEXT {
  const parent = traceParent === undefined ? undefined : parseTraceParent(traceParent);
  if (parent === undefined) return ROOT_CONTEXT;
  return trace.setSpanContext(ROOT_CONTEXT, {
    traceId: parent.traceId,
    spanId: parent.spanId,
    traceFlags: parent.flags,
    isRemote: true,
    ...(traceState === undefined ? {} : { traceState: createTraceState(traceState) }),
  });
}

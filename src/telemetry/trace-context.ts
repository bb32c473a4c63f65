/**
 * W3C trace context as text, without an OpenTelemetry object: what a client sends in `traceparent` and `tracestate`
 * goes into the stored event, and from there to whoever consumes it. What is not valid is dropped, as the standard
 * asks, so that no client can write arbitrary bytes into headers.
 */

/** The two W3C values of one trace position; both or the first alone. */
export interface TraceContext {
  readonly traceParent?: string | undefined;
  readonly traceState?: string | undefined;
}

/** The parts of a `traceparent`. */
export interface TraceParent {
  /** 32 lower-case hexadecimal digits. */
  readonly traceId: string;
  /** 16 lower-case hexadecimal digits. */
  readonly spanId: string;
  /** 1: the caller records this trace. */
  readonly flags: number;
}

/** No trace: what calls without a valid `traceparent` get. */
export const NO_TRACE: TraceContext = Object.freeze({});

/** Length of the four parts that every version begins with. */
const LENGTH = 55;
const PARTS = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/;
const NO_TRACE_ID = "0".repeat(32);
const NO_SPAN_ID = "0".repeat(16);
/** The standard guarantees that so much is passed on; longer values are dropped. */
const MAX_TRACE_STATE_LENGTH = 512;
const PRINTABLE = /^[\x20-\x7e]+$/;

/** The parts of a valid `traceparent`, of this version of the standard or a later one; undefined for all else. */
export function parseTraceParent(text: string): TraceParent | undefined {
  if (!isTraceParent(text)) return undefined;
  return {
    traceId: text.slice(3, 35),
    spanId: text.slice(36, 52),
    flags: Number.parseInt(text.slice(53, LENGTH), 16),
  };
}

/** A `traceparent` of version 00. */
export function formatTraceParent({ traceId, spanId, flags }: TraceParent): string {
  return `00-${traceId}-${spanId}-${flags.toString(16).padStart(2, "0")}`;
}

/** Where the values are looked up: request metadata, by lower-case name. */
export interface TraceCarrier {
  get(name: string): string | undefined;
}

/** Reads the trace context of a call. Values of later versions are brought down to 00, since we would forge theirs. */
export function readTraceContext(carrier: TraceCarrier): TraceContext {
  const traceParent = carrier.get("traceparent");
  if (traceParent === undefined || !isTraceParent(traceParent)) return NO_TRACE;
  const current = traceParent.startsWith("00") ? traceParent : downgrade(traceParent);
  return { traceParent: current, traceState: validTraceState(carrier.get("tracestate")) };
}

/** The reader for `OTEL_PROPAGATORS`: without `tracecontext` in it, calls have no trace. */
export function traceContextReader(propagators: readonly string[]): (carrier: TraceCarrier) => TraceContext {
  return propagators.includes("tracecontext") ? readTraceContext : () => NO_TRACE;
}

function isTraceParent(text: string): boolean {
  const known = text.length === LENGTH;
  // Later versions may append parts, after another dash.
  if (!known && (text.length < LENGTH || text[LENGTH] !== "-" || text.startsWith("00"))) return false;
  const parts = known ? text : text.slice(0, LENGTH);
  return (
    PARTS.test(parts) &&
    !parts.startsWith("ff") &&
    !parts.startsWith(NO_TRACE_ID, 3) &&
    !parts.startsWith(NO_SPAN_ID, 36)
  );
}

function downgrade(text: string): string {
  const sampled = Number.parseInt(text.slice(53, LENGTH), 16) & 1;
  return `00${text.slice(2, 53)}0${sampled}`;
}

function validTraceState(text: string | undefined): string | undefined {
  const state = text?.trim();
  return state !== undefined && state.length <= MAX_TRACE_STATE_LENGTH && PRINTABLE.test(state) ? state : undefined;
}

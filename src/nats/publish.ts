/**
 * Hot path: storing a message in a stream and hearing that it is stored. One object for each publish carries it from
 * the queue to its acknowledgement; there is no promise and no closure. Measured by `npm run bench -- publish`.
 *
 * A subject without a stream and a stream without a leader look the same to a publisher (503, no responders), so the
 * meta layer is asked which it is: the first is an error at once, the second is tried again until the deadline.
 */
import { Buffer } from "node:buffer";
import { WindshiftError } from "../errors.ts";
import type { JetStreamApi } from "./api.ts";
import type { NatsConnection, NoReply, ReplyHandler } from "./connection.ts";
import { type JetStreamErrorBody, JetStreamCode, jetStreamCode, noReply, refusal, tooLate } from "./errors.ts";
import { InFlightLimit, type Limited, type Limits } from "./in-flight-limit.ts";
import { type NatsMessage, statusCode } from "./message.ts";
import { type LaneMember, type PublishLane, RETRY_MS } from "./publish-lane.ts";

/** A message to store. */
export interface OutgoingMessage {
  readonly subject: string;
  /** A whole header block, or empty. */
  readonly headers: string;
  readonly payload: Uint8Array;
  /** When the caller gives up, in milliseconds since the epoch. */
  readonly deadlineMs: number;
  /** Storing it twice cannot happen: it has a message id. */
  readonly repeatable: boolean;
  /** It waits its turn also where too many do: there is a bound on how many of these there are. */
  readonly isPatient?: boolean;
}

/** What JetStream says of a stored message. */
export interface PublishAck {
  readonly stream: string;
  /** Sequence in the stream; of the first one where this was a duplicate. */
  readonly sequence: bigint;
  readonly duplicate: boolean;
}

/** Hears how a publish ended: exactly one of the two, once. */
export interface PublishListener {
  /** `place`: in its lane, if it has one. */
  onStored(ack: PublishAck, place: number): void;
  onFailed(error: WindshiftError): void;
}

const RETRY_AFTER_MS = 500;
/** Refusals of a cluster that has not caught up with itself; they pass. */
const PASSING = new Set<number | undefined>([JetStreamCode.duplicateInProcess, JetStreamCode.lastSequenceNotReady]);

/** Stores messages in streams. */
export class Publisher {
  readonly #api: JetStreamApi;
  readonly #connection: NatsConnection;
  readonly #limit: InFlightLimit;

  constructor(api: JetStreamApi, limits: Limits) {
    this.#api = api;
    this.#connection = api.connection;
    this.#limit = new InFlightLimit("publishes", limits);
    this.#connection.listen({
      onConnected: () => undefined,
      onDisconnected: () =>
        this.#limit.refuseWaiting(noReply("not_sent", "to publish", { write: true, repeatable: true })),
    });
  }

  /** Publishes sent and not yet acknowledged. */
  get inFlight(): number {
    return this.#limit.inFlight;
  }

  /** Publishes that wait for their turn. */
  get waiting(): number {
    return this.#limit.waiting;
  }

  /** Whether a publish without a lane would be refused. */
  get isCrowded(): boolean {
    return this.#limit.isCrowded;
  }

  /**
   * Stores `message`; calls the listener later, never before it returns unless the queue is full. In a lane it keeps its
   * place behind the earlier ones of its subject, and waits instead of being refused.
   */
  publish(message: OutgoingMessage, listener: PublishListener, lane?: PublishLane): void {
    const publish = new Publish(this, message, listener, lane);
    if (lane === undefined) this.#limit.enter(publish);
    else lane.enter(publish);
  }

  /** @internal */
  enter(publish: Publish): void {
    this.#limit.enter(publish);
  }

  /** @internal */
  send(publish: Publish): void {
    const { message } = publish;
    const left = message.deadlineMs - Date.now();
    if (left <= 0) {
      publish.finish(tooLate("to store the message", { subject: message.subject }));
      return;
    }
    const limit = this.#connection.options.requestTimeoutMs;
    publish.deadlineFirst = left <= limit;
    this.#connection.request(message.subject, message.headers, message.payload, Math.min(left, limit), publish);
  }

  /** Starts other work when it is its turn among publishes, or refuses it; it counts until it has `left`. */
  limit(work: Limited): void {
    this.#limit.enter(work);
  }

  /** Something that had its turn is over. */
  left(work: Limited): void {
    this.#limit.leave(work);
  }

  /** @internal What is tried again counts as waiting until then; false where too many wait, and it was refused. */
  standAside(publish: Publish): boolean {
    return this.#limit.standAside(publish);
  }

  /** @internal One that stood aside is tried again in a moment, or fails with `otherwise` if the deadline comes first. */
  again(publish: Publish, otherwise: WindshiftError): void {
    if (Date.now() + RETRY_MS >= publish.message.deadlineMs) publish.giveUp(otherwise);
    else if (publish.lane !== undefined) publish.lane.refused(publish, otherwise);
    else setTimeout(() => this.#limit.comeBack(publish), RETRY_MS);
  }

  /** @internal */
  comeBack(publish: Publish): void {
    this.#limit.comeBack(publish);
  }

  /** @internal One that stood aside is not tried again. */
  giveUp(publish: Publish): void {
    this.#limit.giveUp(publish);
  }

  /**
   * @internal Others than JetStream may listen on the subject too: they never answer, or answer with what is no
   * acknowledgement. Where no stream collects it that is the reason; else `otherwise` is.
   */
  async notAcknowledged(publish: Publish, otherwise: WindshiftError): Promise<void> {
    const { subject, deadlineMs } = publish.message;
    const stream = await this.#api.streamOfSubject(subject, { deadlineMs }).catch(() => "");
    publish.fail(stream === undefined ? notBound(subject) : otherwise);
  }

  /** @internal A publish found nobody listening: says why, or tries again. */
  async nobodyListens(publish: Publish): Promise<void> {
    const { subject, deadlineMs } = publish.message;
    if (!this.#limit.standAside(publish)) return;
    let stream: string | undefined;
    try {
      stream = await this.#api.streamOfSubject(subject, { deadlineMs });
    } catch (error) {
      publish.giveUp(notStored(error));
      return;
    }
    if (stream === undefined) publish.giveUp(notBound(subject));
    else this.again(publish, noLeader(stream));
  }
}

/** One publish on its way. */
class Publish implements Limited, ReplyHandler, LaneMember {
  readonly message: OutgoingMessage;
  readonly listener: PublishListener;
  readonly lane: PublishLane | undefined;
  readonly isWrite = true;
  readonly isPatient: boolean;
  readonly bytes: number;
  place = 0;
  deadlineFirst = false;
  /** JetStream is storing another message with the same id: if that one fails it stores this one, else it need not. */
  #hasTwin = false;
  readonly #publisher: Publisher;

  constructor(
    publisher: Publisher,
    message: OutgoingMessage,
    listener: PublishListener,
    lane: PublishLane | undefined,
  ) {
    this.#publisher = publisher;
    this.message = message;
    this.listener = listener;
    this.lane = lane;
    this.isPatient = lane !== undefined || message.isPatient === true;
    this.bytes = message.headers.length + message.payload.length;
  }

  get deadlineMs(): number {
    return this.message.deadlineMs;
  }

  get subject(): string {
    return this.message.subject;
  }

  begin(): void {
    this.#publisher.enter(this);
  }

  comeBack(): void {
    this.#publisher.comeBack(this);
  }

  giveUp(error: WindshiftError): void {
    this.#publisher.giveUp(this);
    this.fail(error);
  }

  start(): void {
    this.#publisher.send(this);
  }

  refuse(error: WindshiftError): void {
    this.fail(error);
  }

  onReply(reply: NatsMessage): void {
    this.#publisher.left(this);
    if (statusCode(reply) === 503) {
      this.lane?.stall();
      void this.#publisher.nobodyListens(this);
      return;
    }
    const result = parsePublishAck(reply.payload);
    if (result === undefined) void this.#publisher.notAcknowledged(this, this.#noAck());
    else if (result instanceof WindshiftError) this.#refused(result);
    else {
      this.lane?.answered(this, true);
      this.listener.onStored(result, this.place);
    }
  }

  onNoReply(why: NoReply): void {
    const request = {
      write: true,
      repeatable: this.message.repeatable,
      deadlinePassed: this.deadlineFirst,
    };
    const error = noReply(why, "to store the message", request, { subject: this.message.subject });
    if (why !== "timeout" || this.deadlineFirst) {
      this.finish(error);
      return;
    }
    this.#publisher.left(this);
    void this.#publisher.notAcknowledged(this, error);
  }

  finish(error: WindshiftError): void {
    this.#publisher.left(this);
    this.fail(error);
  }

  fail(error: WindshiftError): void {
    const mayBeStored = this.#hasTwin && error.outcome === "not_stored";
    this.lane?.answered(this, mayBeStored || error.outcome !== "not_stored");
    this.listener.onFailed(mayBeStored ? withOutcome(error, "unknown") : error);
  }

  #refused(error: WindshiftError): void {
    const code = jetStreamCode(error);
    this.#hasTwin = code === JetStreamCode.duplicateInProcess;
    if (!isPassing(code)) this.fail(error);
    else if (this.#publisher.standAside(this)) this.#publisher.again(this, error);
  }

  /** Somebody answered before JetStream did, which may have stored it all the same. */
  #noAck(): WindshiftError {
    const { subject, repeatable } = this.message;
    const text = `what came back for ${JSON.stringify(subject)} is no acknowledgement of JetStream: somebody else answers there too`;
    return new WindshiftError("NATS_UNAVAILABLE", text, {
      metadata: { subject },
      outcome: "unknown",
      ...(repeatable ? { retryAfterMs: RETRY_AFTER_MS } : {}),
    });
  }
}

interface AckBody {
  readonly stream?: string;
  readonly seq?: number;
  readonly duplicate?: boolean;
  readonly error?: JetStreamErrorBody;
}

/** Acknowledgements of a stream differ in nothing but the sequence at their end: what was before it in the last one. */
let lastBegin = Buffer.alloc(0);
let lastStream = "";
const BEGIN = /^(\{"stream":"[^"\\]*",\s*(?:"domain":"[^"\\]*",\s*)?"seq":\s*)\d+\}$/;

/** Reads a publish acknowledgement, or the error in its place; undefined where somebody else answered something else. */
export function parsePublishAck(payload: Buffer): PublishAck | WindshiftError | undefined {
  const usual = sequenceOfLast(payload);
  if (usual !== undefined) return { stream: lastStream, sequence: BigInt(usual), duplicate: false };
  const text = payload.toString("latin1");
  const body = parseObject(text);
  if (typeof body?.error?.err_code === "number") return notStored(refusal(body.error, {}, body.stream));
  if (typeof body?.stream !== "string" || typeof body.seq !== "number") return undefined;
  const sequence = Number.isSafeInteger(body.seq) ? BigInt(body.seq) : BigInt(/"seq":\s*(\d+)/.exec(text)?.[1] ?? 0);
  const begin = BEGIN.exec(text)?.[1];
  if (begin !== undefined) [lastBegin, lastStream] = [Buffer.from(begin, "latin1"), body.stream];
  return { stream: body.stream, sequence, duplicate: body.duplicate === true };
}

/** The sequence of an acknowledgement that begins as the last one did; undefined for any other. */
function sequenceOfLast(payload: Buffer): number | undefined {
  const begin = lastBegin;
  const end = payload.length - 1;
  if (begin.length === 0 || end <= begin.length || payload[end] !== CLOSING_BRACE) return undefined;
  for (let n = 0; n < begin.length; n++) if (payload[n] !== begin[n]) return undefined;
  let sequence = 0;
  for (let n = begin.length; n < end; n++) {
    const digit = payload[n]! - ZERO;
    if (digit < 0 || digit > 9) return undefined;
    sequence = sequence * 10 + digit;
  }
  return Number.isSafeInteger(sequence) ? sequence : undefined;
}

const ZERO = 48;
const CLOSING_BRACE = 125;

function parseObject(text: string): AckBody | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

/** No stream collects the subject. */
export function notBound(subject: string): WindshiftError {
  const text = `subject: ${JSON.stringify(subject)} is not collected by any stream`;
  return new WindshiftError("SUBJECT_NOT_BOUND", text, {
    metadata: { subject },
    outcome: "not_stored",
  });
}

/** The stream has no leader at the moment. */
export function noLeader(stream: string): WindshiftError {
  return new WindshiftError("NO_LEADER", `stream ${JSON.stringify(stream)} has no leader`, {
    metadata: { stream },
    outcome: "not_stored",
    retryAfterMs: RETRY_AFTER_MS,
  });
}

/** The same error, of a write that is known to have stored nothing. */
export function notStored(error: unknown): WindshiftError {
  if (error instanceof WindshiftError) return withOutcome(error, "not_stored");
  return new WindshiftError("INTERNAL", "publishing failed", {
    cause: error,
    outcome: "not_stored",
  });
}

function withOutcome(error: WindshiftError, outcome: WindshiftError["outcome"]): WindshiftError {
  return new WindshiftError(error.reason, error.message, {
    metadata: error.metadata,
    ...(error.field === undefined ? {} : { field: error.field }),
    ...(outcome === undefined ? {} : { outcome }),
    ...(error.retryAfterMs === undefined ? {} : { retryAfterMs: error.retryAfterMs }),
    cause: error.cause,
  });
}

/** True for a refusal of a cluster that has not caught up with itself: it passes. */
export function isPassing(code: number | undefined): boolean {
  return PASSING.has(code);
}

/** True where JetStream refused because the last sequence is another. */
export function isWrongLastSequence(code: number | undefined): boolean {
  return code === JetStreamCode.wrongLastSequence || code === JetStreamCode.wrongLastSequenceUnnamed;
}

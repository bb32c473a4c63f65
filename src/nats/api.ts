/**
 * Requests to the JetStream API: JSON in, JSON out. The client library has a manager for streams and consumers; its
 * requests have one time limit for all and no answer to "was it done?" when that passes, and it creates consumers with
 * several filter subjects through an endpoint that cannot tell creating from updating. The types are the library's.
 */
import type { ConsumerConfig, ConsumerInfo, StreamConfig, StreamInfo } from "@nats-io/jetstream";
import { WindshiftError } from "../errors.ts";
import type { NatsConnection, NoReply } from "./connection.ts";
import { type JetStreamErrorBody, noReply, refusal, tooLate } from "./errors.ts";
import { InFlightLimit, type Limits } from "./in-flight-limit.ts";
import { type NatsMessage, statusCode } from "./message.ts";

/** Settings of one API call. */
export interface ApiCall {
  /** When the caller gives up, in milliseconds since the epoch. */
  readonly deadlineMs?: number | undefined;
  /** The call changes something: on failure the error says whether it may have. */
  readonly write?: boolean;
  /** True once nobody waits for the answer any more: what has not begun by then never will. */
  readonly isLeft?: () => boolean;
  /** Names for the error's metadata. */
  readonly names?: Readonly<Record<string, string>>;
}

const NO_PAYLOAD = new Uint8Array(0);

/** The JetStream API of one connection. */
export class JetStreamApi {
  readonly connection: NatsConnection;
  readonly #operations: InFlightLimit;

  /** `limits` are for what runs `inTurn`; the server's own questions are few and never wait. */
  constructor(connection: NatsConnection, limits: Limits) {
    this.connection = connection;
    this.#operations = new InFlightLimit("operations on streams and consumers", limits);
    connection.listen({
      onConnected: () => undefined,
      onDisconnected: () =>
        this.#operations.refuseWaiting(noReply("not_sent", "to ask JetStream", { write: false, repeatable: true })),
    });
  }

  /** Runs what one caller asked for, with all its requests, when it is its turn. Rejects where too many wait already. */
  async inTurn<Result>(call: ApiCall, run: () => Promise<Result>): Promise<Result> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const { deadlineMs = Infinity, write = false } = call;
    this.#operations.enter({ deadlineMs, isWrite: write, bytes: 0, start: resolve, refuse: reject });
    await promise;
    try {
      if (call.isLeft?.() === true) throw new WindshiftError("CANCELLED", "the client left before it was its turn");
      return await run();
    } finally {
      this.#operations.leave();
    }
  }

  /** Rejects with the project's error: what JetStream refused, or why there is no answer. */
  async request<Response>(path: string, body: object | undefined, call: ApiCall = {}): Promise<Response> {
    const { connection } = this;
    const payload = body === undefined ? NO_PAYLOAD : Buffer.from(JSON.stringify(body));
    if (payload.length > connection.maxPayload) throw tooLarge(path, payload.length, connection.maxPayload, call);
    const { promise, resolve, reject } = Promise.withResolvers<Response>();
    const names = call.names ?? {};
    const limit = connection.options.requestTimeoutMs;
    const left = call.deadlineMs === undefined ? limit : call.deadlineMs - Date.now();
    if (left <= 0 && call.write === true) throw tooLate(`to answer ${path}`, names);
    const fail = (why: NoReply): void => {
      const request = {
        write: call.write === true,
        repeatable: false,
        deadlinePassed: call.deadlineMs !== undefined && left <= limit,
      };
      reject(noReply(why, `to answer ${path}`, request, names));
    };
    connection.request(`${connection.apiPrefix}.${path}`, "", payload, Math.max(1, Math.min(limit, left)), {
      onNoReply: fail,
      onReply(message: NatsMessage) {
        try {
          resolve(parseReply(message, names));
        } catch (error) {
          reject(error as Error);
        }
      },
    });
    return promise;
  }

  /** Rejects with STREAM_NOT_FOUND where there is none. */
  async streamInfo(stream: string, call: ApiCall = {}): Promise<StreamInfo> {
    return this.request(`STREAM.INFO.${stream}`, undefined, { names: { stream }, ...call });
  }

  async createStream(config: Partial<StreamConfig> & { name: string }, call: ApiCall): Promise<StreamInfo> {
    return this.request(`STREAM.CREATE.${config.name}`, config, { write: true, ...call });
  }

  async updateStream(config: Partial<StreamConfig> & { name: string }, call: ApiCall): Promise<StreamInfo> {
    return this.request(`STREAM.UPDATE.${config.name}`, config, { write: true, ...call });
  }

  /** The stream that collects `subject`, or undefined. */
  async streamOfSubject(subject: string, call: ApiCall = {}): Promise<string | undefined> {
    const { streams } = await this.request<{ streams: string[] | null }>("STREAM.NAMES", { subject }, call);
    return streams?.[0];
  }

  /** Rejects with CONSUMER_NOT_FOUND or STREAM_NOT_FOUND where there is none. */
  async consumerInfo(stream: string, consumer: string, call: ApiCall = {}): Promise<ConsumerInfo> {
    const names = { stream, consumer };
    return this.request(`CONSUMER.INFO.${stream}.${consumer}`, undefined, { names, ...call });
  }

  /** Creates, or with `action` "update" changes, the consumer `config.name`. */
  async putConsumer(
    stream: string,
    config: Partial<ConsumerConfig> & { name: string },
    action: "create" | "update",
    call: ApiCall,
  ): Promise<ConsumerInfo> {
    const filter = config.filter_subject;
    const path = `CONSUMER.CREATE.${stream}.${config.name}${filter === undefined || filter === "" ? "" : `.${filter}`}`;
    return this.request(path, { stream_name: stream, config, action }, { write: true, ...call });
  }

  /** Rejects with CONSUMER_NOT_FOUND or STREAM_NOT_FOUND where there is none. */
  async deleteConsumer(stream: string, consumer: string, call: ApiCall): Promise<void> {
    await this.request(`CONSUMER.DELETE.${stream}.${consumer}`, undefined, { write: true, ...call });
  }
}

/** nats-server would close the connection, which all calls share. */
function tooLarge(path: string, size: number, limit: number, call: ApiCall): WindshiftError {
  const text = `as a request to JetStream (${path}) this has ${size} bytes, NATS accepts ${limit}`;
  return new WindshiftError("MESSAGE_TOO_LARGE", text, {
    metadata: call.names ?? {},
    ...(call.write === true ? { outcome: "not_stored" } : {}),
  });
}

/** Parses a reply of the API; throws what it refuses. */
export function parseReply<Response>(message: NatsMessage, names: Readonly<Record<string, string>>): Response {
  const status = statusCode(message);
  if (status === 503) {
    throw new WindshiftError("NATS_UNAVAILABLE", "no JetStream answers: not enabled, or without a leader", {
      metadata: names,
      retryAfterMs: 500,
    });
  }
  const body = JSON.parse(message.payload.toString()) as Response & { error?: JetStreamErrorBody };
  if (body.error !== undefined) throw refusal(body.error, { metadata: names });
  return body;
}

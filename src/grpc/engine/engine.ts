/**
 * What an engine is to the rest of the server: it accepts connections and moves gRPC messages, as bytes, between them
 * and handlers. It knows nothing of Windshift, so that another engine can take its place (`GRPC_ENGINE`).
 *
 * A call begins when its request headers arrive and ends exactly once: by `end` of the handler, or by `onCancel` when
 * the client left, its deadline passed, the connection broke, the client read too little of what was sent, or the
 * engine refused what it sent. After its end a call ignores everything.
 */
import type { X509Certificate } from "node:crypto";

/** What an engine refuses by itself, with the status codes that gRPC's specification asks for. */
export const REFUSAL_CODES = {
  unknown_method: 12,
  /** Of messages, not of bytes: a method that takes one got none, or several. */
  wrong_count: 12,
  unsupported_encoding: 12,
  /** Messages, compression or `grpc-timeout` are not as the specification has them. */
  malformed: 13,
  message_too_large: 8,
  metadata_too_large: 8,
  /** The budget of requests that are not finished, or wait for their handler, is used up, and the client has its share. */
  overloaded: 8,
  deadline: 4,
  /** The client had no deadline, or a distant one, and took too long to send its request, or a message of a stream. */
  too_slow: 4,
} as const;

/** One of {@link REFUSAL_CODES}. */
export type RefusalKind = keyof typeof REFUSAL_CODES;

/** A call that the engine ends by itself, and the status that its client gets. */
export interface Refusal extends CallStatus {
  readonly kind: RefusalKind;
  /** As the client sent it, of any length; empty where the metadata was too large to get to it. */
  readonly path: string;
  readonly peer: string;
  /** When the call began, on the monotonic clock. */
  readonly openedAt: number;
  /** Its handler had the call already, and hears of the end by `onCancel`. */
  readonly isHandled: boolean;
}

/** Why a call ended without its handler: the client left, its deadline passed, it did not read, or it was refused. */
export type CancelCause = "left" | "deadline" | "unread" | Refusal;

/** The client's own clock ends a call a moment before ours: its deadline counts here from when the request had arrived. */
const CLIENTS_LEAD_MS = 25;

/** Why a client ended a call with this deadline just now. */
export function causeOfLeaving(deadlineMs: number | undefined): CancelCause {
  return deadlineMs !== undefined && Date.now() + CLIENTS_LEAD_MS >= deadlineMs ? "deadline" : "left";
}

/** Metadata of a response: names in lower case, values as on the wire, which is base64 for names that end in `-bin`. */
export type ResponseMetadata = readonly (readonly [name: string, value: string])[];

/** A gRPC status as it goes over the wire. */
export interface CallStatus {
  /** Canonical code, 0 is OK. */
  readonly code: number;
  readonly message: string;
  /** Serialized `google.rpc.Status` for the `grpc-status-details-bin` trailer. */
  readonly details?: Uint8Array;
  /** Further trailers. */
  readonly metadata?: ResponseMetadata;
}

/** Request metadata; names in lower case. */
export interface RequestMetadata {
  /**
   * The value, or undefined. Values of a name that comes several times are joined by ", ", which is the same in gRPC;
   * of those that are base64 it is the first.
   */
  get(name: string): string | undefined;
}

/** One call, seen by its handler. */
export interface EngineCall {
  /** HTTP/2 path, `/package.Service/Method`. */
  readonly path: string;
  /** To be read before the call ends: none may be left then. */
  readonly metadata: RequestMetadata;
  /** Remote `address:port`. */
  readonly peer: string;
  /** The client's own certificate, which one of `clientCa` has signed; the same object for all calls of a connection. */
  readonly peerCertificate: X509Certificate | undefined;
  /** When the client gives up, in milliseconds since the epoch; undefined without a deadline. */
  readonly deadlineMs: number | undefined;
  /** True from the moment at which nobody waits for an answer any more. */
  readonly cancelled: boolean;
  /** Begins the response with metadata, ahead of any message; of no effect once it has begun. */
  sendMetadata(metadata: ResponseMetadata): void;
  /** Sends one message. False: the engine's buffer is over its limit; wait for `onDrain` before sending much more. */
  send(message: Uint8Array): boolean;
  /** Ends the call. What was sent before is delivered first. */
  end(status: CallStatus): void;
  /** Stops the flow of request messages, and by HTTP/2 flow control the client; of no effect on unary calls. */
  pause(): void;
  resume(): void;
  /** Set by the handler. Called at most once. */
  onCancel: ((cause: CancelCause) => void) | undefined;
  /** Set by the handler. Called when the buffer has room again. */
  onDrain: (() => void) | undefined;
  /** Set by the handler of a streaming call before it returns. */
  onMessage: ((message: Uint8Array) => void) | undefined;
  /** Set by the handler. The client will send no more messages. */
  onHalfClose: (() => void) | undefined;
}

/** Where calls of one path go. */
export type EngineHandler =
  | {
      /** One request message. The engine collects it before it calls the handler. */
      readonly kind: "unary" | "server_streaming";
      readonly handle: (call: EngineCall, request: Uint8Array) => void;
    }
  | BidiHandler;

/** Messages both ways. */
export interface BidiHandler {
  readonly kind: "bidi";
  readonly handle: (call: EngineCall) => void;
}

/** PEM texts: a certificate with its key, and who signs the certificates of clients. */
export interface EngineTls {
  readonly cert: Buffer;
  readonly key: Buffer;
  /** With it clients are asked for a certificate; one that it did not sign ends the connection. */
  readonly clientCa?: Buffer;
  /** Whether clients without a certificate are let in; they are not unless this says so. */
  readonly clientCertificate?: "required" | "optional";
}

/** Limits and addresses of an engine. */
export interface EngineOptions {
  readonly host: string;
  /** 0 takes a free port. */
  readonly port: number;
  /** Largest request message in bytes. */
  readonly maxReceiveMessageBytes: number;
  /** Largest block of request metadata in bytes. */
  readonly maxMetadataBytes: number;
  /** Calls in flight on one connection. */
  readonly maxConcurrentStreams: number;
  /** Connections at a time; further ones are closed as soon as they are accepted. */
  readonly maxConnections: number;
  /**
   * Bytes of responses, over all calls, that were sent and not yet read by clients. Beyond that, calls whose clients have
   * read nothing for the longest are aborted (`ENHANCE_YOUR_CALM`), or their connections cut where they do not read those.
   */
  readonly maxUnreadBytes: number;
  /** A connection that is silent so long gets a ping. */
  readonly keepaliveTimeMs: number;
  /** A ping without an answer for so long ends the connection. */
  readonly keepaliveTimeoutMs: number;
  /** Connections are asked to leave after this time, and end when their calls have; 0 is never. */
  readonly maxConnectionAgeMs: number;
  /** Hears of what a handler or a hook threw, while the client only learns that the server failed; and of failures to accept one. */
  readonly onError?: (error: unknown) => void;
  /**
   * Hears of each call that the engine refuses, and returns the status for its client, of the same code: it may know
   * more to say. Not called where a library below the engine refuses without a word to it.
   */
  readonly onRefused?: (refusal: Refusal) => CallStatus;
  /** Hears of each call that is aborted because its client does not read, and of what it held; what it throws goes to `onError`. */
  readonly onUnread?: (call: EngineCall, bytes: number) => void;
  /** Without it connections are plain text. */
  readonly tls?: EngineTls;
}

/** A running or startable server. */
export interface Engine {
  /** Bytes of responses that calls, and sockets where the engine can tell, hold and clients have not read. */
  readonly unreadBytes: number;
  /** Serves `path`; only before `listen`. */
  handle(path: string, handler: EngineHandler): void;
  /** Resolves with the bound port; rejects when the address cannot be had. */
  listen(): Promise<number>;
  /** Other keys for connections that begin from now on, where it was started with some; whether clients are asked stays. */
  renewTls(tls: EngineTls): void;
  /** Accepts no further connections or calls; resolves when the last call has ended and its client has all of it. */
  drain(): Promise<void>;
  /** Cuts everything that is still open. */
  close(): void;
}

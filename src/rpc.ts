/**
 * Service and method descriptors that no engine or client library colours. The server serves them, a client calls
 * them; both get the paths, the kinds and the codecs from here.
 */

/** Turns messages of one type into bytes and back. `decode` throws on bytes that are not such a message. */
export interface Codec<T> {
  decode(bytes: Uint8Array): T;
  encode(message: T): Uint8Array;
}

/** How many messages go each way. */
export type MethodKind = "unary" | "server_streaming" | "bidi";

/** One RPC: where it is and what it carries. */
export interface Method<Request, Response> {
  /** Full name of the service, `windshift.events.v1alpha1.EventsService`. */
  readonly service: string;
  readonly name: string;
  /** Further names under which the same RPC is served. */
  readonly aliases: readonly string[];
  readonly kind: MethodKind;
  readonly request: Codec<Request>;
  readonly response: Codec<Response>;
}

/** The HTTP/2 paths a method answers on, its own first. */
export function methodPaths(method: Method<never, never>): string[] {
  return [method.name, ...method.aliases].map((name) => `/${method.service}/${name}`);
}

/** gRPC's part of header blocks: what begins a response, and what ends it ("gRPC over HTTP2", the gRPC specification). */
import { Buffer } from "node:buffer";
import type { CallStatus } from "../engine.ts";
import { STATUS_200, encodeField } from "./hpack.ts";

const CONTENT_TYPE = encodeField("content-type", "application/grpc");

/** Begins a response. */
export const RESPONSE_HEADERS: Buffer = Buffer.concat([STATUS_200, CONTENT_TYPE]);
/** Tells which compression of requests is understood. */
export const ACCEPT_ENCODING: Buffer = encodeField("grpc-accept-encoding", "identity,deflate,gzip");

const CODES = Array.from({ length: 17 }, (_, code) => encodeField("grpc-status", String(code)));
const OK = CODES[0]!;

/** The trailers that carry a status. */
export function encodeTrailers({ code, message, details, metadata = [] }: CallStatus): Buffer {
  if (code === 0 && message === "" && details === undefined && metadata.length === 0) return OK;
  const fields = [CODES[code] ?? encodeField("grpc-status", String(code))];
  if (message !== "") fields.push(encodeField("grpc-message", percentEncode(message)));
  if (details !== undefined) fields.push(encodeField("grpc-status-details-bin", base64(details)));
  for (const [name, value] of metadata) fields.push(encodeField(name, value));
  return Buffer.concat(fields);
}

/**
 * Everything but printable ASCII, and `%` itself, as `%` with two digits for each byte of UTF-8. And so are blanks at the
 * beginning and the end, where values of fields have none (RFC 9113, section 8.2.1).
 */
export function percentEncode(text: string): string {
  if (PLAIN.test(text)) return text;
  let result = "";
  const bytes = Buffer.from(text);
  for (const [at, byte] of bytes.entries()) {
    const isEdge = at === 0 || at === bytes.length - 1;
    const isPlain = byte >= (isEdge ? SPACE + 1 : SPACE) && byte <= 0x7e && byte !== PERCENT;
    result += isPlain ? String.fromCharCode(byte) : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  return result;
}

const PLAIN = /^(?! )[\x20-\x24\x26-\x7e]*(?<! )$/;
const SPACE = 0x20;
const PERCENT = 0x25;

/** Without padding, as the specification asks of those who send. */
function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("base64").replace(/=+$/, "");
}

const METHOD_NOT_ALLOWED = 405;

/** Fields for a request that is no gRPC: plain HTTP is understood by whoever sent it. */
export function encodeHttpHeaders(status: number): Buffer {
  const fields = [encodeField(":status", String(status)), encodeField("content-type", "text/plain")];
  if (status === METHOD_NOT_ALLOWED) fields.push(encodeField("allow", "POST"));
  return Buffer.concat(fields);
}

/** The fields of a request or of its trailers, checked as RFC 9113 (section 8) asks for. */
import { HeaderField } from "./hpack.ts";

/** Why a list of fields cannot be accepted. */
export type HeaderProblem = "malformed" | "too_large";

const CONNECTION_FIELDS = new Set(["connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade"]);

/** Collects the fields of one header block after the other; `begin` empties it. */
export class HeaderList {
  readonly #maxBytes: number;
  #hasRegular = false;
  #isMalformed = false;
  /** What the list is of: trailers, or a request. */
  isTrailers = false;
  /** Bytes as RFC 9113 (section 6.5.2) counts them. */
  bytes = 0;
  method: string | undefined;
  path: string | undefined;
  scheme: string | undefined;
  authority: string | undefined;
  /** Bytes of DATA that the client announces. */
  contentLength: number | undefined;
  /** All but the pseudo fields. */
  fields: HeaderField[] = [];

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  begin(isTrailers: boolean): void {
    this.isTrailers = isTrailers;
    this.#hasRegular = this.#isMalformed = false;
    this.bytes = 0;
    this.method = this.path = this.scheme = this.authority = this.contentLength = undefined;
    this.fields = [];
  }

  add(received: HeaderField): void {
    this.bytes += received.size;
    // Kept no longer than it can be accepted; the decoder reads on, as later blocks build on this one.
    if (this.bytes > this.#maxBytes) return;
    const field = withoutBlanks(received);
    const { name } = field;
    if (!field.isValid) {
      this.#isMalformed = true;
    } else if (name.charCodeAt(0) === COLON) {
      this.#pseudo(name, field.value);
    } else {
      this.#hasRegular = true;
      if (CONNECTION_FIELDS.has(name) || (name === "te" && field.value !== "trailers")) this.#isMalformed = true;
      if (name === "content-length") this.#setContentLength(field.value);
      this.fields.push(field);
    }
  }

  /** After the last field. */
  get problem(): HeaderProblem | undefined {
    if (this.#isMalformed) return "malformed";
    if (this.bytes > this.#maxBytes) return "too_large";
    if (this.isTrailers) return undefined;
    return this.#isComplete ? undefined : "malformed";
  }

  get #isComplete(): boolean {
    const { method, scheme, path } = this;
    // Section 8.5: what it asks for is a connection, not a resource.
    if (method === "CONNECT") return (this.authority ?? "") !== "" && scheme === undefined && path === undefined;
    return method !== undefined && scheme !== undefined && (path ?? "") !== "";
  }

  #setContentLength(value: string): void {
    const length = DIGITS.test(value) ? Number(value) : NaN;
    if (Number.isNaN(length) || (this.contentLength ?? length) !== length) this.#isMalformed = true;
    this.contentLength = length;
  }

  #pseudo(name: string, value: string): void {
    const isRepeated = this.#set(name, value);
    if (isRepeated || this.#hasRegular || this.isTrailers) this.#isMalformed = true;
  }

  /** True where the field was there already, or is none of a request. */
  #set(name: string, value: string): boolean {
    switch (name) {
      case ":method":
        if (this.method !== undefined) return true;
        this.method = value;
        return false;
      case ":path":
        if (this.path !== undefined) return true;
        this.path = value;
        return false;
      case ":scheme":
        if (this.scheme !== undefined) return true;
        this.scheme = value;
        return false;
      case ":authority":
        if (this.authority !== undefined) return true;
        this.authority = value;
        return false;
      default:
        return true;
    }
  }
}

const TAB = 9;
const SPACE = 32;
const COLON = 58;
const DIGITS = /^\d+$/;

/** RFC 9113 has no blanks around values; but gRPC lets clients send them ("they may be stripped"), and some do. */
function withoutBlanks(field: HeaderField): HeaderField {
  const { value } = field;
  let start = 0;
  let end = value.length;
  while (start < end && isBlank(value.charCodeAt(start))) start += 1;
  while (start < end && isBlank(value.charCodeAt(end - 1))) end -= 1;
  return end - start === value.length ? field : new HeaderField(field.name, value.slice(start, end));
}

function isBlank(code: number): boolean {
  return code === SPACE || code === TAB;
}

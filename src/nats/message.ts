/**
 * Hot path: what is read of a message from NATS, straight from its bytes. A map of canonical names, as client libraries
 * build it, takes 4 µs for each message; most need a line or two of it.
 */
/** A message as it came from NATS; it stays valid, and so do its views. */
export interface NatsMessage {
  readonly subject: string;
  /** Empty when the message has no reply subject. */
  readonly reply: string;
  /** The header block, `NATS/1.0…\r\n\r\n`; undefined without headers. */
  readonly headers: Buffer | undefined;
  readonly payload: Buffer;
  /** Bytes as NATS counts a message: subject, reply subject, headers and payload. */
  readonly size: number;
}

/** The status of a message without content (`NATS/1.0 503`), or 0. */
export function statusCode(message: NatsMessage): number {
  const { headers } = message;
  // "NATS/1.0" is 8 bytes; a status follows after one blank, three digits.
  if (headers === undefined || headers.length < 12 || headers[8] !== 0x20) return 0;
  return (headers[9]! - 48) * 100 + (headers[10]! - 48) * 10 + (headers[11]! - 48);
}

/** The text after the status code; for logs alone, as nats-server may word it otherwise tomorrow. */
export function statusText(message: NatsMessage): string {
  const { headers } = message;
  if (headers === undefined) return "";
  const end = headers.indexOf("\r\n");
  return headers.toString("latin1", 12, end < 0 ? headers.length : end).trim();
}

/** The first value of a header, compared without case, outer blanks removed; undefined when it is not there. */
export function headerValue(message: Pick<NatsMessage, "headers">, name: string): string | undefined {
  const { headers } = message;
  if (headers === undefined) return undefined;
  let found: string | undefined;
  eachHeader(headers, (key, value) => {
    if (found === undefined && key.length === name.length && key.toLowerCase() === name.toLowerCase()) found = value;
  });
  return found;
}

/** Calls back for each header line in order, values without the ASCII blanks around them. */
export function eachHeader(headers: Buffer, visit: (name: string, value: string) => void): void {
  let start = headers.indexOf(CR, 0) + 2;
  const end = headers.length - 2;
  while (start > 1 && start < end) {
    let stop = headers.indexOf(CR, start);
    if (stop < 0) stop = headers.length;
    const colon = headers.indexOf(COLON, start);
    if (colon > 0 && colon < stop) {
      let [from, to] = [colon + 1, stop];
      while (from < to && isBlank(headers[from]!)) from += 1;
      while (to > from && isBlank(headers[to - 1]!)) to -= 1;
      visit(headers.toString("latin1", start, colon), headers.toString("utf8", from, to));
    }
    start = stop + 2;
  }
}

function isBlank(byte: number): boolean {
  return byte === 32 || byte === 9;
}

const CR = 13;
const COLON = 58;

/**
 * What a publisher gives along with an event, for its readers: names and values, stored as NATS headers of their own.
 * Pure functions.
 */
import { fieldError, quote } from "../errors.ts";

/** Names and values, in their order. */
export type Attributes = readonly (readonly [name: string, value: string])[];

/** Names and values together; with the longest key there is room for them in nats-server's 64 KiB of headers. */
const MAX_BYTES = 16 * 1024;
/** Visible ASCII without the colon, at which a header's name ends. */
const NAME = /^[!-9;-~]{1,256}$/;
const RESERVED = /^(?:nats|ws)-/i;
/** All but the tab. */
// oxlint-disable-next-line no-control-regex -- these are what it looks for
const CONTROL = /[\0-\x08\n-\x1f\x7f]/;

/** Throws unless readers can get these attributes as they are. */
export function checkAttributes(attributes: ReadonlyMap<string, string>): void {
  const seen = new Map<string, string>();
  let bytes = 0;
  for (const [name, value] of attributes) {
    if (!NAME.test(name)) {
      throw invalid(`${quote(name)} is no name: it must have 1 to 256 visible ASCII characters other than ":"`);
    }
    if (RESERVED.test(name)) throw invalid(`${quote(name)} is reserved: it begins with "Nats-" or "WS-"`);
    if (CONTROL.test(value)) throw invalid(`the value of ${quote(name)} has a line break or another control character`);
    const lower = name.toLowerCase();
    const other = seen.get(lower);
    if (other !== undefined) throw invalid(`${quote(other)} and ${quote(name)} differ only by case`);
    seen.set(lower, name);
    bytes += name.length + Buffer.byteLength(value);
  }
  if (bytes > MAX_BYTES) throw invalid(`have ${bytes} bytes in all, at most ${MAX_BYTES} may be`);
}

function invalid(problem: string) {
  return fieldError("INVALID_VALUE", "attributes", problem);
}

/** Gathers the attributes of a stored event, which may be of other tools: of a repeated name the first value counts. */
export class AttributeReader {
  readonly attributes: [name: string, value: string][] = [];
  readonly #seen = new Set<string>();

  /** Takes a header that is not of NATS or ours, unless nobody could publish its name. */
  add(name: string, line: { readonly value: string }): void {
    const lower = name.toLowerCase();
    if (!NAME.test(name) || this.#seen.has(lower)) return;
    this.#seen.add(lower);
    this.attributes.push([name, line.value]);
  }
}

/**
 * Hot path: texts that mostly come again, such as subjects and the names of types. Comparing the bytes takes a part of the
 * time that decoding or encoding them does, and what was the same text is one string instead of thousands.
 */
import { Buffer } from "node:buffer";

/** Longer ones are not remembered. */
const MAX_LENGTH = 256;

/** Decodes UTF-8, and remembers the last text. */
export class LastText {
  readonly #bytes = Buffer.alloc(MAX_LENGTH);
  #length = 0;
  #text = "";

  /** The text in `[start, end)`. */
  decode(bytes: Buffer, start: number, end: number): string {
    const length = end - start;
    if (length === this.#length && this.#isLast(bytes, start)) return this.#text;
    const text = bytes.toString("utf8", start, end);
    if (length <= MAX_LENGTH) {
      bytes.copy(this.#bytes, 0, start, end);
      this.#length = length;
      this.#text = text;
    }
    return text;
  }

  #isLast(bytes: Buffer, start: number): boolean {
    const last = this.#bytes;
    for (let n = 0; n < this.#length; n++) if (bytes[start + n] !== last[n]) return false;
    return true;
  }
}

/** Encodes UTF-8, and remembers the last bytes. */
export class LastBytes {
  #text = "";
  #bytes = Buffer.alloc(0);

  /** The text as bytes, for reading alone. */
  encode(text: string): Buffer {
    if (text === this.#text) return this.#bytes;
    const bytes = Buffer.from(text);
    if (text.length <= MAX_LENGTH) {
      this.#text = text;
      this.#bytes = bytes;
    }
    return bytes;
  }
}

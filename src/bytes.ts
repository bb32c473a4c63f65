/** The same bytes as a Buffer, without a copy. */
import { Buffer } from "node:buffer";
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

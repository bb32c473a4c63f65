/**
 * Credentials that were proved, by what their clients send. Bounded in bytes: what was not asked for since the younger
 * half was full is forgotten, and has to be proved again.
 */
import type { Credential } from "./credential.ts";

const ENTRY_BYTES = 1024;

/** Keeps credentials until they expire. */
export class CredentialCache {
  readonly #maxBytes: number;
  #young = new Map<string, Credential>();
  #youngBytes = 0;
  #old = new Map<string, Credential>();

  /** Of texts, each with 1 KiB for what it stands for. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get size(): number {
    return this.#young.size + this.#old.size;
  }

  /** The credential that the text proves, where that is known. */
  get(text: string): Credential | undefined {
    const young = this.#young.get(text);
    if (young !== undefined) return young;
    const old = this.#old.get(text);
    if (old !== undefined) this.set(text, old);
    return old;
  }

  set(text: string, credential: Credential): void {
    this.#old.delete(text);
    if (!this.#young.has(text)) this.#youngBytes += text.length + ENTRY_BYTES;
    this.#young.set(text, credential);
    if (this.#youngBytes <= this.#maxBytes / 2) return;
    this.#old = this.#young;
    this.#young = new Map();
    this.#youngBytes = 0;
  }

  delete(text: string): void {
    // Its bytes stay counted: the younger half is full a little earlier.
    this.#young.delete(text);
    this.#old.delete(text);
  }

  clear(): void {
    this.#young.clear();
    this.#old.clear();
    this.#youngBytes = 0;
  }
}

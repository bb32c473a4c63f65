/**
 * The last reason that a client gave for rejecting an event, for the letter that it may become later. It is what this server
 * knows, and no more than there is room for: reasons are for people, and not worth a write to NATS for each reject.
 */

const MAX_REASONS = 10_000;
const MAX_CHARACTERS = 2 * 1024 * 1024;

/** Reasons by the key of their event; the oldest make room. */
export class LastReasons {
  readonly #reasons = new Map<string, string>();
  #characters = 0;

  set(key: string, reason: string): void {
    this.#delete(key);
    this.#reasons.set(key, reason);
    this.#characters += reason.length;
    for (const oldest of this.#reasons.keys()) {
      if (this.#reasons.size <= MAX_REASONS && this.#characters <= MAX_CHARACTERS) break;
      this.#delete(oldest);
    }
  }

  /** The reason, which is not needed any more afterwards. */
  take(key: string): string | undefined {
    const reason = this.#reasons.get(key);
    this.#delete(key);
    return reason;
  }

  get(key: string): string | undefined {
    return this.#reasons.get(key);
  }

  #delete(key: string): void {
    this.#characters -= this.#reasons.get(key)?.length ?? 0;
    this.#reasons.delete(key);
  }
}

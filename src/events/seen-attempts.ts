/**
 * How many deliveries of an event clients saw, where this server tried to give the event up and could not: what JetStream
 * delivers after that is not for clients, and counts all the same.
 */

const MAX_EVENTS = 10_000;

/** Counts by the key of their event; the oldest make room. */
export class SeenAttempts {
  readonly #attempts = new Map<string, number>();

  set(key: string, attempts: number): void {
    this.#attempts.set(key, attempts);
    if (this.#attempts.size <= MAX_EVENTS) return;
    for (const oldest of this.#attempts.keys()) {
      this.#attempts.delete(oldest);
      return;
    }
  }

  get(key: string): number | undefined {
    return this.#attempts.get(key);
  }

  delete(key: string): void {
    this.#attempts.delete(key);
  }
}

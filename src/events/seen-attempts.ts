/**
 * How many deliveries of an event clients saw, where this server tried to give the event up and could not: what JetStream
 * delivers after that is not for clients, and counts all the same.
 */

const MAX_EVENTS = 10_000;

/** Counts by stream, consumer and event; the oldest make room. */
export class SeenAttempts {
  readonly #attempts = new Map<string, number>();

  set(stream: string, consumer: string, id: number, attempts: number): void {
    this.#attempts.set(keyOf(stream, consumer, id), attempts);
    if (this.#attempts.size <= MAX_EVENTS) return;
    for (const oldest of this.#attempts.keys()) {
      this.#attempts.delete(oldest);
      return;
    }
  }

  get(stream: string, consumer: string, id: number): number | undefined {
    return this.#attempts.get(keyOf(stream, consumer, id));
  }

  delete(stream: string, consumer: string, id: number): void {
    this.#attempts.delete(keyOf(stream, consumer, id));
  }
}

function keyOf(stream: string, consumer: string, id: number): string {
  return `${stream} ${consumer} ${id}`;
}

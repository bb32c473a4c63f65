/**
 * How many letters are written at a time, counted for each stream of dead letters: one that cannot be reached holds up its
 * own letters alone. Those that wait belong to events that subscriptions hold, which bounds them, and they leave the queue
 * at their deadline.
 */
import { tooLate } from "../nats/errors.ts";

const MAX_IN_FLIGHT = 64;

/** Letters of one stream: those that are being written, and those that wait, the longest first. */
interface Queue {
  inFlight: number;
  readonly waiting: Set<() => void>;
}

/** Places for letters that are being written. */
export class LetterSlots {
  readonly #queues = new Map<string, Queue>();

  /** Resolves when there is a place for a letter in `stream`, which has to `leave`. Rejects at the deadline. */
  async enter(stream: string, deadlineMs: number): Promise<void> {
    const queue = this.#queues.get(stream) ?? { inFlight: 0, waiting: new Set() };
    this.#queues.set(stream, queue);
    if (queue.inFlight < MAX_IN_FLIGHT) {
      queue.inFlight += 1;
      return;
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const timer = setTimeout(() => {
      queue.waiting.delete(start);
      reject(tooLate("to store the dead letter", { stream }));
    }, deadlineMs - Date.now());
    const start = (): void => {
      clearTimeout(timer);
      resolve();
    };
    queue.waiting.add(start);
    await promise;
  }

  /** The place goes to the one that waits for the longest. */
  leave(stream: string): void {
    const queue = this.#queues.get(stream)!;
    for (const next of queue.waiting) {
      queue.waiting.delete(next);
      next();
      return;
    }
    queue.inFlight -= 1;
    if (queue.inFlight === 0) this.#queues.delete(stream);
  }
}

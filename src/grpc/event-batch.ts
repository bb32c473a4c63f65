/**
 * Hot path: events that leave together. What one read from NATS brought goes into one message, or several where it is too
 * much for one; nothing is waited for. Whatever else is sent has to go behind what is gathered: `flush` first.
 */
import type { EventMessage } from "./codecs/events.ts";

/** A message stays below the 4 MiB that gRPC's libraries take unless told otherwise; one larger event goes alone. */
const MAX_BYTES = 1024 * 1024;

/** Gathers the events of one call. */
export class EventBatch {
  readonly #maxEvents: number;
  readonly #send: (events: readonly EventMessage[]) => void;
  #events: EventMessage[] = [];
  #bytes = 0;
  #isScheduled = false;

  /** `send` is called with one event at least, and with `maxEvents` at most. */
  constructor(maxEvents: number, send: (events: readonly EventMessage[]) => void) {
    this.#maxEvents = maxEvents;
    this.#send = send;
  }

  /** Takes in an event of so many bytes. It leaves at once where the message is full, else when the read is over. */
  add(event: EventMessage, bytes: number): void {
    if (this.#bytes + bytes > MAX_BYTES) this.flush();
    this.#events.push(event);
    this.#bytes += bytes;
    if (this.#events.length === this.#maxEvents) this.flush();
    else this.#schedule();
  }

  /** Sends what is gathered. */
  flush(): void {
    if (this.#events.length === 0) return;
    const events = this.#events;
    this.#events = [];
    this.#bytes = 0;
    this.#send(events);
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    // Node runs it before it looks at what the socket brought next.
    queueMicrotask(() => {
      this.#isScheduled = false;
      this.flush();
    });
  }
}

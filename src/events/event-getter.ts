/** Reading single events without a consumer: what is there now, to the latest write that was confirmed. */
import { WindshiftError, fieldError, quote } from "../errors.ts";
import { checkName, checkSubject } from "../names.ts";
import type { CurrentReader } from "../nats/current.ts";
import type { GetListener, MessageQuery, StoredMessage } from "../nats/get.ts";
import { type StoredEvent, readStoredEvent } from "./event.ts";
import type { EventReader } from "./event-reader.ts";
import { isHidden } from "./hidden.ts";
import type { Reading } from "./reading.ts";

/** Which event of a stream. */
export type EventQuery =
  | { readonly kind: "id"; readonly id: bigint }
  | { readonly kind: "last_of_subject"; readonly subject: string };

/** Hears how a get ended: exactly one of the two, once. */
export interface EventGetListener {
  onEvent(event: StoredEvent): void;
  onFailed(error: WindshiftError): void;
}

/** Reads single events. */
export class EventGetter {
  readonly #current: Pick<CurrentReader, "get">;
  readonly #reader: Pick<EventReader, "read">;

  constructor(current: Pick<CurrentReader, "get">, reader: Pick<EventReader, "read">) {
    this.#current = current;
    this.#reader = reader;
  }

  /** Reads one event; fails with EVENT_NOT_FOUND where there is none. Throws what is wrong with the query. */
  get(stream: string, query: EventQuery, deadlineMs: number, listener: EventGetListener): void {
    checkName("stream", stream);
    const wanted = toMessageQuery(query);
    const missing = (): void => listener.onFailed(notFound(stream, query));
    // No stream gets so far: asked for as a number it would be another id.
    if (query.kind === "id" && query.id > MAX_ID) missing();
    else if (query.kind === "id")
      this.#current.get(stream, wanted, deadlineMs, new EventGet(listener, missing, missing));
    else {
      const before = (): void => this.#lastShown(stream, query.subject, deadlineMs, listener, missing);
      this.#current.get(stream, wanted, deadlineMs, new EventGet(listener, missing, before));
    }
  }

  /** The last message of a subject is none that is shown: finds the last one that is, while there is time. */
  #lastShown(
    stream: string,
    subject: string,
    deadlineMs: number,
    listener: EventGetListener,
    missing: () => void,
  ): void {
    let found: StoredEvent | undefined;
    let reading: Reading | undefined;
    let isOver = false;
    const spec = { stream, subjects: [subject], from: undefined, limit: 1n, follow: false, backward: true };
    const end = (error: WindshiftError | undefined): void => {
      if (isOver) return;
      isOver = true;
      clearTimeout(timer);
      reading?.close();
      if (error !== undefined) listener.onFailed(error);
      else if (found === undefined) missing();
      else listener.onEvent(found);
    };
    const gatherer = {
      onEvent: (event: StoredEvent) => {
        found = event;
      },
      onCaughtUp: () => undefined,
      onEnded: end,
    };
    // While NATS is away it would wait for that, whatever has become of the call.
    const timer = setTimeout(() => end(late(stream)), Math.min(deadlineMs - Date.now(), MAX_TIMER_MS));
    this.#reader.read(spec, gatherer, { deadlineMs, isLeft: () => isOver }).then((begun) => {
      reading = begun;
      if (isOver) begun.close();
    }, end);
  }
}

/** Node takes no longer time than this. */
const MAX_TIMER_MS = 2 ** 31 - 1;
const RETRY_AFTER_MS = 500;
const MAX_ID = BigInt(Number.MAX_SAFE_INTEGER);

class EventGet implements GetListener {
  readonly #listener: EventGetListener;
  readonly #missing: () => void;
  readonly #hidden: () => void;

  constructor(listener: EventGetListener, missing: () => void, hidden: () => void) {
    this.#listener = listener;
    this.#missing = missing;
    this.#hidden = hidden;
  }

  onFound(message: StoredMessage | undefined): void {
    const event = message === undefined ? undefined : readStoredEvent(message);
    if (event === undefined) this.#missing();
    else if (isHidden(event.subject, event.headers)) this.#hidden();
    else this.#listener.onEvent(event);
  }

  onFailed(error: WindshiftError): void {
    this.#listener.onFailed(error);
  }
}

function toMessageQuery(query: EventQuery): MessageQuery {
  if (query.kind === "last_of_subject") {
    checkSubject("last_of_subject", query.subject);
    return { last_by_subj: query.subject };
  }
  if (query.id === 0n) throw fieldError("INVALID_VALUE", "id", "0 is no id: they begin at 1");
  return { seq: Number(query.id) };
}

function late(stream: string): WindshiftError {
  const text = `the deadline passed while stream ${quote(stream)} was looked through`;
  return new WindshiftError("DEADLINE_EXCEEDED", text, { metadata: { stream }, retryAfterMs: RETRY_AFTER_MS });
}

function notFound(stream: string, query: EventQuery): WindshiftError {
  const [what, named] =
    query.kind === "id"
      ? [`id ${query.id}`, { id: String(query.id) }]
      : [`subject ${quote(query.subject)}`, { subject: query.subject }];
  const text = `${query.kind}: stream ${quote(stream)} has no event with ${what}`;
  return new WindshiftError("EVENT_NOT_FOUND", text, { field: query.kind, metadata: { stream, ...named } });
}

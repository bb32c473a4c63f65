/** Hot path: publishing events. Measured by `npm run bench -- publish`. */
import type { ApiCall, JetStreamApi } from "../nats/api.ts";
import type { Publisher as JetStreamPublisher } from "../nats/publish.ts";
import { PublishLane } from "../nats/publish-lane.ts";
import { AtomicPublisher, type StoredEvents } from "./atomic-batch.ts";
import { type NewEvent, prepareEvent } from "./new-event.ts";
import { type EventPublishListener, Publishing, type PublishingContext } from "./publishing.ts";
import { Scheduler } from "./scheduler.ts";

/** Publishes events. */
export class EventPublisher {
  readonly #publisher: JetStreamPublisher;
  readonly #api: JetStreamApi;
  readonly #context: PublishingContext;
  readonly #scheduler: Scheduler;
  readonly #atomic: AtomicPublisher;

  constructor(api: JetStreamApi, dependencies: Omit<PublishingContext, "connection">) {
    const context = { ...dependencies, connection: api.connection };
    this.#publisher = dependencies.publisher;
    this.#api = api;
    this.#context = context;
    this.#scheduler = new Scheduler(api, context);
    this.#atomic = new AtomicPublisher(api, context);
  }

  /** Stores events together, or none; rejects with what is wrong, and `metadata.index` where the event is known. */
  async publishTogether(events: readonly NewEvent[], deadlineMs: number): Promise<StoredEvents> {
    return this.#atomic.publish(events, deadlineMs);
  }

  /** Takes back a scheduled event; true: it was waiting, and will not appear. */
  async cancel(
    stream: string,
    idempotencyKey: string,
    call: ApiCall & { readonly deadlineMs: number },
  ): Promise<boolean> {
    return this.#scheduler.cancel(stream, idempotencyKey, call);
  }

  /** Whether an event by itself would be refused. */
  get isCrowded(): boolean {
    return this.#publisher.isCrowded;
  }

  /** Begins to publish events of one client, which shall keep their order. */
  sequence(): EventSequence {
    return new EventSequence(this);
  }

  /** Stores the event; throws what is wrong with it, and tells the listener everything else. */
  publish(event: NewEvent, deadlineMs: number, listener: EventPublishListener, lane?: PublishLane): void {
    const prepared = prepareEvent(event, this.#api.connection);
    if (prepared.isScheduled) void this.#scheduler.schedule(prepared, deadlineMs, listener, lane);
    else new Publishing(this.#context, listener, { event: prepared, deadlineMs, lane }).send();
  }
}

/** Events of one client: those of each subject are stored in the order in which they were published here. */
export class EventSequence {
  readonly #publisher: EventPublisher;
  readonly #lane = new PublishLane();

  constructor(publisher: EventPublisher) {
    this.#publisher = publisher;
  }

  /** More than a few events should wait elsewhere until others have their answer. None is refused for that. */
  get isCrowded(): boolean {
    return this.#lane.isFull || this.#publisher.isCrowded;
  }

  /** As {@link EventPublisher.publish}. */
  publish(event: NewEvent, deadlineMs: number, listener: EventPublishListener): void {
    this.#publisher.publish(event, deadlineMs, listener, this.#lane);
  }
}

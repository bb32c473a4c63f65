/**
 * Hot path: a walk by means of a consumer of its own, which nothing has to be acknowledged to. It pulls a bounded amount
 * at a time, and no more than is read. JetStream counts what the consumer delivers: where a number is missing, a sign of
 * life is, or the connection was lost, another consumer takes its place and begins behind the last message that came.
 * Nothing is lost by that, and nothing comes twice.
 *
 * The consumer is in memory and of one replica. It is deleted when the walk ends; where that is not possible, JetStream
 * does it as soon as nobody has asked for a while. So it does for a walk that is paused for long, which makes another.
 */
import type { StreamInfo } from "@nats-io/jetstream";
import type { WindshiftError } from "../errors.ts";
import type { Advisories } from "./advisories.ts";
import type { ApiCall, JetStreamApi } from "./api.ts";
import type { NatsConnection, Subscription } from "./connection.ts";
import { readDelivery } from "./delivery.ts";
import { type NatsMessage, headerValue, statusCode } from "./message.ts";
import { newWalkName } from "./own-consumers.ts";
import type { PullMonitor, Watched } from "./pull.ts";
import { nanoseconds } from "./units.ts";
import { type Walk, type WalkHandler, type WalkSource, isPassing, isSame, replaced } from "./walk.ts";

/** What all walks share. */
export interface WalkContext {
  readonly api: JetStreamApi;
  readonly advisories: Advisories;
  readonly monitor: PullMonitor;
}

const INACTIVE_MS = 10_000;
const EXPIRES_MS = 60_000;
const HEARTBEAT_MS = 10_000;
/** In a cluster a request is easily lost with a route or a leader. */
const CLUSTER_HEARTBEAT_MS = 500;
/** Silence for two heartbeats and this part of one means that the request is lost. */
const SILENCE_HEARTBEATS = 2.6;
const BATCH = 1_000;
/** What the first request may bring, and the first after a pause: many clients that do not read cost so much each. */
const FIRST_BYTES = 128 * 1024;
const MAX_BYTES = 1024 * 1024;
const MESSAGE_OVERHEAD_BYTES = 8 * 1024;
const MIN_BACKOFF_MS = 50;
const MAX_BACKOFF_MS = 1_000;

/** One walk. */
export class ConsumerWalk implements Walk, Watched {
  readonly #context: WalkContext;
  readonly #connection: NatsConnection;
  readonly #source: WalkSource;
  #seen: StreamInfo;
  readonly #handler: WalkHandler;
  readonly #stop: (() => void)[];
  /** Where the next consumer would begin. */
  #from: number;
  /** The consumer, while there is one that can be asked. */
  #name: string | undefined;
  #subscription: Subscription | undefined;
  #inbox = "";
  #requests = 0;
  /** Messages that the consumer has delivered. */
  #delivered = 0;
  /** Heartbeats told so often in a row of messages that did not come. */
  #missing = 0;
  /** What the open request may still bring; 0 messages when none is open. */
  #open = 0;
  #bytes = 0;
  #asked = 0;
  #requestBytes = FIRST_BYTES;
  #lastHeard = 0;
  #silenceMs = 0;
  #isPaused = false;
  #isClosed = false;
  #isScheduled = false;
  /** Counts consumers: what comes of an earlier one, or of an attempt to make it, is not looked at. */
  #turn = 0;
  /** The last sequence that the stream is known to have had. */
  #last: number;
  #backoffMs = 0;
  #timer: NodeJS.Timeout | undefined;

  private constructor(context: WalkContext, source: WalkSource, handler: WalkHandler) {
    this.#context = context;
    this.#connection = context.api.connection;
    this.#source = source;
    this.#from = source.from;
    this.#seen = source.info;
    this.#last = source.info.state.last_seq;
    this.#handler = handler;
    this.#stop = [
      this.#connection.listen({
        onConnected: () => this.#restart(),
        onDisconnected: () => this.#leave(),
      }),
      context.advisories.watch(source.info.config.name, undefined, (advisory) => {
        if (advisory === "deleted") this.#restart();
      }),
    ];
    context.monitor.add(this);
  }

  /** Rejects where the stream cannot be read now. */
  static async begin(
    context: WalkContext,
    source: WalkSource,
    handler: WalkHandler,
    call: ApiCall,
  ): Promise<ConsumerWalk> {
    const walk = new ConsumerWalk(context, source, handler);
    try {
      await walk.#create(call);
    } catch (error) {
      walk.close();
      throw error;
    }
    return walk;
  }

  /** Begins as soon as that is possible. */
  static beginSometime(context: WalkContext, source: WalkSource, handler: WalkHandler): ConsumerWalk {
    const walk = new ConsumerWalk(context, source, handler);
    walk.#restart();
    return walk;
  }

  pause(): void {
    this.#isPaused = true;
    this.#requestBytes = FIRST_BYTES;
  }

  resume(): void {
    this.#isPaused = false;
    this.#schedule();
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#context.monitor.delete(this);
    for (const stop of this.#stop) stop();
    this.#leave();
  }

  /** @internal */
  checkSilence(now: number): void {
    if (this.#open > 0 && now - this.#lastHeard > this.#silenceMs) this.#restart();
  }

  get #maxBytes(): number {
    return Math.max(MAX_BYTES, this.#connection.maxPayload + MESSAGE_OVERHEAD_BYTES);
  }

  /** Makes a consumer that begins where we are. */
  async #create(call: ApiCall): Promise<void> {
    const turn = this.#turn;
    const { info, filters } = this.#source;
    const name = newWalkName();
    const made = await this.#context.api.putConsumer(
      info.config.name,
      {
        name,
        deliver_policy: "by_start_sequence",
        opt_start_seq: this.#from,
        ack_policy: "none",
        replay_policy: "instant",
        mem_storage: true,
        num_replicas: 1,
        inactive_threshold: nanoseconds(INACTIVE_MS),
        ...(filters.length === 1 ? { filter_subject: filters[0]! } : {}),
        ...(filters.length > 1 ? { filter_subjects: [...filters] } : {}),
      },
      "create",
      // Whether one was made or not is of no interest to anybody.
      { ...call, write: false },
    );
    if (turn !== this.#turn || this.#isClosed) {
      this.#delete(name);
      return;
    }
    const inbox = `${this.#connection.createInbox()}.`;
    const subscription = this.#connection.subscribe(`${inbox}*`, (message) => {
      if (turn === this.#turn) this.#receive(message);
    });
    // Lost just now: there is another turn when it is back.
    if (subscription === undefined) return;
    this.#name = name;
    this.#subscription = subscription;
    this.#inbox = inbox;
    this.#delivered = this.#missing = 0;
    if (made.num_pending === 0) this.#handler.onIdle();
    this.#schedule();
  }

  /** Lets go of the consumer, and of whatever comes of it. */
  #leave(): void {
    this.#turn += 1;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#open = 0;
    this.#subscription?.unsubscribe();
    this.#subscription = undefined;
    if (this.#name !== undefined) this.#delete(this.#name);
    this.#name = undefined;
  }

  #delete(name: string): void {
    if (!this.#connection.connected) return;
    this.#context.api.deleteConsumer(this.#source.info.config.name, name, {}).catch(() => undefined);
  }

  /** Another consumer takes the place of this one, now or a little later each time it fails. */
  #restart(): void {
    if (this.#isClosed) return;
    this.#leave();
    const turn = this.#turn;
    const { api } = this.#context;
    const isLeft = (): boolean => this.#isClosed || turn !== this.#turn;
    this.#timer = setTimeout(() => {
      api
        .inTurn({ isLeft }, async () => {
          const now = await api.streamInfo(this.#source.info.config.name);
          if (isLeft()) return;
          if (!isSame(this.#seen, now, this.#last)) throw replaced(now.config.name);
          this.#seen = now;
          await this.#create({});
        })
        .catch((error: WindshiftError) => {
          if (isLeft()) return;
          if (isPassing(error)) this.#restart();
          else this.#handler.onEnded(error);
        });
    }, this.#backoffMs);
    this.#backoffMs = Math.min(MAX_BACKOFF_MS, Math.max(MIN_BACKOFF_MS, this.#backoffMs * 2));
  }

  #schedule(): void {
    if (this.#isScheduled || !this.#mayAsk()) return;
    this.#isScheduled = true;
    this.#connection.beforeWrite(() => {
      this.#isScheduled = false;
      if (this.#mayAsk()) this.#ask(this.#name!);
    });
  }

  #mayAsk(): boolean {
    return this.#name !== undefined && this.#open === 0 && !this.#isPaused && !this.#isClosed;
  }

  #ask(name: string): void {
    const { monitor } = this.#context;
    const { config, cluster } = this.#source.info;
    const batch = Math.max(1, Math.min(BATCH, this.#handler.wanted));
    const heartbeatMs = monitor.pace(cluster === undefined ? HEARTBEAT_MS : CLUSTER_HEARTBEAT_MS);
    this.#requestBytes = Math.min(this.#requestBytes, this.#maxBytes);
    this.#open = this.#asked = batch;
    this.#bytes = this.#requestBytes;
    this.#requests += 1;
    this.#silenceMs = SILENCE_HEARTBEATS * heartbeatMs;
    this.#lastHeard = performance.now();
    const body =
      `{"batch":${batch},"max_bytes":${this.#bytes},"expires":${nanoseconds(EXPIRES_MS)},` +
      `"idle_heartbeat":${nanoseconds(heartbeatMs)}}`;
    const subject = `${this.#connection.apiPrefix}.CONSUMER.MSG.NEXT.${config.name}.${name}`;
    this.#connection.publishWithReply(subject, this.#inbox + this.#requests, body);
  }

  #receive(message: NatsMessage): void {
    if (message.reply === "") {
      this.#status(message);
      return;
    }
    const delivery = readDelivery(message.reply);
    const { sequence, storedAt, pending } = delivery;
    if (delivery.consumerSequence !== this.#delivered + 1) {
      this.#restart();
      return;
    }
    this.#delivered += 1;
    this.#missing = this.#backoffMs = 0;
    // Asked to begin behind what it has, nats-server before 2.11 begins with its next message, as a replica that lags does.
    const isEarly = sequence < this.#from;
    if (!isEarly) this.#from = sequence + 1;
    this.#last = Math.max(this.#last, sequence);
    this.#lastHeard = performance.now();
    this.#open = Math.max(0, this.#open - 1);
    this.#bytes -= message.size;
    // nats-server ends a request whose bytes are used up without a word, whatever it still had to bring.
    if (this.#open === 0 || this.#bytes <= 0) {
      this.#open = 0;
      if (!this.#isPaused) this.#requestBytes = Math.min(2 * this.#requestBytes, this.#maxBytes);
      this.#schedule();
    }
    if (!isEarly) this.#handler.onMessage(sequence, storedAt, message);
    if (pending === 0 && !this.#isClosed) this.#handler.onIdle();
  }

  #status(message: NatsMessage): void {
    if (message.subject !== this.#inbox + this.#requests || this.#open === 0) return;
    const status = statusCode(message);
    this.#lastHeard = performance.now();
    if (status === 100) {
      this.#heartbeat(message);
      return;
    }
    const isUnanswered = this.#open === this.#asked;
    const wasLarge = this.#requestBytes === this.#maxBytes;
    this.#open = 0;
    if (status === 408 || (status === 409 && !isUnanswered)) {
      this.#schedule();
    } else if (status === 409 && !wasLarge) {
      // Most likely the next message is larger than what was allowed.
      this.#requestBytes = this.#maxBytes;
      this.#schedule();
    } else {
      this.#restart();
    }
  }

  /** It tells how much the consumer has delivered. In a cluster it may overtake a message: one alone proves nothing. */
  #heartbeat(message: NatsMessage): void {
    const delivered = Number(headerValue(message, "Nats-Last-Consumer") ?? 0);
    this.#missing = delivered > this.#delivered ? this.#missing + 1 : 0;
    if (this.#missing > 1) this.#restart();
  }
}

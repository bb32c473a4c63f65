/**
 * Hot path: receiving events of a consumer with exact credit. A `Pull` asks JetStream for exactly as many messages as
 * it was granted, never one more, and all of them at once.
 *
 * At most two pull requests are open, each in a slot with a NATS subscription of its own, so that every message is
 * counted against the request it answers. Credit that is granted while both are open is merged into the next one.
 * A request ends when its batch is delivered, or with a status; what it did not deliver is credit again. Where bytes are
 * limited too, each request gets a share of what is free. One that ended before a message too large for its share is
 * followed by another when more is free; a message that nothing would ever be enough for is asked for alone. Statuses are
 * told by their number alone: nats-server has a dozen meanings for 409, and one answer fits all: this request is over,
 * look whether the consumer still exists, ask again. Of a replicated consumer the status overtakes messages that were
 * sent before it: it tells how many were never sent, and the request waits for the others.
 *
 * Without a status a request can die with its leader, or when the route between the leader's node and ours was gone for a
 * moment. Heartbeats tell (a request that misses them is given up), and advisories of a new leader tell sooner. A lost
 * connection ends all requests, and new ones use new subjects, so that
 * nothing that an old request may still deliver is taken for an answer to a new one.
 *
 * Open → `stop` → `close`, or `close` at once. One that is stopped asks for nothing more, and still looks after its consumer:
 * what it brought may be settled only while that is the same.
 */
import { performance } from "node:perf_hooks";
import { setTimeout as delay } from "node:timers/promises";
import type { ConsumerInfo } from "@nats-io/jetstream";
import { WindshiftError } from "../errors.ts";
import type { JetStreamApi } from "./api.ts";
import type { NatsConnection, Subscription } from "./connection.ts";
import { resetError, resetMark } from "./consumer-reset.ts";
import { type NatsMessage, digitsBetween, headerValue, statusCode } from "./message.ts";
import { nanoseconds } from "./units.ts";

/** Receives what is pulled. All are on the hot path and must not throw. */
export interface PullHandler {
  /** A message that credit was granted for; it came at `now`, on the monotonic clock. */
  onMessage(message: NatsMessage, now: number): void;
  /** A message that came too late, for a request already given up: to be handed back by its acknowledgement subject. */
  onSurplus(ackSubject: string): void;
  /** NATS, or a leader of the consumer, can be reached again, or not any more. */
  onReachable(isReachable: boolean): void;
  /** It may be another consumer of the same name: what was delivered so far cannot be settled safely any more. */
  onDoubt(): void;
  /** The consumer is gone; nothing more will come. */
  onGone(error: WindshiftError): void;
}

/** What to pull from, and the limits that the consumer itself sets on a request. */
export interface PullSource {
  readonly stream: string;
  readonly consumer: string;
  /** When the consumer was made: one of the same name that was made later is another. Undefined while nobody knows. */
  readonly created: string | undefined;
  /** nats-server makes it anew when it starts. */
  readonly isEphemeral: boolean;
  /** When NATS said all this, on its clock. */
  readonly seenAt: string | undefined;
  /** The mark of its last reset, if there was one. */
  readonly resetMark: string | undefined;
  /** The group of nodes that keeps it, which is another for another consumer; undefined where one node does. */
  readonly group: string | undefined;
  /** Bytes that one request may bring: at least those of the largest message. */
  readonly maxBytes: number;
  /** Bytes that may be on their way and not released together, a single larger message excepted; Infinity for no limit. */
  readonly window: number;
  readonly maxBatch?: number | undefined;
  readonly maxExpiresMs?: number | undefined;
  /** How often JetStream shall give a sign of life to a request that waits. Missing two tells of a lost one. */
  readonly heartbeatMs?: number | undefined;
}

interface Slot {
  readonly subscription: Subscription;
  readonly inbox: string;
  /** Number of the request that is open in this slot, part of its reply subject. */
  number: number;
  /** Messages that the open request asked for. */
  batch: number;
  /** Messages that it may still bring; 0 when none is open. */
  remaining: number;
  /** Bytes that it may still bring, as NATS counts them. */
  bytes: number;
  /** JetStream has ended it; what remains is on its way. */
  isEnded: boolean;
  silenceMs: number;
  lastHeard: number;
  openedAt: number;
}

const EXPIRES_MS = 60_000;
const HEARTBEAT_MS = 10_000;
/** After a disturbance the next request is easily lost as well: until something is heard, signs of life are so frequent. */
const FIRST_HEARTBEAT_MS = 200;
/** Silence for two heartbeats and this part of one, or this long, means that the request is lost. */
const SILENCE_MARGIN = 0.6;
const MAX_SILENCE_MARGIN_MS = 1_000;
const LOOK_MS = 100;
/** A thousand heartbeats, or questions, a second are enough for all pulls together. */
const MS_FOR_EACH = 1;
/** So long may a message take that was sent before its request ended; then it is lost with a leader. */
const LATE_MS = 2_000;
/** In a cluster, messages may be on their way between its nodes for so long after the last one came … */
const QUIET_MS = 100;
/** … and an end is not put off longer than this. */
const MAX_LINGER_MS = 1_500;
/** … and lasts, in a cluster that is slow to answer a question, so many times what that takes. */
const QUIET_FACTOR = 3;
const LINGER_LOOK_MS = 10;
const MIN_BACKOFF_MS = 50;
const MAX_BACKOFF_MS = 500;
/** A question that was lost on its way holds up the next one no longer than this. */
const ASK_AGAIN_MS = 500;
/** What the first request may bring, and the first after a pause: many clients that do not read cost so much each. */
const FIRST_BYTES = 128 * 1024;
/** A message that is too large for what is free now may have gone elsewhere: so often one looks for a smaller one. */
const MIN_SIZE_LOOK_MS = 50;
const MAX_SIZE_LOOK_MS = 5_000;

/** What asks JetStream for messages and has to notice when it gets no sign of life. */
export interface Watched {
  checkSilence(now: number): void;
}

/** Looks after all pulls of a connection: one timer for all instead of one for each, and a pace that all can keep. */
export class PullMonitor implements Disposable {
  readonly #pulls = new Set<Watched>();
  #lookedAt = performance.now();
  readonly #timer = setInterval(() => {
    const now = performance.now();
    // After a standstill of our own, what came meanwhile has yet to be read.
    const isLate = now - this.#lookedAt > 2 * LOOK_MS;
    this.#lookedAt = now;
    if (isLate) return;
    for (const pull of this.#pulls) pull.checkSilence(now);
  }, LOOK_MS);

  add(pull: Watched): void {
    this.#pulls.add(pull);
  }

  delete(pull: Watched): void {
    this.#pulls.delete(pull);
  }

  /** What each pull does every so often, with so many that it would be too much for NATS is done less often. */
  pace(ms: number): number {
    return Math.max(ms, Math.min(HEARTBEAT_MS, this.#pulls.size * MS_FOR_EACH));
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}

/** Pulls from one consumer for one subscription. */
export class Pull implements Watched {
  readonly #api: JetStreamApi;
  readonly #connection: NatsConnection;
  readonly #monitor: PullMonitor;
  readonly #source: PullSource;
  readonly #handler: PullHandler;
  readonly #stopListening: () => void;
  readonly #slots: (Slot | undefined)[] = [undefined, undefined];
  #draining: Promise<void>[] = [];
  #lingering: Promise<void> | undefined;
  #late: string[] = [];
  #credit = 0;
  /** Of the window in bytes: what is neither held nor allowed to an open request. Negative while one message exceeds it. */
  #freeBytes: number;
  /** What the next request may bring: more and more, as long as the client reads what comes. */
  #requestBytes: number;
  /** So many bytes were too few for the next message; 0 when that is not known. */
  #tooFewBytes = 0;
  #sizeLookMs = 0;
  #sizeTimer: NodeJS.Timeout | undefined;
  #paused = false;
  #stopped = false;
  #closed = false;
  #scheduled = false;
  /** The question whether the consumer is still there, while it is open: asked again and again, answered once. */
  #question: { timer: NodeJS.Timeout | undefined } | undefined;
  /** After an outage: nothing is asked for nor settled before we know that the consumer is still the same. */
  #isVerified: boolean;
  #isReachable = true;
  #epoch = 0;
  /** A leader or a connection was lost, and no request has been heard of since. */
  #isDisturbed = false;
  #created: string | undefined;
  #group: string | undefined;
  /** When it was last seen to be the same, in milliseconds of NATS' clock. NaN when NATS did not say. */
  #seenAt: number;
  #wasDeleted = false;
  #backoffMs = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(api: JetStreamApi, monitor: PullMonitor, source: PullSource, handler: PullHandler) {
    this.#api = api;
    this.#connection = api.connection;
    this.#monitor = monitor;
    this.#source = source;
    this.#created = source.created;
    this.#group = source.group;
    this.#isVerified = source.created !== undefined;
    this.#seenAt = Date.parse(source.seenAt ?? "");
    this.#freeBytes = source.window;
    this.#requestBytes = Math.min(FIRST_BYTES, source.maxBytes);
    this.#handler = handler;
    this.#stopListening = this.#connection.listen({
      onConnected: () => this.#connected(),
      onDisconnected: () => this.#disconnected(),
    });
    monitor.add(this);
    if (!this.#isVerified) this.verify();
  }

  /** Messages that may still come without a further grant. */
  get outstanding(): number {
    return this.#credit + (this.#slots[0]?.remaining ?? 0) + (this.#slots[1]?.remaining ?? 0);
  }

  /** False from a lost connection until the consumer was seen to be the same as before, and once this is closed. */
  get isVerified(): boolean {
    return this.#isVerified;
  }

  /** Another number when the consumer may have forgotten what it delivered before. */
  get epoch(): number {
    return this.#epoch;
  }

  /** Allows `count` more messages; messages of so many `bytes` are not held any more. */
  grant(count: number, bytes: number): void {
    this.#credit += count;
    this.#freeBytes += bytes;
    this.#schedule();
  }

  /** Opens no further requests; those that are open still deliver. */
  pause(): void {
    this.#paused = true;
    this.#requestBytes = Math.min(FIRST_BYTES, this.#source.maxBytes);
  }

  resume(): void {
    this.#paused = false;
    this.#schedule();
  }

  /** The consumer has another leader, which knows nothing of the requests made to the one before. */
  leaderChanged(): void {
    this.#isDisturbed = true;
    if (this.#timer !== undefined) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
      this.verify();
    }
    const now = performance.now();
    for (const slot of this.#slots) {
      if (slot !== undefined && slot.remaining > 0 && now - slot.openedAt > MAX_BACKOFF_MS) this.#giveUp(slot);
    }
    this.#schedule();
  }

  /** JetStream says that a consumer of this name was deleted: this one, or one that it took the place of. */
  deleted(): void {
    this.#wasDeleted = true;
    this.#epoch += 1;
    // The answer to an open question may be from before.
    clearTimeout(this.#question?.timer);
    this.#question = undefined;
    this.verify();
  }

  /** Asks JetStream whether the consumer is still there, and pulls on or tells that it is gone. */
  verify(): void {
    if (this.#question !== undefined || this.#closed || !this.#connection.connected) return;
    this.#question = { timer: undefined };
    this.#ask(this.#question);
  }

  #ask(question: { timer: NodeJS.Timeout | undefined }): void {
    const { stream, consumer } = this.#source;
    question.timer = setTimeout(() => this.#ask(question), this.#monitor.pace(ASK_AGAIN_MS));
    const isAnswered = (): boolean => {
      if (this.#question !== question) return true;
      clearTimeout(question.timer);
      this.#question = undefined;
      return this.#closed;
    };
    this.#api.consumerInfo(stream, consumer).then(
      (info) => {
        if (isAnswered()) return;
        const mark = resetMark(info.config);
        if (mark !== undefined && mark !== this.#source.resetMark) {
          this.#handler.onGone(resetError(stream, consumer));
        } else if (!hasLeader(info)) {
          this.#setReachable(false);
          this.#verifyLater();
        } else if (this.#isSame(info)) {
          this.#isVerified = true;
          this.#setReachable(true);
          this.#schedule();
        } else this.#handler.onGone(replaced(stream, consumer));
      },
      (error: WindshiftError) => {
        if (isAnswered()) return;
        if (error.reason === "CONSUMER_NOT_FOUND" || error.reason === "STREAM_NOT_FOUND") this.#handler.onGone(error);
        else {
          this.#setReachable(false);
          this.#verifyLater();
        }
      },
    );
  }

  /**
   * Whether it can be taken for the consumer that it was. An edited one has another time once its nodes were restarted
   * (seen with 2.14.0), so that another time alone proves nothing. On a single node that is the time of the node's start
   * before the edit, earlier than we saw it last: what was made later is another. In a cluster it is that of the edit,
   * and another group tells, or that a deletion was told. That is all that there is to tell ephemeral ones, and those of
   * which we have not seen the time.
   */
  #isSame({ created, ts, cluster }: ConsumerInfo): boolean {
    const [before, group] = [this.#created, groupOf(cluster)];
    if (created !== before && (group === undefined || group !== this.#group)) {
      if (this.#wasDeleted || (group !== undefined && this.#group !== undefined)) return false;
      if (before !== undefined && !this.#source.isEphemeral) {
        if (cluster !== undefined) this.#handler.onDoubt();
        else if (!(Date.parse(created) <= this.#seenAt)) return false;
      }
    }
    this.#wasDeleted = false;
    this.#created = created;
    this.#group = group ?? this.#group;
    this.#seenAt = Date.parse(ts ?? "");
    return true;
  }

  #setReachable(isReachable: boolean): void {
    if (!isReachable) this.#epoch += 1;
    if (this.#isReachable === isReachable) return;
    this.#isReachable = isReachable;
    this.#handler.onReachable(isReachable);
  }

  /** @internal */
  checkSilence(now: number): void {
    for (const slot of this.#slots) {
      if (slot === undefined || slot.remaining === 0) continue;
      if (now - slot.lastHeard <= (slot.isEnded ? LATE_MS : slot.silenceMs)) continue;
      if (!slot.isEnded) this.#setReachable(false);
      this.#isDisturbed = true;
      this.#giveUp(slot);
      this.verify();
    }
  }

  /** Until it resolves, what is handed back could come here again. */
  get lingering(): Promise<void> | undefined {
    return this.#lingering;
  }

  /** Ends the requests. What was on its way is handed to `onSurplus` until the promise resolves. */
  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#monitor.delete(this);
    clearTimeout(this.#sizeTimer);
    if (this.#isBusy()) {
      this.#lingering = this.#linger();
      await this.#lingering;
      this.#lingering = undefined;
    } else {
      this.#giveUpAll();
    }
    for (const ackSubject of this.#late.splice(0)) this.#handler.onSurplus(ackSubject);
    await Promise.all(this.#draining);
  }

  /** Ends it for good. What is on its way is dropped, and nothing that came may be settled any more. */
  close(): void {
    this.#stopped = this.#closed = true;
    this.#isVerified = false;
    this.#monitor.delete(this);
    this.#stopListening();
    clearTimeout(this.#timer);
    clearTimeout(this.#sizeTimer);
    clearTimeout(this.#question?.timer);
    this.#dropAll();
  }

  /**
   * A cluster drops what is on its way between two nodes when its subscription ends, and JetStream takes it for
   * delivered. So an end waits for what is being sent: until the requests are used up, or nothing comes any more while
   * the consumer's leader has the time to answer. And what came is handed back a little after the end, lest several that
   * end together pass it on to each other until one of them loses it.
   */
  async #linger(): Promise<void> {
    const { stream, consumer } = this.#source;
    const askedAt = performance.now();
    let answeredAt = Infinity;
    const answered = (): void => {
      answeredAt = performance.now();
    };
    this.#api.consumerInfo(stream, consumer).then(answered, answered);
    for (let now = askedAt; now < askedAt + MAX_LINGER_MS; now = performance.now()) {
      const waiting = this.#slots.filter((slot) => slot !== undefined && slot.remaining > 0);
      if (waiting.length === 0) break;
      const quietMs = Math.max(QUIET_MS, QUIET_FACTOR * (answeredAt - askedAt));
      const heardAt = Math.max(answeredAt, ...waiting.map((slot) => slot!.lastHeard));
      if (answeredAt < Infinity && now - heardAt >= quietMs) break;
      await delay(LINGER_LOOK_MS);
    }
    this.#giveUpAll();
    await delay(QUIET_MS);
  }

  #giveUpAll(): void {
    for (const slot of this.#slots) if (slot !== undefined) this.#giveUp(slot);
  }

  /** Something may be on its way: it came just now, or a request was made and has not been heard of yet. */
  #isBusy(): boolean {
    if (this.#connection.server?.cluster === undefined) return false;
    const now = performance.now();
    return this.#slots.some((slot) => {
      if (slot === undefined || slot.remaining === 0) return false;
      return now - slot.lastHeard < (slot.lastHeard === slot.openedAt ? MAX_LINGER_MS : QUIET_MS);
    });
  }

  #schedule(): void {
    if (this.#scheduled || !this.#mayOpen()) return;
    this.#scheduled = true;
    this.#connection.beforeWrite(() => {
      this.#scheduled = false;
      if (this.#mayOpen()) this.#open();
    });
  }

  #mayOpen(): boolean {
    if (this.#credit <= 0 || this.#stopped || this.#paused || this.#timer !== undefined) return false;
    if (!this.#isVerified || !this.#hasRoom()) return false;
    return this.#connection.connected && this.#freeSlot() >= 0;
  }

  /** Whether a message could fit, as far as we know: when nothing is held, any does. */
  #hasRoom(): boolean {
    return this.#freeBytes > this.#tooFewBytes || this.#freeBytes === this.#source.window;
  }

  #freeSlot(): number {
    const [first, second] = this.#slots;
    if (first === undefined || first.remaining === 0) return 0;
    return second === undefined || second.remaining === 0 ? 1 : -1;
  }

  #open(): void {
    const index = this.#freeSlot();
    const slot = (this.#slots[index] ??= this.#createSlot());
    if (slot === undefined) return;
    const { stream, consumer, window, maxBatch = Infinity, maxExpiresMs = Infinity } = this.#source;
    // Larger than the whole window: it comes alone.
    const isAlone = this.#tooFewBytes >= window;
    const maxBytes = isAlone ? this.#source.maxBytes : Math.min(this.#requestBytes, this.#freeBytes);
    const batch = isAlone ? 1 : Math.min(this.#credit, maxBatch);
    const expiresMs = Math.min(EXPIRES_MS, maxExpiresMs);
    const heartbeatMs = Math.min(
      this.#monitor.pace(this.#isDisturbed ? FIRST_HEARTBEAT_MS : (this.#source.heartbeatMs ?? HEARTBEAT_MS)),
      Math.floor(expiresMs / 2),
    );
    this.#credit -= batch;
    this.#freeBytes -= maxBytes;
    slot.number += 1;
    slot.batch = slot.remaining = batch;
    slot.bytes = maxBytes;
    slot.isEnded = false;
    slot.silenceMs = 2 * heartbeatMs + Math.min(SILENCE_MARGIN * heartbeatMs, MAX_SILENCE_MARGIN_MS);
    slot.lastHeard = slot.openedAt = performance.now();
    const body =
      `{"batch":${batch},"max_bytes":${maxBytes},"expires":${nanoseconds(expiresMs)},` +
      `"idle_heartbeat":${nanoseconds(heartbeatMs)}}`;
    const subject = `${this.#connection.apiPrefix}.CONSUMER.MSG.NEXT.${stream}.${consumer}`;
    this.#connection.publishWithReply(subject, slot.inbox + slot.number, body);
  }

  #createSlot(): Slot | undefined {
    const inbox = `${this.#connection.createInbox()}.`;
    const subscription = this.#connection.subscribe(`${inbox}*`, (message) => this.#receive(slot, message));
    if (subscription === undefined) return undefined;
    const slot: Slot = {
      subscription,
      inbox,
      number: 0,
      batch: 0,
      remaining: 0,
      bytes: 0,
      isEnded: false,
      silenceMs: 0,
      lastHeard: 0,
      openedAt: 0,
    };
    return slot;
  }

  #receive(slot: Slot, message: NatsMessage): void {
    if (message.reply === "") {
      this.#status(slot, message);
      return;
    }
    if (slot.remaining === 0) {
      if (this.#lingering === undefined) this.#handler.onSurplus(message.reply);
      else this.#late.push(message.reply);
      return;
    }
    const now = this.#connection.receivedAt;
    slot.lastHeard = now;
    this.#isDisturbed = false;
    slot.remaining -= 1;
    slot.bytes -= message.size;
    this.#tooFewBytes = this.#sizeLookMs = 0;
    // nats-server ends a request whose bytes are used up without a word, whatever it still had to bring.
    if (slot.remaining === 0 || slot.bytes === 0) {
      this.#askForMore();
      this.#reclaim(slot);
    }
    if (this.#stopped) {
      this.#late.push(message.reply);
      return;
    }
    this.#backoffMs = 0;
    if (!this.#isReachable) this.#setReachable(true);
    this.#handler.onMessage(message, now);
    this.#schedule();
  }

  #status(slot: Slot, message: NatsMessage): void {
    const isOurs = message.subject === slot.inbox + slot.number;
    if (!isOurs || slot.remaining === 0) return;
    const status = statusCode(message);
    slot.lastHeard = performance.now();
    if (status === 100) {
      this.#isDisturbed = false;
      return;
    }
    const unsent = Math.min(slot.remaining, unsentOf(message, "Nats-Pending-Messages"));
    const unsentBytes = Math.min(slot.bytes, unsentOf(message, "Nats-Pending-Bytes"));
    const delivered = unsent < slot.batch;
    this.#credit += unsent;
    this.#freeBytes += unsentBytes;
    slot.remaining -= unsent;
    slot.bytes -= unsentBytes;
    slot.isEnded = true;
    if (slot.remaining === 0) this.#reclaim(slot);
    if (status === 408 || unsent === 0) {
      this.#schedule();
    } else if (status === 409 && (delivered || unsentBytes < this.#source.maxBytes)) {
      // Most likely the next message is larger than what was left.
      if (delivered) this.#askForMore();
      else this.#requestBytes = this.#source.maxBytes;
      if (this.#source.window === Infinity) {
        this.#schedule();
        this.verify();
      } else {
        this.#tooFewBytes = unsentBytes;
        if (this.#hasRoom()) this.#schedule();
        else this.#lookForSmaller();
      }
    } else {
      // Refused as it is: asking again at once could go on for ever.
      this.#verifyLater();
    }
  }

  /** Waits a little longer each time before it looks again, until a message comes. */
  #verifyLater(): void {
    if (this.#timer !== undefined || this.#closed) return;
    this.#backoffMs = Math.min(MAX_BACKOFF_MS, Math.max(MIN_BACKOFF_MS, this.#backoffMs * 2));
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.verify();
    }, this.#monitor.pace(this.#backoffMs));
  }

  #askForMore(): void {
    if (!this.#paused) this.#requestBytes = Math.min(2 * this.#requestBytes, this.#source.maxBytes);
  }

  /** Waits a little longer each time before it asks again for what may have been too large. */
  #lookForSmaller(): void {
    clearTimeout(this.#sizeTimer);
    this.#sizeLookMs = Math.min(MAX_SIZE_LOOK_MS, Math.max(MIN_SIZE_LOOK_MS, this.#sizeLookMs * 2));
    this.#sizeTimer = setTimeout(() => {
      this.#tooFewBytes = 0;
      this.#schedule();
    }, this.#sizeLookMs);
  }

  /** What a request that is over did not bring may be asked for again. */
  #reclaim(slot: Slot): void {
    this.#credit += slot.remaining;
    this.#freeBytes += slot.bytes;
    slot.remaining = slot.bytes = 0;
  }

  /** Takes the credit back and leaves the slot to those messages that are on their way. */
  #giveUp(slot: Slot): void {
    this.#slots[this.#slots.indexOf(slot)] = undefined;
    this.#reclaim(slot);
    const drained = slot.subscription.drain().then(() => {
      this.#draining = this.#draining.filter((other) => other !== drained);
    });
    this.#draining.push(drained);
  }

  #disconnected(): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#question?.timer);
    this.#timer = this.#question = undefined;
    this.#tooFewBytes = 0;
    this.#isDisturbed = true;
    this.#setReachable(false);
    this.#dropAll();
  }

  #dropAll(): void {
    for (const [index, slot] of this.#slots.entries()) {
      if (slot === undefined) continue;
      this.#slots[index] = undefined;
      this.#reclaim(slot);
      slot.subscription.unsubscribe();
    }
  }

  #connected(): void {
    this.#backoffMs = 0;
    this.#isVerified = false;
    this.verify();
  }
}

/** What the request asked for and JetStream did not send; Infinity, so all of it, where it says no number. */
function unsentOf(message: NatsMessage, header: "Nats-Pending-Messages" | "Nats-Pending-Bytes"): number {
  const value = headerValue(message, header) ?? "";
  const number = digitsBetween(value, 0, value.length);
  return Number.isNaN(number) ? Infinity : number;
}

/** Without a leader nobody knows the consumer well: its time of creation can be that of an edit. */
export function hasLeader({ cluster }: ConsumerInfo): boolean {
  return cluster === undefined || (cluster.leader !== undefined && cluster.leader !== "");
}

/** The group of nodes that keeps a consumer; undefined where one node does. */
export function groupOf(cluster: ConsumerInfo["cluster"]): string | undefined {
  return cluster?.raft_group === "" ? undefined : cluster?.raft_group;
}

function replaced(stream: string, consumer: string): WindshiftError {
  const text = `consumer ${JSON.stringify(consumer)} of stream ${JSON.stringify(stream)} was deleted and made again`;
  return new WindshiftError("CONSUMER_NOT_FOUND", text, { metadata: { stream, consumer } });
}

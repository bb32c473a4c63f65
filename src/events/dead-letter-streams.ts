/**
 * The streams that keep dead letters. Several consumers may share one: each has a subject of its own in it,
 * `dead-letters.<stream>.<consumer>.*`.
 *
 * JetStream's update of a stream is the whole configuration, with no condition: of two servers that each add a subject, the
 * second would undo what the first did. Whoever changes the subjects therefore holds a lock, which is a consumer with a
 * fixed name on that stream: making it fails while another holds it, and it goes by itself when its holder died. Should a
 * subject be lost all the same, the next letter that finds no stream adds it again (`DeadLetterWriter`). One server adds all
 * subjects that wait for a stream at once.
 *
 * A stream has to collect something. One that lets go of its last subject gets one of its own, which no letter has.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type { ConsumerConfig, StreamConfig, StreamInfo } from "@nats-io/jetstream";
import { WindshiftError, quote } from "../errors.ts";
import type { ApiCall, JetStreamApi } from "../nats/api.ts";
import { JetStreamCode, jetStreamCode } from "../nats/errors.ts";
import { SUBJECTS_LOCK } from "../nats/own-consumers.ts";
import { nanoseconds } from "../nats/units.ts";
import { within } from "../within.ts";
import { matches } from "./filters.ts";
import { JointChanges } from "./joint-changes.ts";

/** First token of the subjects of all dead letters. */
const DEAD_LETTERS = "dead-letters";
const MARK = "-replay";
const MARK_SUBJECT = /^dead-letters\.[^.]+\.[^.]+\.[0-9]+-replay$/;
/** A server that was killed while it held the lock holds up the others no longer than this. */
const LOCK_LIFE_MS = 5_000;
const LOCK_LOOK_MS = 20;
const LOCK_PATIENCE_MS = 15_000;
/** A caller without a deadline: no longer than two changes take. */
const PATIENCE_MS = 60_000;
const RETRY_AFTER_MS = 1_000;
const FIELD = "delivery_policy.dead_letter.stream";

/** The subject of all letters of a consumer, with a wildcard for the event's id. */
export function lettersOf(stream: string, consumer: string): string {
  return `${DEAD_LETTERS}.${stream}.${consumer}.*`;
}

/** The subject of one letter. */
export function letterSubject(stream: string, consumer: string, id: bigint): string {
  return `${DEAD_LETTERS}.${stream}.${consumer}.${id}`;
}

/** Hot path: true for the subject of such a mark, of whichever consumer; few others get to the pattern. */
export function isMarkSubject(subject: string): boolean {
  return subject.endsWith(MARK) && MARK_SUBJECT.test(subject);
}

/** The subject of the mark that a replay leaves beside a letter. */
export function markSubject(stream: string, consumer: string, id: bigint): string {
  return letterSubject(stream, consumer, id) + MARK;
}

/** Makes streams for dead letters, and binds consumers to them. */
export class DeadLetterStreams {
  readonly #api: JetStreamApi;
  readonly #additions = new JointChanges(async (name, subjects) => this.#add(name, subjects), isOverlap);

  constructor(api: JetStreamApi) {
    this.#api = api;
  }

  /**
   * Makes `name` collect the letters of a consumer. A new stream has the storage and the replicas of the consumer's own.
   * Rejects with CONFIGURATION_REFUSED for a stream that is there for something else. False where it did so already.
   */
  async ensure(name: string, stream: string, consumer: string, call: ApiCall): Promise<boolean> {
    const subject = lettersOf(stream, consumer);
    try {
      return await this.#ensure(name, stream, subject, call);
    } catch (error) {
      if (!isOverlap(error)) throw error;
      // They went elsewhere until now. That stream lets go of the subject unless there are letters left.
      const other = await this.#api.streamOfSubject(subject, call);
      if (other === undefined || other === name || !(await this.#release(other, subject, call))) {
        throw overlaps(name, subject, other, error);
      }
      return this.#ensure(name, stream, subject, call);
    }
  }

  /** Takes the subject of a consumer that is gone out of the stream, unless there are letters left. */
  async release(stream: string, consumer: string, call: ApiCall): Promise<void> {
    const subject = lettersOf(stream, consumer);
    const name = await this.#api.streamOfSubject(subject, call);
    if (name !== undefined) await this.#release(name, subject, call);
  }

  async #ensure(name: string, stream: string, subject: string, call: ApiCall): Promise<boolean> {
    const source = await this.#api.streamInfo(stream, { ...call, names: { stream } });
    await this.#checkHasNoLetters(source.config, call);
    const existing = await this.#find(name, call);
    if (existing === undefined) {
      try {
        await this.#api.createStream(newConfig(name, subject, source.config), { ...call, names: { stream: name } });
        return true;
      } catch (error) {
        // Somebody else was faster.
        if (jetStreamCode(error) !== JetStreamCode.streamNameInUse) throw error;
      }
    } else {
      checkIsForLetters(existing.config);
      if (collects(existing.config, subject)) return false;
    }
    const added = this.#additions.make(name, subject);
    const { deadlineMs = Infinity } = call;
    if (!(await within(Math.min(PATIENCE_MS, deadlineMs - Date.now()), added))) throw late(name, subject);
    await added;
    return true;
  }

  /** For all who wait for it, whatever the deadline of each. */
  async #add(name: string, subjects: ReadonlySet<string>): Promise<void> {
    await this.#locked(name, {}, async () => {
      const { config } = await this.#api.streamInfo(name);
      checkIsForLetters(config);
      const missing = [...subjects].filter((subject) => !collects(config, subject));
      if (missing.length === 0) return;
      const kept = config.subjects.filter((subject) => subject !== idleSubject(name));
      await this.#update({ ...config, subjects: [...kept, ...missing] }, {});
    });
  }

  async #release(name: string, subject: string, call: ApiCall): Promise<boolean> {
    return this.#locked(name, call, async () => {
      const { config } = await this.#api.streamInfo(name, call);
      if (!config.subjects.includes(subject) || (await this.#hasLetters(name, subject, call))) return false;
      const others = config.subjects.filter((other) => other !== subject);
      await this.#update({ ...config, subjects: others.length === 0 ? [idleSubject(name)] : others }, call);
      if (!(await this.#hasLetters(name, subject, call))) return true;
      // One came in between: it has to be found.
      await this.#update(config, call);
      return false;
    });
  }

  async #hasLetters(name: string, subject: string, call: ApiCall): Promise<boolean> {
    const body = { subjects_filter: subject };
    const { state } = await this.#api.request<StreamInfo>(`STREAM.INFO.${name}`, body, call);
    return Object.keys(state.subjects ?? {}).length > 0;
  }

  async #update(config: StreamConfig, call: ApiCall): Promise<void> {
    await this.#api.updateStream(config, { ...call, names: { stream: config.name } });
  }

  async #find(name: string, call: ApiCall): Promise<StreamInfo | undefined> {
    try {
      return await this.#api.streamInfo(name, { ...call, names: { stream: name } });
    } catch (error) {
      if (error instanceof WindshiftError && error.reason === "STREAM_NOT_FOUND") return undefined;
      throw error;
    }
  }

  /** The letter of a letter would tell of the letter, and no more of the event; so would that of a copy. */
  async #checkHasNoLetters(source: StreamConfig, call: ApiCall): Promise<void> {
    const seen = new Set<string>();
    const check = async ({ name, subjects, mirror, sources }: StreamConfig): Promise<void> => {
      if ((subjects ?? []).some(isForLetters)) throw ofLetters(source.name, name);
      for (const origin of [...(mirror === undefined ? [] : [mirror]), ...(sources ?? [])]) {
        if (origin.external !== undefined || seen.has(origin.name)) continue;
        seen.add(origin.name);
        const info = await this.#find(origin.name, call);
        if (info !== undefined) await check(info.config);
      }
    };
    await check(source);
  }

  /** Runs `change` while nobody else changes the subjects of the stream. */
  async #locked<Result>(name: string, call: ApiCall, change: () => Promise<Result>): Promise<Result> {
    await this.#lock(name, call);
    try {
      return await change();
    } finally {
      // Else it goes by itself.
      await this.#api.deleteConsumer(name, SUBJECTS_LOCK, {}).catch(() => undefined);
    }
  }

  async #lock(name: string, call: ApiCall): Promise<void> {
    const config = {
      name: SUBJECTS_LOCK,
      // The same again would be no refusal.
      description: `held while the subjects are changed, by ${randomUUID()}`,
      ack_policy: "none",
      deliver_policy: "new",
      mem_storage: true,
      num_replicas: 1,
      inactive_threshold: nanoseconds(LOCK_LIFE_MS),
    } as Partial<ConsumerConfig> & { name: string };
    const giveUpAt = Math.min(Date.now() + LOCK_PATIENCE_MS, call.deadlineMs ?? Infinity);
    for (;;) {
      try {
        await this.#api.putConsumer(name, config, "create", { ...call, write: false, names: { stream: name } });
        return;
      } catch (error) {
        if (jetStreamCode(error) !== JetStreamCode.consumerExists) throw error;
        if (Date.now() > giveUpAt) throw busy(name, error);
      }
      await delay(LOCK_LOOK_MS);
    }
  }
}

function newConfig(name: string, subject: string, source: StreamConfig): Partial<StreamConfig> & { name: string } {
  return {
    name,
    description: "dead letters of consumers",
    subjects: [subject],
    storage: source.storage,
    num_replicas: source.num_replicas,
    retention: "limits" as StreamConfig["retention"],
    // Nothing ever leaves it by itself: full, it refuses letters, and events stay where they are.
    discard: "new" as StreamConfig["discard"],
    allow_direct: true,
  };
}

function collects({ subjects }: StreamConfig, subject: string): boolean {
  return subjects.some((filter) => matches(filter, subject));
}

/** Of a stream that no consumer has its letters in. */
function idleSubject(name: string): string {
  return `${DEAD_LETTERS}.${name}`;
}

function isForLetters(subject: string): boolean {
  return subject.startsWith(`${DEAD_LETTERS}.`);
}

function checkIsForLetters({ name, subjects, retention }: StreamConfig): void {
  const metadata = { stream: name };
  const other = (subjects ?? []).find((subject) => !isForLetters(subject));
  if (other !== undefined || (subjects ?? []).length === 0) {
    const what = other === undefined ? "copies other streams" : `collects ${quote(other)}`;
    const text = `${FIELD}: stream ${quote(name)} is there and ${what}, so it cannot keep dead letters`;
    throw new WindshiftError("CONFIGURATION_REFUSED", text, { field: FIELD, metadata });
  }
  if (retention !== "limits") {
    const text = `${FIELD}: stream ${quote(name)} has the retention ${quote(retention)}, which would lose dead letters`;
    throw new WindshiftError("CONFIGURATION_REFUSED", text, { field: FIELD, metadata });
  }
}

function isOverlap(error: unknown): boolean {
  return error instanceof WindshiftError && error.reason === "SUBJECT_OVERLAP";
}

function ofLetters(stream: string, origin: string): WindshiftError {
  const field = "delivery_policy.dead_letter";
  const what = origin === stream ? "keeps dead letters itself" : `has copies of dead letters from ${quote(origin)}`;
  const text = `${field}: stream ${quote(stream)} ${what}, and they cannot become dead letters again`;
  return new WindshiftError("CONFIGURATION_REFUSED", text, { field, metadata: { stream } });
}

function late(name: string, subject: string): WindshiftError {
  const text = `the deadline passed while ${quote(subject)} was to be added to stream ${quote(name)}`;
  const metadata = { stream: name };
  return new WindshiftError("DEADLINE_EXCEEDED", text, {
    metadata,
    outcome: "not_stored",
    retryAfterMs: RETRY_AFTER_MS,
  });
}

function busy(name: string, cause: unknown): WindshiftError {
  const text = `others have been changing the subjects of stream ${quote(name)} for too long`;
  const metadata = { stream: name };
  return new WindshiftError("OVERLOADED", text, {
    metadata,
    outcome: "not_stored",
    retryAfterMs: RETRY_AFTER_MS,
    cause,
  });
}

function overlaps(name: string, subject: string, other: string | undefined, cause: unknown): WindshiftError {
  const text = `${FIELD}: ${quote(name)} cannot collect ${quote(subject)}, stream ${quote(other ?? "?")} does, and letters may be left there`;
  return new WindshiftError("SUBJECT_OVERLAP", text, { field: FIELD, metadata: { stream: name }, cause });
}

/**
 * The stored format of a dead letter: an event that was given up, as the stream for dead letters has it. Payload and headers
 * are the event's own, without those of NATS: copied, they would be orders to the other stream; and without the mark of a
 * replay, which would hide the letter. What happened to it is in `WS-Dead-Letter-*`.
 *
 * A replay turns these into `WS-Dead-Letter-1-*` and so on, one number for each time that the event was given up before: they
 * travel with the new event, and from it into its next letter. Replaying is no loop without end: the last rounds are kept.
 */
import { HeaderLines, type NatsMessage } from "../nats/message.ts";
import type { StoredMessage } from "../nats/get.ts";
import { type StoredEvent, readStoredEvent } from "./event.ts";
import { decodeHeaders, storedKey } from "./headers.ts";

/** Why an event was given up: its client said so, or its attempts ran out. */
export type DeadLetterCause = "rejected" | "attempts";

/** One time that an event was given up. */
export interface DeadLetterRound {
  /** The event's id at that time. */
  readonly id: bigint;
  /** Deliveries that clients saw. */
  readonly attempts: number;
  readonly cause: DeadLetterCause;
  /** The last reason that a client gave, as far as it was known where the letter was written. */
  readonly reason: string | undefined;
  /** RFC 3339. */
  readonly time: string;
}

/** What happened to an event that is given up. */
export interface DeadLetterOrigin extends DeadLetterRound {
  readonly stream: string;
  readonly consumer: string;
  readonly subject: string;
}

/** A letter as it was found. */
export interface DeadLetter extends DeadLetterOrigin {
  /** Sequence in the stream for dead letters: their order, and where a page goes on. */
  readonly sequence: bigint;
  /** The key that the event was published with; undefined for none. */
  readonly idempotencyKey: string | undefined;
  /** The event itself. Its `id` and `subject` are those of the letter; the event's own are in the fields beside it. */
  readonly event: StoredEvent;
  /** The earlier times that it was given up, before replays; oldest first. */
  readonly history: readonly DeadLetterRound[];
}

const PREFIX = "WS-Dead-Letter-";
/** Lower case, as names are compared without case. */
const NATS = "nats-";
const CURRENT = /^ws-dead-letter-[a-z]/;
const NUMBERED = /^ws-dead-letter-(\d+)-(.+)$/;
const REPLAY = /^ws-replay-/;
const IDEMPOTENCY_KEY = "ws-idempotency-key";
const ROUNDS = 5;
/** Of a reason, in the history: what a replayed event carries has to stay small. */
const MAX_OLD_REASON = 256;
const HISTORY_FIELDS = ["Id", "Attempts", "Cause", "Reason", "Time"] as const;

/** The header block of a letter. `headers` are the event's, as they are stored. */
export function encodeLetter(headers: Buffer | undefined, origin: DeadLetterOrigin): string {
  // The letter of a replayed event is for everybody who reads letters.
  const lines = copiedLines(headers, (name) => !CURRENT.test(name) && !REPLAY.test(name));
  const { idempotencyKey } = decodeHeaders({ headers });
  const fields: [string, string | undefined][] = [
    ["Stream", origin.stream],
    ["Consumer", origin.consumer],
    ["Id", String(origin.id)],
    ["Subject", origin.subject],
    ["Attempts", String(origin.attempts)],
    ["Cause", origin.cause],
    ["Reason", origin.reason === undefined ? undefined : storedKey(origin.reason) || undefined],
    ["Time", origin.time],
    ["Idempotency-Key", idempotencyKey],
  ];
  for (const [name, value] of fields) if (value !== undefined) lines.push(`${PREFIX}${name}: ${value}`);
  return block([...lines, "Nats-Expected-Last-Subject-Sequence: 0"]);
}

/**
 * The header block of the event that a replay publishes; `further` are lines of the replay's own. It can do without the
 * reasons that clients gave, where there is no room.
 */
export function encodeReplay(
  { headers }: Pick<NatsMessage, "headers">,
  further: readonly string[],
  hasReasons = true,
): string {
  const lines = copiedLines(headers, (name) => !CURRENT.test(name) && !REPLAY.test(name) && name !== IDEMPOTENCY_KEY);
  const current = new Map<string, string>();
  let round = 1;
  for (const [name, value] of linesOf(headers)) {
    const [, number] = NUMBERED.exec(name) ?? [];
    if (number !== undefined) round = Math.max(round, Number(number) + 1);
    else if (CURRENT.test(name)) current.set(name.slice(PREFIX.length), value);
  }
  const isKept = (field: string): boolean => hasReasons || field.toLowerCase() !== "reason";
  const kept = lines.filter((line) => {
    const [, number, field] = NUMBERED.exec(line.slice(0, line.indexOf(":")).toLowerCase()) ?? [];
    return number === undefined || (Number(number) > round - ROUNDS && isKept(field!));
  });
  for (const field of HISTORY_FIELDS) {
    const value = current.get(field.toLowerCase());
    if (value !== undefined && isKept(field))
      kept.push(`${PREFIX}${round}-${field}: ${value.slice(0, MAX_OLD_REASON)}`);
  }
  const key = current.get("idempotency-key");
  if (key !== undefined) kept.push(`WS-Idempotency-Key: ${key}`);
  return block([...kept, ...further]);
}

/** Reads a letter; undefined where a message of the stream is none. */
export function readLetter(message: StoredMessage): DeadLetter | undefined {
  const fields = new Map<string, string>();
  const rounds = new Map<number, Map<string, string>>();
  for (const [name, value] of linesOf(message.headers)) {
    const [, number, field] = NUMBERED.exec(name) ?? [];
    if (number !== undefined) {
      let round = rounds.get(Number(number));
      if (round === undefined) rounds.set(Number(number), (round = new Map()));
      round.set(field!, value);
    } else if (CURRENT.test(name)) {
      fields.set(name.slice(PREFIX.length), value);
    }
  }
  const round = toRound(fields);
  const [stream, consumer, subject] = [fields.get("stream"), fields.get("consumer"), fields.get("subject")];
  if (round === undefined || stream === undefined || consumer === undefined || subject === undefined) return undefined;
  return {
    ...round,
    stream,
    consumer,
    subject,
    sequence: message.sequence,
    idempotencyKey: fields.get("idempotency-key"),
    event: readStoredEvent(message),
    history: [...rounds.entries()]
      .toSorted(([a], [b]) => a - b)
      .map(([, each]) => toRound(each))
      .filter((each) => each !== undefined),
  };
}

function toRound(fields: ReadonlyMap<string, string>): DeadLetterRound | undefined {
  const id = fields.get("id") ?? "";
  if (!/^\d{1,19}$/.test(id)) return undefined;
  return {
    id: BigInt(id),
    attempts: Number(fields.get("attempts") ?? 0) || 0,
    cause: fields.get("cause") === "attempts" ? "attempts" : "rejected",
    reason: fields.get("reason"),
    time: fields.get("time") ?? "",
  };
}

/** Names in lower case, and values. */
function* linesOf(headers: Buffer | undefined): Generator<[name: string, value: string]> {
  if (headers === undefined) return;
  const lines = new HeaderLines(headers);
  while (lines.next()) yield [lines.name.toLowerCase(), lines.value];
}

/** Lines of an event's headers that go along: not those of NATS, and those that `isKept`, which is asked in lower case. */
function copiedLines(headers: Buffer | undefined, isKept: (name: string) => boolean): string[] {
  if (headers === undefined) return [];
  const copied: string[] = [];
  const lines = new HeaderLines(headers);
  while (lines.next()) {
    const name = lines.name.toLowerCase();
    if (!name.startsWith(NATS) && isKept(name)) copied.push(`${lines.name}: ${lines.value}`);
  }
  return copied;
}

function block(lines: readonly string[]): string {
  return `NATS/1.0\r\n${lines.join("\r\n")}\r\n\r\n`;
}

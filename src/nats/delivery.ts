/**
 * Hot path: what the reply subject of a delivered message says:
 * `$JS.ACK.<stream>.<consumer>.<attempt>.<stream sequence>.<consumer sequence>.<time>.<pending>`, or since NATS 2.11 by
 * choice with `<domain>.<account hash>` after `ACK` and a random token at the end (ADR-15 of nats-architecture-and-design).
 */
import { digitsBetween } from "./message.ts";

/** Tokens before the attempt, and those of what has a domain. */
const PLAIN_TOKENS = 4;
const DOMAIN_TOKENS = 6;
const MAX_PLAIN_DOTS = 8;
const DOT = 46;
/** Deliveries of a consumer differ in nothing before the attempt: how the last subject began, and the dots after that. */
let lastBegin = "";
let lastDots = 0;
/** The subject at hand; where its attempt begins and ends, and where each of the four numbers after it does. */
let subject = "";
let attemptAt = 0;
const ends = [0, 0, 0, 0, 0];

/** One delivery, read from its reply subject as far as it is asked for. */
export interface Delivery {
  /** 1 for the first delivery of the message. */
  readonly attempt: number;
  /** Of the stream. */
  readonly sequence: number;
  /** How many deliveries of its consumer there were, this one included. */
  readonly consumerSequence: number;
  /** When JetStream stored the message: nanoseconds since the epoch, in digits. */
  readonly storedAt: string;
  /** How many messages the consumer had not delivered yet when it delivered this one. */
  readonly pending: number;
}

const DELIVERY: Delivery = {
  get attempt() {
    return digitsBetween(subject, attemptAt, ends[0]!);
  },
  get sequence() {
    return digitsBetween(subject, ends[0]! + 1, ends[1]!);
  },
  get consumerSequence() {
    return digitsBetween(subject, ends[1]! + 1, ends[2]!);
  },
  get storedAt() {
    return subject.slice(ends[2]! + 1, ends[3]);
  },
  get pending() {
    return digitsBetween(subject, ends[3]! + 1, ends[4]!);
  },
};

/** What a reply subject says; to be looked at before the next call. */
export function readDelivery(replySubject: string): Delivery {
  subject = replySubject;
  attemptAt = findNumbers(replySubject);
  return DELIVERY;
}

/** Fills `ends`; returns where the attempt begins. */
function findNumbers(text: string): number {
  if (lastBegin !== "" && text.startsWith(lastBegin) && findDots(text, lastBegin.length) === lastDots) {
    return lastBegin.length;
  }
  let tokens = findDots(text, 0) > MAX_PLAIN_DOTS ? DOMAIN_TOKENS : PLAIN_TOKENS;
  let begin = 0;
  for (; tokens > 0 && begin < text.length; begin++) if (text.charCodeAt(begin) === DOT) tokens -= 1;
  lastBegin = text.slice(0, begin);
  lastDots = findDots(text, begin);
  return begin;
}

/** Fills `ends` with the first dots from `from` on; returns how many there are. */
function findDots(text: string, from: number): number {
  let found = 0;
  for (let at = from; at < text.length; at++) {
    if (text.charCodeAt(at) !== DOT) continue;
    if (found < ends.length) ends[found] = at;
    found += 1;
  }
  for (let n = found; n < ends.length; n++) ends[n] = text.length;
  return found;
}

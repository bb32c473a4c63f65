/**
 * What becomes of events that fail: how often they are delivered, how long a rejected one waits, where it goes in the end.
 * A consumer's policy is kept in the consumer's own metadata, so it is where the consumer is, on whatever server.
 *
 * Nothing in JetStream tells one update of that metadata from another, and an update by others wipes it. Each policy
 * therefore has a version, which grows, and one that is removed leaves its absence behind with a version: a server that knew
 * a policy can tell "removed" from "wiped", and "older" from "newer".
 */
import type { ConsumerConfig } from "@nats-io/jetstream";
import { fieldError, quote } from "../errors.ts";
import { checkName } from "../names.ts";
import { nanoseconds } from "../nats/units.ts";

/** How a consumer treats events that fail. */
export interface DeliveryPolicy {
  /** Deliveries after which an event is given up; 0: no limit. */
  readonly maxAttempts: number;
  /** What a reject without a delay waits, by attempt; the last repeats. Empty: 1 s, 2 s, … where attempts have a limit. */
  readonly backoffMs: readonly number[];
  /** The stream that keeps what is given up; undefined: nothing does. */
  readonly deadLetterStream: string | undefined;
}

/** A policy as a request asks for it. */
export interface DeliveryPolicySpec {
  readonly maxAttempts?: number | undefined;
  readonly backoffMs: readonly number[];
  /** An empty or undefined stream: the consumer's stream and `-dead-letters`. */
  readonly deadLetter?: { readonly stream?: string | undefined } | undefined;
}

/** A policy, or that there shall be none, as it is stored. */
export interface StoredPolicy {
  /** Undefined: the consumer has none. */
  readonly policy: DeliveryPolicy | undefined;
  /** Grows with each change. */
  readonly version: number;
}

/** Where the metadata of a consumer has it. */
export const POLICY_KEY = "windshift.delivery-policy";

const MAX_BACKOFFS = 100;
const DEAD_LETTERS = "-dead-letters";
/** Where a policy limits attempts and names no back-off: so long after the first one, then twice as long, … */
const FIRST_BACKOFF_MS = 1_000;
/** … and no longer. */
const MAX_BACKOFF_MS = 60_000;

/** The policy that is asked for; undefined where an empty one is, which means none. Throws for what is not valid. */
export function toPolicy(stream: string, spec: DeliveryPolicySpec): DeliveryPolicy | undefined {
  const { maxAttempts = 0, backoffMs, deadLetter } = spec;
  if (backoffMs.length > MAX_BACKOFFS) {
    const problem = `has ${backoffMs.length} entries, at most ${MAX_BACKOFFS} may be`;
    throw fieldError("INVALID_VALUE", "delivery_policy.backoff", problem);
  }
  const deadLetterStream = deadLetter === undefined ? undefined : deadLetter.stream || stream + DEAD_LETTERS;
  if (deadLetterStream !== undefined) {
    checkName("delivery_policy.dead_letter.stream", deadLetterStream);
    if (deadLetterStream === stream) {
      const problem = `${quote(stream)} is the consumer's own stream`;
      throw fieldError("INVALID_VALUE", "delivery_policy.dead_letter.stream", problem);
    }
  }
  if (maxAttempts === 0 && backoffMs.length === 0 && deadLetterStream === undefined) return undefined;
  return { maxAttempts, backoffMs: [...backoffMs], deadLetterStream };
}

/** How long a reject without a delay waits after this attempt, in whole nanoseconds; 0: not at all. */
export function backoffNanoseconds({ maxAttempts, backoffMs }: DeliveryPolicy, attempt: number): number {
  const { length } = backoffMs;
  if (length > 0) return nanoseconds(backoffMs[Math.min(attempt, length) - 1]!);
  // At once, rejects would be through with all attempts in milliseconds.
  return maxAttempts === 0 ? 0 : nanoseconds(Math.min(FIRST_BACKOFF_MS * 2 ** (attempt - 1), MAX_BACKOFF_MS));
}

/** Whether the attempts of an event have run out with this one. */
export function isLastAttempt({ maxAttempts }: DeliveryPolicy, attempt: number): boolean {
  return maxAttempts > 0 && attempt >= maxAttempts;
}

/** True for policies that say the same. */
export function isSamePolicy(a: DeliveryPolicy | undefined, b: DeliveryPolicy | undefined): boolean {
  return JSON.stringify(policyJson(a)) === JSON.stringify(policyJson(b));
}

/** The version after this one: the time, so that it is newer than what was wiped, too. */
export function nextVersion(previous: StoredPolicy | undefined): number {
  return Math.max((previous?.version ?? 0) + 1, Date.now());
}

/** The entry of the metadata for a policy. */
export function encodePolicy({ policy, version }: StoredPolicy): string {
  return JSON.stringify({ ...policyJson(policy), version });
}

function policyJson(policy: DeliveryPolicy | undefined): object {
  if (policy === undefined) return {};
  const { maxAttempts, backoffMs, deadLetterStream } = policy;
  return {
    ...(maxAttempts === 0 ? {} : { max_attempts: maxAttempts }),
    ...(backoffMs.length === 0 ? {} : { backoff_ms: backoffMs }),
    ...(deadLetterStream === undefined ? {} : { dead_letter: deadLetterStream }),
  };
}

/** What a consumer's metadata says: undefined where it says nothing, and `unreadable` for what this server did not write. */
export function decodePolicy(
  metadata: Readonly<Record<string, string>> | undefined,
): StoredPolicy | "unreadable" | undefined {
  const text = metadata?.[POLICY_KEY];
  if (text === undefined) return undefined;
  let json: Record<string, unknown>;
  try {
    json = JSON.parse(text) as Record<string, unknown>;
  } catch {
    return "unreadable";
  }
  if (typeof json !== "object" || json === null) return "unreadable";
  const { max_attempts: maxAttempts = 0, backoff_ms: backoffMs = [], dead_letter: deadLetterStream, version } = json;
  if (
    !isCount(version) ||
    !isCount(maxAttempts) ||
    !isListOfDelays(backoffMs) ||
    !(deadLetterStream === undefined || typeof deadLetterStream === "string")
  ) {
    return "unreadable";
  }
  const isNone = maxAttempts === 0 && backoffMs.length === 0 && deadLetterStream === undefined;
  return { policy: isNone ? undefined : { maxAttempts, backoffMs, deadLetterStream }, version };
}

/**
 * Takes JetStream's own limit of deliveries, which others may have set, out of the settings of a consumer with a policy: an
 * event that reached it would never come again, and could not be given up.
 */
export function withoutOwnLimit({
  max_deliver: limit = -1,
  metadata,
}: Pick<Partial<ConsumerConfig>, "max_deliver" | "metadata">): { max_deliver?: number } {
  const stored = decodePolicy(metadata);
  const hasPolicy = stored !== undefined && stored !== "unreadable" && stored.policy !== undefined;
  return hasPolicy && limit > 0 ? { max_deliver: -1 } : {};
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isListOfDelays(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((delay) => typeof delay === "number" && delay >= 0);
}

/**
 * Dead letters: an event that clients reject for good, or whose attempts are used up, is in the dead-letter stream once, as it
 * was stored, before it leaves the consumer; every other one is acknowledged. Rejects are paced by the policy.
 */
import { LETTERS } from "../cluster/topology.ts";
import { type Evidence, type Of, SLACK_MS, type Violation, at, excused, majorityKills } from "./evidence.ts";

/** Clocks and timers are not exact to the millisecond. */
const TIMER_MS = 20;
/** A reject that was sent later than this may have met a delivery that had timed out. */
const PROMPT_MS = 300;

interface Reject {
  readonly at: number;
  readonly attempt: number;
  readonly sub: string;
}

interface Track {
  readonly deliveries: Of<"event">[];
  mayBeAcked: boolean;
  /** When an ack was confirmed so soon after its delivery that this one had not timed out. */
  ackedAt: number | undefined;
  /** The first attempt that somebody rejected for good. */
  terminatedAttempt: number | undefined;
  confirmedTermination: boolean;
  /** A reject that was sent in time, and is not confirmed yet. */
  rejecting: Reject | undefined;
  /** The last reject that was applied. */
  rejected: Reject | undefined;
}

export function checkLetters(evidence: Evidence): Violation[] {
  const { letters } = evidence;
  if (letters === undefined) return [];
  const violations: Violation[] = [];
  const add = (text: string): void => void violations.push({ check: "letters", text });
  const subs = new Map<string, Set<number>>();
  const terminations = new Map<string, Set<number>>();
  const tracks = new Map<number, Track>();
  const track = (id: number): Track => {
    let found = tracks.get(id);
    if (found === undefined) {
      found = {
        deliveries: [],
        mayBeAcked: false,
        ackedAt: undefined,
        terminatedAttempt: undefined,
        confirmedTermination: false,
        rejecting: undefined,
        rejected: undefined,
      };
      tracks.set(id, found);
    }
    return found;
  };
  for (const entry of evidence.entries) {
    if (entry.e === "subscribe" && entry.consumer === LETTERS.consumer) {
      subs.set(entry.sub, new Set());
      terminations.set(entry.sub, new Set());
    }
    if (!("sub" in entry) || !subs.has(entry.sub)) continue;
    if (entry.e === "event") {
      delivered(entry);
    } else if (entry.e === "settle" && entry.kind !== "ping") {
      for (const id of entry.ids) {
        const found = track(id);
        if (entry.kind === "ack") found.mayBeAcked = true;
        const last = found.deliveries.findLast(({ sub }) => sub === entry.sub);
        if (entry.kind === "terminate") {
          found.terminatedAttempt ??= last?.attempt ?? 1;
          terminations.get(entry.sub)!.add(id);
        }
        if (entry.kind === "reject" && last !== undefined && entry.t - last.t < PROMPT_MS) {
          found.rejecting = { at: entry.t, attempt: last.attempt, sub: entry.sub };
        }
      }
    } else if (entry.e === "confirmed") {
      for (const id of entry.ids) {
        const found = track(id);
        const last = found.deliveries.findLast(({ sub }) => sub === entry.sub);
        const isInTime = last !== undefined && entry.t - last.t + SLACK_MS < LETTERS.timeoutMs;
        if (entry.kind === "ack" && isInTime) found.ackedAt ??= entry.t;
        if (entry.kind !== "reject") continue;
        if (terminations.get(entry.sub)!.has(id)) found.confirmedTermination = true;
        if (found.rejecting?.sub === entry.sub) found.rejected = found.rejecting;
      }
    }
  }
  const written = new Map<number, number>();
  const texts = new Map(evidence.stored.map(({ id, text }) => [id, text]));
  for (const { id, text, cause, attempts, atMs = -Infinity } of letters.written) {
    const leftMs = letters.terminations.get(id);
    // To whole milliseconds, as JetStream's own times are cut.
    if (leftMs !== undefined && leftMs < Math.floor(atMs)) {
      add(`${id} left the consumer ${Math.ceil(atMs - leftMs)} ms before its letter was stored`);
    }
    written.set(id, (written.get(id) ?? 0) + 1);
    const found = tracks.get(id);
    if (texts.get(id) !== text) add(`the letter of ${id} holds ${text}, stored is ${texts.get(id) ?? "nothing"}`);
    if (cause === "rejected" && found?.terminatedAttempt === undefined) {
      add(`there is a letter of ${id} as rejected, which nobody rejected for good`);
    }
    // While the letter of a rejected one is being written, it may come again.
    const saw =
      cause === "rejected"
        ? (found?.terminatedAttempt ?? 0)
        : Math.max(0, ...(found?.deliveries.map(({ attempt }) => attempt) ?? []));
    if (attempts > LETTERS.maxAttempts || attempts < saw) {
      add(`the letter of ${id} tells of ${attempts} attempts; clients saw ${saw} of ${LETTERS.maxAttempts}`);
    }
  }
  if (letters.pending > 0 || letters.unsettled > 0) {
    add(`${LETTERS.consumer} was left with ${letters.pending} not delivered and ${letters.unsettled} not settled`);
  }
  for (const [id, count] of written) if (count > 1) add(`${id} has ${count} letters`);
  for (const { id } of evidence.stored) judge(id);
  return violations;

  function delivered(entry: Of<"event">): void {
    const found = track(entry.id);
    const { rejected } = found;
    if (entry.attempt > LETTERS.maxAttempts) {
      add(`${entry.id} came to ${entry.sub} as attempt ${entry.attempt}, ${LETTERS.maxAttempts} being the limit`);
    }
    if (rejected !== undefined && entry.attempt === rejected.attempt + 1) {
      const backoffMs = LETTERS.backoffMs[Math.min(rejected.attempt, LETTERS.backoffMs.length) - 1]!;
      const waited = entry.t - rejected.at;
      const ended = evidence.entries.some(
        (other) => other.e === "ended" && other.sub === rejected.sub && other.t >= rejected.at && other.t <= entry.t,
      );
      const isDisturbed = ended || disturbed(rejected.at - SLACK_MS, entry.t);
      if (waited < backoffMs - TIMER_MS && !isDisturbed) {
        add(
          `${entry.id} came again ${Math.round(waited)} ms after its reject at ${at(evidence, rejected.at)}, not ${backoffMs}`,
        );
      }
    }
    found.rejecting = found.rejected = undefined;
    found.deliveries.push(entry);
  }

  /** Nothing can be said of the order of what crossed a fault. */
  function disturbed(from: number, to: number): boolean {
    return (
      excused(evidence, "stalls", from, to) ||
      excused(evidence, "nodes", from, to) ||
      excused(evidence, "ends", from, to)
    );
  }

  function judge(id: number): void {
    const found = tracks.get(id);
    const hasLetter = written.has(id);
    if (found?.confirmedTermination === true && !hasLetter)
      add(`${id} was rejected for good, confirmed, and has no letter`);
    if (!hasLetter && found?.mayBeAcked !== true) {
      add(`${id} was never acknowledged (${found?.deliveries.length ?? 0} deliveries), and has no letter`);
    }
    const acked = found?.ackedAt;
    if (hasLetter && acked !== undefined && majorityKills(evidence).length === 0 && !disturbed(0, acked)) {
      add(`${id} was acknowledged at ${at(evidence, acked)}, and has a letter`);
    }
  }
}

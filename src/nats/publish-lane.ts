/**
 * Hot path: publishes of one client that keep their order. They are sent one after another without waiting, and NATS
 * keeps the order of what it takes. What it does not take at once (a stream without a leader) is tried again, and must not
 * be overtaken then by a later one of its subject:
 *
 *     open ──one is refused──▶ settling ──all are answered──▶ waiting ──▶ probing ──▶ open
 *                                                                ▲───refused───┘
 *
 * From the first refusal on nothing more is sent. When all that was sent is answered, those that were refused wait for a
 * moment; then the first is sent alone, and when it got through, the others follow, in their order. One whose subject got a
 * later event meanwhile can only fail.
 */
import { WindshiftError } from "../errors.ts";
import { tooLate } from "./errors.ts";

/** A publish that keeps its place. */
export interface LaneMember {
  readonly subject: string;
  readonly deadlineMs: number;
  /** For the lane. */
  place: number;
  /** Sends it when it is its turn; the lane hears of the answer. */
  begin(): void;
  /** After it was refused: sends it again. */
  comeBack(): void;
  /** After it was refused: it fails. */
  giveUp(error: WindshiftError): void;
  /** Before it has begun: it fails. */
  fail(error: WindshiftError): void;
}

/** A member without an answer; the subject of one that is stored, or may be; nothing for one that failed. */
type Slot = LaneMember | string | undefined;

interface Refused {
  readonly member: LaneMember;
  /** What it fails with when there is no time left. */
  readonly otherwise: WindshiftError;
}

/** How long what JetStream cannot store at the moment waits before it is tried again. */
export const RETRY_MS = 100;
const RETRY_AFTER_MS = 500;
/** Answered slots at the beginning are dropped in heaps of this size. */
const COMPACT_AT = 1024;
/** So many may come after one without an answer. */
const MAX_SLOTS = 4096;

/** Tells whether another publish of a subject came after one. Whoever asked for it ends it. */
export class LaneWatch implements Disposable {
  readonly subject: string;
  isOvertaken: boolean;
  readonly #watches: Set<LaneWatch>;

  constructor(subject: string, isOvertaken: boolean, watches: Set<LaneWatch>) {
    this.subject = subject;
    this.isOvertaken = isOvertaken;
    this.#watches = watches.add(this);
  }

  [Symbol.dispose](): void {
    this.#watches.delete(this);
  }
}

/** The order of one client's publishes. */
export class PublishLane {
  #state: "open" | "settling" | "waiting" | "probing" = "open";
  #slots: Slot[] = [];
  /** The place of the first slot. */
  #first = 0;
  /** Slots before it are answered. */
  #head = 0;
  /** Sent, and not answered yet. */
  #sent = 0;
  #refused: Refused[] = [];
  /** The one that was sent alone. */
  #probe: LaneMember | undefined;
  #held: LaneMember[] = [];
  readonly #watches = new Set<LaneWatch>();

  /** Nothing more should enter for now. */
  get isFull(): boolean {
    return this.#state !== "open" || this.#slots.length - this.#head >= MAX_SLOTS;
  }

  /** Sends a member behind all that entered before it, now or when what was refused has got through. */
  enter(member: LaneMember): void {
    if (this.#watches.size > 0) this.#tellWatches(member.subject);
    if (this.#state !== "open" || this.#held.length > 0) this.#held.push(member);
    else this.#begin(member);
  }

  /** One may have to be tried again: nothing more is sent until that is known. */
  stall(): void {
    if (this.#state === "open") this.#state = "settling";
  }

  /** One was refused for a reason that may pass. */
  refused(member: LaneMember, otherwise: WindshiftError): void {
    this.#sent -= 1;
    this.#refused.push({ member, otherwise });
    this.stall();
    this.#settle();
  }

  /** One has its answer: it is stored, or may be, or it failed. */
  answered(member: LaneMember, mayBeStored: boolean): void {
    const slots = this.#slots;
    const at = member.place - this.#first;
    // One that was held has no place yet.
    if (slots[at] !== member) return;
    slots[at] = mayBeStored ? member.subject : undefined;
    this.#sent -= 1;
    while (this.#head < slots.length && typeof slots[this.#head] !== "object") this.#head += 1;
    if (this.#head === slots.length || this.#head >= COMPACT_AT) this.#compact();
    if (this.#state !== "open") this.#settle();
  }

  /** Watches what comes after the publish of this subject and place, which has its answer, and may have to come again. */
  watch(subject: string, place: number): LaneWatch {
    return new LaneWatch(subject, this.#hasLater(subject, place), this.#watches);
  }

  #hasLater(subject: string, place: number): boolean {
    const slots = this.#slots;
    for (let at = Math.max(0, place + 1 - this.#first); at < slots.length; at++) {
      const slot = slots[at];
      if ((typeof slot === "object" ? slot.subject : slot) === subject) return true;
    }
    return this.#held.some((member) => member.subject === subject);
  }

  #tellWatches(subject: string): void {
    for (const watch of this.#watches) if (watch.subject === subject) watch.isOvertaken = true;
  }

  #begin(member: LaneMember): void {
    member.place = this.#first + this.#slots.length;
    this.#slots.push(member);
    this.#sent += 1;
    member.begin();
  }

  #compact(): void {
    this.#first += this.#head;
    if (this.#head === this.#slots.length) this.#slots.length = 0;
    else this.#slots = this.#slots.slice(this.#head);
    this.#head = 0;
  }

  /** All that was sent is answered: what was refused is next. */
  #settle(): void {
    if (this.#sent > 0 || this.#state === "waiting" || this.#state === "open") return;
    const isProbed = this.#state === "probing" && this.#refused.every(({ member }) => member !== this.#probe);
    this.#probe = undefined;
    this.#state = "waiting";
    this.#refused.sort((a, b) => a.member.place - b.member.place);
    this.#failOvertaken();
    if (this.#refused.length === 0 || isProbed) this.#open();
    else setTimeout(() => this.#retry(), RETRY_MS);
  }

  #retry(): void {
    const late = Date.now() + RETRY_MS;
    this.#giveUp(
      ({ member }) => member.deadlineMs <= late,
      ({ otherwise }) => otherwise,
    );
    const held = this.#held;
    this.#held = held.filter(({ deadlineMs }) => deadlineMs > late);
    for (const member of held) {
      if (member.deadlineMs <= late) member.fail(tooLate("to store the message", { subject: member.subject }));
    }
    const next = this.#refused.shift();
    if (next === undefined) {
      this.#open();
      return;
    }
    this.#state = "probing";
    this.#probe = next.member;
    this.#sent += 1;
    next.member.comeBack();
  }

  /** Sends everything that had to wait, as long as nothing is refused again. */
  #open(): void {
    this.#state = "open";
    this.#sent += this.#refused.length;
    for (const { member } of this.#refused.splice(0)) member.comeBack();
    const held = this.#held;
    let sent = 0;
    while (sent < held.length && this.#state === "open") this.#begin(held[sent++]!);
    held.splice(0, sent);
  }

  #failOvertaken(): void {
    const stored = new Set<string>();
    const overtaken = new Set<LaneMember>();
    for (const slot of this.#slots.toReversed()) {
      if (typeof slot === "string") stored.add(slot);
      else if (slot !== undefined && stored.has(slot.subject)) overtaken.add(slot);
    }
    this.#giveUp(
      ({ member }) => overtaken.has(member),
      ({ member }) => overtakenError(member.subject, "the stream had no leader for a moment"),
    );
  }

  #giveUp(isGivenUp: (refused: Refused) => boolean, error: (refused: Refused) => WindshiftError): void {
    const refused = this.#refused;
    this.#refused = refused.filter((each) => !isGivenUp(each));
    for (const each of refused) {
      if (!isGivenUp(each)) continue;
      // Its failure is its answer.
      this.#sent += 1;
      each.member.giveUp(error(each));
    }
  }
}

/** A later publish of the subject is stored, or may be. */
export function overtakenError(subject: string, why: string): WindshiftError {
  const text = `${why}, and a later event of ${JSON.stringify(subject)} was stored meanwhile`;
  return new WindshiftError("NO_LEADER", text, {
    metadata: { subject },
    outcome: "not_stored",
    retryAfterMs: RETRY_AFTER_MS,
  });
}

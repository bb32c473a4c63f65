/**
 * One line for each event that failed: rejected, not settled in time, given up. Of a flood so many lines a second for each
 * consumer and kind, and then how many were left out. Never a payload.
 */
import { LineLimit } from "../telemetry/line-limit.ts";
import type { Logger } from "../telemetry/logger.ts";

/** What failed. */
export interface FailedEvent {
  readonly id: number;
  readonly subject: string;
  readonly attempt: number;
  /** Of this delivery, or of another one. */
  readonly ackSubject: string;
  readonly traceParent: string | undefined;
}

/** What came of it. */
export type FailureKind =
  | "rejected"
  | "timed_out"
  | "dead_lettered"
  | "dropped"
  | "dead_letter_failed"
  | "dead_letter_lost";

const LINES_PER_SECOND = 10;
const SEPARATOR = "\0";

const MESSAGES: Readonly<Record<FailureKind, string>> = {
  rejected: "an event was rejected",
  timed_out: "an event was not settled in time",
  dead_lettered: "an event was given up, and is among the dead letters",
  dropped: "an event was given up, and dropped: its consumer has no dead letters",
  dead_letter_failed: "a dead letter could not be stored; its event stays, and is tried again",
  dead_letter_lost: "an event was given up, and had left its stream before it could be a dead letter",
};

/** The log of failures of all consumers. */
export class EventFailureLog {
  readonly #logger: Logger;
  readonly #limit = new LineLimit(LINES_PER_SECOND, { onQuiet: (kind, leftOut) => this.#quiet(kind, leftOut) });

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** Writes a line, unless there are many. `fields` say more: cause, reason, error. */
  write(kind: FailureKind, stream: string, consumer: string, event: FailedEvent, fields: object): void {
    const leftOut = this.#limit.admit([kind, stream, consumer].join(SEPARATOR));
    if (leftOut === undefined) return;
    const { id, subject, attempt, traceParent } = event;
    this.#logger[kind === "dead_letter_failed" || kind === "dead_letter_lost" ? "error" : "warn"](
      {
        failure: kind,
        stream,
        consumer,
        subject,
        id,
        attempt,
        ...fields,
        ...(traceParent === undefined ? {} : { trace_id: traceParent.split("-", 2)[1] }),
        ...(leftOut === 0 ? {} : { leftOut }),
      },
      MESSAGES[kind],
    );
  }

  #quiet(key: string, leftOut: number): void {
    const [failure, stream, consumer] = key.split(SEPARATOR);
    this.#logger.warn({ failure, stream, consumer, leftOut }, "lines about events that failed were left out");
  }
}

/** What a stream holds besides events: messages that this server put there for itself, and shows to nobody who reads. */
import type { EventHeaders } from "./headers.ts";
import { isMarkSubject } from "./dead-letter-streams.ts";
import { isScheduleSubject } from "./schedule.ts";

/** Hot path: true for the subjects of messages that are no events: schedules, and marks that replays leave beside letters. */
export function isHiddenSubject(subject: string): boolean {
  return isScheduleSubject(subject) || isMarkSubject(subject);
}

/** True for what is no event for those who read a stream: besides those, an event published again for one consumer. */
export function isHidden(subject: string, headers: EventHeaders): boolean {
  return isHiddenSubject(subject) || headers.replayConsumer !== undefined;
}

/** What a stream holds besides events: messages that this server put there for itself, and shows to nobody who reads. */
import type { EventHeaders } from "./headers.ts";
import { isScheduleSubject } from "./schedule.ts";

/** True for what is no event for those who read a stream: a schedule, or an event published again for one consumer. */
export function isHidden(subject: string, headers: EventHeaders): boolean {
  return isScheduleSubject(subject) || headers.replayConsumer !== undefined;
}

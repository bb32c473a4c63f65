/** What a stream holds besides events: messages that this server put there for itself, and shows to nobody who reads. */
import type { EventHeaders } from "./headers.ts";

/** Events that wait for their time are under subjects of their own, in the stream that they will appear in. */
const SCHEDULES = "ws-schedules.";

/** True for what is no event for those who read a stream: a schedule, or an event published again for one consumer. */
export function isHidden(subject: string, headers: EventHeaders): boolean {
  return subject.startsWith(SCHEDULES) || headers.replayConsumer !== undefined;
}

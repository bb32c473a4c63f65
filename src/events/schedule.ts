/**
 * Events that wait for their time. Each waits under a subject of its own, `ws-schedules.<stream>.<token>`, which the
 * stream collects besides those it was asked for. Only NATS reads what is there: nobody publishes to it, no consumer
 * gets it. Pure functions.
 */

const PREFIX = "ws-schedules.";

/** Whether a subject is one of those under which events wait. */
export function isScheduleSubject(subject: string): boolean {
  return subject.startsWith(PREFIX);
}

/** The subjects under which events of a stream wait. */
export function scheduleSubjects(stream: string): string {
  return `${PREFIX}${stream}.*`;
}

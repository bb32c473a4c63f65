/**
 * Answers of JetStream at moments that no test can time: a leader that gives up answers reads as if there were nothing, for
 * as long as that takes. The server under test has to run in this process.
 */
import { NatsConnection } from "../../src/nats/connection.ts";
import type { NatsMessage } from "../../src/nats/message.ts";

const NOTHING_FOUND = { code: 404, err_code: 10_037, description: "no message found" };
const WRONG_LAST_SEQUENCE = { code: 400, err_code: 10_071, description: "wrong last sequence: 2" };
const NOT_DELETED = { code: 500, err_code: 10_057, description: "could not be deleted" };

/** Which requests: the first `times` after the first `after`. */
interface Which {
  readonly times: number;
  readonly after?: number;
}

/** Reads of `stream` find nothing. Disposing ends that. */
export function findNothing(stream: string, which: Which): Disposable {
  return answer(`.STREAM.MSG.GET.${stream}`, { error: NOTHING_FOUND }, which);
}

/** A consumer is told of as one that is there and has no leader: nobody knows how far it is. Disposing ends that. */
export function knowNoLeader(stream: string, consumer: string, which: Which): Disposable {
  const nowhere = { consumer_seq: 0, stream_seq: 0 };
  const known = { stream_name: stream, name: consumer, created: "2026-01-01T00:00:00Z", config: {}, cluster: {} };
  return answer(`.CONSUMER.INFO.${stream}.${consumer}`, { ...known, delivered: nowhere, ack_floor: nowhere }, which);
}

/** What is published to `subject` is refused, as if another message were on its way there. Disposing ends that. */
export function refuseOverAnother(stream: string, subject: string, which: Which): Disposable {
  return answer(subject, { error: WRONG_LAST_SEQUENCE, stream, seq: 0 }, which);
}

/** Messages of `stream` are not deleted. Disposing ends that. */
export function deleteNothing(stream: string, which: Which): Disposable {
  return answer(`.STREAM.MSG.DELETE.${stream}`, { error: NOT_DELETED }, which);
}

function answer(what: string, body: object, { times, after = 0 }: Which): Disposable {
  const { request } = NatsConnection.prototype;
  const payload = Buffer.from(JSON.stringify(body));
  let seen = 0;
  NatsConnection.prototype.request = function patched(subject, headers, body, timeoutMs, handler) {
    const isMeant = subject.endsWith(what) && ++seen > after && seen <= after + times;
    const reply: Partial<NatsMessage> = { headers: undefined, payload, size: payload.length };
    if (isMeant) setImmediate(() => handler.onReply(reply as NatsMessage));
    else request.call(this, subject, headers, body, timeoutMs, handler);
  };
  return {
    [Symbol.dispose]: () => {
      NatsConnection.prototype.request = request;
    },
  };
}

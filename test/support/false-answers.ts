/**
 * Answers of JetStream at moments that no test can time: a leader that gives up answers reads as if there were nothing, for
 * as long as that takes. The server under test has to run in this process.
 */
import { NatsConnection } from "../../src/nats/connection.ts";
import type { NatsMessage } from "../../src/nats/message.ts";

const NOTHING_FOUND = { code: 404, err_code: 10_037, description: "no message found" };
const NOT_DELETED = { code: 500, err_code: 10_057, description: "could not be deleted" };

/** Which requests: the first `times` after the first `after`. */
interface Which {
  readonly times: number;
  readonly after?: number;
}

/** Reads of `stream` find nothing. Disposing ends that. */
export function findNothing(stream: string, which: Which): Disposable {
  return answer(`.STREAM.MSG.GET.${stream}`, NOTHING_FOUND, which);
}

/** Messages of `stream` are not deleted. Disposing ends that. */
export function deleteNothing(stream: string, which: Which): Disposable {
  return answer(`.STREAM.MSG.DELETE.${stream}`, NOT_DELETED, which);
}

function answer(what: string, error: object, { times, after = 0 }: Which): Disposable {
  const { request } = NatsConnection.prototype;
  const payload = Buffer.from(JSON.stringify({ error }));
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

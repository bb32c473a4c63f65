/**
 * Loaded into a process under test before its own code: it dies (SIGKILL) right before a certain request to NATS is sent, or
 * right after its reply came, so that crashes fall between any two steps. `CRASH_ON` is what the request begins with, its
 * subject and then its payload; `CRASH_NTH` which of several such requests; `CRASH_WHEN` is `before` or `after`.
 */
import { NatsConnection } from "../../src/nats/connection.ts";

const { CRASH_ON = "", CRASH_WHEN = "before", CRASH_NTH = "1" } = process.env;
const pattern = new RegExp(CRASH_ON);
const request = NatsConnection.prototype.request;
let seen = 0;

NatsConnection.prototype.request = function patched(subject, headers, payload, timeoutMs, handler) {
  const text = `${subject} ${Buffer.from(payload).toString("latin1")}`;
  if (!pattern.test(text) || ++seen !== Number(CRASH_NTH)) {
    request.call(this, subject, headers, payload, timeoutMs, handler);
    return;
  }
  if (CRASH_WHEN === "before") die();
  request.call(this, subject, headers, payload, timeoutMs, { onReply: die, onNoReply: die });
};

function die(): void {
  process.kill(process.pid, "SIGKILL");
}

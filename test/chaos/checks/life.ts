/** Promises 6 and 10: subscriptions end only for a reason; calls end in time, with a proper code. */
import { type Evidence, type Of, type Violation, at, excused, hadItsTurn } from "./evidence.ts";

const ENDS_LINGER_MS = 8_000;
/** So long after a fault calls may still fail: elections, and the deadline of a call that began before. */
const CALM_AFTER_MS = 12_000;
/** A call takes so long at most. */
const CALL_MS = 5_000;
/** These say that the server, or the suite, is wrong. */
const FORBIDDEN_CODES = new Set(["UNKNOWN", "INTERNAL", "DATA_LOSS", "UNIMPLEMENTED"]);

export function checkLife(evidence: Evidence): Violation[] {
  const violations: Violation[] = [];
  const add = (check: string, text: string): void => void violations.push({ check, text });
  for (const entry of evidence.entries) {
    if (entry.e === "slow") add("slow", `${entry.what} took ${entry.ms} ms at ${at(evidence, entry.t)}`);
    if (entry.e === "ended" && entry.by === "server") judgeEnd(entry);
    if (entry.e === "call_end") judgeCall(entry);
    if (entry.e === "publish_failed" || (entry.e === "state_done" && entry.error !== undefined)) {
      const failure = entry.e === "publish_failed" ? entry : entry.error!;
      const isCalm =
        evidence.faults.every(({ start, end }) => start > entry.t || end + CALM_AFTER_MS < entry.t) &&
        hadItsTurn(evidence, entry.t - CALL_MS, entry.t);
      if (isCalm && ["UNAVAILABLE", "DEADLINE_EXCEEDED"].includes(failure.code)) {
        add("calm", `${failure.code} ${failure.reason ?? ""} (${failure.text ?? ""}) at ${at(evidence, entry.t)}`);
      }
      if (FORBIDDEN_CODES.has(failure.code)) {
        add("code", `${failure.code} ${failure.reason ?? ""} (${failure.text ?? ""}) at ${at(evidence, entry.t)}`);
      }
      if (failure.code === "RESOURCE_EXHAUSTED" && !excused(evidence, "full", entry.t - 5_000, entry.t)) {
        add("code", `RESOURCE_EXHAUSTED ${failure.reason ?? ""} (${failure.text ?? ""}) at ${at(evidence, entry.t)}`);
      }
    }
  }
  return violations;

  /** Reads and publish streams: their servers end them when they leave, and otherwise never. */
  function judgeCall({ what, by, code, reason, text, t }: Of<"call_end">): void {
    const mayFail = excused(evidence, "ends", t, t, ENDS_LINGER_MS) || !hadItsTurn(evidence, t - CALL_MS, t);
    // A read that begins is a call like others.
    const isOpening = evidence.faults.some(({ start, end }) => start <= t && end + CALM_AFTER_MS >= t);
    if (code === "UNAVAILABLE" && (mayFail || isOpening)) return;
    if (code === "CANCELLED" && mayFail) return;
    add(
      "ended",
      `${what} of ${by} ended at ${at(evidence, t)} without a cause: ${code ?? "OK"} ${reason ?? ""} (${text ?? ""})`,
    );
  }

  function judgeEnd(entry: Of<"ended">): void {
    const wasOpen = evidence.entries.some((other) => other.e === "subscribed" && other.sub === entry.sub);
    // Opening one is a call like others.
    if (!wasOpen && (entry.code === "UNAVAILABLE" || entry.code === "DEADLINE_EXCEEDED")) return;
    const halfClosed = entry.code === undefined;
    const isExcused = excused(evidence, "ends", entry.t, entry.t, ENDS_LINGER_MS);
    if (!halfClosed && isExcused && (entry.code === "UNAVAILABLE" || entry.code === "CANCELLED")) return;
    if (halfClosed && evidence.entries.some((other) => other.e === "half_close" && other.sub === entry.sub)) return;
    // A machine that gave it no turn kept it from answering the server's pings, or the server from reading the answers.
    const wasCut = entry.code === "UNAVAILABLE" && entry.reason === undefined;
    if (wasCut && !hadItsTurn(evidence, entry.t - CALL_MS, entry.t)) return;
    const why = `${entry.code ?? "OK"} ${entry.reason ?? ""} (${entry.text ?? ""})`;
    add("ended", `${entry.sub} ended at ${at(evidence, entry.t)} without a cause: ${why}`);
  }
}

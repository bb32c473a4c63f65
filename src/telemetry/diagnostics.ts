/** What OpenTelemetry has to say goes into our log, where a collector that is away must not drown everything else. */
import { DiagLogLevel, type DiagLogger, diag } from "@opentelemetry/api";
import type { Logger } from "./logger.ts";

/** The same complaint is logged once in this time. */
const QUIET_MS = 60_000;

/** Sends OpenTelemetry's diagnostics to `logger`. Process-wide, as OpenTelemetry has it; the last caller wins. */
export function logDiagnostics(logger: Logger): void {
  diag.setLogger(diagLogger(logger), {
    logLevel: DiagLogLevel.WARN,
    suppressOverrideMessage: true,
  });
}

/** The adapter: failures of the telemetry are warnings of ours, and repetitions are dropped. */
export function diagLogger(logger: Logger, now: () => number = () => performance.now()): DiagLogger {
  const last = new Map<string, number>();
  const write = (message: string, ...details: unknown[]): void => {
    const text = [readable(message), ...details.map(String)].join(" ");
    // Times and counters differ between repetitions, their beginnings do not.
    const key = text.slice(0, 60);
    if (now() - (last.get(key) ?? -Infinity) < QUIET_MS) return;
    if (last.size > 100) last.clear();
    last.set(key, now());
    logger.warn({ telemetry: text }, "telemetry has a problem");
  };
  const drop = (): void => {};
  return { error: write, warn: write, info: drop, debug: drop, verbose: drop };
}

/** Exceptions arrive as JSON with their stack in it: the message is what an operator can use. */
function readable(message: string): string {
  if (!message.startsWith('{"stack":')) return message;
  try {
    const error: unknown = JSON.parse(message);
    return typeof error === "object" && error !== null && "message" in error ? String(error.message) : message;
  } catch {
    return message;
  }
}

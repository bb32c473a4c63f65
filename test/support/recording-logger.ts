/** Loggers for what takes a logger. */

type Log = (fields: object, message: string) => void;

/** The methods that our code logs with. */
export interface TestLogger {
  readonly debug: Log;
  readonly info: Log;
  readonly warn: Log;
  readonly error: Log;
}

/** A line that was logged. */
export interface LoggedLine {
  readonly level: keyof TestLogger;
  readonly fields: object;
  readonly message: string;
}

/** Says nothing. */
export const silentLogger: TestLogger = { debug() {}, info() {}, warn() {}, error() {} };

/** Keeps what is logged in `lines`. */
export function recordingLogger(): TestLogger & { readonly lines: readonly LoggedLine[] } {
  const lines: LoggedLine[] = [];
  const record =
    (level: LoggedLine["level"]): Log =>
    (fields, message) =>
      void lines.push({ level, fields, message });
  return {
    lines,
    debug: record("debug"),
    info: record("info"),
    warn: record("warn"),
    error: record("error"),
  };
}

/**
 * The log: one JSON object a line, or readable lines in development. Everything that logs gets this logger or a child of
 * it. Payloads and secrets do not belong into it; the redaction is the second line of defence, not the first.
 */
import { createRequire } from "node:module";
import type * as PinoPretty from "pino-pretty";
import { type DestinationStream, type Logger as PinoLogger, pino } from "pino";

/** What the server logs with. Its level can be changed while it runs. */
export type Logger = PinoLogger;

/** How the log looks and where it goes. */
export interface LoggerOptions {
  /** `trace` to `fatal`, or `silent`. */
  readonly level: string;
  /** Readable lines instead of JSON. */
  readonly development: boolean;
  /** Standard output unless given. */
  readonly destination?: DestinationStream;
}

const SECRETS = ["token", "password", "pass", "seed", "secret", "authorization", "apiKey", "credentials", "headers"];

/** Creates the root logger. Lines are written synchronously, so that the last one before a crash is there too. */
export function createLogger({ level, development, destination }: LoggerOptions): Logger {
  const out = destination ?? pino.destination({ dest: 1, sync: true });
  return pino(
    {
      level,
      // The process id and the host are the collector's to add: in a container they say nothing.
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: {
        paths: SECRETS.flatMap((name) => [name, `*.${name}`, `*.*.${name}`]),
        censor: "(hidden)",
      },
    },
    development ? readable(out, destination === undefined && process.stdout.isTTY) : out,
  );
}

/** The logger of the audit log, which is apart from that of the server: `stdout`, `stderr`, or a file that is added to. */
export function openAuditLog(where: string): Logger {
  const dest = where === "stdout" ? 1 : where === "stderr" ? 2 : where;
  const destination = pino.destination({ dest, sync: true, append: true });
  return createLogger({ level: "info", development: false, destination }).child({ log: "audit" });
}

/** Turns JSON lines into readable ones, each at once. */
function readable(out: DestinationStream, colorize: boolean): DestinationStream {
  // Loaded only when it is used: production servers start without it.
  const { prettyFactory } = createRequire(import.meta.url)("pino-pretty") as typeof PinoPretty;
  const pretty = prettyFactory({ colorize, translateTime: "SYS:HH:MM:ss.l", singleLine: true });
  return { write: (line) => out.write(pretty(line)) };
}

/** The daemon: reads the environment, serves until SIGTERM or SIGINT, and says how it ended by its exit code. */
import { COMMAND_HELP, runCommand } from "./cli/main.ts";
import type { Output } from "./cli/output.ts";
import { readConfig } from "./config/config.ts";
import { printConfig } from "./config/documents.ts";
import { ConfigError } from "./config/env.ts";
import { startDaemon } from "./daemon.ts";
import { StartError } from "./nats/start-error.ts";
import { createLogger } from "./telemetry/logger.ts";
import { VERSION } from "./version.ts";

/** Exit codes; 78 is EX_CONFIG of sysexits.h. */
const EXIT = { ok: 0, failed: 1, usage: 64, config: 78 } as const;

const STANDARD: Output = {
  out: (text) => void process.stdout.write(text),
  err: (text) => void process.stderr.write(text),
};

const HELP = `windshift ${VERSION}: event streams and state over gRPC, on NATS JetStream

Usage: windshift [COMMAND … | --print-config | --version | --help]

Without arguments it serves until SIGTERM or SIGINT. Settings come from the
environment alone; without NATS_URL it starts a nats-server of its own.

  --print-config  show what is in force, secrets hidden
  --version       print the version
  --help          print this

Commands:

${COMMAND_HELP}`;

async function main(args: readonly string[]): Promise<number> {
  switch (args[0]) {
    case undefined:
      return serve();
    case "--print-config":
      process.stdout.write(printConfig(process.env));
      return EXIT.ok;
    case "--version":
      process.stdout.write(`${VERSION}\n`);
      return EXIT.ok;
    case "--help":
      process.stdout.write(HELP);
      return EXIT.ok;
    default:
      return command(args);
  }
}

async function command(args: readonly string[]): Promise<number> {
  const code = await runCommand(args, STANDARD);
  if (code !== undefined) return code;
  process.stderr.write(`windshift: unknown argument ${JSON.stringify(args[0])}\n\n${HELP}`);
  return EXIT.usage;
}

async function serve(): Promise<number> {
  const config = readConfig(process.env);
  const logger = createLogger({ level: config.logLevel, development: config.development });
  const crash = (error: unknown): void => {
    logger.fatal({ err: error }, "the server crashed");
    process.exit(EXIT.failed);
  };
  process.on("uncaughtException", crash);
  process.on("unhandledRejection", crash);
  const signal = firstSignal();
  const daemon = await startDaemon(config, logger);
  const end = await Promise.race([signal, daemon.failed]);
  if (end instanceof Error) logger.fatal({ err: end }, "the server cannot go on");
  else logger.info({ signal: end }, "stopping");
  await daemon[Symbol.asyncDispose]();
  logger.info("stopped");
  return end instanceof Error ? EXIT.failed : EXIT.ok;
}

/** Resolves with the first signal to stop; a second one ends the process at once. */
async function firstSignal(): Promise<NodeJS.Signals> {
  const { promise, resolve } = Promise.withResolvers<NodeJS.Signals>();
  let asked = false;
  for (const name of ["SIGTERM", "SIGINT"] as const) {
    process.on(name, () => {
      if (asked) process.exit(EXIT.failed);
      asked = true;
      resolve(name);
    });
  }
  return promise;
}

try {
  process.exit(await main(process.argv.slice(2)));
} catch (error) {
  const isExpected = error instanceof ConfigError || error instanceof StartError;
  process.stderr.write(`windshift: ${isExpected ? error.message : String((error as Error).stack)}\n`);
  process.exit(error instanceof ConfigError ? EXIT.config : EXIT.failed);
}

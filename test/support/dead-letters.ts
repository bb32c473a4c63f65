/** The dead letters of a NATS, as a server has them: for what no call of the contract reaches. */
import { readConfig } from "../../src/config/config.ts";
import { DeadLetterStreams } from "../../src/events/dead-letter-streams.ts";
import { DeadLetterWriter } from "../../src/events/dead-letter-writer.ts";
import { DeadLetters } from "../../src/events/dead-letters.ts";
import { JetStreamApi } from "../../src/nats/api.ts";
import { NatsConnection } from "../../src/nats/connection.ts";
import { Reader } from "../../src/nats/get.ts";
import { Publisher } from "../../src/nats/publish.ts";

const SILENT = { info: () => undefined, warn: () => undefined, error: () => undefined };

/** {@link DeadLetters}, and what writes them, on a connection of their own, with the limits that `env` gives. Disposing closes it. */
export async function openDeadLetters(
  natsUrl: string,
  env: Record<string, string> = {},
): Promise<{ letters: DeadLetters; writer: DeadLetterWriter } & AsyncDisposable> {
  const { nats } = readConfig({ NATS_URL: natsUrl, ...env });
  const { connectionName: name, inboxPrefix, requestTimeoutMs } = nats;
  const connection = await NatsConnection.open({ servers: [natsUrl], name, inboxPrefix, requestTimeoutMs }, SILENT);
  const api = new JetStreamApi(connection, nats.management);
  const dependencies = { api, reader: new Reader(api, nats.reads), publisher: new Publisher(api, nats.publishes) };
  const letters = new DeadLetters(dependencies);
  const writer = new DeadLetterWriter({ ...dependencies, streams: new DeadLetterStreams(api) });
  return { letters, writer, [Symbol.asyncDispose]: async () => connection[Symbol.asyncDispose]() };
}

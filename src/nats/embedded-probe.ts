/** Asks a nats-server whether its JetStream answers. */
import { connect } from "@nats-io/transport-node";
import { StartError } from "./start-error.ts";

const ANSWER_TIMEOUT_MS = 5000;

/** The server's version, once JetStream has answered a request; a {@link StartError} when it does not. */
export async function confirmJetStream(url: string): Promise<string> {
  try {
    const connection = await connect({
      servers: url,
      reconnect: false,
      timeout: ANSWER_TIMEOUT_MS,
    });
    try {
      const reply = await connection.request("$JS.API.INFO", "", { timeout: ANSWER_TIMEOUT_MS });
      const { error } = reply.json<{ error?: { description: string } }>();
      if (error !== undefined) throw new Error(error.description);
      return connection.info?.version ?? "unknown";
    } finally {
      await connection.close();
    }
  } catch (cause) {
    throw new StartError(`The nats-server at ${url} does not answer for JetStream: ${(cause as Error).message}`, {
      cause,
    });
  }
}

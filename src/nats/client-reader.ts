/**
 * Our reader inside the client library's connection: the library dials, authenticates, keeps the connection and dials
 * again; what the socket brings is read here first (ADR 5). And what that connection lacks.
 */
import { type NatsConnectionImpl, type Parser, State, type Transport } from "@nats-io/nats-core/internal";
import { type IncomingMessage, ProtocolReader } from "./protocol.ts";

/**
 * Puts a reader of our own before the library's parser, of which it makes a new one for each connection to a server. It
 * gets what is not for one of the handlers, command by command.
 */
export function readInPlace(
  client: NatsConnectionImpl,
  handlers: ReadonlyMap<number, (message: IncomingMessage) => void>,
): void {
  const { protocol } = client;
  let parse = readerBefore(protocol.parser);
  Object.defineProperty(protocol, "parser", {
    get: () => ({ parse }),
    set: (parser: Parser) => {
      parse = readerBefore(parser);
    },
  });

  function readerBefore(parser: Parser): (chunk: Buffer) => void {
    const reader = new ProtocolReader({ handlers, other: (command) => parser.parse(command) });
    let isBroken = false;
    return (chunk) => {
      if (isBroken) return;
      try {
        reader.read(afterCommand(parser, chunk));
      } catch (error) {
        isBroken = true;
        // The library would stop reading, and not connect again before a ping has gone unanswered for long.
        void protocol.transport.close(error as Error);
      }
    };
  }
}

/**
 * Ends an attempt to connect when its connection is closed: between the server's greeting and its first PONG the library
 * would wait for the whole time that an attempt may take.
 */
export function failClosedAttempts({ protocol }: NatsConnectionImpl): void {
  let { transport } = protocol;
  Object.defineProperty(protocol, "transport", {
    get: () => transport,
    set: (next: Transport) => {
      transport = next;
      const { connectError } = protocol;
      void next.closed().then((cause) => connectError?.(cause ?? new Error("the connection was closed")));
    },
  });
}

/** Lets the library's parser have the rest of a command that it has begun to read. */
function afterCommand(parser: Parser, chunk: Buffer): Buffer {
  let at = 0;
  for (; parser.state !== State.OP_START && at < chunk.length; at++) parser.parse(chunk.subarray(at, at + 1));
  return chunk.subarray(at);
}

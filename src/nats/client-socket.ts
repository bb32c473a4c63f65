/**
 * The socket of the client library's connection, read and written by us: the library dials, authenticates, keeps the
 * connection and dials again; between these, what the socket brings and takes does not pass through it (ADR 5).
 */
import type { Socket } from "node:net";
import { performance } from "node:perf_hooks";
import { type NatsConnectionImpl, type Parser, State, type Transport } from "@nats-io/nats-core/internal";
import { type IncomingMessage, ProtocolReader } from "./protocol.ts";

const MINUS = 45;

/** Of a client for its whole life, over all its connections. */
export class ClientSocket {
  readonly #protocol: NatsConnectionImpl["protocol"];
  #socket: Socket | undefined;
  #readAt = 0;

  /**
   * Messages for one of the handlers go there; every other command goes to the library, one by one. `onError` hears of each error
   * that NATS tells, in its place between the messages: the library tells it later.
   */
  constructor(
    { protocol }: NatsConnectionImpl,
    handlers: ReadonlyMap<number, (message: IncomingMessage) => void>,
    onError: () => void,
  ) {
    this.#protocol = protocol;
    const onRead = (): void => {
      this.#readAt = performance.now();
    };
    readInPlace(protocol, handlers, onRead, onError);
    failClosedAttempts(protocol);
  }

  /** When the bytes came that are being read, or were last, on the monotonic clock. */
  get readAt(): number {
    return this.#readAt;
  }

  /** The connection stands: from now on its socket is ours. Bytes that the library has already are read before others. */
  take(): void {
    const { parser, transport } = this.#protocol;
    // The library reads and writes by several promises for each time.
    const { socket } = transport as Transport & { readonly socket: Socket | undefined };
    socket?.removeAllListeners("data");
    socket?.on("data", (chunk) => parser.parse(chunk));
    this.#socket = socket;
  }

  /** Sends whole commands, behind those of the library. */
  write(chunks: readonly Buffer[]): void {
    const socket = this.#socket;
    if (socket === undefined || socket.destroyed || this.#protocol.outbound.length() > 0) {
      for (const chunk of chunks) this.#protocol.sendCommand(chunk);
    } else if (chunks.length === 1) {
      socket.write(chunks[0]!);
    } else {
      socket.cork();
      for (const chunk of chunks) socket.write(chunk);
      socket.uncork();
    }
  }
}

/** Puts a reader of our own before the library's parser, of which it makes a new one for each connection to a server. */
function readInPlace(
  protocol: NatsConnectionImpl["protocol"],
  handlers: ReadonlyMap<number, (message: IncomingMessage) => void>,
  onRead: () => void,
  onError: () => void,
): void {
  let parse = readerBefore(protocol.parser);
  Object.defineProperty(protocol, "parser", {
    get: () => ({ parse }),
    set: (parser: Parser) => {
      parse = readerBefore(parser);
    },
  });

  function readerBefore(parser: Parser): (chunk: Buffer) => void {
    const other = (command: Buffer): void => {
      if (command[0] === MINUS) onError();
      parser.parse(command);
    };
    const reader = new ProtocolReader({ handlers, other });
    let isBroken = false;
    return (chunk) => {
      if (isBroken) return;
      onRead();
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
function failClosedAttempts(protocol: NatsConnectionImpl["protocol"]): void {
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

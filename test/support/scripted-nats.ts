/** A server that speaks as much of the NATS protocol as a client needs to connect, and otherwise what a test says. */
import { once } from "node:events";
import { type AddressInfo, type Server, type Socket, createServer } from "node:net";
import { setImmediate } from "node:timers/promises";

const INFO = { server_id: "SCRIPTED", version: "2.14.0", proto: 1, headers: true, max_payload: 1024 * 1024 };

/** What a client published. */
export interface Published {
  readonly subject: string;
  readonly reply: string;
  readonly payload: string;
}

/** One connection at a time; the newest counts. */
export class ScriptedNats implements AsyncDisposable {
  readonly #server: Server;
  #socket: Socket | undefined;
  #text = "";
  readonly #sids = new Map<string, number>();
  /** Sent after the answer to a client's first PING, without an end. */
  afterFirstPong = "";
  onPing: () => void = () => undefined;
  /** Whether it does nothing but read. */
  isSilent = false;
  onSubscribe: (subject: string) => void = () => undefined;
  onPublish: (published: Published) => void = () => undefined;
  /** Connections accepted so far. */
  connections = 0;

  private constructor(server: Server) {
    this.#server = server;
    server.on("connection", (socket) => this.#accept(socket));
  }

  static async listen(): Promise<ScriptedNats> {
    const server = createServer({ noDelay: true });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return new ScriptedNats(server);
  }

  get url(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** A message to whoever subscribed to `subject`, or to a pattern ending in `*` that covers it. */
  message(subject: string, payload: string, headers = "", reply = ""): string {
    const sid = this.#sids.get(subject) ?? this.#sids.get(subject.replace(/[^.]*$/, "*"))!;
    const total = headers.length + payload.length;
    const target = `${subject} ${sid}${reply === "" ? "" : ` ${reply}`}`;
    if (headers === "") return `MSG ${target} ${total}\r\n${payload}\r\n`;
    return `HMSG ${target} ${headers.length} ${total}\r\n${headers}${payload}\r\n`;
  }

  /** Sends the pieces, each in a write of its own. */
  async send(...pieces: readonly string[]): Promise<void> {
    for (const piece of pieces) {
      this.#socket?.write(piece, "latin1");
      await setImmediate();
    }
  }

  /** Resets the connection. */
  cut(): void {
    this.#socket?.resetAndDestroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket?.destroy();
    this.#server.close();
    await once(this.#server, "close");
  }

  #accept(socket: Socket): void {
    this.connections += 1;
    this.#socket = socket;
    this.#text = "";
    this.#sids.clear();
    let pongs = 0;
    socket.on("error", () => undefined);
    socket.on("data", (chunk) => {
      this.#text += chunk.toString("latin1");
      for (let end = this.#text.indexOf("\r\n"); end >= 0; end = this.#text.indexOf("\r\n")) {
        const [op, ...words] = this.#text.slice(0, end).split(" ");
        if (op === "PUB") {
          const size = Number(words.at(-1));
          if (this.#text.length < end + 2 + size + 2) return;
          const payload = this.#text.slice(end + 2, end + 2 + size);
          this.#text = this.#text.slice(end + 2 + size + 2);
          this.onPublish({ subject: words[0]!, reply: words.length > 2 ? words[1]! : "", payload });
          continue;
        }
        this.#text = this.#text.slice(end + 2);
        if (op === "PING") {
          this.onPing();
          if (!this.isSilent) socket.write(`PONG\r\n${pongs++ === 0 ? this.afterFirstPong : ""}`);
        }
        if (op === "SUB") {
          this.#sids.set(words[0]!, Number(words.at(-1)));
          this.onSubscribe(words[0]!);
        }
      }
    });
    socket.write(`INFO ${JSON.stringify(INFO)} \r\n`);
  }
}

/**
 * One link between two processes, as a TCP proxy whose owner can make it slow, silent, half open or cut. Bytes are kept
 * in order and never changed, except by `drop`, after which the connection is only good for being cut.
 */
import { once } from "node:events";
import { type AddressInfo, type Server, type Socket, connect, createServer } from "node:net";

/** What a link does to a direction: `up` goes to the target. */
export type Direction = "up" | "down" | "both";

/** A link that listens on a loopback port and leads to another one. */
export class Link implements AsyncDisposable {
  /** For the report: who talks to whom. */
  readonly name: string;
  readonly #server: Server;
  readonly #target: () => number;
  readonly #pairs = new Set<Pair>();
  #delayMs = 0;
  #refusing = false;
  readonly #silent = { up: false, down: false };
  readonly #dropping = { up: false, down: false };

  private constructor(name: string, target: () => number) {
    this.name = name;
    this.#target = target;
    // Connections of a stopped process have to stay half closed until it says so itself.
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.#accept(socket));
  }

  /** Listens on `port` (0: any) and leads to the port that `target` says at each connection. */
  static async open(name: string, target: () => number, port = 0): Promise<Link> {
    const link = new Link(name, target);
    link.#server.listen(port, "127.0.0.1");
    await once(link.#server, "listening");
    return link;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Connections open now. */
  get connections(): number {
    return this.#pairs.size;
  }

  /** Everything arrives so much later, both ways. */
  delay(ms: number): void {
    this.#delayMs = ms;
  }

  /** Nothing arrives any more, and nobody is told; what was sent meanwhile arrives after `heal`. */
  blackHole(direction: Direction = "both"): void {
    this.#set(this.#silent, direction);
    for (const pair of this.#pairs) pair.update();
  }

  /** What is sent vanishes, as with a peer that lost its memory of the connection; `heal` cuts those connections. */
  drop(direction: Direction = "both"): void {
    this.#set(this.#dropping, direction);
  }

  /** Resets all connections; new ones are welcome. */
  cut(): void {
    for (const pair of this.#pairs) pair.reset();
  }

  /** Resets all connections, and each new one at once. */
  refuse(): void {
    this.#refusing = true;
    this.cut();
  }

  /** As good as new. */
  heal(): void {
    this.#delayMs = 0;
    this.#refusing = false;
    this.#silent.up = this.#silent.down = false;
    this.#dropping.up = this.#dropping.down = false;
    for (const pair of this.#pairs) {
      if (pair.isTorn) pair.reset();
      else pair.update();
    }
  }

  /** @internal */
  isSilent(direction: "up" | "down"): boolean {
    return this.#silent[direction];
  }

  /** @internal */
  isDropping(direction: "up" | "down"): boolean {
    return this.#dropping[direction];
  }

  /** @internal */
  get delayMs(): number {
    return this.#delayMs;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#refusing = true;
    this.cut();
    this.#server.close();
    if (this.#server.listening) await once(this.#server, "close");
  }

  #set(flags: { up: boolean; down: boolean }, direction: Direction): void {
    if (direction !== "down") flags.up = true;
    if (direction !== "up") flags.down = true;
  }

  #accept(near: Socket): void {
    if (this.#refusing) {
      near.on("error", () => undefined);
      near.resetAndDestroy();
      return;
    }
    const far = connect({ port: this.#target(), host: "127.0.0.1", allowHalfOpen: true, noDelay: true });
    const pair = new Pair(this, near, far, () => this.#pairs.delete(pair));
    this.#pairs.add(pair);
  }
}

/** The two connections of one that goes through a link. */
class Pair {
  /** Bytes are missing in it. */
  isTorn = false;
  readonly #sockets: readonly [near: Socket, far: Socket];
  readonly #flows: readonly Flow[];
  readonly #onOver: () => void;

  constructor(link: Link, near: Socket, far: Socket, onOver: () => void) {
    this.#sockets = [near, far];
    this.#onOver = onOver;
    const torn = (): void => {
      this.isTorn = true;
    };
    this.#flows = [new Flow(link, "up", near, far, torn), new Flow(link, "down", far, near, torn)];
    for (const socket of this.#sockets) {
      socket.on("error", () => this.reset());
      socket.on("close", () => {
        if (near.destroyed && far.destroyed) this.#onOver();
      });
    }
  }

  update(): void {
    for (const flow of this.#flows) flow.move();
  }

  reset(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
    for (const flow of this.#flows) flow.stop();
    this.#onOver();
  }
}

const MAX_WAITING_BYTES = 1024 * 1024;

/** One direction of a pair. */
class Flow {
  readonly #link: Link;
  readonly #direction: "up" | "down";
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #onTorn: () => void;
  /** Chunks with the time at which they may go on; null is the end. */
  readonly #waiting: { readonly at: number; readonly chunk: Buffer | null }[] = [];
  #bytes = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(link: Link, direction: "up" | "down", from: Socket, to: Socket, onTorn: () => void) {
    this.#link = link;
    this.#direction = direction;
    this.#from = from;
    this.#to = to;
    this.#onTorn = onTorn;
    from.on("data", (chunk) => this.#take(chunk));
    from.on("end", () => this.#take(null));
    to.on("drain", () => this.move());
  }

  /** Hands on what is due. */
  move(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#to.destroyed) return;
    while (this.#waiting.length > 0 && !this.#link.isSilent(this.#direction)) {
      const { at, chunk } = this.#waiting[0]!;
      const wait = at - performance.now();
      if (wait > 0) {
        this.#timer = setTimeout(() => this.move(), wait);
        break;
      }
      this.#waiting.shift();
      if (chunk === null) {
        this.#to.end();
        break;
      }
      this.#bytes -= chunk.length;
      if (!this.#to.write(chunk)) break;
    }
    if (this.#bytes < MAX_WAITING_BYTES) this.#from.resume();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#waiting.length = 0;
  }

  #take(chunk: Buffer | null): void {
    if (this.#link.isDropping(this.#direction)) {
      this.#onTorn();
      return;
    }
    this.#waiting.push({ at: performance.now() + this.#link.delayMs, chunk });
    this.#bytes += chunk?.length ?? 0;
    if (this.#bytes >= MAX_WAITING_BYTES) this.#from.pause();
    if (this.#timer === undefined) this.move();
  }
}

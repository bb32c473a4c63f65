/** Stands between clients and a server, and keeps what clients send and what they had been told by then. */
import { once } from "node:events";
import { type AddressInfo, type Socket, connect, createServer } from "node:net";
import { Answers, type Milestone } from "../support/answers.ts";
import { FrameReader, PREFACE, frame } from "../support/http2-peer.ts";
import type { Recording, Step } from "./recording.ts";

/** Listens until the scope that holds it ends. */
export class Recorder implements AsyncDisposable {
  readonly #target: number;
  readonly #sockets = new Set<Socket>();
  readonly #server = createServer((socket) => this.#accept(socket));
  #tapes: Tape[] = [];

  private constructor(target: number) {
    this.#target = target;
  }

  /** In front of a server on a port of this machine. */
  static async start(target: number): Promise<Recorder> {
    const recorder = new Recorder(target);
    recorder.#server.listen(0, "127.0.0.1");
    await once(recorder.#server, "listening");
    return recorder;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** What was recorded while `act` ran: one recording, as it makes one connection. */
  async record(name: string, act: () => Promise<unknown>): Promise<Recording> {
    this.#tapes = [];
    await act();
    const [tape, ...others] = this.#tapes;
    if (tape === undefined || others.length > 0) throw new Error(`${name}: ${this.#tapes.length} connections`);
    await tape.closed;
    return { name, steps: tape.steps };
  }

  #accept(socket: Socket): void {
    const tape = new Tape(new Promise((resolve) => socket.once("close", resolve)));
    this.#tapes.push(tape);
    const onward = connect(this.#target, "127.0.0.1");
    for (const one of [socket, onward]) {
      this.#sockets.add(one);
      one.on("error", () => undefined);
    }
    socket.on("data", (piece: Buffer) => tape.onClient(piece));
    onward.on("data", (piece: Buffer) => tape.onServer(piece));
    socket.pipe(onward);
    onward.pipe(socket);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }
}

/** One connection. What passes on its way to the client may have been unknown to it: so it waits rather too long. */
class Tape {
  readonly steps: Step[] = [];
  readonly #answers = new Answers();
  readonly #client = new FrameReader();
  readonly #server = new FrameReader();
  /** Since the client has last sent something, by stream. */
  readonly #told = new Map<number, Milestone>();
  #preface: Buffer | undefined = Buffer.alloc(0);
  /** Resolves when nothing more comes. */
  readonly closed: Promise<unknown>;

  constructor(closed: Promise<unknown>) {
    this.closed = closed;
  }

  onServer(piece: Buffer): void {
    for (const one of this.#server.read(piece)) {
      this.#answers.add(one);
      const milestone = this.#answers.milestone(one.streamId);
      if (milestone !== undefined) this.#told.set(one.streamId, milestone);
    }
  }

  onClient(piece: Buffer): void {
    let bytes = piece;
    if (this.#preface !== undefined) {
      this.#preface = Buffer.concat([this.#preface, piece]);
      if (this.#preface.length < PREFACE.length) return;
      this.#send(PREFACE);
      bytes = this.#preface.subarray(PREFACE.length);
      this.#preface = undefined;
    }
    for (const one of this.#client.read(bytes)) this.#send(frame(one.type, one.flags, one.streamId, one.payload));
  }

  #send(bytes: Buffer): void {
    const told = [...this.#told.values()];
    this.#told.clear();
    for (const milestone of told) if (!this.#isAwaited(milestone)) this.steps.push({ await: milestone });
    const last = this.steps.at(-1);
    const isMore = last !== undefined && "send" in last;
    if (isMore) this.steps.pop();
    this.steps.push({ send: isMore ? Buffer.concat([last.send, bytes]) : bytes });
  }

  #isAwaited({ stream, at }: Milestone): boolean {
    return this.steps.some((step) => "await" in step && step.await.stream === stream && step.await.at === at);
  }
}

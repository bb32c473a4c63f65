/** One `ReadEvents` call: what a reading brings goes to the client, at the pace at which the client reads. */
import type { WindshiftError } from "../errors.ts";
import type { StoredEvent } from "../events/event.ts";
import type { EventReader, ReadSpec } from "../events/event-reader.ts";
import type { ReadListener, Reading } from "../events/reading.ts";
import type { ReadEventsResponse } from "./codecs/events.ts";
import { finite } from "./consume-loop.ts";
import { draining } from "./errors.ts";
import { toEventMessage } from "./event-message.ts";
import type { StreamingCall } from "./server.ts";

/** Runs one call. */
export class ReadLoop implements ReadListener {
  readonly #call: StreamingCall<ReadEventsResponse>;
  readonly #onOver: (loop: ReadLoop) => void;
  #reading: Reading | undefined;
  #isPaused = false;
  #isOver = false;

  /** Begins; throws, or fails the call, where the request is not valid or nothing can be read. */
  constructor(
    call: StreamingCall<ReadEventsResponse>,
    reader: EventReader,
    spec: ReadSpec,
    onOver: (loop: ReadLoop) => void,
  ) {
    this.#call = call;
    this.#onOver = onOver;
    call.onCancel = () => this.#stop();
    call.onDrain = () => this.#resume();
    const isLeft = (): boolean => this.#isOver;
    reader.read(spec, this, { deadlineMs: finite(call.deadlineMs), isLeft }).then(
      (reading) => this.#opened(reading),
      (error: WindshiftError) => this.onEnded(error),
    );
  }

  /** Ends the call: the server leaves. */
  drain(): void {
    this.onEnded(draining());
  }

  onEvent(event: StoredEvent): void {
    this.#send(toEventMessage(event, 0));
  }

  onCaughtUp(lastId: number): void {
    this.#send({ kind: "caught_up", lastId });
  }

  onEnded(error: WindshiftError | undefined): void {
    if (this.#isOver) return;
    if (error === undefined) this.#call.end();
    else this.#call.fail(error);
    this.#stop();
  }

  #opened(reading: Reading): void {
    this.#reading = reading;
    if (this.#isOver) reading.close();
    else if (this.#isPaused) reading.pause();
  }

  #send(response: ReadEventsResponse): void {
    if (this.#call.send(response)) return;
    this.#isPaused = true;
    this.#reading?.pause();
  }

  #resume(): void {
    this.#isPaused = false;
    this.#reading?.resume();
  }

  #stop(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#reading?.close();
    this.#onOver(this);
  }
}

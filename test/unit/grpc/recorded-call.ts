import type { CallStatus, CancelCause, EngineCall } from "../../../src/grpc/engine/engine.ts";

/** A call without an engine: keeps what the handler does, and lets a test play the client. */
export class RecordedCall implements EngineCall {
  readonly path = "/test";
  readonly metadata = { get: () => undefined };
  readonly peer = "127.0.0.1:1";
  readonly peerCertificate = undefined;
  readonly deadlineMs = undefined;
  cancelled = false;
  onCancel: ((cause: CancelCause) => void) | undefined;
  onDrain: (() => void) | undefined;
  onMessage: ((message: Uint8Array) => void) | undefined;
  onHalfClose: (() => void) | undefined;

  readonly sent: Uint8Array[] = [];
  status: CallStatus | undefined;
  paused = false;
  /** What `send` returns: false plays a client that does not read. */
  hasRoom = true;

  sendMetadata(): void {}

  send(message: Uint8Array): boolean {
    if (this.status === undefined && !this.cancelled) this.sent.push(message);
    return this.hasRoom;
  }

  end(status: CallStatus): void {
    this.status ??= status;
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
  }

  /** The client leaves. */
  cancel(): void {
    this.cancelled = true;
    this.onCancel?.("left");
  }

  /** The client has read what was sent. */
  drain(): void {
    this.hasRoom = true;
    this.onDrain?.();
  }
}

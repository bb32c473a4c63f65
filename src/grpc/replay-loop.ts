/**
 * One `ReplayDeadLetters` call: letters are published again one after the other, and the client hears of each. It is no
 * faster than the client reads, and ends after the letter at hand when the client leaves or the server drains.
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { AdminCall } from "../admin/call.ts";
import type { AdminDeadLetters } from "../admin/dead-letters.ts";
import type {
  ReplayDeadLettersRequest,
  ReplayDeadLettersResponseSchema,
} from "../gen/windshift/admin/v1alpha1/admin_pb.ts";
import { fromError, toLetterChoice } from "./admin-convert.ts";
import { draining } from "./errors.ts";
import type { StreamingCall } from "./server.ts";

type Response = MessageInitShape<typeof ReplayDeadLettersResponseSchema>;

/** Runs one call. */
export class ReplayLoop {
  readonly #call: StreamingCall<Response>;
  readonly #letters: AdminDeadLetters;
  readonly #stop = new AbortController();
  #isDraining = false;
  #onRead: (() => void) | undefined;

  constructor(call: StreamingCall<Response>, letters: AdminDeadLetters) {
    this.#call = call;
    this.#letters = letters;
    call.onCancel = () => this.#end();
    call.onDrain = () => this.#onRead?.();
  }

  /** Resolves when it is over, one way or the other. */
  async run(request: ReplayDeadLettersRequest, adminCall: AdminCall): Promise<void> {
    const { stream, consumer, events, maxPerSecond } = request;
    const { signal } = this.#stop;
    try {
      const work = {
        ratePerSecond: maxPerSecond,
        signal,
        onReplayed: async (id: bigint, newId: bigint) => this.#send({ case: "replayed", value: { id, newId } }),
        onFailed: async (id: bigint, error: Parameters<typeof fromError>[0]) =>
          this.#send({ case: "failed", value: { id, error: fromError(error) } }),
      };
      const summary = await this.#letters.replay(stream, consumer, toLetterChoice(events), work, adminCall);
      if (this.#isDraining) throw draining();
      await this.#send({ case: "summary", value: summary });
      this.#call.end();
    } catch (error) {
      this.#call.fail(error);
    }
  }

  /** Ends it after the letter at hand. */
  drain(): void {
    this.#isDraining = true;
    this.#end();
  }

  #end(): void {
    this.#stop.abort();
    this.#onRead?.();
  }

  /** Resolves when there is room for the next. */
  async #send(response: NonNullable<Response["response"]>): Promise<void> {
    if (this.#call.send({ response }) || this.#stop.signal.aborted) return;
    await new Promise<void>((resolve) => {
      this.#onRead = resolve;
    });
  }
}

/** What servers tell JetStream of a consumer's events, as a bystander on NATS hears it. */
import type { NatsConnection } from "@nats-io/nats-core";
import type { Source } from "./consuming.ts";

/** A settlement: `+ACK`, `-NAK {"delay":…}`, … */
export interface Told {
  readonly id: bigint;
  readonly what: string;
}

/** Hears of settlements from now on; disposing it ends that. */
export class SettlementTap implements Disposable {
  /** In the order in which NATS had them. */
  readonly told: Told[] = [];
  readonly #stop: () => void;

  private constructor(nats: NatsConnection, { stream, consumer }: Source) {
    const subscription = nats.subscribe(`$JS.ACK.${stream}.${consumer}.>`, {
      callback: (_, message) => {
        // Behind the names: how often it was delivered, and its sequence.
        const id = BigInt(message.subject.split(".")[5]!);
        this.told.push({ id, what: message.string() });
      },
    });
    this.#stop = () => subscription.unsubscribe();
  }

  static async open(nats: NatsConnection, source: Source): Promise<SettlementTap> {
    const tap = new SettlementTap(nats, source);
    await nats.flush();
    return tap;
  }

  /** For how long the rejects of an event shall hold it back, in milliseconds; those without a delay are 0. */
  delays(id: bigint): number[] {
    return this.told
      .filter((one) => one.id === id && one.what.startsWith("-NAK"))
      .map(({ what }) =>
        what === "-NAK" ? 0 : (JSON.parse(what.slice("-NAK".length)) as { delay: number }).delay / 1e6,
      );
  }

  [Symbol.dispose](): void {
    this.#stop();
  }
}

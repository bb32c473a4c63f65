/**
 * How much a client may send of what leads to nothing: pings, settings, priorities, empty DATA, resets. Each is allowed
 * and harmless alone; without end they cost the server more than the client. Work that is done earns patience back,
 * and so does time.
 */

const MAX = 20_000;
const EARNED = 10;
const REFILL = 10_000;

/** One for each connection. */
export class Patience {
  #left = MAX;

  /** False when it is used up. */
  spend(cost: number): boolean {
    this.#left -= cost;
    return this.#left >= 0;
  }

  /** Something was served. */
  earn(): void {
    this.#left = Math.min(MAX, this.#left + EARNED);
  }

  /** Once a second. */
  refill(): void {
    this.#left = Math.min(MAX, this.#left + REFILL);
  }
}

/**
 * How much a client may send of what leads to nothing: pings, settings, priorities, empty DATA, resets. Each is allowed
 * and harmless alone; without end they cost the server more than the client. Work that is done earns patience back,
 * and so does time.
 */

/** What a connection has when it begins, and at most. */
export const MAX_PATIENCE = 20_000;
const EARNED = 10;
const REFILL = 10_000;

/** One for each connection. */
export class Patience {
  #left = MAX_PATIENCE;

  /** False when it is used up. */
  spend(cost: number): boolean {
    this.#left -= cost;
    return this.#left >= 0;
  }

  /** Something was served. */
  earn(): void {
    this.#left = Math.min(MAX_PATIENCE, this.#left + EARNED);
  }

  /** Once a second. */
  refill(): void {
    this.#left = Math.min(MAX_PATIENCE, this.#left + REFILL);
  }
}

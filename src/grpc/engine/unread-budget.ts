/**
 * How much the server holds for clients that have not read it yet, over all calls, and what their connections hold of it, whosever
 * that is. Beyond the budget calls, or all of a connection, are aborted
 * until it fits: of those that hold at least half the average, the one that has read nothing for the longest. So a client
 * that reads outlives those that do not, and one that is far away but holds little outlives a crowd that hoards.
 *
 * Hot path: a few additions for each message, and one move in a set for each write that the transport has taken.
 */

/** A call that may hold unread bytes, or a connection that does so by itself: what the transport has not taken is of no call. */
export interface Holder {
  /** Kept by the budget; a holder only reads it. */
  unreadBytes: number;
  /** What the call shares with others of its client; a connection is its own. */
  readonly connection: object | undefined;
  /** The connection itself takes nothing more: what any of its calls holds is only freed by cutting it. */
  readonly isConnectionStuck: boolean;
  /** Lets go of everything, `bytes`, at once. The budget has forgotten the call already. */
  abort(bytes: number): void;
}

/** The sum, and who has to go when it is too much. */
export class UnreadBudget {
  readonly #limit: number;
  /** Calls with unread bytes; who read last stands last. */
  readonly #holders = new Set<Holder>();
  #bytes = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** What all calls hold now. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The call holds so many bytes more. Other calls, or this one, may be aborted before this returns. */
  hold(holder: Holder, bytes: number): void {
    if (holder.unreadBytes === 0) this.#holders.add(holder);
    holder.unreadBytes += bytes;
    this.#bytes += bytes;
    if (this.#bytes > this.#limit) this.#relieve();
  }

  /** The transport took so many bytes of the call: its client reads. */
  taken(holder: Holder, bytes: number): void {
    this.#bytes -= bytes;
    holder.unreadBytes -= bytes;
    this.#holders.delete(holder);
    if (holder.unreadBytes > 0) this.#holders.add(holder);
  }

  /** The call is over, whatever it held. */
  forget(holder: Holder): void {
    if (holder.unreadBytes === 0) return;
    this.#bytes -= holder.unreadBytes;
    holder.unreadBytes = 0;
    this.#holders.delete(holder);
  }

  /** A single call is never aborted for what it holds: what one can hold is bounded by who fills it. */
  #relieve(): void {
    while (this.#bytes > this.#limit && !this.#isOfOne()) {
      for (const holder of this.#goingWith(this.#victim())) {
        const { unreadBytes } = holder;
        this.forget(holder);
        holder.abort(unreadBytes);
      }
    }
  }

  /** A call, or a connection, or a call and the connection that it is on. */
  #isOfOne(): boolean {
    if (this.#holders.size > 2) return false;
    const [one, other] = this.#holders;
    return other === undefined || one!.connection === other || other.connection === one;
  }

  #goingWith(victim: Holder): Holder[] {
    if (!victim.isConnectionStuck) return [victim];
    const { connection } = victim;
    return [...this.#holders].filter((holder) => holder.connection === connection);
  }

  #victim(): Holder {
    const little = this.#bytes / this.#holders.size / 2;
    let victim: Holder | undefined;
    for (victim of this.#holders) if (victim.unreadBytes >= little) break;
    return victim!;
  }
}

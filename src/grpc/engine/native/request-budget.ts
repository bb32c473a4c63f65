/**
 * How much of requests the server holds: metadata of open calls, messages that are not complete, and those that wait for
 * their handler. When the limit is reached, a connection that holds at least half of an equal share gets nothing more: the
 * call that asks for it ends. For one that holds less there is always room: others with more than that make it, the
 * largest first, of what is not finished the oldest, and then of what is served the newest. So whoever holds little is
 * served while others hoard.
 *
 * Hot path: a few additions for each call that begins, has its request, or ends.
 */

/** What a call, or all calls of a connection, hold. */
interface Held {
  readonly heldBytes: number;
  /** Of these, what is of requests that are not complete. */
  readonly unfinishedBytes: number;
}

/** A call that may have to make room. */
export interface RequestHolder extends Held {
  /** Lets go of everything at once. */
  makeRoom(): void;
}

/**
 * Part of the limit that is made free at a time: it takes time to look for who has to go, but everybody waits while a
 * thousand calls end.
 */
const ROOM = 1 / 256;

/** The sum over all connections. */
export class RequestBudget {
  readonly #limit: number;
  readonly #shares = new Set<RequestShare>();
  #bytes = 0;
  /** Shares that hold something. */
  #holding = 0;
  #isMakingRoom = false;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** What is held now. */
  get bytes(): number {
    return this.#bytes;
  }

  /** For a connection; `calls` are those that it has open, the oldest first. */
  open(calls: () => RequestHolder[]): RequestShare {
    const share = new RequestShare(this, calls);
    this.#shares.add(share);
    return share;
  }

  /** The connection is gone, and its calls with it. */
  close(share: RequestShare): void {
    this.#shares.delete(share);
  }

  /** For shares alone. */
  count(share: RequestShare, call: RequestHolder, bytes: number): void {
    this.#bytes += bytes;
    if (bytes > 0 && share.heldBytes === bytes) this.#holding += 1;
    else if (bytes < 0 && share.heldBytes === 0) this.#holding -= 1;
    if (bytes > 0 && this.#bytes > this.#limit) this.#makeRoom(share, call);
  }

  #makeRoom(share: RequestShare, call: RequestHolder): void {
    // Calls that end may tell others, which then take something.
    if (this.#isMakingRoom) return;
    this.#isMakingRoom = true;
    const little = this.#bytes / this.#holding / 2;
    // Who has much and asks for more again and again is not to cost a look at all the others.
    if (share.heldBytes >= little) {
      call.makeRoom();
    } else {
      const large = [...this.#shares].filter(({ heldBytes }) => heldBytes >= little);
      this.#halve(large, ({ unfinishedBytes }) => unfinishedBytes, false);
      this.#halve(large, ({ heldBytes }) => heldBytes, true);
    }
    this.#isMakingRoom = false;
  }

  /** Until there is room; both rounds together free more than that. */
  #halve(shares: RequestShare[], bytesOf: (held: Held) => number, isNewestFirst: boolean): void {
    const enough = this.#limit * (1 - ROOM);
    shares.sort((a, b) => bytesOf(b) - bytesOf(a));
    for (const share of shares) {
      if (this.#bytes <= enough) return;
      const half = bytesOf(share) / 2;
      const calls = share.calls().filter((call) => bytesOf(call) > 0);
      for (const call of isNewestFirst ? calls.reverse() : calls) {
        if (this.#bytes <= enough || bytesOf(share) <= half) break;
        call.makeRoom();
      }
    }
  }
}

/** What one connection holds of the budget. */
export class RequestShare implements Held {
  readonly #budget: RequestBudget;
  readonly calls: () => RequestHolder[];
  heldBytes = 0;
  unfinishedBytes = 0;

  constructor(budget: RequestBudget, calls: () => RequestHolder[]) {
    this.#budget = budget;
    this.calls = calls;
  }

  /** The call holds so much more, or less. Calls, this one included, may end before this returns. */
  count(call: RequestHolder, bytes: number, unfinished: number): void {
    this.heldBytes += bytes;
    this.unfinishedBytes += unfinished;
    this.#budget.count(this, call, bytes);
  }
}

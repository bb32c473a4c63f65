/**
 * Hot path: a map for what comes and goes fast, by numbers of a sequence. A `Map` replaces its table with every few dozen
 * entries, and a table that was left behind keeps alive what was in it, and its successor: once one of them has become
 * old, all that follow do, and nothing but a collection of the whole heap frees them. In the maps of calls in flight that
 * cost a third of the CPU time of a publish.
 *
 * Each number has its place in a ring of slots, which is used again. An entry that is still there when the number that
 * shares its slot comes moves to a `Map` behind the ring, where little comes and goes.
 */

const MIN_SLOTS = 16;
const MAX_SLOTS = 65_536;
/** More are given back when few of them are used; these are kept by whoever has been busy once. */
const KEPT_SLOTS = 256;
const MIN_LOAD = 1 / 16;
const NONE = -1;

/** Values by numbers from 0 on, most of which come in their order. */
export class SequenceMap<T> {
  readonly #step: number;
  #keys = new Float64Array(MIN_SLOTS).fill(NONE);
  #values: (T | undefined)[] = emptySlots(MIN_SLOTS);
  readonly #behind = new Map<number, T>();
  #size = 0;

  /** `step`: from one number to the next. */
  constructor(step = 1) {
    this.#step = step;
  }

  get size(): number {
    return this.#size;
  }

  get(key: number): T | undefined {
    const at = this.#slotOf(key);
    if (this.#keys[at] === key) return this.#values[at];
    return this.#behind.size === 0 ? undefined : this.#behind.get(key);
  }

  set(key: number, value: T): void {
    const at = this.#slotOf(key);
    const holder = this.#keys[at]!;
    if (holder !== key) {
      if (this.#behind.size === 0 || !this.#behind.delete(key)) this.#size += 1;
      if (holder !== NONE) this.#behind.set(holder, this.#values[at]!);
      this.#keys[at] = key;
    }
    this.#values[at] = value;
    const slots = this.#keys.length;
    if (this.#size > slots / 2 && slots < MAX_SLOTS) this.#resize(2 * slots);
  }

  /** Whether it was there. */
  delete(key: number): boolean {
    const at = this.#slotOf(key);
    if (this.#keys[at] === key) {
      this.#keys[at] = NONE;
      this.#values[at] = undefined;
    } else if (this.#behind.size === 0 || !this.#behind.delete(key)) {
      return false;
    }
    this.#size -= 1;
    return true;
  }

  clear(): void {
    this.#behind.clear();
    this.#size = 0;
    this.#resize(MIN_SLOTS, []);
  }

  /** Gives back the slots that many needed of which few are left. It moves those, so it is for now and then. */
  compact(): void {
    if (this.#keys.length <= KEPT_SLOTS || this.#size > this.#keys.length * MIN_LOAD) return;
    let slots = MIN_SLOTS;
    while (this.#size > slots / 2) slots *= 2;
    this.#resize(slots);
  }

  /** Whether all match: asks each until one does not, in any order, and makes no list of them. None comes or goes meanwhile. */
  every(matches: (value: T) => boolean): boolean {
    for (const value of this.#behind.values()) if (!matches(value)) return false;
    for (let at = 0; at < this.#keys.length; at++) {
      if (this.#keys[at] !== NONE && !matches(this.#values[at]!)) return false;
    }
    return true;
  }

  /** Those of now that match, in the order of their numbers: what comes or goes later makes no difference. */
  select(matches: (value: T) => boolean): [key: number, value: T][] {
    const selected = [...this.#behind].filter(([, value]) => matches(value));
    for (let at = 0; at < this.#keys.length; at++) {
      const key = this.#keys[at]!;
      if (key !== NONE && matches(this.#values[at]!)) selected.push([key, this.#values[at]!]);
    }
    return selected.sort(([a], [b]) => a - b);
  }

  /** All of now, in the order of their numbers. */
  values(): T[] {
    return this.select(() => true).map(([, value]) => value);
  }

  #slotOf(key: number): number {
    return (key / this.#step) & (this.#keys.length - 1);
  }

  #resize(slots: number, entries = this.select(() => true)): void {
    this.#keys = new Float64Array(slots).fill(NONE);
    this.#values = emptySlots(slots);
    this.#behind.clear();
    this.#size = 0;
    for (const [key, value] of entries) this.set(key, value);
  }
}

function emptySlots<T>(slots: number): (T | undefined)[] {
  return Array.from({ length: slots }, () => undefined);
}

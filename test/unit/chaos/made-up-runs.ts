/** Runs that never were, for judging the judges. */
import { check } from "../../chaos/checker.ts";
import type { Evidence } from "../../chaos/checks/evidence.ts";
import type { Entry, Happening } from "../../chaos/history.ts";

/** Happenings 10 ms apart; a number in between is a pause in milliseconds. */
export function history(...happenings: (Happening | number | readonly Happening[])[]): Entry[] {
  let t = 1_000;
  const entries: Entry[] = [];
  for (const happening of happenings) {
    if (typeof happening === "number") {
      t += happening;
      continue;
    }
    for (const one of [happening].flat()) entries.push({ t: (t += 10), p: "test", ...(one as Happening) });
  }
  return entries;
}

/** Everything stored that was published with an id, and nothing left over, unless said otherwise. */
export function evidence(entries: Entry[], rest: Partial<Evidence> = {}): Evidence {
  const stored = entries.flatMap((entry) =>
    entry.e === "published" ? [{ id: entry.id, key: entry.key, text: entry.key }] : [],
  );
  return { entries, faults: [], stored, consumers: [{ consumer: "work", pending: 0, unsettled: 0 }], ...rest };
}

/** Names of the checks that a run is red by. */
export const found = (of: Evidence): string[] => [...new Set(check(of).map(({ check: name }) => name))];

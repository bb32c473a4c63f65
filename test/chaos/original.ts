/**
 * For a server that gives events the number of their delivery, as the Go original does, in place of their number in the
 * stream: its histories tell nothing when events are compared by id. Here every id that a subscription was given is
 * replaced by that under which the event's text is stored, so that the other checks can see what is left to find.
 */
import type { Stored } from "./cluster/admin.ts";
import type { Entry } from "./history.ts";

/** Ids that stand for no delivery, so that they meet no stored one. */
const FAR_AWAY = 2_000_000_000;

/** The same histories with the ids of the stream. */
export function withStoredIds(entries: readonly Entry[], stored: readonly Stored[]): Entry[] {
  const storedIds = new Map(stored.map(({ id, text }) => [text, id]));
  const given = new Map<string, Map<number, number>>();
  for (const entry of entries) {
    if (entry.e !== "event") continue;
    let ids = given.get(entry.sub);
    if (ids === undefined) given.set(entry.sub, (ids = new Map()));
    ids.set(entry.id, storedIds.get(entry.text) ?? FAR_AWAY + entry.id);
  }
  return entries.map((entry) => {
    if (entry.e !== "event" && entry.e !== "settle" && entry.e !== "confirmed") return entry;
    const ids = given.get(entry.sub);
    const rename = (id: number): number => ids?.get(id) ?? FAR_AWAY + id;
    if (entry.e === "event") return { ...entry, id: rename(entry.id) };
    if (entry.e === "settle") return { ...entry, ids: entry.ids.map(rename) };
    return {
      ...entry,
      ids: entry.ids.map(rename),
      invalid: entry.invalid.map(rename),
      failed: entry.failed.map(rename),
    };
  });
}

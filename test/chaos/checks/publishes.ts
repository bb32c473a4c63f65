/** Promise 1: an id means stored, once, under that id; "not stored" means that it is nowhere. */
import type { Evidence, Violation } from "./evidence.ts";

interface Published {
  readonly key: string;
  /** An earlier call may have stored it, and given it its id: where it stands among the others says nothing. */
  readonly isRepeated: boolean;
  id: number | undefined;
}

export function checkPublishes(evidence: Evidence): Violation[] {
  const violations: Violation[] = [];
  const add = (check: string, text: string): void => void violations.push({ check, text });
  const byKey = new Map<string, number[]>();
  const byId = new Map<number, string>();
  for (const { id, key, text } of evidence.stored) {
    byId.set(id, text);
    if (key === undefined) continue;
    byKey.set(key, [...(byKey.get(key) ?? []), id]);
  }
  for (const [key, ids] of byKey) {
    if (ids.length > 1) add("stored twice", `${key} is stored as ${ids.join(" and ")}`);
  }
  const attempted = new Set<string>();
  const mayBeStored = new Set<string>();
  /** Of each publisher: what it published, in that order. Answers come in any. */
  const published = new Map<string, Published[]>();
  const open = new Map<string, number>();
  for (const entry of evidence.entries) {
    if (entry.e === "publish") {
      attempted.add(entry.key);
      open.set(entry.key, (open.get(entry.key) ?? 0) + 1);
      const { by, key } = entry;
      const one = { key, isRepeated: mayBeStored.has(key) || open.get(key)! > 1, id: undefined };
      const others = published.get(by);
      if (others === undefined) published.set(by, [one]);
      else others.push(one);
    } else if (entry.e === "schedule") {
      // What becomes of it is another check's business.
      attempted.add(entry.key);
      mayBeStored.add(entry.key);
    } else if (entry.e === "batch") {
      const there = entry.keys.filter((key) => byKey.has(key)).length;
      if (there > 0 && there < entry.keys.length) {
        add("atomic", `${there} of ${entry.keys.length} events of a batch are stored: ${entry.keys.join(", ")}`);
      }
    } else if (entry.e === "published") {
      mayBeStored.add(entry.key);
      open.set(entry.key, open.get(entry.key)! - 1);
      if (byId.get(entry.id) !== entry.key) {
        add("lost publish", `${entry.key} got id ${entry.id}, where there is ${byId.get(entry.id) ?? "nothing"}`);
      }
      const one = published.get(entry.by)?.findLast(({ key }) => key === entry.key);
      if (one !== undefined) one.id = entry.id;
    } else if (entry.e === "publish_failed") {
      open.set(entry.key, open.get(entry.key)! - 1);
      if (entry.outcome !== "not_stored") mayBeStored.add(entry.key);
      if (entry.outcome === "stored" && !byKey.has(entry.key)) {
        add("lost publish", `${entry.key} was told to be stored already, and is not`);
      }
      const fits =
        entry.outcome === "stored" ||
        ["UNAVAILABLE", "DEADLINE_EXCEEDED"].includes(entry.code) ||
        entry.outcome === "not_stored";
      if (!fits) add("outcome", `${entry.key} failed as ${entry.code} ${entry.reason ?? ""} (${entry.text ?? ""})`);
    }
  }
  for (const [key, count] of open) if (count > 0) mayBeStored.add(key);
  for (const [by, events] of published) {
    let last = 0;
    for (const { key, isRepeated, id } of events) {
      if (id === undefined || isRepeated) continue;
      if (id <= last) add("order", `${by} got id ${id} for ${key} after ${last}`);
      last = id;
    }
  }
  for (const { id, key, text } of evidence.stored) {
    if (key !== text || !attempted.has(text)) add("invented", `${id} holds ${text} under ${key ?? "no key"}`);
    else if (!mayBeStored.has(text)) add("not stored", `${text} was told to be not stored, and is, as ${id}`);
  }
  return violations;
}

/** Who reads a stream sees each event once, in order, as it is stored, over whatever breaks. */
import { type Evidence, type Violation, at } from "./evidence.ts";

export function checkReads(evidence: Evidence): Violation[] {
  const violations: Violation[] = [];
  const add = (text: string): void => void violations.push({ check: "reads", text });
  const texts = new Map(evidence.stored.map(({ id, text }) => [id, text]));
  const ids = evidence.stored.map(({ id }) => id).toSorted((a, b) => a - b);
  const seen = new Map<string, number[]>();
  const processOf = new Map<string, string>();
  // A killed process reads no further.
  const stopped = new Set(
    evidence.entries.flatMap((entry) => (entry.e === "client" && entry.phase === "stopped" ? entry.p : [])),
  );
  for (const entry of evidence.entries) {
    if (entry.e === "read") {
      seen.set(entry.reader, seen.get(entry.reader) ?? []);
      processOf.set(entry.reader, entry.p);
    } else if (entry.e === "read_event") {
      const mine = seen.get(entry.reader)!;
      const last = mine.at(-1) ?? 0;
      if (entry.id <= last) add(`${entry.reader} read ${entry.id} after ${last} at ${at(evidence, entry.t)}`);
      if (texts.get(entry.id) !== entry.text) {
        add(`${entry.reader} read ${entry.id} as ${entry.text}, stored is ${texts.get(entry.id) ?? "nothing"}`);
      }
      mine.push(entry.id);
    }
  }
  for (const [reader, mine] of seen) {
    const all = new Set(mine);
    const end = stopped.has(processOf.get(reader)!) ? Infinity : (mine.at(-1) ?? 0);
    const missing = ids.filter((id) => id <= end && !all.has(id));
    if (missing.length > 0)
      add(`${reader} did not read ${missing.length} events, ${missing.slice(0, 5).join(", ")} among them`);
  }
  return violations;
}

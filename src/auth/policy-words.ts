/** An access written in words, as `windshift policy check` takes it: `consume orders billing orders.created`. */
import { quote } from "../errors.ts";
import { type Access, type AccessSource, OPERATIONS, type Operation, VERBS, type Verb } from "./policy-access.ts";

/** What follows each verb. */
export const WORDS: Readonly<Record<Verb, string>> = {
  publish: "SUBJECT",
  consume: "STREAM CONSUMER [FILTER…]",
  read: "STREAM [FILTER…]",
  "ensure-stream": "STREAM [SUBJECT…] [source=STREAM[:FILTER,…]…]",
  "ensure-consumer": "STREAM CONSUMER|- [FILTER…] [dead-letters=STREAM]",
  "delete-consumer": "STREAM CONSUMER",
  "cancel-event": "STREAM",
  "state-read": "STORE [KEY…]",
  "state-write": "STORE KEY…",
  "ensure-store": "STORE",
  admin: "OPERATION [STREAM [CONSUMER] | STORE]",
};

/** Fewest words after the verb, and the most. */
const COUNTS: Readonly<Record<Verb, readonly [number, number]>> = {
  publish: [1, 1],
  consume: [2, Infinity],
  read: [1, Infinity],
  "ensure-stream": [2, Infinity],
  "ensure-consumer": [2, Infinity],
  "delete-consumer": [2, 2],
  "cancel-event": [1, 1],
  "state-read": [1, Infinity],
  "state-write": [2, Infinity],
  "ensure-store": [1, 1],
  admin: [1, 3],
};

/** The access that the words say; a text with what is wrong when they say none. */
export function parseAccess(words: readonly string[]): Access | string {
  const [name = "", ...rest] = words;
  const verb = (Object.keys(VERBS) as Verb[]).find((each) => each === name);
  if (verb === undefined) return `${quote(name)} is no verb: there are ${Object.keys(VERBS).join(", ")}`;
  const [fewest, most] = COUNTS[verb];
  if (rest.length < fewest || rest.length > most) return `what follows ${verb} is ${WORDS[verb]}`;
  return verb === "admin" ? adminAccess(rest) : accessOf(verb, rest);
}

function accessOf(verb: Exclude<Verb, "admin">, words: readonly string[]): Access {
  const [first = "", second = ""] = words;
  switch (verb) {
    case "publish":
      return { verb, subject: first };
    case "consume":
      return { verb, stream: first, consumer: second, filters: words.slice(2) };
    case "read":
      return { verb, stream: first, filters: words.slice(1) };
    case "ensure-stream": {
      const [subjects, sources] = apart(words.slice(1), "source=");
      return { verb, stream: first, subjects, sources: sources.map(sourceOf) };
    }
    case "ensure-consumer": {
      const [filters, [deadLetterStream]] = apart(words.slice(2), "dead-letters=");
      return { verb, stream: first, consumer: second === "-" ? undefined : second, filters, deadLetterStream };
    }
    case "delete-consumer":
      return { verb, stream: first, consumer: second };
    case "cancel-event":
      return { verb, stream: first };
    case "state-read":
    case "state-write":
      return { verb, store: first, keys: words.slice(1) };
    case "ensure-store":
      return { verb, store: first };
  }
}

function adminAccess([name = "", ...values]: readonly string[]): Access | string {
  const operation = (Object.keys(OPERATIONS) as Operation[]).find((each) => each === name);
  if (operation === undefined) return `${quote(name)} is no operation: there are ${Object.keys(OPERATIONS).join(", ")}`;
  const dimensions = OPERATIONS[operation];
  if (values.length > dimensions.length)
    return `what follows ${operation} is at most a name of ${dimensions.join(", ")}`;
  const about: { stream?: string; consumer?: string; store?: string } = {};
  for (const [index, value] of values.entries()) {
    const dimension = dimensions[index];
    if (dimension === "streams") about.stream = value;
    else if (dimension === "consumers") about.consumer = value;
    else about.store = value;
  }
  return { verb: "admin", operation, ...about };
}

/** Words without and with a prefix, the latter without it. */
function apart(words: readonly string[], prefix: string): [readonly string[], readonly string[]] {
  const marked = words.filter((word) => word.startsWith(prefix));
  return [words.filter((word) => !word.startsWith(prefix)), marked.map((word) => word.slice(prefix.length))];
}

function sourceOf(word: string): AccessSource {
  const [stream = "", filters = ""] = word.split(":", 2);
  return { stream, filters: filters === "" ? [] : filters.split(",") };
}

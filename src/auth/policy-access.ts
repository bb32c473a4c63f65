/**
 * What somebody may want to do: the verbs of a policy, and what each is about. The tables are all that the parser, the
 * decision and the JSON Schema know of verbs; a new one is a row here and a member of {@link Access}.
 */
import { quote } from "../errors.ts";

/** What an entry of a policy limits, each a list of patterns: of subjects and keys as NATS has them, of names with `*`. */
export const DIMENSIONS = ["subjects", "streams", "consumers", "stores", "keys", "operations"] as const;
/** One of {@link DIMENSIONS}. */
export type Dimension = (typeof DIMENSIONS)[number];

/** Each verb with what it is about. */
export const VERBS = {
  publish: ["subjects"],
  consume: ["streams", "consumers", "subjects"],
  read: ["streams", "subjects"],
  "ensure-stream": ["streams", "subjects"],
  "ensure-consumer": ["streams", "consumers", "subjects"],
  "delete-consumer": ["streams", "consumers"],
  "cancel-event": ["streams"],
  "state-read": ["stores", "keys"],
  "state-write": ["stores", "keys"],
  "ensure-store": ["stores"],
  admin: ["operations"],
} as const;
/** One of {@link VERBS}. */
export type Verb = keyof typeof VERBS;

/** Each operation of the verb `admin`, with what it is about besides. */
export const OPERATIONS = {
  "list-streams": ["streams"],
  "get-stream": ["streams"],
  "delete-stream": ["streams"],
  "purge-stream": ["streams"],
  "list-consumers": ["streams", "consumers"],
  "get-consumer": ["streams", "consumers"],
  "pause-consumer": ["streams", "consumers"],
  "resume-consumer": ["streams", "consumers"],
  "reset-consumer": ["streams", "consumers"],
  "list-dead-letters": ["streams", "consumers"],
  "replay-dead-letters": ["streams", "consumers"],
  "delete-dead-letters": ["streams", "consumers"],
  "list-stores": ["stores"],
  "delete-store": ["stores"],
} as const;
/** One of {@link OPERATIONS}. */
export type Operation = keyof typeof OPERATIONS;

/** Where a stream takes events from. */
export interface AccessSource {
  readonly stream: string;
  /** None takes all. */
  readonly filters: readonly string[];
}

/** Something that somebody wants to do. Where a list of filters or keys may be empty, that means all. */
export type Access =
  | { readonly verb: "publish"; readonly subject: string }
  | {
      readonly verb: "consume";
      readonly stream: string;
      readonly consumer: string;
      readonly filters: readonly string[];
      readonly isLearned?: true;
    }
  | {
      readonly verb: "read";
      readonly stream: string;
      readonly filters: readonly string[];
      /**
       * The filters are what NATS told, not what the caller named: whoever is refused does not hear of them, and they may
       * hold what other clients of NATS put there.
       */
      readonly isLearned?: true;
    }
  | {
      readonly verb: "ensure-stream";
      readonly stream: string;
      /** None for a stream that only takes from `sources`. */
      readonly subjects: readonly string[];
      /** Its mirror or aggregate: these need the right to `read` them as well. */
      readonly sources?: readonly AccessSource[];
    }
  | {
      readonly verb: "ensure-consumer";
      readonly stream: string;
      /** Undefined where the server will choose the name: whoever may that may use any name. */
      readonly consumer: string | undefined;
      readonly filters: readonly string[];
      /** Where its dead letters go, if that is asked for: another stream than its own needs the right to ensure that. */
      readonly deadLetterStream?: string | undefined;
    }
  | { readonly verb: "delete-consumer"; readonly stream: string; readonly consumer: string }
  | { readonly verb: "cancel-event"; readonly stream: string }
  | { readonly verb: "state-read" | "state-write"; readonly store: string; readonly keys: readonly string[] }
  | { readonly verb: "ensure-store"; readonly store: string }
  | {
      readonly verb: "admin";
      readonly operation: Operation;
      /** What is left out means all: a list of every stream, say. */
      readonly stream?: string;
      readonly consumer?: string;
      readonly store?: string;
    };

/** One question for the rules: names to match, and filters that must lie within patterns. */
export interface Question {
  readonly verb: Verb;
  /** Undefined asks for all names. */
  readonly names: readonly (readonly [Dimension, string | undefined])[];
  readonly filters: readonly string[];
  readonly filterDimension: "subjects" | "keys";
  /** NATS has the filters already: they are matched as they are. */
  readonly isLearned: boolean;
  /** As it stands in explanations, after "may". */
  readonly text: string;
  /** The same with nothing but what the caller named. */
  readonly named: string;
}

const ALL = [">"];
const NONE = { filters: [], filterDimension: "subjects", isLearned: false } as const;

/** The questions that must all be answered with yes, the one of the access' own verb first. */
export function questionsOf(access: Access): readonly Question[] {
  switch (access.verb) {
    case "publish":
      return [publishQuestion(access.subject)];
    case "consume":
      return [consumerQuestion(access.verb, access.stream, access.consumer, orAll(access.filters), access.isLearned)];
    case "read":
      return [streamQuestion(access.verb, access.stream, orAll(access.filters), access.isLearned)];
    case "ensure-stream": {
      const sources = access.sources ?? [];
      const held = [...access.subjects, ...sources.flatMap(({ filters }) => orAll(filters))];
      const reads = sources.map(({ stream, filters }) => streamQuestion("read", stream, orAll(filters)));
      return [streamQuestion(access.verb, access.stream, held), ...reads];
    }
    case "ensure-consumer": {
      const { verb, stream, consumer, deadLetterStream } = access;
      const own = consumerQuestion(verb, stream, consumer, orAll(access.filters));
      if (deadLetterStream === undefined || deadLetterStream === `${stream}-dead-letters`) return [own];
      return [own, streamQuestion("ensure-stream", deadLetterStream, [`dead-letters.${stream}.${consumer ?? "*"}.*`])];
    }
    case "delete-consumer":
      return [consumerQuestion(access.verb, access.stream, access.consumer, [])];
    case "cancel-event":
      return [streamQuestion(access.verb, access.stream, [])];
    case "state-read":
    case "state-write":
      return [storeQuestion(access.verb, access.store, orAll(access.keys))];
    case "ensure-store":
      return [storeQuestion(access.verb, access.store, [])];
    case "admin":
      return [adminQuestion(access)];
  }
}

function orAll(filters: readonly string[]): readonly string[] {
  return filters.length === 0 ? ALL : filters;
}

function publishQuestion(subject: string): Question {
  const text = `publish ${quote(subject)}`;
  return {
    verb: "publish",
    names: [],
    filters: [subject],
    filterDimension: "subjects",
    isLearned: false,
    text,
    named: text,
  };
}

function streamQuestion(verb: Verb, stream: string, filters: readonly string[], isLearned = false): Question {
  const about = `${verb} ${quote(stream)}`;
  return {
    verb,
    names: [["streams", stream]],
    filters,
    filterDimension: "subjects",
    isLearned,
    ...textsOf(about, filters, isLearned),
  };
}

function consumerQuestion(
  verb: Verb,
  stream: string,
  consumer: string | undefined,
  filters: readonly string[],
  isLearned = false,
): Question {
  const name = consumer === undefined ? "(a new name)" : quote(consumer);
  const about = `${verb} ${quote(stream)} ${name}`;
  return {
    verb,
    names: [
      ["streams", stream],
      ["consumers", consumer],
    ],
    filters,
    filterDimension: "subjects",
    isLearned,
    ...textsOf(about, filters, isLearned),
  };
}

function storeQuestion(verb: Verb, store: string, filters: readonly string[]): Question {
  const texts = textsOf(`${verb} ${quote(store)}`, filters, false);
  return { verb, names: [["stores", store]], filters, filterDimension: "keys", isLearned: false, ...texts };
}

function adminQuestion(access: Access & { readonly verb: "admin" }): Question {
  const values = { streams: access.stream, consumers: access.consumer, stores: access.store };
  const about = OPERATIONS[access.operation].map((dimension) => [dimension, values[dimension]] as const);
  const words = ["admin", access.operation, ...about.map(([, name]) => (name === undefined ? "(all)" : quote(name)))];
  const text = words.join(" ");
  return { verb: "admin", names: [["operations", access.operation], ...about], ...NONE, text, named: text };
}

function textsOf(about: string, filters: readonly string[], isLearned: boolean): Pick<Question, "text" | "named"> {
  const text = `${about}${listed(filters)}`;
  return { text, named: isLearned ? about : text };
}

/** The first few, so that a request with a thousand filters does not make a long message. */
function listed(filters: readonly string[]): string {
  const shown = filters.slice(0, 3).map(quote);
  return shown.length === 0 ? "" : ` ${shown.join(" ")}${filters.length > shown.length ? " …" : ""}`;
}

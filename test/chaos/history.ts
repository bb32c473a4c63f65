/**
 * What clients saw, as lines of JSON: written at once and never changed, so that a killed client leaves all it knew. Times
 * are milliseconds of the system's monotonic clock, which all processes of a machine share.
 */
import { appendFileSync, closeSync, openSync, readFileSync, readdirSync, writeSync } from "node:fs";
import { join } from "node:path";

/** What became of the ids of a settlement. */
export interface Lists {
  readonly ids: readonly number[];
  readonly invalid: readonly number[];
  readonly failed: readonly number[];
}

export type Kind = "ack" | "reject" | "terminate" | "ping";

/** How a subscription fares, for those who asked. */
export type Status = "ACTIVE" | "DISCONNECTED" | "CAUGHT_UP" | "DRAINING" | "UNSPECIFIED";

/** An error as a client got it. */
export interface Failure {
  readonly code: string;
  readonly reason?: string | undefined;
  readonly outcome?: string | undefined;
  readonly text?: string | undefined;
}

/** A call of a key's value. */
export type StateCall =
  | { readonly op: "set"; readonly value: string; readonly lastRevision?: number; readonly createOnly?: boolean }
  | { readonly op: "delete"; readonly lastRevision?: number }
  | { readonly op: "get" };

/** What happened; `t` and `p` (when, and in which process) are added by the one who writes it down. */
export type Happening =
  | { readonly e: "publish"; readonly by: string; readonly key: string; readonly retries: boolean }
  | { readonly e: "published"; readonly by: string; readonly key: string; readonly id: number }
  | ({ readonly e: "publish_failed"; readonly by: string; readonly key: string } & Failure)
  | {
      readonly e: "subscribe";
      readonly sub: string;
      readonly stream: string;
      readonly consumer: string;
      readonly window: number;
      /** Bytes that it may hold, as NATS counts them; 0 is no limit. */
      readonly maxBytes?: number;
      readonly server: number;
    }
  | { readonly e: "status"; readonly sub: string; readonly state: Status }
  | { readonly e: "subscribed"; readonly sub: string; readonly timeoutMs: number }
  | {
      readonly e: "event";
      readonly sub: string;
      readonly id: number;
      readonly key: string | undefined;
      readonly text: string;
      readonly attempt: number;
    }
  | { readonly e: "settle"; readonly sub: string; readonly kind: Kind; readonly ids: readonly number[] }
  | ({ readonly e: "confirmed"; readonly sub: string; readonly kind: Kind } & Lists)
  | { readonly e: "half_close"; readonly sub: string }
  | ({ readonly e: "ended"; readonly sub: string; readonly by: "client" | "server" } & Partial<Failure>)
  | { readonly e: "state"; readonly op: string; readonly key: string; readonly call: StateCall }
  | {
      readonly e: "state_done";
      readonly op: string;
      readonly revision?: number;
      readonly value?: string | undefined;
      readonly error?: Failure;
    }
  /** Events that are published together, all or none. */
  | { readonly e: "batch"; readonly by: string; readonly keys: readonly string[] }
  /** An event that is to appear at a time: in milliseconds since the epoch, and on the clock of the histories. */
  | { readonly e: "schedule"; readonly by: string; readonly key: string; readonly dueMs: number; readonly dueT: number }
  | { readonly e: "scheduled"; readonly by: string; readonly key: string }
  | ({ readonly e: "schedule_failed"; readonly by: string; readonly key: string } & Failure)
  | { readonly e: "cancel"; readonly by: string; readonly key: string }
  | { readonly e: "cancel_done"; readonly by: string; readonly key: string; readonly cancelled?: boolean }
  /** A call that reads the main stream from an id on; those of one reader follow each other. */
  | { readonly e: "read"; readonly reader: string; readonly from: number; readonly server: number }
  | { readonly e: "read_event"; readonly reader: string; readonly id: number; readonly text: string }
  /** A call that was to go on, or to end with OK and all its answers, was ended by its server. */
  | ({ readonly e: "call_end"; readonly what: string; readonly by: string } & Partial<Failure>)
  | { readonly e: "slow"; readonly what: string; readonly ms: number }
  | { readonly e: "client"; readonly phase: "started" | "stopped" };

/** A happening with its time and process. */
export type Entry = Happening & { readonly t: number; readonly p: string };

/** Milliseconds of the clock that all processes share. */
export function clock(): number {
  return Number(process.hrtime.bigint() / 1_000n) / 1_000;
}

/** Writes down what one process sees. */
export class History implements Disposable {
  readonly #file: number;
  readonly #process: string;

  constructor(folder: string, processName: string) {
    this.#process = processName;
    this.#file = openSync(join(folder, `${processName}.jsonl`), "a");
  }

  add(happening: Happening): void {
    writeSync(this.#file, `${JSON.stringify({ t: clock(), p: this.#process, ...happening })}\n`);
  }

  [Symbol.dispose](): void {
    closeSync(this.#file);
  }
}

/** All histories of a folder in the order of time. */
export function readHistories(folder: string): Entry[] {
  const entries: Entry[] = [];
  for (const file of readdirSync(folder).filter((name) => name.endsWith(".jsonl"))) {
    for (const line of readFileSync(join(folder, file), "utf8").split("\n")) {
      // A killed process may leave half a line, the last one.
      if (line.endsWith("}")) entries.push(JSON.parse(line) as Entry);
    }
  }
  return entries.sort((a, b) => a.t - b.t);
}

/** Adds lines to a file of a run that is no history of a client. */
export function note(folder: string, file: string, line: object): void {
  appendFileSync(join(folder, file), `${JSON.stringify({ t: clock(), ...line })}\n`);
}

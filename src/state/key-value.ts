/**
 * Hot path: getting, setting and deleting values. One object for each call is its own listener all the way; promises
 * appear only in conflicts. Measured by `npm run bench -- state`.
 *
 * JetStream compares the sequence of the last message of a key, deletions included; for clients a deleted key does not
 * exist. So a write that is refused looks at what is there, and is tried again where its condition holds.
 */
import { WindshiftError, fieldError, quote } from "../errors.ts";
import { checkKey, checkStoreName } from "../names.ts";
import type { CurrentReader } from "../nats/current.ts";
import { jetStreamCode } from "../nats/errors.ts";
import type { GetListener, Reader, StoredMessage } from "../nats/get.ts";
import { HeaderLines } from "../nats/message.ts";
import { type PublishAck, type PublishListener, type Publisher, isWrongLastSequence } from "../nats/publish.ts";
import { RefusedWrite } from "../nats/refused-write.ts";
import { storeNotFound, streamOf } from "./stores.ts";
import { type Value, decodeValue } from "./value-codec.ts";

/** What a key holds. */
export interface StoredValue {
  readonly revision: bigint;
  /** RFC 3339 with nanoseconds: when it was stored. */
  readonly lastUpdated: string;
  readonly value: Value;
}

/** Hears how a get ended: exactly one of the two, once. Undefined: the key does not exist. */
export interface ValueListener {
  onValue(value: StoredValue | undefined): void;
  onFailed(error: WindshiftError): void;
}

/** Hears how a write ended: exactly one of the two, once. */
export interface WriteListener {
  /** The key's revision from now on; that of its marker for a deletion. */
  onWritten(revision: bigint): void;
  onFailed(error: WindshiftError): void;
}

/** Under which condition to write. */
export interface WriteCondition {
  /** Only if the key does not exist. */
  readonly createOnly?: boolean | undefined;
  /** Only if this is its revision; 0n: it does not exist. */
  readonly lastRevision?: bigint | undefined;
}

const DELETED = "KV-Operation: DEL\r\n";
const EMPTY = new Uint8Array(0);

/** Values by key. */
export class KeyValue {
  readonly #current: CurrentReader;
  readonly #publisher: Publisher;
  readonly #reader: Reader;
  readonly #keyPrefix: string;
  readonly #maxPayload: () => number;

  constructor(
    current: CurrentReader,
    publisher: Publisher,
    reader: Reader,
    options: { readonly domainPrefix: string; readonly maxPayload: () => number },
  ) {
    this.#current = current;
    this.#publisher = publisher;
    this.#reader = reader;
    this.#keyPrefix = options.domainPrefix;
    this.#maxPayload = options.maxPayload;
  }

  /** Reads the current value. Throws what is wrong with the names. */
  get(store: string, key: string, deadlineMs: number, listener: ValueListener): void {
    checkStoreName("store", store);
    checkKey("key", key);
    const query = { last_by_subj: `$KV.${store}.${key}` };
    this.#current.get(streamOf(store), query, deadlineMs, new Getting(store, key, listener));
  }

  /** Writes a value (marshalled `Any`). Throws what is wrong with the request. */
  set(
    store: string,
    key: string,
    value: Uint8Array,
    condition: WriteCondition,
    deadlineMs: number,
    listener: WriteListener,
  ): void {
    checkStoreName("store", store);
    checkKey("key", key);
    if (condition.createOnly === true && condition.lastRevision !== undefined) {
      throw fieldError("CONFLICTING_FIELDS", "create_only", "cannot be combined with last_revision");
    }
    const expected = condition.createOnly === true ? 0n : condition.lastRevision;
    const limit = this.#maxPayload();
    if (value.length + (expected === undefined ? 0 : MAX_HEADER_BYTES) > limit) {
      throw new WindshiftError("VALUE_TOO_LARGE", `value: has ${value.length} bytes, NATS accepts ${limit}`, {
        field: "value",
        metadata: { store, key },
        outcome: "not_stored",
      });
    }
    const write = { store, key, deadlineMs, operation: "", payload: value, expected };
    new Writing(this, write, condition.createOnly === true ? "KEY_EXISTS" : "REVISION_MISMATCH", listener).send();
  }

  /** Deletes the key; one that does not exist too. Throws what is wrong with the request. */
  delete(
    store: string,
    key: string,
    lastRevision: bigint | undefined,
    deadlineMs: number,
    listener: WriteListener,
  ): void {
    checkStoreName("store", store);
    checkKey("key", key);
    const write = { store, key, deadlineMs, operation: DELETED, payload: EMPTY, expected: lastRevision };
    new Writing(this, write, "REVISION_MISMATCH", listener).send();
  }

  /** @internal */
  publish(write: Write, expected: bigint | undefined, listener: PublishListener): void {
    const condition = expected === undefined ? "" : `Nats-Expected-Last-Subject-Sequence: ${expected}\r\n`;
    const lines = write.operation + condition;
    this.#publisher.publish(
      {
        subject: `${this.#keyPrefix}$KV.${write.store}.${write.key}`,
        headers: lines === "" ? "" : `NATS/1.0\r\n${lines}\r\n`,
        payload: write.payload,
        deadlineMs: write.deadlineMs,
        repeatable: false,
      },
      listener,
    );
  }

  /** @internal */
  refused({ store, key, deadlineMs }: Write, expected: bigint): RefusedWrite {
    const write = { stream: streamOf(store), subject: `$KV.${store}.${key}`, expected, deadlineMs };
    return new RefusedWrite(this.#reader, write, isDeletion);
  }
}

/** Room for the header line of a condition. */
const MAX_HEADER_BYTES = 128;

class Getting implements GetListener {
  readonly #store: string;
  readonly #key: string;
  readonly #listener: ValueListener;

  constructor(store: string, key: string, listener: ValueListener) {
    this.#store = store;
    this.#key = key;
    this.#listener = listener;
  }

  onFound(message: StoredMessage | undefined): void {
    if (message === undefined || isDeletion(message)) {
      this.#listener.onValue(undefined);
      return;
    }
    let value: Value;
    try {
      value = decodeValue(message.payload, this.#store, this.#key);
    } catch (error) {
      this.#listener.onFailed(error as WindshiftError);
      return;
    }
    this.#listener.onValue({ revision: message.sequence, lastUpdated: message.time, value });
  }

  onFailed(error: WindshiftError): void {
    const store = this.#store;
    const missing = storeNotFound(error, store) as WindshiftError;
    if (missing !== error) {
      this.#listener.onFailed(missing);
      return;
    }
    const { reason, message, retryAfterMs, cause } = error;
    const retry = retryAfterMs === undefined ? {} : { retryAfterMs };
    this.#listener.onFailed(new WindshiftError(reason, message, { metadata: { store }, ...retry, cause }));
  }
}

interface Write {
  readonly store: string;
  readonly key: string;
  readonly deadlineMs: number;
  /** Header line of a deletion, or empty. */
  readonly operation: string;
  readonly payload: Uint8Array;
  readonly expected: bigint | undefined;
}

class Writing implements PublishListener {
  readonly #values: KeyValue;
  readonly #write: Write;
  readonly #conflict: "KEY_EXISTS" | "REVISION_MISMATCH";
  readonly #listener: WriteListener;
  #refused: RefusedWrite | undefined;
  /** What the attempt under way expects. */
  #attempted: bigint | undefined;

  constructor(values: KeyValue, write: Write, conflict: "KEY_EXISTS" | "REVISION_MISMATCH", listener: WriteListener) {
    this.#values = values;
    this.#write = write;
    this.#conflict = conflict;
    this.#listener = listener;
  }

  send(expected: bigint | undefined = this.#write.expected): void {
    this.#attempted = expected;
    this.#values.publish(this.#write, expected, this);
  }

  onStored(ack: PublishAck): void {
    this.#listener.onWritten(ack.sequence);
  }

  onFailed(error: WindshiftError): void {
    const { expected } = this.#write;
    if (expected !== undefined && isWrongLastSequence(jetStreamCode(error))) void this.#reconsider(expected, error);
    else this.#listener.onFailed(this.#named(error));
  }

  async #reconsider(expected: bigint, refusal: WindshiftError): Promise<void> {
    this.#refused ??= this.#values.refused(this.#write, expected);
    let next: bigint | undefined;
    try {
      next = await this.#refused.next(this.#attempted ?? expected);
    } catch (error) {
      // Refused already: whatever fails now, nothing is stored.
      this.#listener.onFailed(this.#named(error as WindshiftError, "not_stored"));
      return;
    }
    if (next === undefined) this.#listener.onFailed(this.#mismatch(refusal));
    else this.send(next);
  }

  /** The error of JetStream in words of stores. */
  #named(error: WindshiftError, outcome = error.outcome): WindshiftError {
    const { store, key } = this.#write;
    const missing = storeNotFound(error, store) as WindshiftError;
    const reason = error.reason === "EVENT_TOO_LARGE" ? "VALUE_TOO_LARGE" : missing.reason;
    const text = EXPLANATIONS[reason];
    return new WindshiftError(
      reason,
      text === undefined ? missing.message : `${text} (key ${quote(key)} in store ${quote(store)})`,
      {
        metadata: reason === "STORE_NOT_FOUND" ? { store } : { store, key },
        ...(reason === "VALUE_TOO_LARGE" ? { field: "value" } : {}),
        ...(outcome === undefined ? {} : { outcome }),
        ...(error.retryAfterMs === undefined ? {} : { retryAfterMs: error.retryAfterMs }),
        cause: error,
      },
    );
  }

  #mismatch(cause: WindshiftError): WindshiftError {
    const { store, key, expected } = this.#write;
    const where = `key ${quote(key)} in store ${quote(store)}`;
    const metadata = { store, key };
    const options = { metadata, outcome: "not_stored" as const, cause };
    return this.#conflict === "KEY_EXISTS"
      ? new WindshiftError("KEY_EXISTS", `create_only: ${where} exists`, { ...options, field: "create_only" })
      : new WindshiftError("REVISION_MISMATCH", `last_revision: ${expected} is not the revision of ${where}`, {
          ...options,
          field: "last_revision",
        });
  }
}

const EXPLANATIONS: Partial<Record<WindshiftError["reason"], string>> = {
  VALUE_TOO_LARGE: "value: is larger than the store accepts",
  STREAM_FULL: "the store is full",
  ACCOUNT_LIMIT: "a limit of the NATS account is reached",
};

const DELETIONS = new Set(["DEL", "PURGE"]);

/** A deletion, a purge, or what nats-server leaves where a value expired. */
function isDeletion(message: StoredMessage): boolean {
  if (message.headers === undefined) return false;
  const lines = new HeaderLines(message.headers);
  while (lines.next()) {
    if (lines.is("nats-marker-reason")) return true;
    if (lines.is("kv-operation") && DELETIONS.has(lines.value)) return true;
  }
  return false;
}

/** Hot path: the messages of getting, setting and deleting values, coded by hand like those of events. */
import { LastText } from "../../last-text.ts";
import {
  type AnyMessage,
  type SecondsAndNanos,
  anySize,
  readAny,
  timeSize,
  writeAny,
  writeTime,
} from "../../protobuf/well-known.ts";
import { type Uint64, WireReader, WireWriter, fieldSize, varintSize } from "../../protobuf/wire.ts";

const lastStore = new LastText();

/** `GetRequest`. */
export interface GetRequest {
  store: string;
  key: string;
}

/** `GetRequest` ← bytes. */
export function decodeGetRequest(bytes: Uint8Array): GetRequest {
  const reader = new WireReader(bytes);
  const message: GetRequest = { store: "", key: "" };
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === 10) message.store = reader.string(lastStore);
    else if (tag === 18) message.key = reader.string();
    else reader.skip(tag);
  }
  return message;
}

/** `GetResponse`; undefined fields are those of a key that does not exist. */
export interface GetResponse {
  readonly lastUpdated: SecondsAndNanos | undefined;
  readonly revision: Uint64;
  readonly value: AnyMessage | undefined;
}

/** `GetResponse` → bytes. */
export function encodeGetResponse({ lastUpdated, revision, value }: GetResponse): Uint8Array {
  const time = lastUpdated === undefined ? -1 : timeSize(lastUpdated);
  const any = value === undefined ? -1 : anySize(value);
  const writer = new WireWriter(
    (time < 0 ? 0 : fieldSize(time)) +
      (isZero(revision) ? 0 : 1 + varintSize(revision)) +
      (any < 0 ? 0 : fieldSize(any)),
  );
  if (lastUpdated !== undefined) writeTime(writer, 10, lastUpdated, time);
  if (!isZero(revision)) {
    writer.varint(16);
    writer.uint64(revision);
  }
  if (value !== undefined) {
    writer.header(26, any);
    writeAny(writer, value);
  }
  return writer.bytes;
}

/** `SetRequest`. */
export interface SetRequest {
  store: string;
  key: string;
  value: AnyMessage | undefined;
  createOnly: boolean | undefined;
  lastRevision: Uint64 | undefined;
}

/** `SetRequest` ← bytes. */
export function decodeSetRequest(bytes: Uint8Array): SetRequest {
  const reader = new WireReader(bytes);
  const message: SetRequest = { store: "", key: "", value: undefined, createOnly: undefined, lastRevision: undefined };
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === 10) message.store = reader.string(lastStore);
    else if (tag === 18) message.key = reader.string();
    else if (tag === 26) message.value = readAny(reader, message.value);
    else if (tag === 32) message.createOnly = reader.bool();
    else if (tag === 40) message.lastRevision = reader.uint64();
    else reader.skip(tag);
  }
  return message;
}

/** `DeleteRequest`. */
export interface DeleteRequest {
  store: string;
  key: string;
  lastRevision: Uint64 | undefined;
}

/** `DeleteRequest` ← bytes. */
export function decodeDeleteRequest(bytes: Uint8Array): DeleteRequest {
  const reader = new WireReader(bytes);
  const message: DeleteRequest = { store: "", key: "", lastRevision: undefined };
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === 10) message.store = reader.string(lastStore);
    else if (tag === 18) message.key = reader.string();
    else if (tag === 24) message.lastRevision = reader.uint64();
    else reader.skip(tag);
  }
  return message;
}

function isZero(value: Uint64): boolean {
  return value === 0 || value === 0n;
}

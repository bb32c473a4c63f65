/** `windshift.state.v1alpha1.StateService`: convert, call, convert. */
import { fromBinary } from "@bufbuild/protobuf";
import type { WindshiftError } from "../errors.ts";
import { parseTimestamp } from "../events/timestamp.ts";
import { EnsureStoreRequestSchema } from "../gen/windshift/state/v1alpha1/state_pb.ts";
import { encodeAny } from "../protobuf/well-known.ts";
import type { Uint64 } from "../protobuf/wire.ts";
import { METHODS } from "../rpc.ts";
import type { StoredValue, ValueListener, WriteListener } from "../state/key-value.ts";
import type { State } from "../state/state.ts";
import { encodeNothing, encodeOneUint64 } from "./codecs/events.ts";
import {
  type GetResponse,
  decodeDeleteRequest,
  decodeGetRequest,
  decodeSetRequest,
  encodeGetResponse,
} from "./codecs/state.ts";
import { ensureStoreAccess, readKeyAccess, writeKeyAccess } from "./access.ts";
import { required } from "./convert.ts";
import type { Router, UnaryCall } from "./server.ts";

const MISSING: GetResponse = { lastUpdated: undefined, revision: 0, value: undefined };

/** Serves all methods of the service on a router. */
export function registerStateService(router: Router, { stores, values }: State): void {
  router.async(
    {
      method: METHODS.ensureStore,
      decode: (bytes) => fromBinary(EnsureStoreRequestSchema, bytes),
      encode: encodeNothing,
      access: ensureStoreAccess,
    },
    async ({ store }, { deadlineMs }) => stores.ensure(store, { deadlineMs }),
  );
  router.unary(
    { method: METHODS.get, decode: decodeGetRequest, encode: encodeGetResponse, access: readKeyAccess },
    (call) => {
      const { store, key } = call.request;
      values.get(store, key, call.deadlineMs, new GetAnswer(call));
    },
  );
  router.unary(
    { method: METHODS.set, decode: decodeSetRequest, encode: encodeOneUint64, access: writeKeyAccess },
    (call) => {
      const { store, key, value, createOnly, lastRevision } = call.request;
      const bytes = encodeAny(required("value", value));
      const condition = { createOnly, lastRevision: toBigInt(lastRevision) };
      values.set(store, key, bytes, condition, call.deadlineMs, new WriteAnswer(call));
    },
  );
  router.unary(
    { method: METHODS.delete, decode: decodeDeleteRequest, encode: encodeNothing, access: writeKeyAccess },
    (call) => {
      const { store, key, lastRevision } = call.request;
      values.delete(store, key, toBigInt(lastRevision), call.deadlineMs, new WriteAnswer(call));
    },
  );
}

function toBigInt(value: Uint64 | undefined): bigint | undefined {
  return value === undefined ? undefined : BigInt(value);
}

class GetAnswer<Request> implements ValueListener {
  readonly #call: UnaryCall<Request, GetResponse>;

  constructor(call: UnaryCall<Request, GetResponse>) {
    this.#call = call;
  }

  onValue(stored: StoredValue | undefined): void {
    if (stored === undefined) {
      this.#call.respond(MISSING);
      return;
    }
    const { revision, lastUpdated, value } = stored;
    this.#call.respond({ revision, lastUpdated: parseTimestamp(lastUpdated), value });
  }

  onFailed(error: WindshiftError): void {
    this.#call.fail(error);
  }
}

class WriteAnswer<Request> implements WriteListener {
  readonly #call: UnaryCall<Request, bigint>;

  constructor(call: UnaryCall<Request, bigint>) {
    this.#call = call;
  }

  onWritten(revision: bigint): void {
    this.#call.respond(revision);
  }

  onFailed(error: WindshiftError): void {
    this.#call.fail(error);
  }
}

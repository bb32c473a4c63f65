/**
 * The codecs written by hand against the generated ones: for random messages, for everything that the wire format allows
 * beyond what an encoder writes, and for bytes that are no message at all.
 */
import {
  type DescField,
  type DescMessage,
  type MessageInitShape,
  type MessageShape,
  ScalarType,
  create,
  fromBinary,
  toBinary,
} from "@bufbuild/protobuf";
import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import fc, { type Arbitrary } from "fast-check";
import { describe, expect, test } from "vitest";
import { StatusSchema } from "../../../src/gen/google/rpc/status_pb.ts";
import {
  DeleteConsumerResponseSchema,
  EnsureStreamResponseSchema,
  EventsRequestSchema,
  EventsResponseSchema,
  GetEventResponseSchema,
  type PublishEventRequest,
  PublishEventRequestSchema,
  PublishEventResponseSchema,
  PublishEventsRequestSchema,
  PublishEventsResponseSchema,
  PublishStreamRequestSchema,
  PublishStreamResponseSchema,
  ReadEventsResponseSchema,
  SubscriptionStatus_State as State,
} from "../../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import {
  DeleteRequestSchema,
  DeleteResponseSchema,
  EnsureStoreResponseSchema,
  GetRequestSchema,
  GetResponseSchema,
  SetRequestSchema,
  SetResponseSchema,
} from "../../../src/gen/windshift/state/v1alpha1/state_pb.ts";
import {
  type EventMessage,
  decodeEventsRequest,
  decodePublishEventRequest,
  decodePublishEventsRequest,
  decodePublishStreamRequest,
  encodeEvent,
  encodeEventsResponse,
  encodeNothing,
  encodeOneUint64,
  encodePublishEventsResponse,
  encodePublishStreamResponse,
  encodeReadEventsResponse,
} from "../../../src/grpc/codecs/events.ts";
import {
  decodeDeleteRequest,
  decodeGetRequest,
  decodeSetRequest,
  encodeGetResponse,
} from "../../../src/grpc/codecs/state.ts";
import { decodeAny, encodeAny } from "../../../src/protobuf/well-known.ts";

const MAX_UINT64 = 2n ** 64n - 1n;

const uint64 = fc.oneof(
  fc.bigInt({ min: 0n, max: MAX_UINT64 }),
  fc.constantFrom(0n, 1n, 127n, 128n, 2n ** 32n - 1n, 2n ** 32n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 63n, MAX_UINT64),
);
const int64 = fc.oneof(
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  fc.constantFrom(0n, -1n, -62_135_596_800n, 253_402_300_799n),
);
const int32 = fc.oneof(fc.integer(), fc.constantFrom(0, -1, 999_999_999, -(2 ** 31), 2 ** 31 - 1));
/** Around what is remembered of a text, and where a length begins to take two and three bytes. */
const size = fc.constantFrom(127, 128, 255, 256, 257, 16_383, 16_384, 20_000);
const text = fc.oneof(
  { weight: 8, arbitrary: fc.string({ unit: "grapheme", maxLength: 12 }) },
  { weight: 8, arbitrary: fc.string({ maxLength: 200 }) },
  // Whoever sends this character may keep it.
  { weight: 8, arbitrary: fc.constantFrom("\uFFFD", "\uFEFFa", "\0", "𝔘𝔫𝔦") },
  { weight: 1, arbitrary: fc.tuple(fc.constantFrom("a", "ü", "\uFFFD", "𝔘"), size).map(([of, n]) => of.repeat(n)) },
);
const bytes = fc.oneof(
  { weight: 12, arbitrary: fc.uint8Array({ maxLength: 150 }) },
  { weight: 1, arbitrary: fc.tuple(fc.nat({ max: 255 }), size).map(([of, n]) => new Uint8Array(n).fill(of)) },
);

/** The numbers of all sizes as one type, and fields without a value left out: what two decoders can be compared by. */
function plain(value: unknown): unknown {
  if (typeof value === "number") return BigInt(value);
  if (value instanceof Uint8Array) return Buffer.from(value).toString("hex");
  if (Array.isArray(value)) return value.map(plain);
  if (value instanceof Map) return [...(value as Map<string, string>)].toSorted(([a], [b]) => (a < b ? -1 : 1));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([name, each]) => each !== undefined && name !== "$typeName" && name !== "$unknown")
      .map(([name, each]) => [name, plain(each)]),
  );
}

/** Seconds beyond 2^53 are rounded: they are out of every range anyway. */
function rounded<T extends { readonly seconds: bigint } | undefined>(time: T) {
  return time === undefined ? undefined : { ...time, seconds: Number(time.seconds) };
}

interface Decoder<Schema extends DescMessage = DescMessage> {
  readonly name: string;
  readonly schema: Schema;
  readonly decode: (bytes: Uint8Array) => unknown;
  /** The generated message in the shape of the other. */
  readonly shape: (message: MessageShape<Schema>) => unknown;
}

function decoder<Schema extends DescMessage>(
  schema: Schema,
  decode: (bytes: Uint8Array) => unknown,
  shape: (message: MessageShape<Schema>) => unknown,
): Decoder {
  return { name: schema.name, schema, decode, shape: shape as Decoder["shape"] };
}

function publishEventRequest(message: PublishEventRequest) {
  const attributes = Object.entries(message.attributes);
  return {
    ...message,
    timestamp: rounded(message.timestamp),
    timeToLive: rounded(message.timeToLive),
    deliverAt: rounded(message.deliverAt),
    attributes: attributes.length === 0 ? undefined : new Map(attributes),
  };
}

const DECODERS = [
  decoder(PublishEventRequestSchema, decodePublishEventRequest, publishEventRequest),
  decoder(PublishStreamRequestSchema, decodePublishStreamRequest, (message) => ({
    ...message,
    event: message.event === undefined ? undefined : publishEventRequest(message.event),
  })),
  decoder(PublishEventsRequestSchema, decodePublishEventsRequest, (message) => ({
    ...message,
    events: message.events.map(publishEventRequest),
  })),
  decoder(EventsRequestSchema, decodeEventsRequest, ({ request }) => {
    if (request.case === undefined) return { kind: "none" };
    if (request.case !== "reject") return { kind: request.case, ...request.value };
    return { kind: "reject", ...request.value, delay: rounded(request.value.delay) };
  }),
  decoder(GetRequestSchema, decodeGetRequest, (message) => message),
  decoder(SetRequestSchema, decodeSetRequest, (message) => message),
  decoder(DeleteRequestSchema, decodeDeleteRequest, (message) => message),
];

/** Any value of a field that is no message. */
function scalar(type: ScalarType): Arbitrary<unknown> {
  switch (type) {
    case ScalarType.STRING:
      return text;
    case ScalarType.BYTES:
      return bytes;
    case ScalarType.UINT64:
      return uint64;
    case ScalarType.INT64:
      return int64;
    case ScalarType.INT32:
      return int32;
    case ScalarType.UINT32:
      return fc.nat({ max: 2 ** 32 - 1 });
    case ScalarType.BOOL:
      return fc.boolean();
    default:
      throw new Error(`no hot message has a field of type ${ScalarType[type]}`);
  }
}

function value(field: DescField): Arbitrary<unknown> {
  if (field.fieldKind === "message") return message(field.message);
  if (field.fieldKind === "list") {
    if (field.listKind === "message") return fc.array(message(field.message), { maxLength: 4 });
    return fc.array(scalar(field.scalar!), { maxLength: 40 });
  }
  if (field.fieldKind === "map") return fc.dictionary(text, text, { maxKeys: 4 });
  if (field.fieldKind === "enum") return int32;
  return scalar(field.scalar!);
}

/** Message of a field that has one; undefined for other fields. */
function nested(field: DescField): DescMessage | undefined {
  if (field.fieldKind === "message") return field.message;
  return field.fieldKind === "list" && field.listKind === "message" ? field.message : undefined;
}

/** Scalar type of a field that is no message and no map. */
function scalarOf(field: DescField): ScalarType {
  return field.fieldKind === "enum" ? ScalarType.INT32 : field.scalar!;
}

/** Any message of a type. */
function message(schema: DescMessage): Arbitrary<MessageShape<DescMessage>> {
  const members = schema.members.map((member): [string, Arbitrary<unknown>] => {
    if (member.kind === "field") return [member.localName, fc.option(value(member), { nil: undefined })];
    const choices = member.fields.map((each) => fc.record({ case: fc.constant(each.localName), value: value(each) }));
    return [member.localName, fc.oneof(fc.constant({ case: undefined }), ...choices)];
  });
  return fc
    .record(Object.fromEntries(members))
    .map((init) => create(schema, Object.fromEntries(Object.entries(init).filter(([, each]) => each !== undefined))));
}

/** Number and wire type that no field has, with something valid behind them. */
function unknownField(schema: DescMessage): Arbitrary<Uint8Array> {
  const known = new Set(schema.fields.map(({ number }) => number));
  const number = fc.constantFrom(7, 15, 16, 1000, 2 ** 29 - 1).filter((each) => !known.has(each));
  const inner = fc.oneof(
    fc.record({ type: fc.constant(WireType.Varint), data: uint64.map((n) => new BinaryWriter().uint64(n).finish()) }),
    fc.record({ type: fc.constant(WireType.Bit64), data: fc.uint8Array({ minLength: 8, maxLength: 8 }) }),
    fc.record({ type: fc.constant(WireType.Bit32), data: fc.uint8Array({ minLength: 4, maxLength: 4 }) }),
    fc.record({
      type: fc.constant(WireType.LengthDelimited),
      data: bytes.map((b) => new BinaryWriter().bytes(b).finish()),
    }),
    fc.record({ type: fc.constant(WireType.StartGroup), data: fc.constant(new Uint8Array([8, 1])) }),
  );
  return fc.tuple(number, inner, padding, padding).map(([no, { type, data }, begin, end]) => {
    const parts = [tag(no, type, begin), data];
    if (type === WireType.StartGroup) parts.push(tag(no, WireType.EndGroup, end));
    return Buffer.concat(parts);
  });
}

/** Bytes that a tag, a length or a number takes beyond what it needs; mostly none, as everybody writes them. */
const padding = fc.oneof(
  { weight: 6, arbitrary: fc.constant(0) },
  { weight: 1, arbitrary: fc.integer({ min: 1, max: 9 }) },
);
const MAX_VARINT_BYTES = 10;
const MAX_TAG_BYTES = 5;

function varint(of: number | bigint, more: number, most = MAX_VARINT_BYTES): Buffer {
  const bytes = [...new BinaryWriter().uint64(of).finish()];
  for (let n = Math.min(more, most - bytes.length); n > 0; n--) {
    bytes[bytes.length - 1]! |= 0x80;
    bytes.push(0);
  }
  return Buffer.from(bytes);
}

function tag(number: number, type: WireType, more: number): Buffer {
  return varint(number * 8 + type, more, MAX_TAG_BYTES);
}

/** A field with a length before it. */
function delimited(number: number, body: Arbitrary<Uint8Array>): Arbitrary<Uint8Array> {
  return fc
    .tuple(body, padding, padding)
    .map(([of, more, most]) =>
      Buffer.concat([tag(number, WireType.LengthDelimited, more), varint(of.length, most), of]),
    );
}

/** A number of any size, as the sender may know a larger type; what is too much is left out. */
function number(type: ScalarType): Arbitrary<Uint8Array> {
  const own = scalar(type).map((of) => BigInt.asUintN(64, BigInt(of as bigint | number | boolean)));
  return fc
    .tuple(fc.oneof({ weight: 3, arbitrary: own }, { weight: 1, arbitrary: uint64 }), padding)
    .map(([of, more]) => varint(of, more));
}

function wireTypeOf(type: ScalarType): WireType {
  return type === ScalarType.STRING || type === ScalarType.BYTES ? WireType.LengthDelimited : WireType.Varint;
}

function knownField(field: DescField): Arbitrary<Uint8Array> {
  const schema = nested(field);
  if (schema !== undefined) return delimited(field.number, wire(schema, 4));
  if (field.fieldKind === "map") return delimited(field.number, mapEntry());
  const type = scalarOf(field);
  if (type === ScalarType.STRING) return delimited(field.number, utf8);
  if (type === ScalarType.BYTES) return delimited(field.number, bytes);
  const single = fc
    .tuple(number(type), padding)
    .map(([of, more]) => Buffer.concat([tag(field.number, WireType.Varint, more), of]));
  if (field.fieldKind !== "list") return single;
  const packed = fc.array(number(type), { maxLength: 20 }).map((values) => Buffer.concat(values));
  return fc.oneof(single, delimited(field.number, packed));
}

const utf8: Arbitrary<Uint8Array> = text.map((of) => Buffer.from(of));

/** An entry of a map of texts, its fields in any order, missing or repeated. */
function mapEntry(): Arbitrary<Uint8Array> {
  const field = fc.constantFrom(1, 2).chain((no) => delimited(no, utf8));
  return fc.array(field, { maxLength: 3 }).map((fields) => Buffer.concat(fields));
}

/**
 * Valid bytes of a message in any order: fields repeated, merged, packed or not, ones that nobody knows, and tags, lengths and
 * numbers of more bytes than they need.
 */
function wire(schema: DescMessage, maxLength = 10): Arbitrary<Uint8Array> {
  const field = fc.oneof(...schema.fields.map(knownField), unknownField(schema));
  return fc.array(field, { maxLength }).map((fields) => Buffer.concat(fields));
}

function expectedWireTypes(field: DescField): WireType[] {
  if (nested(field) !== undefined || field.fieldKind === "map") return [WireType.LengthDelimited];
  const type = wireTypeOf(scalarOf(field));
  return field.fieldKind === "list" ? [type, WireType.LengthDelimited] : [type];
}

/**
 * True where a known field has the wire type of another: an unknown field as Protobuf has it, which the generated code
 * reads as if its type were right.
 */
function hasForeignWireType(schema: DescMessage, of: Uint8Array): boolean {
  const reader = new BinaryReader(of);
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag();
    const field = schema.fields.find((each) => each.number === number);
    if (field !== undefined && !expectedWireTypes(field).includes(type)) return true;
    const inner = field === undefined ? undefined : nested(field);
    if (inner !== undefined) {
      if (hasForeignWireType(inner, reader.bytes())) return true;
    } else if (field?.fieldKind === "map") {
      if (hasForeignEntry(reader.bytes())) return true;
    } else {
      reader.skip(type, number);
    }
  }
  return false;
}

function hasForeignEntry(of: Uint8Array): boolean {
  const reader = new BinaryReader(of);
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag();
    if (number <= 2 && type !== WireType.LengthDelimited) return true;
    reader.skip(type, number);
  }
  return false;
}

function attempt<T>(run: () => T): T | Error {
  try {
    return run();
  } catch (error) {
    return error as Error;
  }
}

describe.for(DECODERS)("$name is decoded as the generated code does", ({ schema, decode, shape }) => {
  test("from what an encoder writes", () => {
    fc.assert(
      fc.property(message(schema), (of) => {
        expect(plain(decode(toBinary(schema, of)))).toEqual(plain(shape(of)));
      }),
    );
  });

  test("from fields in any order, repeated, merged, packed or not, unknown ones, and numbers longer than they need be", () => {
    fc.assert(
      fc.property(wire(schema), (of) => {
        expect(plain(decode(of))).toEqual(plain(shape(fromBinary(schema, of))));
      }),
      { numRuns: 500 },
    );
  });

  test("or refused, from bytes that are no such message", () => {
    const changed = fc
      .tuple(wire(schema), fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { maxLength: 4 }), fc.nat())
      .map(([valid, changes, end]) => {
        const of = Uint8Array.from(valid);
        for (const [at, byte] of changes) if (of.length > 0) of[at % of.length] = byte;
        return of.subarray(0, of.length - (end % 4));
      });
    const anything = fc.oneof(changed, fc.uint8Array({ maxLength: 64 }));
    fc.assert(
      fc.property(anything, (of) => {
        const ours = attempt(() => decode(of));
        if (ours instanceof Error) {
          expect(ours.constructor).toBe(Error);
          return;
        }
        const theirs = attempt(() => shape(fromBinary(schema, of)));
        if (theirs instanceof Error || hasForeignWireType(schema, of)) return;
        expect(plain(ours)).toEqual(plain(theirs));
      }),
      { numRuns: 1000 },
    );
  });

  test("from a view into a larger buffer", () => {
    fc.assert(
      fc.property(message(schema), bytes, (of, around) => {
        const encoded = toBinary(schema, of);
        const whole = Uint8Array.from([...around, ...encoded, ...around]);
        const view = whole.subarray(around.length, around.length + encoded.length);
        expect(plain(decode(view))).toEqual(plain(shape(of)));
      }),
    );
  });
});

describe("the value of an Any", () => {
  const read = {
    PublishEventRequest: (of: Uint8Array) => decodePublishEventRequest(of).data,
    PublishStreamRequest: (of: Uint8Array) => decodePublishStreamRequest(of).event?.data,
    PublishEventsRequest: (of: Uint8Array) => decodePublishEventsRequest(of).events[0]?.data,
    SetRequest: (of: Uint8Array) => decodeSetRequest(of).value,
    Any: decodeAny,
  };

  function written(value: Uint8Array) {
    const data = { typeUrl: "type.googleapis.com/x.Y", value };
    const event = create(PublishEventRequestSchema, { subject: "orders.created", data });
    return {
      PublishEventRequest: toBinary(PublishEventRequestSchema, event),
      PublishStreamRequest: toBinary(PublishStreamRequestSchema, create(PublishStreamRequestSchema, { event })),
      PublishEventsRequest: toBinary(
        PublishEventsRequestSchema,
        create(PublishEventsRequestSchema, { events: [event] }),
      ),
      SetRequest: toBinary(SetRequestSchema, create(SetRequestSchema, { value: data })),
      Any: toBinary(AnySchema, create(AnySchema, data)),
    };
  }

  const names = Object.keys(read) as (keyof typeof read)[];

  test.for(names)("in %s is a view of what was read, whatever its size", (name) => {
    for (const length of [1, 127, 128, 16_383, 16_384, 2 ** 21 - 1, 2 ** 21]) {
      const value = new Uint8Array(length).fill(length % 251);
      const encoded = written(value)[name];
      const view = read[name](encoded)!.value;
      expect(Buffer.compare(view, value)).toBe(0);
      expect(view.buffer).toBe(encoded.buffer);
      encoded.fill(7);
      expect(Buffer.compare(view, Buffer.alloc(length, 7))).toBe(0);
    }
  });
});

describe("bytes that are refused", () => {
  test.for([
    ["a field with number 0", [0, 0]],
    ["a length beyond the end", [10, 5, 97]],
    ["a length beyond 32 bits", [10, 0xff, 0xff, 0xff, 0xff, 0xff, 1]],
    ["a tag without a value", [40]],
    ["a number that does not end", [40, 0xff]],
    ["a number of eleven bytes", [40, ...Array<number>(10).fill(0x80), 0]],
    ["a tag beyond 32 bits", [0xff, 0xff, 0xff, 0xff, 0xff, 1, 0]],
    ["a tag in more bytes than 32 bits take", [0x8a, 0x80, 0x80, 0x80, 0x80, 0, 0]],
    ["a text that is not UTF-8", [10, 1, 0xff]],
    ["a surrogate in a text", [10, 3, 0xed, 0xa0, 0x80]],
    ["an end of a group that did not begin", [60]],
    ["a group that ends as another", [59, 68]],
    ["a group that does not end", [59]],
    ["groups nested without end", Array<number>(10_000).fill(59)],
    ["a wire type that does not exist", [62]],
    ["a nested field that leaves its message", [26, 3, 10, 9, 97]],
  ] as const)("%s", ([, of]) => {
    expect(() => decodeSetRequest(Uint8Array.from(of))).toThrow(Error);
  });

  test.for([
    ["a number of a packed list that leaves it", [18, 3, 10, 1, 0x80, 1]],
    ["a packed list that leaves its message", [18, 3, 10, 9, 1]],
  ] as const)("%s", ([, of]) => {
    expect(() => decodeEventsRequest(Uint8Array.from(of))).toThrow(Error);
  });
});

test("a known field with the wire type of another is passed over, as Protobuf has it", () => {
  // store as a number, create_only as bytes, then a key.
  const of = Uint8Array.from([8, 1, 34, 1, 65, 18, 1, 107]);
  expect(decodeSetRequest(of)).toMatchObject({ store: "", key: "k", createOnly: undefined });
});

test("of a choice the last member counts, and what the same member had before stays with it", () => {
  const request = (init: MessageInitShape<typeof EventsRequestSchema>["request"] & object) =>
    toBinary(EventsRequestSchema, create(EventsRequestSchema, { request: init }));
  const ack = request({ case: "ack", value: { ids: [1n, 2n] } });
  const ping = request({ case: "ping", value: { ids: [3n] } });
  expect(decodeEventsRequest(Buffer.concat([ack, ack]))).toEqual({ kind: "ack", ids: [1, 2, 1, 2] });
  expect(decodeEventsRequest(Buffer.concat([ack, ping]))).toEqual({ kind: "ping", ids: [3] });
  expect(decodeEventsRequest(Buffer.concat([ack, ping, ack]))).toEqual({ kind: "ack", ids: [1, 2] });
});

test("a request of one id reads as one of many does, however it is written", () => {
  const numbers = fc.oneof(
    uint64,
    fc.integer({ min: 0, max: 56 }).map((bits) => 1n << BigInt(bits)),
    fc.integer({ min: 0, max: 56 }).map((bits) => (1n << BigInt(bits)) - 1n),
  );
  const written = fc.record({
    of: numbers,
    tag: fc.constantFrom(18, 34),
    packed: fc.boolean(),
    padding: fc.nat({ max: 2 }),
  });
  const at = fc.option(fc.tuple(fc.nat({ max: 14 }), fc.nat({ max: 255 })), { nil: undefined });
  fc.assert(
    fc.property(written, at, fc.nat({ max: 2 }), ({ of, tag, packed, padding }, change, cut) => {
      const number = [...new BinaryWriter().uint64(of).finish()];
      // Seven bits a time, and more of them than it takes.
      for (let n = 0; n < padding; n++) number.push((number[number.length - 1]! |= 0x80) & 0);
      const inner = packed ? [10, number.length, ...number] : [8, ...number];
      const whole = [tag, inner.length, ...inner];
      if (change !== undefined && change[0] < whole.length) whole[change[0]] = change[1];
      const bytes = Uint8Array.from(whole.slice(0, whole.length - cut));
      const alone = attempt(() => plain(decodeEventsRequest(bytes)));
      // With a field before it that nobody knows it is none that is read in one look.
      const general = attempt(() => plain(decodeEventsRequest(Uint8Array.from([0xc0, 0x3e, 0, ...bytes]))));
      if (alone instanceof Error) expect(general).toBeInstanceOf(Error);
      else expect(alone).toEqual(general);
    }),
    { numRuns: 2000 },
  );
});

/** A number where it is exact, as decoders and the domain hand them over. */
function either(of: bigint): Arbitrary<number | bigint> {
  return of <= BigInt(Number.MAX_SAFE_INTEGER) ? fc.constantFrom(of, Number(of)) : fc.constant(of);
}

const id = uint64.chain(either);
const time = fc.record({
  seconds: fc.oneof(
    fc.integer({ min: -62_135_596_800, max: 253_402_300_799 }),
    fc.integer({ min: -(2 ** 53), max: 2 ** 53 }),
  ),
  nanos: int32,
});
const any = fc.record({ typeUrl: text, value: bytes });

/** A message of a generated type from what the encoder by hand was given. */
function generatedTime({ seconds, nanos }: { seconds: number; nanos: number }) {
  return { seconds: BigInt(seconds), nanos };
}

describe("the generated code reads", () => {
  test("a message of one number", () => {
    fc.assert(
      fc.property(id, (of) => {
        const encoded = encodeOneUint64(of);
        expect(fromBinary(PublishEventResponseSchema, encoded).id).toBe(BigInt(of));
        expect(fromBinary(SetResponseSchema, encoded).revision).toBe(BigInt(of));
        expect(Buffer.from(encoded)).toEqual(
          Buffer.from(toBinary(SetResponseSchema, create(SetResponseSchema, { revision: BigInt(of) }))),
        );
      }),
    );
  });

  test("an Any, byte for byte", () => {
    fc.assert(
      fc.property(any, (of) => {
        expect(Buffer.from(encodeAny(of))).toEqual(Buffer.from(toBinary(AnySchema, create(AnySchema, of))));
      }),
    );
  });

  test("a GetResponse, byte for byte", () => {
    const response = fc.record({
      lastUpdated: fc.option(time, { nil: undefined }),
      revision: id,
      value: fc.option(any, { nil: undefined }),
    });
    fc.assert(
      fc.property(response, (of) => {
        const expected = create(GetResponseSchema, {
          revision: BigInt(of.revision),
          ...(of.lastUpdated === undefined ? {} : { lastUpdated: generatedTime(of.lastUpdated) }),
          ...(of.value === undefined ? {} : { value: of.value }),
        });
        expect(Buffer.from(encodeGetResponse(of))).toEqual(Buffer.from(toBinary(GetResponseSchema, expected)));
      }),
    );
  });

  const event = fc.record({
    kind: fc.constant("event" as const),
    id,
    subject: text,
    timestamp: time,
    idempotencyKey: fc.option(text, { nil: undefined }),
    traceParent: fc.option(text, { nil: undefined }),
    traceState: fc.option(text, { nil: undefined }),
    attributes: fc.option(fc.uniqueArray(fc.tuple(text, text), { maxLength: 4, selector: ([name]) => name }), {
      nil: undefined,
    }),
    typeUrl: text,
    value: bytes,
    deliveryAttempt: fc.integer({ min: 0, max: 2 ** 40 }),
  });

  function generatedEvent(of: EventMessage) {
    const { idempotencyKey, traceParent, traceState } = of;
    return {
      id: BigInt(of.id),
      subject: of.subject,
      headers: {
        timestamp: generatedTime(of.timestamp),
        ...(idempotencyKey === undefined ? {} : { idempotencyKey }),
        ...(traceParent === undefined ? {} : { traceParent }),
        ...(traceState === undefined ? {} : { traceState }),
        attributes: Object.fromEntries(of.attributes ?? []),
      },
      data: { typeUrl: of.typeUrl, value: of.value },
      deliveryAttempt: BigInt(of.deliveryAttempt),
    };
  }

  test("an event", () => {
    fc.assert(
      fc.property(event, (of) => {
        const expected = create(EventsResponseSchema, { response: { case: "event", value: generatedEvent(of) } });
        expect(plain(fromBinary(EventsResponseSchema, encodeEventsResponse(of)))).toEqual(plain(expected));
      }),
    );
  });

  test("what ReadEvents answers with", () => {
    const caughtUp = fc.oneof(fc.maxSafeNat(), fc.constantFrom(0, 1, 127, 128, 2 ** 32, Number.MAX_SAFE_INTEGER));
    fc.assert(
      fc.property(fc.oneof(event, caughtUp), (of) => {
        const isEvent = typeof of === "object";
        const encoded = encodeReadEventsResponse(isEvent ? of : { kind: "caught_up", lastId: of });
        const expected = create(ReadEventsResponseSchema, {
          response: isEvent
            ? { case: "event", value: generatedEvent(of) }
            : { case: "caughtUp", value: { lastId: BigInt(of) } },
        });
        expect(plain(fromBinary(ReadEventsResponseSchema, encoded))).toEqual(plain(expected));
        if (!isEvent) expect(Buffer.from(encoded)).toEqual(Buffer.from(toBinary(ReadEventsResponseSchema, expected)));
      }),
    );
  });

  test.for([EnsureStreamResponseSchema, DeleteConsumerResponseSchema, EnsureStoreResponseSchema, DeleteResponseSchema])(
    "$name, which has no fields",
    (schema: DescMessage) => {
      expect(schema.fields).toEqual([]);
      expect(encodeNothing()).toHaveLength(0);
    },
  );

  test("what GetEvent answers with", () => {
    fc.assert(
      fc.property(event, (of) => {
        const expected = create(GetEventResponseSchema, { event: generatedEvent(of) });
        expect(plain(fromBinary(GetEventResponseSchema, encodeEvent(of)))).toEqual(plain(expected));
      }),
    );
  });

  test("several events", () => {
    fc.assert(
      fc.property(fc.array(event, { minLength: 1, maxLength: 5 }), (events) => {
        const expected = create(EventsResponseSchema, {
          response: { case: "events", value: { events: events.map(generatedEvent) } },
        });
        const encoded = encodeEventsResponse({ kind: "events", events });
        expect(plain(fromBinary(EventsResponseSchema, encoded))).toEqual(plain(expected));
      }),
    );
  });

  const status = fc
    .record({ code: fc.integer({ min: 1, max: 16 }), message: text })
    .map((of) => create(StatusSchema, of));

  test("answers of a publish stream, byte for byte", () => {
    fc.assert(
      fc.property(id, fc.oneof(id, status), (tag, outcome) => {
        const isId = typeof outcome !== "object";
        const encoded = encodePublishStreamResponse({ tag, outcome: isId ? outcome : toBinary(StatusSchema, outcome) });
        const expected = create(PublishStreamResponseSchema, {
          tag: BigInt(tag),
          result: isId ? { case: "id", value: BigInt(outcome) } : { case: "error", value: outcome },
        });
        expect(Buffer.from(encoded)).toEqual(Buffer.from(toBinary(PublishStreamResponseSchema, expected)));
      }),
    );
  });

  test("results of several publishes, byte for byte", () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(id, status), { maxLength: 9 }), (outcomes) => {
        const encoded = encodePublishEventsResponse(
          outcomes.map((each) => (typeof each === "object" ? toBinary(StatusSchema, each) : each)),
        );
        const expected = create(PublishEventsResponseSchema, {
          results: outcomes.map((each) => ({
            result:
              typeof each === "object"
                ? { case: "error" as const, value: each }
                : { case: "id" as const, value: BigInt(each) },
          })),
        });
        expect(Buffer.from(encoded)).toEqual(Buffer.from(toBinary(PublishEventsResponseSchema, expected)));
      }),
    );
  });

  test("the answer to a subscription", () => {
    fc.assert(
      fc.property(time, (processingTimeout) => {
        const encoded = encodeEventsResponse({ kind: "subscribed", processingTimeout });
        const expected = create(EventsResponseSchema, {
          response: { case: "subscribed", value: { processingTimeout: generatedTime(processingTimeout) } },
        });
        expect(Buffer.from(encoded)).toEqual(Buffer.from(toBinary(EventsResponseSchema, expected)));
      }),
    );
  });

  test.for([State.ACTIVE, State.DISCONNECTED, State.CAUGHT_UP, State.DRAINING])("status %s, byte for byte", (state) => {
    const expected = create(EventsResponseSchema, { response: { case: "status", value: { state } } });
    expect(Buffer.from(encodeEventsResponse({ kind: "status", state }))).toEqual(
      Buffer.from(toBinary(EventsResponseSchema, expected)),
    );
  });

  test.for([
    ["ack_confirmation", "ackConfirmation"],
    ["reject_confirmation", "rejectConfirmation"],
    ["ping_confirmation", "pingConfirmation"],
  ] as const)("an %s, byte for byte", ([kind, name]) => {
    const ids = fc.array(id, { maxLength: 60 });
    fc.assert(
      fc.property(ids, ids, ids, (done, invalid, failed) => {
        const confirmation = { kind, ids: done, invalidIds: invalid, temporaryFailedIds: failed };
        const expected = create(EventsResponseSchema, {
          response: {
            case: name,
            value: {
              ids: done.map(BigInt),
              invalidIds: invalid.map(BigInt),
              temporaryFailedIds: failed.map(BigInt),
            },
          },
        });
        expect(Buffer.from(encodeEventsResponse(confirmation))).toEqual(
          Buffer.from(toBinary(EventsResponseSchema, expected)),
        );
      }),
    );
  });
});

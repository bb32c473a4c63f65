/** Every field of every message of the events service, wrong: what the client is told, and that nobody else notices. */
import { type MessageInitShape, create, toBinary } from "@bufbuild/protobuf";
import { describe, expect } from "vitest";
import {
  EnsureStreamRequest_DiscardPolicy as DiscardPolicy,
  type EnsureConsumerRequestSchema,
  type EnsureStreamRequestSchema,
  EventsRequestSchema,
  type EventsRequest,
  type PublishEventRequestSchema,
} from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { type CallError, type Client, EVENTS, failure, textValue } from "../support/client.ts";
import { test, uniqueName } from "../support/fixtures.ts";
import { startNats } from "../support/nats.ts";
import { startWindshift } from "../support/windshift.ts";

type StreamRequest = MessageInitShape<typeof EnsureStreamRequestSchema>;
type ConsumerRequest = MessageInitShape<typeof EnsureConsumerRequestSchema>;
type PublishRequest = MessageInitShape<typeof PublishEventRequestSchema>;

const collects = (...subjects: string[]) => ({ case: "subjects" as const, value: { subjects } });
const duration = (seconds: number, nanos = 0) => ({ seconds: BigInt(seconds), nanos });

/** What is wrong, and what the client is told: the reason, and the text after the field's path. */
type Fault = readonly [reason: string, says: string | RegExp];

const NAME = 'may hold only letters, digits, "_" and "-"';
const SUBJECT = 'may hold only tokens of letters, digits, "_" and "-" joined by "."';
const FILTER = `${SUBJECT}, "*" for one whole token and a last ">" for one or more`;

const BAD_NAMES: [what: string, name: string, ...fault: Fault][] = [
  ["empty", "", "MISSING_FIELD", "is required"],
  ["with a space", "a b", "INVALID_NAME", `"a b" ${NAME}`],
  ["with a slash", "a/b", "INVALID_NAME", `"a/b" ${NAME}`],
  ["with a backslash", "a\\b", "INVALID_NAME", `"a\\\\b" ${NAME}`],
  ["with a dot", "a.b", "INVALID_NAME", `"a.b" ${NAME}`],
  ["with a parent folder", "..", "INVALID_NAME", `".." ${NAME}`],
  ["with a wildcard", "a*", "INVALID_NAME", `"a*" ${NAME}`],
  ["with all", ">", "INVALID_NAME", `">" ${NAME}`],
  ["with a dollar", "$JS", "INVALID_NAME", `"$JS" ${NAME}`],
  ["with a line break", "a\r\nPUB x 0", "INVALID_NAME", `"a\\r\\nPUB x 0" ${NAME}`],
  ["with a line break at the end", "a\n", "INVALID_NAME", `"a\\n" ${NAME}`],
  ["with a zero byte", "a\0", "INVALID_NAME", `"a\\u0000" ${NAME}`],
  ["of another alphabet", "größe", "INVALID_NAME", `"größe" ${NAME}`],
  ["of 300 characters", "n".repeat(300), "INVALID_NAME", `"${"n".repeat(100)}…" is longer than 255 characters`],
  ["of 256 characters", "n".repeat(256), "INVALID_NAME", `"${"n".repeat(100)}…" is longer than 255 characters`],
];

const MALFORMED_SUBJECTS = [
  ["with a space", "a b"],
  ["with an empty token", "a..b"],
  ["with a dot before", ".a"],
  ["with a dot behind", "a."],
  ["of a dot", "."],
  ["with a slash", "a/b"],
  ["with a dollar", "$JS.API.>"],
  ["with a line break", "a\r\nb"],
  ["of another alphabet", "größe"],
  ["of an emoji", "a.🙂"],
] as const;

const MANY = Array.from({ length: 1001 }, (_, index) => `many-${index}`);
const TOO_MANY = "has 1001 entries, at most 1000 may be";
const TOO_LONG = "s".repeat(1025);
const tooLong: Fault = ["INVALID_SUBJECT", `"${"s".repeat(100)}…" is longer than 1024 characters`];

const BAD_SUBJECTS: [what: string, subject: string, ...fault: Fault][] = [
  ["empty", "", "MISSING_FIELD", "is required"],
  ...[
    ...MALFORMED_SUBJECTS,
    ["with a wildcard", "a.*"] as const,
    ["of all", ">"] as const,
    ["below", "a.>"] as const,
  ].map(
    ([what, subject]) =>
      [what, subject, "INVALID_SUBJECT", `${JSON.stringify(subject)} ${SUBJECT}`] as [string, string, string, string],
  ),
  ["that is too long", TOO_LONG, ...tooLong],
];

const BAD_FILTERS: [what: string, filter: string, ...fault: Fault][] = [
  ["empty", "", "MISSING_FIELD", "is required"],
  ...[
    ...MALFORMED_SUBJECTS,
    ["with a wildcard in a token", "a.b*"] as const,
    ["with a wildcard before a token", "a.*b"] as const,
    ["with all in the middle", "a.>.b"] as const,
    ["with all in a token", "a.b>"] as const,
    ["with all twice", ">.>"] as const,
  ].map(
    ([what, filter]) =>
      [what, filter, "INVALID_SUBJECT", `${JSON.stringify(filter)} ${FILTER}`] as [string, string, string, string],
  ),
  ["that is too long", TOO_LONG, ...tooLong],
];

const BAD_DURATIONS: [what: string, duration: { seconds: bigint; nanos: number }, ...fault: Fault][] = [
  ["negative", duration(-1), "INVALID_VALUE", "-1 s and 0 ns is negative"],
  ["negative by a nanosecond", duration(0, -1), "INVALID_VALUE", "0 s and -1 ns is negative"],
  ["of two signs", duration(1, -1), "INVALID_VALUE", "1 s and -1 ns is not a valid duration"],
  ["of too many nanoseconds", duration(1, 1_000_000_000), "INVALID_VALUE", /^1 s and 1000000000 ns is not a valid/],
  ["of 10,001 years", duration(315_576_000_001), "INVALID_VALUE", /is not a valid duration$/],
  ["of 2^63 seconds", { seconds: 2n ** 63n - 1n, nanos: 0 }, "INVALID_VALUE", /is not a valid duration$/],
  ["of 293 years", duration(9_246_000_000), "INVALID_VALUE", "9246000000 s and 0 ns is longer than 292 years"],
];

const BAD_TIMES: [what: string, time: { seconds: bigint; nanos: number }, ...fault: Fault][] = [
  ["before the year 1", { seconds: -62_135_596_801n, nanos: 0 }],
  ["after the year 9999", { seconds: 253_402_300_800n, nanos: 0 }],
  ["of 2^63 seconds", { seconds: 2n ** 63n - 1n, nanos: 0 }],
  ["of -2^63 seconds", { seconds: -(2n ** 63n), nanos: 0 }],
  ["of negative nanoseconds", { seconds: 1n, nanos: -1 }],
  ["of too many nanoseconds", { seconds: 1n, nanos: 1_000_000_000 }],
].map(([what, time]) => [what, time, "INVALID_VALUE", /is not a time in the years 1 to 9999$/]) as never;

/** Checks what the client is told about one wrong field. */
function expectFault(error: CallError, field: string, [reason, says]: Fault): void {
  expect(error).toMatchObject({
    status: "INVALID_ARGUMENT",
    reason,
    domain: "windshift",
    fields: [field],
    retryAfterMs: undefined,
  });
  expect(error.message.startsWith(`${field}: `)).toBe(true);
  const problem = error.message.slice(field.length + 2);
  if (typeof says === "string") expect(problem).toBe(says);
  else expect(problem).toMatch(says);
}

/** A stream that collects `name.>`. */
async function ensureStream(client: Client): Promise<string> {
  const name = uniqueName();
  await client.ensureStream({ name, source: collects(`${name}.>`) });
  return name;
}

/** A wrong call beside a good one on the same connection, which succeeds. */
async function failureBeside(client: Client, stream: string, wrong: Promise<unknown>): Promise<CallError> {
  const [error, id] = await Promise.all([failure(wrong), client.publish(`${stream}.good`)]);
  expect(id).toBeGreaterThan(0n);
  return error;
}

describe("EnsureStream refuses", () => {
  const origin = { name: "origin" };
  const wrong: [what: string, request: StreamRequest, field: string, ...fault: Fault][] = [
    ...BAD_NAMES.map(
      ([what, name, ...fault]) =>
        [`a name ${what}`, { name, source: collects("bad.a") }, "name", ...fault] as (typeof wrong)[number],
    ),
    ["no source", {}, "source", "MISSING_FIELD", "one of subjects, mirror and aggregate is required"],
    ...[">", "*.>", "*.a.b"].map(
      (subject) =>
        [
          `subjects with those of NATS itself: ${subject}`,
          { source: collects("bad", subject) },
          "subjects.subjects[1]",
          ...(subject === ">"
            ? ["CONFLICTING_FIELDS", '">" overlaps with "bad"']
            : ["INVALID_SUBJECT", `"${subject}" takes in the subjects of NATS itself`]),
        ] as (typeof wrong)[number],
    ),
    [
      "all subjects",
      { source: collects(">") },
      "subjects.subjects[0]",
      "INVALID_SUBJECT",
      '">" takes in the subjects of NATS itself',
    ],
    ["1,001 subjects", { source: collects(...MANY) }, "subjects.subjects", "INVALID_VALUE", TOO_MANY],
    [
      "a mirror with 1,001 filters",
      { source: { case: "mirror", value: { ...origin, filterSubjects: MANY } } },
      "mirror.filter_subjects",
      "INVALID_VALUE",
      TOO_MANY,
    ],
    [
      "an aggregate of 1,001 streams",
      { source: { case: "aggregate", value: { sources: MANY.map((name) => ({ name })) } } },
      "aggregate.sources",
      "INVALID_VALUE",
      TOO_MANY,
    ],
    ["no subjects", { source: collects() }, "subjects.subjects", "MISSING_FIELD", "must name at least one subject"],
    ...BAD_FILTERS.map(
      ([what, filter, ...fault]) =>
        [
          `a subject ${what}`,
          { source: collects("bad.a", filter) },
          "subjects.subjects[1]",
          ...fault,
        ] as (typeof wrong)[number],
    ),
    ...BAD_NAMES.flatMap(([what, name, ...fault]) => [
      [
        `a mirror of a stream with a name ${what}`,
        { source: { case: "mirror", value: { name } } },
        "mirror.name",
        ...fault,
      ] as (typeof wrong)[number],
      [
        `an aggregate of a stream with a name ${what}`,
        { source: { case: "aggregate", value: { sources: [origin, { name }] } } },
        "aggregate.sources[1].name",
        ...fault,
      ] as (typeof wrong)[number],
    ]),
    ...BAD_FILTERS.flatMap(([what, filter, ...fault]) => [
      [
        `a mirror with a filter ${what}`,
        { source: { case: "mirror", value: { ...origin, filterSubjects: ["a", filter] } } },
        "mirror.filter_subjects[1]",
        ...fault,
      ] as (typeof wrong)[number],
      [
        `an aggregate with a filter ${what}`,
        { source: { case: "aggregate", value: { sources: [{ ...origin, filterSubjects: [filter] }] } } },
        "aggregate.sources[0].filter_subjects[0]",
        ...fault,
      ] as (typeof wrong)[number],
    ]),
    ...BAD_TIMES.flatMap(([what, value, ...fault]) => [
      [
        `a mirror from a time ${what}`,
        { source: { case: "mirror", value: { ...origin, from: { pointer: { case: "time", value } } } } },
        "mirror.from.time",
        ...fault,
      ] as (typeof wrong)[number],
      [
        `an aggregate from a time ${what}`,
        {
          source: {
            case: "aggregate",
            value: { sources: [{ ...origin, from: { pointer: { case: "time", value } } }] },
          },
        },
        "aggregate.sources[0].from.time",
        ...fault,
      ] as (typeof wrong)[number],
    ]),
    [
      "a mirror from an id that is too large",
      {
        source: { case: "mirror", value: { ...origin, from: { pointer: { case: "offset", value: 2n ** 64n - 1n } } } },
      },
      "mirror.from.offset",
      "INVALID_VALUE",
      "18446744073709551615 is larger than any id",
    ],
    [
      "a mirror with filters that overlap",
      { source: { case: "mirror", value: { ...origin, filterSubjects: ["origin.a", "origin.*"] } } },
      "mirror.filter_subjects[1]",
      "CONFLICTING_FIELDS",
      '"origin.*" overlaps with "origin.a"',
    ],
    [
      "an aggregate with the same filter twice",
      { source: { case: "aggregate", value: { sources: [{ ...origin, filterSubjects: ["origin.a", "origin.a"] }] } } },
      "aggregate.sources[0].filter_subjects[1]",
      "CONFLICTING_FIELDS",
      '"origin.a" overlaps with "origin.a"',
    ],
    [
      "an aggregate of nothing",
      { source: { case: "aggregate", value: { sources: [] } } },
      "aggregate.sources",
      "MISSING_FIELD",
      "must name at least one stream",
    ],
    [
      "an aggregate of the same stream twice",
      { source: { case: "aggregate", value: { sources: [origin, origin] } } },
      "aggregate.sources[1]",
      "CONFLICTING_FIELDS",
      '"origin" is there already with the same filters',
    ],
    [
      "a mirror of itself",
      { name: "itself", source: { case: "mirror", value: { name: "itself" } } },
      "mirror.name",
      "INVALID_VALUE",
      '"itself" is the stream itself',
    ],
    [
      "an aggregate of itself",
      { name: "itself", source: { case: "aggregate", value: { sources: [{ name: "itself" }] } } },
      "aggregate.sources[0].name",
      "INVALID_VALUE",
      '"itself" is the stream itself',
    ],
    [
      "subjects that overlap",
      { source: collects("bad.a.b", "bad.*.b") },
      "subjects.subjects[1]",
      "CONFLICTING_FIELDS",
      '"bad.*.b" overlaps with "bad.a.b"',
    ],
    [
      "the same subject twice",
      { source: collects("bad.a", "bad.b", "bad.a") },
      "subjects.subjects[2]",
      "CONFLICTING_FIELDS",
      '"bad.a" overlaps with "bad.a"',
    ],
    ...BAD_DURATIONS.flatMap(([what, value, ...fault]) => [
      [
        `a max_age ${what}`,
        { retentionPolicy: { maxAge: value } },
        "retention_policy.max_age",
        ...fault,
      ] as (typeof wrong)[number],
      [
        `a deduplication_window ${what}`,
        { deduplicationWindow: value },
        "deduplication_window",
        ...fault,
      ] as (typeof wrong)[number],
    ]),
    [
      "a max_age below 100 ms",
      { retentionPolicy: { maxAge: duration(0, 99_999_999) } },
      "retention_policy.max_age",
      "INVALID_VALUE",
      "99.999999 ms is not at least 100 ms, or 0 for the default",
    ],
    [
      "a deduplication_window below 100 ms",
      { deduplicationWindow: duration(0, 1) },
      "deduplication_window",
      "INVALID_VALUE",
      "0.000001 ms is not at least 100 ms, or 0 for the default",
    ],
    [
      "a deduplication_window longer than max_age",
      { deduplicationWindow: duration(61), retentionPolicy: { maxAge: duration(60) } },
      "deduplication_window",
      "CONFLICTING_FIELDS",
      "61000 ms is longer than retention_policy.max_age, 60000 ms",
    ],
    [
      "an unknown discard_policy",
      { retentionPolicy: { discardPolicy: 99 as DiscardPolicy } },
      "retention_policy.discard_policy",
      "INVALID_VALUE",
      "99 is no discard policy",
    ],
    [
      "a negative discard_policy",
      { retentionPolicy: { discardPolicy: -1 as DiscardPolicy } },
      "retention_policy.discard_policy",
      "INVALID_VALUE",
      "-1 is no discard policy",
    ],
    ...[undefined, DiscardPolicy.UNSPECIFIED, DiscardPolicy.OLD].map(
      (discardPolicy) =>
        [
          `discard_new_per_subject with discard_policy ${discardPolicy ?? "left out"}`,
          {
            retentionPolicy: {
              ...(discardPolicy === undefined ? {} : { discardPolicy }),
              discardNewPerSubject: true,
              maxEventsPerSubject: 1n,
            },
          },
          "retention_policy.discard_new_per_subject",
          "CONFLICTING_FIELDS",
          "needs discard_policy to be DISCARD_POLICY_NEW",
        ] as (typeof wrong)[number],
    ),
    ...[undefined, 0n, 2n ** 63n].map(
      (maxEventsPerSubject) =>
        [
          `discard_new_per_subject with max_events_per_subject ${maxEventsPerSubject ?? "left out"}`,
          {
            retentionPolicy: {
              ...(maxEventsPerSubject === undefined ? {} : { maxEventsPerSubject }),
              discardPolicy: DiscardPolicy.NEW,
              discardNewPerSubject: true,
            },
          },
          "retention_policy.discard_new_per_subject",
          "CONFLICTING_FIELDS",
          "needs max_events_per_subject",
        ] as (typeof wrong)[number],
    ),
    [
      "an unknown storage type",
      { storage: { type: 99 as never } },
      "storage.type",
      "INVALID_VALUE",
      "99 is no storage type",
    ],
    ["6 replicas", { storage: { replicas: 6 } }, "storage.replicas", "INVALID_VALUE", "6 is not between 1 and 5"],
    [
      "2^32 - 1 replicas",
      { storage: { replicas: 2 ** 32 - 1 } },
      "storage.replicas",
      "INVALID_VALUE",
      "4294967295 is not between 1 and 5",
    ],
  ];
  test.for(wrong)("%s", async ([what, request, field, ...fault], { client, jsm }) => {
    const stream = await ensureStream(client);
    await client.ensureStream({ name: "origin", source: collects("origin.>") });
    const source = what === "no source" ? {} : { source: collects("bad.a") };
    const call = client.ensureStream({ name: "bad", ...source, ...request });
    expectFault(await failureBeside(client, stream, call), field, fault);
    await expect(jsm.streams.info("bad")).rejects.toThrow("stream not found");
  });

  test("a circle of aggregates", async ({ client }) => {
    const [one, two] = [uniqueName(), uniqueName()];
    await client.ensureStream({ name: one, source: collects(`${one}.>`) });
    await client.ensureStream({ name: two, source: { case: "aggregate", value: { sources: [{ name: one }] } } });
    const call = client.ensureStream({
      name: one,
      source: { case: "aggregate", value: { sources: [{ name: two }] } },
    });
    expect(await failure(call)).toMatchObject({ status: "INVALID_ARGUMENT", reason: "CONFIGURATION_INVALID" });
  });
});

describe("lists of 1,000", () => {
  test("are taken", async ({ client, jsm }) => {
    const stream = uniqueName();
    const subjects = Array.from({ length: 1000 }, (_, index) => `${stream}.${index}`);
    await client.ensureStream({ name: stream, source: collects(...subjects) });
    await client.ensureConsumer({ stream, name: "c", subjects });
    const source = { case: "mirror" as const, value: { name: stream, filterSubjects: subjects } };
    await client.ensureStream({ name: `${stream}-mirror`, source });
    expect((await jsm.streams.info(stream)).config.subjects).toHaveLength(1000);
    expect((await jsm.consumers.info(stream, "c")).config.filter_subjects).toHaveLength(1000);
  });
});

test("lists too large for NATS are refused, and the connection to it stays", async () => {
  await using nats = await startNats({ config: "max_payload: 64KB" });
  await using windshift = await startWindshift(nats.url);
  const { client } = windshift;
  const stream = await ensureStream(client);
  const filterSubjects = Array.from({ length: 100 }, (_, index) => `${index}.`.padEnd(1000, "x"));
  const source = { case: "aggregate" as const, value: { sources: [{ name: stream, filterSubjects }] } };
  const error = await failureBeside(client, stream, client.ensureStream({ name: "bad", source }));
  expect(error).toMatchObject({
    status: "RESOURCE_EXHAUSTED",
    reason: "MESSAGE_TOO_LARGE",
    metadata: { stream: "bad", outcome: "not_stored" },
  });
});

test("more filters than may be are refused however they are spread over sources", async ({ client }) => {
  const stream = await ensureStream(client);
  const filters = (source: number) => Array.from({ length: 501 }, (_, index) => `f${source}.${index}`);
  const sources = [0, 1].map((source) => ({ name: stream, filterSubjects: filters(source) }));
  const wrong = client.ensureStream({ name: "bad", source: { case: "aggregate", value: { sources } } });
  const error = await failureBeside(client, stream, wrong);
  expectFault(error, "aggregate.sources.filter_subjects", ["INVALID_VALUE", "has 1002 entries, at most 1000 may be"]);
});

describe("EnsureConsumer refuses", () => {
  const wrong: [what: string, request: ConsumerRequest, field: string, ...fault: Fault][] = [
    ...BAD_NAMES.map(
      ([what, stream, ...fault]) => [`a stream ${what}`, { stream }, "stream", ...fault] as (typeof wrong)[number],
    ),
    ...BAD_NAMES.filter(([, name]) => name !== "").map(
      ([what, name, ...fault]) => [`a name ${what}`, { name }, "name", ...fault] as (typeof wrong)[number],
    ),
    ["1,001 subjects", { subjects: MANY }, "subjects", "INVALID_VALUE", TOO_MANY],
    ["no subjects", { subjects: [] }, "subjects", "MISSING_FIELD", "must name at least one subject"],
    ...BAD_FILTERS.map(
      ([what, filter, ...fault]) =>
        [`a subject ${what}`, { subjects: ["a", filter] }, "subjects[1]", ...fault] as (typeof wrong)[number],
    ),
    [
      "subjects that overlap",
      { subjects: ["a.>", "a.b"] },
      "subjects[1]",
      "CONFLICTING_FIELDS",
      '"a.b" overlaps with "a.>"',
    ],
    [
      "the same subject twice",
      { subjects: ["a", "b", "b"] },
      "subjects[2]",
      "CONFLICTING_FIELDS",
      '"b" overlaps with "b"',
    ],
    ...BAD_TIMES.map(
      ([what, value, ...fault]) =>
        [
          `a beginning at a time ${what}`,
          { from: { pointer: { case: "time", value } } },
          "from.time",
          ...fault,
        ] as (typeof wrong)[number],
    ),
    [
      "an id that is too large",
      { from: { pointer: { case: "offset", value: 2n ** 53n } } },
      "from.offset",
      "INVALID_VALUE",
      "9007199254740992 is larger than any id",
    ],
    ...BAD_DURATIONS.map(
      ([what, processingTimeout, ...fault]) =>
        [
          `a processing_timeout ${what}`,
          { processingTimeout },
          "processing_timeout",
          ...fault,
        ] as (typeof wrong)[number],
    ),
    [
      "a processing_timeout below 1 ms",
      { processingTimeout: duration(0, 1) },
      "processing_timeout",
      "INVALID_VALUE",
      "0.000001 ms is not at least 1 ms",
    ],
  ];
  test.for(wrong)("%s", async ([, request, field, ...fault], { client, jsm }) => {
    const stream = await ensureStream(client);
    const call = client.ensureConsumer({ stream, name: "bad", subjects: [">"], ...request });
    expectFault(await failureBeside(client, stream, call), field, fault);
    expect((await jsm.streams.info(stream)).state.consumer_count).toBe(0);

    // The same for one that exists.
    await client.ensureConsumer({ stream, name: "bad", subjects: [">"] });
    expectFault(
      await failure(client.ensureConsumer({ stream, name: "bad", subjects: [">"], ...request })),
      field,
      fault,
    );
  });
});

describe("DeleteConsumer refuses", () => {
  const wrong = BAD_NAMES.flatMap(([what, name, ...fault]) => [
    { what: `a stream ${what}`, request: { stream: name, id: "c" }, field: "stream", fault },
    { what: `an id ${what}`, request: { stream: "s", id: name }, field: "id", fault },
  ]);
  test.for(wrong)("$what", async ({ request, field, fault }, { client }) => {
    const stream = await ensureStream(client);
    expectFault(await failureBeside(client, stream, client.deleteConsumer(request)), field, fault);
  });
});

describe("PublishEvent refuses", () => {
  const wrong: [what: string, request: PublishRequest, field: string, ...fault: Fault][] = [
    ...BAD_SUBJECTS.map(
      ([what, subject, ...fault]) => [`a subject ${what}`, { subject }, "subject", ...fault] as (typeof wrong)[number],
    ),
    ["no data", {}, "data", "MISSING_FIELD", "is required"],
    ...BAD_TIMES.map(
      ([what, timestamp, ...fault]) =>
        [`a timestamp ${what}`, { timestamp }, "timestamp", ...fault] as (typeof wrong)[number],
    ),
  ];
  test.for(wrong)("%s", async ([what, request, field, ...fault], { client, jsm }) => {
    const stream = await ensureStream(client);
    const data = what === "no data" ? {} : { data: textValue("x") };
    const call = { subject: `${stream}.a`, ...data, ...request };
    expectFault(await failureBeside(client, stream, client.publishEvent(call)), field, fault);
    expectFault(await failure(client.publishByOldName(call)), field, fault);
    expect((await jsm.streams.info(stream)).state.messages).toBe(1);
  });

  test("no data it does not understand", async ({ client }) => {
    const stream = await ensureStream(client);
    for (const typeUrl of ["", "x", "/", "a b", "type.googleapis.com/", "\r\nX: y", "💥"]) {
      const data = { typeUrl, value: new Uint8Array([255, 0, 13, 10]) };
      expect((await client.publishEvent({ subject: `${stream}.a`, data })).id).toBeGreaterThan(0n);
    }
  });
});

describe("Events ends with INVALID_ARGUMENT", () => {
  type Message = MessageInitShape<typeof EventsRequestSchema>["request"];
  const subscribe = (value: object): Message => ({ case: "subscribe", value });

  const first: [what: string, message: Message, field: string, ...fault: Fault][] = [
    ...BAD_NAMES.map(
      ([what, stream, ...fault]) =>
        [
          `a stream ${what}`,
          subscribe({ stream, consumer: "c" }),
          "subscribe.stream",
          ...fault,
        ] as (typeof first)[number],
    ),
    ...BAD_NAMES.map(
      ([what, consumer, ...fault]) =>
        [
          `a consumer ${what}`,
          subscribe({ stream: "s", consumer }),
          "subscribe.consumer",
          ...fault,
        ] as (typeof first)[number],
    ),
  ];
  test.for(first)("for %s", async ([, message, field, ...fault], { client }) => {
    const stream = await ensureStream(client);
    const call = client.events();
    call.send(message);
    expectFault(await failureBeside(client, stream, call.next()), field, fault);
  });

  test.for<[what: string, message: Message]>([
    ["an ack", { case: "ack", value: { ids: [1n] } }],
    ["a reject", { case: "reject", value: { ids: [1n] } }],
    ["a ping", { case: "ping", value: { ids: [1n] } }],
    ["an empty message", undefined],
  ])("when %s comes first", async ([, message], { client }) => {
    const stream = await ensureStream(client);
    const call = client.events();
    call.send(message);
    const error = await failureBeside(client, stream, call.next());
    expect(error).toMatchObject({ status: "INVALID_ARGUMENT", reason: "UNEXPECTED_MESSAGE", domain: "windshift" });
    expect(error.message).toContain("subscribe");
  });

  const later: [what: string, message: Message, reason: string, field: string, says: RegExp][] = [
    ["a second subscribe", subscribe({ stream: "s", consumer: "c" }), "UNEXPECTED_MESSAGE", "subscribe", /subscribe/],
    [
      "a reject both permanent and delayed",
      { case: "reject", value: { ids: [], permanently: true, delay: duration(1) } },
      "CONFLICTING_FIELDS",
      "reject.delay",
      /permanently/,
    ],
    [
      "a reject with a delay of 0",
      { case: "reject", value: { ids: [], delay: duration(0) } },
      "INVALID_VALUE",
      "reject.delay",
      /^reject\.delay: /,
    ],
    ...BAD_DURATIONS.map(
      ([what, delay, reason]) =>
        [
          `a reject with a delay ${what}`,
          { case: "reject", value: { ids: [], delay } },
          reason,
          "reject.delay",
          /^reject\.delay: /,
        ] as (typeof later)[number],
    ),
  ];
  test.for(later)("at %s", async ([, message, reason, field, says], { client }) => {
    const stream = await ensureStream(client);
    const { id } = await client.ensureConsumer({ stream, subjects: [`${stream}.a`] });
    const call = await client.subscribe(stream, id);
    call.send(message);
    const error = await failureBeside(client, stream, call.next());
    expect(error).toMatchObject({ status: "INVALID_ARGUMENT", reason, domain: "windshift", fields: [field] });
    expect(error.message).toMatch(says);

    // The consumer goes on with the next subscriber.
    const next = await client.subscribe(stream, id);
    await client.publish(`${stream}.a`);
    await next.ackNow((await next.event()).id);
    await next.cancel();
  });
});

describe("Events takes", () => {
  test.for([0n, 1n, 2n ** 32n, 2n ** 40n, 2n ** 63n, 2n ** 64n - 1n])(
    "a max_processing_events of %s",
    async (window, { client }) => {
      const stream = await ensureStream(client);
      const { id } = await client.ensureConsumer({ stream, subjects: [`${stream}.a`] });
      const call = await client.subscribe(stream, id, window);
      await client.publish(`${stream}.a`);
      await call.ackNow((await call.event()).id);
      await call.cancel();
    },
  );

  test.for(["ack", "reject", "ping"] as const)(
    "a request to %s ids that were never delivered, as invalid",
    async (kind, { client }) => {
      const stream = await ensureStream(client);
      const { id } = await client.ensureConsumer({ stream, subjects: [`${stream}.a`] });
      const call = await client.subscribe(stream, id);
      const ids = [0n, 1n, 2n ** 53n, 2n ** 53n + 1n, 2n ** 64n - 1n];
      call.send({ case: kind, value: { ids } });
      expect(await call.confirmation()).toEqual({ ids: [], invalidIds: ids, temporaryFailedIds: [] });
      call.send({ case: kind, value: { ids: [] } });
      expect(await call.confirmation()).toEqual({ ids: [], invalidIds: [], temporaryFailedIds: [] });
      // An empty message is ignored.
      call.send(undefined);
      await client.publish(`${stream}.a`);
      await call.ackNow((await call.event()).id);
      await call.cancel();
    },
  );
});

describe("bytes that are no such message", () => {
  const GARBAGE: [what: string, bytes: Uint8Array][] = [
    ["text", Buffer.from("this is not protobuf")],
    ["JSON", Buffer.from('{"subject":"a"}')],
    ["all ones", Buffer.alloc(64, 0xff)],
    ["a field that is cut off", Buffer.from([0x0a, 0x7f, 0x61])],
    ["a number that is cut off", Buffer.from([0x0a, 0x80])],
    ["a field with number 0", Buffer.from([0x02, 0x00])],
    ["a wire type that is not valid", Buffer.from([0x0f])],
    ["a group without an end", Buffer.from([0x7b])],
    ["an end without a group", Buffer.from([0x7c])],
    ["groups nested deeply", Buffer.alloc(100_000, 0x7b)],
    ["a length of 2^64", Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01])],
  ];
  const unary = ["EnsureStream", "EnsureConsumer", "DeleteConsumer", "PublishEvent", "Publish"].flatMap((method) =>
    GARBAGE.map(([what, bytes]) => ({ method, what, bytes })),
  );
  test.for(unary)("$method refuses $what", async ({ method, bytes }, { client }) => {
    const stream = await ensureStream(client);
    const error = await failureBeside(client, stream, client.raw(`${EVENTS}${method}`, bytes));
    expect(error).toMatchObject({ status: "INVALID_ARGUMENT", reason: "MALFORMED_MESSAGE", domain: "windshift" });
    expect(error.message).toContain(`EventsService/${method === "Publish" ? "PublishEvent" : method}`);
  });

  const streaming = ["Events", "Consume"].flatMap((method) =>
    GARBAGE.map(([what, bytes]) => ({ method, what, bytes })),
  );
  test.for(streaming)("$method ends at $what", async ({ method, bytes }, { client }) => {
    const stream = await ensureStream(client);
    const { id: consumer } = await client.ensureConsumer({ stream, subjects: [`${stream}.a`] });
    for (const subscribed of [false, true]) {
      const { promise, resolve } = Promise.withResolvers<{ code: number; details: string }>();
      const call = client.grpc.makeBidiStreamRequest(
        `${EVENTS}${method}`,
        (request: EventsRequest | Uint8Array) =>
          Buffer.from(request instanceof Uint8Array ? request : toBinary(EventsRequestSchema, request)),
        (response: Buffer) => response,
      );
      call.on("data", () => undefined);
      call.on("error", (error) => resolve(error as never));
      if (subscribed) {
        const value = { stream, consumer };
        call.write(create(EventsRequestSchema, { request: { case: "subscribe", value } }));
      }
      call.write(bytes);
      expect(await promise).toMatchObject({ code: 3, details: expect.stringContaining("EventsService/Events") });
    }
    expect(await client.publish(`${stream}.good`)).toBe(1n);
  });

  test("an empty request lacks its name", async ({ client }) => {
    for (const [method, field] of [
      ["EnsureStream", "source"],
      ["EnsureConsumer", "stream"],
      ["DeleteConsumer", "stream"],
      ["PublishEvent", "data"],
    ]) {
      const error = await failure(client.raw(`${EVENTS}${method}`, new Uint8Array()));
      expect(error).toMatchObject({ status: "INVALID_ARGUMENT", reason: "MISSING_FIELD", fields: [field] });
    }
  });

  test("texts that are not UTF-8 are refused", async ({ client }) => {
    for (const method of ["EnsureStream", "EnsureConsumer", "DeleteConsumer", "PublishEvent"]) {
      const error = await failure(client.raw(`${EVENTS}${method}`, Buffer.from([0x0a, 0x02, 0x61, 0xff])));
      expect(error).toMatchObject({ status: "INVALID_ARGUMENT", domain: "windshift" });
    }
  });

  test("fields that nobody knows are ignored", async ({ client }) => {
    const stream = await ensureStream(client);
    const subject = Buffer.from(`${stream}.a`);
    // Fields 1000 (a number), 1001 (a byte) and 127 (a group).
    const unknown = [0xc0, 0x3e, 0x01, 0xca, 0x3e, 0x01, 0x00, 0xfb, 0x07, 0xfc, 0x07];
    const request = Buffer.from([0x0a, subject.length, ...subject, 0x12, 0x00, ...unknown]);
    await client.raw(`${EVENTS}PublishEvent`, request);
  });

  test("a message of 100 MB is refused, and other calls go on", async ({ client, windshift }) => {
    const stream = await ensureStream(client);
    const other = windshift.connect();
    const data = { typeUrl: "", value: new Uint8Array(100_000_000) };
    const error = await failureBeside(client, stream, other.publishEvent({ subject: `${stream}.a`, data }));
    expect(error).toMatchObject({ status: "RESOURCE_EXHAUSTED" });
    expect(await other.publish(`${stream}.a`)).toBeGreaterThan(0n);
  });
});

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  MAX_SECONDS,
  MIN_SECONDS,
  formatTimestamp,
  isValidTimestamp,
  now,
  parseTimestamp,
  readTimestamp,
} from "../../../src/events/timestamp.ts";

const timestamp = fc.record({
  seconds: fc.integer({ min: MIN_SECONDS, max: MAX_SECONDS }),
  nanos: fc.integer({ min: 0, max: 999_999_999 }),
});

test("every valid timestamp comes back from its text, to the nanosecond", () => {
  fc.assert(
    fc.property(timestamp, (time) => {
      expect(parseTimestamp(formatTimestamp(time))).toEqual(time);
    }),
  );
});

test("what was read before changes nothing", () => {
  const zone = fc.constantFrom("Z", "z", "+01:00", "-00:30", "");
  const fraction = fc.constantFrom("", ".5", ".000000001", ".1234567891", ".", ".5x");
  const second = fc.constantFrom(
    "2026-11-21T10:09:44",
    "2026-11-21T23:59:59",
    "2026-11-21T24:00:00",
    "2026-11-21T10:60:00",
    "2026-11-21T10:09:60",
    "2026-11-21T1x:09:45",
    "2026-11-22T00:00:00",
    "2026-11-21t10:09:44",
    "2026-02-30T10:09:44",
  );
  const text = fc.tuple(second, fraction, zone).map((parts) => parts.join(""));
  const alone = new Map<string, unknown>();
  fc.assert(
    fc.property(fc.array(text, { maxLength: 6 }), (texts) => {
      for (const each of texts) {
        // Another day in between forgets the one before.
        parseTimestamp("1999-12-31T23:59:59.5Z");
        if (!alone.has(each)) alone.set(each, parseTimestamp(each));
      }
      expect(texts.map(parseTimestamp)).toEqual(texts.map((each) => alone.get(each)));
    }),
  );
});

test("what lies around it changes nothing", () => {
  const text = fc.oneof(
    timestamp.map(formatTimestamp),
    fc.constantFrom("2026-11-21T10:09:44", "2026-11-21", "", "2026-11-21T10:09:44.5+01:00"),
  );
  fc.assert(
    fc.property(text, fc.constantFrom("", "2026-11-21T10:09:44Z", "55Z", ".5Z"), (each, around) => {
      const bytes = Buffer.from(around + each + around);
      const [start, end] = [around.length, around.length + each.length];
      expect(readTimestamp(bytes, start, end)).toEqual(parseTimestamp(each));
    }),
  );
});

test("the text is the one of Date, where that is exact", () => {
  const milliseconds = fc.integer({ min: MIN_SECONDS * 1000, max: MAX_SECONDS * 1000 });
  fc.assert(
    fc.property(milliseconds, (ms) => {
      const time = { seconds: Math.floor(ms / 1000), nanos: (((ms % 1000) + 1000) % 1000) * 1_000_000 };
      expect(new Date(formatTimestamp(time)).getTime()).toBe(ms);
    }),
  );
});

test("an offset moves the time, and nothing else", () => {
  fc.assert(
    fc.property(timestamp, fc.integer({ min: -1439, max: 1439 }), (time, minutes) => {
      const local = { seconds: time.seconds + minutes * 60, nanos: time.nanos };
      fc.pre(isValidTimestamp(local));
      const size = Math.abs(minutes);
      const digits = [Math.floor(size / 60), size % 60].map((part) => String(part).padStart(2, "0")).join(":");
      const text = formatTimestamp(local).replace("Z", `${minutes < 0 ? "-" : "+"}${digits}`);
      expect(parseTimestamp(text)).toEqual(time);
    }),
  );
});

test("characters that end as digits do are none", () => {
  expect(parseTimestamp("2023-11-14T22:13:20Z")).toBeDefined();
  for (let at = 0; at < 20; at++) {
    const text = "2023-11-14T22:13:20Z".split("").with(at, String.fromCharCode(0x130)).join("");
    expect(parseTimestamp(text)).toBeUndefined();
  }
});

test("no text makes parsing throw", () => {
  const text = fc.oneof(
    fc.string(),
    fc.string({ unit: fc.constantFrom(..."0123456789-:.TZ+".split("")), maxLength: 40 }),
  );
  fc.assert(
    fc.property(text, (any) => {
      const time = parseTimestamp(any);
      return time === undefined || isValidTimestamp(time);
    }),
  );
});

describe("texts that are read", () => {
  test.for([
    ["2023-11-14T22:13:20Z", 1_700_000_000, 0],
    ["2023-11-14t22:13:20.5z", 1_700_000_000, 500_000_000],
    ["2023-11-14T22:13:20.000000001Z", 1_700_000_000, 1],
    ["2023-11-14T22:13:20.1234567891Z", 1_700_000_000, 123_456_789],
    ["2023-11-15T00:13:20+02:00", 1_700_000_000, 0],
    ["2023-11-14T16:43:20-05:30", 1_700_000_000, 0],
    ["1969-12-31T23:59:59.9Z", -1, 900_000_000],
    ["0001-01-01T00:00:00Z", MIN_SECONDS, 0],
    ["9999-12-31T23:59:59.999999999Z", MAX_SECONDS, 999_999_999],
    ["2000-02-29T00:00:00Z", 951_782_400, 0],
    ["0099-03-01T00:00:00Z", -59_037_897_600, 0],
    // A leap second is the first second of the next day.
    ["2016-12-31T23:59:60Z", 1_483_228_800, 0],
    ["2017-01-01T00:59:60.5+01:00", 1_483_228_800, 500_000_000],
  ] as const)("%s", ([text, seconds, nanos]) => {
    expect(parseTimestamp(text)).toEqual({ seconds, nanos });
  });
});

describe("texts that are not RFC 3339 within the years 1 to 9999", () => {
  test.for([
    "",
    "2023-11-14",
    "2023-11-14 22:13:20Z",
    "2023-11-14T22:13:20",
    "2023-11-14T22:13:20.Z",
    "2023-00-14T22:13:20Z",
    "2023-13-14T22:13:20Z",
    "2023-11-00T22:13:20Z",
    "2023-11-31T22:13:20Z",
    "2023-02-29T22:13:20Z",
    "2023-02-30T23:59:60Z",
    "1900-02-29T00:00:00Z",
    "2023-11-14T24:00:00Z",
    "2023-11-14T22:60:00Z",
    "2023-11-14T22:13:61Z",
    "2023-11-14T22:13:20+24:00",
    "2023-11-14T22:13:20+01:60",
    "0000-12-31T23:59:59Z",
    "0001-01-01T00:00:00+01:00",
    "9999-12-31T23:59:59-01:00",
    "12023-11-14T22:13:20Z",
    " 2023-11-14T22:13:20Z",
    "2023-11-14T22:13:20Z\n",
  ])("%j", (text) => {
    expect(parseTimestamp(text)).toBeUndefined();
  });
});

describe("a timestamp is valid", () => {
  test.for([
    [MIN_SECONDS, 0, true],
    [MIN_SECONDS - 1, 999_999_999, false],
    [MAX_SECONDS, 999_999_999, true],
    [MAX_SECONDS + 1, 0, false],
    [0, -1, false],
    [0, 1_000_000_000, false],
  ] as const)("%i s and %i ns: %s", ([seconds, nanos, valid]) => {
    expect(isValidTimestamp({ seconds, nanos })).toBe(valid);
  });

  test("the time now", () => {
    expect(isValidTimestamp(now())).toBe(true);
  });
});

import { fromBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { status } from "@grpc/grpc-js";
import { describe, expect, test } from "vitest";
import { type ErrorOptions, REASONS, type Reason, WindshiftError, fieldError, quote } from "../../../src/errors.ts";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../../../src/gen/google/rpc/error_details_pb.ts";
import { StatusSchema } from "../../../src/gen/google/rpc/status_pb.ts";
import { CODES, Code, asWindshiftError, toStatus } from "../../../src/grpc/errors.ts";

/** The status of an error, its details opened. */
function opened(reason: Reason, options: ErrorOptions = {}) {
  const { code, message, details } = toStatus(new WindshiftError(reason, "the message", options));
  const inner = fromBinary(StatusSchema, details!);
  expect({ code: inner.code, message: inner.message }).toEqual({ code, message });
  const find = <T>(open: (detail: (typeof inner.details)[number]) => T | undefined): T | undefined =>
    inner.details.map(open).find((detail) => detail !== undefined);
  return {
    code,
    message,
    count: inner.details.length,
    info: find((detail) => anyUnpack(detail, ErrorInfoSchema)),
    badRequest: find((detail) => anyUnpack(detail, BadRequestSchema)),
    retry: find((detail) => anyUnpack(detail, RetryInfoSchema)),
  };
}

describe("every reason has a status", () => {
  test.for(REASONS)("%s", (reason) => {
    const { code, message, info, count } = opened(reason);
    expect(code).toBe(CODES[reason]);
    expect(status[code]).toBe(Object.keys(Code).find((name) => Code[name as keyof typeof Code] === code));
    expect([status.OK, status.UNKNOWN]).not.toContain(code);
    expect(message).toBe("the message");
    expect(info).toMatchObject({ reason, domain: "windshift", metadata: {} });
    expect(count).toBe(1);
  });

  test("no status is chosen for what is no reason", () => {
    expect(Object.keys(CODES).sort()).toEqual([...REASONS].sort());
  });
});

describe("details of a status", () => {
  test("names are in the metadata", () => {
    const { info } = opened("STORE_NOT_FOUND", { metadata: { store: "s" } });
    expect(info?.metadata).toEqual({ store: "s" });
  });

  test("the outcome of a write is in the metadata, beside the names", () => {
    const { info } = opened("NATS_UNAVAILABLE", { metadata: { store: "s" }, outcome: "unknown" });
    expect(info?.metadata).toEqual({ store: "s", outcome: "unknown" });
  });

  test("a wrong field has its path in a BadRequest", () => {
    const { badRequest } = opened("INVALID_VALUE", { field: "retention_policy.max_age" });
    expect(badRequest?.fieldViolations).toMatchObject([
      { field: "retention_policy.max_age", description: "the message" },
    ]);
  });

  test("a field that is at fault for the state alone has none", () => {
    expect(opened("REVISION_MISMATCH", { field: "last_revision" }).badRequest).toBeUndefined();
  });

  test.for([
    [0, 0n, 0],
    [100, 0n, 100_000_000],
    [1500, 1n, 500_000_000],
    [60_000, 60n, 0],
  ] as const)("a repeat that is safe after %i ms says so", ([retryAfterMs, seconds, nanos]) => {
    expect(opened("OVERLOADED", { retryAfterMs }).retry?.retryDelay).toMatchObject({ seconds, nanos });
  });

  test("where a repeat is not known to be safe, nothing says so", () => {
    expect(opened("NATS_UNAVAILABLE", { outcome: "unknown" }).retry).toBeUndefined();
  });

  test("the cause stays inside", () => {
    const { details } = toStatus(new WindshiftError("INTERNAL", "the message", { cause: new Error("secret") }));
    expect(Buffer.from(details!).includes("secret")).toBe(false);
  });
});

describe("what nobody foresaw", () => {
  test.for([
    ["an error", new TypeError("secret")],
    ["a text", "secret"],
    ["nothing", undefined],
  ] as const)("%s becomes INTERNAL with a plain text", ([, thrown]) => {
    const error = asWindshiftError(thrown);
    expect(error).toMatchObject({ reason: "INTERNAL", message: "the server failed; its log says why" });
    expect(error.cause).toBe(thrown);
  });

  test("an error of our own stays as it is", () => {
    const error = fieldError("INVALID_NAME", "name", "is wrong");
    expect(asWindshiftError(error)).toBe(error);
  });
});

describe("a value in a message", () => {
  test.for([
    ["a", '"a"'],
    ["a\n\0", String.raw`"a\n\u0000"`],
    ["\ud800", String.raw`"\ud800"`],
    ["x".repeat(100), `"${"x".repeat(100)}"`],
    ["x".repeat(101), `"${"x".repeat(100)}…"`],
  ] as const)("%j is quoted", ([value, quoted]) => {
    expect(quote(value)).toBe(quoted);
  });

  test("a number stands as it is", () => {
    expect(quote(42n)).toBe("42");
  });

  test("a character that the cut goes through does not break the status message", () => {
    // The library percent-encodes messages, and throws on half a character.
    expect(encodeURI(quote("x".repeat(99) + "😀".repeat(10)))).toContain("%5Cud83d");
  });
});

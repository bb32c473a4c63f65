import { describe, expect, test } from "vitest";
import {
  ConfigError,
  type Files,
  type Variable,
  hideCredentials,
  readVariables,
  shown,
} from "../../../src/config/env.ts";

const TABLE = [
  { name: "PORT", kind: "port", default: "80", description: "a port" },
  { name: "TOKEN", kind: "string", secret: true, description: "a secret" },
  { name: "CA", kind: "file", description: "a file" },
  { name: "NAME", kind: "string", description: "a name" },
] as const;

/** A file system of the given files. */
function filesOf(content: Record<string, string>): Files {
  const read = (path: string): string => {
    const text = content[path];
    if (text === undefined) throw Object.assign(new Error("no such file"), { code: "ENOENT" });
    return text;
  };
  return { read, check: read };
}

const NO_FILES = filesOf({});

describe("a variable", () => {
  test("has its default when it is unset or empty", () => {
    expect(readVariables(TABLE, {}, NO_FILES).values).toEqual({ PORT: 80 });
    const { values, sources } = readVariables(TABLE, { PORT: "", NAME: "  " }, NO_FILES);
    expect(values).toEqual({ PORT: 80 });
    expect([sources.get("PORT"), sources.get("NAME")]).toEqual(["default", "unset"]);
  });

  test("is read without the blanks around it", () => {
    expect(readVariables(TABLE, { PORT: " 8080 ", NAME: " a b " }, NO_FILES).values).toEqual({
      PORT: 8080,
      NAME: "a b",
    });
  });

  test("that names a file needs one that can be read", () => {
    expect(readVariables(TABLE, { CA: "/ca.pem" }, filesOf({ "/ca.pem": "" })).faults).toEqual([]);
    expect(readVariables(TABLE, { CA: "/ca.pem" }, NO_FILES).faults).toEqual([
      { variable: "CA", value: '"/ca.pem"', problem: "must be the path of a readable file: ENOENT" },
    ]);
  });

  test("that Kubernetes has set for a Service says so", () => {
    const { faults } = readVariables(TABLE, { PORT: "tcp://10.0.0.1:80" }, NO_FILES);
    expect(faults[0]?.problem).toContain("enableServiceLinks");
  });
});

describe("a secret", () => {
  test("is taken as it is", () => {
    expect(readVariables(TABLE, { TOKEN: " x " }, NO_FILES).values.TOKEN).toBe(" x ");
  });

  test("comes from a file, without the line break at its end", () => {
    const { values, sources } = readVariables(TABLE, { TOKEN_FILE: "/t" }, filesOf({ "/t": "s3cret\r\n" }));
    expect(values.TOKEN).toBe("s3cret");
    expect(sources.get("TOKEN")).toBe("file");
  });

  test.each<[string, Record<string, string>, Record<string, string>, RegExp]>([
    ["that is set twice", { TOKEN: "abc", TOKEN_FILE: "/t" }, { "/t": "s3cret" }, /TOKEN=\(hidden\): set either/],
    ["whose file is missing", { TOKEN_FILE: "/t" }, {}, /TOKEN_FILE="\/t": .*ENOENT/],
    ["whose file is empty", { TOKEN_FILE: "/t" }, { "/t": "\n" }, /TOKEN_FILE="\/t": .*empty/],
  ])("%s is a fault", (_, env, content, pattern) => {
    const error = new ConfigError(readVariables(TABLE, env, filesOf(content)).faults);
    expect(error.message).toMatch(pattern);
    expect(error.message).not.toMatch(/abc|s3cret/);
  });

  test("is never shown", () => {
    const secret: Variable = { name: "TOKEN", kind: "string", secret: true, description: "" };
    expect(shown(secret, "s3cret")).toBe("(hidden)");
  });
});

test("all faults are reported at once", () => {
  const { faults } = readVariables(TABLE, { PORT: "x", CA: "/nope", TOKEN_FILE: "/nope" }, NO_FILES);
  const error = new ConfigError(faults);
  expect(error.message.split("\n")).toHaveLength(4);
  expect(error.message).toMatch(/^the configuration has 3 faults:/);
  expect(new ConfigError(faults.slice(1, 2)).message).toMatch(/^the configuration has a fault:/);
});

test.each([
  ["nats://user:pass@host:4222", "nats://(hidden)@host:4222"],
  ["nats://u:p@a,nats://u:p@b", "nats://(hidden)@a,nats://(hidden)@b"],
  ["nats://u:p/w,x@host", "nats://(hidden)@host"],
  ["user:pass@host", "(hidden)@host"],
  ["nats://a:4222,nats://b:4222", "nats://a:4222,nats://b:4222"],
  ["plain", "plain"],
])("credentials in %s are hidden", (text, expected) => {
  expect(hideCredentials(text)).toBe(expected);
});

/** Which lists of header fields are a request, and which are trailers (RFC 9113, section 8). */
import { describe, expect, test } from "vitest";
import { HeaderList } from "../../../../src/grpc/engine/native/header-list.ts";
import { HeaderField } from "../../../../src/grpc/engine/native/hpack.ts";

type Pair = readonly [name: string, value: string];

const CONNECT: Pair[] = [
  [":method", "CONNECT"],
  [":authority", "localhost:1"],
];

const REQUEST: Pair[] = [
  [":method", "POST"],
  [":scheme", "http"],
  [":path", "/a.B/C"],
  [":authority", "localhost"],
];

function listOf(pairs: readonly Pair[], isTrailers = false, maxBytes = 1000): HeaderList {
  const list = new HeaderList(maxBytes);
  list.begin(isTrailers);
  for (const pair of pairs) list.add(new HeaderField(...pair));
  return list;
}

describe("a request", () => {
  test("has its four pseudo fields apart from the others", () => {
    const list = listOf([...REQUEST, ["te", "trailers"], ["x-some", "value"], ["content-length", "12"]]);
    expect(list.problem).toBeUndefined();
    expect([list.method, list.scheme, list.path, list.authority]).toEqual(["POST", "http", "/a.B/C", "localhost"]);
    expect(list.fields.map(({ name }) => name)).toEqual(["te", "x-some", "content-length"]);
    expect(list.contentLength).toBe(12);
  });

  test.each<[string, Pair[]]>([
    ["without a method", REQUEST.slice(1)],
    ["that asks for a connection to nowhere", CONNECT.slice(0, 1)],
    ["that asks for a connection and a path", [...CONNECT, [":path", "/"]]],
    ["that asks for a connection and a scheme", [...CONNECT, [":scheme", "http"]]],
    ["without a scheme", REQUEST.filter(([name]) => name !== ":scheme")],
    ["without a path", REQUEST.filter(([name]) => name !== ":path")],
    ["with an empty path", [...REQUEST.filter(([name]) => name !== ":path"), [":path", ""]]],
    ["with a pseudo field twice", [...REQUEST, [":path", "/"]]],
    ["with an empty pseudo field twice", [[":authority", ""], ...REQUEST]],
    ["with a pseudo field behind others", [["a", "b"], ...REQUEST]],
    ["with a pseudo field of responses", [...REQUEST, [":status", "200"]]],
    ["with an unknown pseudo field", [...REQUEST, [":protocol", "websocket"]]],
    ["with upper case in a name", [...REQUEST, ["X-Some", "value"]]],
    ["with an empty name", [...REQUEST, ["", "value"]]],
    ["with a space in a name", [...REQUEST, ["x some", "value"]]],
    ["with a colon in a name", [...REQUEST, ["x:some", "value"]]],
    ["with a line end in a value", [...REQUEST, ["x-some", "a\r\nb"]]],
    ["with a NUL in a value", [...REQUEST, ["x-some", "a\0"]]],
    ["with a field of HTTP/1", [...REQUEST, ["connection", "close"]]],
    ["with a length that is no number", [...REQUEST, ["content-length", "1e3"]]],
    ["with an empty length", [...REQUEST, ["content-length", ""]]],
    ["with two lengths", [...REQUEST, ["content-length", "1"], ["content-length", "2"]]],
    ["with transfer-encoding", [...REQUEST, ["transfer-encoding", "chunked"]]],
    ["with another te than trailers", [...REQUEST, ["te", "gzip"]]],
  ])("%s is malformed", (_, pairs) => {
    expect(listOf(pairs).problem).toBe("malformed");
  });

  test.for([
    ["a b", "a b"],
    [" a b", "a b"],
    ["a b\t", "a b"],
    [" \t a b \t", "a b"],
    [" \t ", ""],
    ["", ""],
  ] as const)("has the value %j without the blanks around it, though they count", ([received, value]) => {
    const list = listOf([...REQUEST, ["x-some", received]]);
    expect(list.problem).toBeUndefined();
    expect(list.fields.map((field) => field.value)).toEqual([value]);
    expect(list.bytes).toBe(listOf(REQUEST).bytes + "x-some".length + received.length + 32);
  });

  test("of CONNECT has an authority, and neither a scheme nor a path", () => {
    expect(listOf(CONNECT).problem).toBeUndefined();
  });

  test("counts 32 bytes for each field, and is too large beyond the limit", () => {
    const bytes = REQUEST.reduce((sum, [name, value]) => sum + name.length + value.length + 32, 0);
    expect(listOf(REQUEST, false, bytes).problem).toBeUndefined();
    const list = listOf(REQUEST, false, bytes - 1);
    expect([list.problem, list.bytes]).toEqual(["too_large", bytes]);
  });

  test("keeps nothing beyond the limit", () => {
    const list = listOf([...REQUEST, ...Array.from({ length: 1000 }, (_, i): Pair => [`x-${i}`, "value"])]);
    expect(list.fields.length).toBeLessThan(30);
    expect(list.bytes).toBeGreaterThan(30_000);
  });
});

describe("trailers", () => {
  test("have no pseudo fields", () => {
    expect(listOf([["x-some", "value"]], true).problem).toBeUndefined();
    expect(listOf([], true).problem).toBeUndefined();
    expect(listOf([[":path", "/"]], true).problem).toBe("malformed");
  });
});

test("a list that begins anew has forgotten the one before", () => {
  const list = listOf([...REQUEST, ["content-length", "1"], ["Bad", ""]]);
  list.begin(false);
  for (const pair of REQUEST) list.add(new HeaderField(...pair));
  expect([list.problem, list.contentLength, list.fields]).toEqual([undefined, undefined, []]);
});

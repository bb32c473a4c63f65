import { expect, test } from "vitest";
import { decodeToken, encodeToken, inParallel, listPage, pageSize } from "../../../src/admin/paging.ts";

/** A list that can change while it is read. */
function listOf(names: string[], isShown: (name: string) => boolean = () => true) {
  return async (size?: number, token?: string) =>
    listPage(
      "names",
      { size, token },
      async (after, count) => names.filter((name) => name > after).slice(0, count),
      async (name) => (isShown(name) ? name : undefined),
    );
}

test("a page has 100 entries unless asked otherwise, and 1,000 at most", () => {
  expect([undefined, 0, 7, 1000, 1001].map((size) => pageSize({ size, token: undefined }))).toEqual([
    100, 100, 7, 1000, 1000,
  ]);
});

test("pages follow each other without a gap or a repetition", async () => {
  const list = listOf(["a", "b", "c", "d", "e"]);
  const first = await list(2);
  const second = await list(2, first.nextToken);
  const third = await list(2, second.nextToken);
  expect([first, second, third].map(({ entries }) => entries)).toEqual([["a", "b"], ["c", "d"], ["e"]]);
  expect(third.nextToken).toBe("");
});

test("a page that ends with the last entry is the last", async () => {
  expect(await listOf(["a", "b"])(2)).toEqual({ entries: ["a", "b"], nextToken: "" });
  expect(await listOf([])(2)).toEqual({ entries: [], nextToken: "" });
});

test("what is deleted or made between two pages hides nothing else", async () => {
  const names = ["a", "b", "c", "d"];
  const list = listOf(names);
  const { nextToken } = await list(2);
  names.splice(0, 2, "0", "a");
  expect((await list(2, nextToken)).entries).toEqual(["c", "d"]);
});

test("a page of nothing but what is not shown is passed over", async () => {
  const list = listOf(["a", "b", "c", "d", "e"], (name) => name === "a" || name === "e");
  const first = await list(2);
  expect(first.entries).toEqual(["a"]);
  expect(await list(2, first.nextToken)).toEqual({ entries: ["e"], nextToken: "" });
});

test.for([
  ["of another list", encodeToken("streams", "a")],
  ["that was altered", encodeToken("names", "a").replace(/.$/, (last) => (last === "A" ? "Q" : "A"))],
  ["that is no base64", "what?"],
  ["without a place", encodeToken("names", "")],
  ["with something behind it", `${encodeToken("names", "a")}=`],
])("a token %s is refused, with its field", async ([, token]) => {
  await expect(async () => decodeToken("names", { size: undefined, token })).rejects.toMatchObject({
    reason: "INVALID_VALUE",
    field: "page_token",
  });
});

test("a few questions are open at once, and the answers are in order", async () => {
  let open = 0;
  let most = 0;
  const items = Array.from({ length: 50 }, (_, index) => index);
  const doubled = await inParallel(items, async (item) => {
    most = Math.max(most, ++open);
    await new Promise((resolve) => setImmediate(resolve));
    open -= 1;
    return item * 2;
  });
  expect(doubled).toEqual(items.map((item) => item * 2));
  expect(most).toBe(16);
});

import { expect, test } from "vitest";
import { JointChanges } from "../../../src/events/joint-changes.ts";

/** Changes that are made when the test says so; what has `refused` among it fails. */
function createChanges() {
  const made: string[] = [];
  const ends: (() => void)[] = [];
  const change = async (name: string, items: ReadonlySet<string>): Promise<void> => {
    const { promise, resolve } = Promise.withResolvers<void>();
    made.push(`${name}: ${[...items].join(" ")}`);
    ends.push(resolve);
    await promise;
    if (items.has("refused") || items.has("lost")) throw new Error(items.has("lost") ? "lost" : "refused");
  };
  const changes = new JointChanges(change, (error) => (error as Error).message === "refused");
  const end = async (): Promise<void> => {
    await expect.poll(() => ends.length).toBeGreaterThan(0);
    ends.shift()!();
  };
  return { changes, made, end };
}

test("what is asked for during a change is made with the next one, all at once", async () => {
  const { changes, made, end } = createChanges();
  const first = changes.make("s", "a");
  await expect.poll(() => made).toEqual(["s: a"]);
  const others = ["b", "c", "b"].map(async (item) => changes.make("s", item));
  await end();
  await first;
  await expect.poll(() => made).toEqual(["s: a", "s: b c"]);
  const last = changes.make("s", "d");
  await end();
  await Promise.all(others);
  await end();
  await last;
  expect(made).toEqual(["s: a", "s: b c", "s: d"]);
});

test("one name does not wait for another", async () => {
  const { changes, made, end } = createChanges();
  const both = [changes.make("s", "a"), changes.make("t", "b")];
  await expect.poll(() => made).toEqual(["s: a", "t: b"]);
  await end();
  await end();
  await Promise.all(both);
});

test("where a change fails for one of its items, each is made by itself", async () => {
  const { changes, made, end } = createChanges();
  const outcomes = Promise.allSettled(["a", "refused", "b"].map(async (item) => changes.make("s", item)));
  for (let n = 0; n < 4; n++) await end();
  expect((await outcomes).map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
  expect(made).toEqual(["s: a refused b", "s: a", "s: refused", "s: b"]);
});

test("where it fails for another reason, it does so for all, and the next one is made", async () => {
  const { changes, made, end } = createChanges();
  const outcomes = Promise.allSettled(["a", "lost"].map(async (item) => changes.make("s", item)));
  await expect.poll(() => made).toEqual(["s: a lost"]);
  const next = changes.make("s", "b");
  await end();
  expect((await outcomes).map(({ status }) => status)).toEqual(["rejected", "rejected"]);
  await end();
  await next;
  expect(made).toEqual(["s: a lost", "s: b"]);
});

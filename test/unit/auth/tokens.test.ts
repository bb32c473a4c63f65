import { describe, expect, test } from "vitest";
import { Tokens, createToken } from "../../../src/auth/tokens.ts";

const orders = createToken({ name: "orders", groups: ["shop", "eu"], expiresAt: new Date("2030-01-02T03:04:05Z") });
const billing = createToken({ name: "billing" });
const FILE = ["# who may call", "", orders.line, `  ${billing.line.replace(" ", " \t ")}  `, ""].join("\n");

describe("a file of tokens", () => {
  test("tells whose token it is, what groups they are in, and until when", () => {
    const tokens = new Tokens(FILE);
    expect(tokens.size).toBe(2);
    expect(tokens.find(orders.token)).toEqual({
      principal: { name: "orders", kind: "token", groups: ["shop", "eu"], claims: {} },
      expiresAtMs: Date.parse("2030-01-02T03:04:05Z"),
    });
    expect(tokens.find(billing.token)).toMatchObject({ principal: { name: "billing" }, expiresAtMs: Infinity });
  });

  test("gives the same principal each time, as decisions are kept by it", () => {
    const tokens = new Tokens(FILE);
    expect(tokens.find(orders.token)).toBe(tokens.find(orders.token));
  });

  test.each(["", "wst_", orders.token.slice(0, -1), `${orders.token}A`, orders.token.toUpperCase(), orders.line])(
    "does not know the token %o",
    (token) => {
      expect(new Tokens(FILE).find(token)).toBeUndefined();
    },
  );

  test("may have several tokens of one name, so that one can be replaced without a gap", () => {
    const next = createToken({ name: "orders" });
    const tokens = new Tokens(`${orders.line}\n${next.line}`);
    for (const { token } of [orders, next]) expect(tokens.find(token)?.principal.name).toBe("orders");
  });

  const hash = orders.line.split(" ")[1]!;
  test.each<[line: string, problem: RegExp]>([
    ["orders", /^line 2: after the name there has to be sha256: and 64 hexadecimal digits$/],
    ["orders sha256:abc", /^line 2: after the name there has to be/],
    [`orders ${hash.toUpperCase()}`, /^line 2: after the name there has to be/],
    [`or\u0000ders ${hash}`, /^line 2: the name may hold only/],
    [`оrders ${hash}`, /^line 2: the name may hold only letters/],
    [`${"a".repeat(129)} ${hash}`, /may hold only/],
    [`orders ${hash} group=a`, /^line 2: what follows the hash is neither groups=a,b nor expires=/],
    [`orders ${hash} groups=a,`, /^line 2: what follows the hash is neither/],
    [`orders ${hash} expires=tomorrow`, /^line 2: what follows the hash is neither/],
    [`orders ${hash} expires=2027-13-01`, /expires is no time/],
    [billing.line, /^line 2: its token is there already$/],
  ])("with the line %o is refused", (line, problem) => {
    expect(() => new Tokens(`${billing.line}\n${line}\n`)).toThrow(problem);
  });

  test.each([orders.token, `orders ${orders.token}`, `orders ${hash} ${orders.token}`])(
    "that holds a token where none belongs does not show it: %#",
    (line) => {
      try {
        expect(new Tokens(line)).toBeUndefined();
      } catch (error) {
        expect((error as Error).message).toMatch(/^line 1: /);
        expect((error as Error).message).not.toContain(orders.token);
      }
    },
  );

  test("is refused with all of its faults, up to ten, and none shows a hash", () => {
    const text = `${"orders sha256:zz\n".repeat(20)}`;
    try {
      expect(new Tokens(text)).toBeUndefined();
    } catch (error) {
      expect((error as Error).message.match(/line \d+:/g)).toHaveLength(10);
      expect((error as Error).message).not.toContain("zz");
    }
  });

  test("holds no more than 10,000 tokens", () => {
    const line = (index: number): string => `a sha256:${index.toString(16).padStart(64, "0")}`;
    const lines = Array.from({ length: 10_001 }, (_, index) => line(index));
    expect(new Tokens(lines.slice(1).join("\n")).size).toBe(10_000);
    expect(() => new Tokens(lines.join("\n"))).toThrow("more than 10000 tokens");
  });
});

test("a new token is random, and not in its line", () => {
  expect(billing.token).toMatch(/^wst_[A-Za-z0-9_-]{43}$/);
  expect(createToken({ name: "billing" }).token).not.toBe(billing.token);
  expect(billing.line).not.toContain(billing.token);
  expect(billing.line).toMatch(/^billing sha256:[0-9a-f]{64}$/);
});

test.each([{ name: "" }, { name: "a b" }, { name: "a", groups: ["x,y"] }, { name: "#a\n" }])(
  "a token of %o is refused",
  (spec) => {
    expect(() => createToken(spec)).toThrow(/may hold only letters, digits and/);
  },
);

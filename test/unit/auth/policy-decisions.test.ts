/** One policy with several tenants and teams, and what it says to everything that they may try. */
import { describe, expect, test } from "vitest";
import { Policy } from "../../../src/auth/policy.ts";
import { parseAccess } from "../../../src/auth/policy-words.ts";
import { ANONYMOUS, type Principal } from "../../../src/auth/principal.ts";

const POLICY = `
version: 1
variables:
  tenant: "tenants.{claim.tenant}"
  regions: [eu, us]
rules:
  - name: greeting
    for: everyone
    allow:
      - { verbs: [publish], subjects: [public.hello] }
  - name: status
    for: authenticated
    allow:
      - { verbs: [read], streams: [status], subjects: [status.>] }
      - { verbs: [admin], operations: [get-stream], streams: [status] }
  - name: shop
    for: { principals: [shop], kinds: [token] }
    allow:
      - { verbs: [publish], subjects: [orders.created, "orders.*.paid", "carts.>"] }
      - { verbs: [ensure-stream], streams: [orders, carts], subjects: ["orders.>", "carts.>"] }
      - { verbs: [state-read, state-write], stores: [carts], keys: ["open.>"] }
      - { verbs: [ensure-store], stores: [carts] }
    deny:
      - { verbs: [publish], subjects: [carts.audit] }
  - name: billing
    for: { groups: [billing] }
    allow:
      - { verbs: [consume, ensure-consumer], streams: [orders], consumers: ["billing-*"], subjects: ["orders.*", "orders.*.paid"] }
      - { verbs: [delete-consumer], streams: [orders], consumers: ["billing-*"] }
      - { verbs: [read], streams: [orders], subjects: ["orders.*", "orders.*.>"] }
      - { verbs: [cancel-event], streams: [orders] }
    deny:
      - { verbs: [read], streams: ["*"], subjects: [orders.secret] }
  - name: tenants
    for: { kinds: [jwt] }
    allow:
      - { verbs: [publish], subjects: ["{var.tenant}.>"] }
      - { verbs: [consume, ensure-consumer], streams: [tenants], consumers: ["t-{claim.tenant}-*"], subjects: ["{var.tenant}.>"] }
      - { verbs: [read], streams: [tenants], subjects: ["{var.tenant}.>"] }
      - { verbs: [ensure-stream], streams: ["copy-{claim.tenant}"], subjects: ["{var.tenant}.>"] }
      - { verbs: [state-read], stores: [profiles], keys: ["{claim.tenant}.>"] }
      - { verbs: [state-write], stores: [profiles], keys: ["{claim.tenant}.{name}.*"] }
    deny:
      - { verbs: [publish, ], subjects: ["{var.tenant}.system.>"] }
  - name: regions
    for: { claims: { role: [editor, owner], level: 3 } }
    allow:
      - { verbs: [publish], subjects: ["regions.{var.regions}.news"] }
  - name: operators
    for: { groups: [operators] }
    allow:
      - { verbs: [admin], operations: ["list-*", "get-*", "pause-consumer", "resume-consumer"], streams: ["*"], consumers: ["*"], stores: ["*"] }
      - { verbs: [admin], operations: [purge-stream], streams: ["scratch-*"] }
  - name: root
    for: { principals: [root], kinds: [certificate] }
    allow: everything
  - name: revoked
    for: { groups: [revoked] }
    deny: everything
`;

const token = (name: string, ...groups: readonly string[]): Principal => ({ name, kind: "token", groups, claims: {} });
const jwt = (name: string, claims: Readonly<Record<string, unknown>>): Principal => ({
  name,
  kind: "jwt",
  groups: [],
  claims,
});

const WHO = {
  anonymous: ANONYMOUS,
  shop: token("shop"),
  jwtShop: jwt("shop", {}),
  clerk: token("clerk", "billing"),
  ann: jwt("ann", { tenant: "a" }),
  bob: jwt("bob", { tenant: ["b", "c"] }),
  num: jwt("num", { tenant: 7 }),
  star: jwt("star", { tenant: "*" }),
  deep: jwt("deep", { tenant: "a.b" }),
  none: jwt("none", {}),
  mail: jwt("mail@a.example", { tenant: "a" }),
  editor: jwt("editor", { role: "editor", level: 3, tenant: "e" }),
  owner: jwt("owner", { role: ["guest", "owner"], level: 3 }),
  novice: jwt("novice", { role: "editor", level: "3" }),
  operator: token("operator", "operators"),
  root: { name: "root", kind: "certificate", groups: [], claims: {} },
  tokenRoot: token("root"),
  fired: { name: "root", kind: "certificate", groups: ["revoked"], claims: {} },
  leaver: token("shop", "revoked"),
} as const satisfies Record<string, Principal>;

const policy = Policy.parse(POLICY);

/** Who, then what is allowed with the rule that allows it ("+"), or refused, with the rule that denies it if there is one ("-"). */
const TABLE: Readonly<Record<keyof typeof WHO, string>> = {
  anonymous: `
    + greeting    publish public.hello
    -             publish public.hello.more
    -             publish public.Hello
    -             publish public
    -             publish orders.created
    -             publish carts.a
    -             publish tenants.a.x
    -             publish regions.eu.news
    -             read status
    -             read status status.a
    -             consume orders billing-a orders.created
    -             ensure-stream orders orders.>
    -             ensure-consumer orders billing-a orders.created
    -             state-read carts open.a
    -             state-write carts open.a
    -             ensure-store carts
    -             admin list-streams
    -             admin get-stream status
    -             cancel-event orders`,
  shop: `
    + greeting    publish public.hello
    + shop        publish orders.created
    + shop        publish orders.17.paid
    + shop        publish carts.a
    + shop        publish carts.a.b.c
    - shop        publish carts.audit
    + shop        publish carts.audit.x
    -             publish carts
    -             publish Orders.created
    -             publish orders.Created
    -             publish orders.created.x
    -             publish orders.17.18.paid
    -             publish orders..paid
    -             publish orders.*.paid
    -             publish carts.>
    -             publish carts.*
    -             publish >
    -             publish оrders.created
    -             publish orders.created​
    -             publish orders．created
    -             publish $JS.API.STREAM.NAMES
    + shop        ensure-stream orders orders.>
    + shop        ensure-stream orders orders.> carts.>
    + shop        ensure-stream carts orders.a.*
    -             ensure-stream orders >
    -             ensure-stream orders orders
    -             ensure-stream orders orders.> other
    -             ensure-stream Orders orders.>
    -             ensure-stream copy source=orders
    -             ensure-stream carts source=orders:orders.a
    -             ensure-stream carts source=status:status.>
    -             ensure-stream carts orders.> source=status:status.a
    + shop        state-read carts open.a
    + shop        state-read carts open.>
    + shop        state-read carts open.*.x open.b
    -             state-read carts
    -             state-read carts >
    -             state-read carts open
    -             state-read carts open.a closed.a
    -             state-read Carts open.a
    + shop        state-write carts open.a.b
    -             state-write carts closed.a
    -             state-write carts open.*
    -             state-write other open.a
    + shop        ensure-store carts
    -             ensure-store cart
    -             ensure-store carts2
    + status      read status status.>
    + status      read status status.a status.b.*
    -             read status
    -             read status >
    -             read status status
    -             read orders status.a
    -             consume status c status.a
    + status      admin get-stream status
    -             admin get-stream orders
    -             admin get-stream
    -             admin delete-stream status
    -             admin list-streams`,
  jwtShop: `
    -             publish orders.created
    -             ensure-stream orders orders.>
    + greeting    publish public.hello
    + status      read status status.a`,
  clerk: `
    + billing     consume orders billing-a orders.created
    + billing     consume orders billing-a orders.*
    + billing     consume orders billing-a orders.7.paid
    + billing     consume orders billing-a orders.*.paid
    + billing     consume orders billing- orders.*
    -             consume orders billing orders.*
    -             consume orders other orders.*
    -             consume orders Billing-a orders.*
    -             consume orders billing-a
    -             consume orders billing-a >
    -             consume orders billing-a orders.>
    -             consume orders billing-a orders.*.*
    -             consume orders billing-a orders.a orders.a.sent
    -             consume carts billing-a orders.*
    -             consume orders billing-a/x orders.*
    + billing     ensure-consumer orders billing-x orders.* orders.*.paid
    -             ensure-consumer orders billing-x orders.>
    -             ensure-consumer orders - orders.*
    + billing     ensure-consumer orders billing-x orders.* dead-letters=orders-dead-letters
    -             ensure-consumer orders billing-x orders.* dead-letters=elsewhere
    + billing     delete-consumer orders billing-x
    -             delete-consumer orders other
    -             delete-consumer carts billing-x
    + billing     cancel-event orders
    -             cancel-event carts
    + billing     read orders orders.created
    + billing     read orders orders.a.b.c
    + billing     read orders orders.a.>
    + billing     read orders orders.*.>
    - billing     read orders orders.>
    - billing     read orders orders.*
    - billing     read orders orders.secret
    + billing     read orders orders.secret.x
    - billing     read orders
    - billing     read status >
    - billing     read status *.secret
    + status      read status status.secret
    -             publish orders.created
    -             admin get-consumer orders billing-a`,
  ann: `
    + tenants     publish tenants.a.x
    + tenants     publish tenants.a.x.y.z
    - tenants     publish tenants.a.system.x
    + tenants     publish tenants.a.system
    -             publish tenants.a
    -             publish tenants.b.x
    -             publish tenants.A.x
    -             publish tenants.aa.x
    -             publish tenants.а.x
    + tenants     consume tenants t-a-1 tenants.a.>
    + tenants     consume tenants t-a-1 tenants.a.*.x
    -             consume tenants t-a-1 tenants.*.x
    -             consume tenants t-a-1 tenants.>
    -             consume tenants t-a-1
    -             consume tenants t-a tenants.a.>
    -             consume tenants t-b-1 tenants.a.>
    -             consume KV_profiles t-a-1 tenants.a.>
    + tenants     ensure-consumer tenants t-a-2 tenants.a.x
    -             ensure-consumer tenants t-a-2 tenants.a.x tenants.b.x
    -             ensure-consumer tenants - tenants.a.x
    + tenants     read tenants tenants.a.>
    + tenants     read tenants tenants.a.system.x
    -             read tenants tenants.b.x
    -             read tenants
    + tenants     ensure-stream copy-a source=tenants:tenants.a.>
    + tenants     ensure-stream copy-a source=tenants:tenants.a.x,tenants.a.y
    -             ensure-stream copy-a source=tenants
    -             ensure-stream copy-a source=tenants:tenants.b.>
    -             ensure-stream copy-a source=tenants:tenants.a.x source=tenants:tenants.b.x
    -             ensure-stream copy-a source=orders:tenants.a.>
    -             ensure-stream copy-b source=tenants:tenants.a.>
    + tenants     state-read profiles a.ann.name
    + tenants     state-read profiles a.>
    -             state-read profiles b.ann.name
    -             state-read profiles
    + tenants     state-write profiles a.ann.name
    -             state-write profiles a.bob.name
    -             state-write profiles a.ann.name.first
    -             publish regions.eu.news`,
  bob: `
    + tenants     publish tenants.b.x
    + tenants     publish tenants.c.x
    -             publish tenants.a.x
    - tenants     publish tenants.b.system.x
    - tenants     publish tenants.c.system.x
    + tenants     consume tenants t-c-1 tenants.b.> tenants.c.>
    -             consume tenants t-c-1 tenants.*.x
    + tenants     read tenants tenants.b.x tenants.c.>
    -             read tenants tenants.b.x tenants.a.x
    + tenants     state-write profiles c.bob.x`,
  num: `
    + tenants     publish tenants.7.x
    - tenants     publish tenants.7.system.x
    -             publish tenants.8.x
    + tenants     read tenants tenants.7.>`,
  star: `
    -             publish tenants.a.x
    - tenants     publish tenants.a.system.x
    -             publish tenants.*.x
    -             read tenants tenants.*.x
    -             read tenants tenants.a.x
    -             consume tenants t-*-1 tenants.a.>
    -             consume tenants t-a-1 tenants.a.>
    -             state-read profiles a.x
    + greeting    publish public.hello`,
  deep: `
    -             publish tenants.a.x
    -             publish tenants.a.b.x
    -             publish tenants.b.x
    -             read tenants tenants.a.b.>
    + status      read status status.a`,
  none: `
    -             publish tenants.x.y
    -             publish tenants..y
    -             publish tenants.undefined.y
    -             publish tenants.{claim.tenant}.y
    -             consume tenants t--1 tenants.a.b
    -             read tenants tenants.>
    + greeting    publish public.hello
    + status      read status status.a`,
  mail: `
    + tenants     publish tenants.a.x
    -             state-write profiles a.mail.x
    -             state-write profiles a.mail@a.example.x
    + tenants     state-read profiles a.mail.x`,
  editor: `
    + regions     publish regions.eu.news
    + regions     publish regions.us.news
    -             publish regions.cn.news
    -             publish regions.eu.sport
    + tenants     publish tenants.e.x`,
  owner: `
    + regions     publish regions.eu.news
    -             publish tenants.e.x`,
  novice: `
    -             publish regions.eu.news
    -             publish regions.us.news`,
  operator: `
    + operators   admin list-streams
    + operators   admin get-stream orders
    + operators   admin list-consumers orders
    + operators   admin get-consumer orders billing-a
    + operators   admin pause-consumer orders billing-a
    + operators   admin resume-consumer orders billing-a
    + operators   admin list-dead-letters orders billing-a
    + operators   admin list-stores
    -             admin reset-consumer orders billing-a
    -             admin delete-stream orders
    -             admin delete-store carts
    -             admin delete-dead-letters orders billing-a
    -             admin replay-dead-letters orders billing-a
    + operators   admin purge-stream scratch-1
    -             admin purge-stream orders
    -             admin purge-stream
    -             admin get-stream KV_carts
    -             publish orders.created
    -             read orders orders.created`,
  root: `
    + root        publish anything.at.all
    + root        consume any thing >
    + root        read orders
    + root        read KV_carts
    + root        ensure-stream x > source=y
    + root        ensure-consumer orders - >
    + root        ensure-consumer orders c > dead-letters=elsewhere
    + root        delete-consumer orders c
    + root        cancel-event orders
    + root        state-read carts
    + root        state-write carts a
    + root        ensure-store x
    + root        admin delete-stream orders
    + root        admin purge-stream
    + root        admin delete-store carts
    -             publish a..b
    -             publish a.*
    -             read a.b`,
  tokenRoot: `
    -             publish anything.at.all
    -             admin delete-stream orders
    + greeting    publish public.hello`,
  fired: `
    - revoked     publish anything.at.all
    - revoked     publish public.hello
    - revoked     read orders
    - revoked     read KV_carts
    - revoked     admin list-streams
    - revoked     ensure-store x
    - revoked     delete-consumer orders c`,
  leaver: `
    - revoked     publish orders.created
    - revoked     state-read carts open.a`,
};

interface Row {
  readonly who: keyof typeof WHO;
  readonly allowed: boolean;
  readonly rule: string | undefined;
  readonly words: readonly string[];
}

const rows = (Object.keys(WHO) as (keyof typeof WHO)[]).flatMap((who) =>
  TABLE[who].split("\n").flatMap((line): Row[] => {
    const [, sign, rule = "", words = ""] = /^ {4}([+-]) (.{11}) (.+)$/.exec(line.padEnd(20)) ?? [];
    if (sign === undefined) return [];
    return [
      {
        who,
        allowed: sign === "+",
        rule: rule.trim() === "" ? undefined : rule.trim(),
        words: words.trim().split(" "),
      },
    ];
  }),
);

test("the table has all of its rows, 200 at least", () => {
  const lines = Object.values(TABLE).join("\n").split("\n");
  expect(rows.length).toBe(lines.filter((line) => line.trim() !== "").length);
  expect(rows.length).toBeGreaterThanOrEqual(200);
});

describe.for(Object.keys(WHO) as (keyof typeof WHO)[])("%s", (who) => {
  test.for(rows.filter((row) => row.who === who).map((row) => [row.words.join(" "), row] as const))(
    "%s",
    ([, { allowed, rule, words }]) => {
      const access = parseAccess(words);
      if (typeof access === "string") throw new Error(access);
      const decision = policy.decide(WHO[who], access);
      expect(decision).toMatchObject({ allowed, rule });
      expect(decision.explanation).toMatch(allowed ? / may [a-z]/ : / may not [a-z]/);
      // The same again, from what is kept.
      expect(policy.decide(WHO[who], access)).toEqual(decision);
    },
  );
});

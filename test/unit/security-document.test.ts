/** The policy that docs/security.md shows does what the document says. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { VERBS, OPERATIONS } from "../../src/auth/policy-access.ts";
import { Policy } from "../../src/auth/policy.ts";
import { parseAccess } from "../../src/auth/policy-words.ts";
import type { Principal } from "../../src/auth/principal.ts";
import { section } from "../support/markdown.ts";

const DOCUMENT = readFileSync(new URL("../../docs/security.md", import.meta.url), "utf8");
const policy = Policy.parse(/```yaml\n([^]+?)```/.exec(section(DOCUMENT, "policy"))?.[1] ?? "");

const nobody: Principal = { name: "x", kind: "token", groups: [], claims: {} };
const ann: Principal = { ...nobody, name: "ann", kind: "jwt", claims: { tenant: "acme", role: "user" } };
const billing: Principal = { ...nobody, name: "billing" };
const onCall: Principal = { ...nobody, groups: ["on-call"] };
const platform: Principal = { ...nobody, groups: ["platform"] };

test.for<readonly [Principal, string, boolean]>([
  [ann, "publish tenants.acme.orders.created", true],
  [ann, "publish tenants.other.orders.created", false],
  [ann, "publish tenants.acme.invoices.paid", false],
  [ann, "consume tenants acme_1 tenants.acme.>", true],
  [ann, "consume tenants acme_1 tenants.>", false],
  [ann, "read tenants tenants.acme.invoices.paid", true],
  [ann, "state-write profiles acme.ann", true],
  [{ ...ann, claims: { tenant: "acme" } }, "read tenants tenants.acme.>", false],
  [billing, "publish tenants.acme.invoices.paid", true],
  [billing, "consume tenants billing-1 tenants.*.orders.*", true],
  [billing, "consume tenants billing-1 tenants.*.orders.>", false],
  [billing, "delete-consumer tenants billing-1", true],
  [{ ...billing, kind: "jwt" }, "publish tenants.acme.invoices.paid", false],
  [onCall, "admin list-streams", true],
  [onCall, "admin pause-consumer tenants acme_1", true],
  [onCall, "admin delete-stream tenants", false],
  [platform, "admin delete-stream tenants", true],
  [platform, "read KV_profiles", true],
  [{ ...platform, name: "old-importer" }, "publish a", false],
  [nobody, "publish a", false],
])("%o: %s", ([who, words, allowed]) => {
  const access = parseAccess(words.split(" "));
  if (typeof access === "string") throw new Error(access);
  expect(policy.decide(who, access).allowed).toBe(allowed);
});

test("tenants have the limits that are shown", () => {
  expect(policy.limitsOf(ann)).toEqual({ callsPerSecond: 200, bytesPerSecond: 2 ** 20, openSubscriptions: 10 });
});

test("every verb and operation is in the document", () => {
  for (const word of [...Object.keys(VERBS), ...Object.keys(OPERATIONS)]) expect(DOCUMENT).toContain(`\`${word}\``);
});

import { expect, test } from "vitest";
import { ANONYMOUS } from "../../../src/auth/principal.ts";

test("whoever shows no credential has no groups and no claims, and nobody can give it some", () => {
  expect(ANONYMOUS).toEqual({ name: "anonymous", kind: "anonymous", groups: [], claims: {} });
  expect(Object.isFrozen(ANONYMOUS.groups) && Object.isFrozen(ANONYMOUS.claims) && Object.isFrozen(ANONYMOUS)).toBe(
    true,
  );
});

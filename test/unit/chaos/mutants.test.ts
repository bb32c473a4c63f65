/** The deliberate faults of the fault suite can be made: each text that they replace is in the sources, once. */
import { rm } from "node:fs/promises";
import { dirname } from "node:path";
import { expect, test } from "vitest";
import { MUTANTS, type Mutant, plant } from "../../chaos/mutants.ts";

test.for(Object.entries<Mutant>(MUTANTS))("%s", async ([, mutant]) => {
  const entry = await plant(mutant);
  expect(entry).toMatch(/main\.ts$/);
  await rm(dirname(dirname(entry)), { recursive: true });
});

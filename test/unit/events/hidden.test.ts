import { describe, expect, test } from "vitest";
import { markSubject } from "../../../src/events/dead-letter-streams.ts";
import { isHiddenSubject } from "../../../src/events/hidden.ts";
import { scheduleSubject } from "../../../src/events/schedule.ts";

describe("what a stream holds besides events", () => {
  test.for([
    markSubject("orders", "billing", 17n),
    scheduleSubject("orders", "key"),
    scheduleSubject("orders", undefined),
  ])("%s is hidden", (subject) => expect(isHiddenSubject(subject)).toBe(true));

  test.for([
    "dead-letters.orders.billing.17",
    "dead-letters.invoice-replay",
    "dead-letters.orders.billing-replay",
    "dead-letters.orders.billing.first-replay",
    "dead-letters.orders.billing.-replay",
    "dead-letters.orders.billing.more.17-replay",
    "of.dead-letters.orders.billing.17-replay",
  ])("%s is an event", (subject) => expect(isHiddenSubject(subject)).toBe(false));
});

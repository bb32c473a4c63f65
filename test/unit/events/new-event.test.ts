import { expect, test } from "vitest";
import { prepareEvent } from "../../../src/events/new-event.ts";

const nats = {
  maxPayload: 1024 * 1024,
  server: { url: "", version: "2.12.0", cluster: undefined },
};

// Whether a time is past is decided by NATS' clock: by ours, which may be ahead, an event would come too late.
test.for([
  [-62_135_596_800, "1970-01-01T00:00:00Z"],
  [0, "1970-01-01T00:00:00Z"],
  [1_000_000_000, "2001-09-09T01:46:40Z"],
  [Math.floor(Date.now() / 1000) + 3_600, undefined],
] as const)("deliver_at %i goes to NATS as it is, as far as NATS knows such times", ([seconds, text]) => {
  const event = { subject: "a", typeUrl: "", value: new Uint8Array(0), deliverAt: { seconds, nanos: 0 } };
  const at = text ?? new Date(seconds * 1000).toISOString().replace(".000Z", "Z");
  expect(prepareEvent(event, nats).headers).toContain(`\r\nNats-Schedule: @at ${at}\r\n`);
});

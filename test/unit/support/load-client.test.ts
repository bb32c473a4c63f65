import { expect, test } from "vitest";
import { message } from "../../support/http2-peer.ts";
import { Messages } from "../../support/load-client.ts";

const SIZES = [0, 1, 4, 5, 6, 300, 0, 17];

test.each([1, 2, 3, 4, 5, 6, 7, 64, 1_000])("messages that come in pieces of %i bytes are put together", (size) => {
  const sent = SIZES.map((length, n) => Buffer.alloc(length, n));
  const bytes = Buffer.concat(sent.map((one) => message(one)));
  const received: Buffer[] = [];
  const messages = new Messages((one) => received.push(one));
  for (let at = 0; at < bytes.length; at += size) messages.read(bytes.subarray(at, at + size));
  expect(received).toEqual(sent);
});

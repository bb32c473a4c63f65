/** What handlers get of a request: a view of what the socket brought wherever it does not keep much more than itself. */
import { expect, test } from "vitest";
import type { EngineHandler } from "../../../../src/grpc/engine/engine.ts";
import { Service } from "../../../fuzz/service.ts";
import { Wire } from "../../../fuzz/wire.ts";
import { END_STREAM, PREFACE, call, data, message, settings } from "../../../support/http2-peer.ts";

const BUDGET_BYTES = 1024 * 1024;

/** What a unary and a bidi handler get of a request that comes in these reads, behind the beginning of the connection. */
function receive(...reads: readonly Buffer[]): Uint8Array[] {
  const received: Uint8Array[] = [];
  const handlers = new Map<string, EngineHandler>();
  handlers.set("/test/Unary", { kind: "unary", handle: (_, request) => void received.push(request) });
  handlers.set("/test/Bidi", {
    kind: "bidi",
    handle: (opened) => {
      opened.onMessage = (request) => void received.push(request);
    },
  });
  const service = new Service(0, BUDGET_BYTES, handlers);
  const wire = new Wire();
  const connection = service.connect(wire);
  for (const read of [PREFACE, settings(), ...reads]) wire.feed(read);
  connection.destroy();
  service.verifyEnd();
  return received;
}

const PATHS = [
  ["unary", "/test/Unary"],
  ["bidi", "/test/Bidi"],
] as const;

test.for(PATHS)("a message of a %s call in one frame is a view of its read, from a quarter of it on", ([, path]) => {
  for (const length of [100, 1000, 16_000]) {
    const request = Buffer.alloc(length, 7);
    const read = Buffer.concat([call(1, path), data(1, message(request), END_STREAM)]);
    const [received] = receive(read);
    expect(received).toHaveLength(length);
    expect(received!.buffer).toBe(read.buffer);
    read.fill(8);
    expect(Buffer.compare(received!, Buffer.alloc(length, 8))).toBe(0);
  }
});

test.for(PATHS)("a message of a %s call that is less than a quarter of its read does not keep it", ([, path]) => {
  for (const length of [1, 32, 33, 1000, 3000]) {
    const request = Buffer.alloc(length, 7);
    const others = Array.from({ length: Math.ceil((4 * length) / 1000) + 1 }, () =>
      data(3, message(Buffer.alloc(1000))),
    );
    const read = Buffer.concat([
      call(1, path),
      data(1, message(request), END_STREAM),
      call(3, "/test/Bidi"),
      ...others,
    ]);
    const [received] = receive(read);
    expect(received!.buffer).not.toBe(read.buffer);
    read.fill(8);
    expect(Buffer.compare(received!, request)).toBe(0);
  }
});

test.for(PATHS)("a message of a %s call in several frames is joined, and views none of its reads", ([, path]) => {
  const request = Buffer.alloc(30_000, 7);
  const whole = message(request);
  const reads = [call(1, path), data(1, whole.subarray(0, 16_000)), data(1, whole.subarray(16_000), END_STREAM)];
  const [received] = receive(...reads);
  for (const read of reads) read.fill(8);
  expect(Buffer.compare(received!, request)).toBe(0);
});

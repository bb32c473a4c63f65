/** The commands of docs/publishing.md do what it says, one after another. */
import { readFileSync } from "node:fs";
import { type Registry, createRegistry, fromJsonString, toBinary } from "@bufbuild/protobuf";
import { StringValueSchema } from "@bufbuild/protobuf/wkt";
import { expect } from "vitest";
import {
  EventsService,
  file_windshift_events_v1alpha1_events,
} from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { EVENTS } from "../support/client.ts";
import { test } from "../support/fixtures.ts";

const text = readFileSync(new URL("../../docs/publishing.md", import.meta.url), "utf8");
const COMMAND = /grpcurl -plaintext -d '([^']*)' localhost:8080 \$EVENTS\/(\w+)/g;
const registry: Registry = createRegistry(file_windshift_events_v1alpha1_events, StringValueSchema);

test("the commands of the guide to publishing work", async ({ client, jsm }) => {
  const commands = [...text.matchAll(COMMAND)];
  expect(commands).toHaveLength(text.match(/grpcurl -plaintext/g)!.length);
  for (const [, json, name] of commands) {
    const method = EventsService.methods.find((each) => each.name === name)!;
    const request = toBinary(method.input, fromJsonString(method.input, json!, { registry }));
    if (method.methodKind === "unary") {
      await client.raw(EVENTS + name, request);
      continue;
    }
    const call = client.grpc.makeBidiStreamRequest(
      EVENTS + name,
      (bytes: Buffer) => bytes,
      (bytes) => bytes,
    );
    const ended = new Promise<number>((resolve) => call.on("status", ({ code }) => resolve(code)));
    call.on("data", () => undefined);
    call.end(Buffer.from(request));
    expect(await ended).toBe(0);
  }
  const { state } = await jsm.streams.info("orders", { subjects_filter: "orders.>" });
  expect(state.subjects).toEqual({
    "orders.created": 4,
    "orders.reserved": 1,
    "orders.paid": 1,
    "orders.shipped": 1,
  });
});

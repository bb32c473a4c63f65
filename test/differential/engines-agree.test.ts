/**
 * What real clients sent, and what random ones may send, comes to the same on both engines: for each call what its
 * client gets, and whether connections stand. What is different on purpose is listed here, with its reason.
 */
import { afterAll, beforeAll, describe, expect, onTestFailed, test } from "vitest";
import { Random } from "../chaos/random.ts";
import { CLIENTS } from "../recordings/clients.ts";
import { readRecordings } from "../recordings/recording.ts";
import type { Field } from "../support/answers.ts";
import { type Outcome, type Session, type StreamOutcome, play } from "./player.ts";
import { Service, WITNESS } from "./service.ts";
import { makeSession } from "./sessions.ts";

/** The first session that is made; others follow by their number. */
const SEED = Number(process.env["SESSION_SEED"] ?? 1);
const SESSIONS = 300;

/** Fields that only one engine sends, and that no client of gRPC misses; with the value, where another would count. */
const NO_OUTCOME: Readonly<Record<string, string | undefined>> = {
  // HTTP has it for caches, of which gRPC has none.
  date: undefined,
  // The native engine sends it to those whose compression it has refused.
  "grpc-accept-encoding": undefined,
  // That is what holds without it.
  "grpc-encoding": "identity",
};

/** Recordings that come to something else on purpose: what grpc-js makes of an outcome of the native engine. */
const DIFFERENT: Readonly<Record<string, (native: StreamOutcome) => StreamOutcome>> = {
  // Methods of HTTP other than POST are 405, and whoever reads what curl prints is told what is wrong.
  "curl: get": (native) => ({ ...native, httpStatus: "415", contentType: undefined, metadata: [], rest: "" }),
  "curl: post_that_is_no_grpc": (native) => ({ ...native, contentType: undefined, rest: "" }),
  // It is no missing message, but a broken one.
  "curl: part_of_a_message": (native) => ({ ...native, status: "12" }),
  // "gRPC over HTTP2" lets servers strip blanks around values, which HTTP/2 forbids; node:http2 drops such fields.
  "grpcio: padded_metadata": (native) => ({
    ...native,
    trailers: native.trailers.map(([name, value]): Field => [name, value.replace("x-text=padded", "x-text=-")]),
  }),
};

let grpcJs: Service;
let native: Service;
beforeAll(async () => {
  [grpcJs, native] = await Promise.all([Service.start("grpc-js"), Service.start("native")]);
});
afterAll(() => {
  for (const service of [grpcJs, native]) service[Symbol.dispose]();
});

async function playToBoth(session: Session): Promise<{ readonly grpcJs: Outcome; readonly native: Outcome }> {
  const [one, other] = await Promise.all([play(session, grpcJs.port), play(session, native.port)]);
  return { grpcJs: withoutDetails(one), native: withoutDetails(other) };
}

/** Leaves out what makes no difference to clients. */
function withoutDetails({ streams, connection }: Outcome): Outcome {
  const entries = Object.entries(streams).map(([id, stream]) => [id, comparable(stream)] as const);
  return { streams: Object.fromEntries(entries), connection };
}

function comparable(stream: StreamOutcome): StreamOutcome {
  const { contentType, metadata, trailers, status, statusMessage } = stream;
  const matters = ([name, value]: Field): boolean => !(name in NO_OUTCOME) || (NO_OUTCOME[name] ?? value) !== value;
  const isOfHandler = trailers.some(([name]) => name === WITNESS);
  // Nobody shows the text of a call that went well. What an engine itself has to say, it says in its own words.
  const text = status === "0" ? statusMessage.replace(/^OK$/, "") : statusMessage;
  return {
    ...stream,
    // How messages are coded is between client and handler.
    contentType: contentType === "application/grpc+proto" ? "application/grpc" : contentType,
    metadata: metadata.filter(matters),
    trailers: trailers.filter(matters),
    statusMessage: isOfHandler || text === "" ? text : "in its own words",
  };
}

describe("a recorded session comes to the same on both engines", () => {
  const recordings = readRecordings();

  test("of each client", () => {
    const clients = recordings.map(({ name }) => name.split(":", 1)[0]);
    expect(new Set(clients)).toEqual(new Set(Object.keys(CLIENTS)));
  });

  test.for(recordings.map(({ name, steps }) => [name, steps] as const))("%s", async ([name, steps]) => {
    const outcomes = await playToBoth({ steps, grantsWindows: false });
    const streams = Object.entries(outcomes.native.streams);
    expect(streams).not.toHaveLength(0);
    const difference = DIFFERENT[name];
    if (difference !== undefined) expect(outcomes.native).not.toEqual(outcomes.grpcJs);
    const expected = Object.fromEntries(streams.map(([id, one]) => [id, difference?.(one) ?? one]));
    expect({ ...outcomes.native, streams: expected }).toEqual(outcomes.grpcJs);
  });
});

test(`${SESSIONS} made sessions from ${SEED} on come to the same on both engines`, async () => {
  let session = SEED;
  onTestFailed(() => console.error(`SESSION_SEED=${session} begins with the session that failed`));
  const seen = new Map<string, number>();
  for (; session < SEED + SESSIONS; session++) {
    const made = makeSession(new Random(session), `${session}`);
    const outcomes = await playToBoth(made);
    expect(outcomes.native).toEqual(outcomes.grpcJs);
    expect(outcomes.native.connection).toBe("stands");
    for (const id of made.left)
      expect(await Promise.all([native.causeOf(id), grpcJs.causeOf(id)])).toEqual(["left", "left"]);
    for (const outcome of Object.values(outcomes.native.streams)) count(seen, outcome);
  }
  expect([grpcJs.errors, native.errors]).toEqual([[], []]);
  // All that there is was there often enough to be looked at.
  const kinds = ["status 0", "status 5", "left", "metadata", "trailers", "details", "large"];
  expect(kinds.filter((what) => (seen.get(what) ?? 0) < SESSIONS / 20)).toEqual([]);
});

function count(seen: Map<string, number>, { status, ending, metadata, trailers, messages }: StreamOutcome): void {
  const all = [
    ...(ending === "ended" ? [`status ${status}`] : [ending]),
    ...(metadata.length > 0 ? ["metadata"] : []),
    ...(trailers.some(([name]) => name.startsWith("x-tail")) ? ["trailers"] : []),
    ...(trailers.some(([name]) => name === "grpc-status-details-bin") ? ["details"] : []),
    ...(messages.some((text) => text.includes("bytes")) ? ["large"] : []),
  ];
  for (const what of all) seen.set(what, (seen.get(what) ?? 0) + 1);
}

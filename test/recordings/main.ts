/**
 * `npm run record [-- client...]`: records what clients send to the native engine, into `test/recordings/`. Clients that
 * are not to be had here keep the recordings that they have.
 */
import { writeFile } from "node:fs/promises";
import { HpackDecoder } from "../../src/grpc/engine/native/hpack.ts";
import { Server } from "../conformance/server.ts";
import { FrameReader, PREFACE, Type } from "../support/http2-peer.ts";
import { CLIENTS, type Cases } from "./clients.ts";
import { Recorder } from "./recorder.ts";
import { type Recording, formatRecordings, recordingFile, sentBytes } from "./recording.ts";

/** HEADERS may begin with a priority. */
const PRIORITY = 0x20;
const PRIORITY_BYTES = 5;

const names = process.argv.slice(2);
const unknown = names.filter((name) => !Object.hasOwn(CLIENTS, name));
if (unknown.length > 0) {
  console.error(`npm run record [-- ${Object.keys(CLIENTS).join(" | ")}]`);
  process.exit(64);
}
for (const [client, prepare] of Object.entries(CLIENTS)) {
  if (names.length > 0 && !names.includes(client)) continue;
  const ready = await prepare();
  if ("missing" in ready) {
    console.log(`${client}: left as it is: ${ready.missing}`);
    continue;
  }
  const recordings = await recordAll(ready.cases);
  await writeFile(recordingFile(client), formatRecordings(userAgent(recordings), recordings));
  console.log(`${client}: ${recordings.length} sessions`);
}

async function recordAll(cases: Cases): Promise<Recording[]> {
  await using server = await Server.start();
  await using recorder = await Recorder.start(server.port);
  const recordings: Recording[] = [];
  for (const [name, act] of Object.entries(cases)) {
    recordings.push(await recorder.record(name, async () => act(recorder.port)));
  }
  return recordings;
}

/** Client and version, as it calls itself. */
function userAgent([first]: readonly Recording[]): string {
  const frames = new FrameReader().read(sentBytes(first!).subarray(PREFACE.length));
  const { flags, payload } = frames.find(({ type }) => type === Type.headers)!;
  let agent = "";
  new HpackDecoder().decode(
    payload,
    (flags & PRIORITY) === 0 ? 0 : PRIORITY_BYTES,
    payload.length,
    ({ name, value }) => {
      if (name === "user-agent") agent = value;
    },
  );
  return agent;
}

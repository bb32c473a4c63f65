/**
 * What real clients sent to the native engine, as files: `npm run record` makes them. A file holds the sessions of one
 * client, each the bytes of one connection in the order in which they came, and between them what the client had been
 * told by then, so that whoever plays it again sends nothing that a client would not send yet:
 *
 *     session large_unary
 *     send 9MXJSFYIzk9NU...      bytes, deflated
 *     await 0 begin              the server's SETTINGS
 *     await 1 begin              header fields on stream 1
 *     await 1 2                  two messages on it
 *     await 1 end                its end
 */
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { deflateRawSync, inflateRawSync } from "node:zlib";
import type { Milestone } from "../support/answers.ts";
import { FrameReader, PREFACE, frame } from "../support/http2-peer.ts";

/** What a client does next: it sends, or waits for the server. */
export type Step = { readonly send: Buffer } | { readonly await: Milestone };

/** One connection of a client. */
export interface Recording {
  readonly name: string;
  readonly steps: readonly Step[];
}

const EXTENSION = ".session";

/** All recordings, named after client and case. */
export function readRecordings(): Recording[] {
  const files = readdirSync(import.meta.dirname).filter((file) => file.endsWith(EXTENSION));
  return files.flatMap((file) => {
    const client = file.slice(0, -EXTENSION.length);
    const sessions = parseRecordings(readFileSync(recordingFile(client), "utf8"));
    return sessions.map(({ name, steps }) => ({ name: `${client}: ${name}`, steps }));
  });
}

/** Where the recordings of a client are kept. */
export function recordingFile(client: string): string {
  return join(import.meta.dirname, `${client}${EXTENSION}`);
}

/** All that a client sent, whatever it waited for. */
export function sentBytes({ steps }: Recording): Buffer {
  return Buffer.concat(steps.flatMap((step) => ("send" in step ? [step.send] : [])));
}

/** The same frame by frame; the preface is the first. */
export function sentFrames(recording: Recording): Buffer[] {
  const bytes = sentBytes(recording);
  const frames = new FrameReader().read(bytes.subarray(PREFACE.length));
  return [PREFACE, ...frames.map(({ type, flags, streamId, payload }) => frame(type, flags, streamId, payload))];
}

/** The text of a file; lines of `about` begin it. */
export function formatRecordings(about: string, recordings: readonly Recording[]): string {
  const lines = [`# ${about}`];
  for (const { name, steps } of recordings) {
    lines.push(`session ${name}`);
    for (const step of steps) {
      if ("send" in step) lines.push(`send ${deflateRawSync(step.send, { level: 9 }).toString("base64")}`);
      else lines.push(`await ${step.await.stream} ${step.await.at}`);
    }
  }
  return `${lines.join("\n")}\n`;
}

function parseRecordings(text: string): Recording[] {
  const recordings: { name: string; steps: Step[] }[] = [];
  for (const line of text.split("\n")) {
    const [word, first = "", second = ""] = line.split(" ");
    if (word === "session") recordings.push({ name: line.slice("session ".length), steps: [] });
    else if (word === "send") recordings.at(-1)!.steps.push({ send: inflateRawSync(Buffer.from(first, "base64")) });
    else if (word === "await") {
      const at = second === "begin" || second === "end" ? second : Number(second);
      recordings.at(-1)!.steps.push({ await: { stream: Number(first), at } });
    }
  }
  return recordings;
}

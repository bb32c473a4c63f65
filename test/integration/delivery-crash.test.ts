/** Servers that are killed between any two steps of dead-lettering, and of a replay: one letter, one event, nothing lost. */
import { fileURLToPath } from "node:url";
import { describe, expect } from "vitest";
import type { DeadLetters } from "../../src/events/dead-letters.ts";
import { Client, type EventsCall } from "../support/client.ts";
import { confirmed, consumerState } from "../support/consuming.ts";
import { type DaemonProcess, spawnDaemon } from "../support/daemon-process.ts";
import { openDeadLetters } from "../support/dead-letters.ts";
import { createFailing, letterCount, letterOf, until } from "../support/failing.ts";
import { test as base } from "../support/fixtures.ts";

const path = (name: string): string => fileURLToPath(new URL(`../support/${name}`, import.meta.url));
const PRELOAD = ["--import", path("crash-preload.ts")];
const PROCESSING_MS = 500;

interface Crash {
  readonly when: "before" | "after";
  readonly on: string;
  readonly nth?: number;
}

const test = base.extend<{ $file: { letters: DeadLetters } }>({
  letters: [
    async ({ nats }, use) => {
      await using opened = await openDeadLetters(nats.url);
      await use(opened.letters);
    },
    { scope: "file" },
  ],
});

function crashEnv({ when, on, nth = 1 }: Crash): Record<string, string> {
  return { CRASH_ON: on, CRASH_WHEN: when, CRASH_NTH: String(nth) };
}

function spawnServer(natsUrl: string, crash: Crash): DaemonProcess {
  return spawnDaemon({ env: { NATS_URL: natsUrl, ...crashEnv(crash) }, nodeArgs: PRELOAD });
}

/** Rejects what comes for good, until the event is among the dead letters and nothing is held. */
async function rejectAll(call: EventsCall, isOver: () => Promise<boolean>): Promise<void> {
  let handled = 0;
  await until(async () => {
    for (; handled < call.received.length; handled++) {
      const { response } = call.received[handled]!;
      if (response.case !== "event") continue;
      call.send({ case: "reject", value: { ids: [response.value.id], permanently: true } });
    }
    return isOver();
  });
}

const STEPS: readonly (readonly [string, Crash])[] = [
  ["before the letter is sent", { when: "before", on: "^dead-letters\\." }],
  ["when the letter is stored", { when: "after", on: "^dead-letters\\." }],
  ["before the event is settled", { when: "before", on: "^\\$JS\\.ACK.* \\+TERM" }],
  ["when the event is settled", { when: "after", on: "^\\$JS\\.ACK.* \\+TERM" }],
];

describe("a server that is killed", () => {
  test.for(STEPS)("%s, after a permanent reject: one letter", async ([, crash], { nats, client, jsm }) => {
    const source = await createFailing(client, { deadLetter: {} }, PROCESSING_MS);
    const id = await client.publish(source.subject, "bad");
    await using server = spawnServer(nats.url, crash);
    const other = new Client((await server.serving()).grpc);
    const doomed = await other.subscribe(source.stream, "c");
    await rejectUntilDead(doomed, server);
    other.close();
    const call = await client.subscribe(source.stream, "c");
    await rejectAll(
      call,
      async () => (await consumerState(jsm, source)).held === 0 && (await letterCount(jsm, source)) > 0,
    );
    expect(await letterCount(jsm, source)).toBe(1);
    expect((await letterOf(jsm, source, id)).header.get("WS-Dead-Letter-Cause")).toBe("rejected");
    await call.cancel();
  });

  test.for(STEPS)("%s, when the attempts ran out: one letter", async ([, crash], { nats, client, jsm }) => {
    const source = await createFailing(client, { maxAttempts: 1, deadLetter: {} }, PROCESSING_MS);
    const id = await client.publish(source.subject, "slow");
    await using server = spawnServer(nats.url, crash);
    const other = new Client((await server.serving()).grpc);
    await other.subscribe(source.stream, "c");
    // Its client does nothing: the second delivery is one too many.
    expect(await server.exited).toMatchObject({ signal: "SIGKILL" });
    other.close();
    const call = await client.subscribe(source.stream, "c");
    await until(async () => (await consumerState(jsm, source)).held === 0 && (await letterCount(jsm, source)) > 0);
    expect(await letterCount(jsm, source)).toBe(1);
    const letter = await letterOf(jsm, source, id);
    expect(letter.header.get("WS-Dead-Letter-Attempts")).toBe("1");
    expect(call.received.filter(({ response }) => response.case === "event")).toEqual([]);
    await call.cancel();
  });
});

/** Rejects what comes for good, until the server is gone. */
async function rejectUntilDead(call: EventsCall, server: DaemonProcess): Promise<void> {
  let isOver = false;
  void server.exited.then(() => {
    isOver = true;
  });
  await rejectAll(call, async () => isOver);
  expect(await server.exited).toMatchObject({ signal: "SIGKILL" });
}

const REMOVAL = "STREAM\\.MSG\\.DELETE";
const REPLAY_STEPS: readonly (readonly [string, Crash])[] = [
  ["before the mark is sent", { when: "before", on: "^dead-letters\\..*-replay " }],
  ["when the mark is stored", { when: "after", on: "^dead-letters\\..*-replay " }],
  ["before the event is published", { when: "before", on: "^s\\d+\\.a " }],
  ["when the event is stored", { when: "after", on: "^s\\d+\\.a " }],
  ["before the old event is settled", { when: "before", on: "^\\$JS\\.ACK" }],
  ["when the old event is settled", { when: "after", on: "^\\$JS\\.ACK" }],
  ["before the letter is removed", { when: "before", on: REMOVAL }],
  ["when the letter is removed", { when: "after", on: REMOVAL }],
  ["before the mark is removed", { when: "before", on: REMOVAL, nth: 2 }],
  ["when the mark is removed", { when: "after", on: REMOVAL, nth: 2 }],
];

describe("a replay that is killed", () => {
  test.for(REPLAY_STEPS)("%s, and then repeated: one event", async ([, crash], { nats, client, jsm, letters }) => {
    const source = await createFailing(client, { deadLetter: {} });
    // A message id is forgotten at once: what holds has to hold at any later time.
    await jsm.streams.update(source.stream, { duplicate_window: 100_000_000 });
    const call = await client.subscribe(source.stream, "c");
    const id = await client.publish(source.subject, "bad");
    await call.event();
    call.send({ case: "reject", value: { ids: [id], permanently: true } });
    expect(await call.confirmation()).toEqual(confirmed({ ids: [id] }));
    const command = [process.execPath, ...PRELOAD, path("replay-process.ts"), nats.url, source.stream, "c"];
    await using replay = spawnDaemon({ command, env: crashEnv(crash) });
    expect(await replay.exited).toMatchObject({ signal: "SIGKILL" });
    const before = await client.publish(`${source.stream}.b`);
    // Longer than the window: NATS says so by storing a key twice.
    await until(async () => (await client.publish(`${source.stream}.b`, "k", { idempotencyKey: "k" })) > before + 1n);
    await letters.replay(source.stream, "c", "all", {}, {});
    const { letters: left } = await letters.list(source.stream, "c", { size: 10 }, {});
    expect(left).toEqual([]);
    // Nor is there a mark any more.
    expect(await letterCount(jsm, source)).toBe(0);
    const { subjects = {} } = (await jsm.streams.info(source.stream, { subjects_filter: source.subject })).state;
    // The old one, which is settled, and the new one.
    expect(subjects[source.subject]).toBe(2);
    await call.cancel();
  });
});

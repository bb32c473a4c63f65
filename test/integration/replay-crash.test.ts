/** Replays that are killed between any two steps, and then repeated, whoever does it and how: one event, nothing lost. */
import { jetstream } from "@nats-io/jetstream";
import { describe, expect } from "vitest";
import { AdminClient } from "../support/admin-client.ts";
import { Client } from "../support/client.ts";
import { type Source, confirmed, consumerState } from "../support/consuming.ts";
import { type Crash, type Step, aroundEach, spawnDoomed, spawnDoomedReplay } from "../support/crashing.ts";
import { createFailing, letterCount, until } from "../support/failing.ts";
import { lettersTest as test } from "../support/fixtures.ts";

const PROCESSING_MS = 500;
/** A message id is forgotten at once: what holds has to hold at any later time. */
const WINDOW_NANOS = 100_000_000;
const REMOVAL = "STREAM\\.MSG\\.DELETE";
const MARK: readonly Step[] = aroundEach([["the mark is stored", "^dead-letters\\..*-replay "]]);
const EVENT: readonly Step[] = aroundEach([
  ["the event is stored", "^s\\d+\\.a "],
  ["the old event is settled", "^\\$JS\\.ACK"],
  ["the letter is removed", REMOVAL],
]);
const LEFT_MARK: readonly Step[] = aroundEach([["the mark is removed", REMOVAL, 2]]);

/** How letters are replayed, and what was there before. */
interface Kind {
  /** A server was killed between the letter and the settlement of its event. */
  readonly isSettled: boolean;
  readonly isFull: boolean;
  /** A server is asked for it, with the id of the event; else it is a process without subscriptions, for all letters. */
  readonly byIds: boolean;
  readonly steps: readonly Step[];
}

const STEPS = [...MARK, ...EVENT, ...LEFT_MARK];

const KINDS: readonly (readonly [string, Kind])[] = [
  ["of all letters", { isSettled: true, isFull: false, byIds: false, steps: STEPS }],
  ["of an event that was not settled", { isSettled: false, isFull: false, byIds: true, steps: STEPS }],
  // There is no mark to remove.
  ["from a full stream", { isSettled: true, isFull: true, byIds: false, steps: [...MARK, ...EVENT] }],
];

/** Gives an event up with a server that may be killed before the event is settled. Returns its id. */
async function giveUp(client: Client, source: Source, server: Client = client): Promise<bigint> {
  const id = await client.publish(source.subject, "bad");
  const call = await server.subscribe(source.stream, "c");
  await call.event();
  call.send({ case: "reject", value: { ids: [id], permanently: true } });
  if (server !== client) {
    await call.ended;
    return id;
  }
  expect(await call.confirmation()).toEqual(confirmed({ ids: [id] }));
  await call.cancel();
  return id;
}

async function replayUntilDead(natsUrl: string, { stream }: Source, crash: Crash, id: bigint | undefined) {
  if (id === undefined) {
    await using replay = spawnDoomedReplay(natsUrl, stream, "c", crash);
    expect(await replay.exited).toMatchObject({ signal: "SIGKILL" });
    return;
  }
  await using server = spawnDoomed(natsUrl, crash);
  const client = new Client((await server.serving()).grpc);
  const call = new AdminClient(client).replay({ stream, consumer: "c", events: { case: "ids", value: { ids: [id] } } });
  expect(await call.ended).toMatchObject({ status: "UNAVAILABLE" });
  expect(await server.exited).toMatchObject({ signal: "SIGKILL" });
  client.close();
}

/** Waits until a message id is forgotten: NATS says so by storing a key twice. */
async function outliveWindow(client: Client, { stream }: Source): Promise<void> {
  const before = await client.publish(`${stream}.b`);
  await until(async () => (await client.publish(`${stream}.b`, "k", { idempotencyKey: "k" })) > before + 1n);
}

/** Ids of the events of the source's subject that its consumer is given, until there is no other one. */
async function delivered(client: Client, source: Source): Promise<bigint[]> {
  const last = await client.publish(`${source.stream}.end`);
  const call = await client.subscribe(source.stream, source.consumer);
  const ids: bigint[] = [];
  for (let isLast = false; !isLast;) {
    const { response } = await call.next();
    if (response.case === "event") {
      const { id, subject } = response.value;
      if (subject === source.subject) ids.push(id);
      call.ack(id);
    } else if (response.case === "ackConfirmation") isLast = response.value.ids.includes(last);
  }
  await call.cancel();
  return ids;
}

describe.for(KINDS)("a replay %s that is killed", ([, { isSettled, isFull, byIds, steps }]) => {
  test.for(steps)("%s, and then repeated: one event", async ([, crash], { nats, client, jsm, letters }) => {
    const source = await createFailing(client, { deadLetter: {} }, PROCESSING_MS);
    await jsm.streams.update(source.stream, { duplicate_window: WINDOW_NANOS });
    let id: bigint;
    if (isSettled) id = await giveUp(client, source);
    else {
      await using server = spawnDoomed(nats.url, { when: "before", on: "^\\$JS\\.ACK.* \\+TERM" });
      const other = new Client((await server.serving()).grpc);
      id = await giveUp(client, source, other);
      other.close();
      expect(await consumerState(jsm, source)).toMatchObject({ held: 1 });
    }
    if (isFull) await jsm.streams.update(`${source.stream}-dead-letters`, { max_msgs: 1 });
    await replayUntilDead(nats.url, source, crash, byIds ? id : undefined);
    await outliveWindow(client, source);
    await letters.replay(source.stream, "c", byIds ? [id] : "all", {}, {});
    // Neither a letter nor a mark is left.
    expect(await letterCount(jsm, source)).toBe(0);
    // The old one, which is settled, and the new one.
    const { subjects = {} } = (await jsm.streams.info(source.stream, { subjects_filter: source.subject })).state;
    expect(subjects[source.subject]).toBe(2);
    expect(await consumerState(jsm, source)).toMatchObject({ held: 0 });
    const { seq } = (await jsm.streams.getMessage(source.stream, { last_by_subj: source.subject }))!;
    expect(await delivered(client, source)).toEqual([BigInt(seq)]);
    expect(BigInt(seq)).not.toBe(id);
    await until(async () => (await consumerState(jsm, source)).held === 0);
  });
});

test.for(aroundEach([["a mark of an earlier letter is removed", REMOVAL]]))(
  "a replay that is killed %s, and then repeated: one event",
  async ([, crash], { nats, client, jsm, letters, natsClient }) => {
    const source = await createFailing(client, { deadLetter: {} });
    await jsm.streams.update(source.stream, { duplicate_window: WINDOW_NANOS });
    const id = await giveUp(client, source);
    const mark = JSON.stringify({ letter: "77", after: "0" });
    await jetstream(natsClient).publish(`dead-letters.${source.stream}.c.${id}-replay`, mark);
    await replayUntilDead(nats.url, source, crash, undefined);
    await outliveWindow(client, source);
    await letters.replay(source.stream, "c", "all", {}, {});
    expect(await letterCount(jsm, source)).toBe(0);
    const { subjects = {} } = (await jsm.streams.info(source.stream, { subjects_filter: source.subject })).state;
    expect(subjects[source.subject]).toBe(2);
  },
);

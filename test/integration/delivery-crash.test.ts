/** Servers that are killed between any two steps of dead-lettering, whatever led to it: one letter, nothing lost. */
import { describe, expect } from "vitest";
import { SUBJECTS_LOCK } from "../../src/nats/own-consumers.ts";
import { Client, type EventsCall, failure } from "../support/client.ts";
import { type Source, consumerState } from "../support/consuming.ts";
import { type Crash, type Step, aroundEach, spawnDoomed } from "../support/crashing.ts";
import type { DaemonProcess } from "../support/daemon-process.ts";
import { type Policy, createFailing, letterCount, letterOf, until } from "../support/failing.ts";
import { test } from "../support/fixtures.ts";

const PROCESSING_MS = 500;
const FOR_GOOD: Policy = { deadLetter: {} };
const ONCE: Policy = { maxAttempts: 1, deadLetter: {} };
const LETTER = "^dead-letters\\.";
const SETTLEMENT = "^\\$JS\\.ACK.* \\+TERM";

/** How an event comes to be given up: by whom it is rejected, if at all, and under which policy. */
interface Way {
  readonly policy: Policy;
  readonly reject: "permanently" | "simply" | "never";
  readonly cause: string;
}

const WAYS: readonly (readonly [string, Way])[] = [
  ["after a permanent reject", { policy: FOR_GOOD, reject: "permanently", cause: "rejected" }],
  ["after a reject of the last attempt", { policy: ONCE, reject: "simply", cause: "attempts" }],
  ["when the attempts ran out", { policy: ONCE, reject: "never", cause: "attempts" }],
];

/** What happens to one server after the other. */
const CRASHES: readonly (readonly [string, readonly Crash[]])[] = [
  ["before the letter is sent", [{ when: "before", on: LETTER }]],
  ["when the letter is stored", [{ when: "after", on: LETTER }]],
  ["before the event is settled", [{ when: "before", on: SETTLEMENT }]],
  ["when the event is settled", [{ when: "after", on: SETTLEMENT }]],
  [
    "when the letter is stored, and the next one when its letter is refused",
    [
      { when: "after", on: LETTER },
      { when: "after", on: LETTER },
    ],
  ],
  [
    "before the event is settled, and the next one as well",
    [
      { when: "before", on: SETTLEMENT },
      { when: "before", on: SETTLEMENT },
    ],
  ],
];

/** Does to the events of a subscription what the way says, until it is over. */
async function work(call: EventsCall, { reject }: Way, isOver: () => boolean | Promise<boolean>): Promise<void> {
  let handled = 0;
  await until(async () => {
    for (; handled < call.received.length; handled++) {
      const { response } = call.received[handled]!;
      if (response.case !== "event" || reject === "never") continue;
      call.send({ case: "reject", value: { ids: [response.value.id], permanently: reject === "permanently" } });
    }
    return isOver();
  });
}

/** The same with a server of its own, until that is dead. */
async function workUntilDead(server: DaemonProcess, { stream, consumer }: Source, way: Way): Promise<void> {
  const client = new Client((await server.serving()).grpc);
  let isDead = false;
  void server.exited.then(() => {
    isDead = true;
  });
  await work(await client.subscribe(stream, consumer), way, () => isDead);
  expect(await server.exited).toMatchObject({ signal: "SIGKILL" });
  client.close();
}

describe.for(WAYS)("a server that is killed %s", ([, way]) => {
  test.for(CRASHES)("%s: one letter", async ([, crashes], { nats, client, jsm }) => {
    const source = await createFailing(client, way.policy, PROCESSING_MS);
    const id = await client.publish(source.subject, "bad");
    for (const crash of crashes) {
      await using server = spawnDoomed(nats.url, crash);
      await workUntilDead(server, source, way);
    }
    const call = await client.subscribe(source.stream, "c");
    await work(
      call,
      way,
      async () => (await consumerState(jsm, source)).held === 0 && (await letterCount(jsm, source)) > 0,
    );
    expect(await letterCount(jsm, source)).toBe(1);
    const { header } = await letterOf(jsm, source, id);
    expect(header.get("WS-Dead-Letter-Cause")).toBe(way.cause);
    if (way.policy.maxAttempts === 1) {
      expect(header.get("WS-Dead-Letter-Attempts")).toBe("1");
      expect(call.received.filter(({ response }) => response.case === "event")).toEqual([]);
    }
    await call.cancel();
  });
});

const CREATION = "STREAM\\.CREATE\\.\\S+-dead-letters";
const BINDING: readonly Step[] = aroundEach([
  ["the lock is taken", `CONSUMER\\.CREATE\\.\\S+-dead-letters\\.${SUBJECTS_LOCK}`],
  ["the subject is added", "STREAM\\.UPDATE\\.\\S+-dead-letters"],
]);

describe("a server that is killed while it ensures a consumer", () => {
  /** The same is asked of another server, and then an event is given up. */
  async function expectDeadLetters(client: Client, ensure: () => Promise<unknown>, source: Source): Promise<void> {
    await ensure();
    const call = await client.subscribe(source.stream, source.consumer);
    const id = await client.publish(source.subject, "bad");
    await call.event();
    call.send({ case: "reject", value: { ids: [id], permanently: true } });
    expect((await call.confirmation()).ids).toEqual([id]);
    await call.cancel();
  }

  test.for(
    aroundEach([
      ["its stream for dead letters is made", CREATION],
      ["it is made", "CONSUMER\\.CREATE\\.[^-.]+\\.d\\b"],
    ]),
  )("%s: it works when it is ensured again", async ([, crash], { nats, client, jsm }) => {
    const { stream, subject } = await createFailing(client, undefined);
    const request = { stream, name: "d", subjects: [`${stream}.>`], deliveryPolicy: FOR_GOOD };
    await ensureUntilDead(nats.url, crash, request);
    await expectDeadLetters(client, async () => client.ensureConsumer(request), { stream, subject, consumer: "d" });
    expect(await letterCount(jsm, { stream, subject, consumer: "d" })).toBe(1);
  });

  test.for(BINDING)("%s: it works when it is ensured again", async ([, crash], { nats, client, jsm }) => {
    const { stream, subject } = await createFailing(client, FOR_GOOD);
    const request = { stream, name: "d", subjects: [`${stream}.>`], deliveryPolicy: FOR_GOOD };
    await ensureUntilDead(nats.url, crash, request);
    await expectDeadLetters(client, async () => client.ensureConsumer(request), { stream, subject, consumer: "d" });
    const { config } = await jsm.streams.info(`${stream}-dead-letters`);
    expect(config.subjects).toEqual([`dead-letters.${stream}.c.*`, `dead-letters.${stream}.d.*`]);
    // Nobody gives back the lock of a server that is dead.
    await until(async () => (await jsm.consumers.list(`${stream}-dead-letters`).next()).length === 0);
  });

  async function ensureUntilDead(
    natsUrl: string,
    crash: Crash,
    request: Parameters<Client["ensureConsumer"]>[0],
  ): Promise<void> {
    await using server = spawnDoomed(natsUrl, crash);
    const client = new Client((await server.serving()).grpc);
    expect(await failure(client.ensureConsumer(request))).toMatchObject({ status: "UNAVAILABLE" });
    expect(await server.exited).toMatchObject({ signal: "SIGKILL" });
    client.close();
  }
});

describe("a server that is killed, while a letter has no place,", () => {
  const way = WAYS[0]![1];

  test.for(aroundEach([["the stream is made again", CREATION]]))(
    "%s: one letter",
    async ([, crash], { nats, client, jsm }) => {
      const source = await createFailing(client, FOR_GOOD, PROCESSING_MS);
      await jsm.streams.delete(`${source.stream}-dead-letters`);
      await expectOneLetter(nats.url, crash, client, source);
      expect(await letterCount(jsm, source)).toBe(1);
      expect(await consumerState(jsm, source)).toMatchObject({ held: 0 });
    },
  );

  test.for(BINDING.filter(([, { when }]) => when === "after"))(
    "%s: one letter",
    async ([, crash], { nats, client, jsm }) => {
      const source = await createFailing(client, FOR_GOOD, PROCESSING_MS);
      await jsm.streams.update(`${source.stream}-dead-letters`, {
        subjects: [`dead-letters.${source.stream}.elsewhere`],
      });
      await expectOneLetter(nats.url, crash, client, source);
      expect(await letterCount(jsm, source)).toBe(1);
      expect(await consumerState(jsm, source)).toMatchObject({ held: 0 });
    },
  );

  async function expectOneLetter(natsUrl: string, crash: Crash, client: Client, source: Source): Promise<void> {
    const id = await client.publish(source.subject, "bad");
    await using server = spawnDoomed(natsUrl, crash);
    await workUntilDead(server, source, way);
    const call = await client.subscribe(source.stream, source.consumer);
    await work(call, way, () =>
      call.received.some(({ response }) => response.case === "rejectConfirmation" && response.value.ids.includes(id)),
    );
    await call.cancel();
  }
});

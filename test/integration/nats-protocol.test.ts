/**
 * What the server asks of NATS (requests, acknowledgements, pulls, gets, publishes), with a server that cuts its answers at any
 * byte, joins them, or changes a byte of them. NATS has no checksum: a changed byte may be another answer, but whoever waits
 * hears of one, nothing is thrown, and what comes next works.
 */
import type { ConsumerInfo } from "@nats-io/jetstream";
import { afterEach, describe, expect, test, vi } from "vitest";
import { JetStreamApi } from "../../src/nats/api.ts";
import { NatsConnection, type NatsOptions, type ReplyHandler } from "../../src/nats/connection.ts";
import { type GetListener, Reader } from "../../src/nats/get.ts";
import { Publisher } from "../../src/nats/publish.ts";
import { Pull, PullMonitor } from "../../src/nats/pull.ts";
import { SettlementLane } from "../../src/nats/settlement-lane.ts";
import { type Published, ScriptedNats } from "../support/scripted-nats.ts";

const LIMITS = { maxInFlight: 100, maxWaiting: 100 };
/** Whoever waits for an answer that was lost does so for this long; where none is lost, nobody is to give up. */
const SHORT_TIMEOUT_MS = 250;
const LONG_TIMEOUT_MS = 30_000;
const HEARTBEAT_MS = 100;
/** A connection on which nothing can be read any more is given up after 9 s; then there is another. */
const RECOVERY_MS = 60_000;
const TEST_MS = 120_000;
const SIDE_BY_SIDE = 40;

const CREATED = "2026-01-01T00:00:00Z";
const INFO = { created: CREATED, ts: CREATED, config: {} } as ConsumerInfo;
const ACK = Buffer.from("+ACK");

/** Asks the same thing again and again, and says what came of it. */
interface Asker {
  ask(): Promise<string>;
  close?(): Promise<void>;
}

interface Exchange {
  readonly name: string;
  /** What a server says to it. */
  readonly answer: (nats: ScriptedNats, asked: Published) => string;
  readonly open: (connection: NatsConnection) => Asker;
  /** What comes of it. */
  readonly result: string;
}

const headers = (...lines: readonly string[]): string => `NATS/1.0${lines.join("\r\n")}\r\n\r\n`;
const stored = headers("", "Nats-Stream: s", "Nats-Subject: a", "Nats-Sequence: 7", `Nats-Time-Stamp: ${CREATED}`);

const EXCHANGES: readonly Exchange[] = [
  {
    name: "a request that is answered without headers",
    answer: (nats, { reply }) => nats.message(reply, "answer"),
    open: (connection) =>
      once((handler) => connection.request("q", "", ACK, connection.options.requestTimeoutMs, handler)),
    result: "answer",
  },
  {
    name: "a request that is answered with headers",
    answer: (nats, { reply }) => nats.message(reply, "answer", headers("", "A: b")),
    open: (connection) =>
      once((handler) => connection.request("q", "", ACK, connection.options.requestTimeoutMs, handler)),
    result: "answer",
  },
  {
    name: "an acknowledgement",
    answer: (nats, { reply }) => nats.message(reply, ""),
    open: (connection) => {
      const lane = new SettlementLane(connection, true);
      return once((handler) => lane.send("$JS.ACK.s.c.1.7.7.1.0", ACK, true, handler));
    },
    result: "",
  },
  {
    name: "a publish",
    answer: (nats, { reply }) => nats.message(reply, '{"stream":"s","seq":7}'),
    open: (connection) => {
      const publisher = new Publisher(new JetStreamApi(connection, LIMITS), LIMITS);
      return {
        ask: async () => {
          const { promise, resolve } = Promise.withResolvers<string>();
          const message = { subject: "a", headers: "", payload: ACK, deadlineMs: soon(), repeatable: false };
          publisher.publish(message, {
            onStored: ({ stream, sequence }) => resolve(`${stream} ${sequence}`),
            onFailed: ({ reason }) => resolve(reason),
          });
          return promise;
        },
      };
    },
    result: "s 7",
  },
  {
    name: "a get from any replica",
    answer: (nats, { reply }) => nats.message(reply, "value", stored),
    open: (connection) =>
      get(connection, (reader, listener) => reader.direct("s", { last_by_subj: "a" }, soon(), listener)),
    result: "7 a value",
  },
  {
    name: "a get from the leader",
    answer: (nats, { reply }) =>
      nats.message(reply, `{"message":{"subject":"a","seq":7,"data":"dmFsdWU=","time":"${CREATED}"}}`),
    open: (connection) => get(connection, (reader, listener) => reader.fromLeader("s", { seq: 7 }, soon(), listener)),
    result: "7 a value",
  },
  {
    name: "a pull that brings a sign of life and a message",
    answer: (nats, { reply }) => nats.message(reply, "", headers(" 100 Idle Heartbeat")) + event(nats, reply),
    open: pull,
    result: "event",
  },
  {
    name: "a pull that ends, and the one after it",
    answer: (nats, { reply, payload }) =>
      payload.includes('"batch":1,') && reply.endsWith(".1")
        ? nats.message(
            reply,
            "",
            headers(" 408 Request Timeout", "Nats-Pending-Messages: 1", "Nats-Pending-Bytes: 900"),
          )
        : event(nats, reply),
    open: pull,
    result: "event",
  },
];

describe.for(EXCHANGES)("$name", ({ answer, open, result }) => {
  test("comes to the same, wherever its answer is split", { timeout: TEST_MS }, async () => {
    await using nats = await ScriptedNats.listen();
    await using connection = await NatsConnection.open(optionsFor(nats, LONG_TIMEOUT_MS), log());
    const asker = open(connection);
    let text = "";
    let at = 1;
    serve(nats, (asked) => {
      text = answer(nats, asked);
      void nats.send(text.slice(0, at), text.slice(at));
    });
    do expect(await asker.ask(), `split at ${at}`).toBe(result);
    while (++at < text.length);
    expect(nats.connections).toBe(1);
    expect(problems).toEqual([]);
    await asker.close?.();
  });

  test("hears of one answer if a byte of it is changed, and works again", { timeout: TEST_MS }, async () => {
    const length = await lengthOfAnswer(answer, open);
    const places = Array.from({ length }, (_, at) => at);
    for (let from = 0; from < places.length; from += SIDE_BY_SIDE) {
      await Promise.all(
        places.slice(from, from + SIDE_BY_SIDE).map(async (at) => recover({ answer, open, result }, at)),
      );
    }
    expect(problems).toEqual([]);
  });
});

test.for(["x", "1x", "-1", ""])("a pull that ends %j messages early is made again", async (number) => {
  await using nats = await ScriptedNats.listen();
  await using connection = await NatsConnection.open(optionsFor(nats, LONG_TIMEOUT_MS), log());
  const status = headers(" 408 Request Timeout", `Nats-Pending-Messages: ${number}`, `Nats-Pending-Bytes: ${number}`);
  serve(
    nats,
    ({ reply }) => void nats.send(reply.endsWith(".1") ? nats.message(reply, "", status) : event(nats, reply)),
  );
  const asker = pull(connection);
  expect(await asker.ask()).toBe("event");
  expect(await asker.ask()).toBe("event");
  await asker.close?.();
});

test("answers to all kinds at once, in one piece, come to whom they are for", async () => {
  await using nats = await ScriptedNats.listen();
  await using connection = await NatsConnection.open(optionsFor(nats, LONG_TIMEOUT_MS), log());
  const kinds = EXCHANGES.filter(({ open }) => open !== pull);
  const askers = kinds.map(({ open }) => open(connection));
  const waiting: Published[] = [];
  nats.onPublish = (asked) => {
    waiting.push(asked);
    if (waiting.length < kinds.length) return;
    // What was asked last is answered first; each leaves in the order of the list.
    const text = waiting.map((each, n) => kinds[n]!.answer(nats, each));
    void nats.send(text.toReversed().join(""));
  };
  expect(await Promise.all(askers.map(async (asker) => asker.ask()))).toEqual(kinds.map(({ result }) => result));
  expect(problems).toEqual([]);
});

let problems: string[] = [];
afterEach(() => {
  problems = [];
});

/** One byte of the first answer is another; all that is asked afterwards is answered well. */
async function recover({ answer, open, result }: Pick<Exchange, "answer" | "open" | "result">, at: number) {
  await using nats = await ScriptedNats.listen();
  await using connection = await NatsConnection.open(optionsFor(nats, SHORT_TIMEOUT_MS), log());
  const asker = open(connection);
  let isFirst = true;
  serve(nats, (asked) => {
    const text = answer(nats, asked);
    void nats.send(isFirst ? changed(text, at) : text);
    isFirst = false;
  });
  await asker.ask();
  await vi.waitUntil(async () => (await asker.ask()) === result, { timeout: RECOVERY_MS });
  await asker.close?.();
}

const CHANGES = ["\n", "\r", " ", "\0", "9", "0", "-", "\xff"];

function changed(text: string, at: number): string {
  const byte = CHANGES.slice(at % CHANGES.length).find((each) => each !== text[at]) ?? "M";
  return text.slice(0, at) + byte + text.slice(at + 1);
}

async function lengthOfAnswer(answer: Exchange["answer"], open: Exchange["open"]): Promise<number> {
  await using nats = await ScriptedNats.listen();
  await using connection = await NatsConnection.open(optionsFor(nats, LONG_TIMEOUT_MS), log());
  const asker = open(connection);
  let length = 0;
  serve(nats, (asked) => {
    const text = answer(nats, asked);
    length ||= text.length;
    void nats.send(text);
  });
  await asker.ask();
  await asker.close?.();
  return length;
}

/** Whether the consumer is there is answered as it should be. */
function serve(nats: ScriptedNats, onPublish: (asked: Published) => void): void {
  nats.onPublish = (asked) => {
    if (asked.subject.includes(".CONSUMER.INFO.")) void nats.send(nats.message(asked.reply, JSON.stringify(INFO)));
    else onPublish(asked);
  };
}

function event(nats: ScriptedNats, inbox: string): string {
  return nats.message(inbox, "event", headers("", "WS-Data-Type: t"), "$JS.ACK.s.c.1.7.7.1767225600000000000.0");
}

/** An asker whose only answer is a reply. */
function once(send: (handler: ReplyHandler) => void): Asker {
  return {
    ask: async () => {
      const { promise, resolve } = Promise.withResolvers<string>();
      send({ onReply: ({ payload }) => resolve(payload.toString()), onNoReply: resolve });
      return promise;
    },
  };
}

function get(connection: NatsConnection, send: (reader: Reader, listener: GetListener) => void): Asker {
  const reader = new Reader(new JetStreamApi(connection, LIMITS), LIMITS);
  return {
    ask: async () => {
      const { promise, resolve } = Promise.withResolvers<string>();
      send(reader, {
        onFound: (found) =>
          resolve(found === undefined ? "nothing" : `${found.sequence} ${found.subject} ${found.payload.toString()}`),
        onFailed: ({ reason }) => resolve(reason),
      });
      return promise;
    },
  };
}

function pull(connection: NatsConnection): Asker {
  const monitor = new PullMonitor();
  let { promise, resolve } = Promise.withResolvers<string>();
  const source = {
    stream: "s",
    consumer: "c",
    created: CREATED,
    isEphemeral: false,
    seenAt: CREATED,
    resetMark: undefined,
    group: undefined,
    maxBytes: 100_000,
    window: Infinity,
    heartbeatMs: HEARTBEAT_MS,
  };
  const puller = new Pull(new JetStreamApi(connection, LIMITS), monitor, source, {
    onMessage: ({ payload }) => resolve(payload.toString()),
    onSurplus: () => undefined,
    onReachable: () => undefined,
    onDoubt: () => undefined,
    onGone: ({ reason }) => resolve(reason),
  });
  return {
    ask: async () => {
      ({ promise, resolve } = Promise.withResolvers<string>());
      puller.grant(1, 0);
      return promise;
    },
    close: async () => {
      await puller.stop();
      puller.close();
      monitor[Symbol.dispose]();
    },
  };
}

function soon(): number {
  return Date.now() + RECOVERY_MS;
}

function optionsFor({ url }: { readonly url: string }, requestTimeoutMs: number): NatsOptions {
  return { servers: [url], name: "test", inboxPrefix: "_INBOX", requestTimeoutMs };
}

/** Keeps what handlers threw. */
function log() {
  const seen = problems;
  return {
    info: () => undefined,
    warn: () => undefined,
    error: ({ err }: { readonly err?: unknown }, message: string) => {
      if (message === "a message could not be handled") seen.push(String((err as Error).stack));
    },
  };
}

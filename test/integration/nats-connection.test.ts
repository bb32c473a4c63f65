/** The connection to NATS by itself. */
import { describe, expect, test } from "vitest";
import { NatsConnection, type NatsOptions } from "../../src/nats/connection.ts";
import { Link } from "../chaos/proxy.ts";
import { startNats } from "../support/nats.ts";
import { ScriptedNats } from "../support/scripted-nats.ts";

const SILENT = { info: () => undefined, warn: () => undefined, error: () => undefined };

test("a round trip that was held up is measured again, as it takes its time from every event", async () => {
  await using nats = await startNats();
  await using link = await Link.open("us–NATS", () => nats.port);
  await using connection = await NatsConnection.open(optionsFor({ url: `127.0.0.1:${link.port}` }), SILENT);
  link.delay(200);
  expect(await connection.ping()).toBeGreaterThan(200);
  link.heal();
  await expect.poll(() => connection.roundTripMs).toBeLessThan(200);
});

describe("with a server that keeps to the protocol, however it cuts it up", () => {
  const HEADERS = "NATS/1.0\r\nA: b\r\n\r\n";

  test("a reply is received, wherever it is split, and what else comes with it", async () => {
    await using nats = await ScriptedNats.listen();
    await using connection = await NatsConnection.open(optionsFor(nats), SILENT);
    const seen: string[] = [];
    connection.subscribe("theirs", (message) => seen.push(message.payload.toString()));
    const pings = "PING\r\n+OK\r\n";
    for (let at = 1, length = Infinity; at < length; at++) {
      nats.onPublish = ({ reply }) => {
        const text = `${nats.message("theirs", "t")}${pings}${nats.message(reply, "answer", HEADERS)}`;
        length = text.length;
        void nats.send(text.slice(0, at), text.slice(at));
      };
      expect(await ask(connection)).toBe("answer");
      expect(seen.splice(0)).toEqual(["t"]);
    }
    expect(nats.connections).toBe(1);
  });

  test("replies that come in one piece go to whom they are for", async () => {
    await using nats = await ScriptedNats.listen();
    await using connection = await NatsConnection.open(optionsFor(nats), SILENT);
    let replies = "";
    let asked = 0;
    nats.onPublish = ({ reply, payload }) => {
      replies = nats.message(reply, `re ${payload}`) + replies;
      if (++asked === 100) void nats.send(replies);
    };
    const questions = Array.from({ length: 100 }, (_, n) => String(n));
    const answers = await Promise.all(questions.map(async (question) => ask(connection, question)));
    expect(answers).toEqual(questions.map((question) => `re ${question}`));
  });

  test("a command that the library had begun to read when the connection stood is read to its end", async () => {
    await using nats = await ScriptedNats.listen();
    const update = 'INFO {"server_id":"SCRIPTED","version":"2.14.1","proto":1,"headers":true,"max_payload":4096}\r\n';
    nats.afterFirstPong = update.slice(0, 30);
    nats.onSubscribe = () => void nats.send(update.slice(30));
    await using connection = await NatsConnection.open(optionsFor(nats), SILENT);
    await expect.poll(() => connection.maxPayload).toBe(4096);
    nats.onPublish = ({ reply }) => void nats.send(nats.message(reply, "answer"));
    expect(await ask(connection)).toBe("answer");
  });
});

describe("with a server whose bytes make no sense", () => {
  test.for([
    ["the name of a command", (text: string) => text.replace("MSG", "MSX")],
    ["the size of a message", (text: string) => text.replace(" 6\r", " 5\r")],
    ["a number", (text: string) => text.replace(" 6\r", " x\r")],
    ["the end of a line", (text: string) => text.replace("\r\n", "\n\n")],
    ["the end of a message", (text: string) => `${text.slice(0, -2)}\n\r`],
    ["what is none of ours", () => "HELLO\r\n"],
  ] as const)("the connection is given up, who waits hears of it, and a new one works: %s", async ([, corrupt]) => {
    await using nats = await ScriptedNats.listen();
    await using connection = await NatsConnection.open(optionsFor(nats), SILENT);
    nats.onPublish = ({ reply }) => void nats.send(corrupt(nats.message(reply, "answer")));
    expect(await ask(connection)).toBe("disconnected");
    nats.onPublish = ({ reply }) => void nats.send(nats.message(reply, "answer"));
    await expect.poll(() => connection.connected).toBe(true);
    expect(await ask(connection)).toBe("answer");
    expect(nats.connections).toBe(2);
  });
});

test("a connection that is cut before the server let it in is given up at once, and is one loss with the one before", async () => {
  const warned: string[] = [];
  const logger = { ...SILENT, warn: (_: object, message: string) => void warned.push(message) };
  await using nats = await ScriptedNats.listen();
  await using connection = await NatsConnection.open(optionsFor(nats), logger);
  await connection.ping();
  const { promise, resolve } = Promise.withResolvers<void>();
  nats.isSilent = true;
  nats.onPing = resolve;
  nats.cut();
  await promise;
  nats.isSilent = false;
  nats.cut();
  // The client library would wait for the whole of its 5 s.
  await expect.poll(() => connection.connected, { timeout: 3_000 }).toBe(true);
  expect(nats.connections).toBe(3);
  expect(connection.reconnects).toBe(1);
  expect(warned).toEqual(["lost the connection to NATS"]);
});

test("a handler that throws keeps nobody else from their messages", async () => {
  const errors: unknown[] = [];
  const logger = { ...SILENT, error: (fields: { err?: unknown }) => void errors.push(fields.err) };
  await using nats = await startNats();
  await using connection = await NatsConnection.open(optionsFor({ url: `127.0.0.1:${nats.port}` }), logger);
  const seen: string[] = [];
  connection.subscribe("a", (message) => {
    seen.push(message.payload.toString());
    throw new Error("on purpose");
  });
  for (const text of ["1", "2"]) connection.publish("a", "", Buffer.from(text));
  await expect.poll(() => seen).toEqual(["1", "2"]);
  expect(errors).toMatchObject([{ message: "on purpose" }, { message: "on purpose" }]);
});

function optionsFor({ url }: { readonly url: string }): NatsOptions {
  return { servers: [url], name: "test", inboxPrefix: "_INBOX", requestTimeoutMs: 5_000 };
}

/** The payload of the reply, or why there is none. */
async function ask(connection: NatsConnection, question = ""): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  connection.request("questions", "", Buffer.from(question), 5_000, {
    onReply: (message) => resolve(message.payload.toString()),
    onNoReply: resolve,
  });
  return promise;
}

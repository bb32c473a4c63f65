import { once } from "node:events";
import { type AddressInfo, type Socket, connect, createServer } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { test as base, expect } from "vitest";
import { Link } from "./proxy.ts";

/** A link to a server that sends everything back. */
const test = base.extend<{ link: Link; open: () => Promise<Client> }>({
  link: async ({}, use) => {
    const sockets = new Set<Socket>();
    const echo = createServer((socket) => {
      sockets.add(socket);
      socket.on("error", () => undefined);
      socket.pipe(socket);
    });
    await once(echo.listen(0, "127.0.0.1"), "listening");
    await using link = await Link.open("test", () => (echo.address() as AddressInfo).port);
    await use(link);
    for (const socket of sockets) socket.destroy();
    echo.close();
  },
  open: async ({ link }, use) => {
    const clients: Client[] = [];
    await use(async () => {
      const client = new Client(link.port);
      clients.push(client);
      await client.connected;
      return client;
    });
    for (const { socket } of clients) socket.destroy();
  },
});

class Client {
  readonly socket: Socket;
  readonly connected: Promise<unknown>;
  /** How the connection ended. */
  readonly closed: Promise<string>;
  received = "";

  constructor(port: number) {
    const socket = connect(port, "127.0.0.1");
    this.socket = socket;
    this.connected = new Promise((resolve) => socket.once("connect", resolve));
    const { promise, resolve } = Promise.withResolvers<string>();
    this.closed = promise;
    socket.on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? ""));
    socket.on("close", () => resolve("closed"));
    socket.on("data", (chunk) => {
      this.received += chunk.toString();
    });
  }

  async hears(text: string): Promise<void> {
    await expect.poll(() => this.received, { timeout: 5_000, interval: 5 }).toBe(text);
  }
}

test("bytes go through, both ways and in order", async ({ open }) => {
  const client = await open();
  client.socket.write("a");
  client.socket.write("b");
  await client.hears("ab");
});

test("a delay is counted both ways", async ({ link, open }) => {
  const client = await open();
  link.delay(60);
  const start = performance.now();
  client.socket.write("a");
  await client.hears("a");
  expect(performance.now() - start).toBeGreaterThanOrEqual(115);
});

test("a black hole holds everything up until it heals", async ({ link, open }) => {
  const client = await open();
  link.blackHole();
  client.socket.write("a");
  await delay(50);
  expect(client.received).toBe("");
  link.heal();
  await client.hears("a");
});

test("a black hole of one direction lets the other through", async ({ link, open }) => {
  const client = await open();
  client.socket.write("a");
  await client.hears("a");
  link.blackHole("down");
  client.socket.write("b");
  await delay(50);
  expect(client.received).toBe("a");
  link.heal();
  await client.hears("ab");
});

test("what is dropped never arrives, and the connection ends when the link heals", async ({ link, open }) => {
  const client = await open();
  link.drop("up");
  client.socket.write("a");
  await delay(50);
  link.heal();
  expect(await client.closed).toBe("ECONNRESET");
  expect(client.received).toBe("");
});

test("a cut resets connections and lets new ones in", async ({ link, open }) => {
  const client = await open();
  client.socket.write("a");
  await client.hears("a");
  link.cut();
  expect(await client.closed).toBe("ECONNRESET");
  const next = await open();
  next.socket.write("b");
  await next.hears("b");
});

test("a refusing link lets nobody in until it heals", async ({ link, open }) => {
  link.refuse();
  const refused = new Client(link.port);
  refused.socket.write("a");
  expect(await refused.closed).toBe("ECONNRESET");
  expect(refused.received).toBe("");
  link.heal();
  const client = await open();
  client.socket.write("b");
  await client.hears("b");
});

test("an end goes through in its turn, and the other direction stays open", async ({ link, open }) => {
  const client = await open();
  link.delay(20);
  client.socket.end("last words");
  await client.hears("last words");
  await client.closed;
  await expect.poll(() => link.connections).toBe(0);
});

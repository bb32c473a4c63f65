/**
 * Clients that misbehave, as a process of their own until its standard input ends: `node abusers.ts <kind> <address>`.
 * Prints "ready" when they are at it.
 */
import { type ClientHttp2Session, connect } from "node:http2";
import { setPriority } from "node:os";
import { create, toBinary } from "@bufbuild/protobuf";
import { type EventsRequest, EventsRequestSchema } from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { GetRequestSchema } from "../../src/gen/windshift/state/v1alpha1/state_pb.ts";
import { Client, EVENTS, STATE } from "../support/client.ts";
import { Http2Peer, ping, settings } from "../support/http2-peer.ts";

/** Stream, consumer and store that the abusers find. */
export const TARGET = { stream: "abused", consumer: "abused", store: "abused", key: "large" } as const;

const SUBSCRIPTIONS = 400;
const GETS = 1_000;
/** Who was cut off comes again after this time. */
const AGAIN_MS = 5_000;
const UNKNOWN_IDS = Array.from({ length: 100 }, (_, index) => BigInt(1_000_000 + index));
const FRAMES_AT_ONCE = 1_000;
const CHURNING = 10;
const CONNECTIONS = 2_000;

type Abuse = (address: string) => Promise<void>;

/** What they do, by its name. */
export const ABUSES = {
  "never-read": async (address) => {
    // Each consumer is its own, so each of them is sent everything.
    const client = new Client(address);
    const sessions = Array.from({ length: 4 }, () => open(address));
    for (let n = 0; n < SUBSCRIPTIONS; n++) {
      const { id } = await client.ensureConsumer({
        stream: TARGET.stream,
        subjects: ["abused.>"],
        from: { pointer: { case: "start", value: true } },
      });
      unread(sessions[n % 4]!, `${EVENTS}Events`, subscribeBytes(id, 10_000n), false);
    }
  },
  "never-read-answers": async (address) => {
    const request = toBinary(GetRequestSchema, create(GetRequestSchema, { store: TARGET.store, key: TARGET.key }));
    const sessions = Array.from({ length: 4 }, () => open(address));
    for (let n = 0; n < GETS; n++) {
      unread(sessions[n % 4]!, `${STATE}Get`, request, true);
      if (n % 20 === 0) await pause(1);
    }
  },
  "never-ack": async (address) => {
    const client = new Client(address);
    for (let n = 0; n < 20; n++) {
      const { id } = await client.ensureConsumer({
        stream: TARGET.stream,
        subjects: ["abused.>"],
        from: { pointer: { case: "start", value: true } },
      });
      const call = client.events();
      call.stream.on("data", () => (call.received.length = 0));
      call.send({ case: "subscribe", value: { stream: TARGET.stream, consumer: id, maxProcessingEvents: 10_000n } });
    }
  },
  "flood-acks": async (address) => flood(address, "ack"),
  "flood-event-pings": async (address) => flood(address, "ping"),
  "flood-http2-pings": async (address) => floodFrames(address, ping()),
  "flood-http2-settings": async (address) => floodFrames(address, settings()),
  churn: async (address) => {
    for (let n = 0; n < CHURNING; n++) void churn(address);
  },
  connections: async (address) => {
    const port = Number(address.slice(address.lastIndexOf(":") + 1));
    for (let n = 0; n < CONNECTIONS; n++) await Http2Peer.start(port);
  },
} as const satisfies Record<string, Abuse>;

function open(address: string): ClientHttp2Session {
  const session = connect(`http://${address}`);
  session.on("error", () => undefined);
  return session;
}

/** Opens a call and reads nothing of it, again whenever it ends. */
function unread(session: ClientHttp2Session, path: string, message: Uint8Array, isAll: boolean): void {
  const headers = { ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers" };
  const call = session.request(headers, { endStream: false });
  const header = Buffer.alloc(5);
  header.writeUInt32BE(message.length, 1);
  call.on("error", () => undefined);
  call.on("close", () => setTimeout(() => !session.destroyed && unread(session, path, message, isAll), AGAIN_MS));
  call.write(Buffer.concat([header, message]));
  if (isAll) call.end();
}

function subscribeBytes(consumer: string, maxProcessingEvents: bigint): Uint8Array {
  const request: EventsRequest["request"] = create(EventsRequestSchema, {
    request: { case: "subscribe", value: { stream: TARGET.stream, consumer, maxProcessingEvents } },
  }).request;
  return toBinary(EventsRequestSchema, create(EventsRequestSchema, { request }));
}

async function flood(address: string, kind: "ack" | "ping"): Promise<void> {
  const request = create(EventsRequestSchema, { request: { case: kind, value: { ids: UNKNOWN_IDS } } });
  for (let n = 0; n < 4; n++) {
    const call = await new Client(address).subscribe(TARGET.stream, TARGET.consumer, 10n);
    call.stream.on("data", () => (call.received.length = 0));
    const more = (): void => {
      while (call.stream.write(request));
      call.stream.once("drain", more);
    };
    more();
  }
}

/** Sends frames as fast as the socket takes them, reads the answers, and comes again when it is thrown out. */
async function floodFrames(address: string, one: Buffer): Promise<void> {
  const port = Number(address.slice(address.lastIndexOf(":") + 1));
  const client = await Http2Peer.start(port);
  client.socket.on("data", () => (client.received.length = 0));
  const many = Buffer.concat(Array.from({ length: FRAMES_AT_ONCE }, () => one));
  const more = (): void => {
    while (client.send(many));
  };
  client.socket.on("drain", more);
  void client.closed.then(async () => floodFrames(address, one));
  more();
}

async function churn(address: string): Promise<void> {
  for (;;) {
    const client = new Client(address);
    for (let n = 0; n < 50; n++) {
      const call = await client.subscribe(TARGET.stream, TARGET.consumer, 100n);
      await call.cancel();
    }
    client.close();
  }
}

async function pause(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}

if (import.meta.main) {
  const [kind, address] = process.argv.slice(2) as [keyof typeof ABUSES, string];
  // What they cost the processor themselves is not what is measured.
  setPriority(10);
  process.on("unhandledRejection", () => undefined);
  // They end with whoever started them.
  process.stdin.resume().on("end", () => process.exit(0));
  // What a busy server refuses is asked for again.
  for (;;) {
    try {
      await ABUSES[kind](address);
      break;
    } catch {
      await pause(AGAIN_MS);
    }
  }
  console.log("ready");
}

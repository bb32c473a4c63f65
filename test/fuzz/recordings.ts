/**
 * What real clients send, recorded when it is needed: grpc-js always, curl and the interop client of grpc-go where they are
 * there. A recording is the bytes of one connection towards the server, cut into frames.
 */
import { once } from "node:events";
import { type AddressInfo, type Socket, connect, createServer } from "node:net";
import { join } from "node:path";
import { BinaryWriter } from "@bufbuild/protobuf/wire";
import { Client as GrpcClient, Metadata, compressionAlgorithms, credentials } from "@grpc/grpc-js";
import { buildInteropClient } from "../conformance/interop.ts";
import { Server } from "../conformance/server.ts";
import { PREFACE } from "../support/http2-peer.ts";
import { execute } from "../support/toolchain.ts";

const SERVICE = "/grpc.testing.TestService/";
const CLIENT_TIMEOUT_MS = 60_000;
const INTEROP_CASES = ["large_unary", "client_streaming", "server_streaming", "ping_pong", "custom_metadata"];

/** Stands between clients and a server, and keeps what clients send. */
class Recorder implements AsyncDisposable {
  readonly #connections: Buffer[][] = [];
  readonly #sockets = new Set<Socket>();
  readonly #server = createServer((socket) => this.#accept(socket));
  readonly #target: number;

  constructor(target: number) {
    this.#target = target;
  }

  async listen(): Promise<number> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return (this.#server.address() as AddressInfo).port;
  }

  get recordings(): Buffer[][] {
    return this.#connections.map((chunks) => cutIntoFrames(Buffer.concat(chunks)));
  }

  #accept(socket: Socket): void {
    const chunks: Buffer[] = [];
    this.#connections.push(chunks);
    const onward = connect(this.#target, "127.0.0.1");
    for (const one of [socket, onward]) {
      this.#sockets.add(one);
      one.on("error", () => undefined);
    }
    socket.on("data", (chunk: Buffer) => chunks.push(chunk));
    socket.pipe(onward);
    onward.pipe(socket);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }
}

function cutIntoFrames(bytes: Buffer): Buffer[] {
  const frames = [bytes.subarray(0, PREFACE.length)];
  for (let at = PREFACE.length; at + 9 <= bytes.length;) {
    const end = at + 9 + bytes.readUIntBE(at, 3);
    frames.push(bytes.subarray(at, end));
    at = end;
  }
  return frames;
}

/** Recordings of all clients that there are, and the names of those. */
export async function record(isThorough: boolean): Promise<{ clients: string[]; recordings: Buffer[][] }> {
  await using server = await Server.start();
  await using recorder = new Recorder(server.port);
  const port = await recorder.listen();
  await grpcJs(port);
  const clients = ["grpc-js"];
  if (isThorough && (await curl(port))) clients.push("curl");
  if (isThorough && (await grpcGo(port))) clients.push("grpc-go");
  return { clients, recordings: recorder.recordings.filter((frames) => frames.length > 2) };
}

async function grpcJs(port: number): Promise<void> {
  const client = new GrpcClient(`127.0.0.1:${port}`, credentials.createInsecure(), {
    "grpc.use_local_subchannel_pool": 1,
    "grpc.default_compression_algorithm": compressionAlgorithms.gzip,
  });
  try {
    for (const size of [0, 10, 1000, 100_000]) await unary(client, `${SERVICE}UnaryCall`, requestOf(size));
    for (let i = 0; i < 50; i++) void unary(client, `${SERVICE}EmptyCall`, Buffer.alloc(0));
    await unary(client, `${SERVICE}Nothing`, Buffer.alloc(5));
    await bidi(client, 50, false);
    await bidi(client, 5, true);
  } finally {
    client.close();
  }
}

async function unary(client: GrpcClient, path: string, request: Buffer): Promise<void> {
  const metadata = new Metadata();
  metadata.set("x-grpc-test-echo-initial", "value");
  await new Promise<void>((resolve) => {
    client.makeUnaryRequest(path, asIs, asIs, request, metadata, { deadline: Date.now() + CLIENT_TIMEOUT_MS }, () =>
      resolve(),
    );
  });
}

async function bidi(client: GrpcClient, messages: number, isCancelled: boolean): Promise<void> {
  const stream = client.makeBidiStreamRequest(`${SERVICE}FullDuplexCall`, asIs, asIs);
  stream.on("error", () => undefined).resume();
  // One response of ten bytes for each.
  for (let i = 0; i < messages; i++) stream.write(Buffer.of(0x12, 2, 8, 10));
  if (isCancelled) setImmediate(() => stream.cancel());
  else stream.end();
  await new Promise((resolve) => stream.once("status", resolve));
}

/** A `SimpleRequest` with a payload. */
function requestOf(size: number): Buffer {
  return Buffer.from(new BinaryWriter().tag(3, 2).fork().tag(2, 2).bytes(new Uint8Array(size)).join().finish());
}

const asIs = (bytes: Buffer): Buffer => bytes;

async function curl(port: number): Promise<boolean> {
  const url = `http://127.0.0.1:${port}${SERVICE}EmptyCall`;
  const type = ["-H", "content-type: application/grpc", "-H", "te: trailers"];
  try {
    for (const args of [[], [...type, "-d", "x"], [...type, "--data-binary", "x".repeat(5000)]]) {
      await execute("curl", ["-s", "-m", "5", "--http2-prior-knowledge", "-o", "/dev/null", ...args, url]);
    }
    return true;
  } catch {
    return false;
  }
}

async function grpcGo(port: number): Promise<boolean> {
  const client = await buildInteropClient();
  if ("missing" in client) return false;
  for (const name of INTEROP_CASES) {
    const args = ["--server_host=127.0.0.1", `--server_port=${port}`, `--test_case=${name}`];
    await execute(join(client.folder, "client"), args, { timeoutMs: CLIENT_TIMEOUT_MS });
  }
  return true;
}

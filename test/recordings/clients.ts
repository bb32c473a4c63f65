/** The clients that are recorded, and what each of them does in a session of its own. */
import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BinaryWriter } from "@bufbuild/protobuf/wire";
import { Client as GrpcClient, Metadata, compressionAlgorithms, credentials } from "@grpc/grpc-js";
import { buildGoClient } from "../conformance/interop-go.ts";
import { type Toolchain, execute, fetched, toolchain } from "../support/toolchain.ts";

/** What it does with a server on a port of this machine, by name. */
export type Cases = Readonly<Record<string, (port: number) => Promise<unknown>>>;

/** A client that is ready, or why there is none. */
export type Ready = { readonly cases: Cases } | { readonly missing: string };

/** All that are recorded, by the names of their files. */
export const CLIENTS: Readonly<Record<string, () => Promise<Ready>>> = {
  "grpc-js": grpcJs,
  "grpc-go": grpcGo,
  grpcio,
  curl,
};

const SERVICE = "/grpc.testing.TestService/";
const CLIENT_TIMEOUT_MS = 60_000;
/** Of calls: so far away that it is none when a recording is played. */
const DEADLINE_MS = 3_600_000;

async function grpcGo(): Promise<Ready> {
  const client = await buildGoClient();
  if ("missing" in client) return client;
  // Those that wait for a deadline would race with it when they are played again; soaks are many times the same.
  const names = [
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
    "unimplemented_method",
    "unimplemented_service",
  ];
  const run = async (name: string, port: number): Promise<unknown> => {
    const args = ["--server_host=127.0.0.1", `--server_port=${port}`, `--test_case=${name}`];
    return execute(join(client.folder, "client"), args, { timeoutMs: CLIENT_TIMEOUT_MS });
  };
  return { cases: casesOf(names, run) };
}

const GRPCIO = "grpcio==1.80.0";
const PYTHON_CASES = [
  "metadata",
  "padded_metadata",
  "unary_calls",
  "compression",
  "streaming",
  "ping_pong",
  "statuses",
  "cancel",
];

async function grpcio(): Promise<Ready> {
  const client: Toolchain = await toolchain("grpcio", [GRPCIO], [], async (folder) => {
    await fetched("python3", ["-m", "venv", folder]);
    await fetched(join(folder, "bin/python"), ["-m", "pip", "install", "--quiet", "--only-binary", ":all:", GRPCIO]);
  });
  if ("missing" in client) return client;
  const script = join(import.meta.dirname, "grpcio-client.py");
  const run = async (name: string, port: number): Promise<unknown> =>
    execute(join(client.folder, "bin/python"), [script, `${port}`, name], { timeoutMs: CLIENT_TIMEOUT_MS });
  return { cases: casesOf(PYTHON_CASES, run) };
}

async function curl(): Promise<Ready> {
  const isMissing = await execute("curl", ["--version"]).then(
    () => false,
    () => true,
  );
  if (isMissing) return { missing: "curl is not on PATH" };
  // An empty message, which arguments cannot hold.
  const body = join(tmpdir(), "windshift-empty-message");
  await writeFile(body, Buffer.alloc(5));
  const grpc = ["-H", "content-type: application/grpc", "-H", "te: trailers", "--data-binary"];
  const requests: Readonly<Record<string, readonly string[]>> = {
    get: [],
    post_that_is_no_grpc: ["-d", "x".repeat(5000)],
    message: [...grpc, `@${body}`],
    no_message: [...grpc, ""],
    part_of_a_message: [...grpc, "x"],
    message_that_is_too_long: [...grpc, "x".repeat(5000)],
  };
  return {
    cases: casesOf(Object.keys(requests), async (name, port) => {
      const args = ["-s", "-m", "5", "--http2-prior-knowledge", "-o", "/dev/null", ...requests[name]!];
      await execute("curl", [...args, `http://127.0.0.1:${port}${SERVICE}EmptyCall`]);
    }),
  };
}

function casesOf(names: readonly string[], run: (name: string, port: number) => Promise<unknown>): Cases {
  return Object.fromEntries(names.map((name) => [name, async (port: number) => run(name, port)]));
}

async function grpcJs(): Promise<Ready> {
  return {
    cases: {
      unary_calls: withClient(async (client) => {
        for (const size of [0, 10, 1000, 100_000]) await unary(client, "UnaryCall", requestOf(size));
      }),
      unary_calls_at_once: withClient(async (client) => {
        await Promise.all(Array.from({ length: 50 }, async () => unary(client, "EmptyCall", Buffer.alloc(0))));
      }),
      no_such_method: withClient(async (client) => unary(client, "Nothing", Buffer.alloc(5))),
      ping_pong: withClient(async (client) => bidi(client, 50, false)),
      cancel: withClient(async (client) => bidi(client, 5, true)),
    },
  };
}

/** A client with a connection of its own. */
function withClient(act: (client: GrpcClient) => Promise<void>): (port: number) => Promise<void> {
  return async (port) => {
    const client = new GrpcClient(`127.0.0.1:${port}`, credentials.createInsecure(), {
      "grpc.use_local_subchannel_pool": 1,
      "grpc.default_compression_algorithm": compressionAlgorithms.gzip,
    });
    try {
      await act(client);
    } finally {
      client.close();
    }
  };
}

async function unary(client: GrpcClient, method: string, request: Buffer): Promise<void> {
  const metadata = new Metadata();
  metadata.set("x-grpc-test-echo-initial", "value");
  const options = { deadline: Date.now() + DEADLINE_MS };
  await new Promise<void>((resolve) => {
    client.makeUnaryRequest(`${SERVICE}${method}`, asIs, asIs, request, metadata, options, () => resolve());
  });
}

async function bidi(client: GrpcClient, messages: number, isCancelled: boolean): Promise<void> {
  const stream = client.makeBidiStreamRequest(`${SERVICE}FullDuplexCall`, asIs, asIs);
  stream.on("error", () => undefined).resume();
  // One response of ten bytes for each.
  for (let i = 0; i < messages; i++) stream.write(Buffer.of(0x12, 2, 8, 10));
  if (isCancelled) stream.once("data", () => stream.cancel());
  else stream.end();
  await new Promise((resolve) => stream.once("status", resolve));
}

/** A `SimpleRequest` with a payload. */
function requestOf(size: number): Buffer {
  return Buffer.from(new BinaryWriter().tag(3, 2).fork().tag(2, 2).bytes(new Uint8Array(size)).join().finish());
}

const asIs = (bytes: Buffer): Buffer => bytes;

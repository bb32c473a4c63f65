/**
 * `npm run bench -- guard`: what authentication and a policy of 100 rules cost a publish. Servers with and without run at the
 * same time on one nats-server and are measured by turns, so that a slow phase of the machine hits all of them. All are
 * started anew several times, because what V8 makes of the code differs from one process to the next by more than the
 * guard costs.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, toBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { createToken } from "../../src/auth/tokens.ts";
import { PublishEventRequestSchema } from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { Client, EVENTS } from "../support/client.ts";
import { AUDIENCE, ISSUER, SigningKey, jwks } from "../support/issuer.ts";
import { startNats } from "../support/nats.ts";
import { keepInFlight } from "./growth-arena.ts";
import { type BenchServer, startServer } from "./server-under-test.ts";
import { UnaryConnection } from "./unary-connection.ts";

const STREAM = "guarded";
const CONNECTIONS = 4;
const IN_FLIGHT = 64;
const PAYLOAD_BYTES = 256;
const KEPT_BYTES = 256n * 1024n * 1024n;
const RULES = 100;
const STARTS = 5;
const ROUNDS = 4;

interface Contestant {
  readonly name: string;
  readonly server: BenchServer;
  readonly connections: readonly UnaryConnection[];
  micros: number[];
}

/** What a contestant's publishes cost, in microseconds of server CPU, one figure for each start. */
type Costs = Map<string, number[]>;

/** Measures each server for so many seconds after each start, and prints. */
export async function runGuard(seconds: number): Promise<void> {
  const costs: Costs = new Map();
  for (let start = 0; start < STARTS; start++) {
    for (const { name, micros } of await measure(seconds)) {
      costs.set(name, [...(costs.get(name) ?? []), median(micros)]);
    }
  }
  const [open = []] = costs.values();
  console.log(`| server | CPU per publish | beside open | in ${STARTS} starts |\n| --- | --- | --- | --- |`);
  for (const [name, micros] of costs) {
    const shares = micros.map((cost, start) => (cost / open[start]!) * 100);
    const range = `${Math.min(...shares).toFixed(0)} to ${Math.max(...shares).toFixed(0)} %`;
    console.log(`| ${name} | ${median(micros).toFixed(1)} µs | ${median(shares).toFixed(0)} % | ${range} |`);
  }
}

async function measure(seconds: number): Promise<readonly Contestant[]> {
  await using stack = new AsyncDisposableStack();
  const folder = mkdtempSync(join(tmpdir(), "windshift-bench-"));
  stack.defer(() => rmSync(folder, { recursive: true }));
  const nats = stack.use(await startNats());
  const key = await SigningKey.make();
  const token = createToken({ name: "orders" });
  const file = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  const guarded = {
    AUTH_TOKENS_FILE: file("tokens", token.line),
    AUTH_JWT_ISSUER: ISSUER,
    AUTH_JWT_AUDIENCE: AUDIENCE,
    AUTH_JWT_JWKS_FILE: file("keys", jwks(key)),
    AUTH_POLICY_FILE: file("policy", policy()),
  };
  const contestants: Contestant[] = [];
  for (const [name, env, credential] of [
    ["open", {}, undefined],
    ["token, policy of 100 rules", guarded, token.token],
    ["JWT, policy of 100 rules", guarded, await key.sign()],
  ] as const) {
    const server = stack.use(await startServer(nats.url, env));
    if (contestants.length === 0) await ensureStream(server);
    const metadata = credential === undefined ? [] : [["authorization", `Bearer ${credential}`] as const];
    const open = async (): Promise<UnaryConnection> =>
      UnaryConnection.open(server.address, `${EVENTS}PublishEvent`, request(), metadata);
    const connections = await Promise.all(Array.from({ length: CONNECTIONS }, open));
    for (const connection of connections) stack.use(connection);
    contestants.push({ name, server, connections, micros: [] });
  }
  for (let round = 0; round <= ROUNDS; round++) {
    // Nobody is always the first.
    const turns = contestants.map((_, n) => contestants[(n + round) % contestants.length]!);
    for (const { server, connections, micros } of turns) {
      const levels = await keepInFlight(server, connections, IN_FLIGHT, seconds / ROUNDS);
      // The first one warms up.
      if (round > 0) micros.push(levels.cpuMicros / levels.operations);
    }
  }
  return contestants;
}

async function ensureStream({ address }: BenchServer): Promise<void> {
  const client = new Client(address);
  const source = { case: "subjects" as const, value: { subjects: [`${STREAM}.>`] } };
  await client.ensureStream({ name: STREAM, source, retentionPolicy: { maxBytes: KEPT_BYTES } });
  client.close();
}

/** The last rule is the one that counts. */
function policy(): string {
  const rules = Array.from(
    { length: RULES },
    (_, n) =>
      `  - { name: r${n}, for: authenticated, allow: [{ verbs: [publish], subjects: ["${n + 1 === RULES ? STREAM : `other${n}`}.*.created"] }] }`,
  );
  return `version: 1\nrules:\n${rules.join("\n")}\n`;
}

function request(): Uint8Array {
  const data = create(AnySchema, {
    typeUrl: "type.googleapis.com/bench.v1.Bytes",
    value: new Uint8Array(PAYLOAD_BYTES).fill(7),
  });
  const subject = `${STREAM}.orders.created`;
  return toBinary(PublishEventRequestSchema, create(PublishEventRequestSchema, { subject, data }));
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)]!;
}

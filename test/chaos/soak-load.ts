/**
 * The load of the soak, a process of its own: publishes, subscriptions that stay and some that come and go, and a tally of
 * every event. The soak starts it with its orders as an argument, asks by messages and gets an answer to each.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { setTimeout as delay } from "node:timers/promises";
import {
  DeleteConsumerRequestSchema,
  EnsureConsumerRequestSchema,
  EnsureConsumerResponseSchema,
  PublishEventRequestSchema,
} from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { Random } from "./random.ts";
import { LoadConnection, type LoadSubscription, type Told, decodePublished } from "../support/load-client.ts";
import { Tally, type Verdict } from "./soak-tally.ts";

/** How the load is made. */
export interface LoadOrders {
  readonly address: string;
  readonly stream: string;
  readonly consumer: string;
  readonly seed: number;
  readonly payloadBytes: number;
  /** Connections that publish, and subscriptions that stay, each on one of its own. */
  readonly publishers: number;
  readonly subscribers: number;
  readonly window: number;
  /** Subscriptions of the shared consumer that come and go, and their window. */
  readonly visitors: number;
  readonly visitorWindow: number;
  /** Ephemeral consumers that are made, subscribed to and deleted. */
  readonly ephemerals: number;
}

/** What the load is asked. */
export type LoadRequest =
  | { readonly ask: "capacity"; readonly inFlight: number; readonly warmUpMs: number; readonly forMs: number }
  | { readonly ask: "start"; readonly rate: number }
  | { readonly ask: "sample" }
  | { readonly ask: "stop"; readonly limitMs: number };

/** Times of the events since the last sample, in milliseconds. */
export interface Latencies {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

/** The state of the load; counts are sums since its start. */
export interface LoadSample {
  readonly published: number;
  readonly confirmed: number;
  /** From when a publish was due to the event at a subscription. */
  readonly delivery: Latencies;
  /** From when a publish was due to its id. */
  readonly publish: Latencies;
  readonly inFlight: number;
  readonly came: number;
  readonly left: Readonly<Record<Leave, number>>;
}

/** How subscriptions leave: half closed, by a reset of the call, by a reset of the connection. */
export type Leave = "orderly" | "cancelled" | "dropped";

/** What became of everything. */
export interface LoadEnd extends LoadSample {
  readonly verdict: Verdict;
  /** What should not have happened, some of it in words. */
  readonly problems: readonly string[];
  readonly problemCount: number;
}

const LEAVES: readonly Leave[] = ["orderly", "cancelled", "dropped"];
/** Last tokens of the subjects, all of one length; ephemeral consumers get the first alone. */
const SUBJECTS = "abcdefghijklmnop".split("");
const MAX_PROBLEMS = 20;
const TICK_MS = 2;
/** So long an orderly end may take. */
const END_LIMIT_MS = 10_000;
/** Visitors keep so many of their events to the end: settled by one that half closes, left to others by the rest. */
const KEPT_SHARE = 0.1;

const orders = JSON.parse(process.argv[2]!) as LoadOrders;
const random = new Random(orders.seed);
const tally = new Tally();
const publishers = Array.from({ length: orders.publishers }, () => new LoadConnection(orders.address));
const { templates, dueAtOffset } = publishTemplates();
const delivery: number[] = [];
const publishTimes: number[] = [];
const problems: string[] = [];
let problemCount = 0;
let published = 0;
let publishesOpen = 0;
let turn = 0;
/** Events from a publish to its confirmed ack, while the loop is closed. */
let loopOpen = 0;
let loopLimit = 0;
let came = 0;
const left = { orderly: 0, cancelled: 0, dropped: 0 };
let visits: Promise<void>[] = [];
let stop = new AbortController();
let publishing: NodeJS.Timeout | undefined;

await stay();
process.on("message", (request: LoadRequest) => {
  void answer(request).then((response) => process.send!(response));
});
process.on("disconnect", () => process.exit(1));
process.send!("ready");

async function answer(request: LoadRequest): Promise<unknown> {
  switch (request.ask) {
    case "capacity":
      return capacity(request.inFlight, request.warmUpMs, request.forMs);
    case "start":
      stop = new AbortController();
      visits = [
        ...Array.from({ length: orders.visitors }, async () => visitAgain(visitShared)),
        ...Array.from({ length: orders.ephemerals }, async () => visitAgain(visitEphemeral)),
      ];
      publishAtRate(request.rate);
      return "started";
    case "sample":
      return sample();
    case "stop":
      return end(request.limitMs);
  }
}

/** Opens the subscriptions that are there all the time. */
async function stay(): Promise<void> {
  for (let n = 0; n < orders.subscribers; n++) {
    const connection = new LoadConnection(orders.address);
    const ready = Promise.withResolvers<void>();
    const subscription = connection.subscribe(orders.stream, orders.consumer, orders.window, (told) => {
      if (told[0]!.kind === "subscribed") ready.resolve();
      const ids = receive(told);
      if (ids.length > 0) acknowledge(subscription, ids);
    });
    void subscription.ended.then((status) => problem(`a subscription that stays ended with status ${status}`));
    await ready.promise;
  }
}

/** Events confirmed a second, with so many between their publish and their confirmed ack. */
async function capacity(inFlight: number, warmUpMs: number, forMs: number): Promise<number> {
  loopLimit = inFlight;
  fillLoop();
  await delay(warmUpMs);
  const first = tally.confirmed;
  const start = performance.now();
  await delay(forMs);
  const perSecond = ((tally.confirmed - first) * 1000) / (performance.now() - start);
  loopLimit = 0;
  while (loopOpen > 0) await delay(TICK_MS);
  sample();
  return perSecond;
}

function fillLoop(): void {
  while (loopOpen < loopLimit) {
    loopOpen += 1;
    publish(performance.now());
  }
}

/** Open loop: what is due is published, whatever became of what was before. */
function publishAtRate(rate: number): void {
  const start = performance.now();
  let due = 0;
  publishing = setInterval(() => {
    const now = performance.now();
    for (let at = start + (due * 1000) / rate; at <= now; at = start + (due * 1000) / rate) {
      due += 1;
      publish(at);
    }
  }, TICK_MS);
}

function publish(dueAt: number): void {
  const request = Buffer.from(templates[turn % templates.length]!);
  request.writeDoubleLE(dueAt, dueAtOffset);
  publishesOpen += 1;
  const connection = publishers[turn++ % publishers.length]!;
  connection.unary("PublishEvent", request).then(
    (response) => {
      publishesOpen -= 1;
      published += 1;
      tally.published(decodePublished(response));
      publishTimes.push(performance.now() - dueAt);
    },
    (error: Error) => {
      publishesOpen -= 1;
      problem(`a publish failed: ${error.message}`);
    },
  );
}

/** Takes down what a subscription of the shared consumer told; returns the ids to acknowledge. */
function receive(told: readonly Told[], isLeaving = false): number[] {
  const ids: number[] = [];
  for (const one of told) {
    if (one.kind === "event") {
      if (tally.delivered(one.id, isLeaving)) delivery.push(performance.now() - one.dueAt);
      ids.push(one.id);
    } else if (one.kind === "confirmed") {
      for (const id of one.ids) tally.confirmedAck(id);
      if (one.refused.length > 0) problem(`acks of ${one.refused.join(", ")} were refused`);
      if (loopOpen > 0) {
        loopOpen -= one.ids.length;
        fillLoop();
      }
    }
  }
  return ids;
}

function acknowledge(subscription: LoadSubscription, ids: readonly number[]): void {
  for (const id of ids) tally.acked(id);
  subscription.ack(ids);
}

async function visitAgain(visit: () => Promise<void>): Promise<void> {
  await pause(random.between(0, 2_000));
  while (!stop.signal.aborted) {
    try {
      await visit();
    } catch (error) {
      problem(String(error));
    }
    await pause(random.between(50, 500));
  }
}

/** A subscription of the shared consumer for a while, on a connection of its own. */
async function visitShared(): Promise<void> {
  const connection = new LoadConnection(orders.address);
  const kept: number[] = [];
  const unanswered = new Set<number>();
  let isLeaving = false;
  const settle = (ids: readonly number[]): void => {
    for (const id of ids) unanswered.add(id);
    if (ids.length > 0) acknowledge(subscription, ids);
  };
  const subscription = connection.subscribe(orders.stream, orders.consumer, orders.visitorWindow, (told) => {
    const ids = receive(told, isLeaving);
    for (const one of told) if (one.kind === "confirmed") for (const id of one.ids) unanswered.delete(id);
    if (isLeaving) return;
    settle(
      ids.filter((id) => {
        const isKept = kept.length < orders.visitorWindow / 2 && random.chance(KEPT_SHARE);
        if (isKept) kept.push(id);
        return !isKept;
      }),
    );
  });
  came += 1;
  await visiting(subscription);
  isLeaving = true;
  const how = random.pick(LEAVES);
  if (how === "orderly") settle(kept);
  await leave(connection, subscription, how);
  if (how === "orderly" && unanswered.size > 0) {
    problem(`a half-closed subscription ended without an answer to the acks of ${[...unanswered].join(", ")}`);
  }
}

/** An ephemeral consumer of a part of the events: made, subscribed to, left and deleted. */
async function visitEphemeral(): Promise<void> {
  const { address, stream } = orders;
  const connection = new LoadConnection(address);
  const request = create(EnsureConsumerRequestSchema, { stream, subjects: [`${stream}.${SUBJECTS[0]}`] });
  const response = await connection.unary("EnsureConsumer", toBinary(EnsureConsumerRequestSchema, request));
  const { id } = fromBinary(EnsureConsumerResponseSchema, response);
  const subscription = connection.subscribe(stream, id, orders.visitorWindow, (told) => {
    const ids = told.flatMap((one) => (one.kind === "event" ? [one.id] : []));
    if (ids.length > 0) subscription.ack(ids);
  });
  came += 1;
  await visiting(subscription);
  await leave(connection, subscription, random.pick(LEAVES));
  const last = new LoadConnection(address);
  const deletion = create(DeleteConsumerRequestSchema, { stream, id });
  await last.unary("DeleteConsumer", toBinary(DeleteConsumerRequestSchema, deletion));
  last.close();
}

async function visiting(subscription: LoadSubscription): Promise<void> {
  let isOver = false;
  void subscription.ended.then(() => {
    isOver = true;
  });
  await pause(random.between(200, 4_000));
  if (isOver) problem(`a visiting subscription ended by itself with status ${await subscription.ended}`);
}

async function leave(connection: LoadConnection, subscription: LoadSubscription, how: Leave): Promise<void> {
  left[how] += 1;
  if (how === "dropped") {
    connection.drop();
    await subscription.ended;
    return;
  }
  if (how === "cancelled") {
    subscription.cancel();
  } else {
    subscription.halfClose();
    const tooLong = new AbortController();
    const late = delay(END_LIMIT_MS, "too late", { signal: tooLong.signal });
    late.catch(() => undefined);
    const status = await Promise.race([subscription.ended, late]);
    tooLong.abort();
    if (status !== "0") problem(`a half-closed subscription ended with status ${status}`);
  }
  connection.close();
}

/** Ends publishing and visits, and waits until everything published is confirmed. */
async function end(limitMs: number): Promise<LoadEnd> {
  clearInterval(publishing);
  stop.abort();
  await Promise.all(visits);
  const deadline = performance.now() + limitMs;
  let verdict = tally.verdict();
  while (performance.now() < deadline) {
    if (publishesOpen === 0 && verdict.missed === 0) break;
    await delay(100);
    verdict = tally.verdict();
  }
  if (publishesOpen > 0) problem(`${publishesOpen} publishes have no answer`);
  return { ...sample(), verdict, problems, problemCount };
}

function sample(): LoadSample {
  return {
    published,
    confirmed: tally.confirmed,
    delivery: latencies(delivery),
    publish: latencies(publishTimes),
    inFlight: publishesOpen,
    came,
    left: { ...left },
  };
}

function latencies(times: number[]): Latencies {
  const sorted = Float64Array.from(times).sort();
  times.length = 0;
  const share = (part: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0;
  return { p50: share(0.5), p99: share(0.99), max: sorted.at(-1) ?? 0 };
}

function problem(text: string): void {
  problemCount += 1;
  if (problems.length < MAX_PROBLEMS) problems.push(text);
}

async function pause(ms: number): Promise<void> {
  await delay(ms, undefined, { signal: stop.signal }).catch(() => undefined);
}

/** Requests as bytes, one for each subject, and where in them the time goes: most of their cost is paid once. */
function publishTemplates(): { templates: readonly Buffer[]; dueAtOffset: number } {
  const value = new Uint8Array(orders.payloadBytes).fill(7);
  const marker = Buffer.from("\u0001due at\u0002");
  value.set(marker);
  const data = create(AnySchema, { typeUrl: "type.googleapis.com/soak.v1.Bytes", value });
  const templates = SUBJECTS.map((subject) => {
    const request = create(PublishEventRequestSchema, { subject: `${orders.stream}.${subject}`, data });
    return Buffer.from(toBinary(PublishEventRequestSchema, request));
  });
  return { templates, dueAtOffset: templates[0]!.indexOf(marker) };
}

/** One subscription after another of a consumer; what to do with the events is the style's business. */
import {
  type Event,
  type EventsResponse,
  SubscriptionStatus_State,
} from "../../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { CallError, type EventsCall, textOf } from "../../support/client.ts";
import type { Kind, Lists, Status } from "../history.ts";
import { type Setting, failureOf, wait } from "./actor.ts";
import { Endpoint } from "./endpoint.ts";

/** What a style may do with an open subscription. */
export interface OpenSubscription {
  readonly window: number;
  /** Aborted when the subscription ends. */
  readonly signal: AbortSignal;
  settle(kind: Kind, ids: readonly number[], delayMs?: number): void;
  halfClose(): void;
}

/** How a subscriber works. The same object serves one subscription after the other. */
export interface SubscriberStyle {
  /** Empty for an ephemeral one, which is made once. */
  readonly consumer: string;
  readonly window: number;
  /** Bytes that it may hold besides; 0 for no limit. */
  readonly maxBytes?: number;
  /** Whether it is to be told how it fares. */
  readonly statusUpdates?: boolean;
  onOpen?(subscription: OpenSubscription): void;
  onEvent(id: number, attempt: number, subscription: OpenSubscription): void;
  onConfirmed?(kind: Kind, lists: Lists, subscription: OpenSubscription): void;
}

const STATES = new Map<number, Status>(
  Object.entries(SubscriptionStatus_State).map(([name, state]) => [state, name as Status]),
);
const SILENCE_MS = 4_000;
const RETRY_MS = 150;

/** Subscribes again and again until it shall stop. */
export async function runSubscriber(setting: Setting, style: SubscriberStyle): Promise<void> {
  const { random, stop } = setting;
  using endpoint = new Endpoint(setting.addresses, setting.index);
  const consumer = style.consumer === "" ? await ephemeralConsumer(setting, endpoint) : style.consumer;
  for (let n = 0; !stop.aborted; n++) {
    await subscribeOnce(setting, { ...style, consumer }, endpoint, `${setting.name}/${n}`);
    await wait(random.between(RETRY_MS / 2, RETRY_MS), stop);
    endpoint.next();
  }
}

async function ephemeralConsumer({ scene, stop }: Setting, endpoint: Endpoint): Promise<string> {
  const { stream, timeoutMs } = scene;
  const processingTimeout = { seconds: BigInt(timeoutMs / 1000), nanos: 0 };
  while (!stop.aborted) {
    try {
      const request = { stream, subjects: [`${stream}.>`], processingTimeout };
      return (await endpoint.client.ensureConsumer(request, { deadlineMs: SILENCE_MS })).id;
    } catch {
      await wait(RETRY_MS, stop);
      endpoint.next();
    }
  }
  return "";
}

async function subscribeOnce(
  { scene, history, stop }: Setting,
  style: SubscriberStyle,
  endpoint: Endpoint,
  sub: string,
): Promise<void> {
  const { stream } = scene;
  const { consumer, window, maxBytes = 0, statusUpdates = false } = style;
  const over = new AbortController();
  let byClient = false;
  let heardAt = performance.now();
  history.add({ e: "subscribe", sub, stream, consumer, window, maxBytes, server: endpoint.server });
  const call = endpoint.client.events();
  const open: OpenSubscription = {
    window,
    signal: over.signal,
    settle: (kind, ids, delayMs) => {
      if (over.signal.aborted || byClient) return;
      history.add({ e: "settle", sub, kind, ids });
      send(call, kind, ids.map(BigInt), delayMs);
    },
    halfClose: () => {
      byClient = true;
      history.add({ e: "half_close", sub });
      call.stream.end();
    },
  };
  const leave = (): void => {
    byClient = true;
    call.stream.cancel();
  };
  stop.addEventListener("abort", leave, { once: true });
  const receive = (event: Event): void => {
    const [id, attempt] = [Number(event.id), Number(event.deliveryAttempt)];
    history.add({ e: "event", sub, id, ...contents(event), attempt });
    style.onEvent(id, attempt, open);
  };
  call.stream.on("data", ({ response }: EventsResponse) => {
    heardAt = performance.now();
    // The helper keeps everything; a long run must not.
    call.received.length = 0;
    if (response.case === "event") {
      receive(response.value);
    } else if (response.case === "events") {
      for (const event of response.value.events) receive(event);
    } else if (response.case === "subscribed") {
      const { processingTimeout } = response.value;
      const timeoutMs = Number(processingTimeout!.seconds) * 1_000 + processingTimeout!.nanos / 1_000_000;
      history.add({ e: "subscribed", sub, timeoutMs });
      style.onOpen?.(open);
    } else if (response.case === "status") {
      history.add({ e: "status", sub, state: STATES.get(response.value.state) ?? "UNSPECIFIED" });
    } else if (response.case !== undefined) {
      const kind = response.case.replace("Confirmation", "") as Kind;
      const lists = {
        ids: response.value.ids.map(Number),
        invalid: response.value.invalidIds.map(Number),
        failed: response.value.temporaryFailedIds.map(Number),
      };
      history.add({ e: "confirmed", sub, kind, ...lists });
      style.onConfirmed?.(kind, lists, open);
    }
  });
  const limits = { maxProcessingEvents: BigInt(window), maxProcessingBytes: BigInt(maxBytes) };
  call.send({ case: "subscribe", value: { stream, consumer, ...limits, statusUpdates } });
  const watch = setInterval(() => {
    if (performance.now() - heardAt < SILENCE_MS) return;
    heardAt = performance.now();
    void endpoint.answers().then((answers) => {
      if (!answers && !over.signal.aborted) leave();
    });
  }, 500);
  const error = await call.ended;
  clearInterval(watch);
  stop.removeEventListener("abort", leave);
  over.abort();
  history.add({
    e: "ended",
    sub,
    by: byClient ? "client" : "server",
    ...(error instanceof CallError ? failureOf(error) : {}),
  });
}

function contents(event: Event): { key: string | undefined; text: string } {
  return { key: event.headers?.idempotencyKey, text: textOf(event.data) ?? "" };
}

function send(call: EventsCall, kind: Kind, ids: bigint[], delayMs: number | undefined): void {
  if (kind === "ack" || kind === "ping") {
    call.send({ case: kind, value: { ids } });
  } else if (kind === "terminate") {
    call.send({ case: "reject", value: { ids, permanently: true } });
  } else {
    const delay = delayMs === undefined ? {} : { delay: { seconds: 0n, nanos: Math.round(delayMs * 1_000_000) } };
    call.send({ case: "reject", value: { ids, ...delay } });
  }
}

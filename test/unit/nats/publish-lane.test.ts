import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { WindshiftError } from "../../../src/errors.ts";
import { JetStreamApi } from "../../../src/nats/api.ts";
import { PublishLane } from "../../../src/nats/publish-lane.ts";
import { Publisher } from "../../../src/nats/publish.ts";
import { FakeConnection, type SentRequest, nobody, refusal, reply } from "./fake-connection.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const LAST_SEQUENCE_NOT_READY = 10163;
const STREAM_FULL = 10077;
const FOUND = reply({ streams: ["s"] });
const NOT_FOUND = reply({ streams: null });
const NAMES = "$JS.API.STREAM.NAMES";

/** A lane on a connection whose other side is the test. */
class Scene {
  readonly connection = new FakeConnection();
  readonly publisher: Publisher;
  readonly lane = new PublishLane();
  /** How publishes ended, in this order: the text of a stored one, or with the reason of its error. */
  readonly ends: string[] = [];
  /** Texts in the order in which JetStream stored them. */
  readonly stored: string[] = [];

  constructor({ maxInFlight = 100, maxWaiting = 1 } = {}) {
    const api = new JetStreamApi(this.connection.as, { maxInFlight: 1, maxWaiting: 1 });
    this.publisher = new Publisher(api, { maxInFlight, maxWaiting });
  }

  publish(text: string, { subject = "a", deadlineMs = 30_000 } = {}): void {
    const message = { subject, headers: "", payload: Buffer.from(text), repeatable: false };
    this.publisher.publish(
      { ...message, deadlineMs: Date.now() + deadlineMs },
      {
        onStored: () => this.ends.push(text),
        onFailed: (error: WindshiftError) => this.ends.push(`${text} ${error.reason} ${error.outcome}`),
      },
      this.lane,
    );
  }

  /** What was sent and not answered: texts of publishes, or questions. */
  get sent(): string[] {
    return this.connection.sent.map(({ subject, payload }) => (subject === NAMES ? "?" : payload));
  }

  store(text: string): void {
    this.stored.push(text);
    this.#take(text).handler.onReply(reply({ stream: "s", seq: this.stored.length }));
  }

  refuse(text: string, code: number = LAST_SEQUENCE_NOT_READY): void {
    this.#take(text).handler.onReply(refusal(code));
  }

  nobodyListens(text: string): void {
    this.#take(text).handler.onReply(nobody());
  }

  async find(answer = FOUND): Promise<void> {
    const at = this.connection.sent.findIndex(({ subject }) => subject === NAMES);
    this.connection.sent.splice(at, 1)[0]!.handler.onReply(answer);
    await this.pass();
  }

  async pass(ms = 0): Promise<void> {
    await vi.advanceTimersByTimeAsync(ms);
  }

  #take(text: string): SentRequest {
    const at = this.connection.sent.findIndex(({ payload }) => payload === text);
    return this.connection.sent.splice(at, 1)[0]!;
  }
}

describe("a watch", () => {
  const place = 1;

  test.for<[what: string, publish: (scene: Scene) => void, isOvertaken: boolean]>([
    ["nothing", () => undefined, false],
    ["an earlier one of the subject", (scene) => scene.store("0"), false],
    ["one of another subject", (scene) => scene.publish("3", { subject: "b" }), false],
    ["a later one of the subject", (scene) => scene.publish("3"), true],
  ])("of a publish that has its answer, and %s: overtaken %s", ([, publish, isOvertaken]) => {
    const scene = new Scene();
    for (const text of ["0", "1"]) scene.publish(text);
    scene.publish("2", { subject: "b" });
    scene.store("1");
    using watch = scene.lane.watch("a", place);
    expect(watch.isOvertaken).toBe(false);
    publish(scene);
    expect(watch.isOvertaken).toBe(isOvertaken);
  });

  test("sees what was sent, stored or held before", () => {
    const sent = new Scene();
    for (const text of ["0", "1", "2"]) sent.publish(text);
    sent.store("1");
    using first = sent.lane.watch("a", place);
    expect(first.isOvertaken).toBe(true);
    sent.store("2");
    using second = sent.lane.watch("a", place);
    expect(second.isOvertaken).toBe(true);

    const held = new Scene();
    for (const text of ["0", "1"]) held.publish(text);
    held.store("1");
    held.refuse("0");
    held.publish("2");
    using third = held.lane.watch("a", place);
    expect(third.isOvertaken).toBe(true);
  });

  test("that has ended hears of nothing", () => {
    const scene = new Scene();
    for (const text of ["0", "1"]) scene.publish(text);
    scene.store("1");
    const watch = scene.lane.watch("a", place);
    watch[Symbol.dispose]();
    scene.publish("2");
    expect(watch.isOvertaken).toBe(false);
  });
});

describe("a lane", () => {
  test("sends without waiting for answers", () => {
    const scene = new Scene();
    for (const text of ["1", "2", "3"]) scene.publish(text);
    expect(scene.sent).toEqual(["1", "2", "3"]);
    for (const text of ["2", "1", "3"]) scene.store(text);
    expect(scene.ends).toEqual(["2", "1", "3"]);
  });

  test("sends nothing more from the first refusal on, and then the refused ones first", async () => {
    const scene = new Scene();
    for (const text of ["1", "2", "3"]) scene.publish(text);
    scene.refuse("1");
    scene.publish("4");
    expect(scene.lane.isFull).toBe(true);
    scene.refuse("2");
    expect(scene.sent).toEqual(["3"]);
    scene.refuse("3");
    await scene.pass(100);
    // The first goes alone: what refuses it would refuse the others.
    expect(scene.sent).toEqual(["1"]);
    scene.refuse("1");
    await scene.pass(100);
    scene.store("1");
    expect(scene.sent).toEqual(["2", "3", "4"]);
    expect(scene.lane.isFull).toBe(false);
    for (const text of ["2", "3", "4"]) scene.store(text);
    expect(scene.ends).toEqual(["1", "2", "3", "4"]);
  });

  test("asks whether there is a stream where nobody listens, and sends nothing meanwhile", async () => {
    const scene = new Scene();
    scene.publish("1");
    scene.nobodyListens("1");
    scene.publish("2");
    expect(scene.sent).toEqual(["?"]);
    await scene.find();
    await scene.pass(100);
    expect(scene.sent).toEqual(["1"]);
    scene.store("1");
    expect(scene.sent).toEqual(["2"]);
  });

  test("goes on at once where no stream collects a subject", async () => {
    const scene = new Scene();
    scene.publish("1");
    scene.nobodyListens("1");
    scene.publish("2");
    await scene.find(NOT_FOUND);
    expect(scene.ends).toEqual(["1 SUBJECT_NOT_BOUND not_stored"]);
    expect(scene.sent).toEqual(["2"]);
  });

  test("fails a refused one whose subject has got a later event, and no others", async () => {
    const scene = new Scene();
    scene.publish("1");
    scene.publish("2", { subject: "b" });
    scene.publish("3");
    scene.publish("4", { subject: "b" });
    scene.store("3");
    scene.refuse("1");
    scene.refuse("2");
    scene.refuse("4", STREAM_FULL);
    expect(scene.ends).toEqual(["3", "1 NO_LEADER not_stored", "4 STREAM_FULL not_stored"]);
    await scene.pass(100);
    scene.store("2");
    expect(scene.ends.at(-1)).toBe("2");
  });

  test("fails a refused one where a later event of its subject may be stored", async () => {
    const scene = new Scene();
    scene.publish("1");
    scene.publish("2");
    scene.refuse("1");
    scene.connection.sent.splice(0, 1)[0]!.handler.onNoReply("disconnected");
    expect(scene.ends).toEqual(["1 NO_LEADER not_stored", "2 NATS_UNAVAILABLE unknown"]);
  });

  test("fails refused ones and those behind them at their deadlines", async () => {
    const scene = new Scene();
    scene.publish("1");
    scene.publish("2", { deadlineMs: 1_000 });
    scene.refuse("1");
    scene.refuse("2");
    scene.publish("3", { deadlineMs: 500 });
    scene.publish("4");
    for (let round = 0; round < 15; round++) {
      await scene.pass(100);
      if (scene.sent.includes("1")) scene.refuse("1");
    }
    expect(scene.ends).toEqual(["3 DEADLINE_EXCEEDED not_stored", "2 NO_LEADER not_stored"]);
    await scene.pass(100);
    scene.store("1");
    expect(scene.sent).toEqual(["4"]);
  });

  test("waits where others would be refused, and says that it is crowded", () => {
    const scene = new Scene({ maxInFlight: 1, maxWaiting: 1 });
    for (const text of ["1", "2", "3", "4"]) scene.publish(text);
    expect(scene.sent).toEqual(["1"]);
    expect(scene.publisher.isCrowded).toBe(true);
    for (const text of ["1", "2", "3", "4"]) scene.store(text);
    expect(scene.ends).toEqual(["1", "2", "3", "4"]);
    expect(scene.publisher.isCrowded).toBe(false);
    expect(scene.publisher.waiting).toBe(0);
  });

  test("is full while one has no answer and thousands after it have theirs", () => {
    const scene = new Scene({ maxInFlight: 10 });
    scene.publish("first");
    for (let n = 1; n < 4096; n++) {
      expect(scene.lane.isFull).toBe(false);
      scene.publish(`${n}`);
      scene.store(`${n}`);
    }
    expect(scene.lane.isFull).toBe(true);
    scene.store("first");
    expect(scene.lane.isFull).toBe(false);
  });

  test("keeps the order of each subject, whatever is refused and however answers come", async () => {
    const step = fc.record({
      at: fc.nat(),
      kind: fc.constantFrom("publish", "store", "refuse", "nobody", "fail", "wait"),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 80 }), async (steps) => {
        const scene = new Scene({ maxInFlight: 5 });
        let next = 0;
        const act = async (kind: string, at: number): Promise<void> => {
          if (kind === "publish") {
            scene.publish(`${next}`, { subject: next % 2 === 0 ? "a" : "b" });
            next += 1;
            return;
          }
          const sent = scene.sent;
          if (sent.includes("?")) await scene.find();
          // NATS answers a stream's messages in their order; refusals may overtake.
          const text = sent.filter((each) => each !== "?")[kind === "store" ? 0 : at % Math.max(1, sent.length)];
          if (kind === "wait") await scene.pass(100);
          else if (text === undefined) return;
          else if (kind === "store") scene.store(text);
          else if (kind === "refuse") scene.refuse(text);
          else if (kind === "nobody") scene.nobodyListens(text);
          else scene.refuse(text, STREAM_FULL);
        };
        for (const { kind, at } of steps) await act(kind, at);
        for (let round = 0; round < 1_000 && scene.ends.length < next; round++) {
          await act("wait", 0);
          await act("store", 0);
        }
        expect(scene.ends).toHaveLength(next);
        for (const parity of [0, 1]) {
          const numbers = scene.stored.map(Number).filter((number) => number % 2 === parity);
          expect(numbers).toEqual(numbers.toSorted((a, b) => a - b));
        }
        expect(scene.publisher.inFlight + scene.publisher.waiting).toBe(0);
        expect(scene.lane.isFull).toBe(false);
      }),
      { numRuns: 300 },
    );
  });
});

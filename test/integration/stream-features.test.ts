/** What EnsureStream allows beyond the original contract: switched on when asked for, and kept from then on. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { JetStreamManager } from "@nats-io/jetstream";
import { describe, expect } from "vitest";
import type { EnsureStreamRequestSchema } from "../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { failure, textOf, textValue } from "../support/client.ts";
import { test, uniqueName } from "../support/fixtures.ts";
import { ensureStream } from "../support/publishing.ts";

type Request = MessageInitShape<typeof EnsureStreamRequestSchema>;

/** What JetStream has of them; absent is false. */
async function features(jsm: JetStreamManager, stream: string) {
  const config = (await jsm.streams.info(stream)).config as unknown as Record<string, unknown>;
  const { allow_msg_ttl = false, allow_msg_schedules = false, allow_atomic = false } = config;
  return { allow_msg_ttl, allow_msg_schedules, allow_atomic };
}

const NONE = { allow_msg_ttl: false, allow_msg_schedules: false, allow_atomic: false };
const cases: [field: string, asked: Request, config: Partial<typeof NONE>][] = [
  ["allow_time_to_live", { allowTimeToLive: true }, { allow_msg_ttl: true }],
  ["allow_scheduling", { allowScheduling: true }, { allow_msg_ttl: true, allow_msg_schedules: true }],
  ["allow_atomic", { allowAtomic: true }, { allow_atomic: true }],
];

describe("a stream", () => {
  test("allows nothing that nobody asked for", async ({ client, jsm }) => {
    const stream = await ensureStream(client);
    expect(await features(jsm, stream)).toEqual(NONE);
    await ensureStream(client, { name: stream, allowTimeToLive: false, allowScheduling: false, allowAtomic: false });
    expect(await features(jsm, stream)).toEqual(NONE);
  });

  test.for(cases)("gets %s when it is made, or later", async ([, asked, config], { client, jsm }) => {
    const made = await ensureStream(client, asked);
    expect(await features(jsm, made)).toEqual({ ...NONE, ...config });
    const changed = await ensureStream(client);
    await ensureStream(client, { name: changed, ...asked });
    expect(await features(jsm, changed)).toEqual({ ...NONE, ...config });
  });

  test.for(cases)("keeps %s where a request leaves it out", async ([, asked, config], { client, jsm }) => {
    const name = await ensureStream(client, asked);
    const { subjects } = (await jsm.streams.info(name)).config;
    await ensureStream(client, { name, retentionPolicy: { maxEvents: 5n } });
    const info = await jsm.streams.info(name);
    expect(info.config).toMatchObject({ max_msgs: 5, subjects });
    expect(await features(jsm, name)).toEqual({ ...NONE, ...config });
  });

  test("collects schedules besides its own subjects once it allows them", async ({ client, jsm }) => {
    const name = await ensureStream(client, { allowScheduling: true });
    const subjects = async () => (await jsm.streams.info(name)).config.subjects;
    expect(await subjects()).toEqual([`${name}.>`, `ws-schedules.${name}.*`]);
    const other = uniqueName();
    await ensureStream(client, { name, source: { case: "subjects", value: { subjects: [other] } } });
    expect(await subjects()).toEqual([other, `ws-schedules.${name}.*`]);
  });

  test.for([
    ["allow_time_to_live", { allowTimeToLive: true }, { allowTimeToLive: false }],
    ["allow_scheduling", { allowScheduling: true }, { allowScheduling: false }],
    ["allow_time_to_live", { allowScheduling: true }, { allowTimeToLive: false }],
  ] as const)("cannot give up %s again", async ([field, has, asked], { client }) => {
    const name = await ensureStream(client, has);
    const error = await failure(ensureStream(client, { name, ...asked }));
    expect(error).toMatchObject({ status: "FAILED_PRECONDITION", reason: "UNCHANGEABLE_SETTING" });
    expect(error.message).toBe(`${field}: the stream has it, and NATS cannot switch it off`);
  });

  test("can give up allow_atomic", async ({ client, jsm }) => {
    const name = await ensureStream(client, { allowAtomic: true });
    await ensureStream(client, { name, allowAtomic: false });
    expect(await features(jsm, name)).toEqual(NONE);
  });

  test("cannot have scheduling without times to live", async ({ client }) => {
    const error = await failure(ensureStream(client, { allowScheduling: true, allowTimeToLive: false }));
    expect(error).toMatchObject({ status: "INVALID_ARGUMENT", fields: ["allow_time_to_live"] });
  });

  test.for([
    ["allow_time_to_live", "mirror", { allowTimeToLive: true }],
    ["allow_scheduling", "mirror", { allowScheduling: true }],
    ["allow_atomic", "mirror", { allowAtomic: true }],
    ["allow_scheduling", "aggregate", { allowScheduling: true }],
  ] as const)("cannot have %s as a %s", async ([field, kind, asked], { client }) => {
    const origin = await ensureStream(client);
    const source: Request["source"] =
      kind === "mirror"
        ? { case: kind, value: { name: origin } }
        : { case: kind, value: { sources: [{ name: origin }] } };
    const name = uniqueName();
    for (const prepare of [async () => undefined, async () => client.ensureStream({ name, source })]) {
      await prepare();
      const error = await failure(client.ensureStream({ name, source, ...asked }));
      expect(error).toMatchObject({ status: "FAILED_PRECONDITION", reason: "CONFIGURATION_REFUSED" });
      expect(error.message).toMatch(new RegExp(`^${field}: cannot be true for an? ${kind}$`));
    }
  });

  test.for(["interest", "workqueue"] as const)(
    "of others, with %s retention, cannot have allow_scheduling, and takes no deliver_at",
    async (retention, { client, jsm }) => {
      const name = uniqueName();
      await jsm.streams.add({ name, subjects: [`${name}.>`], retention });
      const asked = { name, allowScheduling: true };
      const error = await failure(ensureStream(client, asked));
      expect(error).toMatchObject({ status: "FAILED_PRECONDITION", reason: "CONFIGURATION_REFUSED" });
      expect(error.message).toMatch(new RegExp(`^allow_scheduling: .* ${retention} retention`));
      await ensureStream(client, { name });
      const subjects = [`${name}.>`, `ws-schedules.${name}.*`];
      await jsm.streams.update(name, { subjects, allow_msg_ttl: true, allow_msg_schedules: true });
      const event = { subject: `${name}.a`, data: textValue("x"), deliverAt: { seconds: 2_208_988_800n } };
      expect(await failure(client.publishEvent(event))).toMatchObject({
        status: "FAILED_PRECONDITION",
        reason: "NOT_ENABLED",
        metadata: { stream: name, outcome: "not_stored" },
      });
    },
  );

  test("that schedules cannot become an aggregate", async ({ client }) => {
    const origin = await ensureStream(client);
    const name = await ensureStream(client, { allowScheduling: true });
    const source = { case: "aggregate" as const, value: { sources: [{ name: origin }] } };
    expect(await failure(client.ensureStream({ name, source }))).toMatchObject({ status: "FAILED_PRECONDITION" });
  });

  test.for(["ws-schedules.a", "ws-schedules.>", "ws-schedules.*.b"])(
    "cannot collect %s",
    async (subject, { client }) => {
      const source = { case: "subjects" as const, value: { subjects: [subject] } };
      const error = await failure(client.ensureStream({ name: uniqueName(), source }));
      expect(error).toMatchObject({
        status: "INVALID_ARGUMENT",
        reason: "INVALID_SUBJECT",
        fields: ["subjects.subjects[0]"],
      });
    },
  );
});

describe("what waits for its time", () => {
  test("cannot be published to", async ({ client }) => {
    const name = await ensureStream(client, { allowScheduling: true });
    const error = await failure(client.publish(`ws-schedules.${name}.a`));
    expect(error).toMatchObject({ status: "INVALID_ARGUMENT", reason: "INVALID_SUBJECT", fields: ["subject"] });
  });

  test("is settled unseen, and takes no room in a window", async ({ client, jsm, natsClient }) => {
    const stream = await ensureStream(client, { allowScheduling: true });
    await client.publish(`${stream}.a`, "1");
    for (const token of ["x", "y", "z"]) await natsClient.request(`ws-schedules.${stream}.${token}`);
    for (const text of ["2", "3"]) await client.publish(`${stream}.a`, text);
    const from = { pointer: { case: "start" as const, value: true } };
    const { id } = await client.ensureConsumer({ stream, subjects: [">"], from });
    const call = await client.subscribe(stream, id, 2n);
    const [one, two] = await call.take(2);
    expect([textOf(one!.data), textOf(two!.data)]).toEqual(["1", "2"]);
    const held = async () => (await jsm.consumers.info(stream, id)).num_ack_pending;
    await expect.poll(held, { timeout: 10_000 }).toBe(2);
    await call.ackNow(one!.id);
    expect(textOf((await call.event()).data)).toBe("3");
    await expect.poll(held, { timeout: 10_000 }).toBe(2);
    await call.cancel();
  });

  test("counts as delivered for one who wants to know whether it has caught up", async ({ client, natsClient }) => {
    const stream = await ensureStream(client, { allowScheduling: true });
    await natsClient.request(`ws-schedules.${stream}.x`);
    const from = { pointer: { case: "start" as const, value: true } };
    const { id } = await client.ensureConsumer({ stream, subjects: [">"], from });
    const call = await client.subscribe(stream, id, 1n, { statusUpdates: true });
    const states = [(await call.next()).response, (await call.next()).response];
    expect(states).toMatchObject([{ value: { state: 1 } }, { value: { state: 4 } }]);
    await call.cancel();
  });
});
